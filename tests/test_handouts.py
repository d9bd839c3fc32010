"""Forms that are handed out: what the tool builds, any text in them, any file brought back."""

import io
import zipfile
from pathlib import Path

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from kit.errors import DataError
from kit.evaluation.handouts import mark_of, take_back, write

FORM, MARK = "採点シート", "A-0123456789ab"
ROWS = {"採点": [("001", "問", "正解", "回答", "出典"), ("002", "問", "正解", "=1+1", "")]}


@pytest.mark.parametrize("form", ["採点シート", "実務記録シート"])
def test_the_shipped_forms_are_what_the_tool_builds(monkeypatch, form):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "tools")
    from build_forms import FORMS, build

    def parts(file):
        with zipfile.ZipFile(file) as book:  # but for the time of saving
            return {name: book.read(name) for name in book.namelist() if name != "docProps/core.xml"}

    assert parts(FORMS / f"{form}.xlsx") == parts(io.BytesIO(build(form)))


@pytest.mark.parametrize("text", ["=HYPERLINK(\"http://x\")", "+1", "-1", "@SUM(A1)", "001", "2026-11-22", "1e5", "TRUE", ""])
def test_a_text_is_written_as_a_text(tmp_path, text):
    path = write(tmp_path / "a.xlsx", FORM, MARK, "A", {"採点": [("001", text, text, text, text)]})
    cell = openpyxl.load_workbook(path)["採点"]["D4"]
    assert (cell.value or "", cell.number_format, cell.quotePrefix) == (text, "@", True)
    assert not text or cell.data_type == "s"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=60), min_size=4, max_size=4), note=st.text(min_size=1, max_size=40))
def test_whatever_was_handed_out_comes_back_unchanged(tmp_path, texts, note):
    rows = {"採点": [("001", *texts)]}
    path = write(tmp_path / "a.xlsx", FORM, MARK, "採点者A", rows)
    problems = []
    assert take_back(path, FORM, rows, problems) == {"採点": {}} and problems == []
    assert mark_of(path) == MARK


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.dictionaries(
        st.tuples(st.integers(4, 8), st.integers(1, 9)),
        st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.dates(), st.sampled_from(["正しい", "誤り", "=1/0", "#N/A", "　"])),
        max_size=6,
    )
)  # fmt: skip
def test_whatever_is_scribbled_is_read_or_told(tmp_path, entries):
    path = write(tmp_path / "a.xlsx", FORM, MARK, "採点者A", ROWS)
    book = openpyxl.load_workbook(path)
    for (row, column), value in entries.items():
        book["採点"].cell(row, column).value = value
    book.save(path)
    problems = []
    found = take_back(path, FORM, ROWS, problems)["採点"]
    assert all(row.cells.get("判定", "正しい") in ("正しい", "誤り", "判断できない") for row in found.values()) or problems
    assert all("行目" in line and "列" in line for _, line in problems)


def test_columns_and_rows_may_be_in_another_order(tmp_path):
    path = write(tmp_path / "a.xlsx", FORM, MARK, "採点者A", ROWS)
    book = openpyxl.load_workbook(path)
    sheet = book["採点"]
    sheet["F4"], sheet["F5"] = "正しい", "誤り"
    rows = [[cell.value for cell in row] for row in sheet.iter_rows(min_row=3)]
    for number, row in enumerate([rows[0], rows[2], rows[1]], 3):
        for column, value in enumerate(reversed(row), 1):
            sheet.cell(number, column).value = value
    sheet["D4"].data_type = "s"
    book.save(path)
    problems = []
    found = take_back(path, FORM, ROWS, problems)["採点"]
    assert problems == []
    assert {key: row.cells for key, row in found.items()} == {"001": {"判定": "正しい"}, "002": {"判定": "誤り"}}


def test_a_workbook_that_is_not_there_is_told_as_such(tmp_path):
    with pytest.raises(DataError, match=r"ない\.xlsx が見つかりません") as told:
        mark_of(tmp_path / "ない.xlsx")
    assert "kit score" in told.value.remedy


def test_a_sheet_that_is_gone_is_told(tmp_path):
    path = write(tmp_path / "a.xlsx", FORM, MARK, "採点者A", ROWS)
    problems = []
    assert take_back(path, FORM, {"一次解決": []}, problems) == {}
    assert problems == [(0, "シート「一次解決」がありません。")]


@pytest.mark.real
def test_broken_office_files_are_refused(shared):
    files = sorted(path for path in (shared / "bad_files" / "office").iterdir() if path.is_file())
    assert len(files) > 20
    for path in files:
        with pytest.raises(DataError):
            mark_of(path)
