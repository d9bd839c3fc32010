"""The same questions at several depths."""

import pytest

from kit.answering.extractive import Calibration
from kit.evaluation.depths import Depths, compare_depths
from kit.evaluation.statistics import share_bounds
from tests.evaluations import machine_cases, make_store

ALWAYS = Calibration(0.0, 0.0, 0.0, "")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("machines") / "store")


def test_every_depth_answers_every_question(store):
    cases = machine_cases(4)
    found = compare_depths(store, cases, ALWAYS, hits=(3, 1))
    assert [point.hits for point in found.points] == [3, 1]
    for point in found.points:
        assert (point.right, point.n) == (20, 24)  # a reader that never abstains is wrong four times
        assert (point.low, point.high) == share_bounds(20, 24, 0.05)
        assert point.low < point.accuracy == 20 / 24 < point.high
        assert 0 < point.seconds < 5


def test_the_table(store):
    html = compare_depths(store, machine_cases(0)[:2], ALWAYS, hits=(1,))._repr_html_()
    for word in ("上位 1 件", "2 / 2 問", "ミリ秒"):
        assert word in html


def test_without_questions_it_says_so(store):
    empty = compare_depths(store, (), ALWAYS)
    assert empty == Depths(())
    assert "開発用" in empty._repr_html_()
