"""KPIs that people measure at their work: handed out for drawn questions, read back as scores."""

import openpyxl
import pytest

from kit.errors import DataError
from kit.evaluation import scores
from kit.evaluation.metrics import METRICS, Metric
from kit.evaluation.scoring_sheet import METRIC, SHEETS, kept_share, read_sheet, write_times
from kit.records import Kpi
from tests.evaluations import RIGHT, Oracle, make_answer, make_cases, sealed_run

CASES = make_cases(4)
KPIS = tuple(Kpi(metric, metric, 0.5, "", "info") for metric in ("first_contact", "minutes_saved", "edit_saved"))


@pytest.fixture(autouse=True)
def _metrics(monkeypatch):
    """The metrics of these KPIs, where the registry has none yet."""
    for kpi in KPIS:
        if kpi.metric not in METRICS:
            monkeypatch.setitem(METRICS, kpi.metric, Metric("", "mean", lambda case: True, lambda case, row: 0.0))


@pytest.fixture
def run(tmp_path):
    arms = {"baseline": Oracle(CASES), "candidate": Oracle(CASES, {"Q4": make_answer("", state="timeout")})}
    return sealed_run(tmp_path / "runs", CASES, arms, RIGHT, *KPIS).folder


def fill(path, **sheets):
    """Enter (question, column, value) triples; a question is found by its number."""
    book = openpyxl.load_workbook(path)
    for title, entries in sheets.items():
        rows = {row[0].value: row[0].row for row in book[title].iter_rows(min_row=4)}
        for case, column, value in entries:
            book[title][f"{column}{rows[case]}"] = value
    book.save(path)
    return path


def final(run):
    return {(case, metric): value for (case, arm, metric), value in scores.final(scores.read(run)).items() if arm == "candidate"}


def test_a_sheet_for_each_kpi_of_the_criteria_and_none_where_there_is_none(run, tmp_path):
    (path,) = write_times(run)
    assert openpyxl.load_workbook(path).sheetnames == ["手引き", "所要時間", "文面の修正", "一次解決"]
    rows = [[cell.value for cell in row[:3]] for row in openpyxl.load_workbook(path)["文面の修正"].iter_rows(min_row=4)]
    assert sorted(rows) == [[f"a{i}", f"Q{i}", f"{i}日"] for i in (1, 2, 3)], "what timed out has no draft"
    first = [row[2].value for row in openpyxl.load_workbook(path)["所要時間"].iter_rows(min_row=4)]
    assert first == ["AIなし", "AIあり", "AIなし"], "turns about, and no answer that would help without the AI"
    assert set(final(run).values()) == {None} and len(final(run)) == 12, "but counts"
    other = sealed_run(tmp_path / "other", CASES, {"candidate": Oracle(CASES)}, Kpi("first_contact", "", 0.5, ""), RIGHT)
    book = openpyxl.load_workbook(write_times(other.folder)[0])
    assert book.sheetnames == ["手引き", "一次解決"]
    guide = [row[0].value for row in book["手引き"].iter_rows()]
    assert [text for text in guide if text.startswith("■")] == ["■ シート「一次解決」", "■ 空欄の扱い"]
    assert not [text for text in guide if "所要時間" in text or "下書き" in text or "くじ" in text]
    assert book["手引き"].row_dimensions[guide.index("■ 空欄の扱い") + 1].height == 31
    without = sealed_run(tmp_path / "without", CASES, {"candidate": Oracle(CASES)})
    assert write_times(without.folder) == []
    assert scores.read(without.folder) == []


def test_what_was_measured_comes_back_as_scores(run):
    path = fill(
        write_times(run)[0], 所要時間=[("a1", "D", 12), ("a1", "E", "4.5"), ("a2", "D", "３"), ("a2", "E", 10)],
        文面の修正=[("a1", "D", "1日"), ("a2", "D", "2日です")], 一次解決=[("a1", "D", "解決した"), ("a2", "D", "解決しなかった"), ("a3", "D", "判断できない")],
    )  # fmt: skip
    assert read_sheet(path, run) == "記録者: 9 件のうち 7 件の記録を読みました（新しい記録 7 件）。"
    assert final(run) == {
        ("a1", "minutes_saved"): 7.5, ("a2", "minutes_saved"): -7.0, ("a3", "minutes_saved"): None, ("a4", "minutes_saved"): None,
        ("a1", "edit_saved"): 1.0, ("a2", "edit_saved"): 0.5, ("a3", "edit_saved"): None, ("a4", "edit_saved"): None,
        ("a1", "first_contact"): 1.0, ("a2", "first_contact"): 0.0, ("a3", "first_contact"): None, ("a4", "first_contact"): None,
    }  # fmt: skip
    before = scores.read(run)
    read_sheet(path, run)
    assert scores.read(run) == before


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_kept(run):
    path = fill(
        write_times(run)[0], 所要時間=[("a1", "D", "約5分"), ("a1", "E", 1), ("a2", "D", 5), ("a3", "D", -1), ("a3", "E", 2)],
        一次解決=[("a1", "D", "はい"), ("a2", "A", "X-1"), ("a3", "D", "解決した")],
    )  # fmt: skip
    with pytest.raises(DataError) as caught:
        read_sheet(path, run)
    told = caught.value.what
    for line in (
        "5 か所", "「AIなし（分）」列: 「約5分」は使えません。分を数字だけで", "「AIあり（分）」列: もう一方だけが書かれて", "「-1」は使えません",
        "「はい」は使えません。解決した、解決しなかった、判断できない から", "「X-1」は、配ったシートにない番号です",
    ):  # fmt: skip
        assert line in told
    assert set(final(run).values()) == {None}


def test_what_is_measured_of_the_candidate_alone_can_guard_nothing():
    assert {name for name, metric in METRICS.items() if not metric.paired} == set(SHEETS) - {METRIC}


@pytest.mark.parametrize(
    ("draft", "sent", "kept"),
    [("5日です", "5日です", 1.0), ("５日です", "5日 です", 1.0), ("abcd", "abce", 0.75), ("ab", "cdef", 0.0), ("3日", "3日以内に申請する", 2 / 9)],
)
def test_the_share_that_was_kept(draft, sent, kept):
    assert kept_share(draft, sent) == pytest.approx(kept)
