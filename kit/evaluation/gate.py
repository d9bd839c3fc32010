"""GO, NO-GO or EXTEND: every KPI's interval against its bar, on the planned number of questions.

GO needs every gate KPI's worst case past its bar, every guardrail held, a complete run and an unchanged seal.
A guardrail never gives NO-GO; one that is surely broken is told apart from one that is not settled.
NO-GO needs a gate KPI whose best case misses the bar (Holm over the KPIs), or what was agreed as a reason to withdraw:
deadline, money, policy violations, a last look without a result. All else is EXTEND.
A failure that the candidate caused counts against it in both cases; infrastructure, judge errors and questions that
were not run count against it in the worst case and for it in the best.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kit.evaluation import designs, statistics
from kit.evaluation.metrics import METRICS, Metric, measure
from kit.records import OPEN_STATES, Case, Criteria, Kpi, KpiResult, Outcome, Row


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of one arm, reduced to what the gate needs."""

    case: str
    state: str
    seconds: float
    yen: float
    scores: dict[str, float]
    """Metric → value, for every metric that applies to the question; of an answered sample only the real score, NaN where
    people or a judge were asked for one and gave none."""
    group: str = ""
    """The document that the answer stands in and, after a newline, the place: see ``designs.groupings``."""


_HALVINGS = 20
"""A p-value is found to 0.5 / 2^20, from above: never smaller than it is."""
LEAST = {"amount": statistics.AMOUNT_LEAST, "yen_per_right": statistics.YEN_LEAST, "judged": designs.LABELS}
"""Fewest questions from which on a gate KPI of this kind has bounds; of a judged one, as many that people labelled."""
Given = Mapping[tuple[str, str], float | None]
_UNASKED: Any = object()
Samples = Mapping[str, Sequence[Sample]]
"""Arm → its samples, one per planned question in the order of the questions."""


def score(
    cases: Sequence[Case], rows: Mapping[str, Row], given: Given | None = None, *, named: Collection[str] = ()
) -> list[Sample]:
    """Score one arm: one sample per planned question, "not_run" where there is no row.

    Args:
        cases: The planned questions.
        rows: Case id → row.
        given: (case, metric) → what people or a judge said of this arm's answer, None where they were asked and gave no
            score; what they were not asked about is not there.
        named: Metrics that KPIs name: the costly ones are computed for these only.
    """
    samples, groups = [], grouped(cases)
    judged = {name for _, name in given or {} if name in METRICS and METRICS[name].scored_by == "judge"}
    for case in cases:
        row = rows.get(case.id)
        scores = measure(case, row, named)
        others = ((name, (given or {}).get((case.id, name), _UNASKED)) for name, metric in METRICS.items() if metric.scored_by != "kit")
        scores |= {name: math.nan if value is None else value for name, value in others if value is not _UNASKED}
        scores = {name: math.nan for name in judged} | scores  # a judge is asked about every answer
        ended = (row.state, row.seconds, row.yen) if row is not None else ("not_run", 0.0, 0.0)
        samples.append(Sample(case.id, *ended, scores, groups[case.id]))
    return samples


def grouped(cases: Sequence[Case]) -> dict[str, str]:
    """Return by case id what questions may be alike by: document and place of the first evidence; "" where there is none.

    Which of the two counts is told by all questions that are judged together (``designs.groupings``), pooled looks too.
    """
    return {case.id: f"{case.evidence[0].document}\n{case.evidence[0].place.label}" if case.evidence else "" for case in cases}


def judge(
    criteria: Criteria, samples: Samples, today: str, *,
    alpha: float = 0.0, last: bool = False, spent_yen: float = 0.0, used: bool = False,
) -> tuple[tuple[KpiResult, ...], Outcome, str]:  # fmt: skip
    """Judge the candidate (the last arm) by the criteria.

    Args:
        criteria: The sealed criteria.
        samples: All arms' samples; the baseline is the first arm where there are two or more.
        today: ISO date of the run's end where it ran, compared with the deadline.
        alpha: One-sided error of this look; 0 takes the whole of what was agreed.
        last: Whether it is the last look agreed: there is nothing to extend to.
        spent_yen: What all runs under these criteria have cost, this one included.
        used: Whether the questions led to a decision under other criteria before; they can then give no GO.

    Returns:
        The judged KPIs, the outcome, and one Japanese sentence of reason.
    """
    arms = list(samples)
    alpha = alpha or criteria.alpha
    candidate = samples[arms[-1]]
    baseline = samples[arms[0]] if len(arms) > 1 else None
    missed = _missed(criteria, alpha, candidate)
    results = tuple(_judge(kpi, alpha, candidate, baseline, kpi in missed) for kpi in criteria.kpis)
    lost = _open_share(criteria, candidate)
    if baseline and any(kpi.role == "guardrail" for kpi in criteria.kpis):  # beside a baseline that fails anything looks good
        lost = max(lost, sum(s.state != "answered" for s in baseline) / len(baseline))
    outcome, reason = _outcome(criteria, results, lost, today, used)
    if outcome != "NO-GO" and (why := _withdrawal(criteria, candidate, spent_yen)):
        return results, "NO-GO", why
    if outcome == "EXTEND" and last:
        return results, "NO-GO", f"最後の判定でも決まりませんでした。{reason}事前の取り決めにより撤退とします。"
    return results, outcome, reason


def _open_share(criteria: Criteria, candidate: Sequence[Sample]) -> float:
    """Return the share of questions that nobody can blame the candidate for not having answered, or judged."""
    gates = [kpi.metric for kpi in criteria.kpis if kpi.role == "gate"]
    unjudged = (any(s.state == "answered" and math.isnan(s.scores.get(name, 0.0)) for name in gates) for s in candidate)
    return sum(s.state in OPEN_STATES or none for s, none in zip(candidate, unjudged, strict=True)) / max(1, len(candidate))


def _withdrawal(criteria: Criteria, candidate: Sequence[Sample], spent_yen: float) -> str:
    """Return why to withdraw whatever the KPIs say, "" where there is no reason."""
    if 0 < criteria.budget_yen < spent_yen:
        return f"変動費の合計が{spent_yen:,.0f}円になり、上限の{criteria.budget_yen:,.0f}円を超えたため、事前の取り決めにより撤退とします。"
    hits = sum(sample.scores.get("policy_violation") == 1.0 for sample in candidate)
    if 0 <= criteria.safety_hits < hits:
        return f"示してはならない内容を含む回答が{hits}件あり、許容した{criteria.safety_hits}件を超えたため、事前の取り決めにより撤退とします。"
    return ""


def values(metric: Metric, name: str, samples: Sequence[Sample], *, best: bool) -> list[float]:
    """Return one value per question that counts, failures filled in for the worst or the best case."""
    filled = []
    for sample in samples:
        if name in sample.scores:
            answered = sample.state == "answered"
            favourable = best and (answered or sample.state in OPEN_STATES)
            if answered and metric.kind == "p95":
                filled.append(sample.seconds)
            elif answered and not math.isnan(sample.scores[name]):
                filled.append(sample.scores[name])
            elif metric.kind == "p95":
                filled.append(0.0 if favourable else math.inf)
            elif metric.kind == "amount":  # has no limits: the least, or the most, that was seen
                seen = [s.scores[name] for s in samples if not math.isnan(s.scores.get(name, math.nan))] or [0.0]
                filled.append(max(seen) if favourable else min([0.0, *seen]))
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
    if metric.kind == "judged":
        return designs.judged_share(*_verdicts(samples, name, best=False))
    return sum(found) / len(found)


def _verdicts(samples: Sequence[Sample], name: str, *, best: bool) -> tuple[list[float], list[float]]:
    """Return the judge's verdict and the label of people for each question, NaN where there is none.

    Where there is no verdict the label stands for the whole truth: that of people, or the worst or best case. A label
    that was drawn and left blank, or 判断できない, is the worst or best case too: else who leaves the wrong ones out
    raises the share. What was not drawn has no label.
    """
    pairs = []
    for sample in samples:
        verdict, label = sample.scores[name], sample.scores.get("right_by_people", math.nan)
        if sample.state != "answered":
            verdict, label = math.nan, float(best and sample.state in OPEN_STATES)
        elif math.isnan(label) and ("right_by_people" in sample.scores or math.isnan(verdict)):
            label = float(best)
        pairs.append((verdict, label))
    return [verdict for verdict, _ in pairs], [label for _, label in pairs]


def _levels(name: str, samples: Sequence[Sample]) -> list[list[str]]:
    return designs.groupings([s.group for s in samples if name in s.scores])[0]


def _bounds(kpi: Kpi, samples: Sequence[Sample]) -> tuple[Callable[[float], tuple[float, float]], int]:
    """Return alpha → (low, high), and n: each bound from the case, worst or best, that moves it outward.

    What does not hang on alpha is computed only once.
    """
    metric = METRICS[kpi.metric]
    sides = metric.higher_is_better, not metric.higher_is_better  # whether the upper bound is that of the best case
    found = [values(metric, kpi.metric, samples, best=best) for best in sides[::-1]]
    n, levels = len(found[0]), _levels(kpi.metric, samples)
    if not n or (kpi.role == "gate" and n < LEAST.get(metric.kind, 0)):
        none = (0.0, 1.0) if metric.kind in ("share", "mean", "judged") else (-math.inf, math.inf)
        return lambda alpha: none, n
    if metric.kind == "judged":
        least, most = (_verdicts(samples, kpi.metric, best=best) for best in (False, True))
        settled = [low if low == high else math.nan for low, high in zip(least[1], most[1], strict=True)]
        if designs.labelled(least[0], settled) < designs.LABELS:
            return lambda alpha: (0.0, 1.0), n
        judged = [_judged_bounds(*side, levels) for side in (least, most)]
        return lambda alpha: (judged[0](alpha)[0], judged[1](alpha)[1]), n
    yen = [s.yen for s in samples if kpi.metric in s.scores]
    lower, upper = (_side(kpi, metric, side, yen, levels) for side in found)
    return lambda alpha: (lower(alpha)[0], upper(alpha)[1]), n


def _side(
    kpi: Kpi, metric: Metric, found: Sequence[float], yen: Sequence[float], levels: list[list[str]]
) -> Callable[[float], tuple[float, float]]:
    """Return the bounds, by alpha, of one case's values; for each kind with what grouping costs it."""
    n, total = len(found), sum(found)
    ratio = sum(yen) / total if metric.kind == "yen_per_right" and total else math.nan
    varying: Sequence[float] = found
    if metric.kind == "p95":
        varying = [float(value <= kpi.bar) for value in found]
    elif metric.kind == "yen_per_right" and total:
        varying = [y - ratio * right for y, right in zip(yen, found, strict=True)]
    wider = designs.widening(varying, levels)

    def of_ratio(alpha: float) -> tuple[float, float]:
        plain = statistics.ratio_bounds(yen, found, alpha)
        if not math.isfinite(plain[1]):  # all may be wrong: there is no upper bound
            return plain
        low, high = designs.widened_bounds(plain, ratio, wider(alpha))
        return max(0.0, low), high

    return {
        "share": lambda alpha: designs.widened_share_bounds(total, n, wider(alpha), alpha),
        "mean": lambda alpha: designs.widened_bounds(statistics.mean_bounds(found, alpha), total / n, wider(alpha)),
        "amount": lambda alpha: designs.widened_bounds(statistics.amount_bounds(found, alpha), total / n, wider(alpha)),
        "p95": lambda alpha: designs.widened_quantile_bounds(found, 0.95, wider(alpha), alpha),
        "yen_per_right": of_ratio,
    }[metric.kind]


def _judged_bounds(judge: Sequence[float], human: Sequence[float], levels: list[list[str]]) -> Callable[[float], tuple[float, float]]:
    wider = designs.widening(designs.judged_influence(judge, human), levels)
    return lambda alpha: designs.judged_bounds(judge, human, alpha, factor=wider(alpha))


def _missed(criteria: Criteria, alpha: float, samples: Sequence[Sample]) -> list[Kpi]:
    """Return the gate KPIs whose best case misses the bar, by Holm over all of them."""
    gates = [kpi for kpi in criteria.kpis if kpi.role == "gate"]
    p_values = [_p_value(kpi, alpha, samples, len(gates)) for kpi in gates]
    rejected = statistics.holm_rejects(p_values, alpha)
    return [kpi for kpi, out in zip(gates, rejected, strict=True) if out]


def _p_value(kpi: Kpi, alpha: float, samples: Sequence[Sample], tests: int) -> float:
    """Return the p-value against "the bar is met" in the best case: the least alpha at which the interval misses the bar.

    Only shares have bounds quick enough to try; all else is decided by its bound at alpha / tests (Bonferroni, which
    Holm accepts).
    """
    up = METRICS[kpi.metric].higher_is_better
    bounds, n = _bounds(kpi, samples)

    def misses(at: float) -> bool:
        low, high = bounds(at)
        return bool(n) and (high < kpi.bar if up else low > kpi.bar)

    if METRICS[kpi.metric].kind != "share":
        return alpha / tests if misses(alpha / tests) else 1.0
    least, most = 0.0, 0.5
    for _ in range(_HALVINGS if misses(most) else 0):
        middle = (least + most) / 2
        least, most = (least, middle) if misses(middle) else (middle, most)
    return most if misses(most) else 1.0


def _judge(
    kpi: Kpi, alpha: float, candidate: Sequence[Sample], baseline: Sequence[Sample] | None, missed: bool
) -> KpiResult:
    if kpi.role == "guardrail":
        return _judge_guardrail(kpi, alpha, candidate, baseline)
    value = point(kpi.metric, candidate)
    beside = point(kpi.metric, baseline) if baseline is not None else None
    bounds, n = _bounds(kpi, candidate)
    low, high = bounds(alpha)
    outcome, reason = _verdict(kpi, n, low, high, missed)
    needed = 0
    if outcome == "EXTEND" and METRICS[kpi.metric].kind == "share" and value is not None:
        sides = (value, kpi.bar) if METRICS[kpi.metric].higher_is_better else (1 - value, 1 - kpi.bar)
        wider = designs.widening(values(METRICS[kpi.metric], kpi.metric, candidate, best=False), _levels(kpi.metric, candidate))(alpha)
        alone = statistics.questions_needed(*sides, alpha)
        needed = math.ceil(alone * wider) if math.isfinite(wider) else 0  # if they go on sharing documents as now
    _, note = designs.groupings([s.group for s in candidate if kpi.metric in s.scores])
    reason = f"{reason}（{note.rstrip('。')}）" if note and kpi.role == "gate" else reason
    return KpiResult(kpi, n, math.nan if value is None else value, low, high, beside, outcome, reason, needed)


def _verdict(kpi: Kpi, n: int, low: float, high: float, missed: bool) -> tuple[Outcome | None, str]:
    """Return what an interval says about a bar, and why."""
    if kpi.role == "info":
        return None, "判定には使いません"
    metric = METRICS[kpi.metric]
    up = metric.higher_is_better
    (near, worst), (far, best) = (("下限", low), ("上限", high)) if up else (("上限", high), ("下限", low))
    if worst >= kpi.bar if up else worst <= kpi.bar:
        return "GO", f"区間の{near}{metric.show(worst)}が基準を満たす"
    if missed:
        return "NO-GO", f"区間の{far}{metric.show(best)}でも基準{'に届かない' if up else 'を超える'}"
    if not n and metric.scored_by != "kit":
        return "EXTEND", "採点がまだない（`kit score 実行フォルダ` で採点シートを作れます）"
    if metric.kind == "judged" and (low, high) == (0.0, 1.0):
        return "EXTEND", f"人の採点が{designs.LABELS}件に満たず、LLMの判定だけでは決められない"
    if n < LEAST.get(metric.kind, 0):
        return "EXTEND", f"質問が{n}件で、この指標の判定に必要な{LEAST[metric.kind]}件に満たず、まだ決められない"
    if not math.isfinite(worst):
        return "EXTEND", f"質問が足りないか失敗が多いため区間の{near}が求められず、まだ決められない"
    if best < kpi.bar if up else best > kpi.bar:
        return "EXTEND", "区間は基準を外れるが、複数の基準を同時に見る分を割り引くと（Holm法）、まだ決められない"
    return "EXTEND", f"区間の{near}{metric.show(worst)}が基準{'に届かず' if up else 'を超え'}、まだ決められない"


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
    levels = _levels(kpi.metric, candidate)
    low = _paired_bounds(strong, worst, levels, alpha)[0]
    high = _paired_bounds(weak, best, levels, alpha)[1]
    outcome: Outcome = "GO" if low >= -kpi.bar else "EXTEND"
    told = "にある" if outcome == "GO" else "を外れ、まだ決められない"
    reason = f"比較対象との差の下限{metric.show(low, signed=True)}が許容範囲{told}"
    if high < -kpi.bar:
        reason = f"比較対象との差の上限{metric.show(high, signed=True)}でも許容範囲を外れ、安全条件を満たしていない"
    difference, beside = sum(worst) / n - sum(weak) / n, point(kpi.metric, baseline)
    return KpiResult(kpi, n, difference, low, high, beside, outcome, reason)


def _paired_bounds(
    first: Sequence[float], second: Sequence[float], levels: list[list[str]], alpha: float
) -> tuple[float, float]:
    """Return bounds of the mean difference, widened by what questions have in common."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    plain = statistics.paired_difference_bounds(first, second, alpha)
    return designs.widened_bounds(plain, sum(differences) / len(differences), designs.widening(differences, levels)(alpha))


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
        return "EXTEND", f"実行できなかった質問が{open_share:.1%}あり、許容した{criteria.error_budget:.1%}を超えたため、原因を除いてやり直す必要があります。"
    if waiting:
        return "EXTEND", _reason_to_wait(waiting)
    if used:
        return "EXTEND", "同じ質問で別の判定基準による判定が行われているため、GOを出すにはまだ使っていない質問が必要です。"
    return "GO", "すべての基準を、最も不利に見積もっても満たしています。"


def _quoted(result: KpiResult) -> str:
    """Name a KPI; a guardrail with its figures, for its label is often that of a KPI that is met."""
    if result.kpi.role != "guardrail" or not math.isfinite(result.low):
        return f"「{result.kpi.label}」"
    low, high, bar = (METRICS[result.kpi.metric].show(value, signed=True) for value in (result.low, result.high, -result.kpi.bar))
    return f"「{result.kpi.label}：安全条件（比較対象との差）」（区間 {low}〜{high}、許容は{bar}まで）"


def _reason_to_wait(waiting: Sequence[KpiResult]) -> str:
    broken = [r for r in waiting if is_broken(r)]
    names = "、".join(map(_quoted, broken or waiting))
    if broken:
        return f"{names}が、最も有利に見積もっても許容範囲を超えて悪い結果です。質問を増やしても変わらないため、候補を直し、まだ使っていない質問で測り直す必要があります。"
    most = max(waiting, key=lambda r: r.needed)
    good = most.point > most.kpi.bar if METRICS[most.kpi.metric].higher_is_better else most.point < most.kpi.bar
    more = f"（いまの実測値が実力なら、全部で約{most.needed:,}問あれば、8割の確率で{'GO' if good else 'NO-GO'}に決着します）" * bool(most.needed)
    return f"{names}は、今回の結果からは基準を満たすとも満たさないとも言い切れません{more}。"
