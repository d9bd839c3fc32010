"""Quality per money over the quarters of the Japanese fiscal year, with control limits: a KPI to be watched."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from kit.evaluation.decide import samples
from kit.evaluation.gate import Sample
from kit.evaluation.resampling import Span
from kit.records import Decision
from kit.reporting.qpd import bounds, fixed_yen, quality

EARLIER = 4
"""Quarters that a quarter needs before it for control limits: a year."""


@dataclass(frozen=True, slots=True)
class Quarter:
    """The candidate's QPD over a quarter of the Japanese fiscal year, beside the quarters before it."""

    year: int
    """Fiscal year: from April."""
    number: int
    """1–4; the first is April to June."""
    metric: str
    qpd: Span
    questions: int
    runs: int
    low: float
    high: float
    """Control limits; NaN where there are too few quarters before it."""
    outside: bool


def quarters(decisions: Iterable[Decision]) -> tuple[Quarter, ...]:
    """Return the QPD of one PoC's candidate by quarter, all runs of a quarter together.

    Control limits: where the next of like quarters would lie 99 times in 100, by Student's t from those before that were
    inside (mean ± t · sd · sqrt(1 + 1/k), k quarters, from ``EARLIER`` on). Three sigma of an individuals chart would
    call one of 17 unchanged quarters out of control after four, one of 45 after eight (simulated).

    Args:
        decisions: Decided runs of the same PoC, in any order.
    """
    made = sorted(decisions, key=lambda decision: str(decision.facts["finished"]))
    metric = quality(made[-1], samples(made[-1])) if made else ""
    parts: dict[tuple[int, int], list[tuple[Sample, float, Decision]]] = {}
    again = {name for decision in made for name in decision.facts["look"].get("pooled", ())}  # a later look holds its samples
    for decision in (each for each in made if each.folder.name not in again):
        fixed, items = fixed_yen(decision), samples(decision).get(decision.arms[-1], ())
        scored = [(item, item.yen + fixed, decision) for item in items if metric in item.scores]
        parts.setdefault(fiscal_quarter(decision.facts["day"]), []).extend(scored)
    found, inside = list[Quarter](), list[float]()
    for (year, number), scored in parts.items():
        if not sum(yen for _, yen, _ in scored):
            continue
        items, money, of = zip(*scored, strict=True)
        span = bounds(metric, [items], [money], made[-1].seal.criteria.alpha)[0][2]
        low, high = _limits(inside) if len(inside) >= EARLIER else (math.nan, math.nan)
        outside = span.point < low or span.point > high
        found.append(Quarter(year, number, metric, span, len(items), len({*map(id, of)}), low, high, outside))
        inside += [] if outside else [span.point]
    return tuple(found)


def fiscal_quarter(day: str) -> tuple[int, int]:
    """Return fiscal year and quarter of an ISO date: January to March are the fourth quarter of the year before."""
    when = date.fromisoformat(day)
    return when.year - (when.month < 4), (when.month - 4) % 12 // 3 + 1


def _limits(earlier: Sequence[float]) -> tuple[float, float]:
    from scipy.stats import t

    k, center = len(earlier), float(np.mean(earlier))
    reach = float(t.isf(0.005, k - 1) * np.std(earlier, ddof=1)) * math.sqrt(1 + 1 / k)
    return center - reach, center + reach
