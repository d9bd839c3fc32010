"""Exact one-sided bounds for the gate, from scipy and statsmodels, and the sample size that would settle it.

All bounds are one-sided at ``alpha``; low and high together are a two-sided interval of 1 - 2 alpha.
"""

import math
from collections.abc import Sequence

import numpy as np


def share_bounds(successes: float, n: int, alpha: float) -> tuple[float, float]:
    """Return Clopper-Pearson bounds of a share.

    Args:
        successes: Number of successes, 0–n.
        n: Number of trials; 0 gives (0, 1).
        alpha: One-sided error, for example 0.05.
    """
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return 0.0, 1.0
    low, high = proportion_confint(successes, n, alpha=2 * alpha, method="beta")
    return float(low), float(high)


def share_p_value_below(successes: int, n: int, bar: float) -> float:
    """Return the exact binomial p-value against "the share is at least the bar"; small speaks for NO-GO."""
    from scipy.stats import binomtest

    return float(binomtest(successes, n, bar, alternative="less").pvalue) if n else 1.0


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


def mean_bounds(values: Sequence[float], alpha: float, *, seed: int = 0) -> tuple[float, float]:
    """Return BCa bootstrap bounds of a mean of values between 0 and 1, widened by what the sample may not have shown.

    The bootstrap knows only the values that were drawn. A share of 1 - alpha^(1/n) of all questions can stay out of a
    sample unseen: the bounds leave room for that share being 0, or 1 (simulated at n = 30, where one question in twenty
    scores 0 and the others .9 or 1: false GO .25 without, .00 with it). Fewer than 30 values, or equal ones, cannot be
    bootstrapped: they get Clopper-Pearson bounds of their sum, which are exact for 0/1 values and wider than needed in
    between (simulated: at most .02 at .05).
    """
    from scipy.stats import bootstrap

    if len(values) < 30 or len(set(values)) == 1:
        return share_bounds(sum(values), len(values), alpha)
    result = bootstrap(
        (np.asarray(values),), np.mean, confidence_level=1 - 2 * alpha, method="BCa", n_resamples=9999,
        rng=np.random.default_rng(seed),
    )
    mean, seen = float(np.mean(values)), alpha ** (1 / len(values))
    low, high = float(result.confidence_interval.low), float(result.confidence_interval.high)
    return min(low, mean * seen), max(high, 1 - (1 - mean) * seen)


def paired_difference_bounds(first: Sequence[float], second: Sequence[float], alpha: float) -> tuple[float, float]:
    """Return bounds of mean(second - first), both arms on the same questions, all values between 0 and 1.

    Differences of 0/1 values get Tango's score interval (Statistics in Medicine 17, 1998, 891), whose size stays at
    most .058 at .05 (exact enumeration) where few pairs differ and the paired t goes to .12; other values get paired t.
    Equal differences throughout get the bound alpha^(1/n) sets to the share of all others.
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
        return _tango_bounds(int(np.sum(difference > 0)), int(np.sum(difference < 0)), n, alpha)
    low, high = DescrStatsW(difference).tconfint_mean(alpha=2 * alpha)
    return float(low), float(high)


def _tango_bounds(gains: int, losses: int, n: int, alpha: float) -> tuple[float, float]:
    from scipy.optimize import brentq
    from scipy.stats import norm

    def z(delta: float) -> float:
        # The share of losses that is likeliest if the true difference is delta, and the variance that goes with it.
        b = (2 * n - gains + losses) * delta - gains - losses
        root = math.sqrt(max(b * b + 8 * n * losses * delta * (1 - delta), 0.0))
        variance = n * ((root - b) / (2 * n) + delta * (1 - delta))
        return (gains - losses - n * delta) / math.sqrt(max(variance, 1e-300))

    quantile, edge = float(norm.ppf(1 - alpha)), 1 - 1e-9
    low, high = (brentq(lambda delta, q=q: z(delta) - q, -edge, edge) for q in (quantile, -quantile))
    return float(low), float(high)


def holm_rejects(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Return which hypotheses Holm's procedure rejects at family-wise ``alpha``."""
    from statsmodels.stats.multitest import multipletests

    return [bool(x) for x in multipletests(p_values, alpha=alpha, method="holm")[0]] if p_values else []


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


def ratio_bounds(
    numerators: Sequence[float], denominators: Sequence[float], alpha: float, *, seed: int = 0
) -> tuple[float, float]:
    """Return bounds of sum(numerators) / sum(denominators), where each denominator is 0 or 1.

    The wider of two: paired percentile bootstrap, and mean numerator over exact bounds of the share of 1s. The second
    holds where the bootstrap sees no variation (all right at like cost); ``inf`` where the share may be 0.
    """
    top, bottom = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    if not top.size:
        return -math.inf, math.inf
    picks = np.random.default_rng(seed).integers(0, top.size, size=(4000, top.size))
    sums = bottom[picks].sum(axis=1)
    ratios = np.divide(top[picks].sum(axis=1), sums, out=np.full(len(sums), math.inf), where=sums > 0)
    low, high = np.quantile(ratios, [alpha, 1 - alpha], method="inverted_cdf")
    fewest, most = share_bounds(round(float(bottom.sum())), top.size, alpha)
    mean = float(top.mean())
    return min(float(low), mean / most), max(float(high), mean / fewest if fewest else math.inf)
