"""Cron expressions by the wall clock, and what is installed: systemd units and crontab lines, shown before."""

import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from kit.errors import ParameterError, RunError
from kit.interface.timers import dues, following, install, on_calendar, plan, require

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)


@pytest.fixture
def zone(monkeypatch):
    """Set the time zone of this process."""

    def enter(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield enter
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with a scripted crontab and systemctl; returns its folder, where ``manager`` switches systemd on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "runs 100%"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    programs = tmp_path / "bin"
    programs.mkdir()
    table = tmp_path / "table"
    texts = {
        "crontab": f'[ "$1" = -l ] || {{ /bin/cat >"{table}"; exit; }}\n[ -f "{table}" ] || {{ echo "no crontab for me" >&2; exit 1; }}\n/bin/cat "{table}"\n',
        "systemctl": f'echo "$@" >>"{tmp_path / "asked"}"\n[ -f "{tmp_path / "manager"}" ]\n',
    }
    for name, text in texts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return tmp_path


def local(moments):
    return [f"{moment.astimezone():%m-%d %H:%M}" for moment in moments]


# --- expressions


@pytest.mark.parametrize("cron", ["0 6 * * 1", "*/15 9-17 * * 1-5", "0 0 1,15 * *", "30 2 * JAN-MAR SUN", " 0  6 * *  7 ", "0 6 1 * 1"])
def test_five_fields_that_every_cron_reads_alike(cron):
    assert require(cron) == " ".join(cron.split())


@pytest.mark.parametrize(
    "cron", ["", "0 6 * *", "0 6 * * * *", "@daily", "60 6 * * *", "0 24 * * *", "5/15 * * * *", "0 6 L * *", "0 6 * * 1#2", "0 6 31 2 *",
             "5-1 * * * *", "H 6 * * *", "0 6 */2 * 1", "0 6 1 * */2", "0 6 * * 1; reboot", "0 6 * * 1\n* * * * *", "月曜 6時 * * *", "*/0 * * * *"],
)  # fmt: skip
def test_everything_else_is_refused(cron):
    if "\n" in cron:
        assert len(cron.split()) != 5
    with pytest.raises(ParameterError, match="実行時刻") as told:
        require(cron)
    assert not re.search("[A-Za-z]{2}", told.value.cause.replace("cron", "")), "no English of a library"


def test_full_width_is_written_in_half_width():
    assert require("０　６　＊　＊　１－５") == "0 6 * * 1-5"
    assert require("＊／１５ ９，１８ * * ＭＯＮ") == "*/15 9,18 * * MON"
    with pytest.raises(ParameterError):
        require("٣ 6 * * 1")  # digits that int() knows, and cron does not


def test_what_was_due_and_what_comes_by_the_wall_clock(zone):
    zone("Asia/Tokyo")
    assert local(islice(dues("0 6 * * 1", NOW), 3)) == ["11-23 06:00", "11-16 06:00", "11-09 06:00"]
    assert following("0 6 * * 1", NOW) == datetime(2026, 11, 29, 21, 0, tzinfo=UTC)
    at = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)
    assert next(dues("0 6 * * 1", at)) == at, "due now is due"
    assert following("0 6 * * 1", at) == at + timedelta(days=7)


def test_an_hour_that_summer_time_skips_is_due_once_and_one_that_comes_twice_too(zone):
    zone("America/New_York")
    spring = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)  # 2026-03-08: 02:00 → 03:00
    assert list(islice(dues("30 2 * * *", spring), 3)) == [
        datetime(2026, 3, 9, 6, 30, tzinfo=UTC), datetime(2026, 3, 8, 7, 30, tzinfo=UTC), datetime(2026, 3, 7, 7, 30, tzinfo=UTC),
    ]  # fmt: skip
    autumn = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)  # 2026-11-01: 02:00 → 01:00
    assert list(islice(dues("30 1 * * *", autumn), 3)) == [
        datetime(2026, 11, 2, 6, 30, tzinfo=UTC), datetime(2026, 11, 1, 5, 30, tzinfo=UTC), datetime(2026, 10, 31, 5, 30, tzinfo=UTC),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cron", "calendar"),
    [("0 6 * * 1", "Mon *-*-* 6:0:00"), ("*/20 9-11 * * 1-5", "Mon,Tue,Wed,Thu,Fri *-*-* 9,10,11:0,20,40:00"),
     ("30 22 1 * *", "*-*-1 22:30:00"), ("* * * 2,3 7", "Sun *-2,3-* *:*:00"), ("0 6 1 * 1", None)],
)  # fmt: skip
def test_only_what_means_the_same_goes_to_systemd(cron, calendar):
    assert on_calendar(cron) == calendar


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("cron", ["0 6 * * 1", "*/20 9-11 * * 1-5", "30 22 1 * *", "* * * 2,3 7", "7 */5 */9 * *"])
def test_systemd_reads_the_same_times(cron, zone):
    zone("UTC")
    asked = ["systemd-analyze", "calendar", "--iterations=12", f"--base-time={NOW:%Y-%m-%d %H:%M:%S} UTC", on_calendar(cron)]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    times = [line.split(": ", 1)[1].strip() for line in told.splitlines() if "elapse:" in line or "Iteration #" in line or "Iter. #" in line]
    expected, moment = [], NOW
    for _ in range(12):
        moment = following(cron, moment)
        expected.append(f"{moment:%a %Y-%m-%d %H:%M:%S} UTC")
    assert times == expected


# --- what is installed


def test_the_crontab_gets_its_own_lines_and_keeps_those_of_others(machine):
    (machine / "table").write_text("0 1 * * * backup", encoding="utf-8")
    planned = plan({"週次": "0 6 * * 1"})
    assert not planned.units
    first, second = planned.crontab.splitlines()
    runs = f"'{machine}/runs 100\\%/schedule/cron.log'"
    assert first == (
        f"0 6 * * 1 cd {machine} && /usr/bin/env 'KIT_RUNS={machine}/runs 100\\%' {sys.executable} -m kit schedule run '週次' >>{runs} 2>&1"
    )
    assert second.startswith("17 * * * * ") and second.endswith(f"-m kit schedule check >>{runs} 2>&1")
    install(planned)
    install(planned)
    marks = [f"# kit schedule {planned.tag} {word}" for word in ("begin", "end")]
    text = (machine / "table").read_text(encoding="utf-8")
    assert text.splitlines() == ["0 1 * * * backup", marks[0], first, second, marks[1]]
    install(plan({"週次": "0 7 * * 1"}))
    assert (machine / "table").read_text(encoding="utf-8") == text.replace("0 6 * * 1", "0 7 * * 1")
    install(plan({}))
    assert (machine / "table").read_text(encoding="utf-8") == "0 1 * * * backup\n"


@pytest.mark.skipif(not shutil.which("crontab"), reason="cron is not installed: bash tools/apt.sh")
def test_the_real_crontab_reads_the_lines(machine, monkeypatch):
    crontab = plan({"週次": "*/20 9-11 * * 1-5", "月初": "30 22 1 * *"}).crontab
    monkeypatch.undo()
    if "-n" not in subprocess.run(["crontab", "-h"], capture_output=True, text=True, check=False).stderr:
        pytest.skip("this crontab cannot check without installing")
    for text, code in ((crontab, 0), (crontab.replace("30 22", "30 25"), 1)):
        done = subprocess.run(["crontab", "-n", "-"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr


def test_where_systemd_has_a_manager_it_gets_timers(machine):
    (machine / "manager").touch()
    planned = plan({"週次": "0 6 * * 1", "両方": "0 6 1 * 1"})
    assert planned.crontab.count("\n") == 1 and "両方" in planned.crontab, "systemd cannot say day or weekday"
    services = [text for path, text in planned.units.items() if path.suffix == ".service"]
    assert services[0] == (
        f"[Unit]\nDescription=kit schedule 週次\n\n[Service]\nType=oneshot\nWorkingDirectory={machine}\n"
        f'ExecStart="/usr/bin/env" "KIT_RUNS={machine}/runs 100%%" "{sys.executable}" "-m" "kit" "schedule" "run" "週次"\n'
    )
    found = [text for path, text in planned.units.items() if path.suffix == ".timer"]
    assert found[0] == (
        "[Unit]\nDescription=kit schedule 週次\n\n[Timer]\nOnCalendar=Mon *-*-* 6:0:00\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
    )
    assert "OnCalendar=*-*-* *:17:00" in found[1]
    install(planned)
    units = machine / "config" / "systemd" / "user"
    assert {path.name for path in units.iterdir()} == {path.name for path in planned.units}
    asked = (machine / "asked").read_text(encoding="utf-8")
    assert asked.count("daemon-reload") == asked.count("--user enable") == 1
    install(planned)
    assert (machine / "asked").read_text(encoding="utf-8") == asked, "nothing changed"
    install(plan({}))
    assert list(units.iterdir()) == []
    assert "disable --now" in (machine / "asked").read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(machine, monkeypatch):
    (machine / "manager").touch()
    planned = plan({"週次": "0 6 * * 1"})
    install(planned)
    monkeypatch.undo()
    names = [str(path) for path in planned.units if path.suffix == ".service"] + [str(p) for p in planned.units if p.suffix == ".timer"]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if "kit-" in line and "in the future" not in line], done.stderr


def test_a_machine_with_neither_is_told_what_to_do(machine):
    (machine / "bin" / "crontab").unlink()
    with pytest.raises(RunError, match="cron") as caught:
        plan({"週次": "0 6 * * 1"})
    assert "apt-get install cron" in caught.value.remedy
    assert plan({}).crontab == ""


def test_a_crontab_that_refuses_is_told(machine):
    (machine / "bin" / "crontab").write_text("#!/bin/sh\necho 'you are not allowed' >&2\nexit 1\n", encoding="utf-8")
    with pytest.raises(RunError, match="you are not allowed"):
        install(plan({"週次": "0 6 * * 1"}))
