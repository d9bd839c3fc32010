"""Cleaning, charsets, headings, tables, titles; plain text."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from kit.knowledge import texts
from kit.knowledge.worker import parse
from kit.records import Block, Place


def lines(reading):
    return [block.text for block in reading.blocks]


# --- cleaning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Ａ１２　㈱ｶﾞｽ", "A12 (株)ガス"),
        ("⼩⾦額", "小金額"),  # Kangxi radicals look like the characters nobody would find them by
        ("a\r\nb\rc\u2028d\x0be", "a\nb\nc\nd\ne"),
        ("tab\tstays\x00\x07\x9f", "tab\tstays"),
        ("申\u200b請\u202e書\ufeff\u00ad\u2066", "申請書"),
        ("命令\U000e0041\U000e007f", "命令"),
        ("半\ud800端", "半\ufffd端"),
        ("①20日 ②3日、①②の順", "1 20日 2 3日、1 2の順"),  # NFKC alone makes 120日 of it
        ("10³ 1½ 5㎡ x²", "10 3 1 1\u20442 5m2 x2"),
        ("葛\U000e0100城", "葛\U000e0100城"),  # a variation selector is part of a name
    ],
)
def test_clean(raw, cleaned):
    assert texts.clean(raw) == cleaned


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_clean_is_done_once_and_leaves_nothing_invisible(text):
    cleaned = texts.clean(text)
    assert texts.clean(cleaned) == cleaned
    assert not [
        c for c in cleaned if (ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 or "\ud800" <= c <= "\udfff"
    ]


def test_squeeze_mends_a_word_cut_by_a_line_break():
    assert texts.squeeze("機械のデータだ\nけでなく\n文字も") == "機械のデータだけでなく 文字も"
    assert texts.squeeze(" 必須\nパターン1 ") == "必須 パターン1"


# --- charsets ---------------------------------------------------------------------------------------------------------

JAPANESE = "旅費規程\n第1条　この規程は、出張旅費の支給について定める。髙橋は対象外。\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp932", "euc_jis_2004"])
def test_decode(encoding):
    text = JAPANESE if encoding in ("cp932",) or encoding.startswith("utf") else JAPANESE.replace("髙", "高")
    assert texts.decode(text.encode(encoding)) == (text, ())


def test_decode_mail_charset():
    text = JAPANESE.replace("髙", "高")
    assert texts.decode(text.encode("iso2022_jp")) == (text, ())


@pytest.mark.parametrize("text", ["日本", "部品：Ａ１２", "質の防護のために必要", "品名,数量\nボルト,12\n", "（注）"])
@pytest.mark.parametrize("encoding", ["cp932", "euc_jp"])
def test_decode_short(text, encoding):
    assert texts.decode(text.encode(encoding))[0] == text


def test_one_broken_byte_does_not_lose_the_file():
    text, doubts = texts.decode(JAPANESE.encode() * 10 + b"\xff")
    assert text.startswith(JAPANESE)
    assert len(doubts) == 1


def test_undecodable_is_said():
    assert "バイナリ" in parse("a.txt", b"\x00\x01\x02\xff").problem
    assert parse("a.txt", bytes(range(128, 256)) * 4).problem


# --- titles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "text", "title"),
    [
        (("旅費規程",), "旅費規程 第1条", "旅費規程"),
        (("去年の雛形",), "旅費規程 第1条", "ryohi"),  # the property of the template it was copied from
        (("去年の雛形", "旅費規程"), "旅費規程 第1条", "旅費規程"),
        (("Microsoft Word - 旅費規程.docx",), "Microsoft Word - 旅費規程.docx", "ryohi"),
        (("PowerPoint プレゼンテーション",), "PowerPoint プレゼンテーション", "ryohi"),
        (("", "Sheet1"), "Sheet1", "ryohi"),
        (("", "2026"), "", "ryohi"),
        (("", "\x93\xfa\x96{"), "", "ryohi"),
    ],
)
def test_choose_title(found, text, title):
    assert texts.choose_title("ryohi", found, [Block(text, Place())]) == title


# --- headings ---------------------------------------------------------------------------------------------------------


def test_articles_make_the_path_and_captions_belong_to_the_article_below():
    source = [
        "就業規則",
        "第1章 総則",
        "(目的)",
        "第1条 この規則は、就業について定める。",
        "2 前項のほか、第3条の規定による。",
        "第2条(適用範囲)",
        "正社員に適用する。",
        "第2章 賃金",
        "第3条 賃金は月給とする。",
        "附則",
        "この規則は2026年4月1日から施行する。",
    ]
    placed = dict(texts.sections([(line, 0) for line in source]))
    assert placed["就業規則"] == ()
    assert placed["(目的)"] == placed["2 前項のほか、第3条の規定による。"] == ("第1章 総則", "第1条(目的)")
    assert placed["正社員に適用する。"] == ("第1章 総則", "第2条(適用範囲)")
    assert placed["第3条 賃金は月給とする。"] == ("第2章 賃金", "第3条")
    assert placed["この規則は2026年4月1日から施行する。"] == ("附則",)


def test_a_table_of_contents_is_not_a_chapter():
    source = ["第1章 総則 ……… 1", "第2章 賃金 ……… 5", "第1章 総則", "第2章 賃金", "本文"]
    assert {path for _, path in texts.sections([(line, 0) for line in source])} == {()}


def test_marks_head_only_what_follows_them():
    source = ["■ 申請", "申請書を出す。", "■ 承認", "部長が承認する。", "■ 一", "■ 二", "■ 三"]
    placed = dict(texts.sections([(line, 0) for line in source]))
    assert placed["申請書を出す。"] == ("■ 申請",)
    assert placed["部長が承認する。"] == ("■ 承認",)
    assert placed["■ 二"] == ("■ 承認",)  # a list, not headings


# --- tables -----------------------------------------------------------------------------------------------------------


def test_table_rows_carry_their_column_names():
    grid = [["品名", "単価", "備考"], ["ボルト", "12", ""], ["ナット", "8", "在庫なし"]]
    assert texts.table_rows(grid) == [(1, "品名: ボルト / 単価: 12"), (2, "品名: ナット / 単価: 8 / 備考: 在庫なし")]


def test_two_header_rows_join_and_spanned_cells_appear_once():
    grid = [
        ["等級", "日当", "日当"],
        ["等級", "国内", "海外"],
        ["部長", "3,000円", "3,000円"],
        ["注意", "注意", "注意"],
    ]
    assert texts.table_rows(grid) == [
        (2, "等級: 部長 / 日当 国内: 3,000円 / 日当 海外: 3,000円"),
        (3, "等級: 注意 / 日当 国内: 注意 / 日当 海外: 注意"),
    ]


def test_the_first_record_is_no_second_header():
    grid = [["項目", "担当", "担当"], ["受付", "総務部", "山田"], ["承認", "経理部", "佐藤"]]
    assert texts.table_rows(grid)[0] == (1, "項目: 受付 / 担当: 総務部 / 担当: 山田")


def test_pairs_are_label_and_value_and_nothing_is_lost_without_a_header():
    assert texts.table_rows([["氏名", "山田太郎"], ["所属", "総務部"]]) == [(0, "氏名: 山田太郎"), (1, "所属: 総務部")]
    assert texts.table_rows([["10", "20", "30"]]) == [(0, "10 / 20 / 30")]
    assert texts.table_rows([["品名", "単価", "備考"]]) == [(0, "品名 / 単価 / 備考")]
    assert texts.table_rows([]) == []


@pytest.mark.parametrize(
    ("grid", "first"),
    [
        ([["品目", "在庫"], ["りんご", "2"]], "品目: りんご / 在庫: 2"),  # a word that heads columns
        ([["拠点", "従業員"], ["東京", "10人"], ["大阪", "5人"], ["福岡", "1,005人"]], "拠点: 東京 / 従業員: 10人"),
        ([["氏名", "山田"], ["年齢", "35"]], "氏名: 山田"),
        ([["社名", "甲社"], ["電話", "03-1111"], ["FAX", "03-2222"], ["内線", "03"]], "社名: 甲社"),  # no amounts
        ([["社名", "甲社"], ["資本金", "5億円"], ["社員", "80人"], ["年商", "9億円"]], "社名: 甲社"),  # not one unit
        ([["東京", "10人"], ["大阪", "5人"], ["福岡", "9人"], ["仙台", "3人"]], "東京: 10人"),
    ],
)
def test_two_columns_are_a_form_unless_something_heads_them(grid, first):
    assert texts.table_rows(grid)[0][1] == first


def test_equal_cells_stay_and_a_merged_cell_is_shown_once():
    assert texts.labelled(["りんご", "5", "5"], ["", "", ""]) == "りんご / 5 / 5"
    assert texts.labelled(["5", "5"], ["", ""]) == "5: 5"
    assert texts.labelled(["2024", "10", "10"], ["年度", "金額", "金額"]) == "年度: 2024 / 金額: 10 / 金額: 10"
    assert texts.labelled(["備考", texts.Covered("備考"), "無", "有"], [""] * 4) == "備考 / 無 / 有"
    assert texts.labelled(["無", texts.Covered("無")], ["国内", "海外"]) == "国内: 無 / 海外: 無"


# --- plain text -------------------------------------------------------------------------------------------------------


def test_text_joins_sentences_broken_at_the_margin_but_not_lists():
    body = "この規程は、従業員が業務のために国内および海外に出張する場合の旅費の支\n給について定めるものであり、すべての従業員に適用する。\n"
    reading = parse("a.txt", ("旅費規程\n\n" + body * 3 + "・日当\n・宿泊費\n").encode("cp932"))
    joined = "この規程は、従業員が業務のために国内および海外に出張する場合の旅費の支給について定めるものであり、すべての従業員に適用する。"
    assert lines(reading) == ["旅費規程", joined, joined, joined, "・日当", "・宿泊費"]
    assert reading.title == "旅費規程"


def test_text_with_a_ragged_margin_and_hanging_indents():
    source = """　この要領は、固定資産の取得から除却までの管理の手続を定め、台帳と現物を
　常に一致させることを目的とする。
　（２）当社は従業員数が五百名を超えるため、中小企業者の少額減価償却資産の
　　　　特例は使えない。
　　新しい段落はここから始まる。
"""
    assert lines(parse("a.txt", source.encode("cp932"))) == [
        "この要領は、固定資産の取得から除却までの管理の手続を定め、台帳と現物を常に一致させることを目的とする。",
        "(2)当社は従業員数が五百名を超えるため、中小企業者の少額減価償却資産の特例は使えない。",
        "新しい段落はここから始まる。",
    ]


def test_text_goes_on_after_a_comma():
    source = "出席者：製造部長、製造課長、\n　　　　品質保証課長\n配布：各部長、\n・部員\n"
    assert lines(parse("a.txt", source.replace("　", " ").encode())) == [
        "出席者:製造部長、製造課長、品質保証課長",
        "配布:各部長、",
        "・部員",
    ]


def test_text_keeps_labelled_lines_apart():
    wide = "日時：二〇二七年一月十五日の午後一時から三時まで（延長のときは四時まで）"
    source = f"{wide}\n{wide}\n"
    assert len(lines(parse("a.txt", source.encode()))) == 2


def test_text_joins_a_line_that_begins_with_a_particle():
    assert lines(parse("a.txt", "船員法\nの規定に基づき、定める。\n".encode())) == ["船員法の規定に基づき、定める。"]


# --- whatever comes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.csv"])
@given(text=st.text(max_size=200))
@settings(max_examples=40, deadline=None)
def test_any_text_is_read_or_refused_in_one_line(name, text):
    reading = parse(name, text.encode("utf-8", "surrogatepass"))
    assert bool(reading.blocks) != bool(reading.problem)
    assert "\n" not in reading.problem
    assert all(block.text and block.text == block.text.strip() for block in reading.blocks)


@given(data=st.binary(min_size=1, max_size=200), name=st.sampled_from(["a.txt", "a.csv", "a.html", "a.md"]))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused_in_one_line(data, name):
    reading = parse(name, data)
    assert bool(reading.blocks) != bool(reading.problem)


@pytest.mark.real
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.html", "a.md"])
def test_naughty_strings(shared, name):
    for naughty in json.loads((shared / "blns" / "blns.json").read_text()):
        reading = parse(name, f"品名 {naughty}".encode("utf-8", "surrogatepass"))
        assert reading.problem == ""
        assert "品名" in reading.blocks[0].text
