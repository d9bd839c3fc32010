"""QPD, quality per money: what 1,000 yen buy, arm by arm, as a frontier with intervals.

Quality is what was sealed: right responses, inquiries solved at first contact, or minutes saved. Money is machine and
tokens as metered for each question, plus the fixed monthly cost (upkeep, people who tend it) over the agreed volume.
Staff time that answers save is worth, not cost: here it would count twice.

As a KPI that is gated QPD is there already: ``yen_per_right`` in ``evaluation/metrics.py`` is 1,000 / QPD of the metered
cost, so that a bar of at most 100 yen is a QPD of at least 10. The fixed cost is the same for every arm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kit.evaluation import gate
from kit.evaluation.decide import samples
from kit.evaluation.designs import cluster_share_bounds
from kit.evaluation.gate import Sample
from kit.evaluation.metrics import METRICS
from kit.evaluation.resampling import Resampled, Span, levels, resampled
from kit.prices import Prices
from kit.records import Decision
from kit.reporting import energy, wording
from kit.reporting.blocks import Block, Grade, Section, Table, Text
from kit.reporting.charts_qpd import frontier_chart, told
from kit.reporting.wording import Language, plain

QUALITIES = ("right", "first_contact", "minutes_saved")
"""The metrics that can be the quality; the first is scored for every question."""
YEN = 1000.0
"""QPD is told for this much money."""
ALIKE = 1.01
"""Costs whose ratio is smaller are the same: a fixed cost common to all arms leaves differences that nobody pays for."""


@dataclass(frozen=True, slots=True)
class Route:
    """One arm: a way to answer, or a level of effort."""

    arm: str
    quality: Span
    """Of one question: a share, 0–1, or minutes."""
    yen: Span
    """Of one question."""
    qpd: Span
    """For 1,000 yen."""
    efficient: bool
    """Whether no other arm is at least as good for no more money, and better or cheaper."""
    stays: float
    """In which share of the resamples it is, 0–1."""


@dataclass(frozen=True, slots=True)
class Qpd:
    """The arms of a run by what their money buys."""

    metric: str
    """One of ``QUALITIES``."""
    routes: tuple[Route, ...]
    """Baseline first, candidate last."""
    difference: Span | None
    """QPD of the candidate − that of the baseline; None where there is one arm."""
    questions: int
    fixed_yen: float
    """What one question bears of the fixed cost; 0 where no volume was agreed."""
    alpha: float
    """One-sided error of the bounds."""
    grade: Grade


def qpd(decision: Decision) -> Qpd | None:
    """Compute the QPD of every arm of a run; a failed question has quality 0, or the least seen, and keeps its cost.

    Bounds: paired bootstrap, all arms of a question and all questions of a group together (``resampling``); of a share
    at least as wide as ``cluster_share_bounds`` at the mean cost, for a bootstrap sees no failure that did not happen.
    Where the gate counts by two ways of grouping, the wider bound holds.

    Returns:
        None where the samples are not at hand, or an arm cost nothing.
    """
    found = samples(decision)
    metric = quality(decision, found)
    arms = {arm: items for arm, items in found.items() if any(metric in s.scores for s in items)}
    asked = [each for each in zip(*arms.values(), strict=True) if all(metric in s.scores for s in each)]
    fixed, alpha, n = fixed_yen(decision), decision.seal.criteria.alpha, len(arms)
    items = [*zip(*asked, strict=True)]
    if not items or not all(sum(s.yen + fixed for s in each) for each in items):
        return None
    money = [[s.yen + fixed for s in each] for each in items]
    spans, stays = bounds(metric, items, money, alpha)
    best = _efficient(*(np.array([[span.point for span in spans[at : at + n]]]) for at in (0, n)))[0]
    routes = (Route(arm, spans[a], spans[n + a], spans[2 * n + a], bool(best[a]), stays[a]) for a, arm in enumerate(arms))
    return Qpd(metric, tuple(routes), spans[-1] if n > 1 else None, len(asked), fixed, alpha, grade(decision))


def bounds(metric: str, items: Sequence[Sequence[Sample]], money: Sequence[Sequence[float]], alpha: float) -> tuple[list[Span], list[float]]:
    """Return quality, money and QPD of each of n arms and the difference of the last and the first QPD (3n + 1 spans).

    Args:
        metric: The quality.
        items: By arm its samples of the same questions.
        money: What each of them cost, in yen.
        alpha: One-sided error.

    Returns:
        The spans, and by arm the share of the resamples in which it is efficient.
    """
    n, ones = len(items), [1.0] * len(items[0])
    table = np.array([*(gate.values(METRICS[metric], metric, each, best=False) for each in items), *money, ones]).T
    every, stays = list[list[Span]](), list[np.ndarray]()
    for names in levels(items[0]):
        drawn = resampled(table, names)
        every.append(_spans(drawn, table, names, n, alpha, METRICS[metric].kind == "share"))
        stays.append(_efficient(drawn.sums[1:, :n], drawn.sums[1:, n : 2 * n]).mean(axis=0))
    widest = [same[0].wider(min(s.low for s in same), max(s.high for s in same)) for same in zip(*every, strict=True)]
    return widest, [float(share) for share in np.min(stays, axis=0)]


def quality(decision: Decision, found: gate.Samples) -> str:
    """Return the metric that is the quality: of the sealed KPIs, gates first; ``right`` where none of them can be."""
    sealed = sorted(decision.seal.criteria.kpis, key=lambda kpi: kpi.role != "gate")
    scored = {name for sample in found.get(decision.arms[-1], ()) for name in sample.scores}
    return next((kpi.metric for kpi in sealed if kpi.metric in QUALITIES and kpi.metric in scored), QUALITIES[0])


def fixed_yen(decision: Decision) -> float:
    """Return what one question bears of the fixed monthly cost, by the prices of the run; 0 where no volume was agreed."""
    monthly = decision.facts["monthly_questions"]
    return float(decision.facts.get("prices", {}).get("fixed_yen_per_month", 0.0)) / monthly if monthly else 0.0


def grade(decision: Decision) -> Grade:
    """Return the weakest grade among the prices that the money is made of; at best B, for it is computed."""
    kept = decision.facts.get("prices")
    return "C" if not kept or Prices(**kept).grade("machine", "tokens", "fixed") == "C" else "B"


def section(decision: Decision, lang: Language = "ja") -> Section | None:
    """Return the chapter on quality per money and electricity; None where the run does not carry it."""
    if not (found := qpd(decision)):
        return None
    words = wording.words(lang)
    what, unit = words[f"qpd_{found.metric}"], f"qpd_{found.metric}"
    roles = {decision.arms[0]: words["baseline"]} | {decision.arms[-1]: words["candidate"]}
    labels = {arm: plain(label) for arm, label in decision.facts["arm_labels"].items()}
    names = {arm: words["qpd_of"].format(role=roles[arm], name=labels[arm]) if arm in roles else labels[arm] for arm in labels}

    best, share = found.routes[-1].qpd, "share" if METRICS[found.metric].kind == "share" else "amount"
    lead = words["qpd_lead"].format(arm=words["candidate"], what=what, value=wording.quantity([best.point], unit, lang), interval=wording.quantity(best[1:], unit, lang))
    if gap := found.difference:
        kind = "qpd_more" if gap.low > 0 else "qpd_less" if gap.high < 0 else "qpd_open"
        size = gap.point if kind == "qpd_open" else abs(gap.point)
        lead += words[kind].format(gap=wording.quantity([size], unit, lang, signed=kind == "qpd_open"), interval=wording.quantity(gap[1:], unit, lang, signed=True))
    money = words["qpd_money" if found.fixed_yen else "qpd_metered"].format(
        what=what, monthly=f"{decision.facts['monthly_questions']:,.10g}", fixed=wording.quantity([found.fixed_yen], "yen", lang)
    )
    rows = tuple(
        (
            names[r.arm], told(r.quality, share, lang), wording.quantity([r.yen.point], "yen", lang), told(r.qpd, unit, lang),
            words["qpd_yes" if r.efficient else "qpd_no"].format(share=wording.quantity([r.stays], "share", lang, digits=".0f")),
        ) for r in reversed(found.routes)
    )  # fmt: skip
    header = tuple(words[key] for key in ("qpd_arm", f"qpd_chart_{found.metric}", "qpd_yen", "qpd_value", "qpd_efficient"))
    note = words["qpd_note"].format(two=f"{100 - found.alpha * 200:.4g}", n=f"{found.questions:,}")
    blocks: list[Block] = [Text(money, found.grade), Table(header, rows, "lrrrc", words["qpd_table"], note), frontier_chart(found, names, lang)]
    if table := energy.table(decision, samples(decision), names, lang):
        blocks.append(table)
    return Section("qpd", words["qpd_title"], tuple(blocks), lead)


def _spans(drawn: Resampled, table: np.ndarray, names: Sequence[str], n: int, alpha: float, share: bool) -> list[Span]:
    """Return quality, money and QPD of each of n arms, and the difference of the last and the first QPD."""
    good, yen = ([drawn.span(alpha, (1, a, 2 * n)) for a in range(first, first + n)] for first in (0, n))
    bought = [drawn.span(alpha, (YEN, a, n + a)) for a in range(n)]
    gap = drawn.span(alpha, (YEN, n - 1, 2 * n - 1), (-YEN, 0, n))
    for a in range(n) if share else ():
        low, high = cluster_share_bounds(table[:, a].tolist(), names, alpha)
        good[a], bought[a] = good[a].wider(low, high), bought[a].wider(low * YEN / yen[a].point, high * YEN / yen[a].point)
    if gap.low == gap.high:  # nothing varies: they may be as far apart as the bounds of each
        gap = gap.wider(bought[-1].low - bought[0].high, bought[-1].high - bought[0].low)
    return [*good, *yen, *bought, gap]


def _efficient(good: np.ndarray, yen: np.ndarray) -> np.ndarray:
    """Return by draw and arm whether it is efficient (see ``Route``)."""
    at, other, cost, others = good[:, :, None], good[:, None], yen[:, :, None], yen[:, None]
    beaten = (other >= at) & (others <= cost * ALIKE) & ((other > at) | (others * ALIKE < cost))
    return np.asarray(~beaten.any(axis=2))
