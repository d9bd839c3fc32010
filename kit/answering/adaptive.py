"""Adaptive retrieval: a search in doubt goes further, hop by hop, within a budget; one that is sure of itself never does.

A hop makes another query out of the question and of what was found so far, and joins what that finds. Whatever a hop
looks at was found for the user who asks, so nothing beyond his rights can come in, not even as a word in the trace.
On by default are the hops that gained on the data at hand, none of it held out; what each gained, and which were tried
and left out, stands in DECISIONS.md (2026-11-22, adaptive retrieval; ``python -m tests.bench.adaptive``).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from time import perf_counter
from typing import Any, Literal

from kit.answering.extractive import chunk_tokens
from kit.answering.llm import closed_object, plain
from kit.knowledge import japanese, ranking
from kit.knowledge.corpus import Statistics, searched
from kit.knowledge.retrieval import LONGEST
from kit.knowledge.rows import row_of
from kit.records import Hit, Step
from kit.serving.chat import Chat, ChatError

MARGIN = 0.13
"""A first hit that is ahead by less is in doubt: a fifth of jaquad's questions, R@1 .60 among them and .98 among the others."""
COVERAGE = 0.3
"""So is one that covers less of the question: 1 % of jaquad, whose askers had the text before them, 25 % of niilc, whose had not."""
ONE_PART = 0.6
"""A chunk that covers more of the question answers it as a whole; nine in ten questions made of two are covered by less."""
SEARCHES = 2
"""Further searches; each costs what a search costs (20 ms), and there are two hops that pay."""
SECONDS = 2.0
"""No hop begins later than this after the first: with the answer it stays below the 3 s after which people rather telephone."""
DEEP = 20
"""Hits that hops look at and join: as many as the store compares with one another."""

_TWO_PARTS = re.compile(
    r"どちら|どっち|違|比べ|比較|同じ|共通|それぞれ|両方|とも[に、]|いずれも|年上|先[にな]|早い|多い|[。！？!?\n]\s*.{4}"
    r"|(?:か|の|と)、|、(?:また|あと|それと|それから|さらに|および)"
)
_MOST_WORDS = 3  # synonyms taken for one word of the question
_SCHEMA = closed_object(text={"type": "string", "maxLength": 200})


@dataclass(frozen=True, slots=True)
class Search:
    """A question and what was found for it so far."""

    question: str
    hits: Sequence[Hit]
    """Best first."""
    shown: int
    """Number of hits that the reader will see."""
    statistics: Statistics

    @property
    def in_doubt(self) -> bool:
        """Whether the first hit may well be the wrong one."""
        return ranking.margin(self.hits) < MARGIN or self.covered() < COVERAGE

    def covered(self) -> float:
        """Return the share (0–1) of the question's idf weight that the best chunk covers."""
        held = chunk_tokens(self.hits[0].chunk) if self.hits else ()
        return ranking.coverage(japanese.query(self.question), held, self.statistics.idf)

    def missing(self) -> list[str]:
        """Return the question's words that the best chunk lacks."""
        held = set(chunk_tokens(self.hits[0].chunk)) if self.hits else set()
        asked = dict.fromkeys(token for token in japanese.query(self.question) if token.startswith("w:"))
        return [token[2:] for token in asked if token not in held]


@dataclass(frozen=True, slots=True)
class Query:
    """What a hop searches for.

    Attributes:
        text: The query; "" where none could be made.
        tried: What it is, for the trace, in Japanese.
        join: Joins the hits of the further search to those so far.
    """

    text: str
    tried: str
    join: Callable[[Search, Sequence[Hit]], list[Hit]]
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Hop:
    """One way of going further.

    Attributes:
        name: What the trace calls it, in Japanese.
        identity: Text that changes whenever what it finds could.
        query: Makes the next query; None where this hop has nothing to try.
    """

    name: str
    identity: str
    query: Callable[[Search], Query | None]


@dataclass(frozen=True, slots=True)
class Found:
    """Where the hops led: hits best first with their ranks, one step for each hop tried, tokens a model took."""

    hits: tuple[Hit, ...]
    trace: tuple[Step, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0


def _by_other_words(search: Search) -> Query | None:
    words = other_words(search) if search.in_doubt and search.missing() else []
    return Query(f"{search.question} {' '.join(words)}", f"補った語: {'、'.join(words)}", agreed) if words else None


OTHER_WORDS = Hop("言い換えて再検索", f"words {MARGIN} {COVERAGE} {_MOST_WORDS}", _by_other_words)
"""A question in doubt again, with other words for those that no hit holds.

Synonyms by Sudachi's dictionary that the hits hold (ドア → 扉) and the short units that a word consists of (人種隔離政策 →
人種, 隔離, 政策). Spelling (サーバ, 打合せ) needs no hop: it is made one in the index.
"""


def _by_remainder(search: Search) -> Query | None:
    two = _TWO_PARTS.search(search.question) and search.covered() < ONE_PART
    rest = " ".join(search.missing()) if two else ""
    return Query(rest, f"先頭の断片にない語: {rest}", one_more) if rest else None


REMAINDER = Hop("残りの語で検索", f"remainder {ONE_PART} {_TWO_PARTS.pattern}", _by_remainder)
"""The second part of a question of two: what the best chunk lacks of it is searched for alone."""


def by_model(chat: Chat, form: Literal["rewrite", "hyde"]) -> Hop:
    """Make a hop whose query is written by a language model, which sees nothing but the question.

    Args:
        chat: The connection to the model server.
        form: ``rewrite`` asks for the question in the words of a document; ``hyde`` for a passage that would answer it
            (Gao et al. 2022), which is searched for in its place.
    """
    template = Path(__file__).with_name("prompts").joinpath(f"{form}_ja.txt").read_text(encoding="utf-8")

    def query(search: Search) -> Query | None:
        if not search.in_doubt:
            return None
        prompt = Template(template).substitute(question=plain(search.question).strip())
        try:
            reply = chat.ask(prompt, max_tokens=256, schema=_SCHEMA)
        except ChatError as error:  # told in the trace; the hits stay as they are
            return Query("", error.what, agreed)
        data: Any = reply.parsed
        text = data.get("text") if reply.state == "answered" and isinstance(data, dict) else None
        written = " ".join(text.split()) if isinstance(text, str) else ""
        tried = f"「{written}」" if written else "モデルの返事が検索文になりませんでした"
        return Query(written, tried, agreed, reply.prompt_tokens, reply.completion_tokens)

    digest = hashlib.sha256(template.encode()).hexdigest()[:16]
    name = {"rewrite": "モデルによる言い換え", "hyde": "仮の回答文で検索"}[form]
    return Hop(name, f"{form} {digest} {chat.model} {chat.identity} {MARGIN} {COVERAGE}", query)


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Goes further where a search is in doubt.

    Args:
        hops: Tried in this order, each on what the ones before it found. A model's hops are off unless named here:
            ``Adaptive((OTHER_WORDS, REMAINDER, by_model(chat, "rewrite")), searches=3)``. Their gain depends on the model.
        searches: Most further searches.
        seconds: No hop begins later than this.
    """

    hops: tuple[Hop, ...] = (OTHER_WORDS, REMAINDER)
    searches: int = SEARCHES
    seconds: float = SECONDS

    @property
    def identity(self) -> str:
        """Text that changes whenever the hits could."""
        return f"adaptive {self.searches} {self.seconds} {' '.join(hop.identity for hop in self.hops)}"

    def further(
        self, question: str, hits: Sequence[Hit], find: Callable[[str], list[Hit]], shown: int, statistics: Statistics
    ) -> Found:
        """Go on from a first search.

        Args:
            question: What was searched for.
            hits: What was found, best first, deeper than what will be shown.
            find: Searches again as the same user.
            shown: Number of hits wanted.
            statistics: The store's counts.

        Returns:
            At most ``shown`` hits and the hops' steps; the hits as they were where nothing was in doubt.

        Raises:
            UnreachableError: A model's hop found no server.
        """
        search = Search(question, hits, shown, statistics)
        trace: list[Step] = []
        tokens, begun = [0, 0], perf_counter()
        for hop in self.hops:
            started = perf_counter()
            if len(trace) >= self.searches or started - begun > self.seconds or not (query := hop.query(search)):
                continue
            before = search.hits[:shown]
            if query.text:
                search = replace(search, hits=query.join(search, find(query.text[:LONGEST])))
            tokens = [tokens[0] + query.prompt_tokens, tokens[1] + query.completion_tokens]
            detail = f"{query.tried}（{_gained(before, search.hits[:shown])}）"
            trace.append(Step(hop.name, detail, perf_counter() - started))
        return Found(tuple(ranking.ranked(search.hits, shown)), tuple(trace), *tokens)


def other_words(search: Search) -> list[str]:
    """Return words that may mean those of the question which no hit holds (see ``OTHER_WORDS``).

    What some hit holds, only not the first one, is left as it is: other words for it broke as many questions as they mended.
    """
    held: Counter[str] = Counter()
    alike: dict[int, set[str]] = {}
    for hit in search.hits:
        for word, groups in japanese.synonym_groups(f"{hit.chunk.title}\n{hit.chunk.text}").items():
            held[word] += 1
            for group in groups:
                alike.setdefault(group, set()).add(word)
    asked, missing = japanese.synonym_groups(search.question), search.missing()
    found: list[str] = []
    for word in (word for word in missing if word not in held):
        synonyms = set().union(*(alike.get(group, ()) for group in asked.get(word, ())))
        found += sorted(synonyms, key=lambda other: (-held[other], other))[:_MOST_WORDS]
        found += japanese.units(word)
    return [word for word in dict.fromkeys(found) if word not in missing]


def agreed(search: Search, more: Sequence[Hit]) -> list[Hit]:
    """Join two searches for one thing: each hit counts its share of its search's best score, and the shares are added.

    A chunk that both queries find moves up; one that only the reworded query finds comes behind those (CombSUM). The
    cautious choice: the reworded search alone broke more questions and mended more (DECISIONS.md).
    """
    shares: dict[str, float] = {}
    for hits in (search.hits, more):
        for hit in hits:
            shares[hit.chunk.id] = shares.get(hit.chunk.id, 0.0) + hit.score / (hits[0].score or 1.0)
    joined = (replace(hit, score=shares[hit.chunk.id]) for hit in (*search.hits, *_new(search, more)))
    return sorted(joined, key=lambda hit: -hit.score)


def one_more(search: Search, more: Sequence[Hit]) -> list[Hit]:
    """Join a search for something else: its best hit takes the last place shown, and costs only what stood there."""
    kept, rest = search.hits[: search.shown - 1], search.hits[search.shown - 1 :]
    best = {hit.chunk.id for hit in more[:1]}
    if found := [hit for hit in rest if hit.chunk.id in best] or _new(search, more[:1]):
        placed = replace(found[0], score=([*kept, *rest[:1]] or found)[-1].score)  # in order between its neighbours
        return [*kept, placed, *(hit for hit in rest if hit is not found[0])]
    return list(search.hits)


def _new(search: Search, more: Sequence[Hit]) -> list[Hit]:
    """Return what was not yet found, neither by itself nor under another hit; its parts are measured by the question."""
    seen = {chunk.id for hit in search.hits for chunk in (hit.chunk, *hit.also)}
    new = [hit for hit in more if seen.isdisjoint(chunk.id for chunk in (hit.chunk, *hit.also))]
    texts = [searched(hit.chunk, row_of(hit.chunk)["words"]) for hit in new]
    parts = ranking.measure(japanese.query(search.question), texts, search.statistics)
    return [replace(hit, parts=part) for hit, part in zip(new, parts, strict=True)]


def _gained(before: Sequence[Hit], after: Sequence[Hit]) -> str:
    fresh = len({hit.chunk.id for hit in after} - {hit.chunk.id for hit in before})
    first = [hit.chunk.id for hit in before[:1]] != [hit.chunk.id for hit in after[:1]]
    return f"新しい断片 {fresh} 件" + ("、先頭が替わりました" if first else "")
