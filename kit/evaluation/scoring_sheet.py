"""What people score, drawn once and for all before a sheet goes out, and the two sheets that they score it in.

採点シート.xlsx shows answers, blind to the arm. Whose answer a row shows is told nowhere in it: the order is drawn, the
same answer of two arms is one row, abstentions are worded alike and sources are all written in one way. What cannot be
hidden is the style of the text. The key is no file: it follows from the run's rows and the terms of the drawing, which
the ledger keeps.

実務記録シート.xlsx holds what only people can measure at their work: a sheet for each of these KPIs that the criteria
name. Every row belongs to a sealed question: what happened with other inquiries was agreed by nobody beforehand, and
cannot be entered.
"""

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.answering.extractive import NOT_FOUND
from kit.errors import DataError, RunError, SealError
from kit.evaluation import handouts, scores
from kit.evaluation.cases import refuse_if_wrong
from kit.evaluation.designs import LABELS
from kit.evaluation.gate import LEAST
from kit.evaluation.matching import comparable
from kit.evaluation.metrics import METRICS
from kit.evaluation.runs import read_evaluation
from kit.evaluation.scores import Score
from kit.evaluation.sheets import Problems
from kit.records import Case, Evaluation, Row
from kit.trust import ledger
from kit.trust.durable import digest_of, to_json

FORM, TIMES = "採点シート", "実務記録シート"
_LETTERS = {FORM: "A", TIMES: "T"}  # how the marks of their workbooks begin
RATER = "記録者"
"""Who fills in 実務記録シート."""
METRIC = "right_by_people"
VERDICTS: dict[str, float | None] = {"正しい": 1.0, "誤り": 0.0, "判断できない": None}
_SOLVED: dict[str, float | None] = {"解決した": 1.0, "解決しなかった": 0.0, "判断できない": None}


def kept_share(draft: str, sent: str) -> float:
    """Return 1 − Levenshtein distance / length of the longer text (0–1), both made comparable; 1.0 for no edit."""
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_similarity(comparable(draft), comparable(sent)))


SHEETS: dict[str, tuple[str, tuple[str, ...], Callable[..., float | None]]] = {
    METRIC: ("採点", ("判定",), lambda answer, verdict: VERDICTS[verdict]),
    "minutes_saved": ("所要時間", ("AIなし（分）", "AIあり（分）"), lambda draft, without, using: float(without) - float(using)),
    "edit_saved": ("文面の修正", ("送った文",), kept_share),
    "first_contact": ("一次解決", ("結果",), lambda draft, solved: _SOLVED[solved]),
}
"""Metric → its sheet, the columns that make one score, and that score from the answer and what stands in them."""
DEFAULTS: dict[str, Any] = {"sample": 0, "overlap": 0.2, "raters": ["採点者A", "採点者B"]}
"""The terms of a drawing where nothing else is said; see ``write_sheet``."""
DRAWN = scores.DRAWN
_LEAST_DRAWN = 50  # questions, where the kind of what they decide does not say more
_LEAST_OVERLAP = 50  # items that two people must have scored for a kappa to mean something
_RATER = re.compile(r"[\w.-]{1,40}")


@dataclass(frozen=True, slots=True)
class Item:
    """One answer as people see it, and whose it is."""

    id: str
    case: Case
    arms: tuple[str, ...]
    """All that gave this very answer."""
    answer: str
    source: str

    @property
    def gold(self) -> str:
        """The gold answer and where it stands, as people read it."""
        parts = [" または ".join(part) for part in self.case.answers] or ["（文書に答えなし）"]
        return "\n".join([*parts, *(f"〔根拠〕{e.document} {e.place.label}".rstrip() for e in self.case.evidence)])


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is to be scored by whom: settled once a run and form."""

    terms: dict[str, Any]
    items: tuple[Item, ...]
    sha256: str

    @property
    def form(self) -> str:
        """The sheet that it is handed out in."""
        return FORM if METRIC in self.terms["metrics"] else TIMES

    def mark(self, rater: str) -> str:
        """Return what a rater's workbook is known again by."""
        return f"{_LETTERS[self.form]}-{hashlib.sha256((self.sha256 + rater).encode()).hexdigest()[:12]}"

    def of(self, rater: str) -> list[Item]:
        """Return a rater's items in the rater's own order: all for the first rater, the overlap for the others."""
        raters = self.terms["raters"]
        if rater not in raters:
            known = f"抽選のときに決めた採点者: {'、'.join(raters)}"
            raise DataError(f"「{rater}」は、この実行の採点者ではありません。", known, "この中の名前を指定してください。")
        if rater == raters[0]:
            return [*self.items]
        many = max(_LEAST_OVERLAP, math.ceil(self.terms["overlap"] * len(self.items)))
        chosen = sorted(self.items, key=lambda item: _lot(self.sha256, "overlap", item.id))[:many]
        return sorted(chosen, key=lambda item: _lot(self.sha256, rater, item.id))


def write_sheet(
    run: str | Path, *, sample: int = 0, overlap: float = 0.2,
    raters: Sequence[str] = ("採点者A", "採点者B"), to: str | Path = "",
) -> list[Path]:  # fmt: skip
    """Write 採点シート.xlsx for each rater; a file that is there already is left as it is: it may be half filled in.

    The first call draws, and enters the drawing into the ledger before a sheet goes out; later ones write the same.

    Args:
        run: The folder of a finished run.
        sample: Questions to draw at random; 0 takes all.
        overlap: Share of the answers (0–1) that the second and later raters score too; at least 50 where there are.
        raters: The first scores everything and is the one who counts; the others tell how far people agree.
        to: Folder of the sheets; "" for the run's.

    Raises:
        RunError: The run is not finished.
        SealError: It was drawn on other terms before.
        DataError: A rater's name or a number cannot be used.
    """
    evaluation = read_evaluation(run)
    drawing = draw(evaluation, {"sample": sample, "overlap": overlap, "raters": [*raters]})
    return [_handed_out(Path(to or evaluation.folder) / f"{FORM}_{rater}.xlsx", drawing, rater) for rater in drawing.terms["raters"]]


def write_times(run: str | Path, *, sample: int = 0) -> list[Path]:
    """Write 実務記録シート.xlsx where the criteria ask for it; a file that is there already is left as it is.

    Args:
        run: The folder of a finished run.
        sample: Questions to draw at random; 0 takes all.

    Returns:
        The file; empty where no KPI of the criteria is measured this way.

    Raises:
        RunError: The run is not finished.
        SealError: It was drawn on other terms before.
    """
    evaluation = read_evaluation(run)
    if TIMES not in scored(evaluation):
        return []
    drawing = draw(evaluation, DEFAULTS | {"sample": sample, "raters": [RATER]}, form=TIMES)
    return [_handed_out(evaluation.folder / f"{TIMES}.xlsx", drawing, RATER)]


def _handed_out(path: Path, drawing: Drawing, rater: str) -> Path:
    if not path.exists():
        handouts.write(path, drawing.form, drawing.mark(rater), rater, _rows(drawing, rater))
    return path


def read_sheet(path: str | Path, run: str | Path) -> str:
    """Read a sheet that came back, whole or in part, and append what it says; reading it again adds nothing.

    A blank says nothing and takes nothing back.

    Returns:
        One Japanese line: how much was read, and how much is left.

    Raises:
        DataError: It is no workbook, a sheet of another run, or something in it is wrong: all of it is told at once.
        SealError: The scores so far are not those that the ledger knows.
    """
    path, evaluation = Path(path), read_evaluation(run)
    form = FORM if handouts.mark_of(path).startswith(_LETTERS[FORM]) else TIMES
    drawing = drawn(evaluation, form)
    rater = rater_of(path, drawing)
    problems: Problems = []
    back = handouts.take_back(path, form, _rows(drawing, rater), problems)
    items = {item.id if form == FORM else item.case.id: item for item in drawing.items}
    said, filled = list[Score](), 0
    for metric in drawing.terms["metrics"]:
        title, columns, value = SHEETS[metric]
        for key, row in back.get(title, {}).items():
            missing = [name for name in columns if name not in row.cells]
            if missing and len(missing) < len(columns):
                problems.append((row.row, f"シート「{title}」 {row.row}行目 「{missing[0]}」列: もう一方だけが書かれています。両方を書くか、両方を空けます。"))
            elif not missing and not problems:
                found = value(items[key].answer, *(row.cells[name] for name in columns))
                said += say(items[key], rater, found, row.cells.get("備考", ""), metric=metric)
                filled += 1
    refuse_if_wrong(path, problems)
    added = scores.append(evaluation.folder, said, path.name)
    planned = len(drawing.of(rater)) * len(drawing.terms["metrics"])
    if form == TIMES:
        return f"{rater}: {planned} 件のうち {filled} 件の記録を読みました（新しい記録 {added} 件）。"
    rest = f"空欄 {planned - filled} 件は、あとから続きを取り込めます。" if filled < planned else "空欄はありません。"
    return f"{rater}: {planned} 件のうち {filled} 件の判定を読みました（新しい記録 {added} 件）。{rest}"


def say(item: Item, rater: str, value: float | None, note: str = "", *, metric: str = METRIC) -> list[Score]:
    """Return what a rater says of an item as scores, one for each arm that gave this answer."""
    return [Score(item.case.id, arm, metric, value, rater, scores.now(), note) for arm in item.arms]


def scored(evaluation: Evaluation) -> dict[str, tuple[list[str], tuple[str, ...]]]:
    """Return by form the metrics that people score in it, in the order of its sheets, and the arms whose answers they see."""
    agreed = {kpi.metric for kpi in evaluation.seal.criteria.kpis}
    measured = [metric for metric in SHEETS if metric in agreed and metric != METRIC]
    return {FORM: ([METRIC], evaluation.arms)} | ({TIMES: (measured, evaluation.arms[-1:])} if measured else {})


def _rows(drawing: Drawing, rater: str) -> handouts.Rows:
    """Return the rows; who times an answer is not shown the AI's, and begins with the AI at every other question."""
    items, rows = drawing.of(rater), {}
    if drawing.form == FORM:
        return {SHEETS[METRIC][0]: [(i.id, i.case.question, i.gold, i.answer, i.source) for i in items]}
    for metric in drawing.terms["metrics"]:
        thirds = itertools.cycle(("AIなし", "AIあり")) if metric == "minutes_saved" else (item.answer for item in items)
        rows[SHEETS[metric][0]] = [(i.case.id, i.case.question, third) for i, third in zip(items, thirds, strict=False)]
    return rows


def rater_of(path: Path, drawing: Drawing) -> str:
    """Return whose workbook it is.

    Raises:
        DataError: It belongs to another run.
    """
    mark = handouts.mark_of(path)
    for rater in drawing.terms["raters"]:
        if drawing.mark(rater) == mark:
            return str(rater)
    raise DataError(
        f"{path} は、この実行のシートではありません。", f"照合番号 {mark} が合いません。別の実行のために書き出したシートです。",
        "実行フォルダの名前とファイルを確かめて、もう一度実行してください。",
    )


def draw(evaluation: Evaluation, terms: dict[str, Any], *, form: str = FORM) -> Drawing:
    """Settle what is to be scored, once: ledger first, then a blank score for every sample that was drawn.

    Args:
        evaluation: A finished run.
        terms: ``sample``, ``overlap``, ``raters``; what they mean see ``write_sheet``.
        form: The sheet that it is scored in.
    """
    raters, run = terms["raters"], evaluation.folder
    metrics, arms = scored(evaluation)[form]
    if not raters or len({*raters}) < len(raters) or not all(map(_RATER.fullmatch, raters)) or not 0 <= terms["overlap"] <= 1 or terms["sample"] < 0:
        raise DataError(
            "採点の条件に使えない値があります。", "採点者の名前は重ならない40文字までの文字・数字、重なりは0〜1、問題数は0以上です。",
            '例: raters=("採点者A", "採点者B"), overlap=0.2, sample=150',
        )
    scores.append(run, (), "")  # refuses an unfinished run, and mends what a kill left
    if 0 < terms["sample"] < (least := min(_least(evaluation, metrics), len(evaluation.cases))):
        raise DataError(
            f"抽選する質問 {terms['sample']} 問は少なすぎます。抽選していません。",
            f"抽選は実行ごとに1回だけで、判定に使う指標には {least} 問以上が要ります（割合 50 問、時間 100 問、LLM の判定の補正 {LABELS} 問。足りなければ全問）。",
            f"{least} 問以上を指定してください: kit score {run} --sample {least}（数を付けなければ全問）",
        )
    book, name = run.parent / ledger.NAME, run.name
    if not ledger.find(book, "drawn", run=name, metrics=metrics):
        made = _drawing(evaluation, arms, terms | {"metrics": metrics})
        ledger.append(book, "drawn", {"run": name, **made.terms, "count": len(made.items), "sha256": made.sha256})
    settled = drawn(evaluation, form)
    if any(settled.terms[key] != value for key, value in terms.items() if value != DEFAULTS.get(key)):
        raise SealError(
            f"実行 {name} の採点対象は、別の条件ですでに抽選されています。", f"条件: {_terms(settled.terms)}。引き直すと、都合のよい抽選を選べてしまいます。",
            "条件を付けずに実行すると、抽選済みのシートを書き出します。引き直すには、新しい実行が要ります。",
        )
    known = {(score.key, score.by) for score in scores.read(run)}
    first = settled.terms["raters"][0]
    keys = [(case, arm, metric) for case in _questions(evaluation, settled.terms) for arm in arms for metric in metrics]
    blank = [Score(*key, None, first, scores.now(), DRAWN) for key in keys if (key, first) not in known]
    scores.append(run, blank, "drawn")
    return settled


def _least(evaluation: Evaluation, metrics: Sequence[str]) -> int:
    """Return how many questions must be drawn at least for what the metrics decide; 0 where they decide nothing."""
    kinds = {k.metric: METRICS[k.metric].kind for k in evaluation.seal.criteria.kpis if k.role != "info" and k.metric in METRICS}
    concerned = [kind for name, kind in kinds.items() if name in metrics or (kind == "judged" and METRIC in metrics)]
    return max((LEAST.get(kind, _LEAST_DRAWN) for kind in concerned), default=0)


def drawn(evaluation: Evaluation, form: str = FORM) -> Drawing:
    """Return the drawing in force for a sheet.

    Raises:
        RunError: There is none.
        SealError: The run's rows do not give what was drawn.
    """
    name, (metrics, arms) = evaluation.folder.name, scored(evaluation).get(form, ([], ()))
    found = ledger.find(evaluation.folder.parent / ledger.NAME, "drawn", run=name, metrics=metrics)
    if not found:
        raise RunError(
            f"実行 {name} の採点対象は、まだ抽選されていません。", "シートを書き出していません。",
            f"`kit score {evaluation.folder}` で書き出してください。",
        )
    kept = found[0].content
    drawing = _drawing(evaluation, arms, {key: kept[key] for key in (*DEFAULTS, "metrics")})
    if drawing.sha256 != kept["sha256"]:
        raise SealError(
            f"実行 {name} の採点対象が、台帳にある抽選と一致しません。", "抽選のあとで、実行の記録が書き換えられたか、キットの版が変わっています。",
            "バックアップから戻すか、抽選したときの版のキットを使ってください。",
        )
    return drawing


def _terms(terms: dict[str, Any]) -> str:
    questions = f"{terms['sample']} 問" if terms["sample"] else "全問"
    return f"{questions}、採点者 {'と'.join(terms['raters'])}、重なり {terms['overlap']:.0%}"


def _lot(*parts: object) -> str:
    """Return a number that sorts as if by lot: the same for the same parts, on any machine and version."""
    return digest_of([str(part) for part in parts])


def _seed(evaluation: Evaluation) -> str:
    """Return what the lots hang on: nobody could know it before the run's end, nor choose it after."""
    return ledger.find(evaluation.folder.parent / ledger.NAME, "rows", run=evaluation.folder.name)[0].hash


def _questions(evaluation: Evaluation, terms: dict[str, Any]) -> list[str]:
    """Return the ids of the drawn questions: a simple random sample without replacement."""
    seed = _seed(evaluation)
    lots = sorted((_lot(seed, "question", case.id), case.id) for case in evaluation.cases)
    return [name for _, name in lots[: terms["sample"] or None]]


def _drawing(evaluation: Evaluation, arms: Sequence[str], terms: dict[str, Any]) -> Drawing:
    """Draw the questions and put the answers in an order: samples that failed are drawn, too, but nobody can read them."""
    cases = {case.id: case for case in evaluation.cases}
    rows = {arm: evaluation.of(arm) for arm in arms}
    found: dict[tuple[str, str, str], list[str]] = {}
    for name in _questions(evaluation, terms):
        for arm in arms:
            row = rows[arm].get(name)
            if row is not None and row.state == "answered":
                found.setdefault((name, *_shown(row)), []).append(arm)
    seed = _seed(evaluation)
    lots = sorted((_lot(seed, "item", *key), key) for key in found)
    items = tuple(
        Item(f"{number:03d}", cases[key[0]], tuple(found[key]), key[1], key[2]) for number, (_, key) in enumerate(lots, 1)
    )
    return Drawing(terms, items, digest_of([terms, to_json(items)]))


def _shown(row: Row) -> tuple[str, str]:
    """Return answer and sources as every arm's are shown: worded alike where an arm could be known by the wording."""
    if row.abstained:
        return NOT_FOUND, ""
    return row.text, "\n".join(dict.fromkeys(f"{e.document} {e.place.label}".strip() for e in row.cited))
