"""How many questions it takes, what the gate will say if the truth is so and so, and criteria that can never lead to GO.

All chances are those of the gate's own rules. Shares and 95 % quantiles are exact (of a quantile, the share of answers
within the bar counts); means are planned like shares, the most that values between 0 and 1 can scatter; judged shares
as if the fewest labels stood alone, which the judge's verdicts then better. Questions on one document count for less:
the gate's own bound is simulated on the documents that the questions name.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kit import views
from kit.errors import DataError
from kit.evaluation import designs, statistics
from kit.evaluation.gate import LEAST, grouped
from kit.evaluation.metrics import METRICS
from kit.records import Case, Criteria, Kpi
from kit.trust import seal

LIKENESS = 0.15
"""Correlation of questions on one document that is planned with: .1 is usual, and the gate draws what it measures upwards."""
DISCORDANCE = 0.1
"""Share of questions on which two equally good arms are taken to differ."""
_DRAWS, _ENOUGH = 2000, 200_000
"""Draws of a simulation, and the most numbers that one holds."""
_STEPS = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75)
"""Truths that a table shows: parts of the way from the bar to perfection."""


@dataclass(frozen=True, slots=True)
class Chance:
    """What the gate will say of one KPI if the truth is ``truth``; ``go``, ``extend``, ``no_go`` of the first look add up to 1."""

    truth: float
    go: float
    extend: float
    no_go: float
    finally_go: float
    """GO in any of the agreed looks."""


@dataclass(frozen=True, slots=True)
class KpiPlan:
    """One KPI planned."""

    kpi: Kpi
    n: int
    """Questions of one look that count for it."""
    worth: float
    """As many unrelated questions would tell as much."""
    truth: float
    """The truth that the power is wanted at; NaN where none can be named."""
    needed: int
    """Questions of one look that reach the power; 0 where more than 20,000, or unknown."""
    chances: tuple[Chance, ...]
    notes: tuple[str, ...] = ()
    widest: float = 1.0
    """By how much grouping widens the gate's squared bound where all is right."""
    held: float = math.nan
    """Chance that a guardrail holds in the last look where both arms are equally good; NaN where it is unknown."""

    @property
    def power(self) -> float:
        """Chance of GO within the agreed looks at ``truth``, or of a guardrail's holding; NaN where it is unknown."""
        return next((chance.finally_go for chance in self.chances if chance.truth == self.truth), self.held)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the criteria can show, and why not."""

    kpis: tuple[KpiPlan, ...]
    alphas: tuple[float, ...]
    """One-sided error of each look."""
    wanted: float
    """Power wanted for all gate KPIs together."""
    problems: tuple[tuple[str, str], ...]
    """Why GO cannot be reached, each with its remedy."""

    @property
    def power(self) -> float:
        """Least chance of GO for all KPIs, guardrails too, together at their truths (Bonferroni), of those whose chance is known."""
        return max(0.0, 1 - sum(1 - plan.power for plan in self.kpis if not math.isnan(plan.power)))

    def require(self) -> None:
        """Refuse criteria that cannot lead to GO.

        Raises:
            DataError: With all reasons and remedies.
        """
        if self.problems:
            what = "この判定基準では、結果がどれほど良くても GO になりません。" + "".join(f"\n- {what}" for what, _ in self.problems)
            remedies = "".join(f"\n- {remedy}" for remedy in dict.fromkeys(remedy for _, remedy in self.problems))
            raise DataError(what, "質問の数、基準値、期限のいずれかが合っていません。", f"次のように直し、`kit plan フォルダ` で確かめます。{remedies}")

    def __str__(self) -> str:
        lines = [f"・{what}\n　→ {remedy}" for what, remedy in self.problems]
        lines = ["この判定基準では GO になりません。", *lines, ""] if lines else []
        if len(self.alphas) > 1:
            spent = "、".join(f"{number}回目 {alpha:.2%}" for number, alpha in enumerate(self.alphas, 1))
            lines.append(f"判定は最大 {len(self.alphas)} 回です。誤って GO とする確率を、{spent} に分けて使います。")
        for plan in self.kpis:
            told = (_sentence(chance, len(self.alphas)) for chance in plan.chances)
            lines += [_heading(plan), *(f"  {text}" for text in (*told, *plan.notes))]
        unknown = "、".join(f"「{plan.kpi.label}」" for plan in self.kpis if math.isnan(plan.power))
        if sum(not math.isnan(plan.power) for plan in self.kpis) > 1:
            but = f"（見込みを出せない{unknown}を除く）" if unknown else ""
            lines.append(f"すべての基準で想定どおりの実力があれば、全体で GO と出る見込みは {self.power:.0%} 以上です{but}。")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        pieces = [views.table(("GO にならない理由", "直し方"), self.problems)] if self.problems else []
        header = ("実力", "GO", "EXTEND", "NO-GO", "最後までに GO")[: 5 if len(self.alphas) > 1 else 4]
        for plan in self.kpis:
            found = ((c.truth, (c.go, c.extend, c.no_go, c.finally_go)[: len(header) - 1]) for c in plan.chances)
            rows = [(show(truth), *(f"{chance:.0%}" for chance in row)) for truth, row in found]
            pieces.append(views.table(header, rows, " ".join((_heading(plan), *plan.notes))))
        return "".join(pieces)


def plan(
    criteria: Criteria, cases: Sequence[Case] | None = None, *,
    truth: float | Mapping[str, float] | None = None, power: float = 0.8, today: str = "",
) -> Plan:  # fmt: skip
    """Plan the gate.

    Args:
        criteria: The criteria, sealed or not.
        cases: Their questions; None takes every question to count for every KPI, and none to share a document.
        truth: The truth to have the power at: of the first gate KPI, or by metric. Others are taken half-way from the
            bar to perfection.
        power: Chance of GO wanted for all gate KPIs together.
        today: ISO date; "" takes today's in Japan.

    Raises:
        DataError: A truth or the power is no share between 0 and 1.
    """
    gates = [kpi for kpi in criteria.kpis if kpi.role == "gate"]
    truths = truth if isinstance(truth, Mapping) else {gates[0].metric: truth} if truth is not None and gates else {}
    if not all(0 < share < 1 for share in (power, *truths.values())):
        raise DataError("実力と見込みは、0 より大きく 1 より小さい数で指定します。", "80% を 80 と書いた可能性があります。", "80% なら 0.8 と書いて、もう一度実行してください。")
    alphas = designs.spend(criteria.alpha, criteria.looks)
    share = 1 - (1 - power) / max(1, len(gates))
    problems: list[tuple[str, str]] = []
    total = len(cases) if cases is not None else criteria.cases_count
    if criteria.deadline and criteria.deadline < (today or seal.today()):
        problems.append((f"判定の期限（{criteria.deadline}）を過ぎています。", "deadline を改めます。"))
    if criteria.per_look * criteria.looks > total:
        what = f"{criteria.per_look:,}問ずつ {criteria.looks} 回の判定には {criteria.per_look * criteria.looks:,}問が必要ですが、{total:,}問しかありません。"
        problems.append((what, "質問を足すか、looks か per_look を減らします。"))
    part = min(1.0, criteria.per_look / total) if criteria.per_look and total else 1.0
    plans = []
    for kpi in (kpi for kpi in criteria.kpis if kpi.role != "info"):
        n, levels, note = _questions(kpi, cases, total, part)
        if kpi.role == "guardrail":
            planned = _guardrail(kpi, n, levels, part, alphas, share)
        else:
            planned = _gate(kpi, n, levels, part, alphas, len(gates), share, truths)
        widest = designs.widening([1.0] * len(levels[0]), levels)(alphas[-1]) if levels else 1.0
        plans.append(planned := replace(planned, notes=(*planned.notes, *([note] if note else [])), widest=widest))
        problems += _unreachable(planned, alphas)
    return Plan(tuple(plans), alphas, power, tuple(problems))


def chances(truth: float, bar: float, n: int, alphas: Sequence[float], gates: int = 1) -> Chance:
    """Return what the exact gate on a share says over looks of ``n`` new questions each, answers pooled.

    Args:
        truth: The true share (0–1), of a KPI with "at least the bar".
        bar: The bar (0–1).
        n: Questions of one look.
        alphas: One-sided error of each look.
        gates: Number of gate KPIs: Holm's first step divides alpha by it for NO-GO.
    """
    from scipy.stats import binom

    open_, total, first = np.ones(1), 0.0, (0.0, 1.0, 0.0)
    fresh = binom.pmf(np.arange(n + 1), n, truth)
    for look, alpha in enumerate(alphas, 1):
        open_ = np.convolve(open_, fresh)
        hits = np.arange(look * n + 1)
        passed = binom.sf(hits - 1, look * n, bar) <= alpha
        missed = (binom.cdf(hits, look * n, bar) <= alpha / gates) & ~passed
        go, no_go = float(open_[passed].sum()), float(open_[missed].sum())
        total += go
        open_ = open_ * ~(passed | missed)
        if look == 1:
            first = go, max(0.0, 1 - go - no_go), no_go
    return Chance(truth, *first, total)


def guardrail_chance(n: int, margin: float, discordance: float, alpha: float) -> float:
    """Return how often the guardrail holds for two equally good arms that differ on a share of ``n`` questions."""
    from scipy.stats import binom, norm

    differing = np.arange(n + 1)
    chance = binom.pmf(differing, n, discordance)
    held = 0.0
    for count in differing[chance > 1e-9]:
        losses = np.arange(count + 1)
        gains = count - losses
        passed = statistics.tango_score(gains, losses, n, -margin) >= norm.isf(statistics.PAIRED_ALPHA * alpha)
        worst = np.array([gain > 0 or statistics.share_bounds(loss, n, alpha)[1] <= margin for gain, loss in zip(gains, losses, strict=True)])
        held += float(chance[count] * (binom.pmf(losses, count, 0.5) @ (passed & worst)))
    return held


def simulated(truth: float, bar: float, sizes: Sequence[int], n: int, alphas: Sequence[float], gates: int = 1) -> Chance:
    """Return what the gate says where questions share documents alike by ``LIKENESS`` (see ``chances``).

    Args:
        truth: As there.
        bar: As there.
        sizes: Questions on each document, those of all looks.
        n: Questions of one look, drawn from them at random.
        alphas: As there.
        gates: As there.
    """
    from scipy.special import betainc
    from scipy.stats import norm, t

    random, scale = np.random.default_rng(0), (1 - LIKENESS) / LIKENESS
    names = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    draws = max(100, min(_DRAWS, _ENOUGH // len(sizes)))
    right = random.beta(max(truth, 1e-12) * scale, max(1 - truth, 1e-12) * scale, (draws, len(sizes)))
    hits, seen, open_ = np.zeros_like(right), np.zeros(len(sizes)), np.ones(draws, dtype=bool)
    total, first = 0.0, (0.0, 1.0, 0.0)
    for look, alpha in enumerate(alphas):
        fresh = np.bincount(names[look * n : (look + 1) * n], minlength=len(sizes))
        hits, seen = hits + random.binomial(fresh, right), seen + fresh
        effect, freedom = designs.share_effects(hits, seen), seen.sum() ** 2 / max(1.0, (seen**2).sum()) - 1
        if freedom <= 0:
            continue
        worth = [seen.sum() / effect / (t.isf(at, freedom) / norm.isf(at)) ** 2 for at in (alpha, alpha / gates)]
        share = hits.sum(axis=1) / seen.sum()
        good, bad = share * worth[0], (1 - share) * worth[1]  # Clopper-Pearson, by its tails at the bar
        passed = open_ & (good > 0) & (betainc(np.maximum(good, 1e-9), worth[0] - good + 1, bar) <= alpha)
        missed = open_ & ~passed & (bad > 0) & (betainc(np.maximum(bad, 1e-9), worth[1] - bad + 1, 1 - bar) <= alpha / gates)
        total += float(passed.mean())
        open_ &= ~(passed | missed)
        if look == 0:
            first = float(passed.mean()), float(open_.mean()), float(missed.mean())
    return Chance(truth, *first, total)


def _questions(kpi: Kpi, cases: Sequence[Case] | None, total: int, part: float) -> tuple[int, list[list[str]], str]:
    """Return how many questions of one look count for a KPI, by what they are grouped where any are, and a note on it."""
    if cases is None:
        return int(total * part), [], ""
    groups = grouped(cases)
    names = [groups[case.id] for case in cases if METRICS[kpi.metric].applies(case)]
    levels, note = designs.groupings(names)
    return int(len(names) * part), [level for level in levels if len({*level}) < len(names)], note


def _widening(levels: list[list[str]], part: float, alpha: float) -> float:
    """Return how many questions tell as much as one unrelated one, about: the most of all groupings."""
    from scipy.stats import norm, t

    found = [1.0]
    for level in levels:
        squares = sum(size**2 for size in Counter(level).values())
        freedom, size = part * len(level) ** 2 / squares - 1, 1 + (squares / len(level) - 1) * part
        if freedom > 0:
            found.append((1 + LIKENESS * (size - 1)) * float(t.isf(alpha, freedom) / norm.isf(alpha)) ** 2)
    return max(found)


def _gate(
    kpi: Kpi, n: int, levels: list[list[str]], part: float, alphas: Sequence[float], gates: int, power: float, truths: Mapping[str, float],
) -> KpiPlan:  # fmt: skip
    from scipy.stats import norm

    metric, widening = METRICS[kpi.metric], _widening(levels, part, alphas[-1])
    if metric.kind in ("amount", "yen_per_right"):
        reach = (norm.isf(alphas[-1]) + norm.ppf(power)) / math.sqrt(max(1, n * len(alphas) / widening))
        note = f"平均が基準より標準偏差の {reach:.2f} 倍以上良ければ、{power:.0%} の確率で GO になります（目安）。"
        unseen = f"{1 - alphas[-1] ** (1 / max(1, n)):.1%} より少ない質問に{'費用' if metric.kind == 'yen_per_right' else '損失'}が集中していると、測定に現れないことがあり、判定では見抜けません。"
        return KpiPlan(kpi, n, n / widening, math.nan, 0, (), (note, unseen))
    up = metric.higher_is_better or metric.kind == "p95"
    bar = 0.95 if metric.kind == "p95" else kpi.bar
    room = 1 - bar if up else -bar
    better = truths.get(kpi.metric, bar + room / 2)
    shown = sorted({round(bar + room * step, 6) for step in _STEPS if 0 <= bar + room * step <= 1} | {better})
    counted = min(n, designs.LABELS) if metric.kind == "judged" else n
    worth = counted / widening

    def turned(share: float) -> float:
        return share if up else 1 - share

    sizes = [*Counter(levels[0]).values()] if levels else []

    def chance(way: float, documents: int = 0) -> Chance:
        """Return the chances at a truth; on as many documents as named where they are not those of the questions."""
        if not sizes:
            return chances(turned(way), turned(bar), counted, alphas, gates)
        found = [sizes[number % len(sizes)] for number in range(documents or len(sizes))]
        return simulated(turned(way), turned(bar), found, int(sum(found) * part * counted / max(1, n)), alphas, gates)

    table = tuple(replace(chance(way), truth=way) for way in shown)
    needed, is_better = 0, turned(better) > turned(bar)
    if sizes and is_better:  # more documents like these
        most = int(20_000 * len(sizes) / sum(sizes))
        documents = 1 + bisect_left(range(1, most + 1), power, key=lambda number: chance(better, number).finally_go)
        needed = math.ceil(documents * sum(sizes) / len(sizes) * part) if documents <= most else 0
    elif is_better:
        needed = math.ceil(statistics.questions_needed(turned(better), turned(bar), alphas[-1], power=power) / len(alphas))
    each = "1回あたり " if len(alphas) > 1 else ""
    settled = f" で {power:.0%} の確率で GO にするには、{each}{needed:,}問が必要です。" if needed else " では、現実的な数の質問で GO と決まる見込みがありません。"
    also = {
        "p95": f"実力は、{kpi.bar:g}秒以内に返る応答の割合で示します。",
        "mean": "値の散らばりが最も大きい場合の見込みです。実際はこれより決まりやすくなります。",
        "judged": f"人の採点 {designs.LABELS} 件だけで決める場合の見込みです。LLMの判定が加わると、これより決まりやすくなります。",
    }.get(metric.kind)
    notes = (f"実力 {show(better)}{settled}", *([also] if also else []))
    return KpiPlan(kpi, n, worth, better, needed, table, notes)


def _guardrail(kpi: Kpi, n: int, levels: list[list[str]], part: float, alphas: Sequence[float], power: float) -> KpiPlan:
    worth, looks = n / _widening(levels, part, alphas[-1]), len(alphas)
    if METRICS[kpi.metric].kind != "share":
        return KpiPlan(kpi, n, worth, math.nan, 0, ())
    widening = _widening(levels, min(1.0, part * looks), alphas[-1])  # all looks are judged together in the last

    def chance(each: int) -> float:
        return guardrail_chance(int(each * looks / widening), kpi.bar, DISCORDANCE, alphas[-1])

    held, needed = chance(n), 0
    note = f"両方式の実力が同じで、{DISCORDANCE:.0%} の質問で結果が分かれるなら、許容範囲と認められる見込みは {held:.0%} です。"
    if held < power:
        most = int(20_000 * widening / looks)
        found = 1 + bisect_left(range(1, most + 1), power, key=chance)
        needed = found if found <= most else 0
        each = "1回あたり " if looks > 1 else ""
        note += f"{power:.0%} にするには、{each}約{needed:,}問が必要です。" if needed else "現実的な数の質問では、認められる見込みがありません。"
    warning = ("【注意】実力が同じでも、この安全条件のために GO にならない見込みのほうが大きい計画です。",) if held < 0.5 else ()
    return KpiPlan(kpi, n, worth, math.nan, needed, (), (note, *warning), held=held)


def _unreachable(planned: KpiPlan, alphas: Sequence[float]) -> list[tuple[str, str]]:
    """Say why even perfect results would not pass one KPI in any look."""
    kpi, kind = planned.kpi, METRICS[planned.kpi.metric].kind
    fewest = min(math.ceil(_fewest(planned, alpha) / look) for look, alpha in enumerate(alphas, 1))
    if planned.n >= fewest:
        return []
    each = f"（判定 {len(alphas)} 回、1回あたり）" if len(alphas) > 1 else ""
    what = f"「{kpi.label}」（基準 {kpi.bar:g}）には、少なくとも {fewest:,}問が必要です{each}。今は {planned.n:,}問です。"
    more = {"judged": "人が採点する質問", "amount": "時間を計る質問"}.get(kind, "質問")
    return [(what, f"{more}を増やすか、基準を緩めるか、「{kpi.label}」の role を info（参考）にします。")]


def _fewest(planned: KpiPlan, alpha: float) -> float:
    """Return the fewest questions with which perfect results pass at ``alpha``."""
    kpi, metric = planned.kpi, METRICS[planned.kpi.metric]
    least = LEAST.get(metric.kind, 1)
    if metric.kind in ("amount", "yen_per_right"):
        return least
    if kpi.role == "guardrail":
        return math.log(alpha) / math.log(1 - kpi.bar)
    base = 0.95 if metric.kind == "p95" else kpi.bar if metric.higher_is_better else 1 - kpi.bar
    return max(least, math.log(alpha) / math.log(base) * min(planned.widest, 1e6))


def show(value: float) -> str:
    """Write a share as a Japanese reader expects it."""
    return f"{value * 100:.4g}%"


def _heading(planned: KpiPlan) -> str:
    kpi, metric = planned.kpi, METRICS[planned.kpi.metric]
    bar = show(kpi.bar) if metric.kind in ("share", "judged") else f"{kpi.bar:g}"
    way = "比較対象より悪くなってよい幅" if kpi.role == "guardrail" else "基準"
    told = "" if kpi.role == "guardrail" else " 以上" if metric.higher_is_better else " 以下"
    worth = f"、独立した質問なら約 {planned.worth:,.0f}問ぶん" if planned.worth < 0.95 * planned.n and metric.kind != "judged" else ""
    return f"「{kpi.label}」（{way} {bar}{told}、{planned.n:,}問{worth}）"


def _sentence(chance: Chance, looks: int) -> str:
    first = f"GO と出る見込みは {chance.go:.0%}、EXTEND {chance.extend:.0%}、NO-GO {chance.no_go:.0%}"
    last = f"（1回目）。{looks} 回のうちに GO となる見込みは {chance.finally_go:.0%}" if looks > 1 else ""
    return f"実力が {show(chance.truth)} なら、{first}{last}。"
