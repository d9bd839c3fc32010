"""ROUGE and BLEU over Japanese words, against their reference implementations."""

import itertools
import json

import pytest
import sacrebleu
from hypothesis import given, strategies as st
from rouge import rouge_score

from kit.evaluation.matching import bleu, overlap, rouge_l, rouge_n

MEASURES = ("rouge_1", "rouge_2", "rouge_l", "bleu")
words = st.lists(st.sampled_from(["締め日", "は", "毎月", "20", "日", "です", "。"]), min_size=1, max_size=12)


def test_japanese_is_cut_into_words():
    answers = (("締め日は毎月20日です",),)
    assert overlap("締め日は毎月25日です", answers, "rouge_1") == pytest.approx(5 / 6)
    assert overlap("締め日は毎月25日です", answers, "rouge_2") == pytest.approx(3 / 5)
    assert overlap("毎月20日です締め日は", answers, "rouge_1") == 1.0
    assert overlap("毎月20日です締め日は", answers, "rouge_l") == pytest.approx(4 / 6)
    assert 0 < overlap("締め日は毎月25日です", answers, "bleu") < 1


@pytest.mark.parametrize("measure", MEASURES)
def test_edges(measure):
    assert overlap("締め日は毎月20日です", (("締め日は毎月20日です",),), measure) == 1.0
    assert overlap("東京", (("「東京」。",),), measure) == 1.0  # one word has no pairs, and is the same all the same
    assert overlap("締め日は", (("経理部長の承認",),), measure) == 0.0
    assert overlap("", (("東京",),), measure) == 0.0
    assert overlap("東京", ((" 。",),), measure) == 0.0
    assert overlap("", (("。",),), measure) == 0.0
    assert overlap("東京", (), measure) == 0.0
    assert overlap("締め日は20日", (("規程による",), ("締め日は20日",)), measure) < 1.0  # half of it
    assert overlap("締め日は20日", (("規程による", "締め日は20日"),), measure) == 1.0


@given(words, words)
def test_rouge_agrees_with_the_rouge_package(text, gold):
    one, two = [" ".join(text)], [" ".join(gold)]
    for n in (1, 2):
        found = rouge_score.rouge_n(one, two, n=n, exclusive=False)["f"]
        assert rouge_n(text, gold, n) == pytest.approx(found, abs=1e-7)  # it adds 1e-8 to its denominator


@given(st.permutations(["締め日", "は", "毎月", "20", "日", "です", "。"]), st.integers(1, 7))
def test_rouge_l_agrees_with_the_rouge_package(text, length):
    gold = ["締め日", "は", "毎月", "25", "日", "。"]  # it counts words, not places: no word stands twice here
    found = rouge_score.rouge_l_summary_level([" ".join(text[:length])], [" ".join(gold)])["f"]
    assert rouge_l(text[:length], gold) == pytest.approx(found, abs=1e-7)


@given(words, words)
def test_bleu_agrees_with_sacrebleu(text, gold):
    found = sacrebleu.corpus_bleu([" ".join(text)], [[" ".join(gold)]], tokenize="none", force=True, use_effective_order=True)
    assert bleu(text, [gold]) == pytest.approx(min(1.0, found.score / 100))


@given(words, words)
def test_f1_is_the_same_from_both_sides(text, gold):
    assert rouge_n(text, gold, 1) == rouge_n(gold, text, 1)
    assert rouge_n(text, gold, 2) == rouge_n(gold, text, 2)
    assert rouge_l(text, gold) == rouge_l(gold, text)
    assert rouge_l(text, gold) <= rouge_n(text, gold, 1) + 1e-12


def test_naughty_strings(shared):
    texts = json.loads((shared / "blns/blns.json").read_text(encoding="utf-8"))[:200]
    found = [overlap(text, ((other,),), m) for m in MEASURES for text, other in itertools.pairwise(texts)]
    assert all(0 <= value <= 1 for value in found)
