import math
from itertools import chain

import pytest
from hypothesis import given, settings, strategies as st

from kit.knowledge import japanese
from kit.knowledge.ranking import Text, bm25, coverage, measure
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
