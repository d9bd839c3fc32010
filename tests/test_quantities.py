"""Amounts, dates and times: what Japanese writes in many ways is the same, what only looks alike is not."""

import json
import math

import pytest
from hypothesis import given, strategies as st

from kit.evaluation.quantities import has_quantity, quantities, quantities_match

ALIKE = [
    ("二割", "20%"),
    ("20パーセント", "２０％"),
    ("2割5分", "25%"),
    ("三割三分三厘", "33.3%"),
    ("三分の一", "1/3"),
    ("1/2", "50%"),
    ("½", "五割"),
    ("半額", "50%"),
    ("半分", "1/2"),
    ("令和8年", "2026年"),
    ("令和八年", "二〇二六年"),
    ("R8年", "2026年"),
    ("平成31年", "2019年"),
    ("令和元年", "2019年"),
    ("昭和63年", "1988年"),
    ("令和8年度", "2026年度"),
    ("令和8年4月", "2026/4"),
    ("令和8年4月1日", "2026年4月1日"),
    ("令和8年（2026年）4月1日", "2026年（令和8年）4月1日"),
    ("令和8年（2026年）4月1日", "2026年4月1日"),
    ("二十世紀", "20世紀"),
    ("1980年代", "一九八〇年代"),
    ("R8.4.1", "2026-04-01"),
    ("2026.4.1", "2026/04/01"),
    ("二〇二六年四月一日", "2026/4/1"),
    ("十二月二十八日", "12/28"),
    ("12/28", "12月28日"),
    ("3万円", "30,000円"),
    ("３万円", "三万円"),
    ("¥30,000", "30000円"),
    ("￥３０，０００", "3万円"),
    ("1.5億円", "150,000,000円"),
    ("1億5千万円", "1.5億円"),
    ("1万5千円", "15,000円"),
    ("30千円", "3万円"),
    ("5百万円", "500万円"),
    ("千円", "1,000円"),
    ("金三万二千五百円", "32,500円"),
    ("1,234万円", "12340000円"),
    ("１２０日", "120日"),
    ("百二十日", "120日"),
    ("120日間", "120日"),
    ("2週間", "14日"),
    ("三か月", "3ヶ月"),
    ("3カ月間", "三箇月"),
    ("半年", "6か月"),
    ("1年半", "18か月"),
    ("1年6か月", "18ヶ月"),
    ("1年", "12か月"),
    ("半日", "0.5日"),
    ("午後3時", "15:00"),
    ("15時", "15:00"),
    ("午後3時半", "15時30分"),
    ("PM 3:00", "15:00"),
    ("正午", "12:00"),
    ("午前0時", "0:00"),
    ("9:05", "午前9時5分"),
    ("1時間30分", "90分"),
    ("1.5時間", "90分"),
    ("1時間半", "90分"),
    ("三十分", "30分"),
    ("3人", "三名"),
    ("3つ", "3個"),
    ("5箇所", "5か所"),
    ("1.5m", "150cm"),
    ("3メートル", "3m"),
    ("2kg", "2,000グラム"),
    ("25㎡", "25平方メートル"),
    ("-5℃", "マイナス5度"),
    ("△5%", "-5%"),
    ("10〜20日", "10日から20日"),
    ("10～20日", "１０－２０日"),
    ("9:00〜17:30", "午前9時から午後5時30分"),
    ("4/1〜3/31", "4月1日から3月31日"),
    ("3万円以上", "30,000円以上"),
    ("20日以内", "20日以下"),
    ("20日まで", "20日"),
    ("三以上", "3以上"),
    ("第12条", "第十二条"),
    ("518", "５１８"),
    ("3万", "30,000"),
    ("5営業日", "五営業日"),
    ("3GB", "３ＧＢ"),
]
APART = [
    ("20日", "120日"),
    ("1 20日", "120日"),
    ("①20日", "120日"),
    ("3万円", "3円"),
    ("3万円", "3千円"),
    ("3万円", "3万ドル"),
    ("30,000円", "30,000"),
    ("3万", "3万円"),
    ("令和8年", "2025年"),
    ("令和8年", "平成8年"),
    ("2026年", "2026年度"),
    ("1980年代", "1980年"),
    ("1980年", "1980年代"),
    ("2026年4月1日", "2026年4月2日"),
    ("4月1日", "2026年4月1日"),
    ("4月", "4か月"),
    ("1日", "24時間"),
    ("5営業日", "5日"),
    ("二割", "2%"),
    ("2割5分", "2割"),
    ("20%", "20ポイント"),
    ("20%", "20%ポイント"),
    ("三分の一", "三分の二"),
    ("午後3時", "3:00"),
    ("午後3時", "3時間"),
    ("15:00", "15分"),
    ("半年", "半日"),
    ("1年半", "1年"),
    ("3か月", "3年"),
    ("3人", "3個"),
    ("3m", "3cm"),
    ("3m", "3㎡"),
    ("3GB", "3MB"),
    ("-5℃", "5℃"),
    ("△5%", "5%"),
    ("10〜20日", "20日"),
    ("10〜20日", "10日"),
    ("20日", "10〜20日"),
    ("10〜20日", "10〜30日"),
    ("9:00〜17:30", "17:30"),
    ("3万円以上", "3万円以下"),
    ("3万円未満", "3万円以下"),
    ("3日前", "3日後"),
    ("5回", "5回目"),
    ("第12条", "第12項"),
    ("1.5億円", "1.5万円"),
    ("03-1234-5678", "5678"),
    ("v1.2", "1.2"),
    ("A4", "4"),
    ("十分な説明", "10分"),
    ("一部の社員", "1部"),
    ("5分野", "5分"),
    ("2026年4月45日", "2026年4月5日"),
    ("25:70", "25:07"),
    ("1/0", "1"),
]


@pytest.mark.parametrize(("text", "gold"), ALIKE)
def test_alike(text, gold):
    assert quantities_match(f"規程では、{text}です。", ((gold,),))


@pytest.mark.parametrize(("text", "gold"), ALIKE)
def test_alike_the_other_way(text, gold):
    assert quantities_match(gold, ((text,),))


@pytest.mark.parametrize(("text", "gold"), APART)
def test_apart(text, gold):
    assert not quantities_match(f"規程では、{text}です。", ((gold,),))


def test_the_tables_are_no_smaller_than_agreed():
    assert len(ALIKE) >= 60
    assert len(APART) >= 40


def test_a_gold_date_without_year_holds_in_every_year():
    assert quantities_match("2026年4月1日に施行", (("4月1日",),))
    assert quantities_match("2026年4月1日に施行", (("令和8年",),))
    assert not quantities_match("4月1日に施行", (("2026年4月1日",),))


def test_every_part_and_one_wording_of_each():
    answers = (("3万円", "¥30,000"), ("20日",))
    assert quantities_match("上限は30千円、締め日は二十日", answers)
    assert not quantities_match("上限は30千円", answers)
    assert not quantities_match("", answers)


def test_parts_without_quantity_are_passed_over():
    assert quantities_match("締め日は二十日", (("経理課長",), ("20日",)))
    assert has_quantity((("経理課長",), ("20日",)))
    assert not has_quantity((("経理課長",),))
    assert not has_quantity((("3名の部門長", "部門長"),))  # the second wording is right without a number
    assert not has_quantity((("丹下健三",),))
    assert not has_quantity((("一酸化炭素",),))
    assert not has_quantity(())
    assert not quantities_match("20日", ())


def test_both_readings_of_a_slash():
    ((ratio, date),) = quantities("4/1")
    assert (ratio.unit, ratio.value, date.unit, date.value) == ("割合", (4,), "日付", (None, 4, 1))
    assert [reading.unit for reading in quantities("40/50")[0]] == ["割合"]


@given(st.integers(0, 10**12))
def test_numbers_of_any_size(number):
    ((found,),) = quantities(f"{number:,}円")
    assert (found.unit, found.value) == ("円", (number,))


@given(st.lists(st.sampled_from("0123456789一二十百千万億兆年月日時分円割%半〜-/.:,から以上¥△令和r "), max_size=30).map("".join))
def test_nothing_written_is_an_error_and_everything_meets_itself(text):
    found = quantities(text)
    assert all(one.meets(one) for readings in found for one in readings)
    assert quantities_match(text, ((text,),)) is has_quantity(((text,),))


@given(st.text(max_size=60))
def test_any_text(text):
    assert quantities_match(text, ((text,),)) is has_quantity(((text,),))


def test_naughty_strings(shared):
    texts = json.loads((shared / "blns/blns.json").read_text(encoding="utf-8"))
    assert all(quantities_match(text, ((text,),)) is has_quantity(((text,),)) for text in texts)


def test_long_digits_end():
    assert len(quantities("9" * 5_000)) == math.ceil(5_000 / 40)
    assert quantities("億" * 5_000) == ()
