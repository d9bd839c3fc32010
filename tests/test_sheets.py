"""Question tables: every heading, place and number as a team may write it, and mistakes told by row and column."""

from datetime import date

import openpyxl
import pytest

from kit.evaluation.cases import read_cases, read_development
from kit.records import Case, Evidence, Place
from tests.tables import HEADER, refusal, write_csv, write_lines, write_xlsx


def one(path, *cells, header=HEADER):
    (case,) = read_cases(write_xlsx(path / "質問表.xlsx", [header, cells]))
    return case


def test_a_row_of_every_column_is_read(tmp_path):
    case = one(tmp_path, "Q-7", "日当は？", "6,000円\n部長｜所属部長", "旅費規程.pdf\n権限表.xlsx", "4頁\n出張", "経費", "tanaka", "表")
    assert case == Case(
        "Q-7", "日当は？", (("6,000円",), ("部長", "所属部長")),
        (Evidence("旅費規程.pdf", Place(page=4)), Evidence("権限表.xlsx", Place(sheet="出張"))), "経費", "表", "tanaka",
    )  # fmt: skip


@pytest.mark.parametrize(
    "header",
    [
        ("id", "question", "answers", "document", "page", "category", "user", "kind"),
        ("ＩＤ", "Ｑuestion", "Answer", "DOCUMENT", "Place", "Category", "User", "Kind"),
        ("No.", "質問（必須）", " 正 解 ", "根拠文書※", "ﾍﾟｰｼﾞ", "カテゴリ", "利用者", "種別"),
    ],
)
def test_headings_may_be_japanese_or_english_in_any_width(tmp_path, header):
    case = one(tmp_path, 1, "q", "a", "d.pdf", 3, "c", "u", "k", header=header)
    assert case == Case("1", "q", (("a",),), (Evidence("d.pdf", Place(page=3)),), "c", "k", "u")


def test_columns_may_stand_in_any_order_among_others_below_a_title(tmp_path):
    rows = [["問い合わせ記録 2026年度"], [], ["受付日", "正解", "担当", "質問"], [date(2026, 4, 1), "5日", "佐藤", "有休は？"]]
    (case,) = read_cases(write_xlsx(tmp_path / "log.xlsx", rows, sheet="Sheet1"))
    assert (case.id, case.question, case.answers) == ("1", "有休は？", (("5日",),))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
def test_csv_is_read_in_the_encodings_excel_writes(tmp_path, encoding):
    rows = [HEADER, ("", "①有休の残りはどこで見られますか", "勤怠システム｜タイムリー", "就業規則.docx", "第12条", "人事", "", "")]
    (case,) = read_cases(write_csv(tmp_path / "q.csv", rows, encoding))
    assert case.question == "①有休の残りはどこで見られますか"
    assert case.answers == (("勤怠システム", "タイムリー"),)
    assert case.evidence == (Evidence("就業規則.docx", Place(headings=("第12条",))),)


@pytest.mark.parametrize("text", ["", "なし", "該当なし", " なし", None])
def test_an_empty_answer_means_that_the_documents_hold_none(tmp_path, text):
    assert not one(tmp_path, "", "献立は？", text).answerable


@pytest.mark.parametrize(
    ("document", "spot", "place"),
    [
        ("a.pdf", "3", Place(page=3)),
        ("a.pdf", 3, Place(page=3)),
        ("a.pdf", "３頁", Place(page=3)),
        ("a.pdf", "P.3", Place(page=3)),
        ("a", "3ページ", Place(page=3)),
        ("a.pptx", "スライド4", Place(slide=4)),
        ("a", "スライド 4", Place(slide=4)),
        ("a.pptx", "4頁", Place(slide=4)),
        ("a.xlsx", "単価表", Place(sheet="単価表")),
        ("a.xlsx", "シート「単価表」 5行目", Place(sheet="単価表", row=5)),
        ("a.xlsx", "単価表 5行目", Place(sheet="単価表", row=5)),
        ("a", "シート:単価表", Place(sheet="単価表")),
        ("a.csv", "12", Place(row=12)),
        ("a.docx", "第3章 > 第12条", Place(headings=("第3章", "第12条"))),
        ("a.xlsx", "5行目", Place(row=5)),
        ("a.pdf", "別表第1", Place(headings=("別表第1",))),
        ("a.pdf", "", Place()),
    ],
)
def test_places_are_read_as_people_write_them(tmp_path, document, spot, place):
    assert one(tmp_path, "", "q", "a", document, spot).evidence == (Evidence(document, place),)


def test_a_place_written_by_the_kit_is_read_back(tmp_path):
    for place in (Place(page=3), Place(slide=4), Place(sheet="単価 表", row=5), Place(headings=("第1章", "総則"))):
        assert one(tmp_path, "", "q", "a", "a", place.label).evidence == (Evidence("a", place),)


def test_documents_and_places_are_paired_by_line(tmp_path):
    case = one(tmp_path, "", "q", "a", "規程\\a.pdf\nb.pdf", "\n5")
    assert case.evidence == (Evidence("規程/a.pdf"), Evidence("b.pdf", Place(page=5)))


def test_numbers_are_read_as_they_are_shown(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(HEADER[:3])
    for value, shown in ((0.05, "0%"), (1500, "#,##0"), (6.5, "General"), (0.125, "0.0%")):
        book.active.append(("", f"q{value}", value))
        book.active.cell(book.active.max_row, 3).number_format = shown
    book.save(tmp_path / "q.xlsx")
    assert [case.answers[0][0] for case in read_cases(tmp_path / "q.xlsx")] == ["5%", "1500", "6.5", "12.5%"]


def test_line_ends_as_excel_keeps_them_part_answers(tmp_path):
    assert one(tmp_path, "", "q", "甲_x000D_\n乙").answers == (("甲",), ("乙",))


def test_the_question_sheet_is_found_by_name_and_examples_never_count(tmp_path):
    rows = {name: [HEADER[:3], ("", name, "x")] for name in ("記入例", "開発用", "表紙", "質問表")}
    path = write_xlsx(tmp_path / "q.xlsx", rows.pop("記入例"), sheet="記入例", **rows)
    assert [case.question for case in read_cases(path)] == ["質問表"]
    assert [case.question for case in read_development(path)] == ["開発用"]
    path = write_xlsx(tmp_path / "q.xlsx", [HEADER[:3], ("", "例", "x")], sheet="記入例", 一覧=[HEADER[:3], ("", "本物", "x")])
    assert [case.question for case in read_cases(path)] == ["本物"]


def test_no_development_sheet_or_an_empty_one_means_no_development_questions(tmp_path):
    path = write_xlsx(tmp_path / "q.xlsx", [HEADER[:3], ("", "q", "x")])
    assert read_development(path) == []
    path = write_xlsx(tmp_path / "q.xlsx", [HEADER[:3], ("", "q", "x")], 開発用=[["説明"], HEADER[:3]])
    assert read_development(path) == []
    assert len(read_development(write_lines(tmp_path / "d.jsonl", {"question": "d", "answers": []}))) == 1


def test_a_sheet_without_questions_is_refused(tmp_path):
    assert "まだ1問もありません" in refusal(write_xlsx(tmp_path / "q.xlsx", [["説明"], HEADER])).what


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (("番号", "質門", "正解"), "1行目: 列「質問」がありません。今の見出し: 番号、質門、正解"),
        (("質問", "解答らん"), "1行目: 列「正解」がありません。今の見出し: 質問、解答らん"),
        (tuple("甲乙丙丁戊己庚辛壬癸"), "1行目: 列「質問」「正解」がありません。今の見出し: 甲、乙、丙、丁、戊、己、庚、辛"),
        (("質問", "正解", "根拠文章"), "1行目: 列「根拠文章」は「根拠文書」の書き間違いではありませんか。"),
        (("question", "answers", "documnet"), "1行目: 列「documnet」は「document」の書き間違いではありませんか。"),
    ],
)
def test_a_missing_or_misspelt_column_is_named_with_its_neighbours(tmp_path, header, told):
    path = write_xlsx(tmp_path / "q.xlsx", [header, tuple("abc")])
    assert f"・シート「質問表」 {told}" in refusal(path).what


def test_other_columns_of_an_inquiry_log_are_no_mistakes(tmp_path):
    case = one(tmp_path, "q", "a", "", "", "", "", header=("質問", "正解", "ページ数", "質問日", "分類名", "文書番号"))
    assert case.question == "q"


def test_an_excel_error_value_is_told(tmp_path):
    path = tmp_path / "q.xlsx"
    book = openpyxl.Workbook()
    book.active.append(HEADER[:3])
    book.active.append(("", "q", "#N/A"))
    book.active["C2"].data_type = "e"
    book.save(path)
    assert "シート「Sheet」 2行目 「正解」列: Excel のエラー値（#N/A）" in refusal(path).what
