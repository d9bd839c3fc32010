"""What the candidate gained and lost against the baseline, question by question. Tells, but never decides."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kit import views
from kit.evaluation import gate, looks
from kit.evaluation.metrics import METRICS
from kit.evaluation.runs import as_evaluation
from kit.records import Evaluation, Kpi, KpiResult
from kit.trust import ledger


@dataclass(frozen=True, slots=True)
class Pair:
    """One share of both arms on the same questions; well means 1, or 0 where less is better."""

    result: KpiResult
    """``point``, ``low`` and ``high`` are candidate − baseline (−1 to 1), more than 0 where the candidate does better."""
    both: int
    """Questions that both arms did well on."""
    gained: int
    """Questions that only the candidate did well on."""
    lost: int
    """Questions that only the baseline did well on."""
    neither: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """The shares among the criteria's KPIs, each once, in their order."""

    pairs: tuple[Pair, ...] = field(repr=False)

    def _repr_html_(self) -> str:
        rows = [
            (p.result.kpi.label, f"{_points(p.result.point)}ポイント", f"{_points(p.result.low)}〜{_points(p.result.high)}",
             p.both, p.gained, p.lost, p.neither) for p in self.pairs
        ]  # fmt: skip
        head = ("KPI", "差（＋は候補が良い）", "区間", "両方とも良い", "候補だけ良い", "比較対象だけ良い", "どちらも良くない")
        return views.table(head, rows) if rows else views.paragraphs("比べる相手がないか、割合の KPI がありません。")


def compare(evaluation: Evaluation | str | Path) -> Pairs:
    """Compare candidate and baseline, paired by question, with the interval of a guardrail at the alpha of the run's look.

    Where the decision pools this look with earlier ones, this is still the run's questions alone.

    Args:
        evaluation: The run, or its folder. With one arm there is nothing to compare.
    """
    evaluation = as_evaluation(evaluation)
    agreed, arms = evaluation.seal.criteria, (evaluation.arms[0], evaluation.arms[-1])
    shares = [kpi for kpi in agreed.kpis if METRICS[kpi.metric].kind == "share" and METRICS[kpi.metric].scored_by == "kit"]
    once: dict[str, Kpi] = {}
    for kpi in shares:  # the first to name a metric gives it its label
        once.setdefault(kpi.metric, replace(kpi, role="guardrail"))
    if arms[0] == arms[1] or not once:
        return Pairs(())
    samples = {arm: gate.score(evaluation.cases, evaluation.of(arm)) for arm in arms}
    look = looks.of_run(evaluation.folder.name, evaluation.folder.parent / ledger.NAME)
    results, _, _ = gate.judge(replace(agreed, kpis=tuple(once.values()), deadline=""), samples, "", alpha=look.alpha)
    return Pairs(tuple(_pair(result, *samples.values()) for result in results if result.n))


def _points(share: float) -> str:
    return f"{share * 100:+.1f}".replace("-", "−")


def _pair(result: KpiResult, baseline: Sequence[gate.Sample], candidate: Sequence[gate.Sample]) -> Pair:
    name = result.kpi.metric
    good = float(METRICS[name].higher_is_better)
    before, after = ([v == good for v in gate.values(METRICS[name], name, arm, best=False)] for arm in (baseline, candidate))
    seen = Counter(zip(before, after, strict=True))
    return Pair(result, seen[True, True], seen[False, True], seen[True, False], seen[False, False])
