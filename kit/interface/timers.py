"""When a schedule runs: cron expressions, and the systemd user timers or crontab lines that start it.

Nothing needs root, and nothing is installed that was not shown. A systemd timer is used where there is a user manager
and the expression converts exactly; else the crontab. Both only start ``kit schedule``: what became of a run is never
asked of them.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from shlex import join, quote

from kit import settings
from kit.errors import ParameterError, RunError
from kit.trust.durable import write_atomically

_ONE = r"(?:\d+|[A-Za-z]{3})"
_ITEM = rf"(?:\*(?:/\d+)?|{_ONE}(?:-{_ONE}(?:/\d+)?)?)"
_FIELD = re.compile(rf"{_ITEM}(?:,{_ITEM})*", re.ASCII)
"""What croniter and every cron read alike: no ``5/15``, ``L``, ``#``, ``H``, seconds or ``@daily``."""
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_CHECK = "17 * * * *"
"""Once an hour it is looked whether a run was missed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be installed: it replaces whatever these runs had installed before.

    Attributes:
        tag: The place of the runs, as it stands in names and marks.
        units: Path of each systemd unit → its text.
        crontab: Lines between the marks in the crontab; "" for none.
    """

    tag: str
    units: Mapping[Path, str]
    crontab: str

    def __str__(self) -> str:
        texts = [f"[{path}]\n{text}" for path, text in self.units.items()]
        return "\n".join([*texts, *([f"[crontab]\n{self.crontab}"] if self.crontab else [])]) or "（なし）\n"


def require(cron: str) -> str:
    """Return the expression, written in half width, if every cron reads it the same way.

    Raises:
        ParameterError: It has not five fields, a value is out of range, it never comes, or it is read in two ways.
    """
    from croniter import croniter

    fields = unicodedata.normalize("NFKC", cron).split()
    why = ""
    if len(fields) != 5 or not all(map(_FIELD.fullmatch, fields)):
        why = "分 時 日 月 曜日 の5つを空白で区切り、それぞれ数字と * , - / で書きます。"
    elif "*" not in (fields[2], fields[4]) and "*" in (fields[2][0], fields[4][0]):
        why = "日と曜日の両方を絞り、片方が * で始まる書き方は、cron の種類によって意味が違います。"
    else:
        try:
            croniter(" ".join(fields), datetime(2024, 1, 1)).get_next(datetime)  # noqa: DTZ001 - wall time
        except ValueError:
            why = "来ることのない日時か、範囲の外の値です（分 0〜59、時 0〜23、日 1〜31、月 1〜12、曜日 0〜7、0 と 7 が日曜）。"
    if why:
        example = '例: --cron "0 6 * * 1"（毎週月曜の朝6時）、--cron "30 22 1 * *"（毎月1日の22時30分）'
        raise ParameterError(f"実行時刻「{cron}」は使えません。", why, example)
    return " ".join(fields)


def dues(cron: str, now: datetime) -> Iterator[datetime]:
    """Yield when it was due up to now, the latest first, in UTC.

    Expressions speak of the wall clock. Where summer time skips a due hour it is due right after, and in an hour that
    comes twice it is due in the first.
    """
    from croniter import croniter

    walk, last = croniter(cron, _wall(now) + timedelta(hours=2), ret_type=datetime), None
    while True:
        due = _moment(walk.get_prev())
        if due <= now and due != last:
            yield due
            last = due


def following(cron: str, now: datetime) -> datetime:
    """Return when it is due next, in UTC (see ``dues``)."""
    from croniter import croniter

    walk = croniter(cron, _wall(now) - timedelta(hours=2), ret_type=datetime)
    coming = (_moment(walk.get_next()) for _ in count())
    return next(due for due in coming if due > now)


def _wall(moment: datetime) -> datetime:
    """Return the time that the clock on the wall shows, without a zone."""
    return moment.astimezone().replace(tzinfo=None)


def _moment(wall: datetime) -> datetime:
    """Return when the clock on the wall shows a time; ``astimezone`` would put a skipped one an hour too early."""
    return datetime.fromtimestamp(wall.timestamp(), UTC)


def on_calendar(cron: str) -> str | None:
    """Return systemd's ``OnCalendar`` that means exactly the same; None where there is none.

    Day *and* weekday: cron runs when either fits, systemd when both do.
    """
    from croniter import croniter

    minutes, hours, days, months, weekdays = croniter.expand(cron)[0]
    if days != ["*"] and weekdays != ["*"]:
        return None
    week = "" if weekdays == ["*"] else ",".join(_DAYS[day] for day in weekdays) + " "
    month, day, hour, minute = (",".join(map(str, part)) for part in (months, days, hours, minutes))
    return f"{week}*-{month}-{day} {hour}:{minute}:00"


def plan(schedules: Mapping[str, str]) -> Plan:
    """Plan what starts the schedules (name → expression), and the hourly check where there are any.

    Raises:
        RunError: This machine has nothing to start one of them: no systemd user manager, no crontab.
    """
    config = settings.load()
    if any("\n" in str(text) for text in (config.root, config.runs)):
        raise RunError("フォルダ名に改行があるため、定期実行を設定できません。", "crontab も systemd も改行を扱えません。", "フォルダの名前を変えてください。")
    systemd = _has_user_manager()
    tag = hashlib.sha256(os.fsencode(config.runs)).hexdigest()[:8]
    own = ["/usr/bin/env", f"KIT_RUNS={config.runs}"] if config.sources["runs"] not in ("kit.toml", "既定値") else []
    units: dict[Path, str] = {}
    lines = []
    for name, cron in [*schedules.items(), *([("", _CHECK)] if schedules else [])]:
        words = [*own, sys.executable, "-m", "kit", "schedule", *(["run", name] if name else ["check"])]
        calendar = on_calendar(cron) if systemd else None
        if calendar:
            unit = _units() / f"kit-{tag}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.service"
            title = f"kit schedule {name or 'check'}"
            units[unit] = (
                f"[Unit]\nDescription={title}\n\n[Service]\nType=oneshot\nWorkingDirectory={_percent(str(config.root))}\n"
                f"ExecStart={' '.join(map(_unit_word, words))}\n"
            )
            units[unit.with_suffix(".timer")] = (
                f"[Unit]\nDescription={title}\n\n[Timer]\nOnCalendar={calendar}\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
            )
        else:
            log = config.runs / "schedule" / "cron.log"
            lines.append(f"{cron} " + f"cd {quote(str(config.root))} && {join(words)} >>{quote(str(log))} 2>&1".replace("%", r"\%"))
    if lines and not shutil.which("crontab"):
        raise RunError(
            "このマシンには、定期実行に使えるもの（systemd のユーザー機能か cron）がありません。", "どちらも導入されていないか、止まっています。",
            "管理者に cron の導入を頼むか（sudo apt-get install cron）、`kit schedule run 名前` をお使いのジョブ管理から呼んでください。",
        )
    return Plan(tag, units, "".join(f"{line}\n" for line in lines))


def install(planned: Plan) -> None:
    """Put what was planned in place of what was installed for these runs; what is the same is left alone.

    Raises:
        RunError: systemctl or crontab refused.
    """
    old = set(_units().glob(f"kit-{planned.tag}-*")) if _units().is_dir() else set()
    stale = sorted(path for path in old if path not in planned.units)
    changed = {path: text for path, text in planned.units.items() if path not in old or path.read_text(encoding="utf-8") != text}
    if timers := [path.name for path in stale if path.suffix == ".timer"]:
        _call(["systemctl", "--user", "disable", "--now", *timers])
    for path in stale:
        path.unlink()
    for path, text in changed.items():
        write_atomically(path, text)
    if stale or changed:
        _call(["systemctl", "--user", "daemon-reload"])
    if timers := [path.name for path in changed if path.suffix == ".timer"]:
        _call(["systemctl", "--user", "enable", *timers])
        _call(["systemctl", "--user", "restart", *timers])
    if shutil.which("crontab"):
        _install_crontab(planned)


def _install_crontab(planned: Plan) -> None:
    begin, end = (f"# kit schedule {planned.tag} {word}\n" for word in ("begin", "end"))
    before = _call(["crontab", "-l"], empty="no crontab")
    others = re.sub(f"{begin}.*?{end}", "", before, flags=re.DOTALL)
    others += "\n" if others and not others.endswith("\n") else ""
    after = others + (begin + planned.crontab + end if planned.crontab else "")
    if after != before:
        _call(["crontab", "-"], given=after)


def _call(words: Sequence[str], *, given: str = "", empty: str = "") -> str:
    """Run a program and return what it printed; "" where it complains of nothing but what ``empty`` says."""
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False, timeout=60)
        if not done.returncode or (empty and empty in done.stderr):
            return "" if done.returncode else done.stdout
        told = " ".join(done.stderr.split())[:200]
    except (OSError, subprocess.TimeoutExpired) as error:
        told = type(error).__name__
    raise RunError(
        f"定期実行の設定で {words[0]} が失敗しました（{told}）。", "この利用者に使う権限がないか、サービスが止まっています。",
        f"`{join(words)}` を手で実行して確かめてください。登録を取り消すには: kit schedule remove 名前",
    )


def _has_user_manager() -> bool:
    if not shutil.which("systemctl"):
        return False
    asked = ["systemctl", "--user", "show-environment"]
    return not subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode


def _units() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _unit_word(word: str) -> str:
    """Quote a word of ``ExecStart=``, where ``%`` and ``$`` would be replaced."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{_percent(escaped)}"'
