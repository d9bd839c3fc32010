import os
import shutil
import time
from datetime import timedelta

import pytest

from kit.errors import StoreError
from kit.knowledge import table as module
from kit.knowledge.acknowledged import version_of
from kit.knowledge.table import Table, among
from kit.trust import checksums


def row(name, edition):
    texts = {name: f"{edition}" for name in ("document_id", "words", "chunk")}
    return {**texts, "id": f"{name}{edition}", "document": name, "readers": "|everyone|", "date": ""}


def put(table, name, edition):
    with table.writing():
        table.replace([row(name, edition)], [name])


def held(table):
    return {found["document"]: found["chunk"] for found in table.rows(["document", "chunk"])}


@pytest.fixture
def table(tmp_path):
    table = Table(tmp_path)
    put(table, "a", 1)
    put(table, "b", 1)
    return table


def head(table):
    return table.acknowledged.manifests()[-1]


# --- kills and power cuts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", ["whole", "zeros", "empty", "half"])
def test_a_state_that_nobody_acknowledged_is_undone(table, torn):
    table._table.delete("true")  # the writer is killed here: nothing is synced, nothing listed
    content = head(table).read_bytes()
    head(table).write_bytes({"whole": content, "zeros": bytes(len(content)), "empty": b"", "half": content[:99]}[torn])
    again = Table(table.folder)
    assert held(again) == {"a": "1", "b": "1"}
    assert again.acknowledged.aside == ()  # nothing that was acknowledged is missing
    put(again, "c", 1)
    assert held(Table(table.folder)) == {"a": "1", "b": "1", "c": "1"}
    damage = again.verify()
    assert (damage.changed, damage.missing) == ((), ())


def test_a_torn_tag_that_nobody_acknowledged_is_taken_away(table):
    table._table.tags.create("torn", 1)
    tag = next(table.folder.glob("chunks.lance/_refs/tags/*.json"))
    tag.write_bytes(b"")
    assert Table(table.folder).tags() == []


def test_a_damaged_list_undoes_nothing(table):
    content = table.acknowledged.list.read_text()
    newest = f"{version_of(head(table)):d}", head(table).name
    table.acknowledged.list.write_text("".join(line for line in content.splitlines(True) if newest[1] not in line))
    again = Table(table.folder)
    assert held(again) == {"a": "1", "b": "1"}
    assert "checksums.txt" in again.verify().changed


def test_a_kill_while_old_files_are_taken_away_is_no_loss(table):
    with pytest.raises(KeyboardInterrupt), table.writing(), table.acknowledged.cleaning():
        table.acknowledged.manifests()[0].unlink()
        raise KeyboardInterrupt
    with Table(table.folder).writing():
        pass
    damage = table.verify()
    assert (damage.changed, damage.missing) == ((), ())


def test_a_table_whose_making_lost_power_is_made(tmp_path):
    Table(tmp_path)
    (tmp_path / "checksums.txt").unlink()
    for path in tmp_path.rglob("*.manifest"):
        path.write_bytes(bytes(path.stat().st_size))
    table = Table(tmp_path)
    put(table, "a", 1)
    assert held(Table(tmp_path)) == {"a": "1"}


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["zeros", "empty", "half", "one bit", "gone"])
@pytest.mark.parametrize("heads", [1, 2])
def test_damaged_heads_are_set_aside_and_named(table, damage, heads):
    for manifest in table.acknowledged.manifests()[-heads:]:
        content = manifest.read_bytes()
        flipped = bytes([content[0] ^ 1]) + content[1:]
        changed = {"zeros": bytes(len(content)), "empty": b"", "half": content[: len(content) // 2], "one bit": flipped}
        manifest.write_bytes(changed.get(damage, b""))
        if damage == "gone":
            manifest.unlink()
    again = Table(table.folder)
    assert len(again.acknowledged.aside) == heads
    assert held(again) == [{"a": "1"}, {}][heads - 1]
    put(again, "c", 1)  # takes the damaged head's number, and not its checksum
    found = again.verify()
    assert (found.changed, found.missing) == ((), ())
    with again.writing():
        again.acknowledged.dismiss()
    assert Table(table.folder).acknowledged.aside == ()


def test_a_file_that_goes_missing_stays_named_through_later_changes(table):
    gone = table.acknowledged.manifests()[0]  # of an older state: the table itself does not miss it
    gone.unlink()
    put(table, "c", 1)
    assert table.verify().missing == (f"chunks.lance/_versions/{gone.name}",)


def test_want_of_rights_sets_nothing_aside(table, monkeypatch):
    def refused(self):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Table, "_try_open", refused)
    with pytest.raises(StoreError):
        Table(table.folder)
    assert table.acknowledged.aside == ()
    monkeypatch.undo()
    assert held(Table(table.folder)) == {"a": "1", "b": "1"}


def test_a_store_of_another_release_is_refused_and_left_alone(tmp_path):
    import lancedb
    import pyarrow

    lancedb.connect(tmp_path).create_table("chunks", pyarrow.table({"id": ["1"], "text": ["x"]}))
    before = sorted(path.name for path in tmp_path.glob("chunks.lance/**/*"))
    with pytest.raises(StoreError) as caught:
        Table(tmp_path)
    assert "別の版" in caught.value.cause and "kit store" in caught.value.remedy
    assert sorted(path.name for path in tmp_path.glob("chunks.lance/**/*")) == before


# --- versions ------------------------------------------------------------------------------------------------------


def test_old_states_go_and_tagged_ones_stay(table, monkeypatch):
    with table.writing():
        table.tag("kept")
    put(table, "a", 2)
    monkeypatch.setattr(module, "_KEPT_FOR", timedelta(milliseconds=1))
    time.sleep(0.01)
    with table.writing():
        table.index()  # Lance refuses to prune where a tagged state is old
        assert table.tags() == ["kept"]
        with table.acknowledged.cleaning():
            table._table.tags.delete("kept")
    many = len(table.acknowledged.manifests())
    with table.writing():
        table.index()
    assert len(table.acknowledged.manifests()) < many
    assert held(Table(table.folder)) == {"a": "2", "b": "1"}
    damage = table.verify()
    assert (damage.changed, damage.missing) == ((), ())


def test_no_more_than_ten_tags_are_kept(table):
    for number in range(12):
        put(table, "a", number)
        with table.writing():
            table.tag(f"t{number:02}")
            table.tag(f"t{number:02}")  # the same again is no error
    assert table.tags() == [f"t{number:02}" for number in range(2, 12)]
    with table.writing():
        table.restore("t05", {}, "now")
    assert held(table)["a"] == "5"


def test_changes_since_a_state(table):
    before = table.version
    put(table, "b", 2)
    put(table, "c", 1)
    gone, come = table.changes(before, ["document", "chunk"])
    assert [tuple(found.values()) for found in gone] == [("b", "1")]
    assert sorted(tuple(found.values()) for found in come) == [("b", "2"), ("c", "1")]
    assert table.changes(table.version, ["chunk"]) == ([], [])
    assert table.changes(999, ["chunk"]) is None


def test_a_rewritten_table_keeps_no_file_from_before(table):
    put(table, "b", 2)
    with table.writing():
        table.tag("before")
        assert sorted(found["chunk"] for found in table.ever(["chunk"], among("document", ["b"]))) == ["1", "2"]
        (table.folder / "chunks.lance" / "_versions" / "1.manifest#1").write_bytes(b"half")
        before = set(table.folder.rglob("*.lance")) | set(table.folder.rglob("*.manifest*"))
        assert table.rewrite() >= len(before) - 1 > 5
    assert not [path for path in before if path.is_file()]
    assert held(Table(table.folder)) == {"a": "1", "b": "2"}
    assert [found["chunk"] for found in table.ever(["chunk"], among("document", ["b"]))] == ["2"]
    assert (table.tags(), table.verify().missing) == ([], ())


# --- where a store may lie -----------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_read(table):
    table.folder.chmod(0o500)
    try:
        assert held(Table(table.folder)) == {"a": "1", "b": "1"}
    finally:
        table.folder.chmod(0o700)


def test_a_folder_that_cannot_be_written_is_opened_and_left_as_it_is(table, monkeypatch):
    monkeypatch.setattr("kit.knowledge.disk.writable", lambda folder: False)
    before = checksums.files(table.acknowledged.list, ".")
    again = Table(table.folder)
    assert held(again) == {"a": "1", "b": "1"}
    with again.writing() as alone:
        assert not alone
    assert checksums.files(table.acknowledged.list, ".") == before


def test_a_copy_elsewhere_is_the_same(table, tmp_path_factory):
    copy = shutil.copytree(table.folder, tmp_path_factory.mktemp("copy") / "store")
    again = Table(copy)
    assert held(again) == held(table)
    assert again.verify() == table.verify()
