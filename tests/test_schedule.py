"""Scheduled evaluations: what is checked before, what a run came to, and every alarm; the clock is given."""

import json
import stat
import threading
import time
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest

from kit.errors import DataError, ParameterError, RunError
from kit.evaluation.decide import decide
from kit.interface import cli, notebooks, schedule, timers
from kit.interface.schedule import check, define, find, run
from kit.trust import ledger
from kit.trust.durable import JsonLines, write_atomically
from tests.evaluations import ABSTAINED, Oracle, make_cases, sealed_run, wrong_arm
from tests.projects import small_project

CASES = make_cases(40)
MONDAY = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)
"""2026-11-23 06:00 in Tokyo."""
WEEK = timedelta(days=7)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A project ``p``, the runs, and a clock in Tokyo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    small_project(tmp_path / "p")
    yield tmp_path
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def notebook(monkeypatch):
    """Stands for the strict runner: asks and decides in the run's folder, or does what the test says."""

    class Notebook:
        def __init__(self):
            self.lost, self.wrong, self.runs = 0, None, []

        def __call__(self, path, output, given):
            self.runs.append(given["run"])
            write_atomically(output, "{}")
            if isinstance(self.wrong, BaseException):
                raise self.wrong
            if self.wrong != "silent":
                arms = {"b": wrong_arm(CASES), "c": Oracle(CASES, {case.question: ABSTAINED for case in CASES[: self.lost]})}
                decide(sealed_run(Path(given["run"]).parent, CASES, arms, run=Path(given["run"]).name))

    stand_in = Notebook()
    monkeypatch.setattr(notebooks, "run", stand_in)
    return stand_in


@pytest.fixture
def weekly(place):
    """A schedule of Mondays at six whose hook writes down each alarm."""
    hook = place / "hook.sh"
    hook.write_text(f'#!/bin/sh\necho "$KIT_ALARM|$1|$KIT_LLM_API_KEY" >>"{place / "alarms"}"\n', encoding="utf-8")
    hook.chmod(0o755)
    made = define("05", "0 6 * * 1", {"project": "p"}, name="週次", hook=f"{hook} 'a; b'", now=MONDAY - WEEK)
    return enter(made)


def enter(made):
    made.folder.mkdir(parents=True, exist_ok=True)
    names = ("name", "notebook", "cron", "parameters", "hook", "tolerance", "added")
    write_atomically(made.folder / "schedule.json", json.dumps({name: getattr(made, name) for name in names}))
    return made


def alarms(place):
    path = place / "alarms"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def rows(place, kind):
    return [entry.content for entry in ledger.find(place / "runs" / ledger.NAME, kind)]


# --- what is checked before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"given": {"projct": "p"}}, "「projct」はありません"), ({"given": {"workers": "2"}}, "workers"), ({"given": {"run": "runs/x"}}, "パラメータ run"),
        ({"cron": "0 6 * *"}, "実行時刻"), ({"hook": "no-such-command"}, "通知コマンド"), ({"hook": "sh 'open"}, "通知コマンド"),
        ({"name": "../x"}, "--name"), ({"name": "a b"}, "--name"), ({"name": "$(reboot)"}, "--name"), ({"tolerance": 0}, "--tolerance"),
        ({"notebook": "03"}, "定期実行できません"), ({"notebook": "09"}, "定期実行できません"),
    ],
)  # fmt: skip
def test_a_wrong_schedule_is_refused(place, change, told):
    with pytest.raises(ParameterError, match=told):
        define(**{"notebook": "05", "cron": "0 6 * * 1", "given": {"project": "p"}} | change)
    assert not (place / "runs").exists()


def test_a_project_that_is_not_there_is_refused():
    with pytest.raises(DataError, match=r"文書がありません|criteria"):
        define("05", "0 6 * * 1", {"project": "q"})


def test_the_project_is_known_by_its_whole_path_and_the_name_is_the_notebooks(place):
    made = define("05", "0 6 * * 1", {"project": "p", "workers": 2})
    assert made.parameters == {"project": str(place / "p"), "workers": 2}
    assert (made.name, made.hook, made.tolerance) == ("05_evaluate", "", 60)


def test_the_hook_is_found_where_cron_would_not_look(place, monkeypatch):
    (place / "通知 bin").mkdir()
    (place / "通知 bin" / "tell").write_text("#!/bin/sh\n", encoding="utf-8")
    (place / "通知 bin" / "tell").chmod(0o755)
    monkeypatch.setenv("PATH", "通知 bin")
    assert define("05", "0 6 * * 1", {"project": "p"}, hook="tell 'a b'").hook == f"'{place}/通知 bin/tell' 'a b'"


def test_adding_again_keeps_what_was_due_before(weekly):
    again = define("05", "0 6 * * 1", {"project": "p"}, name="週次", now=MONDAY)
    assert again.added == weekly.added
    assert define("05", "0 7 * * 1", {"project": "p"}, name="週次", now=MONDAY).added == MONDAY.isoformat()


# --- a run


def test_a_run_on_time_is_entered_and_raises_no_alarm(place, weekly, notebook):
    row = run("週次", MONDAY + timedelta(seconds=5))
    assert notebook.runs == [str(place / "runs" / "20261123-060000-p")], "named by when it was due"
    assert (row["due"], row["outcome"], row["verdict"], row["failure"], row["late"], row["alarm"]) == (MONDAY.isoformat(), "GO", "", "", False, "")
    assert rows(place, "scheduled") == [row]
    assert (weekly.folder / row["output"]).is_file()
    assert alarms(place) == []
    assert check(MONDAY + timedelta(days=6)) == []


def test_a_run_beside_the_one_that_is_done_is_one_more(place, weekly, notebook):
    run("週次", MONDAY)
    more = run("週次", MONDAY + timedelta(days=2))
    assert (more["due"], more["late"], more["alarm"], more["verdict"]) == ("", False, "", "同等")
    assert len({*notebook.runs}) == 2


def test_success_is_what_the_decision_says_and_not_that_nothing_was_raised(place, weekly, notebook):
    notebook.wrong = "silent"
    row = run("週次", MONDAY)
    assert row["outcome"] == "" and "decision.json" in row["failure"]
    assert alarms(place) == [f"週次: 失敗: {row['failure']}|a; b|"]


def test_a_failed_run_is_an_alarm_and_the_next_try_goes_on_in_its_folder(place, weekly, notebook):
    notebook.wrong = RunError("カーネルが止まりました。", "原因", "次")
    assert run("週次", MONDAY)["alarm"] == "失敗: カーネルが止まりました。"
    notebook.wrong = None
    row = run("週次", MONDAY + timedelta(hours=5))
    assert (row["due"], row["alarm"], row["late"]) == (MONDAY.isoformat(), "", False)
    assert len({*notebook.runs}) == 1
    assert len({row["output"] for row in rows(place, "scheduled")}) == 2, "each try leaves its own notebook"
    assert len(alarms(place)) == 1


def test_an_interrupted_run_is_entered_before_it_ends(place, weekly, notebook):
    notebook.wrong = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run("週次", MONDAY)
    assert [row["failure"] for row in rows(place, "scheduled")] == ["中断されました。"]
    assert len(alarms(place)) == 1


def test_fewer_right_answers_than_the_first_time_are_an_alarm(place, weekly, notebook):
    run("週次", MONDAY)
    notebook.lost = 9
    row = run("週次", MONDAY + WEEK)
    assert (row["verdict"], row["failure"]) == ("劣化", "")
    assert alarms(place) == [f"週次: {row['alarm']}|a; b|"] and "劣化" in row["alarm"]


def test_a_late_start_is_an_alarm_but_still_runs(place, weekly, notebook):
    row = run("週次", MONDAY + timedelta(minutes=61))
    assert (row["late"], row["outcome"]) == (True, "GO")
    assert "2026-11-23 06:00 の予定が 2026-11-23 07:01" in alarms(place)[0]
    assert run("週次", MONDAY + WEEK + timedelta(minutes=59))["late"] is False


def test_a_run_that_still_runs_is_left_alone_and_told(place, weekly, notebook):
    with JsonLines(weekly.folder / ".running"):
        assert check(MONDAY + timedelta(hours=3)) == [], "it is at work, not missed"
        row = run("週次", MONDAY)
    assert "書き込み中" in row["failure"] and notebook.runs == []
    assert len(alarms(place)) == 1


def test_a_check_at_the_same_moment_does_not_stop_a_run(place, weekly, notebook):
    held = JsonLines(weekly.folder / ".running", wait=False)
    threading.Timer(0.3, held.__exit__).start()
    assert run("週次", MONDAY)["alarm"] == ""


def test_the_hook_may_fail_and_never_gets_the_key(place, weekly, notebook, monkeypatch, capfd):
    monkeypatch.setenv("KIT_LLM_API_KEY", "secret")
    notebook.wrong = "silent"
    run("週次", MONDAY)
    assert alarms(place)[0].endswith("|a; b|")
    (place / "hook.sh").unlink()
    row = run("週次", MONDAY)
    assert row["failure"] and "通知コマンドが失敗しました" in capfd.readouterr().err


# --- missed runs


def test_a_missed_run_is_entered_once(place, weekly):
    assert check(MONDAY + timedelta(minutes=60)) == []
    (row,) = check(MONDAY + timedelta(minutes=61))
    assert (row["due"], row["since"], row["count"]) == (MONDAY.isoformat(), MONDAY.isoformat(), 1)
    assert check(MONDAY + timedelta(minutes=62)) == []
    assert rows(place, "missed") == [row]
    assert alarms(place) == [f"週次: {row['alarm']}|a; b|"] and "未実行: 2026-11-23 06:00" in row["alarm"]


def test_weeks_that_the_machine_was_off_are_one_row_and_the_next_run_tells_of_them(place, weekly, notebook):
    row = run("週次", MONDAY + 3 * WEEK)
    (missed,) = rows(place, "missed")
    assert (missed["since"], missed["due"], missed["count"]) == (MONDAY.isoformat(), (MONDAY + 2 * WEEK).isoformat(), 3)
    assert (row["due"], row["alarm"]) == ((MONDAY + 3 * WEEK).isoformat(), "")
    assert check(MONDAY + 3 * WEEK + timedelta(days=1)) == []


def test_a_missed_run_can_be_made_up_for(place, weekly, notebook):
    check(MONDAY + timedelta(hours=2))
    row = run("週次", MONDAY + timedelta(hours=3))
    assert (row["due"], row["late"], row["outcome"]) == (MONDAY.isoformat(), False, "GO")
    assert check(MONDAY + timedelta(hours=4)) == []


def test_nothing_was_due_before_it_was_added(place, notebook):
    enter(define("05", "0 6 * * 1", {"project": "p"}, name="新しい", now=MONDAY + timedelta(hours=1)))
    assert check(MONDAY + timedelta(days=6)) == []
    assert run("新しい", MONDAY + timedelta(days=1))["due"] == ""


def test_a_clock_that_jumps_ahead_and_back_hides_no_missed_run(place, weekly, notebook):
    (ahead,) = check(MONDAY + 52 * WEEK + timedelta(hours=2))
    assert ahead["count"] == 53
    (row,) = check(MONDAY + timedelta(hours=2))
    assert (row["due"], row["count"]) == (MONDAY.isoformat(), 1), "the rows of that future cover nothing"
    back = run("週次", MONDAY - timedelta(days=1))
    assert (back["due"], back["alarm"]) == ("", "")


# --- the verb


@pytest.fixture
def installed(monkeypatch):
    """What would have been installed, one plan after the other; nothing is."""
    found = []
    monkeypatch.setattr(timers, "_has_user_manager", lambda: False)
    monkeypatch.setattr(timers.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(timers, "install", found.append)
    return found


@pytest.fixture
def parameters(place):
    path = place / "params.yaml"
    path.write_text("project: p\nworkers: 2\n", encoding="utf-8")
    return str(path)


def test_adding_shows_first_and_installs_only_on_yes(place, installed, parameters, capsys, monkeypatch):
    words = ["schedule", "add", "05_evaluate", "--cron", "0 6 * * 1", "-f", parameters, "--name", "週次"]
    for more, answer in ([["--dry-run"], "はい\n"], [["--dry-run", "--yes"], ""], [[], ""], [[], "いいえ\n"]):
        monkeypatch.setattr("sys.stdin", StringIO(answer))
        assert cli.main([*words, *more]) == 0
        told = capsys.readouterr()
        assert "kit schedule run '週次'" in told.err and "登録していません" in told.out
    assert (installed, list(place.glob("runs/schedule/*"))) == ([], [])
    assert cli.main([*words, "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["installed"] is True
    assert "0 6 * * 1 cd" in installed[0].crontab
    assert find("週次").parameters == {"project": str(place / "p"), "workers": 2}
    assert stat.S_IMODE((place / "runs" / "schedule" / "週次").stat().st_mode) == 0o700
    assert cli.main(["schedule", "add", "05", "--cron", "0 7 * * 1", "-f", parameters, "--name", "週次", "--yes"]) == 0
    assert installed[1].crontab.count("schedule run") == 1, "the same name replaces"


def test_a_typo_in_the_parameters_is_refused_before_anything_is_shown(place, installed, capsys):
    (place / "params.yaml").write_text("projct: p\n", encoding="utf-8")
    assert cli.main(["schedule", "add", "05", "--cron", "0 6 * * 1", "-f", "params.yaml", "--yes"]) == 1
    told = capsys.readouterr().err
    assert "「project」の書き間違いではありませんか" in told and "crontab" not in told
    assert installed == []


def test_the_list_speaks_of_the_ledger(place, weekly, notebook, monkeypatch, capsys):
    monkeypatch.setattr(schedule, "_now", lambda: MONDAY - timedelta(days=1))
    assert cli.main(["schedule", "list"]) == 0
    assert "週次  05_evaluate  0 6 * * 1  次回 2026-11-23 06:00  前回: まだ実行していません" in capsys.readouterr().out
    monkeypatch.setattr(schedule, "_now", lambda: MONDAY)
    assert cli.main(["schedule", "run", "週次"]) == 0
    assert cli.main(["schedule", "list"]) == 0
    assert "前回: GO" in capsys.readouterr().out
    monkeypatch.setattr(schedule, "_now", lambda: MONDAY + WEEK + timedelta(hours=2))
    assert cli.main(["schedule", "list"]) == 1
    assert "前回: 未実行: 2026-11-30 06:00" in capsys.readouterr().out
    assert cli.main(["schedule", "check"]) == 0, "known by now"


def test_an_alarm_is_an_exit_code(weekly, notebook, monkeypatch, capsys):
    monkeypatch.setattr(schedule, "_now", lambda: MONDAY + timedelta(hours=2))
    assert cli.main(["schedule", "check"]) == 1
    notebook.wrong = "silent"
    assert cli.main(["schedule", "run", "週次", "--json"]) == 1
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["ok"] is False


def test_removing_takes_the_timers_away_and_keeps_the_record(place, weekly, installed, capsys):
    assert cli.main(["schedule", "remove", "週次", "--dry-run"]) == 0
    assert installed == [] and find("週次")
    assert cli.main(["schedule", "remove", "週次", "--yes"]) == 0
    assert installed[0].crontab == ""
    with pytest.raises(DataError, match="まだ1つもありません"):
        find("週次")
    assert weekly.folder.is_dir()
    assert cli.main(["schedule", "remove", "週次", "--yes"]) == 1
    assert cli.main(["schedule", "run"]) == 1
