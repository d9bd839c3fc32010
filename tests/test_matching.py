"""Comparing Japanese wordings, pinned by tables whose values were worked out by hand."""

import itertools
import json
import re
import unicodedata
from collections import Counter
from difflib import SequenceMatcher

import pytest
from hypothesis import given, strategies as st

from kit.evaluation.matching import (
    bare,
    character_f1,
    comparable,
    contains,
    edit_similarity,
    exact_match,
    same_document,
    same_place,
    wordings,
)
from kit.records import Evidence, Place


def one(*words):
    return (words,)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("ＡＢＣ１２３", "abc123"),
        ("ｶﾞｲﾄﾞﾗｲﾝ", "ガイドライン"),
        ("１２，３４５円", "12345円"),
        ("1,234,567.5 円", "1234567.5円"),
        ("10,20日", "10,20日"),
        ("12,34", "12,34"),
        ("1 20日", "1 20日"),
        ("1\n20日", "1 20日"),
        ("1\u3000\t 20日", "1 20日"),
        (" 第 3 条\n", "第3条"),
        ("①20日", "1 20日"),
        ("10²", "10 2"),
        ("㎡とm²", "m2とm2"),
        ("9:00〜17:00", "9:00~17:00"),
        ("9:00～17:00", "9:00~17:00"),
        ("03‐1234−5678", "03-1234-5678"),
        ("サーバー", "サーバー"),
        ("人々", "人々"),
        ("👍🏽 OK", "👍🏽ok"),
        ("", ""),
    ],
)
def test_comparable(text, folded):
    assert comparable(text) == folded
    assert comparable(folded) == folded


CONTAINED = [
    ("締め日は毎月20日です。", one("20日")),
    ("締め日は毎月２０日です。", one("20日")),
    ("締め日は毎月20日です。", one("２０日")),
    ("上限は12,000円", one("12000円")),
    ("上限は12000円", one("１２，０００円")),
    ("上限は1,234,567円", one("1234567円")),
    ("毎月10,20日に払う", one("20日")),
    ("長さは3.5mm", one("3.5mm")),
    ("値は3.5", one("3.5")),
    ("提出すること．20日以内", one("20日")),
    ("年 次\n有 給 休 暇", one("年次有給休暇")),
    ("有給\n休暇", one("有給休暇")),
    ("我々の人々", one("人々")),
    ("ﾊﾟｿｺﾝを使う", one("パソコン")),
    ("VPNに接続", one("vpn")),
    ("9:00～17:30", one("9:00〜17:30")),
    ("①20日までに②3部", one("20日")),
    ("第12条に定める", one("第12条")),
    ("十日以内", one("十日")),
    ("部門長と経理課長の承認", (("部門長",), ("経理課長",))),
    ("経理課長、部門長", (("部門長",), ("経理課長",))),
    ("答えは東京都です", one("大阪府", "東京都")),
    ("答えは👍です", one("👍")),
    ("内線は 518\n2026年度 内線表（内線.xlsx）", one("518")),
]
NOT_CONTAINED = [
    ("期限は120日", one("20日")),
    ("期限は20日", one("120日")),
    ("厚さは13.5mm", one("3.5mm")),
    ("厚さは3.5mm", one("5mm")),
    ("厚さは3.5", one("3")),
    ("100円", one("00円")),
    ("期限は1 20日", one("120日")),
    ("期限は1\n20日", one("120日")),
    ("1,200円", one("200円")),
    ("15,000円", one("5,000円")),
    ("3万円", one("3")),
    ("①20日", one("120日")),
    ("二十日以内", one("十日")),
    ("第二十条", one("第二")),
    ("十二月", one("二月")),
    ("部門長の承認", (("部門長",), ("経理課長",))),
    ("人人", one("人々")),
    ("東京", one("東京都")),
    ("", one("東京")),
    ("何でも", ()),
    ("何でも", one("")),
    ("何でも", one(" ")),
    ("何でも", ((),)),
    ("👍", one("👎")),
]


@pytest.mark.parametrize(("shown", "answers"), CONTAINED)
def test_contained(shown, answers):
    assert contains(shown, answers)


@pytest.mark.parametrize(("shown", "answers"), NOT_CONTAINED)
def test_not_contained(shown, answers):
    assert not contains(shown, answers)


@pytest.mark.parametrize(
    ("text", "answers", "value"),
    [
        ("東京都", one("東京都"), 1.0),
        ("「東京都」。", one("東京都"), 1.0),
        ("東京都", one("（東京都）"), 1.0),
        ("１２，０００円", one("12000円"), 1.0),
        ("東京", one("大阪", "東京"), 1.0),
        ("答えは東京都", one("東京都"), 0.0),
        ("東京", one("東京都"), 0.0),
        ("20日", one("120日"), 0.0),
        ("", one("東京都"), 0.0),
        ("", one("。"), 0.0),
        ("東京都", (), 0.0),
        ("部門長", (("部門長",), ("経理課長",)), 0.0),
    ],
)
def test_exact_match(text, answers, value):
    assert exact_match(text, answers) == value


@pytest.mark.parametrize(
    ("text", "answers", "value"),
    [
        ("東京都", one("東京都"), 1.0),
        ("東京都。", one("「東京都」"), 1.0),
        ("東京", one("東京都"), 4 / 5),  # 2 of 2 and 2 of 3: 2 × 2 / (2 + 3)
        ("答えは東京都千代田区です", one("東京都千代田区"), 14 / 19),  # all 7, in a text of 12
        ("2024年4月", one("4月2024年"), 1.0),  # a bag of characters has no order
        ("ああ", one("あ"), 2 / 3),  # the second あ finds no partner
        ("大阪", one("東京"), 0.0),
        ("東京", one("大阪府", "東京都"), 4 / 5),  # the best wording
        ("", one("東京"), 0.0),
        ("東京", (), 0.0),
        ("部門長", (("部門長",), ("課長",)), 6 / 8),  # half an answer is not a whole one
        ("部門長課長", (("部門長",), ("係長", "課長")), 1.0),
        ("１，０００円", one("1000円"), 1.0),
        ("👍👍", one("👍"), 2 / 3),
    ],
)
def test_character_f1(text, answers, value):
    assert character_f1(text, answers) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("stored", "gold", "same"),
    [
        ("総務/旅費規程.docx", "総務/旅費規程.docx", True),
        ("総務/旅費規程.docx", "旅費規程.docx", True),
        ("総務/旅費規程.docx", "旅費規程", True),
        ("総務/旅費規程.docx", "総務/旅費規程", True),
        ("総務/旅費規程.docx", "総務\\旅費規程.docx", True),
        ("総務/旅費規程.docx", "総務／旅費規程．ｄｏｃｘ", True),
        ("料金表（2026）.xlsx", "料金表(2026)", True),
        ("規程ver1.2.pdf", "規程ver1.2", True),
        ("か\u3099イト\u3099.txt", "がイド.txt", True),  # composed and not
        ("総務/旅費規程.docx", "旅費規程.pdf", False),
        ("総務/旅費規程.docx", "経理/旅費規程.docx", False),
        ("総務/旅費規程.docx", "旅費", False),
        ("旅費規程2024.docx", "旅費規程", False),
        ("規程.docx", "総務/規程.docx", False),
        ("", "規程", False),
        ("規程.docx", "", False),
    ],
)
def test_same_document(stored, gold, same):
    assert same_document(stored, gold) is same


@pytest.mark.parametrize(
    ("found", "gold", "same"),
    [
        (Place(page=3), Place(page=3), True),
        (Place(page=4), Place(page=3), False),
        (Place(page=4), Place(), True),
        (Place(), Place(page=3), True),  # a Word file has no pages
        (Place(sheet="料金表(2026)", row=9), Place(sheet="料金表（２０２６）", row=2), True),
        (Place(sheet="A"), Place(sheet="B"), False),
        (Place(slide=2), Place(slide=2), True),
        (Place(slide=2), Place(slide=1), False),
        (Place(headings=("第1章",)), Place(headings=("第2章",)), True),
    ],
)
def test_same_place(found, gold, same):
    assert same_place(Evidence("a/規程.pdf", found), Evidence("規程", gold)) is same
    assert not same_place(Evidence("別.pdf", found), Evidence("規程", gold))


@pytest.mark.parametrize(
    ("text", "other", "value"),
    [
        ("東京都", "東京都", 1.0),
        ("「東京都」。", "東京都", 1.0),
        ("東京都", "東京", 2 / 3),
        ("2024年4月", "4月2024年", 3 / 7),  # order counts here, unlike in a bag: 4 of 7 letters are edited
        ("東京", "大阪", 0.0),
        ("", "東京", 0.0),
        ("", "", 1.0),
    ],
)
def test_edit_similarity(text, other, value):
    assert edit_similarity(text, other) == pytest.approx(value)
    assert edit_similarity(other, text) == pytest.approx(value)


def squad_normalise(text):
    """As in the SQuAD script, with what JSQuAD changes: characters for words, no articles."""
    return re.sub(r"[\s「」『』()。、.]", "", unicodedata.normalize("NFKC", text).lower())


def squad_f1(prediction, gold):
    """The F1 of the SQuAD 1.1 evaluation script over characters."""
    common = Counter(squad_normalise(prediction)) & Counter(squad_normalise(gold))
    same = sum(common.values())
    if same == 0:
        return 0.0
    precision, recall = same / len(squad_normalise(prediction)), same / len(squad_normalise(gold))
    return 2 * precision * recall / (precision + recall)


plain = st.text(st.sampled_from("東京都大阪府千代田区年月日のはABc0１ﾃｽﾄ"), max_size=12)


@given(plain, plain)
def test_agrees_with_the_squad_script(text, gold):
    assert character_f1(text, ((gold,),)) == pytest.approx(squad_f1(text, gold))
    assert exact_match(text, ((gold,),)) == float(squad_normalise(text) == squad_normalise(gold) != "")


@given(plain, plain)
def test_edits_are_bounded_by_the_matching_blocks(text, other):
    # A text with m letters in common blocks of n at most needs no more than n - m edits.
    matched = sum(block.size for block in SequenceMatcher(None, bare(text), bare(other), autojunk=False).get_matching_blocks())
    longest = max(len(bare(text)), len(bare(other)), 1)
    assert edit_similarity(text, other) >= 1 - (len(bare(text)) + len(bare(other)) - 2 * matched) / longest - 1e-9


def assert_properties(text, other):
    assert edit_similarity(text, other) == edit_similarity(other, text)
    assert character_f1(text, ((other,),)) == character_f1(other, ((text,),))
    for found in (edit_similarity(text, other), character_f1(text, ((other,),)), exact_match(text, ((other,),))):
        assert 0 <= found <= 1
    if bare(text):
        assert (edit_similarity(text, text), character_f1(text, ((text,),)), exact_match(text, ((text,),))) == (1, 1, 1)
        assert contains(text, ((text,),))


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_texts(text, other):
    assert_properties(text, other)
    assert same_document(text, other) in (True, False)


def test_naughty_strings(shared):
    texts = json.loads((shared / "blns/blns.json").read_text(encoding="utf-8"))
    for text, other in itertools.pairwise(texts):
        assert_properties(text, other)
    assert len(texts) > 400


def test_wordings():
    assert list(wordings((("部門長", "部長"), ("課長",)))) == ["部門長課長", "部長課長"]
    assert list(wordings(())) == []
    assert list(wordings(((),))) == []
    assert len(list(wordings(tuple(("甲", "乙") for _ in range(40))))) == 256  # no more are tried
