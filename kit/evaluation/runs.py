"""Run folders, read back: ``runs/<stamp>-<name>/`` beside the ledger."""

import json
import re
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from kit.errors import RunError
from kit.evaluation.cases import read_cases
from kit.evaluation.evaluate import JOURNAL
from kit.evaluation.looks import Look
from kit.records import Evaluation, Row, Seal
from kit.trust import ledger, seal
from kit.trust.durable import read


def new_run(runs: Path, name: str) -> Path:
    """Make and return a fresh run folder named by local time."""
    while True:
        folder = runs / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{name}"
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
        time.sleep(0.1)  # until the next second


def open_run(runs: Path, name: str, sealed: Seal, *, last: str = "decision.json") -> Path:
    """Return the project's last run if it was stopped under the same seal, else a fresh folder.

    Args:
        runs: The folder of all runs.
        name: The project's name.
        sealed: The seal in force.
        last: The file whose presence means that a run was finished.
    """
    for folder in [folder for folder in _runs_of(runs, name)[-1:] if not (folder / last).exists()]:
        seal_file = folder / "seal.json"
        if not seal_file.exists() or json.loads(seal_file.read_text(encoding="utf-8"))["sha256"] == sealed.sha256:
            return folder
    return new_run(runs, name)


def latest_run(runs: Path, name: str) -> Path:
    """Return the project's last decided run.

    Raises:
        RunError: There is none.
    """
    if not (decided := decided_runs(runs, name)):
        raise RunError(
            f"「{name}」の判定済みの実行がありません。", "評価（ノートブック 05）がまだ終わっていません。",
            "ノートブック 05 を実行するか、`kit poc フォルダ` を実行してください。",
        )
    return decided[-1]


def decided_runs(runs: Path, name: str = "") -> list[Path]:
    """Return a project's decided runs, or those of all projects, oldest first."""
    return [folder for folder in _runs_of(runs, name) if (folder / "decision.json").exists()]


def _runs_of(runs: Path, name: str) -> list[Path]:
    """Return a project's run folders, or those of all projects, oldest first."""
    pattern = re.compile(rf"\d{{8}}-\d{{6}}-{re.escape(name) or '.+'}")
    return sorted(folder for folder in runs.glob("*") if pattern.fullmatch(folder.name))


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read a run back: criteria and questions as they were sealed, and the rows so far.

    Raises:
        RunError: The folder is not a run, or a file in it is damaged.
        SealError: Its criteria were not sealed in the ledger beside it before it began.
    """
    run = Path(folder).resolve()  # "." has no name to be found by in the ledger
    cases = tuple(read_cases(require_file(run, "cases.jsonl")))
    try:
        kept = Seal.from_json(json.loads(require_file(run, "seal.json").read_text(encoding="utf-8")))
        rows = tuple(Row.from_json(record) for record in read(run / JOURNAL))
    except (ValueError, LookupError, TypeError) as error:  # what no version of the kit wrote
        raise RunError(
            f"{run} の seal.json か {JOURNAL} を読めません。", "手で書き換えられたか、壊れているか、別の版のキットで作られています。",
            "バックアップから戻すか、新しい実行としてやり直してください（`kit poc フォルダ --new`）。",
        ) from error
    sealed = seal.require(kept.criteria, run.name, run.parent / ledger.NAME)
    start = ledger.find(run.parent / ledger.NAME, "run", run=run.name)[0]
    cases = Look.of(start.content).choose(cases)
    return Evaluation(run, sealed, cases, tuple(name for name, _, _ in start.content["arms"]), rows)


def as_evaluation(run: Evaluation | str | Path) -> Evaluation:
    """Return an evaluation as it is, and read that of a run's folder back (see ``read_evaluation``)."""
    return run if isinstance(run, Evaluation) else read_evaluation(run)


def require_file(run: Path, name: str) -> Path:
    """Return a file of a run folder.

    Raises:
        RunError: It is not there.
    """
    if not (run / name).is_file():
        raise RunError(
            f"{run} に {name} がありません。", "実行フォルダの場所が違うか、評価がまだ終わっていません。",
            "`ls runs` で場所を確かめてください。途中で止まった実行は `kit poc フォルダ` で続きから再開します。",
        )
    return run / name
