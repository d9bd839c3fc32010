"""The map of a store: what shares words stands together, and nobody sees more than he may read."""

import hashlib

import pytest

from kit.knowledge.atlas import corpus_map
from kit.knowledge.store import Store
from kit.records import Block, Document, Place

TRIPS = [f"出張旅費の精算は{n}日以内に行う。宿泊費と日当と航空券を精算する。" for n in range(4)]
SAFETY = [f"プレス機械の点検は{n}回行う。安全装置と油圧と金型を点検する。" for n in range(4)]


def document(name, text, readers=("everyone",)):
    return Document(hashlib.sha256(text.encode()).hexdigest(), name, "題", (Block(text, Place()),), readers)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("map"))
    texts = {"総務": TRIPS, "製造": SAFETY}
    documents = [document(f"{folder}/{n}.md", text) for folder, each in texts.items() for n, text in enumerate(each)]
    store.add([*documents, document("極秘.md", "プレス機械の買収案。買収案の点検。", ("executives",)), document("極秘2.md", "買収案と安全装置", ("hr",))])
    return store


def test_documents_with_the_same_words_are_one_group(store):
    found = corpus_map(store)
    assert len(found.dots) == 8 and {dot.folder for dot in found.dots} == {"総務", "製造"}
    groups = {dot.group: dot.folder for dot in found.dots}
    assert all(groups[dot.group] == dot.folder for dot in found.dots), "no group holds both topics"
    words = {folder: {word for group, words in enumerate(found.groups) if groups[group] == folder for word in words} for folder in groups.values()}
    assert words["総務"] & {"精算", "宿泊費", "日当", "航空券", "出張旅費"} and words["製造"] & {"点検", "プレス", "安全装置", "油圧", "金型"}
    centre = {f: sum(d.x for d in found.dots if d.folder == f) / 4 for f in ("総務", "製造")}
    spread = max(abs(dot.x - centre[dot.folder]) for dot in found.dots)
    assert abs(centre["総務"] - centre["製造"]) > spread / 2


def test_the_map_is_the_same_every_time(store):
    assert corpus_map(store) == corpus_map(Store(store.path))


def test_restricted_documents_are_on_their_readers_map_only(store):
    found = corpus_map(store)
    assert found.left_out == 2
    assert not [dot for dot in found.dots if "極秘" in dot.document] and "買収案" not in sum(found.groups, ())
    assert [dot.document for dot in corpus_map(store, user="executives").dots if not dot.folder] == ["極秘.md"]


def test_of_many_documents_evenly_spread_ones_are_drawn(store):
    found = corpus_map(store, limit=5)
    assert (len(found.dots) + found.left_out, len(found.dots) <= 5) == (10, True)
    assert {dot.folder for dot in found.dots} == {"総務", "製造"}


@pytest.mark.parametrize("texts", [[], ["あ"], TRIPS[:2], ["本文は一つ", "記事は二つ", "書類は三つ"]])
def test_too_few_documents_or_shared_words_are_no_map(tmp_path, texts):
    store = Store(tmp_path / "store")
    store.add([document(f"{n}.md", text) for n, text in enumerate(texts)])
    assert corpus_map(store).dots == ()
