"""Bounds against scipy, against values known by hand, and against exact enumeration."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, quantile_test, ttest_1samp

from kit.evaluation.statistics import (
    MANY,
    PAIRED_ALPHA,
    amount_bounds,
    holm_rejects,
    limit_bounds,
    mean_bounds,
    paired_difference_bounds,
    quantile_bounds,
    questions_needed,
    ratio_bounds,
    share_bounds,
)

A = 0.05


def near(*values, abs=1e-9):
    return pytest.approx(values[0] if len(values) == 1 else values, abs=abs)


# --- shares ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 14, 59, 200])
def test_all_or_none_of_n_have_a_closed_form(n):
    assert share_bounds(n, n, A) == near(A ** (1 / n), 1.0)
    assert share_bounds(0, n, A) == near(0.0, 1 - A ** (1 / n))


@pytest.mark.parametrize(("k", "n", "alpha"), [(1, 2, A), (3, 10, A), (140, 200, A), (199, 200, 0.01), (7, 50, 0.2)])
def test_share_bounds_are_clopper_pearson(k, n, alpha):
    exact = binomtest(k, n).proportion_ci(1 - 2 * alpha, method="exact")
    assert share_bounds(k, n, alpha) == near(exact.low, exact.high)


def test_no_trial_bounds_nothing():
    assert share_bounds(0, 0, A) == (0.0, 1.0)


@pytest.mark.parametrize("n", [14, 29, 59, 150])
@pytest.mark.parametrize("p", [0.05, 0.3, 0.7, 0.8, 0.95])
def test_share_bounds_miss_the_truth_at_most_alpha_of_the_time(n, p):
    k = np.arange(n + 1)
    bounds = [share_bounds(int(i), n, A) for i in k]
    assert binom.pmf(k, n, p) @ [low > p for low, _ in bounds] <= A
    assert binom.pmf(k, n, p) @ [high < p for _, high in bounds] <= A


# --- quantiles ------------------------------------------------------------------------------------------


def test_59_values_bound_a_95_percent_quantile_and_58_do_not():
    assert quantile_bounds(range(1, 60), 0.95, A)[1] == 59
    assert quantile_bounds(range(1, 59), 0.95, A)[1] == math.inf


def test_few_values_bound_nothing_above():
    assert quantile_bounds([], 0.95, A) == (-math.inf, math.inf)
    low, high = quantile_bounds([2.0], 0.95, A)
    assert low in (2.0, -math.inf)  # P(X > median) holds with probability .95 exactly
    assert high == math.inf
    assert quantile_bounds([2.0], 0.95, 0.01) == (-math.inf, math.inf)


@pytest.mark.parametrize("n", [59, 93, 200])
@pytest.mark.parametrize("q", [0.5, 0.9, 0.95])
def test_quantile_bounds_cover_and_no_tighter_ones_do(n, q):
    low, high = quantile_bounds(range(1, n + 1), q, A)  # the k-th smallest value is k

    def above(k):  # P(the k-th smallest >= the quantile) = P(fewer than k of n fall below it)
        return sum(math.comb(n, i) * q**i * (1 - q) ** (n - i) for i in range(int(k)))

    assert above(high) >= 1 - A - 1e-12 > above(high - 1)
    assert 1 - above(low) >= 1 - A - 1e-12 > 1 - above(low + 1)


def test_failures_count_as_infinitely_slow():
    fast = [0.5] * 196
    assert quantile_bounds([*fast, *[math.inf] * 4], 0.95, A)[1] == 0.5
    assert quantile_bounds([*fast[:-1], *[math.inf] * 5], 0.95, A)[1] == math.inf


def test_quantile_bound_is_the_one_of_scipy():
    values = np.random.default_rng(0).exponential(size=150)
    found = quantile_test(values, q=1, p=0.95, alternative="less").confidence_interval(1 - A)
    assert quantile_bounds(values, 0.95, A)[1] == found.high


# --- means ----------------------------------------------------------------------------------------------


def test_few_or_equal_values_get_the_bounds_of_a_share():
    assert mean_bounds([], A) == (0.0, 1.0)
    assert mean_bounds([1.0], A) == near(A, 1.0)
    assert mean_bounds([0.0, 1.0], A) == near(*share_bounds(1, 2, A))
    assert mean_bounds([1.0] * 200, A) == near(A ** (1 / 200), 1.0)
    assert mean_bounds([0.0] * 200, A) == near(0.0, 1 - A ** (1 / 200))
    low, high = mean_bounds([0.5] * 40, A)
    assert 0.3 < low < 0.5 < high < 0.7


@pytest.mark.parametrize("values", [[1, 0.5], [1, 0.5, 1 / 3, 0], [0.5, 0.6, 0]])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_bounds_of_a_small_mean_miss_at_most_alpha_of_the_time(values, n):
    shares = np.arange(1, len(values) + 1) / sum(range(1, len(values) + 1))
    mean, missed_below, missed_above = float(shares @ values), 0.0, 0.0
    for drawn in itertools.product(range(len(values)), repeat=n):
        chance = math.prod(shares[i] for i in drawn)
        low, high = mean_bounds([values[i] for i in drawn], A)
        missed_below += chance * (low > mean)
        missed_above += chance * (high < mean)
    assert missed_below <= A
    assert missed_above <= A


@pytest.mark.parametrize("n", [30, 60])
def test_a_mean_leaves_room_for_what_was_not_drawn(n):
    """Where one question in twenty scores 0, a sample of 30 shows none in .21 of all cases: no reason to be surer."""
    lucky = [1.0] * (n // 2) + [0.9] * (n // 2)
    assert mean_bounds(lucky, A)[0] <= 0.95 * A ** (1 / n) + 1e-12
    assert mean_bounds([1 - value for value in lucky], A)[1] >= 1 - 0.95 * A ** (1 / n) - 1e-12
    assert mean_bounds([1.0] * (n - 1) + [0.99], A)[0] < mean_bounds([1.0] * n, A)[0]


def test_many_values_are_bootstrapped_the_same_way_every_time():
    values = [1.0] * 70 + [0.5] * 10 + [0.0] * 20
    low, high = mean_bounds(values, A)
    assert (low, high) == mean_bounds(values, A)
    error = np.std(values, ddof=1) / 10  # of a mean of 100
    assert (low, high) == pytest.approx((0.75 - 1.645 * error, 0.75 + 1.645 * error), abs=0.01)
    assert 0.75 - low > high - 0.75  # the tail is on the left


@pytest.mark.slow
def test_a_bootstrapped_mean_at_the_bar_passes_about_alpha_of_the_time():
    random, bar = np.random.default_rng(1), 0.75 + 0.05 + 0.01
    drawn = random.choice([1, 0.5, 1 / 3, 0], (1500, 100), p=[0.75, 0.1, 0.03, 0.12])
    passed = np.mean([mean_bounds(list(values), A)[0] >= bar for values in drawn])
    assert passed <= A + 3 * math.sqrt(A * (1 - A) / 1500)


# --- paired differences ---------------------------------------------------------------------------------


def pairs(gains, losses, n):
    first = [0.0] * gains + [1.0] * losses + [1.0] * (n - gains - losses)
    return first, [1.0] * gains + [0.0] * losses + [1.0] * (n - gains - losses)


def test_degenerate_pairs():
    assert paired_difference_bounds([], [], A) == (-math.inf, math.inf)
    assert paired_difference_bounds([1.0], [1.0], A) == near(-0.95, 0.95)
    assert paired_difference_bounds([0.0], [1.0], A) == near(1 - 2 * 0.95, 1.0)
    slack = 1 - A ** (1 / 59)
    assert paired_difference_bounds([1.0] * 59, [1.0] * 59, A) == near(-slack, slack)
    assert paired_difference_bounds([0.0] * 59, [1.0] * 59, A) == near(1 - 2 * slack, 1.0)
    assert paired_difference_bounds([1.0] * 59, [0.0] * 59, A) == near(-1.0, -1 + 2 * slack)
    low, high = paired_difference_bounds([0.0, 1.0], [1.0, 0.0], A)
    assert low == pytest.approx(-high)
    assert 0.5 < high < 1


@pytest.mark.parametrize(("gains", "losses", "n"), [(1, 1, 20), (3, 1, 20), (12, 2, 50), (5, 30, 200), (20, 1, 21)])
def test_share_differences_have_the_score_that_their_bound_asks_for(gains, losses, n):
    """Tango's interval is where the score test under the likeliest shares of that difference is just at .85 alpha."""
    from scipy.optimize import minimize_scalar

    for bound, quantile in zip(paired_difference_bounds(*pairs(gains, losses, n), A), (1.7224, -1.7224), strict=True):

        def log_likelihood(loss, bound=bound):
            shares = np.array([loss + bound, loss, 1 - 2 * loss - bound])
            return -float(np.array([gains, losses, n - gains - losses]) @ np.log(np.maximum(shares, 1e-300)))

        least, most = max(0.0, -bound), (1 - bound) / 2
        loss = minimize_scalar(log_likelihood, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
        score = (gains - losses - n * bound) / math.sqrt(n * (2 * loss + bound - bound**2))
        assert score == pytest.approx(quantile, abs=2e-3)


def test_swapping_the_arms_mirrors_the_bounds():
    first, second = pairs(9, 4, 60)
    low, high = paired_difference_bounds(first, second, A)
    assert paired_difference_bounds(second, first, A) == pytest.approx((-high, -low))
    assert low < 5 / 60 < high


@pytest.mark.parametrize(("margin", "n"), [(0.05, 60), (0.1, 40), (0.1, 100)])
@pytest.mark.parametrize("differing", [0.0, 0.02, 0.1, 0.2])
def test_an_arm_worse_by_the_margin_passes_at_most_alpha_of_the_time(margin, n, differing):
    """Exact enumeration; with few differing pairs the paired t would pass .09 to .12 of the time."""
    loss, gain = margin + differing / 2, differing / 2
    passed = 0.0
    for losses in range(n + 1):
        for gains in range(n - losses + 1):
            chance = binom.pmf(losses, n, loss) * binom.pmf(gains, n - losses, gain / (1 - loss))
            if chance > 1e-7 and paired_difference_bounds(*pairs(gains, losses, n), A)[0] >= -margin:
                passed += chance
    assert passed <= A


def test_other_differences_have_the_wider_bounds_of_t_and_of_a_mean_and_leave_room_for_losses_not_drawn():
    first, second = np.random.default_rng(0).random((2, 40))
    alpha = PAIRED_ALPHA * A
    low, high = mean_bounds((second - first + 1) / 2, alpha)
    plain = ttest_1samp(second - first, 0).confidence_interval(1 - 2 * alpha)
    assert paired_difference_bounds(first, second, A) == near(min(plain.low, 2 * low - 1), max(plain.high, 2 * high - 1))
    slightly = paired_difference_bounds([0.9] * 58, [0.9, 0.91] * 29, A)[0]
    assert slightly == near(0.005 - (1 - alpha ** (1 / 58)) * 1.005)


@pytest.mark.parametrize(("gains", "losses"), [(0, 0), (0, 2), (3, 0), (20, 0)])
def test_where_all_differing_pairs_differ_one_way_the_bounds_are_exact_if_wider(gains, losses):
    low, high = paired_difference_bounds(*pairs(gains, losses, 60), A)
    if not gains:
        assert low <= -share_bounds(losses, 60, A)[1] + 1e-12
    if not losses:
        assert high >= share_bounds(gains, 60, A)[1] - 1e-12
    assert low < (gains - losses) / 60 < high


# --- amounts --------------------------------------------------------------------------------------------


def test_one_amount_bounds_nothing():
    assert amount_bounds([], A) == amount_bounds([3.0], A) == (-math.inf, math.inf)
    assert amount_bounds([3.0] * 40, A) == near(3.0, 3.0)


def test_amounts_are_bounded_the_same_way_every_time_and_never_tighter_than_by_t():
    values = np.random.default_rng(0).lognormal(1, 1, 120)
    low, high = amount_bounds(values, A)
    assert (low, high) == amount_bounds(values, A)
    plain = ttest_1samp(values, 0).confidence_interval(1 - 2 * A)
    assert low <= plain.low + 1e-12
    assert high > plain.high + 0.05  # the tail on the right: the mean may well be higher


def test_seldom_losses_lower_the_bound():
    values = [3.0, 3.5, 2.5, 4.0] * 30
    assert amount_bounds(values[:114] + [-20.0] * 6, A)[0] < np.mean(values[:114] + [-20.0] * 6) - 1.9 * np.std(values[:114] + [-20.0] * 6) / 120**0.5


# --- several hypotheses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ([], []),
        ([0.05], [True]),
        ([0.051], [False]),
        ([0.03, 0.01, 0.04], [False, True, False]),  # .01 ≤ .05/3, .03 > .05/2
        ([0.03, 0.01, 0.02], [True, True, True]),
        ([0.04, 0.04], [False, False]),
        ([1.0, 0.0], [False, True]),
    ],
)
def test_holm(p_values, rejected):
    assert holm_rejects(p_values, A) == rejected


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_that_of_statsmodels(seed):
    from statsmodels.stats.multitest import multipletests

    p_values = np.random.default_rng(seed).beta(0.3, 3, 6)
    assert holm_rejects(p_values, A) == list(multipletests(p_values, alpha=A, method="holm")[0])


# --- how many questions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bar", "point", "power", "n"),
    [
        (0.8, 0.85, 0.8, 398), (0.8, 0.85, 0.9, 528), (0.8, 0.88, 0.8, 153), (0.8, 0.9, 0.96, 158),
        (0.9, 0.95, 0.8, 203), (0.9, 0.97, 0.9, 116), (0.7, 0.8, 0.8, 130), (0.95, 1.0, 0.8, 59), (0.9, 1.0, 0.8, 29),
    ],
)  # fmt: skip
def test_known_sample_sizes(bar, point, power, n):
    assert questions_needed(point, bar, A, power=power) == n


@pytest.mark.parametrize(
    ("point", "bar"), [(0.9, 0.7), (0.85, 0.7), (0.5, 0.7), (0.98, 0.9), (0.75, 0.9), (0.1, 0.3), (0.0, 0.15), (1.0, 0.95)]
)
def test_questions_needed_against_a_linear_scan(point, bar):
    hits, last_short = 0, 0
    for n in range(1, 261):  # the number of hits that decides never falls as n grows
        if point > bar:
            while hits <= n and share_bounds(hits, n, A)[0] < bar:
                hits += 1
            chance = binom.sf(hits - 1, n, point)
        else:
            while hits <= n and share_bounds(hits, n, A)[1] < bar:
                hits += 1
            chance = binom.cdf(hits - 1, n, point)
        last_short = n if chance < 0.8 else last_short
    assert last_short < 260
    assert questions_needed(point, bar, A) == last_short + 1


def test_what_cannot_be_settled():
    assert questions_needed(0.7, 0.7, A) == 0
    assert questions_needed(0.7001, 0.7, A) == 0
    assert questions_needed(0.85, 0.8, A, limit=397) == 0
    assert questions_needed(0.85, 0.8, A, limit=398) == 398


# --- cost per right answer ------------------------------------------------------------------------------


def test_ratio_of_nothing():
    assert ratio_bounds([], [], A) == (-math.inf, math.inf)
    assert ratio_bounds([2.0], [1.0], A) == near(2.0, 2.0 / A)
    low, high = ratio_bounds([2.0], [0.0], A)
    assert (low, high) == (pytest.approx(2.0 / 0.95), math.inf)
    assert ratio_bounds([0.0] * 9, [1.0] * 9, A) == (0.0, 0.0)


def test_equal_costs_all_right_leave_the_doubt_about_the_share():
    assert ratio_bounds([3.0] * 59, [1.0] * 59, A) == near(3.0, 3.0 / A ** (1 / 59))


@pytest.mark.parametrize("p", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [10, 40])
def test_equal_costs_pass_a_bar_at_the_truth_at_most_alpha_of_the_time(p, n):
    """Exact enumeration; the bootstrap alone would pass .11 to .60 of the time."""
    highs = [ratio_bounds([1.0] * n, [1.0] * k + [0.0] * (n - k), A)[1] for k in range(n + 1)]
    assert binom.pmf(np.arange(n + 1), n, p) @ [high <= 1 / p for high in highs] <= A


def test_varying_costs_widen_the_bounds():
    right = [1.0] * 80 + [0.0] * 20
    same = ratio_bounds([1.0] * 100, right, A)
    varied = ratio_bounds([0.1, 1.9] * 50, right, A)
    assert varied[0] < same[0] < 1.25 < same[1] < varied[1]


def test_a_cost_not_drawn_may_be_as_dear_as_the_dearest():
    right, even = [1.0] * 100, [1.0] * 100
    assert ratio_bounds([1.0] * 99 + [50.0], right, A)[1] > 1.49 + (1 - A ** (1 / 100)) * 48
    assert ratio_bounds(even, right, A)[1] == near(1 / share_bounds(100, 100, A)[0])


# --- very many values -----------------------------------------------------------------------------------


def test_many_values_are_bounded_without_a_bootstrap_and_alike():
    random = np.random.default_rng(0)
    values = np.where(random.random(MANY + 1) < 0.05, 0.0, 0.95)
    plain = ttest_1samp(values, 0).confidence_interval(1 - 2 * A)
    low, high = limit_bounds(values, A)
    assert low < plain.low - 1e-4  # seldom zeros: the mean may well be lower
    assert high < plain.high
    boot = np.quantile(random.choice(values, (2000, values.size)).mean(axis=1), [A, 1 - A])
    assert (low, high) == near(*boot, abs=5e-4)
    assert amount_bounds(values, A) == (low, high)
    assert mean_bounds(values, A) == (min(low, values.mean() * A ** (1 / values.size)), high)
    assert limit_bounds([1.0] * 9, A) == (1.0, 1.0)


def test_the_ratio_of_many_values_is_bounded_likewise():
    random = np.random.default_rng(0)
    right, yen = (random.random(MANY + 1) < 0.8).astype(float), random.lognormal(0, 0.5, MANY + 1)
    low, high = ratio_bounds(yen, right, A)
    fewer_low, fewer_high = ratio_bounds(yen[:MANY], right[:MANY], A)
    assert (low, high) == near(fewer_low, fewer_high, abs=0.01)
