import pytest

from kit.errors import DataError, StoreError
from kit.knowledge.store import Store
from kit.records import Block, Document, Place

OLD, NEW, OTHER = "旧い給与表は部長職が月額九十万円とする。", "新しい給与表は別に定めることとする。", "出張の日当は一般職が2,200円とする。"


def document(name, text):
    return Document(f"{hash(text) % 10**18:064d}", name, "給与規程の題名であるもの", (Block(text, Place()),))


def bytes_of(store):
    return b"".join(path.read_bytes() for path in store.path.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    store.add([document("a.txt", OLD), document("b.txt", OTHER)])
    store.add([document("a.txt", NEW)])
    return store


def test_a_forgotten_document_is_in_no_byte_of_any_edition(store):
    assert OLD.encode() in bytes_of(store) and NEW.encode() in bytes_of(store)
    erasure = store.forget("a.txt")
    left = bytes_of(store)
    assert OLD.encode() not in left and NEW.encode() not in left and OTHER.encode() in left
    assert (erasure.document, erasure.chunks, erasure.texts) == ("a.txt", 2, 2)  # the title is the other's, too
    assert erasure.replaced > 10 and erasure.bytes > 0
    assert OLD not in repr(erasure) and "a.txt" in erasure._repr_html_()
    assert (store.tags(), list(store.documents())) == ([], ["b.txt"])
    assert store.verify().ok
    with pytest.raises(DataError):
        store.forget("a.txt")


def test_what_killed_writers_left_goes_with_it(store):
    (store.path / "chunks.lance" / "_versions" / "9.manifest#1").write_text(OLD, encoding="utf-8")
    (store.path / "chunks.lance" / "data" / ".tmpX").write_text(OLD, encoding="utf-8")
    assert store.forget("a.txt").chunks == 2
    assert OLD.encode() not in bytes_of(store)


def test_a_removed_document_can_be_forgotten(store):
    store.remove(["a.txt"])
    assert OLD.encode() in bytes_of(store)
    assert store.forget("a.txt").chunks == 2
    assert OLD.encode() not in bytes_of(store)


def test_a_forget_that_was_cut_off_is_done_again(store, monkeypatch):
    def cut(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("kit.knowledge.table.Table.rewrite", cut)
    with pytest.raises(KeyboardInterrupt):
        store.forget("a.txt")
    monkeypatch.undo()
    assert list(Store(store.path).documents()) == ["b.txt"]
    assert Store(store.path).forget("a.txt").chunks == 2
    assert OLD.encode() not in bytes_of(store)


def test_a_text_that_stands_in_another_file_is_no_proof(store):
    (store.path / "memo.txt").write_text(f"写し: {OLD}", encoding="utf-8")
    with pytest.raises(StoreError) as caught:
        store.forget("a.txt")
    assert "memo.txt" in caught.value.what and OLD not in str(caught.value)


def test_a_text_is_found_across_the_pieces_that_are_read(store, monkeypatch):
    monkeypatch.setattr("kit.knowledge.erasure._PIECE", 7)
    (store.path / "memo.txt").write_text(OLD, encoding="utf-8")
    with pytest.raises(StoreError):
        store.forget("a.txt")
