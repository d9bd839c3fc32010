"""Metrics, pinned by tables whose values were worked out by hand."""

import pytest

from kit.evaluation.metrics import (
    METRICS,
    character_f1,
    cites,
    comparable,
    contains,
    exact_match,
    first_rank,
    right,
    same_document,
    same_place,
)
from kit.records import Case, Evidence, Place
from tests.evaluations import make_row


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


CASE = Case("1", "締め日は", one("20日"), (Evidence("規程.docx"),))
NONE = Case("2", "社長の血液型は")
TWO = Case("3", "両方は", (("10日",), ("20日",)), (Evidence("甲.docx"), Evidence("乙.docx")))


def scores(case, row):
    return {name: metric.score(case, row) for name, metric in METRICS.items() if metric.applies(case)}


def test_a_right_answer():
    assert scores(CASE, make_row(CASE, yen=2.0)) == {
        "right": 1.0, "wrong_answer": 0.0, "answer_contained": 1.0, "citation": 1.0, "recall_at_5": 1.0,
        "mrr_at_10": 1.0, "exact_match": 1.0, "character_f1": 1.0, "latency_p95": 0.25, "error_rate": 0.0,
        "yen_per_right": 1.0,
    }  # fmt: skip


def test_a_right_answer_from_another_document_is_wrong():
    got = scores(CASE, make_row(CASE, cited=(Evidence("別.pdf"),)))
    assert (got["right"], got["wrong_answer"], got["answer_contained"], got["citation"]) == (0.0, 1.0, 1.0, 0.0)


def test_an_answer_without_citation_is_wrong():
    got = scores(CASE, make_row(CASE, cited=()))
    assert (got["right"], got["wrong_answer"], got["citation"]) == (0.0, 1.0, 0.0)


def test_an_abstention_is_neither_right_nor_a_wrong_answer():
    got = scores(CASE, make_row(CASE, text="資料に見当たりません。", shown="20日", abstained=True, cited=()))
    assert (got["right"], got["wrong_answer"], got["answer_contained"]) == (0.0, 0.0, 0.0)


def test_abstaining_is_right_where_there_is_no_answer():
    assert scores(NONE, make_row(NONE, abstained=True, cited=())) == {
        "right": 1.0, "wrong_answer": 0.0, "refusal": 1.0, "latency_p95": 0.25, "error_rate": 0.0, "yen_per_right": 1.0
    }
    got = scores(NONE, make_row(NONE, text="A型", shown="A型", cited=()))
    assert (got["right"], got["wrong_answer"], got["refusal"]) == (0.0, 1.0, 0.0)


def test_a_question_on_two_documents_needs_both():
    both = make_row(TWO, shown="10日と20日")
    assert right(TWO, both) == 1.0
    assert right(TWO, make_row(TWO, shown="10日")) == 0.0
    half = make_row(TWO, shown="10日と20日", cited=TWO.evidence[:1])
    assert (cites(TWO, half), right(TWO, half)) == (False, 0.0)


def test_without_named_evidence_any_citation_will_do():
    case = Case("4", "締め日は", one("20日"))
    assert right(case, make_row(case, cited=())) == 1.0
    assert not METRICS["citation"].applies(case)


def test_ranks():
    hits = tuple(Evidence("規程.docx" if i == 6 else f"{i}.pdf") for i in range(1, 11))
    row = make_row(CASE, retrieved=hits)
    assert [first_rank(CASE, row, depth) for depth in (5, 6, 10)] == [0, 6, 6]
    got = scores(CASE, row)
    assert (got["recall_at_5"], got["mrr_at_10"]) == (0.0, pytest.approx(1 / 6))
    assert scores(CASE, make_row(CASE, retrieved=()))["mrr_at_10"] == 0.0


def test_every_metric_says_what_it_is_valid_for():
    for name, metric in METRICS.items():
        assert metric.label
        assert "リーダー" in metric.valid_for, name
