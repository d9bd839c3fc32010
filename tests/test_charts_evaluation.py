"""The charts of an evaluation: self-contained, the same bytes, and the alternative text says the same."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from kit.evaluation.comparisons import Pair, Pairs, Slice, Slices
from kit.evaluation.failures import Causes
from kit.evaluation.monitoring import Trend, Week
from kit.evaluation.planning import Chance, KpiPlan, Plan
from kit.records import Kpi, KpiResult
from kit.reporting.charts_evaluation import failures_chart, operating_chart, pairs_chart, slices_chart, trend_chart

RIGHT = Kpi("right", "正しく対応できた割合", 0.7, "")
FAST = Kpi("latency_p95", "応答時間", 3.0, "")
PAIR = Pair(KpiResult(RIGHT, 200, 0.085, 0.03, 0.14, 0.3, "GO", ""), 60, 28, 11, 101)
SLICES = tuple(Slice("kind", f"種類{n}", 10 + n, 5, 0.2, 0.8, 0.1, 0.01 if n == 8 else 1.0) for n in range(9))
CAUSES = Causes({"baseline": {"出典を誤った": 9}, "candidate": {"根拠が検索に出なかった": 21, "出典を誤った": 3}}, {})
CHANCES = (Chance(0.55, 0, 0.06, 0.94, 0), Chance(0.7, 0.03, 0.95, 0.02, 0.05), Chance(0.85, 0.99, 0.01, 0, 1))
PLAN = Plan(tuple(KpiPlan(kpi, 200, 200, 0.85, 130, CHANCES) for kpi in (RIGHT, FAST)), (0.05,), 0.8, ())
WEEKS = tuple(Week(f"r{n}", f"2026-11-{n + 1:02}", 0.7 - 0.1 * (n == 2), 0.7, 0.65, 0.75, n == 2, "同等") for n in range(20))
HOSTILE = Kpi("right", "<script>😀" + "長" * 99, 0.7, "")
CHARTS = {
    "pairs": lambda: pairs_chart(Pairs((PAIR, Pair(KpiResult(HOSTILE, 0, 0, -1, 1, None, None, ""), 0, 0, 0, 0)))),
    "no pairs": lambda: pairs_chart(Pairs(())),
    "slices": lambda: slices_chart(Slices("candidate", SLICES)),
    "no slices": lambda: slices_chart(Slices("candidate", ())),
    "failures": lambda: failures_chart(CAUSES),
    "one arm": lambda: failures_chart(Causes({"candidate": {"出典を誤った": 3}}, {})),
    "no failures": lambda: failures_chart(Causes({"candidate": {}}, {})),
    "operating": lambda: operating_chart(PLAN),
    "one": lambda: operating_chart(Plan(PLAN.kpis[:1], (0.05,), 0.8, ())),
    "nothing planned": lambda: operating_chart(Plan((KpiPlan(RIGHT, 9, 9, math.nan, 0, ()),), (0.05,), 0.8, ())),
    "trend": lambda: trend_chart(Trend("a" * 64, 200, WEEKS)),
    "one week": lambda: trend_chart(Trend("a" * 64, 200, WEEKS[:1])),
    "no week": lambda: trend_chart(Trend("a" * 64, 200, ())),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_one_self_contained_element_and_the_same_again(name):
    chart = CHARTS[name]()
    root = ElementTree.fromstring(chart.svg)
    assert root.tag == "svg" and chart.alt and "http" not in chart.svg
    assert not {"script", "image", "text", "metadata"} & {element.tag for element in root.iter()}
    assert CHARTS[name]().svg == chart.svg


def test_the_alternative_texts_say_the_same():
    assert "正しく対応できた割合 +8.5ポイント（+3.0ポイント〜+14.0ポイント）" in CHARTS["pairs"]().alt
    assert "両方とも良い 60・候補だけ良い 28・比較対象だけ良い 11・どちらも良くない 101 問" in CHARTS["pairs"]().alt
    assert CHARTS["failures"]().alt == "誤りの原因: 根拠が検索に出なかった 候補 21件、比較対象 0件；出典を誤った 候補 3件、比較対象 9件"
    assert "正しく対応できた割合 が本当は 70% なら GO 3%・EXTEND 95%・NO-GO 2%" in CHARTS["operating"]().alt
    assert "2026-11-03 60.0%（管理限界の外）" in CHARTS["trend"]().alt


def test_the_largest_slices_are_drawn_and_any_that_differs():
    told = CHARTS["slices"]().alt
    assert re.findall(r"種類(\d)", told) == ["0", "1", "2", "3", "4", "5", "8"]
