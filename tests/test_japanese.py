import json
import string
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings, strategies as st

from kit.knowledge import japanese
from kit.knowledge.japanese import grams, normalise, query, sentences, surfaces, union, words

JAPANESE = st.text("あいう漢字カナー０1a。！？!?\n「」『』（）()【】[]〈〉《》、. 　", max_size=60)
ANY = st.text(st.characters() | st.characters(categories=("Cs",)), max_size=40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ＡＢＣ１２３", "abc123"),
        ("ｶﾞｲﾄﾞ", "ガイド"),
        ("か\u3099", "が"),
        ("①㍻㈱", "1平成(株)"),
        ("Straße", "straße"),
        ("", ""),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


@settings(deadline=None, max_examples=200)
@given(ANY)
def test_normalising_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


def test_surfaces_are_all_words_as_written():
    assert surfaces("締め日は 毎月20日です。") == ["締め日", "は", "毎月", "20", "日", "です", "。"]
    assert surfaces("") == surfaces(" \n") == []
    assert len(surfaces("日本 " * 9_000)) == 9_000


def test_words_are_content_words_in_their_normal_form_and_order():
    assert words("出張の日当はいくらですか。") == ["出張", "日当", "幾ら"]
    assert words("申し込みと申込み") == ["申し込み", "申し込み"]
    assert words("シュミレーション") == words("シミュレーション")
    assert words("") == words("。、　\n") == []


def test_a_word_never_holds_a_blank():
    for text in ("world wide web", "united states of america", "in vitro", "a\u2028b", "a\x85b", "a\u00a0b"):
        assert words(text)
        assert all(word.split() == [word] for word in words(text))
    assert words("in vitro") == ["in", "vitro"]  # one word of Sudachi's dictionary


def test_grams_are_single_letters_and_pairs_within_a_run():
    assert grams("日当は、2円") == ["日", "当", "は", "日当", "当は", "2", "円", "2円"]
    assert grams("A B") == ["a", "b"]
    assert grams("。、 「」") == []


def test_union_marks_words_so_that_they_do_not_mix_with_grams():
    assert union("日当") == ("w:日当", "日", "当", "日当")


def test_a_question_leaves_out_grams_of_hiragana_alone():
    tokens = query("ＶＰＮについて教えてください")
    assert {"w:vpn", "vp", "pn", "nに", "教", "教え"} <= set(tokens)
    assert not {"つい", "に", "くだ", "さい"} & set(tokens)
    assert set(tokens) <= set(union("vpnについて教えてください"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("一つ。二つ！三つ？", ["一つ。", "二つ！", "三つ？"]),
        ("一つ\n二つ", ["一つ\n", "二つ"]),
        ("「はい。いいえ。」と言う。次。", ["「はい。いいえ。」と言う。", "次。"]),
        ("（注。『中。』の外。）終わり。次", ["（注。『中。』の外。）終わり。", "次"]),
        ("「閉じない\n次。", ["「閉じない\n", "次。"]),
        ("閉じ」だけ。次。", ["閉じ」だけ。", "次。"]),
        ("3.5%です。", ["3.5%です。"]),
        ("。", ["。"]),
        ("", []),
    ],
)
def test_sentences(text, expected):
    assert sentences(text) == expected


def test_a_bracket_that_never_closes_does_not_swallow_the_text():
    text = "「" + "あ" * 100 + "。" + "い" * 150 + "。" + "う。" * 3
    assert sentences(text) == ["「" + "あ" * 100 + "。" + "い" * 150 + "。", "う。", "う。", "う。"]


@settings(deadline=None, max_examples=200)
@given(JAPANESE | ANY)
def test_sentences_rejoin_to_the_text(text):
    pieces = sentences(text)
    assert "".join(pieces) == text
    assert all(pieces)
    assert not any("\n" in piece[:-1] for piece in pieces)


@settings(deadline=None, max_examples=100)
@given(ANY)
def test_words_and_grams_take_any_text(text):
    for token in (*words(text), *words(normalise(text)), *grams(text)):
        assert token
        token.encode("utf-8", "surrogatepass")
    query(text)


@pytest.mark.parametrize("text", ["あ" * 60_000, "出張の日当は2,200円です。" * 4_500, "𠮷" * 60_000, "a" * 60_000, "😀" * 60_000, "\x00" * 60_000, "ー" * 60_000])
def test_long_text_is_cut_into_pieces(text):
    words(text)
    assert "".join(sentences(text)) == text
    assert len(grams(text)) >= len(text) - text.count("。") - text.count(",")


def test_nothing_is_lost_where_a_long_text_is_cut():
    assert words("日当 " * 15_000) == ["日当"] * 15_000


def test_the_widest_letters_stay_within_what_sudachi_takes():
    widest = max((chr(code) for code in range(0x110000)), key=lambda letter: len(normalise(letter).encode("utf-8", "replace")))
    assert words(normalise(widest * 12_000 + "。日当"))[-1] == "日当"


def test_many_threads_find_the_same_words():
    texts = [f"第{number}条 出張の日当は{number}円とする。" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(words, texts)) == [words(text) for text in texts]


@pytest.mark.real
def test_naughty_strings(shared):
    naughty = json.loads((shared / "blns" / "blns.json").read_text(encoding="utf-8"))
    assert len(naughty) > 500
    for text in naughty:
        words(text)
        grams(text)
        query(text)
        assert "".join(sentences(text)) == text


def test_printable_ascii_yields_lower_case_only():
    assert not any(letter.isupper() for token in union(normalise(string.printable)) for letter in token)


def test_the_reasons_for_the_limits_still_hold():
    assert japanese._SUDACHI_LIMIT * 4 <= 49_149  # bytes of the widest letter


@pytest.mark.parametrize(
    ("text", "question", "marked"),
    [
        ("年次有給休暇は10日とする。", "年次有給休暇は何日", ["年次有給休暇"]),
        ("有給休暇の付与", "年次有給休暇", ["有給休暇"]),
        ("ＰＡＳＳＷＯＲＤを変える", "passwordは", ["ＰＡＳＳＷＯＲＤ"]),
        ("コンピュータを使う", "コンピューターの使い方", ["コンピュータ"]),
        ("対象とならない。", "どうなりますか", []),
        ("😀出張\ud800の出張", "出張", ["出張", "出張"]),
        ("出張旅費", "", []),
        ("", "出張", []),
    ],
)
def test_the_words_of_a_question_are_found_in_a_text(text, question, marked):
    assert [text[begin:end] for begin, end in japanese.matched(text, question)] == marked


def test_marks_stay_in_place_in_a_long_text():
    text = "長い文。" * 4000 + "日当は3,000円"
    assert japanese.matched(text, "日当") == [(16000, 16002)]


def test_marks_are_short_units_and_synonym_groups():
    long, short = japanese.marks("年次有給休暇"), japanese.marks("年休")
    assert {"+年次", "+有給", "+休暇"} < long
    assert [mark for mark in short if mark in long] == list(short) != []
    assert japanese.marks("どちら") == japanese.marks("12") == frozenset()  # no words to look for
