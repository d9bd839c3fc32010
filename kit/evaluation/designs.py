"""What the gate needs where questions are not alike and unrelated: documents in common, several looks, a judge, two arms.

One-sided bounds at ``alpha`` as in ``statistics``.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from kit.evaluation.statistics import quantile_bounds, share_bounds

LOOKS = 4
"""Most looks that ``spend`` divides an error over: more would leave so little of alpha to each that the last one hardly decides."""
LABELS = 150
"""Fewest human labels by which a judge's verdicts are corrected."""
JUDGED_ALPHA = 0.75
"""Share of alpha at which ``judged_bounds`` draws; chosen by ``python -m tests.bench.gate --working-alpha``."""
LIKENESS, WEIGHT = 0.3, 1.0
"""The correlation within a document that is assumed where few failures tell of it, and with how many documents' weight."""
MANY_DOCUMENTS, FEWEST_DOCUMENTS = 20, 5
Widening = Callable[[float], float]
"""Alpha → factor on the squared half-width: design effect times (t / z)²; inf where groups say nothing."""


def spend(alpha: float, looks: int) -> tuple[float, ...]:
    """Return the error that each look may spend: O'Brien-Fleming-type (Lan & DeMets, Biometrika 70, 1983, 659).

    Each look judges new questions at its own share; as these add up to ``alpha``, so do the chances of a false GO.

    Raises:
        ValueError: There are not 1 to ``LOOKS`` looks.
    """
    from scipy.stats import norm

    if not 1 <= looks <= LOOKS:
        raise ValueError(f"looks must be 1 to {LOOKS}, not {looks}")
    spent = 2 * norm.sf(norm.isf(alpha / 2) / np.sqrt(np.arange(1, looks + 1) / looks))
    return tuple(float(share) for share in np.diff(spent, prepend=0.0))


def mcnemar_p(gains: int, losses: int) -> float:
    """Return the exact one-sided p-value of McNemar's test against "the second arm is no better than the first".

    Args:
        gains: Questions that only the second arm has right.
        losses: Questions that only the first arm has right. Swap the two to test for a regression.
    """
    from scipy.stats import binomtest

    return float(binomtest(gains, gains + losses, 0.5, alternative="greater").pvalue) if gains + losses else 1.0


def design_effect(values: Sequence[float], groups: Sequence[Hashable]) -> tuple[float, float]:
    """Return by how much grouping inflates the variance of a mean, and the degrees of freedom of that estimate.

    The cluster-robust variance over that of unrelated values, drawn towards the effect of ``LIKENESS`` with the weight
    of ``WEIGHT`` groups as far off the mean as any value: a handful of failures says nothing about where they stand
    (simulated with bars .7 to .95, 5 to 40 groups of 3 to 10, also of unequal sizes, correlation up to .3: false GO
    at most .05; up to .16 without). Unequal groups count as (sum of sizes)² / sum of squares.

    Returns:
        (effect ≥ 1, degrees of freedom); (1, inf) where no two values share a group, (n, 0) where all do.
    """
    drawn = np.asarray(values, dtype=float)
    known = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    group = np.array([known[name] for name in groups], dtype=int)
    n, sizes = drawn.size, np.bincount(group)
    if sizes.size == n:
        return 1.0, math.inf
    freedom = n**2 / float((sizes**2).sum()) - 1
    if freedom <= 0:
        return float(n), 0.0
    off = drawn - drawn.mean()
    return float(_effect((np.bincount(group, weights=off) ** 2).sum(), (off**2).sum(), (off**2).max(), sizes)), freedom


def share_effects(hits: np.ndarray, sizes: np.ndarray) -> Any:
    """Return the design effects of many draws of a share (see ``design_effect``).

    Args:
        hits: Successes by draw and group (draws × groups).
        sizes: Questions of each group.
    """
    share = hits.sum(axis=1) / sizes.sum()
    together = ((hits - sizes * share[:, None]) ** 2).sum(axis=1)
    return _effect(together, sizes.sum() * share * (1 - share), np.maximum(share, 1 - share) ** 2, sizes)


def _effect(together: Any, alone: Any, farthest: Any, sizes: np.ndarray) -> Any:
    """Return the design effect from squared sums by group, the sum of squares, and the largest square."""
    n, size = sizes.sum(), (sizes**2).sum() / sizes.sum()
    prior = WEIGHT * size * np.maximum(farthest, 1e-300)  # where nothing varies it alone speaks
    return np.maximum(1.0, (together / (1 - size / n) + prior * (1 + LIKENESS * (size - 1))) / (alone + prior))


def groupings(names: Sequence[str]) -> tuple[list[list[str]], str]:
    """Return by what questions may be alike, and what is to be said of it.

    Questions on one document are alike: who reads it well has many right at once. Where documents are few their places
    (page, sheet, slide, heading) count beside them, and the wider bound holds. Fewer than ``FEWEST_DOCUMENTS`` tell
    nothing of documents in general: places alone count, and the result is one about these documents. Of a few without
    places the documents count all the same; only a single one without any leaves nothing to group by.

    Args:
        names: Of each question the document that its answer stands in and, after a newline, the place; "" for none.

    Returns:
        (groupings, note): a name of the group of each question, by each grouping; a Japanese note or "".
    """
    own = [name or f"\0{number}" for number, name in enumerate(names)]
    documents = [name.split("\n")[0] for name in own]
    many, places = (len({name for name, known in zip(level, names, strict=True) if known}) for level in (documents, own))
    if many >= MANY_DOCUMENTS or (many >= FEWEST_DOCUMENTS and places == many) or not many:
        return [documents], ""
    if many >= FEWEST_DOCUMENTS:
        return [documents, own], ""
    few = f"文書が{many}件しかないので、ほかの文書でも同じ結果になるとは言えません"
    if places > many:
        return [own], f"{few}。頁や見出しごとのまとまりで見積もります。"
    if many > 1:
        return [documents], f"{few}。頁や見出しの記載もないので文書ごとのまとまりで見積もり、区間は広くなります。質問表に根拠の頁を書いてください。"
    return [], f"{few}。頁や見出しの記載もないので、質問どうしは無関係とみなします。似た質問が多いと甘い判定になります。質問表に根拠の頁を書いてください。"


def widening(values: Sequence[float], levels: Sequence[Sequence[Hashable]]) -> Widening:
    """Return by how much grouping widens bounds: the most of all groupings; the design effects are computed only here."""
    from scipy.stats import norm, t

    found = [design_effect(values, groups) for groups in levels] if len(values) else []

    def factor(alpha: float) -> float:
        tail = min(alpha, 0.25)  # both quantiles are 0 at .5; what is larger is only asked for on the way to a p-value
        parts = (effect * float(t.isf(tail, freedom) / norm.isf(tail)) ** 2 if freedom else math.inf for effect, freedom in found if math.isfinite(freedom))
        return max((1.0, *parts))

    return factor


def cluster_share_bounds(values: Sequence[float], groups: Sequence[Hashable], alpha: float) -> tuple[float, float]:
    """Return bounds of a share whose questions are grouped, for example by the document that answers them.

    Korn & Graubard (Survey Methodology 24, 1998, 193): Clopper-Pearson on the number of unrelated questions that would
    tell as much, with Student's t for the number of groups; without grouping plain Clopper-Pearson.

    Args:
        values: 0 or 1 per question.
        groups: The group of each question.
        alpha: One-sided error.
    """
    return widened_share_bounds(sum(values), len(values), widening(values, [groups])(alpha), alpha)


def widened_share_bounds(hits: float, n: int, factor: float, alpha: float) -> tuple[float, float]:
    """Return bounds of a share of ``n`` questions that tell as much as n / ``factor`` unrelated ones (see above)."""
    if not n or math.isinf(factor):
        return 0.0, 1.0
    return share_bounds(round(hits), n, alpha) if factor == 1 else share_bounds(hits / factor, n / factor, alpha)


def widened_quantile_bounds(values: Sequence[float], q: float, factor: float, alpha: float) -> tuple[float, float]:
    """Return order-statistic bounds of a quantile: of all values that the share not above them leaves possible."""
    if factor == 1 or not len(values):
        return quantile_bounds(values, q, alpha)
    ordered, n = sorted(values), len(values)

    def first(side: int) -> int:
        """Return the fewest values not above a quantile with which this bound of their share is at least q."""
        return bisect_left(range(n + 1), q, key=lambda count: widened_share_bounds(count, n, factor, alpha)[side])

    fewest, most = first(1), first(0)
    return ordered[fewest - 1] if fewest else -math.inf, ordered[most - 1] if most <= n else math.inf


def widened_bounds(bounds: tuple[float, float], point: float, factor: float) -> tuple[float, float]:
    """Widen bounds of a mean, a difference or a ratio by what grouping costs.

    Args:
        bounds: Bounds as if no two values were related.
        point: The estimate between them.
        factor: What the squared half-width is multiplied by.
    """
    if factor == 1:
        return bounds
    if math.isinf(factor):
        return -math.inf, math.inf
    return point - math.sqrt(factor) * (point - bounds[0]), point + math.sqrt(factor) * (bounds[1] - point)


def labelled(judge: Sequence[float], human: Sequence[float]) -> int:
    """Return how many of the judged questions people labelled, too."""
    return int(np.sum(~np.isnan(np.asarray(judge, dtype=float)) & ~np.isnan(np.asarray(human, dtype=float))))


def judged_share(judge: Sequence[float], human: Sequence[float]) -> float | None:
    """Return the share that people would call right (see ``judged_bounds``); None where one kind of verdict has no label."""
    said, told = np.asarray(judge, dtype=float), np.asarray(human, dtype=float)
    total = float(np.sum(told[np.isnan(said)]))
    for verdict in (1.0, 0.0):
        known = told[(said == verdict) & ~np.isnan(told)]
        if np.any(said == verdict):
            if not known.size:
                return None
            total += float(known.mean() * np.sum(said == verdict))
    return total / said.size if said.size else None


def judged_influence(judge: Sequence[float], human: Sequence[float]) -> list[float]:
    """Return what each question adds to ``judged_share``, of which it is the mean: what grouping is measured by.

    The share that people call right among its verdict; of a labelled one also how far its label lies off that, once for
    each question of its verdict that a label stands for (linearisation of post-stratified estimates).
    """
    said, told = np.asarray(judge, dtype=float), np.asarray(human, dtype=float)
    parts = told.copy()
    for verdict in (1.0, 0.0):
        alike = said == verdict
        known = alike & ~np.isnan(told)
        right = float(told[known].mean()) if known.any() else 0.5
        parts[alike] = right
        parts[known] += alike.sum() / max(1, known.sum()) * (told[known] - right)
    return [float(part) for part in parts]


def judged_bounds(
    judge: Sequence[float], human: Sequence[float], alpha: float, *, factor: float = 1.0, seed: int = 0, draws: int = 20_000
) -> tuple[float, float]:
    """Return bounds of the share that people would call right, from a judge's verdicts corrected by people's.

    Post-stratified by verdict: shares of the verdicts, and of what people say within each, are drawn from their
    posteriors (Jeffreys) and multiplied out; the bounds are quantiles at ``JUDGED_ALPHA`` of alpha, for at alpha itself
    up to .07 of true shares would lie beyond them.

    Args:
        judge: 0 or 1 per question; NaN where the judge has no say and the value in ``human`` is the whole truth
            (a failed question: 0 in the worst case).
        human: 0 or 1 on a random part of the questions, drawn before anything was scored; NaN elsewhere.
        alpha: One-sided error.
        factor: How many questions tell as much as one unrelated one.
        seed: Seed of the draws.
        draws: Number of draws.

    Raises:
        ValueError: Fewer than ``LABELS`` of the judged questions are labelled.
    """
    said, told = np.asarray(judge, dtype=float), np.asarray(human, dtype=float)
    if (labels := labelled(judge, human)) < LABELS:
        raise ValueError(f"{LABELS} labels are needed, not {labels}")
    if math.isinf(factor):
        return 0.0, 1.0
    random = np.random.default_rng(seed)
    counts, truths = [], []
    for verdict in (1.0, 0.0):
        counts.append(np.sum(said == verdict) / factor + 0.5)
        right, wrong = (np.sum((said == verdict) & (told == value)) / factor + 0.5 for value in (1.0, 0.0))
        truths.append(random.beta(right, wrong, draws))
    for value in (1.0, 0.0):
        if known := np.sum(np.isnan(said) & (told == value)):
            counts.append(known / factor + 0.5)
            truths.append(np.full(draws, value))
    shares = (random.dirichlet(counts, draws).T * np.array(truths)).sum(axis=0)
    low, high = np.quantile(shares, [JUDGED_ALPHA * alpha, 1 - JUDGED_ALPHA * alpha])
    return float(low), float(high)
