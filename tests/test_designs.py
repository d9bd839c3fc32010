"""Looks, McNemar, grouped questions and judges: against tables, statsmodels, and values known by hand."""

import math

import numpy as np
import pytest
from scipy.stats import norm, t

from kit.evaluation import designs
from kit.evaluation.designs import (
    cluster_share_bounds,
    design_effect,
    groupings,
    judged_bounds,
    judged_influence,
    judged_share,
    mcnemar_p,
    share_effects,
    spend,
    widened_bounds,
    widened_quantile_bounds,
    widening,
)
from kit.evaluation.statistics import quantile_bounds, share_bounds

A = 0.05
NAN = math.nan


@pytest.mark.parametrize(
    ("looks", "shares"),
    [(1, (0.05,)), (2, (0.0056, 0.0444)), (3, (0.0007, 0.0157, 0.0336)), (4, (0.0001, 0.0055, 0.0181, 0.0264))],
)
def test_what_each_look_may_spend(looks, shares):
    assert spend(A, looks) == pytest.approx(shares, abs=5e-5)
    assert sum(spend(A, looks)) == pytest.approx(A)


@pytest.mark.parametrize("looks", [0, 5])
def test_too_many_looks_are_refused(looks):
    with pytest.raises(ValueError, match="looks"):
        spend(A, looks)


@pytest.mark.parametrize(("gains", "losses"), [(0, 0), (5, 1), (1, 5), (12, 3), (30, 30)])
def test_mcnemar_is_that_of_statsmodels(gains, losses):
    from statsmodels.stats.contingency_tables import mcnemar

    both_sides = min(1.0, 2 * min(mcnemar_p(gains, losses), mcnemar_p(losses, gains)))
    assert both_sides == pytest.approx(float(mcnemar([[7, losses], [gains, 9]], exact=True).pvalue))


def test_mcnemar_by_hand():
    assert mcnemar_p(5, 1) == pytest.approx(7 / 64)
    assert mcnemar_p(0, 3) == 1.0


# --- grouped questions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("right", [0, 3, 30, 40])
def test_questions_on_documents_of_their_own_are_plain(right):
    values = [1.0] * right + [0.0] * (40 - right)
    assert cluster_share_bounds(values, range(40), A) == share_bounds(right, 40, A)
    assert design_effect(values, range(40)) == (1.0, math.inf)
    assert widened_bounds((0.1, 0.9), 0.5, widening(values, [range(40)])(A)) == (0.1, 0.9)


def test_nothing_and_a_single_document_say_nothing():
    assert cluster_share_bounds([], [], A) == (0.0, 1.0)
    assert cluster_share_bounds([1.0] * 90, ["a"] * 90, A) == (0.0, 1.0)
    assert design_effect([1.0, 0.0], ["a", "a"]) == (2.0, 0.0)
    assert widened_bounds((0.4, 0.6), 0.5, widening([1.0, 0.0], [["a", "a"]])(A)) == (-math.inf, math.inf)


def test_without_a_prior_the_effect_is_that_of_statsmodels(monkeypatch):
    import statsmodels.api as sm

    monkeypatch.setattr(designs, "WEIGHT", 0.0)
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(25), 4)
    values = (random.random(100) < np.repeat(random.beta(0.8, 0.2, 25), 4)).astype(float)
    fitted = sm.OLS(values, np.ones(100)).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, use_t=True)
    robust = float(fitted.bse[0]) ** 2 * 25 / 24
    effect, freedom = design_effect(values, groups)
    assert effect > 1.5
    assert effect == pytest.approx(robust / (values.var() / 100))
    assert freedom == 24


def test_all_right_is_worth_what_the_assumed_likeness_leaves():
    groups = [i // 5 for i in range(100)]
    effect, freedom = design_effect([1.0] * 100, groups)
    assert (effect, freedom) == (pytest.approx(1 + 0.3 * 4), pytest.approx(19))
    worth = 100 / effect / (t.isf(A, 19) / norm.isf(A)) ** 2
    assert cluster_share_bounds([1.0] * 100, groups, A) == (pytest.approx(A ** (1 / worth)), 1.0)
    assert cluster_share_bounds([0.0] + [1.0] * 99, groups, A)[0] < A ** (1 / worth)


def test_whole_documents_wrong_widen_more_than_scattered_questions():
    groups = [i // 5 for i in range(100)]
    together = [0.0] * 20 + [1.0] * 80
    scattered = [0.0, 1.0, 1.0, 1.0, 1.0] * 20
    plain = share_bounds(80, 100, A)
    for values in (together, scattered):
        low, high = cluster_share_bounds(values, groups, A)
        assert low < plain[0]
        assert high > plain[1]
    assert cluster_share_bounds(together, groups, A)[0] < cluster_share_bounds(scattered, groups, A)[0] - 0.05
    assert design_effect(together, groups)[0] > 3
    assert design_effect(scattered, groups)[0] < 1.5


def test_bounds_of_grouped_means_widen_about_their_point():
    groups, values = [i // 5 for i in range(100)], [0.0] * 20 + [1.0] * 80
    wider = widening(values, [groups])(A)
    low, high = widened_bounds((0.7, 0.85), 0.8, wider)
    factor = math.sqrt(design_effect(values, groups)[0]) * t.isf(A, 19) / norm.isf(A)
    assert (low, high) == (pytest.approx(0.8 - 0.1 * factor), pytest.approx(0.8 + 0.05 * factor))
    assert widened_bounds((0.7, math.inf), 0.8, wider)[1] == math.inf


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.3, 0.5])
def test_grouped_bounds_narrow_as_alpha_grows(alpha):
    groups, values = [i // 5 for i in range(100)], [0.0] * 20 + [1.0] * 80
    low, high = cluster_share_bounds(values, groups, alpha)
    assert low < 0.8 < high
    wider = cluster_share_bounds(values, groups, alpha / 2)
    assert wider[0] < low
    assert wider[1] > high


def named(documents, size, places=True):
    return [f"d{i // size}\n{i}頁" if places else f"d{i // size}\n" for i in range(documents * size)]


@pytest.mark.parametrize(
    ("names", "groups", "told"),
    [
        (named(20, 10), [20], ""),  # many documents speak for themselves
        (named(19, 10), [19, 190], ""),  # a few: places beside them, never instead
        (named(19, 10, places=False), [19], ""),
        (named(4, 50), [200], "文書が4件しかない"),
        (named(4, 50, places=False), [4], "文書ごとのまとまり"),
        (named(1, 200), [200], "頁や見出しごとのまとまり"),  # one manual of many pages
        (named(1, 200, places=False), [], "無関係とみなします"),
        ([""] * 10, [10], ""),
        ([*named(4, 2, places=False), "", ""], [6], "文書が4件しかない"),
    ],
)
def test_what_questions_are_grouped_by(names, groups, told):
    levels, note = groupings(names)
    assert [len({*level}) for level in levels] == groups
    assert told in note
    assert bool(told) == bool(note)


def test_the_wider_of_two_groupings_counts():
    values = [1.0] * 10 + [0.0] * 10
    documents, places = [i // 4 for i in range(20)], [i // 2 for i in range(20)]
    both, each = widening(values, [documents, places]), [widening(values, [level]) for level in (documents, places)]
    assert both(A) == max(one(A) for one in each) > min(one(A) for one in each) > 1
    assert widening(values, [])(A) == 1.0


def test_many_draws_have_the_effects_of_each():
    sizes, hits = np.array([5, 3, 7, 2, 8]), np.array([[5, 0, 3, 2, 8], [5, 3, 7, 2, 8], [1, 1, 1, 0, 0]])
    groups = np.repeat(np.arange(5), sizes)
    drawn = [np.concatenate([np.arange(size) < hit for size, hit in zip(sizes, row, strict=True)]).astype(float) for row in hits]
    assert share_effects(hits, sizes) == pytest.approx([design_effect(values, groups)[0] for values in drawn])


def test_a_quantile_of_grouped_values_is_bounded_by_the_share_not_above_it():
    values = [float(i) for i in range(1, 201)]
    low, high = widened_quantile_bounds(values, 0.95, 2.0, A)
    assert share_bounds(high / 2, 100, A)[0] >= 0.95 > share_bounds((high - 1) / 2, 100, A)[0]
    assert share_bounds(low / 2, 100, A)[1] >= 0.95 > share_bounds((low - 1) / 2, 100, A)[1]
    assert widened_quantile_bounds(values, 0.95, 1.0, A) == quantile_bounds(values, 0.95, A)
    assert widened_quantile_bounds(values, 0.95, math.inf, A) == (-math.inf, math.inf)


# --- judges ---------------------------------------------------------------------------------------------


def verdicts(hit=0.9, spare=0.9, share=0.8, n=500, labels=200, seed=0):
    random = np.random.default_rng(seed)
    truth = random.random(n) < share
    said = np.where(random.random(n) < np.where(truth, hit, 1 - spare), 1.0, 0.0)
    return said, np.where(np.arange(n) < labels, truth.astype(float), NAN)


def test_a_judge_that_is_corrected_tells_the_truth():
    for hit, spare in ((0.97, 0.5), (0.7, 0.9)):
        said, told = verdicts(hit, spare, n=20_000, labels=5_000)
        assert abs(said.mean() - 0.8) > 0.05
        assert judged_share(said, told) == pytest.approx(0.8, abs=0.02)
        low, high = judged_bounds(said, told, A)
        assert low < 0.8 < high < low + 0.04


def test_too_few_labels_are_refused():
    said, told = verdicts(labels=149)
    with pytest.raises(ValueError, match="150 labels"):
        judged_bounds(said, told, A)
    assert judged_bounds(*verdicts(labels=150), A)[0] > 0.6


def test_judged_bounds_are_the_same_every_time_and_tighter_than_the_labels_alone():
    said, told = verdicts(hit=0.97, spare=0.95, share=0.85, n=2_000, labels=150)
    low, high = judged_bounds(said, told, A)
    assert (low, high) == judged_bounds(said, told, A)
    alone = share_bounds(float(np.nansum(told)), 150, A)
    assert high - low < 0.8 * (alone[1] - alone[0])


def test_a_failed_question_counts_as_what_it_is():
    said, told = verdicts(n=500, labels=200)
    lost = np.r_[said, [NAN] * 100]
    worst, best = (judged_bounds(lost, np.r_[told, [value] * 100], A) for value in (0.0, 1.0))
    point = judged_share(said, told)
    assert judged_share(lost, np.r_[told, [0.0] * 100]) == pytest.approx(point * 5 / 6)
    assert worst[1] < best[0]
    assert worst[0] < point * 5 / 6 < worst[1]


def test_what_each_question_adds_to_a_judged_share():
    judge, human = verdicts(0.9, 0.8)
    assert np.mean(judged_influence(judge, human)) == pytest.approx(judged_share(judge, human))
    truth = [1.0, 0.0] * 100
    assert judged_influence(truth, truth) == truth  # a judge that is always right, all labelled
    assert judged_influence([NAN, NAN], [0.0, 1.0]) == [0.0, 1.0]


def test_judged_bounds_widen_with_what_questions_have_in_common():
    judge, human = verdicts()
    plain, wider = (judged_bounds(judge, human, A, factor=factor) for factor in (1.0, 3.0))
    assert 0 < wider[0] < plain[0] < plain[1] < wider[1] < 1
    assert judged_bounds(judge, human, A, factor=math.inf) == (0.0, 1.0)
