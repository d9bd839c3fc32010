"""GO, NO-GO or EXTEND: every KPI's interval against its bar, on the planned number of questions.

GO needs every gate KPI's worst case past its bar, every guardrail held, a complete run and an unchanged seal.
A guardrail never gives NO-GO; one that is surely broken is told apart from one that is not settled.
NO-GO needs a gate KPI whose best case misses the bar (Holm over the KPIs) or a passed deadline. All else is EXTEND.
A failure that the candidate caused counts against it in both cases; infrastructure, judge errors and questions that
were not run count against it in the worst case and for it in the best.
"""

import math
from collections.abc import Callable, Mapping, Sequence
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
        ended = (row.state, row.seconds, row.yen) if row is not None else ("not_run", 0.0, 0.0)
        samples.append(Sample(case.id, *ended, scores))
    return samples


def judge(
    criteria: Criteria, samples: Samples, today: str, *, used: bool = False
) -> tuple[tuple[KpiResult, ...], Outcome, str]:
    """Judge the candidate (the last arm) by the criteria.

    Args:
        criteria: The sealed criteria.
        samples: All arms' samples; the baseline is the first arm where there are two or more.
        today: ISO date of the run's end where it ran, compared with the deadline.
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
            favourable = best and sample.state in OPEN_STATES
            if sample.state == "answered":
                filled.append(sample.seconds if metric.kind == "p95" else sample.scores[name])
            elif metric.kind == "p95":
                filled.append(0.0 if favourable else math.inf)
            else:
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


def _bounds(kpi: Kpi, alpha: float, samples: Sequence[Sample]) -> tuple[float, float, int]:
    """Return (low, high, n): each bound from the case, worst or best, that moves it outward."""
    metric = METRICS[kpi.metric]
    worst = values(metric, kpi.metric, samples, best=False)
    best = values(metric, kpi.metric, samples, best=True)
    lower, upper = (worst, best) if metric.higher_is_better else (best, worst)
    yen = [s.yen for s in samples if kpi.metric in s.scores]
    bounds: dict[str, Callable[[Sequence[float]], tuple[float, float]]] = {
        "share": lambda found: statistics.share_bounds(round(sum(found)), len(found), alpha),
        "p95": lambda found: statistics.quantile_bounds(found, 0.95, alpha),
        "mean": lambda found: statistics.mean_bounds(found, alpha),
        "yen_per_right": lambda found: statistics.ratio_bounds(yen, found, alpha),
    }
    return bounds[metric.kind](lower)[0], bounds[metric.kind](upper)[1], len(worst)


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
        good, bar = (hits, kpi.bar) if metric.higher_is_better else (len(best) - hits, 1 - kpi.bar)
        return statistics.share_p_value_below(good, len(best), bar)
    low, high, n = _bounds(kpi, alpha / tests, samples)
    misses = (high < kpi.bar if metric.higher_is_better else low > kpi.bar) if n else False
    return alpha / tests if misses else 1.0


def _judge(
    kpi: Kpi, alpha: float, candidate: Sequence[Sample], baseline: Sequence[Sample] | None, missed: bool
) -> KpiResult:
    if kpi.role == "guardrail":
        return _judge_guardrail(kpi, alpha, candidate, baseline)
    value = point(kpi.metric, candidate)
    beside = point(kpi.metric, baseline) if baseline is not None else None
    low, high, n = _bounds(kpi, alpha, candidate)
    outcome, reason = _verdict(kpi, low, high, missed)
    needed = 0
    if outcome == "EXTEND" and METRICS[kpi.metric].kind == "share" and value is not None:
        sides = (value, kpi.bar) if METRICS[kpi.metric].higher_is_better else (1 - value, 1 - kpi.bar)
        needed = statistics.questions_needed(*sides, alpha)
    return KpiResult(kpi, n, math.nan if value is None else value, low, high, beside, outcome, reason, needed)


def _verdict(kpi: Kpi, low: float, high: float, missed: bool) -> tuple[Outcome | None, str]:
    """Return what an interval says about a bar, and why."""
    if kpi.role == "info":
        return None, "判定には使いません"
    metric = METRICS[kpi.metric]
    up = metric.higher_is_better
    (near, worst), (far, best) = (("下限", low), ("上限", high)) if up else (("上限", high), ("下限", low))
    if worst >= kpi.bar if up else worst <= kpi.bar:
        return "GO", f"区間の{near}{show(metric, worst)}が基準を満たす"
    if missed:
        return "NO-GO", f"区間の{far}{show(metric, best)}でも基準{'に届かない' if up else 'を超える'}"
    if not math.isfinite(worst):
        return "EXTEND", f"質問が足りないか失敗が多いため区間の{near}が求められず、まだ決められない"
    if best < kpi.bar if up else best > kpi.bar:
        return "EXTEND", "区間は基準を外れるが、複数の基準を同時に見る分を割り引くと（Holm法）、まだ決められない"
    return "EXTEND", f"区間の{near}{show(metric, worst)}が基準{'に届かず' if up else 'を超え'}、まだ決められない"


def _judge_guardrail(
    kpi: Kpi, alpha: float, candidate: Sequence[Sample], baseline: Sequence[Sample] | None
) -> KpiResult:
    """Judge "not worse than the baseline by more than the bar" on paired questions; the figures are differences."""
    metric = METRICS[kpi.metric]
    sign = 1.0 if metric.higher_is_better else -1.0
    worst = [sign * v for v in values(metric, kpi.metric, candidate, best=False)]
    n = len(worst)
    if baseline is None or not n:
        reason = "この指標を測れる質問がない" if baseline else "比較する方式がない"
        return KpiResult(kpi, n, math.nan, -math.inf, math.inf, None, "EXTEND", reason)
    best = [sign * v for v in values(metric, kpi.metric, candidate, best=True)]
    weak = [sign * v for v in values(metric, kpi.metric, baseline, best=False)]
    strong = [sign * v for v in values(metric, kpi.metric, baseline, best=True)]
    low = statistics.paired_difference_bounds(strong, worst, alpha)[0]
    high = statistics.paired_difference_bounds(weak, best, alpha)[1]
    outcome: Outcome = "GO" if low >= -kpi.bar else "EXTEND"
    told = "にある" if outcome == "GO" else "を外れ、まだ決められない"
    reason = f"比較対象との差の下限{show(metric, low, signed=True)}が許容範囲{told}"
    if high < -kpi.bar:
        reason = f"比較対象との差の上限{show(metric, high, signed=True)}でも許容範囲を外れ、安全条件を満たしていない"
    difference, beside = sum(worst) / n - sum(weak) / n, point(kpi.metric, baseline)
    return KpiResult(kpi, n, difference, low, high, beside, outcome, reason)


def is_broken(result: KpiResult) -> bool:
    """Whether a guardrail is surely broken: even its best case is worse than the baseline by more than the bar."""
    return result.kpi.role == "guardrail" and result.high < -result.kpi.bar


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
        shares = f"実行できなかった質問が{open_share:.1%}あり、許容した{criteria.error_budget:.1%}を超えた"
        return "EXTEND", f"{shares}ため、原因を除いてやり直す必要があります。"
    if waiting:
        return "EXTEND", _reason_to_wait(waiting)
    if used:
        return "EXTEND", "同じ質問で別の判定基準による判定が行われているため、GOを出すにはまだ使っていない質問が必要です。"
    return "GO", "すべての基準を、最も不利に見積もっても満たしています。"


def _reason_to_wait(waiting: Sequence[KpiResult]) -> str:
    broken = [r for r in waiting if is_broken(r)]
    names = "、".join(f"「{r.kpi.label}」" for r in broken or waiting)
    if broken:
        why = f"{names}が、最も有利に見積もっても比較対象より許容範囲を超えて悪く、安全条件を満たしていません。"
        return f"{why}質問を増やしても変わらないため、候補を直し、まだ使っていない質問で測り直す必要があります。"
    needed = max(r.needed for r in waiting)
    more = f"（いまの実測値が実力なら、対象の質問が約{needed:,}問あれば8割の確率で決着します）" if needed else ""
    return f"{names}は、今回の結果からは基準を満たすとも満たさないとも言い切れません{more}。"


def show(metric: Metric, value: float, *, signed: bool = False) -> str:
    """Write a value as a Japanese reader expects it: shares in percent, times in seconds, money in yen."""
    sign = "+" if signed else ""
    if not math.isfinite(value):
        return "求められません"
    written = {
        "share": f"{value * 100:{sign}.1f}{'ポイント' if signed else '%'}",
        "p95": f"{value:{sign}.2f}秒",
        "mean": f"{value:{sign}.3f}",
        "yen_per_right": f"{value:{sign},.2f}円",
    }
    return written[metric.kind]
