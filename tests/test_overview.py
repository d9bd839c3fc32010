"""Several runs side by side: ranking, trend and quality per money by quarter."""

import dataclasses

from kit.evaluation.decide import decide
from kit.reporting.overview import section
from tests.evaluations import RIGHT, make_cases, sealed_run, wrong_arm
from tests.test_monitoring import lost
from tests.test_qpd import made, share

CASES = make_cases(40)


def test_one_run_needs_no_comparison(tmp_path):
    assert section([made(tmp_path, {"candidate": share(50)})]) is None


def test_pocs_are_ranked(tmp_path):
    one, other = (made(tmp_path / name, {"candidate": share(50)}, day="2026-05-01") for name in "ab")
    criteria = dataclasses.replace(other.seal.criteria, title="別のPoC")
    other = dataclasses.replace(other, outcome="NO-GO", seal=dataclasses.replace(other.seal, criteria=criteria, sha256="e" * 64))
    found = section([other, one])
    (table,) = found.blocks
    assert [row[:3] for row in table.rows] == [("1", "社内規程・手順の問い合わせ対応PoC", "導入を進める"), ("2", "別のPoC", "見送る")]
    assert found.lead == "2件のPoCのうち、最も進んでいるのは「社内規程・手順の問い合わせ対応PoC」（導入を進める）です。"
    assert section([other, one], "en").blocks[0].rows[0][2] == "Proceed"


def test_the_runs_of_one_seal_are_a_trend(tmp_path):
    runs = [
        decide(sealed_run(tmp_path, CASES, {"b": wrong_arm(CASES), "c": lost(count)}, RIGHT, run=f"202611{21 + number}-090000-p", workers=1))
        for number, count in enumerate((1, 2, 1, 20))
    ]
    _, older, chart, table = section(runs).blocks
    assert "20261121-090000-p" in older.text and "管理限界の外" in chart.alt
    assert [row[4] for row in table.rows][::3] == ["基準とする回", "劣化"] and table.rows[0][1:3] == ("97.5%", "—")
    english = section(runs, "en").blocks[2]
    assert "out of control" in english.alt and english.plot.series[0][1] == (0.975, 0.95, 0.975, 0.5)


def test_the_quarters_of_one_poc_are_drawn(tmp_path):
    days = {"20260501-090000-p": ("2026-05-01", 50), "20260801-090000-p": ("2026-08-01", 60)}
    found = section([made(tmp_path / name, {"candidate": share(hits)}, day=day, finished=day) for name, (day, hits) in days.items()])
    chart, listing = found.blocks[-2:]
    assert chart.alt.startswith("1,000円あたりの正しい対応: 2026年度第1四半期 41.7件")
    assert listing.title == "四半期ごとの費用対効果：社内規程・手順の問い合わせ対応PoC" and listing.items[1].grade == "B"
    assert listing.items[1].text.startswith("2026年度第2四半期: 50.0件（区間 ") and "実行 1回" in listing.items[1].text
