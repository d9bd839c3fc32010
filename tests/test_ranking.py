import math
from itertools import chain

import pytest
from hypothesis import given, settings, strategies as st

from kit.knowledge import japanese
from kit.knowledge.ranking import Text, bm25, coverage, folded, measure
from kit.records import Chunk, Hit, Place
from tests.corpora import statistics_of

CORPUS = [["a", "b", "a"], ["b"], ["c", "c"], ["b", "c"]]
LETTERS = st.text("あいア亜a0𠮷\ue000 、\n", max_size=12)
TOKENS = st.lists(st.sampled_from("abcdxyz"), max_size=12)


def test_statistics_count_texts_not_occurrences():
    statistics = statistics_of(CORPUS)
    assert (statistics.count, statistics.words) == (4, 2.0)


def test_idf_by_hand():
    statistics = statistics_of(CORPUS)
    assert statistics.idf("a") == pytest.approx(math.log(1 + 3.5 / 1.5))
    assert statistics.idf("b") == pytest.approx(math.log(1 + 1.5 / 3.5))
    assert statistics.idf("unknown") == pytest.approx(math.log(1 + 4.5 / 0.5))


@settings(deadline=None, max_examples=50)
@given(st.lists(TOKENS, max_size=8), TOKENS)
def test_idf_is_positive_and_largest_for_an_unknown_token(texts, tokens):
    statistics = statistics_of(texts)
    for token in tokens:
        assert 0 < statistics.idf(token) <= statistics.idf("never seen")


def test_an_empty_corpus():
    statistics = statistics_of([])
    assert (statistics.count, statistics.words) == (0, 1.0)
    assert statistics.idf("a") == pytest.approx(math.log(2))


def test_bm25_by_hand():
    idf = {"a": 2.0, "b": 0.5}.get
    # k1 = 0.3, b = 0.9, mean length 2: norm = 0.3 × (0.1 + 0.9 × length / 2)
    scores = bm25(["a", "b", "a"], CORPUS[:3], lambda token: idf(token, 9.0), 2.0)
    long = 0.3 * (0.1 + 0.9 * 3 / 2)  # 0.435
    short = 0.3 * (0.1 + 0.9 * 1 / 2)  # 0.165
    assert scores == [
        pytest.approx(2.0 * 2 * 1.3 / (2 + long) + 0.5 * 1.3 / (1 + long)),
        pytest.approx(0.5 * 1.3 / (1 + short)),
        0,
    ]
    assert scores[0] == pytest.approx(2.588485, abs=1e-6)
    assert scores[1] == pytest.approx(0.557940, abs=1e-6)


def test_bm25_takes_the_mean_of_the_texts_where_none_is_given():
    assert bm25(["a"], CORPUS, lambda _: 1.0) == bm25(["a"], CORPUS, lambda _: 1.0, 2.0)
    assert bm25(["a"], CORPUS, lambda _: 1.0) != bm25(["a"], CORPUS, lambda _: 1.0, 3.0)


@pytest.mark.parametrize("texts", [[], [[]], [[], ["a"]]])
def test_bm25_of_nothing_is_nothing(texts):
    assert bm25([], texts, lambda _: 1.0) == [0] * len(texts)
    assert bm25(["b"], texts, lambda _: 1.0) == [0] * len(texts)


@settings(deadline=None, max_examples=100)
@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=6))
def test_bm25_is_bounded_and_zero_only_without_a_match(question, texts):
    idf = statistics_of(texts).idf
    most = 1.3 * sum(idf(token) for token in set(question))
    for score, text in zip(bm25(question, texts, idf), texts, strict=True):
        assert 0 <= score <= most
        assert (score > 0) == bool(set(question) & set(text))


@settings(deadline=None, max_examples=200)
@given(LETTERS, st.lists(st.lists(st.tuples(TOKENS, LETTERS), min_size=1, max_size=4), max_size=5))
def test_all_four_scores_are_those_of_a_plain_implementation(question, texts):
    words, grams = list(question), japanese.grams(question)
    weights = statistics_of([*([f"w:{word}" for part, _ in text for word in part] for text in texts), grams])
    weights.words, weights.grams, weights.sentence_words, weights.sentence_grams = 3.0, 5.0, 2.0, 4.0
    found = measure([*(f"w:{word}" for word in words), *grams], [Text([part for part, _ in text], [part for _, part in text]) for text in texts], weights)
    assert len(found) == len(texts)
    for parts, text in zip(found, texts, strict=True):
        in_words, in_grams = [part for part, _ in text], [japanese.grams(part) for _, part in text]
        word_idf = {word: weights.idf(f"w:{word}") for word in words}.__getitem__
        assert parts.words == pytest.approx(bm25(words, [[*chain(*in_words)]], word_idf, 3.0)[0])
        assert parts.grams == pytest.approx(bm25(grams, [[*chain(*in_grams)]], weights.idf, 5.0)[0])
        assert parts.sentence_words == pytest.approx(max(bm25(words, in_words, word_idf, 2.0)))
        assert parts.sentence_grams == pytest.approx(max(bm25(grams, in_grams, weights.idf, 4.0)))


def test_coverage_by_hand():
    idf = {"a": 3.0, "b": 1.0}.get
    assert coverage(["a", "b"], ["b", "c"], lambda t: idf(t, 0.0)) == pytest.approx(0.25)
    assert coverage(["a", "a", "b"], ["a"], lambda t: idf(t, 0.0)) == pytest.approx(0.75)
    assert coverage(["a"], ["a", "z"], lambda t: idf(t, 0.0)) == 1
    assert coverage([], ["a"], lambda _: 1.0) == 0
    assert coverage(["a"], [], lambda _: 1.0) == 0


def test_unknown_words_weigh_most_in_coverage():
    statistics = statistics_of([["a", "b"], ["a"], ["a"], ["b"]])
    known = coverage(["a", "b"], ["a"], statistics.idf)
    unknown = coverage(["a", "x"], ["a"], statistics.idf)
    rarest = max(map(statistics.idf, "ab"))
    assert statistics.idf("x") > rarest
    assert unknown < known
    a, x = math.log(1 + 1.5 / 3.5), math.log(1 + 4.5 / 0.5)
    assert unknown == pytest.approx(a / (a + x))


@settings(deadline=None, max_examples=50)
@given(TOKENS, TOKENS, TOKENS)
def test_coverage_is_a_share_and_grows_with_the_text(question, text, more):
    idf = statistics_of([text, more]).idf
    some, all_ = coverage(question, text, idf), coverage(question, text + more, idf)
    assert 0 <= some <= all_ <= 1 + 1e-12


# --- editions

LONG, OTHER = "パスワードは十二文字以上とし定期的な変更は求めない", "可搬媒体の使用は原則として禁止し承認を受けたときに限り貸与する"


def hit(document, date, score, text=LONG, heading="", title="", ordinal=0):
    place = Place(headings=(heading,) if heading else ())
    return Hit(Chunk(f"{document}{ordinal}", document, document, title, text, place, ordinal, (), date), score, 0)


def shown(hits, question="変更は何日ごとですか", today="2026-11-22"):
    found = folded(sorted(hits, key=lambda hit: -hit.score), question, today)
    return [(hit.chunk.id, hit.score, [chunk.id for chunk in hit.also]) for hit in found]


OLD = ("規程_第4版_2022.docx", "2022-04-01")
NEW = ("規程_第5版_2025.pdf", "2025-10-01")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"heading": "第8条（パスワード）"}, {"heading": "第15条(パスワード)", "text": OTHER}),
        ({}, {"text": LONG.replace("十二", "八").replace("求めない", "九十日ごとに行う")}),
        ({}, {"text": OTHER, "score": 0.5}),
    ],
    ids=["same heading", "like text", "as good an answer"],
)
def test_an_older_edition_stands_under_the_newer_one_which_takes_its_place(old, new):
    assert shown([hit(*OLD, 1.0, **old), hit("b.md", "", 0.9, "別の文書"), hit(*NEW, **{"score": 0.1, **new})]) == [
        (NEW[0] + "0", 1.0, [OLD[0] + "0"]),
        ("b.md0", 0.9, []),
    ]


def test_what_the_newer_edition_does_not_say_stays():
    hits = [hit(*OLD, 1.0, heading="別表2"), hit(*NEW, 0.3, OTHER, heading="第2条")]
    assert shown(hits) == [(OLD[0] + "0", 1.0, []), (NEW[0] + "0", 0.3, [])]


def test_three_editions_stand_under_the_newest():
    hits = [hit("規程_2021年版.md", "2021-04-01", 1.0), hit("規程_2023年版.md", "2023-04-01", 0.9), hit("規程_2025年版.md", "2025-04-01", 0.8)]
    assert shown(hits) == [("規程_2025年版.md0", 1.0, ["規程_2023年版.md0", "規程_2021年版.md0"])]


@pytest.mark.parametrize("question", ["第4版の変更は何日ごとですか", "２０２２年の変更は", "令和4年には", "旧版では何日ごとですか"])
def test_an_edition_that_is_asked_for_stays(question):
    assert OLD[0] + "0" in [name for name, *_ in shown([hit(*OLD, 1.0), hit(*NEW, 0.9)], question)]


def test_an_edition_not_in_force_yet_yields_to_the_one_that_is():
    hits = [hit("規程_第5版.md", "2027-04-01", 1.0), hit("規程_第4版.md", "2025-04-01", 0.9)]
    assert shown(hits, today="2026-11-22")[0][0] == "規程_第4版.md0"
    assert shown(hits, today="2027-04-01")[0][0] == "規程_第5版.md0"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("規程_R6.4.1改定.docx", "規程_R7.4.1改定.docx"),
        ("旅費規程ver1.docx", "旅費規程 v2.0.docx"),
        ("旅費規程（第２版）.docx", "旅費規程【第3版】.pdf"),
        ("旅費規程_旧.docx", "旅費規程.docx"),
        ("価格表_2024年度版.xlsx", "価格表2025.xlsx"),
        ("20240401_要領.docx", "要領_250401.docx"),
        ("就業規則（令和6年4月1日施行）.pdf", "就業規則.docx"),
    ],
)
def test_names_of_editions(name, other):
    assert len(shown([hit(name, "2024-04-01", 1.0), hit(other, "2025-04-01", 0.9, OTHER)])) == 1


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("a/規程_2024.docx", "b/規程_2025.docx"),
        ("議事録_2024年9月.txt", "議事録_2024年10月.txt"),
        ("売上2024年9月.xlsx", "売上2024年10月.xlsx"),
        ("様式第1号.docx", "様式第2号.docx"),
        ("451-8-1_調達.docx", "451-8-2_調達.docx"),
        ("新館案内.docx", "旧館案内.docx"),
        ("2024年版.pdf", "2025年版.pdf"),
    ],
)
def test_names_of_other_documents(name, other):
    assert len(shown([hit(name, "2024-04-01", 1.0), hit(other, "2025-04-01", 0.9, OTHER)])) == 2


def test_a_title_makes_editions_only_of_names_that_are_alike():
    old = hit("451-8_調達.docx", "2022-03-31", 1.0, title="調達モデル")
    assert len(shown([old, hit("451-8_実装モデル_調達.docx", "2025-03-25", 0.9, OTHER, title="調達モデル")])) == 1
    assert len(shown([old, hit("総務のひな形.docx", "2025-03-25", 0.9, OTHER, title="調達モデル")])) == 2


def test_parts_of_one_document_and_editions_without_days_of_their_own_are_not_folded():
    assert len(shown([hit(*NEW, 1.0), hit(*NEW, 0.9, ordinal=1)])) == 2
    assert len(shown([hit("規程_第4版.md", "", 1.0), hit("規程_第5版.md", "2025-04-01", 0.9, OTHER)])) == 2
    assert len(shown([hit("規程_第4版.md", "2025-04-01", 1.0), hit("規程_第5版.md", "2025-04-01", 0.9, OTHER)])) == 2


def test_near_duplicates_of_other_documents_are_folded_and_keep_what_is_under_them():
    hits = [hit(*OLD, 1.0), hit(*NEW, 0.9), hit("写し.md", "", 0.8)]
    assert shown(hits) == [(NEW[0] + "0", 1.0, [OLD[0] + "0", "写し.md0"])]
