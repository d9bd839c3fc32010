import dataclasses
import io
import shutil

import openpyxl
import pytest

from kit.evaluation.decide import decide, read_decision
from kit.records import Answer
from kit.reporting.blocks import Chart, Plot, Section, Table, Text
from kit.reporting.export import draw_summary, write_summary
from kit.reporting.native_charts import alone
from kit.reporting.samples import samples
from kit.reporting.spreadsheet import workbook
from tests.evaluations import ABSTAINED, Oracle, make_answer, make_cases, sealed_run
from tests.formats import cached, parts_of
from tests.test_summary import PRICES, hostile

KINDS = ("ranges", "stacked", "waterfall", "lines", "tornado", "points")
FORMULA = '=HYPERLINK("http://evil.example","押す")'


@pytest.fixture(scope="module")
def decision(tmp_path_factory):
    """A small run: one wrong answer that looks like a formula, one timeout, the rest right."""
    cases = make_cases(8, 2)
    wrong = {"Q1": make_answer(FORMULA, "別.pdf", prompt_tokens=120, completion_tokens=7), "Q2": Answer("", state="timeout", seconds=9.0)}
    arms = {"baseline": Oracle(cases, dict.fromkeys(("Q1", "Q3"), ABSTAINED)), "candidate": Oracle(cases, wrong)}
    return decide(sealed_run(tmp_path_factory.mktemp("runs"), cases, arms))


@pytest.fixture(scope="module")
def summary(decision):
    return draw_summary(decision, prices=PRICES)


def opened(summary, decision):
    return openpyxl.load_workbook(io.BytesIO(workbook(summary, decision)))


def test_every_question_stands_there_with_what_each_arm_made_of_it(summary, decision):
    sheet = opened(summary, decision)["全質問"]
    _, head, *rows = sheet.iter_rows(values_only=True)
    lines = [dict(zip(head, row, strict=True)) for row in rows]
    assert [(line["番号"], line["方式"]) for line in lines[:2]] == [("a1", "比較対象"), ("a1", "候補")]
    assert len(lines) == 20
    first, timeout, declined = lines[1], lines[3], lines[0]
    assert (first["質問"], first["正解"], first["示した回答"], first["正誤"]) == ("Q1", "1日", FORMULA, "×")
    assert (first["状態"], first["出典"], first["入力トークン"], first["出力トークン"], first["秒"]) == ("回答あり", "別.pdf", 120, 7, 0.25)
    assert (timeout["状態"], timeout["正誤"], timeout["誤りの原因"], timeout["秒"]) == ("時間切れ", "×", "時間内に回答できなかった", 9.0)
    assert (declined["状態"], declined["正誤"]) == ("回答を控えた", "×")
    assert (lines[5]["正誤"], lines[5]["誤りの原因"]) == ("○", None)
    assert (lines[5]["出典が正しい割合"], lines[19]["出典が正しい割合"]) == (1, None)
    assert sheet.auto_filter.ref.startswith("A2:") and sheet.auto_filter.ref.endswith("22")
    assert sheet.freeze_panes == "B3"
    assert sheet.print_title_rows == "$2:$2"


def test_no_text_becomes_a_formula_or_a_link(tmp_path, summary, decision):
    odd = dataclasses.replace(summary, title=FORMULA, steps=("+1", "-1", "@SUM(A1)", "https://evil.example/"))
    cells = [cell for sheet in opened(odd, decision).worksheets for row in sheet.iter_rows() for cell in row]
    assert [cell for cell in cells if cell.hyperlink or cell.data_type == "f"] == []
    assert len([cell for cell in cells if cell.value == FORMULA and cell.quotePrefix]) == 3  # title, bad answer, all questions
    path, = write_summary(hostile(), to=tmp_path, formats=("xlsx",), prices=PRICES)
    assert not [name for name, content in parts_of(path) if b"TargetMode" in content]
    assert openpyxl.load_workbook(path).sheetnames[0] == "判定"


def test_without_the_records_only_scores_are_shown(tmp_path, summary, decision):
    (tmp_path / "runs" / "copy").mkdir(parents=True)
    shutil.copy(decision.folder / "decision.json", tmp_path / "runs" / "copy")
    alone = read_decision(tmp_path / "runs" / "copy")
    sheet = opened(summary, alone)["全質問"]
    assert "判定ファイル（decision.json）に残る採点だけ" in sheet["A1"].value
    head = [cell.value for cell in sheet[2]]
    assert head[:6] == ["番号", "方式", "状態", "正誤", "秒", "円"]
    full = [[line["番号"], line["正誤"], line["秒"]] for line in samples(decision, "ja")]
    assert [[line["番号"], line["正誤"], line["秒"]] for line in samples(alone, "ja")] == full
    (alone.folder / "decision.json").unlink()
    assert "全質問" not in opened(summary, alone).sheetnames


def test_english_headings(decision):
    book = opened(draw_summary(decision, lang="en", prices=PRICES), decision)
    assert book.sheetnames[0] == "Decision"
    head = [cell.value for cell in book["All questions"][2]]
    assert head[:5] == ["Number", "Question", "Arm", "State", "Right"]
    assert not [name for name in head if not name.isascii()]


def test_the_same_decision_gives_the_same_bytes(summary, decision):
    assert workbook(summary, decision) == workbook(summary, decision)


def test_many_rows_go_to_disk_and_say_the_same(summary, decision, monkeypatch):
    def contents():
        return {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in opened(summary, decision).worksheets}

    usual = contents()
    monkeypatch.setattr("kit.reporting.spreadsheet._MANY", 5)
    assert contents() == usual


def test_cells_hold_what_a_spreadsheet_can_hold(summary, decision):
    texts = ("長" * 40_000, "前\x00\x1b後", "_x000D_のまま", "😀")
    section = Section("risks", "A/B: [見出し]" * 9, (Text("本文"), Table(("列", "値"), tuple((text, "1") for text in texts), "lr"), Text("-2")))
    made = dataclasses.replace(summary, sections=(section, section))
    book = opened(made, decision)
    sheet = book.worksheets[1]
    values = [cell.value for cell in sheet["A"] if cell.value]
    assert [value for value in values if value.startswith("長")] == ["長" * 32_766 + "…"]
    assert {"前後", "_x000D_のまま", "😀", "-2"} <= {*values}
    assert max(len(name) for name in book.sheetnames) <= 31
    assert (sheet.page_setup.orientation, sheet.page_setup.paperSize, sheet.page_setup.fitToHeight) == ("landscape", 9, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_chart_can_be_edited(tmp_path, summary, decision, kind):
    names = {"ranges": 5, "points": 4, "tornado": 2}.get(kind, 1)
    series = tuple((f"系列{i}", (0.5 + i, None if i == 4 else 2.25 + i)) for i in range(names))
    chart = Chart("<svg/>", "代わりの文", "図の題", Plot(kind, ("甲", "乙"), series, "0.00", "円"))
    made = dataclasses.replace(summary, sections=(Section("cost", "費用", (chart,)),))
    path = tmp_path / "book.xlsx"
    path.write_bytes(workbook(made, decision))
    book = openpyxl.load_workbook(path)
    figures = [row for row in book["図の元データ"].iter_rows(values_only=True) if row[0] in ("甲", "乙")]
    assert [row[1 : names + 1] for row in figures] == [tuple(values[i] for _, values in series) for i in range(2)]
    assert len(book["費用"]._charts) == 1
    held = {value for _, values in series[:2] for value in values}
    assert held <= cached(path)


def test_a_name_that_looks_like_a_reference_is_a_text(tmp_path, summary, decision):
    plot = Plot("points", ("=cmd|'/C calc'!A0", "表!B2"), tuple((name, (1.0, 2.0)) for name in ("x", "y", "low", "high")))
    made = dataclasses.replace(summary, sections=(Section("cost", "費用", (Chart("<svg/>", "代わりの文", "図の題", plot),)),))
    book = opened(made, decision)
    names = [series.tx.strRef.f for series in book["費用"]._charts[0].series]
    cells = [book["図の元データ"][name.rpartition("!")[2].replace("$", "")] for name in names]
    assert [(each.value, each.data_type) for each in cells] == [(name, "s") for name in plot.categories]


def test_the_steps_of_a_waterfall_begin_where_the_last_one_ended_below_zero_too():
    book = openpyxl.load_workbook(io.BytesIO(alone(Plot("waterfall", ("甲", "乙", "丙", "計"), (("計", (3.0, -5.0, -1.0, -3.0)),))).xlsx_blob))
    rows = [row[2:5] for row in book.active.iter_rows(min_row=2, values_only=True)]
    assert rows == [(None, 3, None), (None, 3, -2), (-2, None, -1), (None, None, -3)]  # unseen, above zero, below
