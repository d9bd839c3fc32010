"""PoCs side by side: which one first, by what was decided, how surely, at what cost, and with how much time left."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from kit import views
from kit.evaluation.decide import read_decision
from kit.evaluation.metrics import METRICS
from kit.records import Decision, KpiResult
from kit.trust.seal import today

_ORDER = ("GO", "EXTEND", "NO-GO")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one PoC stands."""

    decision: Decision
    binding: KpiResult
    """The gate KPI with the least margin: the one that decides."""
    margin: float
    """How far its bound lies past its bar, in widths of its interval; below 0 it does not, -1 and less misses the bar
    surely, ``-inf`` where there is no bound."""
    yen_per_right: float | None
    """Variable cost of one right response; None where nothing was right."""
    days_left: int | None
    """Days until the sealed deadline, below 0 past it; None without a deadline."""


@dataclass(frozen=True, slots=True)
class Portfolio:
    """PoCs, the most advanced first."""

    standings: tuple[Standing, ...]
    older: tuple[str, ...] = ()
    """Runs that were left out: a newer one of the same PoC is decided."""

    def _repr_html_(self) -> str:
        rows = [
            (
                rank, s.decision.seal.criteria.title, s.decision.outcome, s.binding.kpi.label, *_written(s.binding),
                "不明" if s.yen_per_right is None else _yen(s.yen_per_right), _left(s.days_left), s.decision.folder.name,
            )
            for rank, s in enumerate(self.standings, 1)
        ]  # fmt: skip
        header = ("順位", "PoC", "判定", "決め手のKPI", "区間", "基準", "基準までの余裕", "正しい対応1件の変動費", "期限まで", "実行")
        notes = ["余裕は、区間の不利な端が基準をどれだけ越えたかです（負なら届いていません）。順位は、余裕が区間の幅の何倍かで比べます。"]
        notes += [f"同じPoCの古い実行は除きました: {'、'.join(self.older)}"] * bool(self.older)
        return views.table(header, rows, "PoCの一覧") + views.paragraphs(*notes)


def portfolio(runs: Iterable[str | Path | Decision], *, day: str = "") -> Portfolio:
    """Rank parallel PoCs from their sealed decisions.

    The rule compares one thing after the other, and a later one counts only where all before it are equal:

    1. the decision: GO, EXTEND, NO-GO; an EXTEND past its deadline can become no GO and comes after the others;
    2. the margin of the binding gate KPI, the least one, in widths of its interval, by tenths: a difference within the
       noise of the measurement does not rank, and shares, seconds and yen can be compared;
    3. the variable cost of one right response, less first;
    4. the time left until the deadline, more first, none last but for those past it.

    Points are never compared: a small PoC with a lucky share does not overtake one that is sure of a lower one. Of the
    runs of one PoC, which share project and title or amend each other's seal, the one measured last is ranked.

    Args:
        runs: Decided runs, or what ``read_decision`` returned for them.
        day: ISO date to count the days left from; "" for today.

    Raises:
        RunError: A run is not decided yet.
        SealError: A decision does not follow from its samples, or rows or ledger contradict it.
        LedgerError: The ledger's chain is broken.
    """
    now = date.fromisoformat(day or today())
    newest, older = list[Decision](), list[str]()
    seen: set[str] = set()
    read = (run if isinstance(run, Decision) else read_decision(run) for run in runs)
    for decision in sorted(read, key=lambda decision: str(decision.facts["finished"]), reverse=True):
        known = {poc(decision), decision.seal.sha256}
        if known & seen:
            older.append(decision.folder.name)
        else:
            newest.append(decision)
        seen |= known | {decision.seal.parent} - {""}
    return Portfolio(tuple(sorted((_standing(decision, now) for decision in newest), key=_rank)), tuple(older))


def poc(decision: Decision) -> str:
    """Return by what the runs of one PoC are known: project and title, for many leave the starter's title as it is."""
    project = re.sub(r"^\d{8}-\d{6}-", "", decision.folder.name)
    return f"{project}\n{decision.seal.criteria.title}"


def _standing(decision: Decision, now: date) -> Standing:
    binding = min((r for r in decision.kpis if r.kpi.role == "gate"), key=_margin)
    deadline = decision.seal.criteria.deadline
    yen = decision.facts["points"][decision.arms[-1]].get("yen_per_right")
    return Standing(decision, binding, _margin(binding), yen, (date.fromisoformat(deadline) - now).days if deadline else None)


def _past(result: KpiResult) -> float:
    """Return how far the bound that counts lies past the bar, in the metric's unit."""
    return result.low - result.kpi.bar if METRICS[result.kpi.metric].higher_is_better else result.kpi.bar - result.high


def _written(result: KpiResult) -> tuple[str, str, str]:
    """Write interval, bar, and what the bar is passed by."""
    metric = METRICS[result.kpi.metric]
    low, high, bar = (metric.show(value) for value in (result.low, result.high, result.kpi.bar))
    direction = "以上" if metric.higher_is_better else "以下"
    past = _past(result)
    return f"{low}〜{high}", bar + direction, metric.show(past, signed=True) if math.isfinite(past) else "不明"


def _yen(yen: float) -> str:
    """Write money with two digits that say something, however little it is."""
    return f"{yen:,.{max(2, 1 - math.floor(math.log10(yen))) if yen > 0 else 0}f} 円"


def _margin(result: KpiResult) -> float:
    past, width = _past(result), result.high - result.low
    if not math.isfinite(past):
        return -math.inf
    return past / width if 0 < width < math.inf else math.copysign(math.inf, past) if width == 0 else 0.0


def _rank(standing: Standing) -> tuple[float, ...]:
    outcome, left = standing.decision.outcome, standing.days_left
    late = outcome == "EXTEND" and left is not None and left < 0
    order = _ORDER.index(outcome) if outcome in _ORDER else len(_ORDER)
    margin = standing.margin if math.isinf(standing.margin) else math.floor(standing.margin * 10) / 10
    yen = math.inf if standing.yen_per_right is None else standing.yen_per_right
    return order, late, -margin, yen, 0.5 if left is None else -left


def _left(days: int | None) -> str:
    return "期限なし" if days is None else f"{days} 日" if days >= 0 else f"{-days} 日超過"
