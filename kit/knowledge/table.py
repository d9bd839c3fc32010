"""The table of chunks: LanceDB on local disk, the one place that knows LanceDB.

LanceDB does not fsync, so every change here ends with ``syncfs`` and the checksums of what is new. A head that cannot be read is set
aside, and the version before it is the table. Filters are expression objects, never text: ``to_sql`` does not quote.
"""

import ctypes
import fcntl
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import reduce
from pathlib import Path
from typing import Any

from kit.errors import KitError, RunError, StoreError
from kit.knowledge.rows import Row, embedded, embedder_of, rows_of, with_vectors
from kit.trust import checksums

_TEXT = ("id", "document_id", "document", "title", "text", "place", "readers", "date", "words")
_KEPT_TAGS = 10
_MOST_HEALS = 32
_HINT = frozenset({"latest_version_hint.json"})  # Lance writes it over and over, and does without it
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.s3fs", "fuse.rclone"}


class Table:
    """One table in a folder. Every method that changes it wants ``writing()`` around it.

    Args:
        folder: The store's folder; made where absent.
        dimensions: Length of the vectors; 0 where no embedder is configured. Counts when the table is made.
        embedder: Identity and name of the model that makes the vectors; likewise.
        network: Whether a network file system is all right: there, neither lock nor sync can be relied on.

    Raises:
        StoreError: The folder cannot be used, or holds a table that no version of can be read.
    """

    def __init__(self, folder: Path, *, dimensions: int = 0, embedder: Sequence[str] = ("", ""), network: bool = False) -> None:
        self.folder = folder
        self._table: Any
        self.healed: tuple[str, ...] = ()
        """Heads that could not be read and were set aside when the table was opened."""
        with store_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not network:
                _refuse_network(folder)
            import lancedb

            self._database = lancedb.connect(folder)
            if not self._exists():
                with self.locked():
                    if not self._exists():
                        self._create(dimensions, embedder)
            self._open()
        try:
            with self.writing(patient=False) as alone, store_errors(folder):
                if alone:
                    self._make_indices()
        except StoreError:  # a full or read-only disk: what is there can be searched
            if not self._table.list_indices():
                raise

    @property
    def version(self) -> int:
        """The newest state's number."""
        with store_errors(self.folder):
            self._table.checkout_latest()
            return int(self._table.version)

    def __len__(self) -> int:
        with store_errors(self.folder):
            self._table.checkout_latest()
            return int(self._table.count_rows())

    @property
    def embedder(self) -> tuple[str, str]:
        """Identity and name of the model that made the newest state's vectors; "" where it has none."""
        with store_errors(self.folder):
            self._table.checkout_latest()
            return embedder_of(self._table.schema)

    def rows(self, columns: Sequence[str], where: Any = None) -> list[Row]:
        """Read some columns of all rows, or of those that fit an expression, in the newest state."""
        found: list[Row] = self.arrow(columns, where).to_pylist()
        return found

    def arrow(self, columns: Sequence[str], where: Any = None) -> Any:
        """Read like ``rows``, as an Arrow table."""
        with store_errors(self.folder):
            self._table.checkout_latest()
            search = self._table.search().select(list(columns)).limit(None)
            return (search if where is None else search.where(where)).to_arrow()

    def documents(self) -> list[Row]:
        """Return every document once: document, document_id, readers."""
        columns = ["document", "document_id", "readers"]
        found: list[Row] = self.arrow(columns).group_by(columns).aggregate([]).to_pylist()
        return found

    def matching(self, words: Iterable[str], limit: int, where: Any) -> list[Row]:
        """Ask the full-text index for the best rows with any of some words, with ``_score``."""
        from lancedb.query import MatchQuery

        with store_errors(self.folder):
            self._table.checkout_latest()
            search = self._table.search(MatchQuery(" ".join(words), "words"), query_type="fts")
            return rows_of(search.where(where, prefilter=True).limit(limit).to_arrow())

    def near(self, vector: Iterable[float], limit: int, where: Any) -> list[Row]:
        """Return the rows whose vectors are nearest to one, all of length 1 or 0, with ``_distance`` (1 - cosine)."""
        with store_errors(self.folder):
            self._table.checkout_latest()
            search = self._table.search(list(vector), vector_column_name="vector").distance_type("dot")
            return rows_of(search.where(where, prefilter=True).limit(limit).to_arrow())

    def replace(self, rows: Sequence[Row], documents: Sequence[str]) -> None:
        """Put rows in the place of all rows of some documents, in one commit: a kill leaves the old state or the new."""
        with store_errors(self.folder):
            if not documents:
                self._table.add(list(rows))
            elif not rows:
                self._table.delete(among("document", documents))
            else:
                (
                    self._table.merge_insert("id")
                    .when_matched_update_all()
                    .when_not_matched_insert_all()
                    .when_not_matched_by_source_delete(among("document", documents))
                    .execute(list(rows))
                )
            self._sync()

    def embed(self, vectors: Callable[[list[Row]], Any], dimensions: int, embedder: Sequence[str]) -> None:
        """Give every row a new vector, in one commit.

        Args:
            vectors: Takes rows, returns an array of shape (rows, dimensions).
            dimensions: Length of a vector.
            embedder: Identity and name of the model.
        """
        with store_errors(self.folder):
            self._table.checkout_latest()
            schema = with_vectors(self._table.schema, dimensions, embedder)
            plain = self._table.search().select(schema.names[:-1]).limit(None).to_batches(1_000)
            reader = embedded(plain, schema, vectors)
            self._database.create_table("chunks", reader, schema=schema, mode="overwrite")
            self._table = self._database.open_table("chunks")
            self._make_indices()
            self._sync()

    def index(self) -> None:
        """Take new rows into the indices; until then they are found by looking through them."""
        with store_errors(self.folder):
            self._table.optimize(cleanup_older_than=timedelta(days=7))
            self._sync()

    # --- versions

    def tag(self, name: str) -> None:
        """Keep the present state under a name, until it is among no more than the last ten."""
        with store_errors(self.folder):
            self._table.tags.create(name, self.version)
            for old in self.tags()[:-_KEPT_TAGS]:
                self._table.tags.delete(old)
            self._sync()

    def tags(self) -> list[str]:
        """Return the names of kept states, oldest first."""
        with store_errors(self.folder):
            named = self._table.tags.list()
            return sorted(named, key=lambda name: (int(named[name]["version"]), name))

    def restore(self, tag: str) -> None:
        """Make a kept state the newest one."""
        with store_errors(self.folder):
            self._table.restore(tag)
            self._sync()

    def rewrite(self) -> None:
        """Write all rows anew and take every older state from the disk: what was deleted is then in no file any more."""
        with store_errors(self.folder):
            for tag in self.tags():
                self._table.tags.delete(tag)
            import pyarrow as pa

            scan = self._table.search().limit(None).to_batches(2_000)
            reader = pa.RecordBatchReader.from_batches(self._table.schema, scan)
            self._database.create_table("chunks", reader, schema=self._table.schema, mode="overwrite")
            self._table = self._database.open_table("chunks")
            self._make_indices()
            with warnings.catch_warnings(action="ignore"):  # that other processes' older states end is what is wanted
                self._table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
            self._sync()

    # --- durability

    def verify(self) -> checksums.Damage:
        """Compare every file with its checksum."""
        with store_errors(self.folder):
            return checksums.verify(self._checksums, "chunks.lance", but=_HINT)

    @contextmanager
    def writing(self, *, patient: bool = True) -> Iterator[bool]:
        """One writer at a time, across processes; what a killed one left behind is undone first.

        Args:
            patient: Wait for another writer; otherwise ``False`` comes at once where there is one.
        """
        with ExitStack() as stack:
            with store_errors(self.folder):
                alone = stack.enter_context(self.locked(patient))
                if alone:
                    self._undo_unacknowledged()
            yield alone

    @contextmanager
    def locked(self, patient: bool = True) -> Iterator[bool]:
        """Hold the writers' lock (see ``writing``) and change nothing."""
        if not os.access(self.folder, os.W_OK):  # somebody else's store, for reading
            yield True
            return
        with (self.folder / ".writer.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    @property
    def _checksums(self) -> Path:
        return self.folder / "checksums.txt"

    def _sync(self) -> None:
        """Put on disk all that LanceDB wrote, then vouch for it: that is the acknowledgement."""
        _syncfs(self.folder)
        try:
            checksums.update(self._checksums, "chunks.lance", but=_HINT)
        except RunError as error:  # no run of an evaluation, but the store is what cannot be written
            raise error.__cause__ or error from None

    def _acknowledged(self) -> int:
        """The newest version that is listed with its checksum; 0 where none is."""
        return max(map(_version_of, checksums.read(self._checksums)), default=0)

    def _undo_unacknowledged(self) -> None:
        """Go back to the acknowledged state where a killed writer went past it: its files may not be whole."""
        self._table.checkout_latest()
        acknowledged = self._acknowledged()
        if 0 < acknowledged < int(self._table.version):
            self._table.restore(acknowledged)
            self._sync()

    def _exists(self) -> bool:
        """Whether there is a table; a kill in its making leaves a folder with neither manifest nor data."""
        folder = self.folder / "chunks.lance"
        return any(folder.glob("_versions/*.manifest")) or any(folder.glob("data/*"))

    def _create(self, dimensions: int, embedder: Sequence[str]) -> None:
        import pyarrow as pa

        fields = [pa.field(name, pa.string(), nullable=False) for name in _TEXT]
        fields.append(pa.field("ordinal", pa.int32(), nullable=False))
        self._database.create_table("chunks", schema=with_vectors(pa.schema(fields), dimensions, embedder))

    def _make_indices(self) -> None:
        from lancedb.index import FTS, Bitmap

        # Words are cut by Sudachi before they enter: the index must neither stem nor drop nor shorten them.
        whole_words = FTS(
            base_tokenizer="whitespace", max_token_length=None, lower_case=False, stem=False,
            remove_stop_words=False, ascii_folding=False,
        )
        made = {index.columns[0] for index in self._table.list_indices()}
        missing = [(column, config) for column, config in (("words", whole_words), ("readers", Bitmap())) if column not in made]
        for column, config in missing:
            self._table.create_index(column, config=config)
        if missing:
            self._sync()

    def _open(self) -> None:
        """Open the newest version whose rows can be read; heads that cannot are set aside."""
        for _ in range(_MOST_HEALS):
            try:
                self._table = self._database.open_table("chunks")
                self._table.search().limit(1).to_arrow()
                return
            except (OSError, RuntimeError, ValueError):
                manifests = sorted(self.folder.glob("chunks.lance/_versions/*.manifest"), key=lambda path: _version_of(path.name))
                if len(manifests) < 2:
                    raise
                aside = manifests[-1].with_suffix(".corrupt")
                manifests[-1].rename(aside)
                self.healed += (aside.name,)
        raise OSError(f"none of the last {_MOST_HEALS} versions can be read")


def among(column: str, values: Iterable[str]) -> Any:
    """Return the expression that a text column has one of some values."""
    from lancedb.expr import col

    return col(column).isin(list(values))


def between(column: str, first: str, last: str) -> Any:
    """Return the expression that a text column lies between two values; "" leaves an end open."""
    from lancedb.expr import col, lit

    ends = [col(column).gt(lit(""))] + [col(column).gte(lit(first))] * bool(first) + [col(column).lte(lit(last))] * bool(last)
    return every(ends)


def every(expressions: Sequence[Any]) -> Any:
    """Return the expression that all of some expressions hold."""
    return reduce(lambda left, right: left.and_(right), expressions)


@contextmanager
def store_errors(folder: Path) -> Iterator[None]:
    """Turn what LanceDB, SQLite and the disk raise into a ``StoreError`` that names the store and a remedy."""
    try:
        yield
    except KitError:
        raise
    except (OSError, RuntimeError, ValueError, sqlite3.Error) as error:
        full = "No space left" in str(error) or "disk is full" in str(error) or getattr(error, "errno", 0) == 28
        broken = f"ストアのファイルが壊れているか、読み書きの権限がありません（{' '.join(str(error).split())[:200]}）。"
        raise StoreError(
            f"RAGストア {folder} を操作できません。",
            "ディスクの空きがありません。" if full else broken,
            "空きを作り、同じ操作をもう一度実行してください。登録済みの文書は失われていません。"
            if full
            else f"権限を確かめてください。直らない場合は {folder} を別名にして、ノートブック 02 で作り直せます。",
        ) from error


def _version_of(name: str) -> int:
    """Return the version that a manifest's name stands for; Lance counts down from 2^64 - 1. 0 for other files."""
    number, _, rest = Path(name).name.partition(".")
    return 2**64 - 1 - int(number) if rest == "manifest" and len(number) == 20 and number.isdigit() else 0


def _syncfs(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)


def _refuse_network(folder: Path) -> None:
    """Refuse a folder whose file system another machine keeps: there, neither lock nor sync can be relied on."""
    device, kinds = folder.stat().st_dev, {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        mount, _, after = line.partition(" - ")
        kinds[mount.split()[2]] = after.split()[0]
    kind = kinds.get(f"{os.major(device)}:{os.minor(device)}", "")
    if kind in _NETWORK:
        raise StoreError(
            f"RAGストア {folder} を開きませんでした。", f"ネットワーク上のファイルシステム（{kind}）で、書き込みの確定と排他を保証できません。",
            "この機械のディスク（ext4、xfs など）に置いてください。承知のうえで使う場合は Store(path, network=True) とします。",
        )
