"""What ranking must know of all chunks together: how many, how long, who may read them, how many hold a token.

Kept in SQLite beside the table and changed with every commit, so that a search looks forty numbers up instead of reading
all texts. All of it can be counted again from the chunks. ``version`` names the state of the table that was counted:
after a kill between the two commits they differ, and the store counts again.
"""

import json
import math
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kit.knowledge import japanese
from kit.knowledge.disk import store_errors, uninterrupted, writable
from kit.knowledge.ranking import Text
from kit.knowledge.rows import chunk_of, parts_of
from kit.knowledge.table import Table
from kit.records import Chunk

_MADE = """
CREATE TABLE IF NOT EXISTS tokens (token TEXT PRIMARY KEY, chunks INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS readers (readers TEXT PRIMARY KEY, chunks INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (
    one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER, chunks INTEGER, sentences INTEGER, words INTEGER, grams INTEGER
);
INSERT OR IGNORE INTO state VALUES (1, 0, 0, 0, 0, 0);
"""
_COUNT = "INSERT INTO {} VALUES (?, ?) ON CONFLICT DO UPDATE SET chunks = chunks + excluded.chunks"
_SIZES = ("chunks", "sentences", "words", "grams")
_CHUNKS_WITH = "SELECT token, chunks FROM tokens WHERE token IN (SELECT value FROM json_each(?))"
COUNTED = ("chunk", "words", "readers")
Row = Mapping[str, Any]


class Statistics:
    """The counts of one state of the store.

    Attributes:
        count: Number of chunks.
        words, grams: Mean length of a chunk with its title and headings.
        sentence_words, sentence_grams: Mean length of a sentence.
        readers: Every combination of readers in the store, as its column writes it (``|everyone|hr|``).
    """

    def __init__(
        self, sizes: Sequence[int], readers: Iterable[str], chunks_with: Callable[[Sequence[str]], Mapping[str, int]]
    ) -> None:
        self.count, sentences, words, grams = sizes
        self.words, self.grams = words / max(1, self.count) or 1.0, grams / max(1, self.count) or 1.0
        self.sentence_words, self.sentence_grams = words / max(1, sentences) or 1.0, grams / max(1, sentences) or 1.0
        self.readers = tuple(readers)
        self._chunks_with = chunks_with
        self._idf: dict[str, float] = {}

    def idf(self, token: str) -> float:
        """Return ln(1 + (N - n + 0.5) / (n + 0.5)); a token of no chunk gets the maximum, as n = 0.

        Args:
            token: A character gram, or a word with ``w:`` before it.
        """
        return self.idfs([token])[0]

    def idfs(self, tokens: Sequence[str]) -> list[float]:
        """Return the ``idf`` of each token, looked up together."""
        if missing := [token for token in tokens if token not in self._idf]:
            found = self._chunks_with(missing)
            for token in missing:
                n = found.get(token, 0)
                self._idf[token] = math.log1p((self.count - n + 0.5) / (n + 0.5))
        return [self._idf[token] for token in tokens]


class Corpus:
    """The counts of a store's chunks in a file of their own, or in memory ("")."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()  # a connection serves one thread at a time; searches come from several
        self._statistics: tuple[int, Statistics] | None
        self._open()

    @property
    def version(self) -> int:
        """The state of the table that was counted; 0 when nothing was."""
        try:
            with self._using() as database:
                return int(database.execute("SELECT version FROM state").fetchone()[0])
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, TypeError, ValueError):
            return 0

    def statistics(self) -> Statistics:
        """Return the counts; the same object as long as nothing changed."""
        with self._using() as database:
            version, *sizes = database.execute("SELECT version, chunks, sentences, words, grams FROM state").fetchone()
            if self._statistics is None or self._statistics[0] != version:
                readers = [row[0] for row in database.execute("SELECT readers FROM readers")]
                self._statistics = version, Statistics(sizes, readers, self._chunks_with)
        return self._statistics[1]

    def follow(self, table: Table, *, anew: bool = False) -> None:
        """Bring the counts to the table's state: by what changed since the one they are of, or from all rows."""
        version, counted = table.version, self.version
        if counted == version and not anew:
            return
        changes = table.changes(counted, COUNTED) if counted and not anew else None
        try:
            if not changes:
                self.clear()
            gone, come = changes or ([], table.rows(COUNTED))
            self.change(gone, come, version)
        except sqlite3.OperationalError:  # the disk is full or read-only: searching goes on with counts in memory
            self._path = None
            self.clear()
            self.change([], table.rows(COUNTED), version)

    def equals(self, rows: Iterable[Row]) -> bool:
        """Tell whether the counts are those of some rows, which are all of the store's."""
        counted = Corpus()
        counted.change([], rows, 0)
        return self._all() == counted._all()

    def change(self, gone: Sequence[Row], come: Iterable[Row], version: int) -> None:
        """Count what one commit took and brought.

        Args:
            gone: Rows that left the table; their columns ``COUNTED``.
            come: Rows that entered it.
            version: The table's version after it.
        """
        tokens, readers, sizes = Counter[str](), Counter[str](), Counter[str]()
        for rows, sign in ((gone, -1), (come, 1)):
            for row in rows:
                text = searched(chunk_of(row), row["words"])
                words = [word for part in text.words for word in part]
                grams = japanese.grams("\n".join(text.letters))
                held = {f"w:{word}" for word in words}.union(grams)
                tokens.update(held) if sign > 0 else tokens.subtract(held)
                readers[row["readers"]] += sign
                for name, number in zip(_SIZES, (1, len(text.words) - 1, len(words), len(grams)), strict=True):
                    sizes[name] += sign * number
        with self._using() as database, database:
            for table, numbers in (("tokens", tokens), ("readers", readers)):
                database.executemany(_COUNT.format(table), ((key, n) for key, n in numbers.items() if n))
                if gone:
                    database.execute(f"DELETE FROM {table} WHERE chunks <= 0")
            database.execute(
                "UPDATE state SET version = ?, chunks = chunks + ?, sentences = sentences + ?, words = words + ?, grams = grams + ?",
                (version, *(sizes[name] for name in _SIZES)),
            )

    def at(self, version: int) -> None:
        """Note that the table has a new version with the same chunks."""
        with self._using() as database, database:
            database.execute("UPDATE state SET version = ?", (version,))

    @uninterrupted()
    def clear(self) -> None:
        """Forget all counts: the file is made anew, so that no byte of them stays."""
        with self._lock:
            self._renew()

    def _all(self) -> list[Any]:
        """Everything but the version, in one order; nothing where the file is damaged."""
        tables = ("tokens ORDER BY token", "readers ORDER BY readers")
        with self._using() as database:
            if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                return []
            sizes = database.execute("SELECT chunks, sentences, words, grams FROM state").fetchall()
            return [sizes, *(database.execute(f"SELECT * FROM {table}").fetchall() for table in tables)]

    def _open(self) -> None:
        self._statistics = None
        try:
            self._connect()
        except sqlite3.OperationalError:  # the disk is full: searching goes on with counts in memory
            self._path = None
            self._connect()
        except sqlite3.DatabaseError:  # torn by a power cut
            self._renew()

    def _connect(self) -> None:
        foreign = self._path and not writable(self._path.parent)  # somebody else's store: not even a lock may be written there
        if self._path and foreign:
            self._path = self._path if self._path.exists() else None
        address = self._path.absolute().as_uri() + "?immutable=1" * bool(foreign) if self._path else ":memory:"
        self._database = sqlite3.connect(address, timeout=30, uri=True, check_same_thread=False)
        if not (self._path and foreign):
            self._database.execute("PRAGMA journal_mode = WAL")  # a search never waits for a writer
            self._database.executescript(_MADE)
        self._inode = self._path.stat().st_ino if self._path else 0

    def _renew(self) -> None:
        """Begin with an empty file: all of it can be counted again."""
        self._database.close()
        if self._path and writable(self._path.parent):
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        else:
            self._path = None
        self._statistics = None
        self._connect()

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._path and (not self._path.exists() or self._path.stat().st_ino != self._inode):  # another process cleared it
                self._database.close()
                self._open()
            try:
                yield self._database
            except sqlite3.OperationalError:
                raise
            except (sqlite3.DatabaseError, TypeError, ValueError):  # damaged: who asks next counts again
                self._renew()
                raise

    def _chunks_with(self, tokens: Sequence[str]) -> dict[str, int]:
        with store_errors((self._path or Path()).parent), self._using() as database:
            return dict(database.execute(_CHUNKS_WITH, [json.dumps(tokens)]))


def searched(chunk: Chunk, words: str) -> Text:
    """Return what ranking sees of a chunk: its title with the headings, then each sentence.

    Args:
        chunk: The chunk.
        words: Its row's words, a line for each part and one for the index.
    """
    letters = [japanese.normalise(part) for part in parts_of(chunk.title, chunk.place.headings, chunk.text)]
    return Text([line.split(" ") if line else [] for line in words.split("\n")[:-1]], letters)
