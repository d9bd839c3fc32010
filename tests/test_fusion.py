"""The weight of vectors, fitted on development questions."""

import numpy as np
import pytest

from kit.errors import DataError
from kit.evaluation.fusion import fit_weight, paired_gain
from kit.records import Case, Chunk, Evidence, Hit, Parts, Place


class Scripted:
    """A store whose words put the gold text second by a tenth (equal scores go by name, the wrong one first), and whose vectors favour it in some questions."""

    def __init__(self, favoured, gold="{}.txt".format):
        self.favoured, self.weights, self.gold = favoured, [], gold

    def weigh(self, weight):
        self.weights.append(weight)

    def candidates(self, question, limit, scope, *, near=False):
        likeness = 1.0 if self.favoured(int(question)) else 0.0
        wrong = Hit(chunk("!.txt"), 0.0, 0, Parts(1.0, 0.0, 0.0, 0.0, 0.0 if not near else 1.0 - likeness))
        gold = Hit(chunk(self.gold(int(question))), 0.0, 0, Parts(0.9, 0.0, 0.0, 0.0, likeness if near else 0.0))
        return [wrong, gold]


def chunk(document):
    return Chunk(document, document, document, "題", "文", Place(), 0, ("everyone",))


def cases(number):
    return [Case(str(n), str(n), (("答",),), (Evidence(f"{n}.txt"),)) for n in range(number)]


def test_a_weight_that_helps_is_the_least_of_the_best_and_is_kept():
    store = Scripted(lambda n: True)
    fusion = fit_weight(store, cases(40))
    assert (fusion.weight, fusion.tried, fusion.gain, fusion.low, fusion.questions) == (0.2, 0.2, 0.5, 0.5, 40)
    assert store.weights[-1] == 0.2
    assert "重み 0.2 で使います" in fusion._repr_html_()


@pytest.mark.parametrize("favoured", [lambda n: False, lambda n: n % 20 == 0])
def test_a_weight_that_does_not_surely_help_is_zero(favoured):
    store = Scripted(favoured)
    fusion = fit_weight(store, cases(40))
    assert fusion.weight == store.weights[-1] == 0.0
    assert fusion.low <= 0.0
    assert "使いません" in fusion._repr_html_()


@pytest.mark.parametrize("documents", [1, 2])
def test_few_documents_decide_nothing_by_themselves(documents):
    """Resampling one document gives the same mean all the time, however few of its questions gained."""
    asked = [Case(case.id, case.question, case.answers, (Evidence(f"{n % documents}.txt"),)) for n, case in enumerate(cases(40))]
    store = Scripted(lambda n: n in (0, 1, 10, 11), gold=lambda n: f"{n % documents}.txt")
    fusion = fit_weight(store, asked)
    assert fusion.weight == 0.0 and fusion.tried > 0
    assert fusion.low <= 0.0 < fusion.gain < fusion.high


def test_too_few_questions_and_those_without_evidence_do_not_count():
    with pytest.raises(DataError, match="29 問"):
        fit_weight(Scripted(lambda n: True), [*cases(29), *(Case(str(n), str(n)) for n in range(20))])


def test_an_interval_draws_clusters_and_not_questions():
    random = np.random.default_rng
    differences = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    alone = paired_gain(differences, np.arange(8), random(0))
    together = paired_gain(differences, np.repeat([0, 1], 4), random(0))
    assert alone[0] == together[0] == 0.5
    assert (together[1], together[2]) == (0.0, 1.0)
    assert 0.1 <= alone[1] < 0.3
    assert paired_gain(differences * 0 + 0.25, np.arange(8), random(0)) == (0.25, 0.25, 0.25)
