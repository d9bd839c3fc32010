"""The same questions at several depths."""

import dataclasses

import pytest

from kit.answering.extractive import Calibration
from kit.evaluation.recall import Depths, compare_depths
from kit.evaluation.statistics import share_bounds
from kit.records import Evidence
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
        assert (point.found, point.evidenced) == (20, 20)


def test_evidence_is_found_from_its_rank_on(store):
    """What search finds is counted apart from what the reader makes of it."""
    (case,) = machine_cases(0)[:1]
    second = store.search(case.question, k=2)[1].chunk
    moved = dataclasses.replace(case, evidence=(Evidence(second.document, second.place),))
    nowhere = dataclasses.replace(case, id="x", evidence=(Evidence("無い.txt"),))
    points = compare_depths(store, [moved, nowhere], ALWAYS, hits=(1, 2)).points
    assert [(point.found, point.evidenced) for point in points] == [(0, 2), (1, 2)]


def test_the_table(store):
    html = compare_depths(store, machine_cases(0)[:2], ALWAYS, hits=(1,))._repr_html_()
    for word in ("上位 1 件", "<td", "2 / 2 問（22%〜100%）", " 秒", "根拠が検索に出た"):
        assert word in html


def test_without_questions_it_says_so(store):
    assert compare_depths(store, machine_cases(0), ALWAYS, hits=()) == Depths(())
    empty = compare_depths(store, (), ALWAYS)
    assert empty == Depths(())
    assert "開発用" in empty._repr_html_()
