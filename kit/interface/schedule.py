"""Scheduled evaluations: a notebook by the clock, through the strict runner, and an alarm when something is wrong.

What a run came to is read from its sealed ``decision.json`` and kept in the ledger, never asked of cron, systemd or
papermill. An alarm (missed, late, failed, or 劣化 against the first run) is an exit code, a row of the ledger, and the
one hook command of the schedule. Each run's folder is named by when it was due, so that another try goes on where the
first was stopped.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kit import settings
from kit.errors import DataError, KitError, ParameterError, RunError
from kit.evaluation.decide import read_decision
from kit.evaluation.monitoring import trend
from kit.interface import notebooks, timers
from kit.interface.cli import Result, agreed
from kit.interface.project import find_project
from kit.trust import ledger
from kit.trust.durable import JsonLines, write_atomically

_HOOK_S = 60.0
_MOST_MISSED = 1000


@dataclass(frozen=True, slots=True)
class Schedule:
    """One notebook by the clock, as it was added; later changes of the parameters' file do not reach it."""

    name: str
    notebook: str
    cron: str
    parameters: dict[str, Any]
    hook: str
    tolerance: int
    """Minutes after which a start is late, and a run that did not start is missed."""
    added: str
    """UTC, ISO 8601: nothing was due before."""

    @property
    def folder(self) -> Path:
        """Where the definition and the executed notebooks lie."""
        return _runs() / "schedule" / self.name


def _runs() -> Path:
    return settings.load().runs


def _now() -> datetime:
    return datetime.now(UTC)


def schedules() -> list[Schedule]:
    """Return what is scheduled, by name."""
    files = sorted(_runs().glob("schedule/*/schedule.json"))
    return [Schedule(**json.loads(file.read_text(encoding="utf-8"))) for file in files]


def find(name: str) -> Schedule:
    """Return a schedule.

    Raises:
        DataError: There is none of that name, naming those that exist.
    """
    known = {schedule.name: schedule for schedule in schedules()}
    if name not in known:
        names = f"登録済みの名前: {'、'.join(known) or 'まだ1つもありません'}"
        raise DataError(f"「{name}」という定期実行は登録されていません。", "名前の書き間違いか、解除されています。", names)
    return known[name]


def define(
    notebook: str, cron: str, given: Mapping[str, Any], *, name: str = "", hook: str = "", tolerance: int = 60, now: datetime | None = None
) -> Schedule:
    """Check everything about a schedule; nothing is written yet.

    Args:
        notebook: Path, name or number of a notebook that takes ``project`` and ``run`` and decides.
        cron: Five fields, by the wall clock.
        given: Parameter values, checked as ``kit run`` does; not ``run``, which is a new one each time.
        name: "" for the notebook's name. A schedule of that name is replaced.
        hook: Command line that an alarm calls, without a shell; "" for none.
        tolerance: Minutes.
        now: "" for now.

    Raises:
        ParameterError: The expression, a parameter, the name, or the hook is wrong.
        DataError: The notebook or the project cannot be found.
    """
    path = notebooks.find(notebook).resolve()
    declared = notebooks.parameters(path)
    if not {"project", "run"} <= declared.keys() or "kit.decide(" not in path.read_text(encoding="utf-8"):
        raise ParameterError(
            f"{path.name} は定期実行できません。", "判定まで行うノートブックではないため、うまくいったかどうかを確かめられません。",
            "05_evaluate か、それを写して変えたノートブックを指定してください。",
        )
    values = notebooks.check(path, given)
    name = name or path.stem
    _require_name(name, tolerance)
    if "run" in values:
        raise ParameterError("パラメータ run は指定できません。", "定期実行では、毎回新しい実行フォルダを作ります。", "run の行を消してください。")
    values |= {"project": str(find_project(values.get("project", declared["project"].default)).folder)}
    before = next((s for s in schedules() if s.name == name and s.cron == timers.require(cron)), None)
    added = before.added if before else (now or _now()).isoformat()
    return Schedule(name, str(path), timers.require(cron), values, _callable(hook), tolerance, added)


def _require_name(name: str, tolerance: int) -> None:
    if not re.fullmatch(r"\w[\w-]{0,39}", name) or tolerance < 1:
        raise ParameterError("--name か --tolerance の値が使えません。", "名前は40字までの文字・数字・_・-、許す遅れは1分以上です。", "例: --name 週次 --tolerance 60")


def _callable(hook: str) -> str:
    """Return the hook's command line with its program's whole path: cron and systemd look in fewer places."""
    with suppress(ValueError):
        program, *rest = shlex.split(hook) or [""]
        if found := shutil.which(program):
            return shlex.join([os.path.abspath(found), *rest])  # noqa: PTH100 - a link is called by its own name
        if not hook:
            return ""
    raise ParameterError(f"通知コマンド「{hook}」を実行できません。", "コマンドが見つからないか、引用符が閉じていません。", "絶対パスで書いてください。例: --hook /usr/local/bin/notify")


def run(name: str, now: datetime | None = None) -> dict[str, Any]:
    """Run a schedule now, enter what it came to into the ledger, and give an alarm where one is due.

    It counts as the run that was due last, unless that one is done; then it is one more.

    Args:
        name: The schedule's name.
        now: Aware; for tests.

    Returns:
        The ledger's row: name, due ("" for one more), started, run, output, outcome, verdict, late, failure, alarm
        ("" where all is well).

    Raises:
        DataError: There is no such schedule.
    """
    schedule, started = find(name), now or _now()
    due = next(timers.dues(schedule.cron, started))
    rows = _rows(schedule)
    tried = [row for row in rows if row.get("due") == due.isoformat()]
    owed = due > datetime.fromisoformat(schedule.added) and not any(row["kind"] == "scheduled" and not row["failure"] for row in tried)
    _enter_missed(schedule, started, due - timedelta(seconds=1) if owed else started)
    row: dict[str, Any] = {
        "name": name, "due": due.isoformat() if owed else "", "started": started.isoformat(), "outcome": "", "verdict": "",
        "late": owed and not tried and started - due > timedelta(minutes=schedule.tolerance), "failure": "中断されました。",
    }  # fmt: skip
    try:
        with _lock(schedule):
            row |= _executed(schedule, due if owed else started, started)
    except KitError as error:
        row["failure"] = error.what
    finally:
        told = [f"失敗: {row['failure']}"] if row["failure"] else []
        told += ["劣化: 初回より正しい回答が有意に減りました。"] if row["verdict"] == "劣化" else []
        told += [f"遅延: {_local(due)} の予定が {_local(started)} に始まりました。"] if row["late"] else []
        row["alarm"] = " ".join(told)
        ledger.append(_runs() / ledger.NAME, "scheduled", row)
        _alarm(schedule, row["alarm"])
    return row


def _executed(schedule: Schedule, stamp: datetime, started: datetime) -> dict[str, Any]:
    """Run the notebook and return what its sealed decision says; the notebook's own failure stands beside it."""
    folder = _runs() / f"{stamp.astimezone():%Y%m%d-%H%M%S}-{Path(schedule.parameters['project']).name}"
    path = Path(schedule.notebook)
    output = schedule.folder / f"{started.astimezone():%Y%m%d-%H%M%S-%f}-{path.stem}.ipynb"
    about: dict[str, Any] = {"run": folder.name, "output": output.name, "failure": ""}
    try:
        notebooks.run(str(path), output, schedule.parameters | {"run": str(folder)})
    except KitError as error:
        about["failure"] = error.what
    try:
        decision = read_decision(folder)
        weeks = trend(_runs(), decision.seal.sha256).weeks
        week = next((week for week in weeks[1:] if week.run == folder.name), None)
        return about | {"outcome": decision.outcome, "verdict": week.verdict if week else ""}
    except KitError as error:
        return about | {"failure": about["failure"] or error.what}


def check(now: datetime | None = None) -> list[dict[str, Any]]:
    """Enter every run that was due and did not come into the ledger, with an alarm; return those not known before.

    Args:
        now: Aware; for tests.
    """
    moment = now or _now()
    found = (_enter_missed(schedule, moment, moment) for schedule in schedules() if not _running(schedule))
    return [row for row in found if row]


def _enter_missed(schedule: Schedule, now: datetime, until: datetime) -> dict[str, Any] | None:
    """Enter one row for all runs missed since the last one the ledger knows.

    Rows of a future that a wrong clock made up cover nothing: each due time is looked up by itself.
    """
    known = {row.get("due") for row in _rows(schedule)}
    missed: list[datetime] = []
    for due in timers.dues(schedule.cron, until):
        if due <= datetime.fromisoformat(schedule.added) or due.isoformat() in known or len(missed) == _MOST_MISSED:
            break
        if now - due > timedelta(minutes=schedule.tolerance):
            missed.append(due)
    if not missed:
        return None
    alarm = f"未実行: {_local(missed[-1])} から {_local(missed[0])} までの {len(missed)} 回"
    row = {"name": schedule.name, "due": missed[0].isoformat(), "since": missed[-1].isoformat(), "count": len(missed), "alarm": alarm}
    ledger.append(_runs() / ledger.NAME, "missed", row)
    _alarm(schedule, alarm)
    return row


def _rows(schedule: Schedule) -> list[dict[str, Any]]:
    """Return what the ledger says of a schedule, oldest first."""
    entries = ledger.entries(_runs() / ledger.NAME)
    return [e.content | {"kind": e.kind} for e in entries if e.kind in ("scheduled", "missed") and e.content["name"] == schedule.name]


def _lock(schedule: Schedule) -> JsonLines:
    """Hold a schedule for one run; a check that looks whether it runs holds it for a moment, too."""
    for _ in range(20):
        with suppress(RunError):
            return JsonLines(schedule.folder / ".running", wait=False)
        time.sleep(0.1)
    return JsonLines(schedule.folder / ".running", wait=False)


def _running(schedule: Schedule) -> bool:
    with suppress(RunError), JsonLines(schedule.folder / ".running", wait=False):
        return False
    return True


def _alarm(schedule: Schedule, text: str) -> None:
    """Call the hook, which must not end what it tells of."""
    if not (text and schedule.hook):
        return
    given = {name: value for name, value in os.environ.items() if name != "KIT_LLM_API_KEY"}
    try:
        environment = given | {"KIT_ALARM": f"{schedule.name}: {text}"}
        subprocess.run(shlex.split(schedule.hook), env=environment, stdin=subprocess.DEVNULL, check=True, timeout=_HOOK_S)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"△ 通知コマンドが失敗しました（{type(error).__name__}）: {schedule.hook}", file=sys.stderr, flush=True)  # noqa: T201


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def schedule(options: argparse.Namespace) -> Result:
    """``kit schedule``: add, list, remove, run, check."""
    actions = {"add": _add, "list": _list, "remove": _remove, "run": _run, "check": _check}
    if not options.target and options.action in ("add", "remove", "run"):
        raise ParameterError("対象が書かれていません。", f"{options.action} には、ノートブックか登録した名前が要ります。", "例: kit schedule run 週次（書き方は kit schedule --help）")
    return actions[options.action](options)


def _add(options: argparse.Namespace) -> Result:
    given = notebooks.read_values(Path(options.f)) if options.f else {}
    schedule = define(options.target, options.cron, given, name=options.name, hook=options.hook, tolerance=options.tolerance)
    others = {other.name: other.cron for other in schedules()}
    planned = timers.plan(others | {schedule.name: schedule.cron})
    values = "、".join(f"{name}={value}" for name, value in schedule.parameters.items())
    print(f"{schedule.name}: {Path(schedule.notebook).name}（{values}）次回 {_local(timers.following(schedule.cron, _now()))}", file=sys.stderr)  # noqa: T201
    if unset := [name for name in os.environ if name.startswith("KIT_") and name != "KIT_RUNS"]:
        print(f"△ 環境変数 {'、'.join(sorted(unset))} は定期実行に渡りません。設定は kit.toml に書いてください。", file=sys.stderr)  # noqa: T201
    facts = {"name": schedule.name, "units": {str(path): text for path, text in planned.units.items()}, "crontab": planned.crontab}
    if not _agreed(planned, options):
        return facts | {"installed": False}, "登録していません（登録するには --yes を付けます）。"
    definition = schedule.folder / "schedule.json"
    schedule.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    timers.install(planned)
    write_atomically(definition, json.dumps(asdict(schedule), ensure_ascii=False, indent=1))
    linger = "\nログアウト中も動かすには、一度だけ: loginctl enable-linger" if planned.units else ""
    return facts | {"installed": True}, f"登録しました: {schedule.name}。一覧は kit schedule list、解除は kit schedule remove {schedule.name}{linger}"


def _remove(options: argparse.Namespace) -> Result:
    schedule = find(options.target)
    planned = timers.plan({other.name: other.cron for other in schedules() if other.name != schedule.name})
    if not _agreed(planned, options):
        return {"removed": ""}, "解除していません（解除するには --yes を付けます）。"
    timers.install(planned)
    (schedule.folder / "schedule.json").unlink()
    return {"removed": schedule.name}, f"解除しました: {schedule.name}（実行の記録は {schedule.folder} に残っています）"


def _agreed(planned: timers.Plan, options: argparse.Namespace) -> bool:
    print(f"このキットの定期実行は、次の内容になります:\n{planned}", file=sys.stderr, flush=True)  # noqa: T201
    return not options.dry_run and (options.yes or agreed("設定しますか"))


def _run(options: argparse.Namespace) -> Result:
    row = run(options.target)
    return {"ok": not row["alarm"], **row}, f"{row['name']}: {_told(row)}"


def _told(row: dict[str, Any]) -> str:
    return "、".join(filter(None, map(row.get, ("outcome", "verdict", "alarm"))))


def _check(options: argparse.Namespace) -> Result:
    rows = check()
    lines = [f"{row['name']}: {row['alarm']}" for row in rows]
    return {"ok": not rows, "missed": rows}, "\n".join(lines) or "新しい未実行はありません。"


def _list(options: argparse.Namespace) -> Result:
    missed = check()
    facts = []
    for schedule in schedules():
        last = (_rows(schedule) or [{}])[-1]
        state = "実行中" if _running(schedule) else _told(last) or "まだ実行していません"
        coming = _local(timers.following(schedule.cron, _now()))
        facts.append({"name": schedule.name, "notebook": schedule.notebook, "cron": schedule.cron, "next": coming, "last": last, "state": state})
    lines = [f"{f['name']}  {Path(str(f['notebook'])).stem}  {f['cron']}  次回 {f['next']}  前回: {f['state']}" for f in facts]
    return {"ok": not missed, "schedules": facts}, "\n".join(lines) or "定期実行は登録されていません。"
