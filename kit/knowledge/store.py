"""The RAG store: chunks in LanceDB on local disk, opened or created, safe to run twice, readers on every chunk.

Candidates come from the full-text index over Sudachi words and are rescored by ``ranking`` with the counts of ``corpus``.
What a method here has done is on disk when it returns.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from kit import views
from kit.errors import DataError
from kit.knowledge import folding, ranking
from kit.knowledge.chunks import split
from kit.knowledge.corpus import COUNTED, Corpus, Statistics
from kit.knowledge.disk import locked, store_errors, uninterrupted, writable
from kit.knowledge.embedding import Embedder, mismatch, read_weight, write_weight
from kit.knowledge.erasure import certify
from kit.knowledge.files import check_readers
from kit.knowledge.reports import Added, Erasure, Health
from kit.knowledge.retrieval import Scope, check_asked, measured, retrieve
from kit.knowledge.rows import chunk_of, readers_of, row_of
from kit.knowledge.table import Table, among
from kit.records import Chunk, Document, Hit

CANDIDATES = 50
"""Chunks fetched from the full-text index before rescoring; the gold chunk was among them in 99 % of JSQuAD."""
_MOST_CANDIDATES = 1_000
_BATCH_DOCUMENTS = 50


class Store:
    """A folder with one table of chunks and their counts.

    Args:
        path: The store's folder; made where absent.
        embedder: Folder of the embedding model whose vectors the store holds; "" searches by words only.
        network: Whether a network file system is all right (see ``Table``).

    Raises:
        DataError: The embedding model cannot be used.
        StoreError: The folder cannot be opened as a store, or its vectors are another model's.
    """

    def __init__(self, path: str | Path, *, embedder: str | Path = "", network: bool = False) -> None:
        self.path = Path(path)
        self._embedder = Embedder(embedder) if embedder else None
        self._table = Table(self.path, embedder=self._embedder, network=network)
        if self._embedder:
            self._check_embedder()
        with store_errors(self.path):
            self._corpus = Corpus(self.path / "corpus.sqlite")

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self._table)

    def _repr_html_(self) -> str:
        return views.paragraphs(f"RAGストア {self.path}: {len(self.documents())} 文書、{len(self)} 断片", *self.notices)

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user must know of the store, one Japanese line each; ``sync`` puts it right."""
        aside = self._table.acknowledged.aside
        return (
            f"△ 管理ファイルが {len(aside)} 個壊れていたため、その前の状態で開いています（{'、'.join(aside)}）。"
            "最後に登録・更新・削除した内容が失われているおそれがあります。文書フォルダと照合してください: kit store sync フォルダ",
        ) * bool(aside)

    def documents(self) -> dict[str, str]:
        """Return the stored documents: name → content hash."""
        return {name: content for name, (content, _) in self._known().items()}

    def fingerprint(self) -> str:
        """Return a hash of what the store holds, who may read it, and the vectors that count: what searching depends on."""
        known = sorted((name, content, sorted(readers)) for name, (content, readers) in self._known().items())
        near = [(*self._table.embedder, self.weight)] * (self.weight > 0)
        return hashlib.sha256(json.dumps([*known, *near], ensure_ascii=False).encode()).hexdigest()

    def add(self, documents: Iterable[Document], *, progress: Callable[[Document], None] | None = None) -> Added:
        """Add documents; what is there with the same content and readers is skipped, a changed one is replaced.

        Each batch of 50 documents is durable before the next is read, so an interrupted call goes on where it was.

        Args:
            documents: What ``kit.load`` yields. Unreadable ones are counted and named, never an error.
            progress: Called with each document when it has been taken care of.

        Raises:
            DataError: A document names a reader that cannot be one.
            StoreError: The disk is full or the store is damaged; what was acknowledged stays.
        """
        return self._take(documents, progress)

    def sync(self, documents: Iterable[Document]) -> Added:
        """Make the store hold these documents and no others: new, changed and vanished files, one change to go back from.

        A file that can no longer be read leaves the store too: what it says now, and who may read it, is not known.

        Args:
            documents: All documents, as ``kit.load`` yields them. Only after the last one anything is removed.

        Raises:
            DataError: See ``add``.
            StoreError: See ``add``.
        """
        return self._take(documents, whole=True)

    def _take(self, documents: Iterable[Document], progress: Callable[[Document], None] | None = None, *, whole: bool = False) -> Added:
        counts: Counter[str] = Counter()
        unreadable: list[str] = []
        doubts: list[str] = []
        seen: set[str] = set()
        with self._table.writing():  # errors of the source and of ``progress`` are not the store's
            self._begin("sync" if whole else "add")
            known = self._known()
            source = iter(documents)
            while batch := list(islice(source, _BATCH_DOCUMENTS)):
                there = set(known)
                fresh: dict[str, Document] = {}  # of two with one name the later one counts, as in two batches
                for document in batch:
                    check_readers(document.readers, f"文書「{document.name}」の閲覧者")
                    doubts += [f"{document.name}: {doubt}" for doubt in document.doubts]
                    if document.problem:
                        unreadable.append(f"{document.name}: {document.problem}")
                        continue
                    seen.add(document.name)
                    if known.get(document.name) == (document.id, frozenset(document.readers)):
                        counts["unchanged"] += 1
                    else:
                        counts["replaced" if document.name in known else "new"] += 1
                        known[document.name] = (document.id, frozenset(document.readers))
                        fresh[document.name] = document
                with store_errors(self.path):
                    self._commit(list(fresh.values()), sorted(there & fresh.keys()))
                for document in batch:
                    if progress:
                        progress(document)
            gone = tuple(sorted(known.keys() - seen)) if whole else ()
            notices = self.notices
            with store_errors(self.path):
                self._commit([], gone)
                self._index()
                if whole and notices:  # what a damaged head had lost is back
                    self._table.acknowledged.dismiss()
        numbers = counts["new"], counts["unchanged"], counts["replaced"]
        return Added(*numbers, tuple(unreadable), tuple(doubts), gone, notices)

    def embed(self, embedder: str | Path | Embedder | None) -> None:
        """Give every chunk a vector of this model, in the place of another's, and search with it from now on.

        Vectors that are this model's already stay. Their weight is 0 until ``kit.fit_weight`` has shown that they help.

        Args:
            embedder: The embedding model or its folder; None takes the vectors away.

        Raises:
            DataError: The model cannot be used.
        """
        model = Embedder(embedder) if isinstance(embedder, (str, Path)) else embedder
        if self._table.embedder[0] != (model.identity if model else ""):
            with self._table.writing(), store_errors(self.path):  # may take hours: Ctrl-C comes through
                self._begin("embed")
                self._tag()
                try:
                    self._table.embed(model)
                    self._corpus.at(self._table.version)
                finally:  # Ctrl-C may come just after the commit
                    if self._table.embedder[0] == (model.identity if model else ""):
                        self._embedder = model
        self._embedder = model

    def chunks(self, *documents: str) -> list[Chunk]:
        """Return all chunks of some documents, or of all, in order, whoever may read them: for the operator, not for answers."""
        rows = self._table.rows(["chunk"], among("document", documents) if documents else None)
        return sorted((chunk_of(row) for row in rows), key=lambda chunk: (chunk.document, chunk.ordinal))

    def remove(self, names: Sequence[str]) -> None:
        """Take documents out of search by name. Their bytes leave the disk only with ``forget``."""
        if names:
            with self._writing("remove"):
                self._commit([], list(names))
                self._index()

    def forget(self, name: str) -> Erasure:
        """Erase a document from the disk: its chunks, every older state of the store, and their traces in index and counts.

        Takes minutes in a large store, because all that remains is written anew. What earlier runs and their logs quote
        of the document is not the store's, and stays.

        Args:
            name: Name of the document.

        Returns:
            What was looked for in every byte of the store afterwards, and that it was not found.

        Raises:
            DataError: There is no such document.
            StoreError: Some of it is still there.
        """
        with self._writing("forget"):
            # Older editions, removed documents and what a killed forget left are on the disk, too.
            erased = self._table.ever(["chunk"], among("document", [name]))
            if not erased:
                raise _unknown("文書", name, self.documents())
            self._commit([], [name])
            replaced = self._table.rewrite()
            self._corpus.follow(self._table, anew=True)
            return certify(self.path, name, erased, self._table, replaced)

    def verify(self) -> Health:
        """Read every file again and compare it with the checksum taken when it was written; count everything again.

        Counts that are wrong are put right. Takes as long as reading and counting the store: see ``DECISIONS.md``.
        """
        with locked(self.path), store_errors(self.path):  # nobody writes meanwhile
            damage = self._table.verify()
            if damage.changed or damage.missing:
                return Health(self.path, damage, None, self.notices)
            self._corpus.follow(self._table)
            right = self._corpus.equals(self._table.rows(COUNTED))
            if not right:
                self._corpus.follow(self._table, anew=True)
            return Health(self.path, damage, right, self.notices)

    def rollback(self, tag: str = "") -> str:
        """Go back to the state before a change; the change can be made again.

        Who may read a document stays as it is, and for one that has gone since, as it last was: what has been kept back does not
        become readable again.

        Args:
            tag: One of ``tags()``; "" is the last one, so the state before the last ``add``, ``sync``, ``remove`` or ``rollback``.

        Returns:
            The tag that was restored.

        Raises:
            DataError: There is no such tag.
        """
        with self._writing("rollback"):
            tags = self.tags()
            chosen = tag or (tags[-1] if tags else "")
            if chosen not in tags:
                raise _unknown("控え", chosen or "最後の変更の前", tags)
            self._table.restore(chosen, self._table.readers(), self._next_tag)
            self._corpus.follow(self._table)
        return chosen

    @property
    def weight(self) -> float:
        """What the likeness of the vectors counts beside the words (``ranking.combine``): 0 until it was shown to help."""
        if not self._embedder or self._table.embedder[0] != self._embedder.identity:
            return 0.0
        return read_weight(self.path, self._embedder.identity)

    def weigh(self, weight: float) -> None:
        """Keep a weight with the store (see ``kit.fit_weight``, which finds it).

        Raises:
            StoreError: The store was opened without an embedding model, or its vectors are another model's.
        """
        if not self._embedder:
            raise mismatch(self.path, self._table.embedder[1], None)
        self._check_embedder()
        with self._table.writing():
            write_weight(self.path, self._embedder.identity, weight)

    def tags(self) -> list[str]:
        """Return the names of the states that can be gone back to, oldest first: one before each of the last changes."""
        return self._table.tags()

    def search(
        self, query: str, *, k: int = 5, as_user: str = "", documents: str = "", since: str = "", until: str = "", fold: bool = True
    ) -> list[Hit]:
        """Find the best chunks that the user may read.

        Args:
            query: The question, any text.
            k: Number of hits wanted, 1 or more.
            as_user: Reader name; "" is a member of ``everyone`` only.
            documents: Only documents whose name matches this pattern (see ``Scope``).
            since: Only documents of this day or later, likewise.
            until: Only documents of this day or earlier, likewise.
            fold: Show near-duplicates and older editions under the newest edition among the candidates (``Hit.also``), wherever this
                has a chunk about the same and the question does not ask for an older one (see ``folding.folded``).

        Returns:
            At most ``k`` hits, best first; none where nothing matches.

        Raises:
            DataError: ``query`` or ``k`` cannot be searched with (see ``check_asked``), or an argument is wrong (see ``Scope``).
        """
        check_asked(query, k)
        weight, scope = self.weight, Scope(as_user, documents, since, until)
        limit = max(CANDIDATES, k)
        while True:
            hits = ranking.scored(found := self.candidates(query, limit, scope, near=weight > 0), weight)
            shown = folding.folded(hits, query) if fold else hits
            if len(shown) >= k or len(found) < limit or limit >= _MOST_CANDIDATES:
                return ranking.ranked(shown, k)
            limit *= 2  # folding took so many that fewer are left than wanted

    def candidates(self, query: str, limit: int, scope: Scope, *, near: bool = False) -> list[Hit]:
        """Find what ``search`` ranks: hits with the parts of a score, yet without score and rank.

        There are ``limit`` at most by words, and with ``near`` as many again by vectors.
        """
        statistics = self.statistics()
        vector = self._embedder.query(query) if near and self._embedder else None
        found = retrieve(self._table, statistics, query, limit, scope, vector)
        return measured(found, statistics, query, vector)

    def keyword_search(self, query: str, *, k: int = 1, as_user: str = "") -> list[Hit]:
        """Find chunks as a plain full-text search does: the index's own ranking, nothing on top (the baseline)."""
        check_asked(query, k)
        found = retrieve(self._table, self.statistics(), query, k, Scope(as_user), plain=True)
        return [Hit(chunk, row["_score"], rank) for rank, (chunk, row) in enumerate(found, 1)]

    def statistics(self) -> Statistics:
        """Return the corpus statistics that ranking uses; the same object for one state of the store."""
        with store_errors(self.path):
            if self._corpus.version != self._table.version:
                with self._table.writing(patient=False) as alone:
                    if alone or not writable(self.path):  # else somebody is just writing: his counts come in a moment
                        self._corpus.follow(self._table)
            return self._corpus.statistics()

    def _known(self) -> dict[str, tuple[str, frozenset[str]]]:
        rows = self._table.documents()
        return {row["document"]: (row["document_id"], frozenset(readers_of(row["readers"]))) for row in rows}

    # --- changes, under ``_writing``

    @contextmanager
    def _writing(self, change: str) -> Iterator[None]:
        with self._table.writing(), store_errors(self.path), uninterrupted():
            self._begin(change)
            yield

    def _begin(self, change: str) -> None:
        with store_errors(self.path):
            self._table.acknowledged.require_list()
            self._corpus.follow(self._table)
        # Made at the first commit: what changes nothing leaves no state to go back to.
        self._next_tag = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{self._table.version}-{change}"

    @uninterrupted()
    def _commit(self, documents: Sequence[Document], replaced: Sequence[str]) -> None:
        """Write documents in the place of others in one commit, so that a kill leaves each of them whole, old or new."""
        rows = [row_of(chunk) for document in documents for chunk in split(document)]
        if rows:
            self._check_embedder()
        if rows and self._embedder:
            rows = self._embedder.embedded(rows)
        gone = list(self._table.rows(COUNTED, among("document", replaced))) if replaced else []
        if rows or gone:
            self._tag()
            self._table.replace(rows, replaced)
            self._corpus.change(gone, rows, self._table.version)

    def _check_embedder(self) -> None:
        """Refuse to mix the vectors of two models, or chunks with and without."""
        if self._table.embedder[0] != (self._embedder.identity if self._embedder else ""):
            raise mismatch(self.path, self._table.embedder[1], self._embedder)

    def _tag(self) -> None:
        if self._next_tag:
            self._table.tag(self._next_tag)
        self._next_tag = ""

    @uninterrupted()
    def _index(self) -> None:
        self._table.index()
        self._corpus.at(self._table.version)


def _unknown(what: str, name: str, known: Iterable[str]) -> DataError:
    return DataError(
        f"{what}「{name}」はRAGストアにありません。", "名前が違うか、すでに消されています。",
        f"次の中から選んでください: {'、'.join(sorted(known)[:10]) or '（なし）'}",
    )
