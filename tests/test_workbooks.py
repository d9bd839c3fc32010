"""Excel workbooks and CSV, row by row."""

import datetime
import io
import re
import time
import zipfile

import openpyxl
import pytest
from openpyxl.comments import Comment
from openpyxl.styles import Font, PatternFill

from kit.knowledge import workbooks
from kit.knowledge.worker import parse
from kit.records import Place


def read(book, name="a.xlsx"):
    buffer = io.BytesIO()
    book.save(buffer)
    return parse(name, buffer.getvalue())


def rows(reading):
    return [(block.place.row, block.text) for block in reading.blocks]


def test_rows_carry_column_names_and_the_title_above_heads_the_table():
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "備品"
    for row in (
        ["備品台帳"],
        [],
        ["品名", "数量", "購入日"],
        ["机", 12, datetime.date(2026, 4, 1)],
        ["椅子", 3.0, None],
        [None, None, None],
    ):
        sheet.append(row)
    reading = read(book, "daicho.xlsx")
    assert [(block.text, block.place) for block in reading.blocks] == [
        ("備品台帳", Place(sheet="備品", row=1, headings=("備品台帳",))),
        ("品名: 机 / 数量: 12 / 購入日: 2026-04-01", Place(sheet="備品", row=4, headings=("備品台帳",))),
        ("品名: 椅子 / 数量: 3", Place(sheet="備品", row=5, headings=("備品台帳",))),
    ]
    assert reading.title == "daicho"


@pytest.mark.parametrize(
    ("value", "pattern", "text"),
    [
        (1234567, "#,##0", "1234567(1,234,567)"),
        (1500, "#,##0", "1500(1,500)"),
        (1500, "General", "1500"),
        (0.1 + 0.2, "General", "0.3"),
        (3.0, "0", "3"),
        (0.255, "0.0%", "25.5%"),
        (42, "00000", "00042"),
        (1500, '#,##0"円"', "1500円(1,500円)"),
        (1500, '[$¥-411]#,##0;[Red]-[$¥-411]#,##0', "¥1500(¥1,500)"),
        (1234567, '#,##0,"千円"', "1235千円(1,235千円)"),
        (12, '0"名"', "12名"),
        (3.5, '0.0"kg"_ ', "3.5kg"),
        (True, "General", "True"),
        (datetime.datetime(2024, 4, 1), '[$-411]ggge"年"m"月"d"日"', "令和6年4月1日(2024-04-01)"),  # noqa: DTZ001
        (datetime.datetime(2019, 4, 30), "[$-411]ge.m.d;@", "平成31年4月30日(2019-04-30)"),  # noqa: DTZ001
        (datetime.datetime(2026, 4, 1), "yyyy/m/d", "2026-04-01"),  # noqa: DTZ001 - a cell knows no time zone
        (datetime.datetime(2026, 4, 1, 9, 30), "yyyy/m/d h:mm", "2026-04-01 09:30"),  # noqa: DTZ001
        (datetime.time(9, 30), "h:mm", "09:30"),
        (datetime.timedelta(hours=26, minutes=5), "[h]:mm", "26:05"),
        ("Ａ１　ボルト", "General", "A1 ボルト"),
    ],
)
def test_values_as_a_reader_sees_them(value, pattern, text):
    book = openpyxl.Workbook()
    book.active["A1"].value = "金額"
    book.active["B1"].value = value
    book.active["B1"].number_format = pattern
    assert rows(read(book)) == [(1, f"金額: {text}")]


def test_merged_cells_are_repeated_and_two_header_rows_join():
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["役職", "日当", None], [None, "国内", "海外"], ["部長", 3000, 5000], [None, 2000, 4000]):
        sheet.append(row)
    for area in ("A1:A2", "B1:C1", "A3:A4"):
        sheet.merge_cells(area)
    for row in sheet["A1:C2"]:
        for cell in row:
            cell.font = Font(bold=True)
    assert rows(read(book)) == [
        (3, "役職: 部長 / 日当 国内: 3000 / 日当 海外: 5000"),
        (4, "役職: 部長 / 日当 国内: 2000 / 日当 海外: 4000"),
    ]


def test_the_first_record_is_no_second_header():
    book = openpyxl.Workbook()
    for row in (["項目", "個人", "法人"], ["氏名", "必", "必"], ["住所", "必", "任意"]):
        book.active.append(row)
    assert rows(read(book))[0] == (2, "項目: 氏名 / 個人: 必 / 法人: 必")


def test_a_second_table_below_takes_its_own_header():
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["品名", "数量"], ["机", 1], [], ["氏名", "所属"], ["山田", "総務部"]):
        sheet.append(row)
    for cell in (*sheet[1], *sheet[4]):
        cell.fill = PatternFill("solid", fgColor="DDDDDD")
    assert rows(read(book)) == [(2, "品名: 机 / 数量: 1"), (5, "氏名: 山田 / 所属: 総務部")]


def test_a_form_without_header_stays_label_and_value():
    book = openpyxl.Workbook()
    for row in (["氏名", "山田太郎"], ["所属", "総務部"], ["期間", "2026年4月1日から3日間の出張について申請する。"]):
        book.active.append(row)
    assert rows(read(book))[:2] == [(1, "氏名: 山田太郎"), (2, "所属: 総務部")]


def test_two_columns_take_a_header_by_the_rule_of_all_tables_and_equal_cells_stay():
    book = openpyxl.Workbook()
    for row in (["品目", "在庫"], ["りんご", 2], ["なし", "なし"]):
        book.active.append(row)
    assert rows(read(book)) == [(2, "品目: りんご / 在庫: 2"), (3, "品目: なし / 在庫: なし")]


def test_hidden_sheets_and_uncalculated_formulas_are_said():
    book = openpyxl.Workbook()
    book.active["A1"] = "公開"
    book.active["B1"] = "=1+1"
    book.create_sheet("単価").sheet_state = "hidden"
    book["単価"]["A1"] = "隠れた値"
    reading = read(book)
    assert rows(reading) == [(1, "公開"), (1, "隠れた値")]
    assert reading.doubts[0] == "非表示のシートも読みました: 単価。"
    assert "1個" in reading.doubts[1]
    assert "文字がありません" in read(openpyxl.Workbook()).problem


def with_parts(book, changes):
    """The workbook's bytes, each named part changed by a function of its text (\"\" for a new part)."""
    buffer, changed = io.BytesIO(), io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(changed, "w") as new:
        for name in {*old.namelist(), *changes}:
            text = old.read(name).decode() if name in old.namelist() else ""
            new.writestr(name, changes.get(name, str)(text))
    return changed.getvalue()


def test_furigana_is_not_glued_to_names():
    book = openpyxl.Workbook()
    book.active["A1"], book.active["A2"] = "INLINE", "SHARED"
    name = "<t>山田太郎</t><rPh sb='0' eb='2'><t>ヤマダ</t></rPh><phoneticPr fontId='1'/>"
    part, kind = "/xl/sharedStrings.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    known = f'<Override PartName="{part}" ContentType="{kind}"/></Types>'
    strings = f'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si>{name}</si></sst>'
    changes = {
        "xl/worksheets/sheet1.xml": lambda text: text.replace("<t>INLINE</t>", name).replace(
            't="inlineStr"><is><t>SHARED</t></is>', 't="s"><v>0</v>'
        ),
        part[1:]: lambda _: strings,
        "[Content_Types].xml": lambda text: text.replace("</Types>", known),
    }
    assert rows(parse("a.xlsx", with_parts(book, changes))) == [(1, "山田太郎"), (2, "山田太郎")]


def test_comments_and_shapes_follow_their_row_under_its_caption():
    book = openpyxl.Workbook()
    for row in (["備品台帳"], [], ["品名", "数量"], ["机", 12], ["椅子", 3]):
        book.active.append(row)
    book.active["A3"].font = book.active["B3"].font = Font(bold=True)
    book.active["B4"].comment = Comment("棚卸で確認", "総務")
    drawing = (
        "<d:wsDr xmlns:d='x' xmlns:a='y'><d:twoCellAnchor><d:from><d:col>5</d:col><d:row>4</d:row></d:from><d:sp><d:txBody>"
        "<a:p><a:r><a:t>廃棄は</a:t></a:r><a:r><a:t>要申請</a:t></a:r></a:p></d:txBody></d:sp></d:twoCellAnchor></d:wsDr>"
    )
    link = "<Relationship Id='d1' Type='http://x/drawing' Target='../drawings/drawing7.xml'/></Relationships>"
    reading = parse(
        "a.xlsx",
        with_parts(book, {
            "xl/drawings/drawing7.xml": lambda _: drawing,
            "xl/worksheets/_rels/sheet1.xml.rels": lambda text: text.replace("</Relationships>", link),
        }),
    )  # fmt: skip
    assert rows(reading)[1:] == [
        (4, "品名: 机 / 数量: 12"), (4, "コメント: 棚卸で確認"), (5, "品名: 椅子 / 数量: 3"), (5, "図形: 廃棄は要申請"),
    ]  # fmt: skip
    assert {block.place.headings for block in reading.blocks} == {("備品台帳",)}


def test_a_date_in_a_format_that_a_japanese_excel_knows_by_number():
    book = openpyxl.Workbook()
    book.active.append(["開始日", 45383])
    book.active["B1"].number_format = "0.00"  # of number 2
    data = with_parts(book, {"xl/styles.xml": lambda text: text.replace('numFmtId="2"', 'numFmtId="28"')})
    assert rows(parse("a.xlsx", data)) == [(1, "開始日: 令和6年4月1日(2024-04-01)")]


def test_the_day_of_the_edition_is_the_file_s_own_not_the_library_s():
    book = openpyxl.Workbook()
    book.active["A1"] = "値"
    stamp = re.compile("<dcterms:modified.*?</dcterms:modified>")
    day = re.compile("(?<=W3CDTF\">)[^<]+")
    dated = with_parts(book, {"docProps/core.xml": lambda text: day.sub("2021-03-31T01:02:03Z", text)})
    assert parse("a.xlsx", dated).date == "2021-03-31"
    assert parse("a.xlsx", with_parts(book, {"docProps/core.xml": lambda text: stamp.sub("", text)})).date == ""


def test_a_cell_far_away_costs_nothing():
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = "近い", "遠い"
    begun = time.monotonic()
    assert rows(read(book)) == [(1, "近い"), (1048576, "遠い")]
    assert time.monotonic() - begun < 5


def test_a_large_sheet_says_every_thousand_rows_that_it_goes_on(monkeypatch):
    beats = []
    monkeypatch.setattr(workbooks, "finished", lambda: beats.append(1))
    book = openpyxl.Workbook()
    for row in range(2_500):
        book.active.append([row])
    assert len(read(book).blocks) == 2_500
    assert len(beats) == 2 + 2 + 1  # reading, writing, the sheet


# --- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv_rows_count_as_in_a_spreadsheet(mark):
    source = (
        mark.join(["品名", "備考"])
        + "\r\n"
        + mark.join(["ボルト", '"二行に\nわたる, ; 説明"'])
        + "\r\n\r\n"
        + mark.join(["ナット", ""])
    )
    reading = parse("a.csv", source.encode("cp932"))
    assert [(b.text, b.place) for b in reading.blocks] == [
        ("品名: ボルト / 備考: 二行にわたる, ; 説明", Place(row=2)),
        ("品名: ナット", Place(row=4)),
    ]


def test_csv_with_a_title_above_its_header_and_without_any_header():
    reading = parse("a.csv", "備品一覧,,\n\n品名,数量,場所\n机,12,3階\n".encode())
    assert [(b.text, b.place.row) for b in reading.blocks] == [("備品一覧", 1), ("品名: 机 / 数量: 12 / 場所: 3階", 4)]
    assert [text for _, text in rows(parse("a.csv", b"1,2,3\n4,5,6\n"))] == ["1 / 2 / 3", "4 / 5 / 6"]


def test_csv_with_a_lost_quotation_mark_keeps_its_rows():
    source = "品名,備考\n" + 'ボルト,"閉じない\n' + "ナット,あり\n" * 100
    reading = parse("a.csv", source.encode())
    assert len(reading.blocks) == 101
    assert "引用符" in reading.doubts[0]


def test_csv_with_a_lost_quotation_mark_among_sound_ones():
    source = '品名,備考\nボルト,"閉じない\nナット,5\nねじ,"二行\nの説明"\n"12" 管",細\nくぎ,5\n'
    reading = parse("a.csv", source.encode())
    assert [text for _, text in rows(reading)] == [
        "品名: ボルト / 備考: 閉じない",
        "品名: ナット / 備考: 5",
        "品名: ねじ / 備考: 二行の説明",
        '品名: 12" 管 / 備考: 細',
        "品名: くぎ / 備考: 5",
    ]
    assert reading.doubts == ('引用符「"」が正しく閉じていない行（2、6行目）は、その1行を1件として読みました。',)


def test_csv_keeps_equal_cells_beside_each_other():
    reading = parse("a.csv", "りんご,5,5\nみかん,,5\n".encode())
    assert [text for _, text in rows(reading)] == ["りんご / 5 / 5", "みかん / 5"]
