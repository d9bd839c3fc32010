"""How far two people agree who scored the same answers: Cohen's kappa with its interval, and where they differ."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from kit import views
from kit.evaluation import scores
from kit.evaluation.runs import read_evaluation
from kit.evaluation.scoring_sheet import DRAWN, METRIC, VERDICTS, Item, drawn
from kit.evaluation.statistics import kappa

LEAST_KAPPA = 0.4
"""Below it people do not mean the same by "right" (Landis and Koch 1977: at most fair)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two raters on what both have scored; 判断できない is a verdict of its own."""

    raters: tuple[str, str]
    n: int
    agreed: int
    kappa: float | None
    """None where it cannot be formed: nothing was scored twice, or all of it got the same verdict."""
    interval: tuple[float, float] | None
    """The two-sided 95 % interval of kappa (Wald); None where its standard error is 0, which means too little data."""
    differ: tuple[tuple[Item, str, str], ...] = field(repr=False)
    """What to talk about: the answer, and what each said of it."""

    def __str__(self) -> str:
        first, second = self.raters
        if not self.n:
            return f"{first}と{second}の両方が判定した回答は、まだありません。"
        told = f"{first}と{second}の一致: {self.n} 件のうち {self.agreed} 件（{self.agreed / self.n:.0%}）"
        if self.kappa is None:
            return f"{told}。全件が同じ判定なので、κ係数は求められません。"
        span = "95%区間 {:.2f}〜{:.2f}".format(*self.interval) if self.interval else "区間はまだ求められません"
        told += f"、κ係数 {self.kappa:.2f}（{span}）。"
        if round(self.kappa, 2) < LEAST_KAPPA:
            told += "\n△ 一致が低く、何を正しいとするかの基準が採点者のあいだでそろっていません。食い違った回答を話し合い、手引きを補ってから採点し直してください。"
        return told

    def _repr_html_(self) -> str:
        rows = [(i.id, i.case.question, i.gold, i.answer, one, other) for i, one, other in self.differ]
        header = ("番号", "質問", "正解", "回答", *self.raters)
        return views.paragraphs(str(self)) + (views.table(header, rows, "食い違った回答") if rows else "")


def agreement(run: str | Path) -> list[Agreement]:
    """Compare the first rater of a run with each of the others, on what both have scored so far.

    Raises:
        RunError: Nothing was drawn to be scored.
    """
    evaluation = read_evaluation(run)
    drawing = drawn(evaluation)
    names = {value: name for name, value in VERDICTS.items()}
    said = {(s.key, s.by): names[s.value] for s in scores.read(run) if s.metric == METRIC and s.note != DRAWN}
    first, *others = drawing.terms["raters"]
    found = []
    for other in others:
        keys = [(item, (item.case.id, item.arms[0], METRIC)) for item in drawing.items]
        both = [(i, said[k, first], said[k, other]) for i, k in keys if (k, first) in said and (k, other) in said]
        value, *bounds = kappa([[sum(pair == [row, column] for _, *pair in both) for column in VERDICTS] for row in VERDICTS])
        differ = tuple(pair for pair in both if pair[1] != pair[2])
        interval = None if math.isnan(bounds[0]) else (bounds[0], bounds[1])
        formed = None if math.isnan(value) else value
        found.append(Agreement((first, other), len(both), len(both) - len(differ), formed, interval, differ))
    return found
