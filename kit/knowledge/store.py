"""The RAG store: LanceDB on local disk, opened or created, safe to run twice, readers on every chunk.

Candidates come from LanceDB's full-text index over Sudachi words; they are rescored by BM25 over union tokens.
LanceDB does not fsync, so ``add`` returns only after ``syncfs``. Filters are expression objects, never text.
"""

import ctypes
import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

from kit import views
from kit.errors import KitError, StoreError
from kit.knowledge import japanese
from kit.knowledge.chunks import split
from kit.knowledge.files import check_readers
from kit.knowledge.ranking import Statistics, bm25
from kit.records import EVERYONE, Chunk, Document, Hit, place_from_json, to_json

CANDIDATES = 50
"""Chunks fetched from the full-text index before rescoring; the gold chunk was among them in 99 % of JSQuAD."""
_BATCH_DOCUMENTS = 50
_CHUNK = [field.name for field in fields(Chunk)]


@dataclass(frozen=True, slots=True)
class Added:
    """What one ``add`` did, counted in documents; ``unreadable`` holds one Japanese line per file."""

    new: int
    unchanged: int
    replaced: int
    unreadable: tuple[str, ...]
    doubts: tuple[str, ...]

    def _repr_html_(self) -> str:
        counts = f"登録 {self.new}、更新 {self.replaced}、変更なし {self.unchanged}、読めず {len(self.unreadable)}（文書数）"
        lines = [*(f"× {line}" for line in self.unreadable), *(f"△ {line}" for line in self.doubts)]
        return views.paragraphs(counts, *lines)


class Store:
    """A folder with one LanceDB table of chunks.

    Args:
        path: The store's folder; made where absent.

    Raises:
        StoreError: The folder cannot be opened as a store.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._statistics: tuple[int, Statistics] | None = None
        with _store_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            import lancedb

            self._database = lancedb.connect(self.path)
            if not self._exists() or not self._database.open_table("chunks").list_indices():
                self._create()
            self._table = self._database.open_table("chunks")

    def __len__(self) -> int:
        """Return the number of chunks."""
        with _store_errors(self.path):
            self._table.checkout_latest()
            return int(self._table.count_rows())

    def _repr_html_(self) -> str:
        return views.paragraphs(f"RAGストア {self.path}: {len(self.documents())} 文書、{len(self)} 断片")

    def documents(self) -> dict[str, str]:
        """Return the stored documents: name → content hash."""
        return {name: content for name, (content, _) in self._known().items()}

    def fingerprint(self) -> str:
        """Return a hash of what the store holds and who may read it: names, contents, readers."""
        known = sorted((name, content, sorted(readers)) for name, (content, readers) in self._known().items())
        return hashlib.sha256(json.dumps(known, ensure_ascii=False).encode()).hexdigest()

    def add(
        self,
        documents: Iterable[Document],
        *,
        progress: Callable[[Document], None] | None = None,
    ) -> Added:
        """Add documents; what is there with the same content and readers is skipped, a changed one is replaced.

        Each batch of 50 documents is durable before the next is read, so an interrupted call goes on where it was.

        Args:
            documents: What ``kit.load`` yields. Unreadable ones are counted and named, never an error.
            progress: Called with each document when it has been taken care of.

        Raises:
            DataError: A document names a reader that cannot be one.
            StoreError: The disk is full or the store is damaged; what was acknowledged stays.
        """
        counts: Counter[str] = Counter()
        unreadable: list[str] = []
        doubts: list[str] = []
        with self._writing():
            known = self._known()
            source = iter(documents)
            while batch := list(islice(source, _BATCH_DOCUMENTS)):
                fresh: dict[str, Document] = {}  # of two with one name the later one counts, as in two batches
                for document in batch:
                    check_readers(document.readers, f"文書「{document.name}」の閲覧者")
                    doubts += [f"{document.name}: {doubt}" for doubt in document.doubts]
                    if document.problem:
                        unreadable.append(f"{document.name}: {document.problem}")
                    elif known.get(document.name) == (document.id, frozenset(document.readers)):
                        counts["unchanged"] += 1
                    else:
                        counts["replaced" if document.name in known else "new"] += 1
                        known[document.name] = (document.id, frozenset(document.readers))
                        fresh[document.name] = document
                self._replace(list(fresh.values()))
                for document in batch:
                    if progress:
                        progress(document)
        return Added(counts["new"], counts["unchanged"], counts["replaced"], tuple(unreadable), tuple(doubts))

    def chunks(self, document: str) -> list[Chunk]:
        """Return all chunks of one document in order, whoever may read it: for the operator, not for answers."""
        from lancedb.expr import col, lit

        rows = self._rows(_CHUNK, col("document") == lit(document))
        return sorted((_chunk(row) for row in rows), key=lambda chunk: chunk.ordinal)

    def remove(self, names: Sequence[str]) -> None:
        """Take documents out of search by name. Their bytes leave the disk only when versions are pruned."""
        from lancedb.expr import col

        if names:
            with _store_errors(self.path), self._writing():
                self._table.delete(col("document").isin(list(names)))
                self._sync()

    def search(self, query: str, *, k: int = 5, as_user: str = "") -> list[Hit]:
        """Find the best chunks that the user may read.

        Args:
            query: The question, any text.
            k: Number of hits wanted, 1 or more.
            as_user: Reader name; "" is a member of ``everyone`` only.

        Returns:
            At most ``k`` hits, best first; none where no word matches.

        Raises:
            DataError: ``as_user`` is not a valid reader name.
        """
        rows = self._candidates(query, max(CANDIDATES, k), as_user)
        statistics = self.statistics()
        question = japanese.query(query)
        scores = bm25(question, [_tokens(row) for row in rows], statistics.idf, statistics.mean_length)
        # Equal scores keep the index's own order, which is stable for one state of the store.
        ranked = sorted(zip(scores, rows, strict=True), key=lambda pair: -pair[0])[:k]
        return [Hit(_chunk(row), score, rank) for rank, (score, row) in enumerate(ranked, 1)]

    def keyword_search(self, query: str, *, k: int = 1, as_user: str = "") -> list[Hit]:
        """Find chunks as a plain full-text search does: the index's own ranking, nothing on top (the baseline)."""
        rows = self._candidates(query, k, as_user)
        return [Hit(_chunk(row), row["_score"], rank) for rank, row in enumerate(rows, 1)]

    def statistics(self) -> Statistics:
        """Return the corpus statistics that ranking uses, computed once per state of the store."""
        with _store_errors(self.path):
            self._table.checkout_latest()
            version = int(self._table.version)
        if self._statistics is None or self._statistics[0] != version:
            rows = self._rows(["title", "place", "text", "words"])
            self._statistics = version, Statistics.of(_tokens(row) for row in rows)
        return self._statistics[1]

    def _candidates(self, query: str, limit: int, user: str) -> list[dict[str, Any]]:
        """Ask the full-text index for the rows with any word of the query that the user may read."""
        words = japanese.words(japanese.normalise(query))
        may_read = _may_read(user)
        if not words:
            return []
        from lancedb.query import MatchQuery

        with _store_errors(self.path):
            self._table.checkout_latest()
            search = self._table.search(MatchQuery(" ".join(dict.fromkeys(words)), "words"), query_type="fts")
            rows: list[dict[str, Any]] = search.where(may_read, prefilter=True).limit(limit).to_arrow().to_pylist()
        return rows

    def _exists(self) -> bool:
        """Whether there is a table; a kill in its making leaves a folder with neither manifest nor data."""
        folder = self.path / "chunks.lance"
        return any(folder.glob("_versions/*.manifest")) or any(folder.glob("data/*"))

    def _create(self) -> None:
        """Make what is missing of table and index."""
        import pyarrow as pa
        from lancedb.index import FTS

        text_columns = ("id", "document_id", "document", "title", "text", "place", "readers", "words")
        fields = [pa.field(name, pa.string(), nullable=False) for name in text_columns]
        fields.append(pa.field("ordinal", pa.int32(), nullable=False))
        # Words are cut by Sudachi before they enter: the index must neither stem nor drop nor shorten them.
        whole_words = FTS(
            base_tokenizer="whitespace", max_token_length=None, lower_case=False, stem=False,
            remove_stop_words=False, ascii_folding=False,
        )
        with self._writing():
            if not self._exists():
                self._database.create_table("chunks", schema=pa.schema(fields))
            table = self._database.open_table("chunks")
            if not table.list_indices():
                table.create_index("words", config=whole_words)
            self._sync()

    def _known(self) -> dict[str, tuple[str, frozenset[str]]]:
        rows = self._rows(["document", "document_id", "readers"])
        return {row["document"]: (row["document_id"], frozenset(_readers(row))) for row in rows}

    def _rows(self, columns: list[str], where: Any = None) -> list[dict[str, Any]]:
        """Read some columns of all rows, or of those that fit an expression, in the newest state of the table."""
        with _store_errors(self.path):
            self._table.checkout_latest()
            search = self._table.search().select(columns).limit(None)
            rows: list[dict[str, Any]] = (search if where is None else search.where(where)).to_arrow().to_pylist()
        return rows

    def _replace(self, documents: Sequence[Document]) -> None:
        """Write documents in one commit, so that a kill leaves each of them whole in its old or its new state."""
        if not documents:
            return
        from lancedb.expr import col

        rows = [_row(chunk) for document in documents for chunk in split(document)]
        # The expression itself: its to_sql() does not quote \' and '' and would delete other documents.
        replaced = col("document").isin([document.name for document in documents])
        with _store_errors(self.path):
            (
                self._table.merge_insert("id")
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .when_not_matched_by_source_delete(replaced)
                .execute(rows)
            )
            self._table.optimize()  # new rows enter the index, always
            self._sync()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time, across processes."""
        with ExitStack() as stack:
            with _store_errors(self.path):
                file = stack.enter_context((self.path / ".writer.lock").open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _sync(self) -> None:
        """Put all that LanceDB wrote on disk; it does not do so itself."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(descriptor)


def index_text(title: str, headings: Sequence[str], text: str) -> str:
    """Return what is searched for a chunk: its title and heading path before its text."""
    return "\n".join((title, *headings, text))


def _row(chunk: Chunk) -> dict[str, Any]:
    searched = japanese.normalise(index_text(chunk.title, chunk.place.headings, chunk.text))
    plain: dict[str, Any] = to_json(chunk)
    return plain | {
        "place": json.dumps(plain["place"], ensure_ascii=False),
        "readers": f"|{'|'.join(chunk.readers)}|" if chunk.readers else "",
        "words": " ".join(japanese.words(searched)),
    }


def _chunk(row: Mapping[str, Any]) -> Chunk:
    same = {name: row[name] for name in _CHUNK}
    return Chunk(**{**same, "place": place_from_json(json.loads(row["place"])), "readers": _readers(row)})


def _readers(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the column ``|everyone|hr|``: LanceDB's expressions cannot look into lists, but into text."""
    return tuple(name for name in row["readers"].split("|") if name)


def _tokens(row: Mapping[str, Any]) -> list[str]:
    headings = json.loads(row["place"])["headings"]
    searched = index_text(row["title"], headings, row["text"])
    return [f"w:{word}" for word in row["words"].split()] + japanese.grams(searched)


def _may_read(user: str) -> Any:
    """Return the pre-filter for one user, as an expression; rows without readers are denied to all."""
    from lancedb.expr import col, lit

    check_readers(filter(None, [user]), "指定した閲覧者")
    allowed = [col("readers").contains(lit(f"|{name}|")) for name in dict.fromkeys((EVERYONE, user)) if name]
    return reduce(lambda left, right: left.or_(right), allowed)


@contextmanager
def _store_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except KitError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # LanceDB raises all three
        full = "No space left" in str(error) or getattr(error, "errno", 0) == 28
        broken = f"ストアのファイルが壊れているか、読み書きの権限がありません（{' '.join(str(error).split())[:200]}）。"
        raise StoreError(
            f"RAGストア {path} を操作できません。",
            "ディスクの空きがありません。" if full else broken,
            "空きを作り、同じ操作をもう一度実行してください。登録済みの文書は失われていません。"
            if full
            else f"権限を確かめてください。直らない場合は {path} を別名にして、ノートブック 02 で作り直せます。",
        ) from error
