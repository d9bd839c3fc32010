"""The values that flow through the house, in the order in which they arise.

files → Document → Chunk → [Store] → Hit → Answer(+Trace) → Row → Evaluation → Decision → Summary

All are frozen; functions take values and return values, and a returned value is never mutated.
Shares and probabilities are 0.0–1.0, times are seconds, money is yen, tokens are counted by the server.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kit import views
from kit.agreements import Criteria as Criteria, Kpi as Kpi, Seal as Seal

EVERYONE = "everyone"
"""The reader group that a search without a user belongs to, and the readers of a chunk unless said otherwise."""

ARM_WORDS = {"baseline": "比較対象", "candidate": "候補"}
"""What people read for the names of the usual arms."""

READER_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
"""What a reader may be called (``fullmatch``)."""

Outcome = Literal["GO", "NO-GO", "EXTEND"]
State = Literal[
    "answered", "wrong_format", "model_error", "timeout", "infrastructure_error", "judge_error", "not_run"
]
"""How one sample ended. The first four are the candidate's own doing; the last three open to 1 in the best case."""
OPEN_STATES: frozenset[str] = frozenset({"infrastructure_error", "judge_error", "not_run"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text stands in its file. Numbers count from 1; 0 and "" mean "does not apply"."""

    page: int = 0
    sheet: str = ""
    row: int = 0
    slide: int = 0
    headings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The place as a Japanese reader would write it, for example ``3頁``; "" when the whole file is meant."""
        parts = (
            (self.page, f"{self.page}頁"),
            (self.sheet, f"シート「{self.sheet}」"),
            (self.row, f"{self.row}行目"),
            (self.slide, f"スライド{self.slide}"),
            (self.headings, " > ".join(self.headings)),
        )
        return " ".join(text for applies, text in parts if applies)


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of text of one place: a paragraph, a table row with its header, a heading's body."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Document:
    """One file, read. A file that could not be read has no blocks and says why in ``problem`` (one Japanese line)."""

    id: str
    """sha256 of the file's bytes, 64 hex digits; "" when the bytes could not be read."""
    name: str
    """Path below the loaded folder, with ``/``, NFC."""
    title: str
    blocks: tuple[Block, ...] = field(default=(), repr=False)
    readers: tuple[str, ...] = (EVERYONE,)
    problem: str = ""
    doubts: tuple[str, ...] = ()
    """What was left out, or read but is doubtful: one Japanese line each."""
    date: str = ""
    """Day of this edition (``2024-04-01``), "" where nothing tells it."""

    @property
    def text(self) -> str:
        """All blocks, joined by newlines."""
        return "\n".join(block.text for block in self.blocks)

    def _repr_html_(self) -> str:
        if self.problem:
            return views.paragraphs(f"× {self.name}: {self.problem}")
        rows = [(block.place.label, block.text[:80]) for block in self.blocks[:8]]
        shown = views.table(("場所", "本文（先頭）"), rows, f"{self.title}（{self.name}、{len(self.blocks)}箇所）")
        return shown + views.paragraphs(*(f"△ {line}" for line in self.doubts))


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of search: consecutive blocks of one document and one place, ending at a sentence."""

    id: str
    document_id: str
    document: str
    """Name of the document (see ``Document.name``)."""
    title: str
    text: str
    place: Place
    ordinal: int
    """Position within its document, from 0."""
    readers: tuple[str, ...]
    date: str = ""
    """Day of the document's edition (see ``Document.date``)."""
    start: int = 0
    """Where it stands in its document: ``document.text[start:end]`` is its text."""
    end: int = 0
    parent: str = ""
    """Id of the first chunk of its section: what to widen to is all chunks of the document with the same parent."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a hit's score consists of (see ``kit.knowledge.ranking``): raw BM25 values, except ``likeness``."""

    words: float
    grams: float
    sentence_words: float
    sentence_grams: float
    likeness: float = 0.0
    """Cosine of the vectors of question and chunk (-1–1), where an embedder is configured."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that search found; ``score`` orders hits of one query and means nothing across queries."""

    chunk: Chunk
    score: float
    rank: int
    """From 1."""
    parts: Parts | None = None
    also: tuple[Chunk, ...] = ()
    """Near-duplicates and older editions of the chunk, which the user may read, too."""


@dataclass(frozen=True, slots=True)
class Citation:
    """The place an answer rests on, with the text that stands there word for word."""

    document: str
    title: str
    place: Place
    quote: str
    chunk_id: str

    @classmethod
    def of(cls, chunk: Chunk, quote: str) -> "Citation":
        """Cite a stretch of a chunk's text."""
        return cls(chunk.document, chunk.title, chunk.place, quote, chunk.id)

    @property
    def label(self) -> str:
        """Title and place, as shown under an answer."""
        return f"{self.title} {self.place.label}".strip() + f"（{self.document}）"


@dataclass(frozen=True, slots=True)
class Step:
    """One step on the way to an answer."""

    name: str
    detail: str
    seconds: float


Trace = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader says to a question. ``abstained`` means 「資料に見当たりません」, a first-class outcome."""

    text: str
    citations: tuple[Citation, ...] = ()
    confidence: float = 0.0
    abstained: bool = False
    hint: str = ""
    """A short span found by rule, to draw the eye; never judged."""
    reader: str = ""
    state: State = "answered"
    error: str = ""
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    yen: float = 0.0
    hits: tuple[Hit, ...] = field(default=(), repr=False)
    trace: Trace = field(default=(), repr=False)
    prompt: str = field(default="", repr=False)
    """Exactly what was sent to a model; "" for a reader without one."""
    misquoted: int = 0
    """Quotes that the reader dropped: they stand nowhere in what they name."""
    attempts: int = 1
    """Times that the model was asked for it, troubles that passed included."""
    first_state: State | Literal[""] = ""
    """How the first attempt ended, where it was not the last one."""

    @property
    def shown(self) -> str:
        """All that the asker sees: the text and the titles and places of its citations."""
        return "\n".join((self.text, *(citation.label for citation in self.citations)))

    def page(self, source: Callable[[Citation], str]) -> str:
        """Draw the answer for Jupyter; ``source`` draws one of its sources."""
        cited = {citation.label: citation for citation in self.citations}.values()
        hint = [f"手がかり: {self.hint}"] * bool(self.hint)
        facts = f"確信度 {self.confidence:.2f}、{self.seconds:.2f} 秒、{self.reader}"
        return views.paragraphs(self.text, *(views.html("出典: ", source(c)) for c in cited), *hint, facts)

    def _repr_html_(self) -> str:
        return self.page(lambda citation: citation.label)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where the gold answer stands: the document's name and, as far as known, the place."""

    document: str
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Case:
    """One question with its gold answer.

    ``answers`` holds the parts that must all be in a right answer, each with its alternative wordings;
    it is empty for a question that the documents do not answer.
    """

    id: str
    question: str
    answers: tuple[tuple[str, ...], ...] = ()
    evidence: tuple[Evidence, ...] = ()
    category: str = ""
    kind: str = ""
    user: str = ""
    """The asker; "" is a member of ``everyone`` only."""

    @property
    def answerable(self) -> bool:
        """Whether the documents hold an answer."""
        return bool(self.answers)


@dataclass(frozen=True, slots=True)
class Row:
    """One finished sample: what one arm did with one question. Scores are computed later, from rows and cases."""

    case: str
    arm: str
    state: State
    text: str
    shown: str = field(repr=False)
    abstained: bool
    confidence: float
    cited: tuple[Evidence, ...] = field(repr=False)
    retrieved: tuple[Evidence, ...] = field(repr=False)
    """Best first."""
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    yen: float
    error: str = ""
    attempts: int = 1
    """Times it was asked, by the evaluation and by the client below it."""
    first_state: State | Literal[""] = ""
    """How the first attempt ended, where it was not the last one; "" where the first attempt counts."""
    quotes: tuple[str, ...] = field(default=(), repr=False)
    """What the citations quote, word for word."""
    misquoted: int = 0
    """Quotes that do not stand in what they name."""
    asked: str = ""
    """The question that was asked (``cases.question_hash``); "" in rows of earlier versions."""

    @property
    def first(self) -> State:
        """How the first attempt ended: what the error KPI counts."""
        return self.first_state or self.state

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Row":
        """Rebuild a row from ``to_json``."""
        infinite = {name: float(data[name]) for name in ("confidence", "seconds", "yen") if isinstance(data[name], str)}
        cited, retrieved = _evidence(data["cited"]), _evidence(data["retrieved"])
        quotes = tuple(data.get("quotes", ()))
        return cls(**{**data, **infinite, "cited": cited, "retrieved": retrieved, "quotes": quotes})


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Samples of all arms on the sealed questions, paired by question."""

    folder: Path
    seal: Seal
    cases: tuple[Case, ...] = field(repr=False)
    arms: tuple[str, ...]
    """Baseline first, candidate last."""
    rows: tuple[Row, ...] = field(repr=False)

    def of(self, arm: str) -> dict[str, Row]:
        """Rows of one arm by case id."""
        return {row.case: row for row in self.rows if row.arm == arm}

    def _repr_html_(self) -> str:
        rows = []
        for arm in self.arms:
            states = [row.state for row in self.of(arm).values()]
            failed = sum(state != "answered" for state in states)
            rows.append((ARM_WORDS.get(arm, arm), f"{len(states)} / {len(self.cases)} 問", failed))
        return views.table(("方式", "実行済み", "失敗"), rows, f"評価 {self.folder.name}")


@dataclass(frozen=True, slots=True)
class KpiResult:
    """One KPI, judged. ``low`` and ``high`` are one-sided bounds at the sealed alpha, worst and best case."""

    kpi: Kpi
    n: int
    point: float
    low: float
    high: float
    baseline: float | None
    """The baseline arm's point value; None where there is only one arm."""
    outcome: Outcome | None
    """None for a KPI that does not decide (``info``)."""
    reason: str
    needed: int = 0
    """Questions that would settle an EXTEND if the truth is the point value; 0 when unknown."""

    @property
    def word(self) -> str:
        """What became of it, as people read it; GO and NO-GO are said of the whole decision only."""
        broken = self.kpi.role == "guardrail" and self.high < -self.kpi.bar
        return {"GO": "達成", "NO-GO": "未達", "EXTEND": "未達" if broken else "未確定", None: "参考"}[self.outcome]


@dataclass(frozen=True, slots=True)
class Decision:
    """GO, NO-GO or EXTEND with what the summary needs; ``decision.json`` holds it and the samples behind it."""

    outcome: Outcome
    reason: str
    kpis: tuple[KpiResult, ...] = field(repr=False)
    seal: Seal
    folder: Path
    arms: tuple[str, ...]
    states: dict[str, dict[str, int]]
    """Arm → end state → count."""
    facts: dict[str, Any] = field(repr=False)
    """Counts, hashes, versions: what the summary shows beside the KPIs. Plain JSON values."""

    def _repr_html_(self) -> str:
        rows = [
            (r.kpi.label + ("：安全条件（比較対象との差）" if r.kpi.role == "guardrail" else ""), r.word, r.reason)
            for r in self.kpis
        ]
        head = views.paragraphs(f"判定: {self.outcome}", self.reason)
        return head + views.table(("KPI", "結果", "理由"), rows)


def _evidence(items: list[dict[str, Any]]) -> tuple[Evidence, ...]:
    return tuple(Evidence(item["document"], place_from_json(item["place"])) for item in items)


def place_from_json(data: dict[str, Any]) -> Place:
    """Rebuild a place from ``to_json``."""
    return Place(**{**data, "headings": tuple(data["headings"])})
