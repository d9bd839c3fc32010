"""What people and judges say of a finished run: one JSON line a score beside the journal, vouched for by the ledger.

Nothing is ever overwritten: a correction is a later line. A score is None where something was drawn to be scored and
was not, or could not be: the gate then counts it at its worst and at its best.
"""

import hashlib
import json
import os
from bisect import bisect
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kit.errors import DataError, RunError, SealError
from kit.evaluation.metrics import METRICS
from kit.trust import ledger
from kit.trust.durable import JsonLines, canonical, to_json

FILE = "scores.jsonl"
JUDGE = "judge:"
"""How ``Score.by`` begins where a model judged; what follows is the model's identity."""
DRAWN = "drawn"
"""Note of the blank score that stands for every sample that was drawn, until somebody says something of it."""
_DAY = 1_440  # minutes: no question takes longer


@dataclass(frozen=True, slots=True)
class Score:
    """What one person or judge said of one sample by one metric."""

    case: str
    arm: str
    metric: str
    value: float | None
    """None: drawn and left blank, 判断できない, or a judge error. Never a score of 0."""
    by: str
    """A rater's name, or ``judge:`` and the identity of the model."""
    at: str
    """UTC, ISO 8601."""
    note: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What was scored: case, arm, metric."""
        return self.case, self.arm, self.metric


def now() -> str:
    """Return the time as ``Score.at`` has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def append(run: str | Path, scores: Iterable[Score], source: str) -> int:
    """Add scores; they are on disk and in the ledger when this returns.

    What the same person or judge said last already is left out: reading the same sheet twice adds nothing. Lines
    that a kill left without their ledger entry were never acknowledged; they are cut off.

    Args:
        run: The run's folder.
        scores: What was said.
        source: Where it comes from, for the ledger: the name of a sheet, ``widget``, the judge's identity.

    Returns:
        How many were added.

    Raises:
        RunError: The run is not finished, or the disk is full.
        DataError: A value cannot be, or somebody else says it than who was drawn to; nothing is added.
        SealError: The file is not the one that the ledger knows.
    """
    folder = Path(run).resolve()
    book, path = folder.parent / ledger.NAME, folder / FILE
    if not ledger.find(book, "rows", run=folder.name):
        raise RunError(
            f"実行 {folder.name} は評価が終わっていないため、採点できません。", "途中で止まっているか、台帳のない場所に写されています。",
            "`kit poc フォルダ` で続きを実行し、終わってから採点してください。",
        )
    if _content(path) != _vouched(folder, whole=False):
        with JsonLines(path):  # under its lock: another writer may just be about to enter these lines
            os.truncate(path, len(_vouched(folder, whole=False)))
    with JsonLines(path) as file:
        before = _vouched(folder)
        known = [Score(**record) for record in file.records]
        said = {(score.key, score.by): (score.value, score.note) for score in known}
        drawn = {score.key for score in known if score.note == DRAWN}
        draws = [entry.content for entry in ledger.find(book, "drawn", run=folder.name)]
        added = []
        for score in scores:
            _require_usable(score)
            _require_drawn(score, next((d["raters"] for d in draws if score.metric in d["metrics"]), []), drawn, source)
            if said.get((score.key, score.by), ()) != (score.value, score.note):
                said[score.key, score.by] = score.value, score.note
                added.append(to_json(score))
        if added:
            file.append(*added)
            after = before + "".join(canonical(record) + "\n" for record in added).encode()
            content = {"run": folder.name, "sha256": hashlib.sha256(after).hexdigest(), "count": after.count(b"\n")}
            ledger.append(book, "scores", content | {"source": source})
    return len(added)


def read(run: str | Path) -> list[Score]:
    """Return all scores of a run, oldest first; none where nobody scored it.

    Raises:
        SealError: The file is not the one that the ledger knows.
    """
    return [Score(**json.loads(line)) for line in _vouched(Path(run).resolve()).splitlines()]


def final(scores: Iterable[Score]) -> dict[tuple[str, str, str], float | None]:
    """Return what holds for each (case, arm, metric): the last word of whoever was named for it first.

    Where several people scored the same, the first named is the primary rater; the others serve to tell how far people
    agree. Of judges the last word holds, whichever model said it.
    """
    return {score.key: score.value for _, score in _held(scores)}


def _held(scores: Iterable[Score]) -> Iterator[tuple[int, Score]]:
    """Yield the words that count and their places: those of judges, and of whoever was named first for what they are of."""
    primary: dict[tuple[str, str, str], str] = {}
    for place, score in enumerate(scores):
        if score.by.startswith(JUDGE) or primary.setdefault(score.key, score.by) == score.by:
            yield place, score


def corrected(run: str | Path, *, decided: bool = False) -> int:
    """Return how many final values are not what was said first.

    A first word is no correction, whenever it comes: not after a blank, nor after a judge that could not be asked.

    Args:
        run: The run's folder.
        decided: Only those that a decision of the run had already been made on.

    Raises:
        SealError: The file is not the one that the ledger knows.
    """
    folder = Path(run).resolve()
    book = folder.parent / ledger.NAME
    entered = ledger.find(book, "scores", run=folder.name)
    decisions = [entry.sequence for entry in ledger.find(book, "decision", run=folder.name)]
    stood: dict[tuple[str, str, str], tuple[float | None, int]] = {}
    changed = set()
    for place, score in _held(read(folder)):
        now = entered[bisect(entered, place, key=lambda entry: entry.content["count"])].sequence
        value, since = stood.get(score.key, (None, 0))
        first = not since or (value is None and score.by.startswith(JUDGE))
        if score.note != DRAWN and (first or value != score.value):
            stood[score.key] = score.value, now
            if not first and (not decided or any(since < decision < now for decision in decisions)):
                changed.add(score.key)
    return len(changed)


def _require_usable(score: Score) -> None:
    metric = METRICS.get(score.metric)
    kind, value = metric.kind if metric else "mean", score.value
    usable = value is None or (value in (0, 1) if kind in ("share", "judged") else -_DAY <= value <= _DAY if kind == "amount" else 0 <= value <= 1)
    if not usable or (metric and (metric.scored_by == "judge") > score.by.startswith(JUDGE)):
        raise DataError(
            f"質問 {score.case} の「{metric.label if metric else score.metric}」に、{score.by} の値 {value} は使えません。1件も記録していません。",
            f"使えるのは、割合は 0 か 1、平均は 0〜1、時間は ±{_DAY:,} 分までの値です。LLM の判定は、LLM だけが記録できます。",
            "値を直して、もう一度取り込んでください。",
        )


def _require_drawn(score: Score, raters: Sequence[str], drawn: Collection[tuple[str, str, str]], source: str) -> None:
    """Refuse what people say of what was not drawn, or who was not to say it: else they choose what counts, and whose word."""
    if score.metric not in METRICS or METRICS[score.metric].scored_by != "people":
        return
    blank = source == DRAWN
    asked = score.value is None and score.by in raters[:1] if blank else score.by in raters and score.key in drawn
    if not asked or blank != (score.note == DRAWN):
        raise DataError(
            f"質問 {score.case} の「{METRICS[score.metric].label}」は、{score.by} の採点として記録できません。1件も記録していません。",
            f"抽選していない回答か、抽選のときに決めた採点者（{'、'.join(raters) or '抽選前'}）ではないか、備考が「{DRAWN}」です。",
            "`kit score 実行フォルダ` で抽選してシートを書き出し、そのシートに記入して取り込んでください。",
        )


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _vouched(folder: Path, *, whole: bool = True) -> bytes:
    """Return the lines that the ledger vouches for; refuse a file that does not begin with them, or, ``whole``, goes on."""
    content = _content(folder / FILE)
    entered = ledger.find(folder.parent / ledger.NAME, "scores", run=folder.name)
    lines = content.splitlines(keepends=True)[: entered[-1].content["count"] if entered else 0]
    known = b"".join(lines)
    if (whole and known != content) or (entered and hashlib.sha256(known).hexdigest() != entered[-1].content["sha256"]):
        raise SealError(
            f"実行 {folder.name} の採点結果 {FILE} が、台帳と一致しません。",
            "手で書き換えられたか、一部が失われたか、取り込みの途中で止まっています。",
            f"途中で止まった場合は同じ採点シートをもう一度取り込み（`kit score {folder} --sheet FILE`）、そうでなければバックアップから戻してください。",
        )
    return known
