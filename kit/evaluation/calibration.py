"""Fit the extractive reader's confidence on development questions, never on sealed ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.answering.extractive import SHIPPED, Calibration, ExtractiveReader, find
from kit.answering.rag import Rag
from kit.evaluation.evaluate import rehearse
from kit.evaluation.metrics import right
from kit.evaluation.resampling import Span
from kit.evaluation.statistics import share_bounds
from kit.knowledge.store import Store
from kit.records import Case, Evaluation

FEWEST = 30
"""Below this many development questions the shipped calibration is used."""
WRONG_COSTS = 1.0
"""What a wrong answer costs in right answers: as much as one saves, as the summary counts them, too."""
_BINS = 5  # of equal width on the scale of confidence


def calibrate(store: Store, cases: Sequence[Case]) -> Calibration:
    """Fit confidence curve and threshold on development questions.

    Tens of questions can move a curve, not find out which signs matter: the weights in ``Signs.evidence`` stay, and
    only intercept and slope over them are fitted (Platt's scaling) to "the shown sentences are right". The threshold
    follows from the curve and ``WRONG_COSTS``.

    Args:
        store: The store the questions are about.
        cases: Development questions; with fewer than ``FEWEST`` the shipped calibration is returned.
    """
    if len(cases) < FEWEST:
        return SHIPPED
    always = ExtractiveReader(Calibration(0.0, 0.0, 0.0, ""))  # shows sentences to every question
    rows = rehearse(Rag(store, always), cases)
    idf = store.statistics().idf
    evidence = np.array([find(c.question, store.search(c.question, k=always.top, as_user=c.user), idf)[1].evidence for c in cases])
    correct = np.array([float(case.answerable and right(case, rows[case.id])) for case in cases])
    intercept, slope = fit_curve(evidence, correct)
    threshold = best_threshold(int(np.sum(correct == 0)), sum(not case.answerable for case in cases))
    return Calibration(intercept, slope, threshold, f"開発用質問 {len(cases)} 問")


def fit_curve(
    evidence: np.ndarray, correct: np.ndarray, *, spread: tuple[float, float] = (2.0, 0.5)
) -> tuple[float, float]:
    """Return (intercept, slope) of the logistic curve, by maximum a posteriori around (0, 1), the curve of JaQuAD.

    Args:
        evidence: Log-odds by ``Signs.evidence``, one per question.
        correct: 1.0 where the shown sentences were right.
        spread: Standard deviations of the normal priors. The intercept's is wide: questions in everyday language share
            fewer words with the documents than those of a reading test.
    """
    from scipy.optimize import minimize

    prior = np.array([0.0, 1.0])

    def loss(parameters: np.ndarray) -> float:
        z = parameters[0] + parameters[1] * evidence
        likelihood = float(np.sum(np.logaddexp(0, z) - correct * z))
        return likelihood + float(np.sum(((parameters - prior) / spread) ** 2)) / 2

    intercept, slope = minimize(loss, prior, method="BFGS").x
    return round(float(intercept), 4), round(float(slope), 4)


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers that were about as sure as one another."""

    confidence: float
    """Their mean confidence, 0–1."""
    n: int
    share: Span
    """How many of them were right, 0–1, with exact bounds."""

    @classmethod
    def of(cls, fact: Mapping[str, Any]) -> "Bin":
        """Rebuild one from the facts of a decision (``reliability``)."""
        return cls(fact["confidence"], fact["n"], Span(*fact["share"]))


def reliability(evaluation: Evaluation) -> tuple[Bin, ...]:
    """Return how often the candidate's answers were right, by how sure they were: what ``calibration_chart`` draws.

    Abstentions show nothing that could be right, and are left out. The bounds are one-sided at .05.
    """
    rows, found = evaluation.of(evaluation.arms[-1]), dict[int, list[tuple[float, float]]]()
    for case in evaluation.cases:
        row = rows.get(case.id)
        if row and row.state == "answered" and not row.abstained:
            found.setdefault(min(int(row.confidence * _BINS), _BINS - 1), []).append((row.confidence, right(case, row)))
    counted = ((*map(sum, zip(*items, strict=True)), len(items)) for _, items in sorted(found.items()))
    return tuple(Bin(round(sure / n, 6), n, Span(*(round(x, 6) for x in (hits / n, *share_bounds(hits, n, 0.05))))) for sure, hits, n in counted)


def best_threshold(wrong: int, unanswerable: int) -> float:
    """Return the confidence from which on showing is worth more than abstaining (Chow's rule).

    Showing earns p right answers and costs ``WRONG_COSTS`` × (1 − p). Abstaining is right where the documents hold no
    answer: (1 − p) × the share of those among the questions that cannot be answered rightly. A threshold searched for
    among tens of questions gave more wrong answers on others (DECISIONS.md).

    Args:
        wrong: Development questions answered wrongly if all are answered.
        unanswerable: Those among them that the documents do not answer.
    """
    absent = (unanswerable + 1) / (wrong + 2)  # Laplace: no share is certain after a few questions
    return round((WRONG_COSTS + absent) / (1 + WRONG_COSTS + absent), 4)
