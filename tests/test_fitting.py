"""An embedding model fitted to a store's own chunks."""

import hashlib

import numpy as np
import pytest

from kit.errors import DataError
from kit.knowledge import fitting
from kit.knowledge.embedding import Embedder
from kit.knowledge.store import Store
from kit.records import EVERYONE, Block, Document, Place

TOPICS = {"出張": "旅費と宿泊と日当を精算する", "休暇": "有給の休みを申請して取得する", "機密": "情報と媒体を暗号で保管する"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Eight texts on each of three topics, every sentence in words of its topic."""
    store = Store(tmp_path_factory.mktemp("store"))
    texts = {f"{topic}{n}.txt": f"{topic}の手続{n}。{words}。担当は第{n}課とし、{words}。" for topic, words in TOPICS.items() for n in range(8)}
    store.add(
        Document(hashlib.sha256(text.encode()).hexdigest(), name, name[:2], (Block(text, Place()),), (EVERYONE,))
        for name, text in texts.items()
    )
    return store


def test_texts_of_one_topic_come_together_and_the_seed_decides(store, tmp_path):
    seen = []
    folder = fitting.fit_embedder(store, tmp_path / "models" / "own", dimensions=8, steps=20, progress=lambda *done: seen.append(done))
    assert (seen[0], seen[-1]) == ((1, 20), (20, 20))
    embedder = Embedder(folder)
    assert embedder.dimensions == 8
    about = [topic + words for topic, words in TOPICS.items()]
    passages = embedder.passages([chunk.text for chunk in store.chunks()])
    nearest = (passages @ np.array([embedder.query(text) for text in about]).T).argmax(axis=1)
    topics = list(TOPICS)
    assert [topics[i] for i in nearest] == [chunk.document[:2] for chunk in store.chunks()]
    same, differs = (fitting.fit_embedder(store, tmp_path / str(seed), dimensions=8, steps=20, seed=seed) for seed in (0, 1))
    assert Embedder(same).identity == embedder.identity != Embedder(differs).identity


def test_too_little_text_and_a_folder_that_exists_are_refused(store, tmp_path):
    with pytest.raises(DataError, match="すでにあります"):
        fitting.fit_embedder(store, tmp_path)
    few = Store(tmp_path / "few")
    with pytest.raises(DataError, match="0 件"):
        fitting.fit_embedder(few, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_pair_shares_nothing_but_its_chunk():
    parts = [np.array([0]), np.array([1, 2, 3]), np.array([4, 5, 6])]
    for seed in range(30):
        question, answer = fitting._pair(parts, np.random.default_rng(seed))
        if question.tolist() == [0]:  # the title asks for the body
            assert answer.tolist() == [1, 2, 3, 4, 5, 6]
        else:
            assert set(question) in ({1, 2, 3}, {4, 5, 6})
            assert set(answer) in ({0, 1, 2, 3, 4, 5, 6}, {0, 1, 2, 3, 4, 5, 6} - set(question))
    one = [np.array([], np.int64), np.arange(6)]
    question, answer = fitting._pair(one, np.random.default_rng(0))
    assert sorted([*question, *answer]) == [0, 1, 2, 3, 4, 5]
    assert len(question) == 3
