"""RAG: search, read, answer with citations; and the baseline arm, what a company has without it."""

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from kit import prices, settings
from kit.answering.adaptive import DEEP, Adaptive, Found
from kit.answering.extractive import NOT_FOUND, ExtractiveReader, readable
from kit.knowledge.store import Store
from kit.records import Answer, Citation, Hit, Step


class Reader(Protocol):
    """What turns hits into an answer.

    Attributes:
        name: Shown in rows and summaries.
        top: Number of hits it wants.
        identity: Text that changes whenever its answers could.
    """

    name: str
    top: int

    @property
    def identity(self) -> str:
        """See above."""
        ...

    def read(self, question: str, hits: Sequence[Hit], idf: Callable[[str], float], *, also: str = "") -> Answer:
        """Answer from hits; failures are states of the answer, not exceptions.

        Args:
            question: The question as it was asked.
            hits: What search found, best first.
            idf: Weight of a token in the store.
            also: Words that search added to the question, such as synonyms.
        """
        ...


class Rag:
    """Answers questions from a store; call it like a function.

    Args:
        store: Where to search.
        reader: ``"extractive"`` or any reader, for example ``LLMReader(kit.connect())``.
        expand: Gives words to search for beside the question's own (synonyms), "" for none; see ``kit.improving``.
        adaptive: How a search in doubt goes further; None to search once.
    """

    def __init__(
        self, store: Store, reader: Reader | str = "extractive", *, expand: Callable[[str], str] | None = None,
        adaptive: Adaptive | None = Adaptive(),  # noqa: B008
    ) -> None:
        if isinstance(reader, str) and reader != "extractive":
            raise ValueError(f'reader must be "extractive" or a reader object, not {reader!r}')
        self.store = store
        self.reader: Reader = ExtractiveReader() if isinstance(reader, str) else reader
        self._expand = expand
        self.name = self.reader.name
        self._adaptive = adaptive or Adaptive(())
        self._prices = prices.read_prices(settings.load().prices)

    @property
    def chat(self) -> Any:
        """The connection to the reader's model; None for a reader without one."""
        return getattr(self.reader, "chat", None)

    @property
    def identity(self) -> str:
        """What would change the answers: documents, reader, search. A run is resumed only while it stays the same."""
        searched = self._adaptive.identity + (f" {self._expand!r}" if self._expand else "")
        return f"{self.store.fingerprint()} {self.reader.identity} {searched}"

    def __call__(self, question: str, *, user: str = "") -> Answer:
        """Answer one question as one user.

        Args:
            question: Any text.
            user: Reader name; "" is a member of ``everyone`` only.

        Returns:
            The answer with hits, trace, seconds and cost filled in.
        """
        searched = self._search(question, user)
        answer = self.reader.read(question, searched.found.hits, searched.idf, also=searched.also)
        return self._whole(searched, answer)

    @property
    def ask(self) -> Callable[..., Coroutine[Any, Any, Answer]] | None:
        """Answers like a call, but awaits the model; None for a reader that has nothing to wait for."""
        return self._ask if hasattr(self.reader, "ask") else None

    async def _ask(self, question: str, *, user: str = "") -> Answer:
        # The store is searched in the loop's worker thread.
        searched = await asyncio.to_thread(self._search, question, user)
        reader: Any = self.reader
        answer = await reader.ask(question, searched.found.hits, searched.idf, also=searched.also)
        return self._whole(searched, answer)

    def _search(self, question: str, user: str) -> "_Searched":
        begun = perf_counter()
        also = self._expand(question) if self._expand else ""
        asked = f"{question} {also}" if also else question

        def find(query: str) -> list[Hit]:
            return self.store.search(query, k=max(DEEP, self.reader.top), as_user=user)

        first, statistics = find(asked), self.store.statistics()
        detail = f"{min(len(first), self.reader.top)} 断片" + (f"、補った語: {also}" if also else "")
        step = Step("検索", detail, perf_counter() - begun)
        found = self._adaptive.further(asked, first, find, self.reader.top, statistics)
        return _Searched(begun, also, step, found, statistics.idf)

    def _whole(self, searched: "_Searched", answer: Answer) -> Answer:
        """Return the reader's answer with what searching adds to it."""
        found, seconds = searched.found, perf_counter() - searched.begun
        read, written = answer.prompt_tokens + found.prompt_tokens, answer.completion_tokens + found.completion_tokens
        return dataclasses.replace(
            answer,
            hits=found.hits,
            trace=(searched.step, *found.trace, *answer.trace),
            seconds=seconds,
            prompt_tokens=read,
            completion_tokens=written,
            yen=self._prices.call(seconds, read, written),
        )


class _Searched(NamedTuple):
    """What a question's search found, and since when it is being answered."""

    begun: float
    also: str
    step: Step
    found: Found
    idf: Callable[[str], float]


class KeywordSearch:
    """The baseline: plain keyword search and the first sentence of the top hit. It never says that it does not know."""

    name = "キーワード検索"

    def __init__(self, store: Store) -> None:
        self.store = store
        self._prices = prices.read_prices(settings.load().prices)

    @property
    def identity(self) -> str:
        """What would change the answers: the documents."""
        return self.store.fingerprint()

    def __call__(self, question: str, *, user: str = "") -> Answer:
        """Answer one question as one user (see ``Rag.__call__``)."""
        begun = perf_counter()
        hits = self.store.keyword_search(question, k=5, as_user=user)
        seconds = perf_counter() - begun
        first = readable(hits[0])[0] if hits else NOT_FOUND
        return Answer(
            first,
            tuple(Citation.of(hit.chunk, first) for hit in hits[:1]),
            confidence=float(bool(hits)),
            abstained=not hits,
            reader=self.name,
            seconds=seconds,
            yen=self._prices.call(seconds),
            hits=tuple(hits),
            trace=(Step("検索", f"{len(hits)} 断片", seconds),),
        )
