"""The confidence of the extractive reader, fitted on development questions."""

import numpy as np
import pytest

from kit.answering.extractive import SHIPPED, Calibration, ExtractiveReader
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


def probability(curve, covered):
    return 1 / (1 + np.exp(-(curve[0] + curve[1] * covered)))


def test_without_data_the_curve_is_the_shipped_one():
    assert fit_curve(np.array([]), np.array([])) == pytest.approx((SHIPPED.intercept, SHIPPED.slope), abs=1e-3)


def test_much_data_outweighs_the_shipped_curve():
    covered = np.random.default_rng(0).random(5000)
    correct = (np.random.default_rng(1).random(5000) < probability((-4.0, 9.0), covered)).astype(float)
    assert fit_curve(covered, correct) == pytest.approx((-4.0, 9.0), abs=0.5)


def test_separable_data_do_not_run_away():
    covered = np.repeat([0.2, 0.9], 20)
    intercept, slope = fit_curve(covered, (covered > 0.5).astype(float))
    assert SHIPPED.slope < slope < SHIPPED.slope + 10
    assert probability((intercept, slope), 0.2) < 0.1 < 0.9 < probability((intercept, slope), 0.9)


def test_a_tighter_prior_stays_closer():
    covered = np.repeat([0.2, 0.9], 20)
    correct = (covered < 0.5).astype(float)
    slopes = [fit_curve(covered, correct, spread=spread)[1] for spread in (0.1, 2.0, 20.0)]
    assert SHIPPED.slope > slopes[0] > slopes[1] > slopes[2]
    assert slopes[0] == pytest.approx(SHIPPED.slope, abs=0.2)


# --- the threshold --------------------------------------------------------------------------------------


def threshold(*questions):
    """From (confidence, correct, answerable) triples."""
    confidence, correct, answerable = map(np.array, zip(*questions, strict=True))
    return best_threshold(confidence, correct.astype(float), answerable.astype(bool))


def test_the_threshold_lies_between_right_and_wrong():
    assert threshold((0.2, 0, 0), (0.4, 0, 0), (0.8, 1, 1), (0.9, 1, 1)) == 0.6


def test_where_all_is_right_nothing_is_held_back():
    assert threshold((0.1, 1, 1), (0.9, 1, 1)) == 0.0


def test_where_all_is_wrong_everything_is():
    assert threshold((0.1, 0, 0), (0.9, 0, 0)) == 1.0
    assert threshold((0.5, 0, 1)) == 1.0


def test_a_wrong_answer_costs_half_a_right_one():
    assert WRONG_COSTS == 0.5
    answerable_and_wrong = (0.3, 0, 1)  # held back it gains nothing, shown it costs a half
    assert threshold((0.2, 1, 1), answerable_and_wrong, (0.9, 1, 1)) == 0.0  # one right answer pays for it
    assert threshold((0.2, 1, 1), *[answerable_and_wrong] * 3, (0.9, 1, 1)) == 0.6  # three cost more


def test_the_confidence_of_a_calibration_is_the_curve():
    reader = ExtractiveReader(Calibration(-2.0, 4.0, 0.5, ""))
    assert [reader.confidence(covered) for covered in (0.0, 0.5, 1.0)] == pytest.approx([0.1192, 0.5, 0.8808], abs=1e-4)
