"""Exact one-sided bounds for the gate, from scipy and statsmodels, and the sample size that would settle it.

All bounds are one-sided at ``alpha``; low and high together are a two-sided interval of 1 - 2 alpha.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

PAIRED_ALPHA = 0.85
"""Share of alpha at which differences of pairs are bounded, so that false GO stays within alpha."""
RATIO_ALPHA = 0.8
"""Likewise of the studentised bootstrap of a ratio: with 50 questions it passes .062 at .05."""


MANY = 5000
"""More values than this are not bootstrapped: ``limit_bounds`` tells the same in no time."""


def share_bounds(successes: float, n: float, alpha: float) -> tuple[float, float]:
    """Return Clopper-Pearson bounds of a share.

    Args:
        successes: Number of successes, 0–n.
        n: Number of trials, also an effective one; 0 gives (0, 1).
        alpha: One-sided error, for example 0.05.
    """
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return 0.0, 1.0
    low, high = proportion_confint(successes, n, alpha=2 * alpha, method="beta")
    return float(low), float(high)


def kappa(table: Sequence[Sequence[int]]) -> tuple[float, float, float]:
    """Return Cohen's kappa of a square table of two raters' verdicts, and its 95 % interval (Wald).

    NaN where it cannot be formed: kappa where all verdicts are the same, bounds where its standard error is 0.
    """
    from statsmodels.stats.inter_rater import cohens_kappa

    counts = np.asarray(table)
    if np.count_nonzero(counts.sum(axis=0) + counts.sum(axis=1)) < 2:  # by chance alone they would agree always
        return math.nan, math.nan, math.nan
    with np.errstate(divide="ignore", invalid="ignore"):  # it also divides by a standard error of 0
        found = cohens_kappa(counts)
    interval = (max(-1.0, found.kappa_low), min(1.0, found.kappa_upp)) if found.std_kappa > 0 else (math.nan, math.nan)
    return float(found.kappa), float(interval[0]), float(interval[1])


def quantile_bounds(values: Sequence[float], q: float, alpha: float) -> tuple[float, float]:
    """Return order-statistic bounds of a quantile; exact for any continuous distribution.

    Args:
        values: Observations; a failure is ``inf``.
        q: The quantile, for example 0.95.
        alpha: One-sided error.

    Returns:
        Bounds in the unit of the values; ``inf`` or ``-inf`` where the sample is too small for one.
    """
    from scipy.stats import quantile_test

    if not len(values):
        return -math.inf, math.inf
    low, high = quantile_test(np.asarray(values, dtype=float), p=q).confidence_interval(1 - 2 * alpha)
    return -math.inf if math.isnan(low) else float(low), math.inf if math.isnan(high) else float(high)


def limit_bounds(values: Any, alpha: float) -> tuple[float, float]:
    """Return bounds of the mean of many values: Student's t, moved by the skewness (P. Hall, The Annals of Statistics 20, 1992, 2.6)."""
    from scipy.stats import skew, t

    drawn = np.asarray(values, dtype=float)
    quantile, error = float(t.isf(alpha, drawn.size - 1)), float(drawn.std(ddof=1)) / math.sqrt(drawn.size)
    moved = float(skew(drawn)) / (6 * math.sqrt(drawn.size)) * (2 * quantile**2 + 1) if error else 0.0
    return float(drawn.mean()) - error * (quantile - moved), float(drawn.mean()) + error * (quantile + moved)


def mean_bounds(values: Sequence[float], alpha: float) -> tuple[float, float]:
    """Return BCa bootstrap bounds of a mean of values between 0 and 1, widened by what the sample may not have shown.

    The bootstrap knows only the values that were drawn. A share of 1 - alpha^(1/n) of all questions can stay out of a
    sample unseen: the bounds leave room for that share being 0, or 1 (simulated at n = 30, where one question in twenty
    scores 0 and the others .9 or 1: false GO .25 without, .00 with it). Fewer than 30 values, or equal ones, cannot be
    bootstrapped: they get Clopper-Pearson bounds of their sum, which are exact for 0/1 values and wider than needed in
    between (simulated: at most .02 at .05).
    """
    from scipy.stats import bootstrap

    if len(values) < 30 or len(set(values)) == 1:
        return share_bounds(float(sum(values)), len(values), alpha)
    mean, seen = float(np.mean(values)), alpha ** (1 / len(values))
    if len(values) > MANY:
        low, high = limit_bounds(values, alpha)
    else:
        result = bootstrap(
            (np.asarray(values),), np.mean, confidence_level=1 - 2 * alpha, method="BCa", n_resamples=9999, batch=1000,
            rng=np.random.default_rng(0),
        )
        low, high = float(result.confidence_interval.low), float(result.confidence_interval.high)
    return min(low, mean * seen), max(high, 1 - (1 - mean) * seen)


def paired_difference_bounds(first: Sequence[float], second: Sequence[float], alpha: float) -> tuple[float, float]:
    """Return bounds of mean(second - first), both arms on the same questions, all values between 0 and 1.

    Differences of 0/1 values get Tango's score interval (Statistics in Medicine 17, 1998, 891) at .85 alpha, and where
    all differing pairs differ the same way, the exact bounds of their share if those are wider. By exact enumeration
    false GO then stays within .05 from 30 pairs on (.0535 with 20), where Tango alone goes to .062 and the paired t to
    .12; other values get the wider of paired t and ``mean_bounds``, at .85 alpha, too (simulated: with seldom losses of .9
    t alone passes up to .16, with even ones the bootstrap alone .07, both together .065). Equal differences throughout get the bound alpha^(1/n) sets to the
    share of all others.
    """
    from statsmodels.stats.weightstats import DescrStatsW

    difference = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    n = difference.size
    if not n:
        return -math.inf, math.inf
    if np.ptp(difference) == 0:
        others = 1 - alpha ** (1 / n)
        return float(difference[0] - others * (difference[0] + 1)), float(difference[0] + others * (1 - difference[0]))
    if set(difference) <= {-1.0, 0.0, 1.0}:
        gains, losses = int(np.sum(difference > 0)), int(np.sum(difference < 0))
        low, high = _tango_bounds(gains, losses, n, PAIRED_ALPHA * alpha)
        low = low if gains else min(low, -share_bounds(losses, n, alpha)[1])
        return low, high if losses else max(high, share_bounds(gains, n, alpha)[1])
    low, high = DescrStatsW(difference).tconfint_mean(alpha=2 * PAIRED_ALPHA * alpha)
    least, most = mean_bounds((difference + 1) / 2, PAIRED_ALPHA * alpha)
    return min(float(low), 2 * least - 1), max(float(high), 2 * most - 1)


def tango_score(gains: Any, losses: Any, n: int, delta: float) -> Any:
    """Return Tango's score for "the second arm's share is higher by delta": numbers, or arrays of them, of differing pairs."""
    # The share of losses that is likeliest if the true difference is delta, and the variance that goes with it.
    b = (2 * n - gains + losses) * delta - gains - losses
    root = np.sqrt(np.maximum(b * b + 8 * n * losses * delta * (1 - delta), 0.0))
    variance = n * ((root - b) / (2 * n) + delta * (1 - delta))
    return (gains - losses - n * delta) / np.sqrt(np.maximum(variance, 1e-300))


def _tango_bounds(gains: int, losses: int, n: int, alpha: float) -> tuple[float, float]:
    from scipy.optimize import brentq
    from scipy.stats import norm

    quantile, edge = float(norm.isf(alpha)), 1 - 1e-9
    low, high = (brentq(lambda delta, q=q: tango_score(gains, losses, n, delta) - q, -edge, edge) for q in (quantile, -quantile))
    return float(low), float(high)


def holm_rejects(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Return which hypotheses Holm's procedure rejects at family-wise ``alpha`` (Scandinavian J. of Statistics 6, 1979, 65).

    The one of statsmodels collects the whole process's garbage at every call: up to a second in a notebook.
    """
    rejected = [False] * len(p_values)
    for done, at in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[at] > alpha / (len(p_values) - done):
            break
        rejected[at] = True
    return rejected


def questions_needed(point: float, bar: float, alpha: float, *, power: float = 0.8, limit: int = 20_000) -> int:
    """Return how many questions would settle a share if the observed share is the truth.

    Args:
        point: Observed share (0–1).
        bar: The bar (0–1).
        alpha: One-sided error.
        power: Probability of the exact bound clearing, or missing, the bar.
        limit: Where the search gives up.

    Returns:
        The number of questions from which on the power is reached; 0 if ``limit`` is not enough.
    """
    from scipy.stats import binom, norm

    if point == bar:
        return 0
    spread = norm.isf(alpha) * math.sqrt(bar * (1 - bar)) + norm.ppf(power) * math.sqrt(point * (1 - point))
    about = (spread / (point - bar)) ** 2  # the normal approximation
    n = np.arange(max(1, about * 0.9 // 1 - 100), min(limit, about * 1.1 // 1 + 300) + 1)
    if point > bar:  # cleared by k hits or more, the fewest with P(X >= k | bar) <= alpha
        chance = binom.sf(binom.isf(alpha, n, bar), n, point)
    else:  # missed by k hits or fewer, the most with P(X <= k | bar) < alpha
        chance = binom.cdf(binom.ppf(alpha, n, bar) - 1, n, point)
    short = n[chance < power]  # the power rises in a sawtooth: what counts is the last n that falls short
    needed = int(short[-1]) + 1 if short.size else 1
    return needed if needed <= limit and n.size else 0


def ratio_bounds(numerators: Sequence[float], denominators: Sequence[float], alpha: float) -> tuple[float, float]:
    """Return bounds of sum(numerators) / sum(denominators), where each denominator is 0 or 1.

    The wider of three: paired percentile bootstrap, studentised bootstrap (simulated with skewed costs, n = 50: false GO
    .085 without it), and mean numerator over exact bounds of the share of 1s. The last holds where the bootstrap sees no
    variation (all right at like cost); ``inf`` where the share may be 0. On top comes that a share of 1 - alpha^(1/n),
    unseen, may cost as much as the dearest that was seen (simulated with lognormal costs of sigma 1.5, n = 100: false GO
    .11 to .18 without, .04 with it). What is dearer still and rarer no bound knows of.
    """
    top, bottom = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    if not top.size:
        return -math.inf, math.inf
    low, high = _seen_ratio_bounds(top, bottom, alpha)
    unseen = (1 - alpha ** (1 / top.size)) * float(top.max() - top.mean())
    return low, high + unseen / float(bottom.mean()) if bottom.any() else high


def _seen_ratio_bounds(top: np.ndarray, bottom: np.ndarray, alpha: float) -> tuple[float, float]:
    fewest, most = share_bounds(round(float(bottom.sum())), top.size, alpha)
    mean = float(top.mean())
    least, largest = mean / most, mean / fewest if fewest else math.inf
    if top.size > MANY and bottom.any():
        ratio = mean / float(bottom.mean())
        low, high = limit_bounds(ratio + (top - ratio * bottom) / bottom.mean(), alpha)
        return min(low, least), max(high, largest)
    picks = np.random.default_rng(0).integers(0, top.size, size=(4000, top.size))
    tops, bottoms = top[picks], bottom[picks]
    some = bottoms.any(axis=1)
    ratios = np.divide(tops.sum(axis=1), bottoms.sum(axis=1), out=np.full(len(picks), math.inf), where=some)
    low, high = (float(bound) for bound in np.quantile(ratios, [alpha, 1 - alpha], method="inverted_cdf"))
    low, high = min(low, least), max(high, largest)
    if some.all():  # the error of a ratio is that of numerator - ratio x denominator, over the mean denominator
        ratio = mean / float(bottom.mean())
        spread = (tops - ratios[:, None] * bottoms).std(axis=1) / bottoms.mean(axis=1)
        error = float((top - ratio * bottom).std() / bottom.mean())
        lower, upper = _studentised(ratio, ratios, error, np.where(spread > 1e-12 * mean, spread, 0.0), RATIO_ALPHA * alpha)
        low, high = min(low, lower), max(high, upper)
    return low, high


def _studentised(point: float, drawn: np.ndarray, error: float, errors: np.ndarray, alpha: float) -> tuple[float, float]:
    """Return studentised bootstrap bounds of an estimate from those of resamples, each with its standard error (0: unknown)."""
    away = (drawn - point)[errors > 0] / errors[errors > 0]
    left, right = np.quantile(away, [alpha, 1 - alpha]) if away.size else (0.0, 0.0)
    return float(point - right * error), float(point - left * error)


def amount_bounds(values: Sequence[float], alpha: float) -> tuple[float, float]:
    """Return bounds of the mean of values without limits, such as minutes saved.

    The wider of Student's t and the studentised bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 12.5):
    t alone passes .13 of the time where a few questions cost much more than the others save, the bootstrap alone more
    than .05 where tails are heavy. No bound knows of losses that a sample did not show: see ``AMOUNT_LEAST``.

    Returns:
        Bounds in the unit of the values; infinite for fewer than two.
    """
    from statsmodels.stats.weightstats import DescrStatsW

    drawn = np.asarray(values, dtype=float)
    if drawn.size < 2:
        return -math.inf, math.inf
    if drawn.size > MANY:
        return limit_bounds(drawn, alpha)
    low, high = (float(bound) for bound in DescrStatsW(drawn).tconfint_mean(alpha=2 * alpha))
    again = drawn[np.random.default_rng(0).integers(0, drawn.size, size=(4000, drawn.size))]
    mean, error = float(drawn.mean()), float(drawn.std(ddof=1))
    lower, upper = _studentised(mean, again.mean(axis=1), error, again.std(axis=1, ddof=1), alpha)
    return min(low, lower), max(high, upper)


AMOUNT_LEAST = 100
"""Fewest values for which ``amount_bounds`` holds where one question in twenty takes far longer with the system."""
YEN_LEAST = 100
"""Likewise of ``ratio_bounds`` where costs are skewed; what one question in fifty or fewer costs may stay unseen."""
