"""GO, NO-GO or EXTEND: every KPI's interval against its bar, on the planned number of questions.

GO needs every gate KPI's worst case past its bar, every guardrail held, a complete run and an unchanged seal.
NO-GO needs a gate KPI whose best case misses the bar (Holm over the KPIs) or a passed deadline. All else is EXTEND.
A failure that the candidate caused counts against it in both cases; infrastructure, judge errors and questions that
were not run count against it in the worst case and for it in the best.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kit.evaluation import statistics
from kit.evaluation.metrics import METRICS, Metric
from kit.records import OPEN_STATES, Case, Criteria, Kpi, KpiResult, Outcome, Row


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of one arm, reduced to what the gate needs."""

    case: str
    state: str
    seconds: float
    yen: float
    scores: dict[str, float]
    """Metric → value, for every metric that applies to the question; of an answered sample only the real score."""


Samples = Mapping[str, Sequence[Sample]]
"""Arm → its samples, one per planned question in the order of the questions."""


def score(cases: Sequence[Case], rows: Mapping[str, Row]) -> list[Sample]:
    """Score one arm: one sample per planned question, "not_run" where there is no row."""
    samples = []
    for case in cases:
        row = rows.get(case.id)
        scores = {
            name: metric.score(case, row) if row is not None and row.state == "answered" else math.nan
            for name, metric in METRICS.items()
            if metric.applies(case)
        }
        if row is None:
            samples.append(Sample(case.id, "not_run", 0.0, 0.0, scores))
        else:
            samples.append(Sample(case.id, row.state, row.seconds, row.yen, scores))
    return samples


def judge(
    criteria: Criteria, samples: Samples, today: str, *, used: bool = False
) -> tuple[tuple[KpiResult, ...], Outcome, str]:
    """Judge the candidate (the last arm) by the criteria.

    Args:
        criteria: The sealed criteria.
        samples: All arms' samples; the baseline is the first arm where there are two or more.
        today: ISO date of the run's end, compared with the deadline.
        used: Whether the questions led to a decision under other criteria before; they can then give no GO.

    Returns:
        The judged KPIs, the outcome, and one Japanese sentence of reason.
    """
    arms = list(samples)
    candidate = samples[arms[-1]]
    baseline = samples[arms[0]] if len(arms) > 1 else None
    missed = _missed(criteria, candidate)
    results = tuple(_judge(kpi, criteria.alpha, candidate, baseline, kpi in missed) for kpi in criteria.kpis)
    open_share = sum(s.state in OPEN_STATES for s in candidate) / max(1, len(candidate))
    return results, *_outcome(criteria, results, open_share, today, used)


def values(metric: Metric, name: str, samples: Sequence[Sample], *, best: bool) -> list[float]:
    """Return one value per question that counts, failures filled in for the worst or the best case."""
    filled = []
    for sample in samples:
        if name in sample.scores:
            if metric.kind == "p95":
                filled.append(_seconds(sample, best))
            elif sample.state == "answered":
                filled.append(sample.scores[name])
            else:
                favourable = best and sample.state in OPEN_STATES
                more_is_good = metric.higher_is_better or metric.kind == "yen_per_right"  # there, of the right answers
                filled.append(float(favourable == more_is_good))
    return filled


def point(name: str, samples: Sequence[Sample]) -> float | None:
    """Return the observed value of a metric, failures counted against the arm; None where it cannot be formed."""
    metric = METRICS[name]
    found = values(metric, name, samples, best=False)
    if not found:
        return None
    if metric.kind == "p95":
        ordered = sorted(found)
        value = ordered[math.ceil(0.95 * len(ordered)) - 1]
        return value if math.isfinite(value) else None
    if metric.kind == "yen_per_right":
        return sum(s.yen for s in samples) / sum(found) if sum(found) else None
    return sum(found) / len(found)


def _seconds(sample: Sample, best: bool) -> float:
    if sample.state == "answered":
        return sample.seconds
    return 0.0 if best and sample.state in OPEN_STATES else math.inf


def _bounds(kpi: Kpi, alpha: float, samples: Sequence[Sample]) -> tuple[float, float, int]:
    """Return (low, high, n): each bound from the case, worst or best, that moves it outward."""
    metric = METRICS[kpi.metric]
    worst = values(metric, kpi.metric, samples, best=False)
    best = values(metric, kpi.metric, samples, best=True)
    lower, upper = (worst, best) if metric.higher_is_better else (best, worst)
    if metric.kind == "share":
        low = statistics.share_bounds(round(sum(lower)), len(lower), alpha)[0]
        high = statistics.share_bounds(round(sum(upper)), len(upper), alpha)[1]
    elif metric.kind == "p95":
        low = statistics.quantile_bounds(lower, 0.95, alpha)[0]
        high = statistics.quantile_bounds(upper, 0.95, alpha)[1]
    elif metric.kind == "mean":
        low = statistics.mean_bounds(lower, alpha)[0]
        high = statistics.mean_bounds(upper, alpha)[1]
    else:
        yen = [s.yen for s in samples if kpi.metric in s.scores]
        low = statistics.ratio_bounds(yen, best, alpha)[0]
        high = statistics.ratio_bounds(yen, worst, alpha)[1]
    return low, high, len(worst)


def _missed(criteria: Criteria, samples: Sequence[Sample]) -> list[Kpi]:
    """Return the gate KPIs whose best case misses the bar, by Holm over all of them."""
    gates = [kpi for kpi in criteria.kpis if kpi.role == "gate"]
    p_values = [_p_value(kpi, criteria.alpha, samples, len(gates)) for kpi in gates]
    rejected = statistics.holm_rejects(p_values, criteria.alpha)
    return [kpi for kpi, out in zip(gates, rejected, strict=True) if out]


def _p_value(kpi: Kpi, alpha: float, samples: Sequence[Sample], tests: int) -> float:
    """Return the p-value against "the bar is met" in the best case; exact for shares.

    Other kinds have bounds but no p-value: their bound at alpha / tests (Bonferroni, which Holm accepts) decides.
    """
    metric = METRICS[kpi.metric]
    if metric.kind == "share":
        best = values(metric, kpi.metric, samples, best=True)
        hits = round(sum(best))
        if metric.higher_is_better:
            return statistics.share_p_value_below(hits, len(best), kpi.bar)
        return statistics.share_p_value_below(len(best) - hits, len(best), 1 - kpi.bar)
    low, high, n = _bounds(kpi, alpha / tests, samples)
    misses = (high < kpi.bar if metric.higher_is_better else low > kpi.bar) if n else False
    return alpha / tests if misses else 1.0


def _judge(
    kpi: Kpi, alpha: float, candidate: Sequence[Sample], baseline: Sequence[Sample] | None, missed: bool
) -> KpiResult:
    metric = METRICS[kpi.metric]
    value = point(kpi.metric, candidate)
    beside = point(kpi.metric, baseline) if baseline is not None else None
    low, high, n = _bounds(kpi, alpha, candidate)
    if kpi.role == "info":
        return KpiResult(kpi, n, _nan(value), low, high, beside, None, "参考値（判定には使いません）")
    if kpi.role == "guardrail":
        return _judge_guardrail(kpi, alpha, candidate, baseline, n)
    passed = low >= kpi.bar if metric.higher_is_better else high <= kpi.bar
    bound, verb = ("下限", "に届かず") if metric.higher_is_better else ("上限", "を超え")
    edge = show(metric, low if metric.higher_is_better else high)
    if passed:
        return KpiResult(kpi, n, _nan(value), low, high, beside, "GO", f"区間の{bound}{edge}が基準を満たす")
    if missed:
        other, far = ("上限", high) if metric.higher_is_better else ("下限", low)
        reason = f"区間の{other}{show(metric, far)}でも基準{'に届かない' if metric.higher_is_better else 'を超える'}"
        return KpiResult(kpi, n, _nan(value), low, high, beside, "NO-GO", reason)
    needed = 0
    if metric.kind == "share" and value is not None:
        needed = (
            statistics.questions_needed(value, kpi.bar, alpha)
            if metric.higher_is_better
            else statistics.questions_needed(1 - value, 1 - kpi.bar, alpha)
        )
    reason = f"区間の{bound}{edge}が基準{verb}、まだ決められない"
    if not math.isfinite(low if metric.higher_is_better else high):
        reason = f"質問が足りないか失敗が多いため区間の{bound}が求められず、まだ決められない"
    return KpiResult(kpi, n, _nan(value), low, high, beside, "EXTEND", reason, needed)


def _judge_guardrail(
    kpi: Kpi, alpha: float, candidate: Sequence[Sample], baseline: Sequence[Sample] | None, n: int
) -> KpiResult:
    """Judge "not worse than the baseline by more than the bar" on paired questions; the figures are differences."""
    metric = METRICS[kpi.metric]
    if baseline is None or not n:
        reason = "この指標を測れる質問がない" if baseline else "比較する方式がない"
        return KpiResult(kpi, n, math.nan, -math.inf, math.inf, None, "EXTEND", reason)
    sign = 1.0 if metric.higher_is_better else -1.0
    worst = [sign * v for v in values(metric, kpi.metric, candidate, best=False)]
    best = [sign * v for v in values(metric, kpi.metric, candidate, best=True)]
    weak = [sign * v for v in values(metric, kpi.metric, baseline, best=False)]
    strong = [sign * v for v in values(metric, kpi.metric, baseline, best=True)]
    low = statistics.paired_difference_bounds(strong, worst, alpha)[0]
    high = statistics.paired_difference_bounds(weak, best, alpha)[1]
    difference = sum(worst) / n - sum(weak) / n
    beside = point(kpi.metric, baseline)
    if low >= -kpi.bar:
        reason = f"比較対象との差の下限{show(metric, low, signed=True)}が許容範囲にある"
        return KpiResult(kpi, n, difference, low, high, beside, "GO", reason)
    reason = f"比較対象との差の下限{show(metric, low, signed=True)}が許容範囲を外れる"
    return KpiResult(kpi, n, difference, low, high, beside, "EXTEND", reason)


def _outcome(
    criteria: Criteria, results: Sequence[KpiResult], open_share: float, today: str, used: bool
) -> tuple[Outcome, str]:
    missed = [r for r in results if r.outcome == "NO-GO"]
    waiting = [r for r in results if r.outcome == "EXTEND"]
    if missed:
        names = "、".join(f"「{r.kpi.label}」" for r in missed)
        return "NO-GO", f"{names}が、最も有利に見積もっても基準を満たしません。"
    if criteria.deadline and today > criteria.deadline:
        return "NO-GO", f"判定の期限（{criteria.deadline}）を過ぎたため、事前の取り決めにより撤退とします。"
    if open_share > criteria.error_budget:
        return "EXTEND", (
            f"実行できなかった質問が{open_share:.1%}あり、許容した{criteria.error_budget:.1%}を超えたため、"
            "原因を除いてやり直す必要があります。"
        )
    if waiting:
        names = "、".join(f"「{r.kpi.label}」" for r in waiting)
        needed = max(r.needed for r in waiting)
        more = f"（いまの実測値が実力なら、対象の質問が約{needed:,}問あれば8割の確率で決着します）" if needed else ""
        return "EXTEND", f"{names}は、今回の結果からは基準を満たすとも満たさないとも言い切れません{more}。"
    if used:
        return "EXTEND", (
            "同じ質問で、別の判定基準による判定がすでに行われているため、GOを出すにはまだ使っていない質問が必要です。"
        )
    return "GO", "すべての基準を、最も不利に見積もっても満たしています。"


def show(metric: Metric, value: float, *, signed: bool = False) -> str:
    """Write a value as a Japanese reader expects it: shares in percent, times in seconds, money in yen."""
    sign = "+" if signed else ""
    if not math.isfinite(value):
        return "求められません"
    if metric.kind in ("share",):
        return f"{value * 100:{sign}.1f}%"
    if metric.kind == "p95":
        return f"{value:{sign}.2f}秒"
    if metric.kind == "yen_per_right":
        return f"{value:{sign},.2f}円"
    return f"{value:{sign}.3f}"


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
