"""The confidence of the extractive reader, fitted on development questions."""

import numpy as np
import pytest

from kit.answering.extractive import SHIPPED, ExtractiveReader
from kit.answering.rag import Rag
from kit.evaluation.calibration import FEWEST, WRONG_COSTS, best_threshold, calibrate, fit_curve
from kit.evaluation.evaluate import rehearse
from kit.evaluation.metrics import right
from tests.evaluations import machine_cases, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("machines") / "store")


def test_too_few_questions_leave_the_shipped_calibration(store):
    cases = machine_cases()
    assert len(cases) == FEWEST
    assert calibrate(store, cases[1:]) is SHIPPED
    assert calibrate(store, ()) is SHIPPED
    assert calibrate(store, cases) != SHIPPED


def test_questions_that_can_be_told_apart_are(store):
    cases = machine_cases()
    fitted = calibrate(store, cases)
    assert fitted.source == "開発用質問 30 問"
    rows = rehearse(Rag(store, ExtractiveReader(fitted)), cases)
    assert {case.id for case in cases if not right(case, rows[case.id])} == set()
    sure = [rows[case.id].confidence for case in cases if case.answerable]
    unsure = [rows[case.id].confidence for case in cases if not case.answerable]
    assert max(unsure) < fitted.threshold < min(sure)
    assert fitted.slope > 0
    assert calibrate(store, cases) == fitted


def test_a_store_that_answers_nothing_teaches_to_abstain(store):
    cases = machine_cases()
    wrong = [case for case in cases if not case.answerable] * 3
    fitted = calibrate(store, wrong)
    rows = rehearse(Rag(store, ExtractiveReader(fitted)), wrong)
    assert all(row.abstained for row in rows.values())


def test_the_reader_that_is_fitted_is_not_changed(store):
    before = ExtractiveReader().calibration
    calibrate(store, machine_cases())
    assert ExtractiveReader().calibration == before == SHIPPED


# --- the curve ------------------------------------------------------------------------------------------


def probability(curve, evidence):
    return 1 / (1 + np.exp(-(curve[0] + curve[1] * evidence)))


def test_without_data_the_curve_is_that_of_jaquad():
    assert fit_curve(np.array([]), np.array([])) == pytest.approx((0.0, 1.0), abs=1e-3)


def test_much_data_outweighs_the_prior():
    evidence = np.random.default_rng(0).normal(-2, 2, 5000)
    correct = (np.random.default_rng(1).random(5000) < probability((1.5, 0.5), evidence)).astype(float)
    assert fit_curve(evidence, correct) == pytest.approx((1.5, 0.5), abs=0.15)


def test_separable_data_do_not_run_away():
    evidence = np.repeat([-2.0, 3.0], 20)
    intercept, slope = fit_curve(evidence, (evidence > 0).astype(float))
    assert 1.0 < slope < 3.0
    assert probability((intercept, slope), -2.0) < 0.1 < 0.9 < probability((intercept, slope), 3.0)


def test_a_tighter_prior_stays_closer():
    evidence = np.repeat([-2.0, 3.0], 20)
    correct = (evidence < 0).astype(float)
    slopes = [fit_curve(evidence, correct, spread=(2.0, spread))[1] for spread in (0.02, 0.5, 5.0)]
    assert 1.0 > slopes[0] > slopes[1] > slopes[2]
    assert slopes[0] == pytest.approx(1.0, abs=0.2)


def test_sixty_questions_give_back_the_curve_they_were_drawn_from():
    """Everyday language shifts the curve (intercept 1.7 on the sample): tens of questions must be enough to follow."""
    drawn = np.random.default_rng(2)
    errors = []
    for _ in range(50):
        evidence = drawn.normal(-2.8, 1.9, 60)
        correct = (drawn.random(60) < probability((1.7, 0.7), evidence)).astype(float)
        errors.append(probability(fit_curve(evidence, correct), evidence).mean() - probability((1.7, 0.7), evidence).mean())
    assert abs(np.mean(errors)) < 0.03 and np.std(errors) < 0.08


# --- the threshold --------------------------------------------------------------------------------------


def test_a_wrong_answer_costs_a_right_one():
    assert WRONG_COSTS == 1.0
    assert best_threshold(10**6, 0) == pytest.approx(0.5, abs=1e-4)  # the documents hold every answer


def test_the_more_questions_have_no_answer_the_surer_it_must_be():
    assert best_threshold(10**6, 10**6) == pytest.approx(2 / 3, abs=1e-4)
    assert best_threshold(10**6, 5 * 10**5) == pytest.approx(0.6, abs=1e-4)
    assert best_threshold(0, 0) == best_threshold(34, 17) == pytest.approx(0.6)


def test_the_threshold_is_where_showing_is_worth_what_abstaining_is():
    threshold = best_threshold(98, 24)
    absent = 25 / 100
    assert threshold - WRONG_COSTS * (1 - threshold) == pytest.approx(absent * (1 - threshold), abs=1e-3)
