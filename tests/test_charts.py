import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from kit.evaluation.recall import Depth
from kit.knowledge.atlas import CorpusMap, Dot
from kit.records import Kpi, KpiResult, Step
from kit.reporting.charts import depth_chart, kpi_chart, load_chart, map_chart, trace_chart
from kit.reporting.charts_money import waterfall_chart
from kit.serving.load import Level, LoadTest, Quantiles

RIGHT = KpiResult(Kpi("right", "正しく対応できた割合", 0.7, ""), 200, 0.785, 0.731, 0.832, 0.42, "GO", "")
SLOW = KpiResult(Kpi("latency_p95", "応答時間", 3.0, ""), 200, 2.4, 2.1, math.inf, None, "EXTEND", "")
DEPTHS = [Depth(1, 14, 20, 0.7, 0.5, 0.85, 0.02, 9, 15), Depth(20, 16, 20, 0.8, 0.6, 0.92, 0.2, 15, 15)]
NO_EVIDENCE = Depth(1, 14, 20, 0.7, 0.5, 0.85, 0.02)
WAIT, NEVER = Quantiles(0.03, 0.05, 0.1), Quantiles(math.nan, math.nan, math.nan)
LOAD = LoadTest("tiny", 64, (Level(1, 8, (), 512, 2.5, 160.4, WAIT, WAIT, WAIT), Level(8, 24, (), 1536, 20.0, 1280.0, WAIT, WAIT, WAIT)))
ALL_FAILED = LoadTest("tiny", 64, (Level(1, 0, ("HTTP 400",), 0, 0.0, 0.0, NEVER, NEVER, NEVER),))
STEPS = [("省ける時間", 3_308_000.0), ("計算機", -1200.0), ("固定費", -360_000.0)]
DOTS = tuple(Dot(f"{n % 9}/{n}", f"室{n % 9}" if n % 9 else "", n % 2, n / 7, n % 5) for n in range(40))
MAP = CorpusMap(DOTS, (("精算", "日当", "出張旅費"), ("点検", "😀", "<b>")), 1234)
TRACE = (Step("検索", "5 断片", 0.02), Step("言い換え", "😀<script>" + "長" * 99, 0.0), Step("LLM の回答", "", 1.5))


def changed(result, **changes):
    kpi = {f: changes.pop(f) for f in ("label", "bar", "role", "metric") if f in changes}
    values = {f: getattr(result, f) for f in KpiResult.__slots__} | changes
    values["kpi"] = Kpi(**{f: getattr(result.kpi, f) for f in Kpi.__slots__} | kpi)
    return KpiResult(**values)


CHARTS = {
    "kpi": lambda: kpi_chart([RIGHT, SLOW]),
    "english": lambda: kpi_chart([RIGHT, SLOW], lang="en"),
    "one arm": lambda: kpi_chart([changed(RIGHT, baseline=None)]),
    "void": lambda: kpi_chart([changed(RIGHT, point=math.nan, low=0.0, high=1.0, baseline=None)]),
    "zero": lambda: kpi_chart([changed(RIGHT, point=0.0, low=0.0, high=0.0, bar=0.0)]),
    "depth": lambda: depth_chart(DEPTHS, title="深さと精度"),
    "no depth": lambda: depth_chart([]),
    "no evidence": lambda: depth_chart([NO_EVIDENCE]),
    "load": lambda: load_chart(LOAD),
    "all failed": lambda: load_chart(ALL_FAILED),
    "waterfall": lambda: waterfall_chart(STEPS, "差引"),
    "map": lambda: map_chart(MAP),
    "crowded map": lambda: map_chart(CorpusMap(DOTS * 10, MAP.groups, 0)),
    "no map": lambda: map_chart(CorpusMap((), (), 3)),
    "trace": lambda: trace_chart(TRACE),
    "many hops": lambda: trace_chart(TRACE * 8),
    "no trace": lambda: trace_chart(()),
    "losses": lambda: waterfall_chart([("価値", 0.0), ("固定費", -5.0)], "差引"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_one_self_contained_element(name):
    chart = CHARTS[name]()
    root = ElementTree.fromstring(chart.svg)  # well formed
    assert root.tag == "svg"
    assert "http" not in chart.svg
    assert "<!--" not in chart.svg
    assert not {"script", "image", "text", "metadata"} & {element.tag for element in root.iter()}
    ids = {element.get("id") for element in root.iter()} - {None}
    assert {ref for ref in re.findall(r'(?:href="|url\()#([^")]+)', chart.svg)} <= ids
    assert chart.alt
    assert chart.svg in chart._repr_html_()


@pytest.mark.parametrize("name", ["kpi", "depth", "load", "waterfall", "map", "trace"])
def test_redrawing_gives_the_same_bytes_whatever_the_user_has_set(name):
    import matplotlib

    first = CHARTS[name]().svg
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "none"}):
        assert CHARTS[name]().svg == first
        assert matplotlib.rcParams["font.size"] == 30  # and leaves the user's settings alone


def test_another_process_gives_the_same_bytes():
    code = (
        "from kit.reporting.charts_money import waterfall_chart; import sys; "
        "sys.stdout.write(waterfall_chart([('価値', 10.0), ('固定費', -3.0)], '差引').svg)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONIOENCODING": "utf-8", "TZ": "America/New_York"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert other.stdout.decode() == waterfall_chart([("価値", 10.0), ("固定費", -3.0)], "差引").svg


def test_shares_stand_at_their_place_on_the_scale():
    # The filled marker of the measured value lies at 78.5 % of the way from the tick 0 to the tick 100 %.
    root = ElementTree.fromstring(kpi_chart([changed(RIGHT, baseline=None)]).svg)
    used = [(float(e.get("x")), float(e.get("y")), e.get("style") or "") for e in root.iter("use") if e.get("x")]
    bottom = max(y for _, y, _ in used)
    ticks = sorted({x for x, y, _ in used if y == bottom})
    dots = [x for x, y, style in used if "#0072b2" in style and ticks[0] < x < ticks[-1] and y != bottom]
    assert len(ticks) == 6
    assert any(abs((x - ticks[0]) / (ticks[-1] - ticks[0]) - 0.785) < 1e-3 for x in dots)


@pytest.mark.parametrize("label", [
    "<script>alert(1)</script>", "--><b>", "😀🈀 emoji", "$\\frac{1}{2}$", "a\x00b\ud800", "", "長" * 500, "word " * 200, "改\n行",
])
def test_hostile_labels_are_drawn_without_a_warning(label):
    chart = kpi_chart([changed(RIGHT, label=label)])
    ElementTree.fromstring(chart.svg)
    assert "<script" not in chart.svg
    assert "\x00" not in chart.svg


def test_what_is_left_out():
    assert kpi_chart([]) is None
    assert kpi_chart([changed(RIGHT, role="guardrail")]) is None
    assert kpi_chart([SLOW]) is None


def test_the_alternative_text_says_the_same():
    assert kpi_chart([RIGHT]).alt == "各指標の区間と基準の図: 正しく対応できた割合 78.5% (73.1〜83.2%), 基準 70%以上"
    assert "差引 295万円" in waterfall_chart(STEPS, "差引").alt
    assert "上位 20 件 80.0%（60.0%〜92.0%）、根拠 15/15問、0.200秒" in depth_chart(DEPTHS).alt
    told = "1 件で 160 トークン/秒、最初の文字まで 30／50／100 ミリ秒；8 件で 1,280 トークン/秒"
    assert told in load_chart(LOAD).alt
    assert map_chart(MAP).alt == "文書の地図: 40 文書、2 のまとまり。精算・日当・出張旅費（20 件）、点検・😀・<b>（20 件）"
    assert trace_chart(TRACE[::2]).alt == "答えまでの道筋: 1. 検索 20.0 ミリ秒（5 断片）→ 2. LLM の回答 1,500.0 ミリ秒"


def test_steps_follow_each_other_on_one_line_of_time():
    def bars(trace):
        root = ElementTree.fromstring(trace_chart(trace).svg)
        paths = (e.get("d") for e in root.iter("path") if re.search("#(0072b2|d55e00)", e.get("style") or ""))
        return [sorted({float(x) for x in re.findall(r"[ML] ([\d.]+) ", d)}) for d in paths]

    (begin, first), (second, end) = bars((Step("検索", "", 0.3), Step("抽出", "", 0.1)))
    assert first == pytest.approx(second)
    assert (first - begin) / (end - second) == pytest.approx(3)
