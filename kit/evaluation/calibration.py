"""Fit the extractive reader's confidence on development questions, never on sealed ones."""

from collections.abc import Sequence

import numpy as np

from kit.answering.extractive import SHIPPED, Calibration, ExtractiveReader, find
from kit.answering.rag import Rag
from kit.evaluation.evaluate import rehearse
from kit.evaluation.metrics import right
from kit.knowledge.store import Store
from kit.records import Case

FEWEST = 30
"""Below this many development questions the shipped calibration is used."""
WRONG_COSTS = 0.5
"""What a wrong answer costs in right answers, when the threshold is chosen."""


def calibrate(store: Store, cases: Sequence[Case]) -> Calibration:
    """Fit confidence curve and threshold on development questions.

    The curve is a logistic regression of "the shown sentences are right" on idf coverage, drawn towards the shipped
    curve (a normal prior of standard deviation 2) because tens of questions alone would make it jump. The threshold
    maximises right answers and rightful abstentions minus ``WRONG_COSTS`` per wrong answer.

    Args:
        store: The store the questions are about.
        cases: Development questions; with fewer than ``FEWEST`` the shipped calibration is returned.
    """
    if len(cases) < FEWEST:
        return SHIPPED
    always = ExtractiveReader(Calibration(0.0, 0.0, 0.0, ""))  # shows sentences to every question
    rows = rehearse(Rag(store, always), cases)
    covered = np.array([_coverage(store, case, always.top) for case in cases])
    correct = np.array([float(case.answerable and right(case, rows[case.id])) for case in cases])
    answerable = np.array([case.answerable for case in cases])
    intercept, slope = fit_curve(covered, correct)
    confidence = 1 / (1 + np.exp(-(intercept + slope * covered)))
    threshold = best_threshold(confidence, correct, answerable)
    return Calibration(intercept, slope, threshold, f"開発用質問 {len(cases)} 問")


def fit_curve(covered: np.ndarray, correct: np.ndarray, *, spread: float = 2.0) -> tuple[float, float]:
    """Return (intercept, slope) of the logistic curve, by maximum a posteriori around the shipped one.

    Args:
        covered: Idf coverage, 0–1, one per question.
        correct: 1.0 where the shown sentences were right.
        spread: Standard deviation of the prior.
    """
    from scipy.optimize import minimize

    prior = np.array([SHIPPED.intercept, SHIPPED.slope])

    def loss(parameters: np.ndarray) -> float:
        z = parameters[0] + parameters[1] * covered
        likelihood = float(np.sum(np.logaddexp(0, z) - correct * z))
        return likelihood + float(np.sum((parameters - prior) ** 2)) / (2 * spread**2)

    intercept, slope = minimize(loss, prior, method="BFGS").x
    return round(float(intercept), 4), round(float(slope), 4)


def best_threshold(confidence: np.ndarray, correct: np.ndarray, answerable: np.ndarray) -> float:
    """Return the threshold with the best balance of right answers, rightful abstentions and wrong answers."""
    edges = np.unique(confidence)
    candidates = [0.0, *((edges[1:] + edges[:-1]) / 2), 1.0]  # from never abstaining to always

    def worth(threshold: float) -> float:
        shown = confidence >= threshold
        rights = np.sum(correct[shown]) + np.sum(~answerable[~shown])
        return float(rights - WRONG_COSTS * np.sum(1 - correct[shown]))

    return round(float(max(candidates, key=worth)), 4)


def _coverage(store: Store, case: Case, top: int) -> float:
    hits = store.search(case.question, k=top, as_user=case.user)
    return find(case.question, hits, store.statistics().idf)[1]
