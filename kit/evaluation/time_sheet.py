"""実務記録シート.xlsx: what only people can measure at their work, for the questions that were sealed and drawn.

One workbook with a sheet for each of these KPIs that the criteria name. Every row belongs to a sealed question: what
happened with other inquiries was agreed by nobody beforehand, and cannot be entered.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

from kit.evaluation import handouts, scores
from kit.evaluation.cases import refuse_if_wrong
from kit.evaluation.matching import comparable
from kit.evaluation.runs import read_evaluation
from kit.evaluation.scores import Score
from kit.evaluation.scoring_sheet import DEFAULTS, Drawing, draw, drawn, rater_of
from kit.evaluation.sheets import Problems
from kit.records import Evaluation

FORM = "実務記録シート"
RATER = "記録者"
LETTER = "T"
"""How the mark of this workbook begins; see ``Drawing.mark``."""


def kept_share(draft: str, sent: str) -> float:
    """Return 1 − Levenshtein distance / length of the longer text (0–1), both made comparable; 1.0 for no edit."""
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_similarity(comparable(draft), comparable(sent)))


_SOLVED: dict[str, float | None] = {"解決した": 1.0, "解決しなかった": 0.0, "判断できない": None}
SHEETS: dict[str, tuple[str, tuple[str, ...], Callable[..., float | None]]] = {
    "minutes_saved": ("所要時間", ("AIなし（分）", "AIあり（分）"), lambda draft, without, using: float(without) - float(using)),
    "edit_saved": ("文面の修正", ("送った文",), kept_share),
    "first_contact": ("一次解決", ("結果",), lambda draft, solved: _SOLVED[solved]),
}
"""Metric → its sheet, the columns that make one score, and that score from the answer and what stands in them."""


def measured(evaluation: Evaluation) -> list[str]:
    """Return the metrics of the sealed criteria that people measure at work, in the order of the sheets."""
    agreed = {kpi.metric for kpi in evaluation.seal.criteria.kpis}
    return [metric for metric in SHEETS if metric in agreed]


def write_times(run: str | Path, *, sample: int = 0, rater: str = RATER, to: str | Path = "") -> list[Path]:
    """Write 実務記録シート.xlsx where the criteria ask for it; a file that is there already is left as it is.

    Args:
        run: The folder of a finished run.
        sample: Questions to draw at random; 0 takes all.
        rater: Who writes down.
        to: Folder of the workbook; "" for the run's.

    Returns:
        The file; empty where no KPI of the criteria is measured this way.

    Raises:
        RunError: The run is not finished.
        SealError: It was drawn on other terms before.
    """
    evaluation = read_evaluation(run)
    if not (metrics := measured(evaluation)):
        return []
    terms = DEFAULTS | {"sample": sample, "raters": [rater]}
    drawing = draw(evaluation, metrics, evaluation.arms[-1:], terms)
    path = Path(to or evaluation.folder) / f"{FORM}.xlsx"
    if not path.exists():
        handouts.write(path, FORM, drawing.mark(who := drawing.terms["raters"][0]), who, _rows(drawing))
    return [path]


def read_times(path: str | Path, run: str | Path) -> str:
    """Read a 実務記録シート that came back, whole or in part, and append what it says; reading it again adds nothing.

    Returns:
        One Japanese line: how much was read, and how much is left.

    Raises:
        DataError: It is no workbook, one of another run, or something in it is wrong: all of it is told at once.
        SealError: The scores so far are not those that the ledger knows.
    """
    path, evaluation = Path(path), read_evaluation(run)
    drawing = drawn(evaluation, measured(evaluation), evaluation.arms[-1:])
    rater = rater_of(path, drawing)
    problems: Problems = []
    back = handouts.take_back(path, FORM, _rows(drawing), problems)
    items, said = {item.case.id: item for item in drawing.items}, []
    for metric in drawing.terms["metrics"]:
        sheet, columns, value = SHEETS[metric]
        for key, row in back.get(sheet, {}).items():
            if missing := [name for name in columns if name not in row.cells]:
                problems.append((row.row, f"シート「{sheet}」 {row.row}行目 「{missing[0]}」列: もう一方だけが書かれています。両方を書くか、両方を空けます。"))
            elif not problems:
                found = value(items[key].answer, *(row.cells[name] for name in columns))
                said.append(Score(key, items[key].arms[0], metric, found, rater, scores.now()))
    refuse_if_wrong(path, problems)
    added, planned = scores.append(evaluation.folder, said, path.name), len(items) * len(drawing.terms["metrics"])
    return f"{rater}: {planned} 件のうち {len(said)} 件の記録を読みました（新しい記録 {added} 件）。"


def _rows(drawing: Drawing) -> handouts.Rows:
    """Return the rows; who times an answer is not shown the AI's, and begins with the AI at every other question."""
    rows = {}
    for metric in drawing.terms["metrics"]:
        thirds = itertools.cycle(("AIなし", "AIあり")) if metric == "minutes_saved" else (i.answer for i in drawing.items)
        rows[SHEETS[metric][0]] = [(i.case.id, i.case.question, third) for i, third in zip(drawing.items, thirds, strict=False)]
    return rows
