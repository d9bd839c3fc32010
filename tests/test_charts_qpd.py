"""The charts of quality per money and of calibration: self-contained, the same bytes, figures for editable charts."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from kit.evaluation.calibration import Bin, reliability
from kit.evaluation.decide import decide
from kit.evaluation.resampling import Span
from kit.records import Row
from kit.reporting.charts_qpd import calibration_chart, frontier_chart, quarters_chart
from kit.reporting.qpd import Qpd, Route
from kit.reporting.quarters import Quarter
from tests.evaluations import Oracle, make_answer, make_cases, sealed_run

ROUTES = (
    Route("baseline", Span(0.3, 0.25, 0.36), Span(12.0, 12.0, 12.1), Span(25.0, 20.0, 30.0), False, 0.02),
    Route("candidate", Span(0.6, 0.54, 0.66), Span(15.0, 14.0, 16.0), Span(40.0, 36.0, 44.0), True, 1.0),
)
FOUND = Qpd("right", ROUTES, Span(15.0, 8.0, 21.0), 200, 10.0, 0.05, "B")
TIMED = Qpd("minutes_saved", (Route("a", Span(4.0, -1.0, 9.0), Span(15.0, 14.0, 16.0), Span(266.0, -70.0, 600.0), True, 1.0),), None, 50, 0.0, 0.05, "C")
NAMES = {"baseline": "比較対象：キーワード検索", "candidate": "候補：" + "長い名前" * 12, "a": "a"}
QUARTERS = tuple(
    Quarter(2025 + n // 4, n % 4 + 1, "right", Span(4.0 + n, 3.5 + n, 4.6 + n), 200, 1, math.nan if n < 4 else 3.0, math.nan if n < 4 else 7.0, n > 4)
    for n in range(6)
)
BINS = (Bin(0.65, 20, Span(0.6, 0.39, 0.78)), Bin(0.9, 30, Span(0.93, 0.8, 0.98)))
CHARTS = {
    "frontier": lambda: frontier_chart(FOUND, NAMES),
    "minutes": lambda: frontier_chart(TIMED, NAMES, "en"),
    "quarters": lambda: quarters_chart(QUARTERS, "1,000円あたりの正しい対応"),
    "one quarter": lambda: quarters_chart(QUARTERS[:1], "QPD", "en"),
    "calibration": lambda: calibration_chart(BINS),
    "no answer": lambda: calibration_chart((), "en"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_one_self_contained_element_and_the_same_again(name):
    chart = CHARTS[name]()
    root = ElementTree.fromstring(chart.svg)
    assert root.tag == "svg" and chart.alt and "http" not in chart.svg and CHARTS[name]().svg == chart.svg
    assert {len(values) for _, values in chart.plot.series} == {len(chart.plot.categories)}


def test_the_figures_and_words_are_those_of_the_routes():
    chart = CHARTS["frontier"]()
    assert [values for _, values in chart.plot.series] == [(12.0, 15.0), (0.3, 0.6), (0.25, 0.54), (0.36, 0.66)]
    assert "円" in chart.plot.series[0][0]  # what the axis is called where the chart can be edited
    assert "比較対象：キーワード検索 30.0%（25.0〜36.0%）、12.0円（12.0〜12.1円）" in chart.alt
    assert dict(CHARTS["quarters"]().plot.series)["管理限界の内側 −"] == (None,) * 4 + (3.0, 3.0)
    assert "2026年度第2四半期 9.0件（8.5〜9.6件）" in CHARTS["quarters"]().alt


def test_reliability_counts_what_was_shown(tmp_path):
    cases = make_cases(4, 1)
    sure = [0.95, 0.9, 0.5, 0.99]
    arm = Oracle(cases, {f"Q{n}": make_answer(f"{n}日" if n != 2 else "9日", confidence=c) for n, c in enumerate(sure, 1)})
    evaluation = sealed_run(tmp_path, cases, {"candidate": arm}, workers=1)
    middle, high = reliability(evaluation)
    assert isinstance(evaluation.rows[0], Row) and (middle.n, middle.confidence, middle.share.point) == (1, 0.5, 1.0)
    assert (high.n, high.share.point) == (3, pytest.approx(2 / 3)) and high.confidence == pytest.approx((0.95 + 0.9 + 0.99) / 3)
    assert [Bin.of(fact) for fact in decide(evaluation).facts["reliability"]] == [middle, high]
