import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from kit.errors import DataError, StoreError
from kit.knowledge.chunks import split
from kit.knowledge.rows import index_text
from kit.knowledge.store import Store
from kit.knowledge.table import Table
from kit.records import EVERYONE, Block, Document, Place

ROOT = Path(__file__).parents[1]
TRAVEL = "出張の日当は一般職が2,200円、課長職が2,800円とする。"
LEAVE = "半日単位の年次有給休暇は、1年度につき12回を限度として取得できる。"
SALARY = "役員報酬の改定案は三月に極秘で審議する。"


def document(name, text, readers=(EVERYONE,), title="題", place=Place()):  # noqa: B008 (frozen)
    return Document(hashlib.sha256(text.encode()).hexdigest(), name, title, (Block(text, place),), readers)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A store with a text for everyone and others that say more to the same question."""
    store = Store(tmp_path_factory.mktemp("guarded"))
    public = "役員報酬の規程は総務部が保管する。"
    store.add(
        [
            document("public.txt", public),
            document("hr.txt", SALARY, ("hr",)),
            document("nobody.txt", SALARY + "役員報酬。", ()),
            document("under.txt", SALARY + "役員報酬と報酬。", ("a_b",)),
            document("dot.txt", SALARY + "報酬と役員報酬。", ("axb",)),
            document("two.txt", SALARY + "報酬、報酬、役員報酬。", ("hr", "keiri@example.co.jp")),
        ]
    )
    return store


def names(hits):
    return [hit.chunk.document for hit in hits]


# --- what add does -------------------------------------------------------------------------------------------------


def test_documents_are_added_once_skipped_and_replaced(store):
    first = [document("a.txt", TRAVEL), document("b.txt", LEAVE)]
    added = store.add(first)
    assert (added.new, added.unchanged, added.replaced) == (2, 0, 0)
    fingerprint = store.fingerprint()
    added = store.add(first)
    assert (added.new, added.unchanged, added.replaced) == (0, 2, 0)
    assert store.fingerprint() == fingerprint
    added = store.add([document("b.txt", SALARY), document("c.txt", LEAVE)])
    assert (added.new, added.unchanged, added.replaced) == (1, 0, 1)
    assert names(store.search("年次有給休暇")) == ["c.txt"]
    assert names(store.search("役員報酬")) == ["b.txt"]
    assert len(store) == len(store.documents()) == 3


def test_changed_readers_replace_a_document(store):
    store.add([document("a.txt", TRAVEL)])
    before = store.fingerprint()
    assert store.add([document("a.txt", TRAVEL, ("hr",))]).replaced == 1
    assert store.search("出張の日当") == []
    assert names(store.search("出張の日当", as_user="hr")) == ["a.txt"]
    assert store.fingerprint() != before
    assert store.add([document("a.txt", TRAVEL, ("keiri", "hr"))]).replaced == 1
    assert store.add([document("a.txt", TRAVEL, ("hr", "keiri"))]).unchanged == 1


def test_a_shorter_edition_leaves_nothing_of_the_longer_one(store):
    pages = tuple(Block(TRAVEL, Place(page=page)) for page in range(1, 6))
    store.add([Document("1" * 64, "a.pdf", "題", pages), document("b.txt", LEAVE)])
    assert len(store) == 6
    store.add([Document("2" * 64, "a.pdf", "題", pages[:2])])
    assert len(store) == 3
    store.add([Document("3" * 64, "a.pdf", "題")])  # it can be read and says nothing
    assert list(store.documents()) == ["b.txt"]


def test_of_two_documents_with_one_name_the_later_counts(store):
    added = store.add([document("a.txt", TRAVEL), document("a.txt", TRAVEL, ("hr",)), document("a.txt", LEAVE)])
    assert (added.new, added.replaced) == (1, 2)
    assert [chunk.text for chunk in store.chunks("a.txt")] == [LEAVE]


def test_unreadable_documents_and_doubts_are_told_by_name(store):
    seen = []
    bad = Document("", "x.pdf", "x", problem="読めません。")
    doubtful = Document("1" * 64, "b.docx", "b", (Block(TRAVEL, Place()),), doubts=("図を飛ばしました。",))
    added = store.add([bad, doubtful], progress=seen.append)
    assert (added.new, added.unreadable, added.doubts) == (1, ("x.pdf: 読めません。",), ("b.docx: 図を飛ばしました。",))
    assert seen == [bad, doubtful]
    assert "x.pdf: 読めません。" in added._repr_html_()


def test_chunks_come_back_whole_and_in_order(store):
    place = Place(page=2, sheet="表", row=3, slide=4, headings=("章 | '\"\\", "節"))
    doc = Document(
        "1" * 64, "a.txt", "題", tuple(Block(f"{number}番目の文。" * 60, place) for number in range(3)), ("hr", "b.c")
    )
    store.add([doc, document("b.txt", LEAVE)])
    assert store.chunks("a.txt") == split(doc)
    assert store.chunks("absent.txt") == [] and store.chunks("absent.txt", "a.txt") == split(doc)
    assert store.search("番目", k=1, as_user="b.c")[0].chunk in split(doc)


def test_a_store_keeps_what_it_holds_when_it_is_opened_again(store):
    store.add([document("a.txt", TRAVEL)])
    again = Store(str(store.path))
    assert again.fingerprint() == store.fingerprint()
    assert again.search("出張の日当") == store.search("出張の日当") != []
    assert again.add([document("a.txt", TRAVEL)]).unchanged == 1


def test_the_fingerprint_does_not_depend_on_the_order(store, tmp_path):
    other = Store(tmp_path / "other")
    docs = [document("a.txt", TRAVEL), document("b.txt", LEAVE, ("hr",))]
    for target, given_docs in ((store, docs), (other, docs[::-1])):
        for doc in given_docs:
            target.add([doc])
    assert store.fingerprint() == other.fingerprint()


def test_removed_documents_are_not_found_and_can_come_back(store):
    store.add([document("a.txt", TRAVEL), document("b.txt", LEAVE)])
    store.remove(["a.txt", "absent.txt"])
    store.remove([])
    assert store.search("出張の日当") == []
    assert list(store.documents()) == ["b.txt"]
    assert store.add([document("a.txt", TRAVEL)]).new == 1
    assert names(store.search("出張の日当")) == ["a.txt"]


HOSTILE = ["\\') OR true --", "x' OR '1'='1", "a''b", "a'b", "''", "a\\'b", "a\\", "' OR ''='", "%", "_", 'a"b', "a\nb", "\x00", "日本語😀"]


def test_hostile_document_names_touch_no_other_document(store):
    """What ``to_sql`` spells for these names deletes the wrong rows, up to all of them."""
    rest = {"keep.txt"}
    store.add([document("keep.txt", LEAVE)])
    for name in HOSTILE:
        store.add([document(name, f"最初の版。{HOSTILE.index(name)}")])
        rest.add(name)
        assert store.add([document(name, f"次の版。{HOSTILE.index(name)}")]).replaced == 1
        assert set(store.documents()) == rest
        assert [chunk.text for chunk in store.chunks(name)] == [f"次の版。{HOSTILE.index(name)}"]
    assert len(store) == len(rest)
    for name in HOSTILE:
        store.remove([name])
        rest.remove(name)
        assert set(store.documents()) == rest


def test_an_error_of_the_source_or_of_progress_is_not_blamed_on_the_store(store):
    def source():
        yield document("a.txt", TRAVEL)
        raise ValueError("source")

    def progress(_):
        raise ValueError("progress")

    with pytest.raises(ValueError, match="source"):
        store.add(source())
    with pytest.raises(ValueError, match="progress"):
        store.add([document("b.txt", LEAVE)], progress=progress)
    assert list(store.documents()) == ["b.txt"]
    assert store.add([document("a.txt", TRAVEL)]).new == 1  # the lock is free again


def test_an_interrupted_call_goes_on_where_it_was(store):
    docs = [document(f"{number}.txt", f"管理番号{number}の文書。") for number in range(70)]

    def interrupted():
        yield from docs[:60]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(interrupted())
    assert len(store) == 50
    added = store.add(docs)
    assert (added.new, added.unchanged) == (20, 50)


# --- search --------------------------------------------------------------------------------------------------------


def test_the_best_chunk_comes_first_and_ranks_count_from_one(store):
    docs = [document(f"{number}.txt", f"第{number}条 出張の手続を定める。{LEAVE}") for number in range(8)]
    store.add([*docs, document("best.txt", TRAVEL)])
    hits = store.search("課長の出張の日当はいくらですか", k=4, fold=False)
    assert hits[0].chunk.document == "best.txt"
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert store.search("課長の出張の日当はいくらですか", k=4, fold=False) == hits
    assert len(store.search("出張", k=100, fold=False)) == 9


def test_title_and_headings_are_searched_with_the_text(store):
    store.add([document("a.txt", "2,200円とする。", title="旅費規程", place=Place(headings=("宿泊費",)))])
    for query in ("旅費規程", "宿泊費", "2,200円"):
        assert names(store.search(query)) == ["a.txt"]
    assert index_text("旅費規程", ("第1章", "宿泊費"), "本文") == "旅費規程\n第1章\n宿泊費\n本文"


def test_width_case_and_spelling_of_a_question_do_not_matter(store):
    store.add([document("a.txt", "VPNの申し込みは情報システム課で行う。")])
    for query in ("ＶＰＮ", "vpn", "申込み", "情報ｼｽﾃﾑ"):
        assert names(store.search(query)) == ["a.txt"]


def test_words_are_whole_in_the_index(store):
    long = "x" * 60
    store.add([document("a.txt", f"{long}を使う。"), document("b.txt", "runningとは別の話。")])
    assert names(store.search(long)) == ["a.txt"]  # not dropped for its length
    assert store.search("run") == []  # not stemmed


def test_an_empty_store_finds_nothing(store):
    assert (store.search("出張"), store.keyword_search("出張"), len(store), store.documents()) == ([], [], 0, {})
    assert store.statistics().count == 0
    assert store.add([]).new == 0


@pytest.mark.parametrize("query", ["", " \n　", "。、！？", "😀", "は", "を に", '"', "\\", "\x00"])
def test_a_question_without_words_finds_nothing(guarded, query):
    assert guarded.search(query) == guarded.keyword_search(query) == []


@pytest.mark.parametrize(
    "query",
    ["役員報酬の改定はいつですか。" * 350, "役員報酬\ud800", "役員報酬 AND (", '役員報酬" OR *', "+役員報酬 -規程", "役員報酬~2", "words:役員報酬", "役員報酬'; DROP"],
)
def test_long_and_strange_questions_are_only_words(guarded, query):
    assert names(guarded.search(query)) == names(guarded.keyword_search(query)) == ["public.txt"]


def test_keyword_search_is_the_index_alone(guarded):
    hits = guarded.keyword_search("役員報酬", k=2, as_user="hr")
    assert [hit.rank for hit in hits] == [1, 2]
    assert hits[0].score >= hits[1].score > 0
    assert len(guarded.keyword_search("役員報酬", as_user="hr")) == 1


def test_another_objects_changes_are_seen_at_once(store):
    store.add([document("a.txt", TRAVEL)])
    assert store.statistics().count == 1
    other = Store(store.path)
    other.add([document("b.txt", LEAVE), document("c.txt", SALARY)])
    assert store.statistics().count == other.statistics().count == len(store) == 3
    assert store.statistics().idf("w:日当") == other.statistics().idf("w:日当")
    assert len(store.chunks("b.txt")) == 1
    other.remove(["a.txt"])
    assert (store.search("出張の日当"), len(store), store.statistics().count) == ([], 2, 2)


def test_a_change_is_seen_however_long_the_store_lay_still(store):
    store.add([document("a.txt", TRAVEL)])
    versions = store.path / "chunks.lance" / "_versions"
    for name in ("b.txt", "c.txt"):
        os.utime(versions, (1_000_000_000, 1_000_000_000))  # nothing has happened for years
        before = store.search("出張", k=9, fold=False)
        assert store.search("出張", k=9, fold=False) == before
        Store(store.path).add([document(name, f"{TRAVEL}{name}")])
        assert set(names(store.search("出張", k=9, fold=False))) == {*names(before), name}


def test_statistics_are_computed_once_per_state(store):
    store.add([document("a.txt", TRAVEL)])
    assert store.statistics() is store.statistics()


# --- readers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", {"public.txt"}),
        (EVERYONE, {"public.txt"}),
        ("nobody", {"public.txt"}),
        ("hr", {"public.txt", "hr.txt", "two.txt"}),
        ("h", {"public.txt"}),
        ("hrx", {"public.txt"}),
        ("keiri@example.co.jp", {"public.txt", "two.txt"}),
        ("keiri@exampleXco.jp", {"public.txt"}),
        ("a_b", {"public.txt", "under.txt"}),
        ("axb", {"public.txt", "dot.txt"}),
    ],
)
def test_a_user_finds_what_he_may_read(guarded, user, expected):
    for search in (guarded.search, guarded.keyword_search):
        assert set(names(search("役員報酬の極秘の改定案", k=50, as_user=user))) == expected


def test_one_readable_text_is_found_among_many_that_are_not(store):
    secret = [document(f"{number}.txt", f"{SALARY}{number}", ("hr",)) for number in range(80)]
    store.add([*secret, document("public.txt", "役員報酬の規程は総務部が保管し、閲覧は平日に限る。")])
    assert names(store.search("役員報酬の改定案を三月に極秘で審議する", k=1)) == ["public.txt"]
    assert names(store.keyword_search("役員報酬の改定案を三月に極秘で審議する", k=1)) == ["public.txt"]


ATTACK = st.sampled_from(["'", '"', "%", "_", "|", "\n", "\\", ";", "--", ")", " OR ", "hr", "everyone", "|hr|", "*", "\x00", "a"])
USERS = st.text(max_size=70) | st.lists(ATTACK, min_size=1, max_size=5).map("".join)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(USERS)
def test_no_name_opens_a_restricted_text(guarded, user):
    valid = re.fullmatch(r"[A-Za-z0-9_.@-]{1,64}", user)
    for search in (guarded.search, guarded.keyword_search):
        if user and not valid:
            with pytest.raises(DataError):
                search("役員報酬の極秘の改定案", as_user=user)
        else:
            hits = search("役員報酬の極秘の改定案", k=50, as_user=user)
            assert all({EVERYONE, user} & set(hit.chunk.readers) for hit in hits)
            assert "public.txt" in names(hits)


@pytest.mark.parametrize("user", ["hr\n", "hr ", "hr|everyone", "人事", "ｈｒ", "x" * 65])
def test_a_user_who_cannot_be_a_reader_is_an_error_even_without_a_question(guarded, user):
    with pytest.raises(DataError):
        guarded.search("", as_user=user)


@pytest.mark.parametrize("reader", ["hr|everyone", "|", "", "人事部", "hr\n", "a b", "x" * 65])
def test_a_reader_that_would_open_or_close_a_text_by_mistake_is_refused(store, reader):
    store.add([document("a.txt", TRAVEL)])
    with pytest.raises(DataError) as caught:
        store.add([document("b.txt", LEAVE), document("secret.txt", SALARY, ("hr", reader))])
    assert "secret.txt" in str(caught.value)
    assert list(store.documents()) == ["a.txt"]


# --- damage, kills, other processes --------------------------------------------------------------------------------


def test_a_path_that_is_no_folder_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(StoreError) as caught:
            Store(path)
        assert str(path) in caught.value.what


@pytest.mark.parametrize("made", ["chunks.lance", "chunks.lance/_transactions", "chunks.lance/_versions"])
def test_a_store_whose_making_was_killed_is_made(tmp_path, made):
    (tmp_path / made).mkdir(parents=True)
    if made.endswith("_versions"):
        (tmp_path / made / "18446744073709551614.manifest#1").write_bytes(b"half")
    store = Store(tmp_path)
    store.add([document("a.txt", TRAVEL)])
    assert names(Store(tmp_path).search("出張の日当")) == ["a.txt"]


def test_a_store_killed_before_its_index_was_made_gets_one(store):
    store._table._table.drop_index("words_idx")
    again = Store(store.path)
    again.add([document("a.txt", f"{'x' * 60}を使う。")])
    assert names(again.search("x" * 60)) == ["a.txt"]  # the index of whole words, not the default one


def test_a_store_that_lost_its_manifests_is_an_error_and_not_an_empty_store(store):
    store.add([document("a.txt", TRAVEL)])
    shutil.rmtree(store.path / "chunks.lance" / "_versions")
    with pytest.raises(StoreError):
        Store(store.path)
    assert any((store.path / "chunks.lance" / "data").iterdir())


def test_a_damaged_head_is_told_until_everything_was_compared_again(store):
    store.add([document("a.txt", TRAVEL)])
    store.add([document("b.txt", LEAVE)])
    head = sorted(store.path.glob("chunks.lance/_versions/*.manifest"))[0]  # Lance counts down
    head.write_bytes(b"")
    again = Store(store.path)
    assert head.stem in again.notices[0] and head.stem in again._repr_html_()
    health = again.verify()
    assert not health.ok and head.stem in str(health)
    assert head.stem in str(again.add([document("b.txt", LEAVE)]))
    added = again.sync([document("a.txt", TRAVEL), document("b.txt", LEAVE)])
    assert (added.removed, again.notices, Store(store.path).notices) == ((), (), ())
    assert again.verify().ok and set(again.documents()) == {"a.txt", "b.txt"}


def test_sync_takes_vanished_and_unreadable_documents_out(store):
    store.add([document("a.txt", TRAVEL), document("b.txt", LEAVE), document("c.txt", SALARY)])
    added = store.sync([document("a.txt", TRAVEL), Document("", "b.txt", "b", problem="読めません。")])
    assert (added.unchanged, added.removed) == (1, ("b.txt", "c.txt"))
    assert "削除 2" in str(added) and list(store.documents()) == ["a.txt"]


def test_a_sync_is_one_change(store):
    store.add([document("a.txt", TRAVEL), document("b.txt", LEAVE)])
    before = store.fingerprint()
    assert store.sync([document("a.txt", SALARY), document("c.txt", LEAVE)]).removed == ("b.txt",)
    assert store.rollback().endswith("-sync") and store.fingerprint() == before
    assert store.sync([document("a.txt", TRAVEL), document("b.txt", LEAVE)]).unchanged == 2
    assert store.tags()[-1].endswith("-rollback")


def test_going_back_gives_no_right_back(store):
    """What has been kept back since does not become readable again."""
    store.add([document("a.txt", SALARY), document("b.txt", SALARY, ("hr",)), document("gone.txt", SALARY, ("hr",)), document("c.txt", TRAVEL)])
    store.sync([document("a.txt", LEAVE, ("keiri",)), document("b.txt", SALARY), document("c.txt", TRAVEL)])
    store.rollback()
    assert {chunk.document: (chunk.text, chunk.readers) for chunk in store.chunks()} == {
        "a.txt": (SALARY, ("keiri",)), "b.txt": (SALARY, (EVERYONE,)), "gone.txt": (SALARY, ("hr",)), "c.txt": (TRAVEL, (EVERYONE,)),
    }  # fmt: skip
    for user, expected in (("", {"b.txt"}), ("hr", {"b.txt", "gone.txt"}), ("keiri", {"a.txt", "b.txt"})):
        assert set(names(store.search("役員報酬の改定案", as_user=user, fold=False))) == expected
    assert store.verify().ok


def test_going_back_gives_no_right_back_to_what_was_removed(store):
    store.sync([document("a.txt", SALARY)])
    store.add([document("b.txt", TRAVEL)])
    store.sync([document("a.txt", SALARY, ("hr",)), document("b.txt", TRAVEL)])
    before = store.tags()[-1]
    store.remove(["a.txt"])
    store.rollback(before)
    assert {chunk.document: chunk.readers for chunk in store.chunks()} == {"a.txt": ("hr",), "b.txt": (EVERYONE,)}
    assert names(store.search("役員報酬の改定案", fold=False)) == []


def test_indices_that_have_gone_are_made_again(store):
    store.add([document("a.txt", TRAVEL)])
    store.add([document("b.txt", LEAVE)])
    shutil.rmtree(store.path / "chunks.lance" / "_indices")
    again = Store(store.path)
    assert names(again.search("出張の日当")) == ["a.txt"] and again.verify().ok
    again.rollback()
    assert list(again.documents()) == ["a.txt"] and names(Store(store.path).search("出張の日当")) == ["a.txt"]
    assert Store(store.path).verify().ok


@pytest.mark.parametrize("damage", [None, b"", b"0"])
def test_without_its_checksums_a_store_is_read_and_not_written(store, damage):
    store.add([document("a.txt", TRAVEL), document("b.txt", LEAVE)])
    (store.path / "checksums.txt").unlink() if damage is None else (store.path / "checksums.txt").write_bytes(damage)
    again = Store(store.path)
    changes = [
        lambda: again.add([document("c.txt", SALARY)]), lambda: again.sync([]), lambda: again.remove(["a.txt"]),
        lambda: again.forget("a.txt"), again.rollback, lambda: again.embed(None) or again.sync([]),
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(StoreError, match="チェックサムの一覧") as caught:
            change()
        assert f"mv {store.path}" in caught.value.remedy
    assert names(again.search("出張の日当")) == ["a.txt"] and "checksums.txt" in str(again.verify())


@pytest.mark.parametrize(
    "asked",
    [{"k": 0}, {"k": -1}, {"k": "5"}, {"k": None}, {"k": 1.5}, {"query": None}, {"query": 5}, {"query": b"x"}, {"query": "あ" * 5001}, {"as_user": 5},
     {"as_user": None}, {"as_user": ["hr"]}, {"documents": None}, {"since": 20240401}, {"until": None}],
)  # fmt: skip
def test_what_cannot_be_searched_with_is_refused(guarded, asked):
    with pytest.raises(DataError) as caught:
        guarded.search(**{"query": "役員報酬", **asked})
    assert len(str(caught.value).splitlines()) == 3
    if asked.keys() <= {"query", "k", "as_user"}:
        with pytest.raises(DataError):
            guarded.keyword_search(**{"query": "役員報酬", **asked})


def test_wrong_counts_are_named_and_put_right(store):
    store.add([document("a.txt", TRAVEL)])
    right = store.search("出張の日当")
    with store._corpus._using() as database, database:
        database.execute("UPDATE tokens SET chunks = 77")
    health = Store(store.path).verify()
    assert (health.ok, health.counts) == (False, False) and "corpus.sqlite" in str(health)
    again = Store(store.path)
    assert again.verify().ok and again.search("出張の日当") == right
    assert "正常" in again.verify()._repr_html_()


def test_counts_that_a_kill_left_behind_follow_what_changed(store, monkeypatch):
    store.add([document("a.txt", TRAVEL), document("b.txt", LEAVE)])

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kit.knowledge.corpus.Corpus.change", killed)
    with pytest.raises(KeyboardInterrupt):
        store.add([document("b.txt", SALARY), document("c.txt", LEAVE)])
    monkeypatch.undo()
    monkeypatch.setattr("kit.knowledge.corpus.Corpus.clear", killed)  # not all is counted again
    again = Store(store.path)
    assert again.statistics().count == len(again) == 3
    assert again.verify().ok


def test_two_changes_within_one_second_are_two_states(store):
    store.add([document("a.txt", TRAVEL)])
    store.add([document("b.txt", LEAVE)])
    assert store.rollback().endswith("-add")
    assert list(store.documents()) == ["a.txt"]
    assert store.rollback().endswith("-rollback")
    assert set(store.documents()) == {"a.txt", "b.txt"}
    with pytest.raises(DataError):
        store.rollback("absent")


def test_a_path_is_shown_escaped(tmp_path):
    html = Store(tmp_path / "<b>")._repr_html_()
    assert "&lt;b&gt;: 0 文書、0 断片" in html


MAKE = """
import hashlib, json, sys
from pathlib import Path
from kit.errors import StoreError
from kit.knowledge import store as module
from kit.records import Block, Document, Place

def document(number):
    text = f"管理番号{number}の設備は第{number}工場に置く。"
    blocks = tuple(Block(text * 5, Place(page=page)) for page in (1, 2))
    return Document(hashlib.sha256(text.encode()).hexdigest(), f"{number}.txt", f"設備{number}", blocks)

module._BATCH_DOCUMENTS = 5
"""


def elsewhere(code, *arguments, **more):
    """Start a fresh interpreter on some code, after ``MAKE``."""
    command = [sys.executable, "-c", MAKE + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **more)


ADD = """
store = module.Store(sys.argv[1])
print("open", flush=True)
numbers = range(int(sys.argv[2]), int(sys.argv[3]))
store.add(map(document, numbers), progress=lambda document: print(document.name, flush=True))
"""


def exactly(store, numbers):
    """The store holds these documents, each whole, once, and found."""
    assert sorted(store.documents()) == sorted(f"{number}.txt" for number in numbers)
    assert len(store) == 2 * len(numbers) == len({c.id for n in numbers for c in store.chunks(f"{n}.txt")})
    for number in numbers[::7]:
        assert names(store.search(f"管理番号{number}", k=1)) == [f"{number}.txt"]


@pytest.mark.parametrize("change", ["replace", "index"])
def test_ctrl_c_waits_for_the_end_of_a_commit(store, monkeypatch, change):
    """LanceDB would go on with it, and commit it into the middle of the next change."""
    made = getattr(Table, change)

    def pressed(*given):
        signal.raise_signal(signal.SIGINT)
        made(*given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Table, change, pressed)
        store.add([document("a.txt", TRAVEL)])
    assert names(store.search("出張の日当")) == ["a.txt"] and store.verify().ok
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert Store(store.path).add([document("a.txt", TRAVEL)]).unchanged == 1


@pytest.mark.slow
def test_a_killed_ingest_loses_nothing_and_goes_on(tmp_path):
    acknowledged = set()
    for attempt in range(6):
        process = elsewhere(ADD, tmp_path, 0, 100)
        for line in process.stdout:
            if line.strip() not in acknowledged | {"open"}:
                break
        time.sleep(attempt * 0.007)  # into the middle of a commit, of an index update, of a sync
        process.kill()
        rest = process.communicate()[0].splitlines(keepends=True)
        assert process.returncode == -signal.SIGKILL
        acknowledged |= {told.strip() for told in [line, *rest] if told.endswith("\n")} - {"open"}
        assert acknowledged <= set(Store(tmp_path).documents())
    assert len(acknowledged) < 100  # else nothing was interrupted
    process = elsewhere(ADD, tmp_path, 0, 100)
    process.communicate()
    assert process.returncode == 0
    exactly(Store(tmp_path), range(100))


@pytest.mark.slow
def test_a_kill_while_the_store_is_made_never_leaves_it_unusable(tmp_path):
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        process = elsewhere("import lancedb\nprint(flush=True)\nmodule.Store(sys.argv[1])\ninput()", folder, stdin=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(attempt * 0.003)
        process.kill()
        process.communicate()
        store = Store(folder)
        store.add([document("a.txt", TRAVEL)])
        assert names(store.search("出張の日当")) == ["a.txt"]


@pytest.mark.slow
def test_two_processes_add_at_once(tmp_path):
    writers = [elsewhere(ADD, tmp_path, *numbers) for numbers in ((0, 40), (20, 60))]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    exactly(Store(tmp_path), range(60))


@pytest.mark.slow
def test_a_reader_does_not_wait_for_a_writer(store):
    store.add([document("a.txt", TRAVEL)])
    code = """
        import time
        def slow():
            print(flush=True)
            yield document(1)
            sys.stdin.read()
        module.Store(sys.argv[1]).add(slow())
    """
    writer = elsewhere(code, store.path, stdin=subprocess.PIPE)
    writer.stdout.readline()  # it holds the lock from here
    begun = time.monotonic()
    assert names(Store(store.path).search("出張の日当")) == ["a.txt"]
    assert time.monotonic() - begun < 5
    assert writer.poll() is None
    writer.communicate()
    assert len(store.documents()) == 2


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_nothing_is_acknowledged_before_it_is_synced(tmp_path):
    """LanceDB publishes by link and rename and never syncs; a power cut must not take what was acknowledged."""
    log = tmp_path / "log"
    calls = "trace=linkat,link,rename,renameat,renameat2,syncfs,write"
    table = str(tmp_path / "store" / "chunks.lance")  # the other files are SQLite's and ours, which sync themselves
    traced = ["strace", "-f", "-qq", "-s", "64", "-e", calls, "-o", str(log), sys.executable, "-c"]
    code = MAKE + "store = module.Store(sys.argv[1])\nprint('ACK', flush=True)\n"
    code += "for n in range(3):\n    store.add([document(n)])\n    print('ACK', flush=True)\n"
    code += "store.remove(['1.txt'])\nprint('ACK', flush=True)\n"
    subprocess.run([*traced, code, tmp_path / "store"], cwd=ROOT, check=True, capture_output=True)
    synced, published, acknowledged = False, 0, 0
    for line in log.read_text().splitlines():
        if "syncfs(" in line and "resumed" not in line:
            synced = True
        elif table in line and re.search(r"(link|rename)\w*\(", line):
            synced, published = False, published + 1
        elif '"ACK' in line:
            assert synced
            acknowledged += 1
    assert acknowledged == 5 and published >= 5


@pytest.mark.slow
def test_a_full_disk_is_told_and_loses_nothing(tmp_path):
    mount = 'mount -t tmpfs -o size=$1 none "$0" && shift && exec "$@"'
    inside = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", mount, tmp_path, "6m"]
    if not shutil.which("unshare") or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("no private mount namespace here (needs root or user namespaces)")
    code = """
        folder = Path(sys.argv[1])
        ballast = folder / "ballast"
        def fill(left):
            free = __import__("shutil").disk_usage(folder).free
            ballast.write_bytes(b"0" * max(0, free - left))
        def refused(act):
            try:
                act()
            except StoreError as error:
                return str(error)
        fill(0)
        told = [refused(lambda: module.Store(folder / "store"))]
        ballast.unlink()
        store = module.Store(folder / "store")
        known = 0
        for left in (8_000, 30_000, 60_000, 100_000, 200_000):
            fill(left)
            acknowledged = []
            told.append(refused(lambda: store.add(map(document, range(500)), progress=acknowledged.append)))
            assert len(acknowledged) >= known
            for each in (store, module.Store(folder / "store")):
                names = each.documents()
                assert {document.name for document in acknowledged} <= set(names)
                assert len(each) == 2 * len(names)
                for name in list(names)[:2]:
                    assert each.search("管理番号" + name.removesuffix(".txt"), k=1)[0].chunk.document == name
            known = len(acknowledged)
            ballast.unlink()
            store.add(map(document, range(known + 7)))
            known += 5  # the rest shares its batch with documents that were not taken
            assert len(store.documents()) >= known
        print(json.dumps(told))
    """
    command = [*inside, sys.executable, "-c", MAKE + textwrap.dedent(code), tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told) == 6
    for message in told:
        assert message and "ディスクの空きがありません" in message and str(tmp_path) in message


def test_folding_leaves_as_many_hits_as_were_wanted(store):
    store.add([document(f"写し{i:02}/規程.md", TRAVEL, title=f"写し{i}") for i in range(60)] + [document(f"別{i}.md", f"{i}番の出張の記録。") for i in range(6)])
    assert len(store.search("出張の日当", k=5)) == 5
    assert len(store.search("出張の日当", k=5, fold=False)) == 5


def test_the_oldest_kept_state_can_be_gone_back_to(store):
    for i in range(12):
        store.add([document(f"{i:02}.md", f"{TRAVEL}{i}")])
    assert len(store.tags()) == 10
    store.rollback(store.tags()[0])
    assert sorted(store.documents()) == ["00.md", "01.md"]
    assert store.verify().ok
