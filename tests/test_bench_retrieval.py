import json

import numpy as np
import pytest

from kit.knowledge.ranking import bm25
from tests.bench.questions import Passage, Question, jsonl, squad
from tests.bench.retrieval import BM25, difference, ranks, surest


def test_ranks_and_the_surest_by_hand():
    asked = [Question("", frozenset(gold), gold) for gold in ("ab", "c", "d", "e", "f")]
    rank = ranks(["ba", "xc", "xy", "e", ""], asked)
    assert rank.tolist() == [1, 2, np.inf, 1, np.inf]
    right = rank == 1
    assert surest(right, np.array([0.9, 0.1, 0.2, 0.8, 0.0])) == 2 / 4
    assert surest(right, np.zeros(5)) == pytest.approx(2 / 5)  # who is equally sure of all cannot choose
    assert difference(right, right, asked) == {"r1": 0, "low": 0, "high": 0}
    assert difference(right, ~right, asked[:5])["r1"] == pytest.approx(-1 / 5)


def test_the_reference_is_bm25():
    texts = {"1": "a b a", "2": "b", "3": "c c"}
    engine = BM25([Passage(name, "", text) for name, text in texts.items()], str.split, 0.3, 0.9)
    idf = {"a": np.log1p(2.5 / 1.5), "b": np.log1p(1.5 / 2.5)}
    scores = bm25(["a", "b"], [text.split() for text in texts.values()], idf.__getitem__, 2.0)
    names, margin = engine.ask("b a b x")
    assert (names, margin) == (["1", "2"], pytest.approx(1 - scores[1] / scores[0]))
    assert engine.ask("x") == ([], 0.0)


def test_data_sets_are_read_alike(tmp_path):
    docs, qa, articles = tmp_path / "docs", tmp_path / "qa", tmp_path / "squad"
    rows = [{"doc_id": "1", "title": "題", "text": "# 題\n本文"}, {"doc_id": "2", "title": "題", "text": "別"}]
    docs.write_text("\n".join(map(json.dumps, rows)))
    qa.write_text(json.dumps({"question": "問", "choices": {"a": "甲", "b": "乙"}, "gold_doc": "2"}))
    article = {"title": "題", "paragraphs": [{"context": "題 [SEP] 本文", "qas": [{"question": "問"}]}]}
    articles.write_text(json.dumps({"data": [article]}))
    passages, asked = jsonl(docs, None, True)
    assert [passage.whole for passage in passages] == ["本文", "別"]
    assert asked == [Question("題", frozenset("12"), "題")]
    assert jsonl(docs, qa, True)[1] == [Question("問\n甲\n乙", frozenset("2"), "2")]
    assert jsonl(docs, qa, True)[0][1].whole == "題\n別"
    assert squad(articles, True) == ([Passage("題/0", "題", "本文")], [Question("問", frozenset({"題/0"}), "題")])
    assert squad(articles, False)[0][0].whole == "本文"
