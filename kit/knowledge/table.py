"""The table of chunks: LanceDB on local disk, the one place that knows LanceDB.

LanceDB does not fsync, so every change here ends with ``syncfs`` and the checksums of what is new: the newest listed version is the
acknowledged state. What a killed writer left beyond it is undone; a head that is damaged is set aside, and the version before it is
the table. Filters are expression objects, never text: ``to_sql`` does not quote.
"""

import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kit.errors import RunError, StoreError
from kit.knowledge.acknowledged import HINT, HOME, Acknowledged, version_of
from kit.knowledge.disk import locked, made_anew, refuse_network, store_errors, uninterrupted
from kit.knowledge.embedding import Embedder
from kit.knowledge.rows import COLUMNS, Row, chunk_of, embedder_of, readers_of, row_of, rows_of, vector_schema
from kit.trust import checksums

_FORMAT = {"kit_store": "3"}  # in the table's schema; a store of the first trials has none
_KEPT_TAGS = 10
_BATCH = 50
_KEPT_FOR = timedelta(days=7)  # readers of an older state may be at work
_NEVER = timedelta(days=36_500)
_TICK_NS = 1_000_000_000


class Table:
    """One table in a folder. Every method that changes it wants ``writing()`` and ``store_errors`` around it.

    Args:
        folder: The store's folder; made where absent.
        embedder: The model that makes the vectors, where one is configured. Counts when the table is made.
        network: Whether a network file system is all right: there, neither lock nor sync can be relied on.

    Raises:
        StoreError: The folder cannot be used, or holds a table that no version of can be read.
    """

    def __init__(self, folder: Path, *, embedder: Embedder | None = None, network: bool = False) -> None:
        self.folder = folder
        self.acknowledged = Acknowledged(folder)
        self._table: Any
        self._searched: Any = None
        self._looked, self._version = (0, 0), 0
        self._embedder = embedder
        with store_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not network:
                refuse_network(folder)
            import lancedb
            from lancedb.background_loop import LOOP

            session = lancedb.Session()  # one cache of the indices for both doors
            self._database = lancedb.connect(folder, session=session)
            self._searching = LOOP.run(lancedb.connect_async(folder, session=session))
            self._open(patient=not self.acknowledged.manifests())

    @property
    def version(self) -> int:
        """The newest state's number."""
        with self._newest():
            return self._version

    def __len__(self) -> int:
        with self._newest() as table:
            return int(table.count_rows())

    @property
    def embedder(self) -> tuple[str, str]:
        """Identity and name of the model that made the newest state's vectors; "" where it has none."""
        with self._newest() as table:
            return embedder_of(table.schema)

    def rows(self, columns: Sequence[str], where: Any = None) -> Iterator[Row]:
        """Read some columns of all rows, or of those that fit an expression, without holding them all in memory."""
        with self._newest() as table:
            for batch in _scan(table, columns, where).to_batches(2_000):
                yield from batch.to_pylist()

    def documents(self) -> list[Row]:
        """Return every document once: document, document_id, readers."""
        with self._newest() as table:
            return _documents(table)

    def matching(self, words: Iterable[str], limit: int, where: Any, columns: Sequence[str]) -> list[Row]:
        """Ask the full-text index for the best rows with any of some words, with ``_score``."""
        from lancedb.query import MatchQuery

        query = MatchQuery(" ".join(words), "words")
        return self._found(lambda table: table.query().nearest_to_text(query), limit, where, [*columns, "_score"])

    def near(self, vector: Iterable[float], limit: int, where: Any, columns: Sequence[str]) -> list[Row]:
        """Return the rows whose vectors are nearest to one, all of length 1 or 0, with ``_distance`` (1 - cosine)."""
        near = list(vector)
        return self._found(
            lambda table: table.query().nearest_to(near).column("vector").distance_type("dot"), limit, where, [*columns, "_distance"]
        )

    def _found(self, search: Callable[[Any], Any], limit: int, where: Any, columns: Sequence[str]) -> list[Row]:
        """Search in one turn of LanceDB's event loop: its synchronous door takes seven, half a millisecond each."""
        from lancedb.background_loop import LOOP

        async def found() -> Any:
            self._searched = table = self._searched or await self._searching.open_table("chunks")
            return await search(table).where(where).limit(limit).select(list(columns)).to_arrow()

        with self._newest():
            return rows_of(LOOP.run(found()))

    def replace(self, rows: Sequence[Row], documents: Sequence[str]) -> None:
        """Put rows in the place of all rows of some documents, in one commit: a kill leaves the old state or the new."""
        self._put(rows, documents)
        self.acknowledged.sync()

    def _put(self, rows: Sequence[Row], documents: Sequence[str]) -> None:
        if not documents:
            self._table.add(list(rows))
        elif not rows:
            self._table.delete(among("document", documents))
        else:
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(among("document", documents)).execute(list(rows))

    def embed(self, model: Embedder | None) -> None:
        """Give every row a vector of this model, or none at all, in one commit."""
        self._table.checkout_latest()
        self._overwrite(vector_schema(self._table.schema, model), model)

    def index(self) -> None:
        """Take new rows into the indices; until then they are found by looking through them."""
        self._table.optimize(cleanup_older_than=_NEVER)
        self.acknowledged.sync()  # before an older state goes, the one that is to stay is on disk
        if time.time() - self.acknowledged.manifests()[0].stat().st_mtime < _KEPT_FOR.total_seconds():
            return  # pruning indexes once more, in a further state
        tagged = {int(tag["version"]) for tag in self._table.tags.list().values()}
        made = [state["timestamp"].astimezone() for state in self._table.list_versions() if state["version"] in tagged]
        # Lance removes nothing at all where a tagged state is among the old ones.
        reached = datetime.now(UTC) - min(made) + timedelta(days=1) if made else _KEPT_FOR
        with self.acknowledged.cleaning():
            self._table.optimize(cleanup_older_than=max(reached, _KEPT_FOR))

    # --- versions

    def tag(self, name: str) -> None:
        """Keep the present state under a name, until it is among no more than the last ten."""
        if name not in self._table.tags.list():
            self._table.tags.create(name, self.version)
        if old := self.tags()[:-_KEPT_TAGS]:
            with self.acknowledged.cleaning():
                for name in old:
                    self._table.tags.delete(name)
        self.acknowledged.sync()

    def tags(self) -> list[str]:
        """Return the names of kept states, oldest first."""
        with self._newest() as table:
            named = table.tags.list()
            return sorted(named, key=lambda name: (int(named[name]["version"]), name))

    def readers(self) -> dict[str, str]:
        """Return document → its column ``readers`` in the newest state that holds it, among the kept ones and the present."""
        found: dict[str, str] = {}
        for tag in self.tags():
            with suppress(Exception):  # damaged: the others tell
                found |= {row["document"]: row["readers"] for row in _documents(self._at(tag))}
        return found | {row["document"]: row["readers"] for row in self.documents()}

    def restore(self, tag: str, readers: Mapping[str, str], present: str) -> None:
        """Make a kept state the newest one, with who may read what since; acknowledged as one, with fresh indices.

        Args:
            tag: The state's name.
            readers: Document → its column ``readers`` (see ``readers``). Others keep what they had.
            present: The name to keep the present state under.
        """
        number = int(self._table.tags.list()[tag]["version"])  # the oldest name goes when one more is kept
        self.tag(present)
        self._table.restore(number)
        held = {row["document"]: row["readers"] for row in _documents(self._table)}
        changed = sorted(name for name in held if readers.get(name, held[name]) != held[name])
        for start in range(0, len(changed), _BATCH):
            where = among("document", names := changed[start : start + _BATCH])
            rows = _scan(self._table, self._table.schema.names, where).to_list()
            self._put([row | row_of(replace(chunk_of(row), readers=readers_of(readers[row["document"]]))) for row in rows], names)
        self._make_indices(anew=True)  # those of that state may be damaged since

    def changes(self, since: int, columns: Sequence[str]) -> tuple[list[Row], list[Row]] | None:
        """Return the rows that went and those that came since a state; None where that state cannot be read any more."""
        self._table.checkout_latest()
        try:
            before = self._at(since)
            old, new = ({tuple(row.values()) for row in _documents(table)} for table in (before, self._table))
            where = among("document", sorted({name for name, *_ in old ^ new}))
            return _scan(before, columns, where).to_list(), _scan(self._table, columns, where).to_list()
        except Exception:  # gone, or so damaged that Lance panics
            return None

    def ever(self, columns: Sequence[str], where: Any) -> list[Row]:
        """Return every row, once, that any state which is still on the disk holds."""
        found: dict[tuple[Any, ...], Row] = {}
        for number in sorted(map(version_of, self.acknowledged.manifests()), reverse=True):
            try:
                rows = _scan(self._at(number), columns, where).to_list()
            except Exception:  # damaged; its files go with the others
                continue
            found |= {tuple(row.values()): row for row in rows}
        return list(found.values())

    def rewrite(self) -> int:
        """Write all rows anew and take every older state from the disk: what was deleted is then in no file any more.

        Returns:
            Number of files that there were before; none of them is there any more.
        """
        with self.acknowledged.cleaning():
            before = {self.folder / path for path in checksums.files(self.acknowledged.list, HOME, HINT)}
            for tag in self.tags():
                self._table.tags.delete(tag)
            self._overwrite(self._table.schema)
            with warnings.catch_warnings(action="ignore"):  # that other processes' older states end is what is wanted
                self._table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
            for path in before:  # the only state names new files alone; Lance leaves what a killed writer had half written
                path.unlink(missing_ok=True)
            self.acknowledged.dismiss()
            return len(before)

    def _overwrite(self, schema: Any, model: Embedder | None = None) -> None:
        """Write all rows anew in one commit, with their vectors as far as the schema has any or with those of a model, and then the indices."""
        import pyarrow as pa

        columns = [name for name in schema.names if not (model and name == "vector")]
        batches = _scan(self._table, columns).to_batches(1_000)
        if model:
            batches = (pa.RecordBatch.from_pylist(model.embedded(batch.to_pylist()), schema) for batch in batches)
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        self._database.create_table("chunks", reader, schema=schema, mode="overwrite")
        self._table = self._database.open_table("chunks")
        self._make_indices()
        self.acknowledged.sync()

    @contextmanager
    def _newest(self) -> Iterator[Any]:
        """Go to the newest state. Each one adds to one folder: where nothing happened there, the look itself (1-2 ms) is spared."""
        with store_errors(self.folder):
            folder = (self.folder / HOME / "_versions").stat()
            stamp = folder.st_ino, folder.st_mtime_ns
            if stamp != self._looked:
                self._table.checkout_latest()
                self._version, self._searched = int(self._table.version), None
                # A change within one tick of the file system's clock leaves the time as it is: only an older time is proof.
                self._looked = stamp if time.time_ns() - folder.st_mtime_ns > _TICK_NS else (0, 0)
            yield self._table

    # --- durability

    def verify(self) -> checksums.Damage:
        """Compare every file with its checksum."""
        return self.acknowledged.verify()

    @contextmanager
    def writing(self, *, patient: bool = True) -> Iterator[bool]:
        """One writer at a time, across processes; what a killed one left behind is undone first.

        Args:
            patient: Wait for another writer; otherwise ``False`` comes at once where there is one, or nothing can be written.
        """
        with locked(self.folder, patient) as alone:
            if alone:
                with store_errors(self.folder):
                    self._settle()
            yield alone

    # --- opening

    def _open(self, patient: bool) -> None:
        with locked(self.folder, patient) as alone:
            if not alone:  # somebody is writing, or nothing can be written here
                self._try_open()
                return
            try:
                self._settle()
            except (OSError, RuntimeError, RunError):  # a full disk: what is there can be searched
                with suppress(Exception):  # what is told is why it could not be settled
                    self._try_open()
                    if self._table.list_indices():
                        return
                raise

    @uninterrupted()
    def _settle(self) -> None:
        """Make the newest acknowledged state the head, under the writers' lock; a first one where there is none."""
        if not self.acknowledged.list.exists() and not any(self.folder.glob(f"{HOME}/data/*")):
            self._create()  # nothing was ever acknowledged
        self.acknowledged.begin()
        self._try_open()
        self._make_indices(anew=self.acknowledged.forgive("_indices"))

    def _try_open(self) -> None:
        self._table = self._database.open_table("chunks")
        if (self._table.schema.metadata or {}).get(b"kit_store") != _FORMAT["kit_store"].encode():
            raise StoreError(
                f"RAGストア {self.folder} は、この版のキットでは開けません。", "別の版のキットで作られたストアで、索引の形式が違います。",
                made_anew(self.folder),
            )

    def _at(self, version: int | str) -> Any:
        """Another view of the table, at one of its states: its number or tag."""
        table = self._database.open_table("chunks")
        table.checkout(version)
        return table

    def _create(self) -> None:
        """Make the table; what a kill or a power cut in its making left holds nothing."""
        import pyarrow as pa

        shutil.rmtree(self.folder / HOME, ignore_errors=True)
        fields = [pa.field(name, pa.string(), nullable=False) for name in COLUMNS]
        schema = pa.schema(fields, metadata=_FORMAT)
        self._database.create_table("chunks", schema=vector_schema(schema, self._embedder) if self._embedder else schema)

    def _make_indices(self, *, anew: bool = False) -> None:
        from lancedb.index import FTS, Bitmap

        # Words are cut by Sudachi before they enter: the index must neither stem nor drop nor shorten them.
        whole_words = FTS(
            base_tokenizer="whitespace", max_token_length=None, lower_case=False, stem=False,
            remove_stop_words=False, ascii_folding=False,
        )
        made = {index.columns[0] for index in self._table.list_indices() if not anew}
        missing = [(column, config) for column, config in (("words", whole_words), ("readers", Bitmap())) if column not in made]
        for column, config in missing:
            self._table.create_index(column, config=config)
        if missing:
            self.acknowledged.sync()


def among(column: str, values: Iterable[str]) -> Any:
    """Return the expression that a text column has one of some values."""
    from lancedb.expr import col

    return col(column).isin(list(values))


def between(column: str, first: str, last: str) -> Any:
    """Return the expression that a text column is filled and lies between two values; "" leaves an end open."""
    from lancedb.expr import col, lit

    begun = col(column).gte(lit(first)) if first else col(column).gt(lit(""))
    return begun.and_(col(column).lte(lit(last))) if last else begun


def _scan(table: Any, columns: Sequence[str], where: Any = None) -> Any:
    search = table.search().select(list(columns)).limit(None)
    return search if where is None else search.where(where)


def _documents(table: Any) -> list[Row]:
    columns = ["document", "document_id", "readers"]
    found: list[Row] = _scan(table, columns).to_arrow().group_by(columns).aggregate([]).to_pylist()
    return found
