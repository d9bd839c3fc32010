"""The paired bootstrap: bounds of ratios and of their differences, whole groups together."""

import numpy as np
import pytest

from kit.evaluation import resampling
from kit.evaluation.gate import Sample
from kit.evaluation.resampling import Span, levels, resampled

COLUMNS = np.array([[1.0, 0.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0]] * 25)  # arms' quality, arms' money
APART = [str(number) for number in range(100)]


def test_the_figures_are_ratios_of_sums():
    drawn = resampled(COLUMNS, APART)
    assert drawn.span(0.05, (1, 0, 2)).point == 75 / 200
    assert drawn.span(0.05, (1000, 0, 2), (-1000, 1, 3)).point == pytest.approx(1000 * (75 - 25) / 200)


def test_the_bounds_are_those_of_the_normal_limit_where_there_are_many():
    share = resampled(COLUMNS, APART).span(0.05, (2, 0, 2))  # a share of .75: money is 2 throughout
    assert share.low == pytest.approx(0.75 - 1.645 * (0.75 * 0.25 / 100) ** 0.5, abs=0.01)
    assert share.high == pytest.approx(0.75 + 1.645 * (0.75 * 0.25 / 100) ** 0.5, abs=0.01)


def test_what_is_paired_is_drawn_together():
    both = np.column_stack([COLUMNS[:, 0], COLUMNS[:, 0], COLUMNS[:, 2:]])
    assert resampled(both, APART).span(0.05, (1, 0, 2), (-1, 1, 3)) == Span(0.0, 0.0, 0.0)


def test_groups_are_drawn_whole():
    alike = np.repeat([[1.0, 1.0], [0.0, 1.0]], 50, axis=0)  # 10 documents, each all right or all wrong
    loose, whole = (resampled(alike, names).span(0.05, (1, 0, 1)) for names in (APART, [str(n // 10) for n in range(100)]))
    assert whole.high - whole.low > 2 * (loose.high - loose.low)


def test_the_same_again_and_many_groups_in_blocks(monkeypatch):
    monkeypatch.setattr(resampling, "BLOCKS", 50)
    first, again = (resampled(COLUMNS, APART) for _ in range(2))
    assert first.sums.tobytes() == again.sums.tobytes()
    assert np.allclose(first.sums[0], COLUMNS.sum(axis=0)) and first.products.shape == (resampling.DRAWS + 1, 4, 4)


def test_a_question_without_a_document_stands_alone_and_with_itself():
    samples = [Sample(case, "answered", 0, 0, {}, group) for case, group in (("a", "x\n1"), ("b", "x\n2"), ("c", ""), ("c", ""))]
    assert levels(samples) == [["x\n1", "x\n2", "c", "c"]]  # one document: its places count
    assert levels(samples[2:]) == [["c", "c"]]
