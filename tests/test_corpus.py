import sqlite3

import pytest

from kit.knowledge.corpus import Corpus
from kit.knowledge.rows import row_of
from kit.records import Chunk, Place


def row(text, readers=("everyone",)):
    return row_of(Chunk("1", "d", "d.txt", "題", text, Place(), 0, readers))


A, B, C = row("出張の日当。"), row("年次有給休暇。出張は含まない。"), row("役員報酬。", ("hr",))


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path / "corpus.sqlite")


def test_counts_follow_what_comes_and_goes(corpus):
    corpus.change([], [A, B, C], 4)
    statistics = corpus.statistics()
    assert (corpus.version, statistics.count, set(statistics.readers)) == (4, 3, {"|everyone|", "|hr|"})
    assert statistics.idf("w:出張") < statistics.idf("w:日当")  # in two chunks, in one
    corpus.change([A, C], [], 5)
    assert (corpus.version, corpus.statistics().count, corpus.statistics().readers) == (5, 1, ("|everyone|",))
    assert corpus.equals([B]) and not corpus.equals([A])
    assert corpus.statistics().idf("w:日当") == corpus.statistics().idf("w:どこにもない")


def test_counts_changed_step_by_step_are_those_of_all_at_once(corpus, tmp_path):
    corpus.change([], [A, B], 1)
    corpus.change([B], [C], 2)
    assert corpus.equals([A, C]) and corpus.equals([C, A])
    assert not corpus.equals([A, B, C])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tokens SET chunks = 9 WHERE token = 'w:出張'", "UPDATE readers SET readers = '|hs|' WHERE readers = '|hr|'",
        "UPDATE state SET words = words + 1", "DELETE FROM tokens WHERE token = '張'", "UPDATE state SET chunks = 'x'",
    ],
)  # fmt: skip
def test_wrong_counts_are_seen(corpus, statement):
    corpus.change([], [A, B, C], 1)
    assert corpus.equals([A, B, C])
    with corpus._using() as database, database:
        database.execute(statement)
    assert not corpus.equals([A, B, C])


@pytest.mark.parametrize("damage", [b"", b"not a database" * 99])
def test_a_torn_file_is_made_anew(corpus, tmp_path, damage):
    corpus.change([], [A], 1)
    corpus._database.close()
    for path in tmp_path.glob("corpus.sqlite-*"):
        path.unlink()
    (tmp_path / "corpus.sqlite").write_bytes(damage)
    again = Corpus(tmp_path / "corpus.sqlite")
    assert (again.version, again.statistics().count) == (0, 0)


def test_damage_that_shows_itself_later_makes_the_file_anew(corpus):
    corpus.change([], [A], 3)
    with pytest.raises(sqlite3.DatabaseError), corpus._using():
        raise sqlite3.DatabaseError("database disk image is malformed")
    assert (corpus.version, corpus.statistics().count) == (0, 0)


def test_a_cleared_file_is_noticed_by_those_who_have_it_open(corpus, tmp_path):
    other = Corpus(tmp_path / "corpus.sqlite")
    other.change([], [A], 1)
    assert corpus.version == 1
    other.clear()
    assert (corpus.version, corpus.statistics().count) == (0, 0)


def test_counts_of_a_store_that_cannot_be_written_are_read(corpus, tmp_path, monkeypatch):
    corpus.change([], [A], 7)
    corpus._database.close()
    monkeypatch.setattr("kit.knowledge.corpus.writable", lambda folder: False)
    before = sorted(tmp_path.iterdir())
    assert (Corpus(tmp_path / "corpus.sqlite").version, Corpus(tmp_path / "absent.sqlite").version) == (7, 0)
    assert sorted(tmp_path.iterdir()) == before
