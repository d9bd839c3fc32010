"""The extractive reader: one or two sentences of the documents, word for word, with their citation. No model.

Sentences of the best chunks are scored by BM25 plus their chunk's score. Confidence is a logistic curve over three signs
that the answer is there (``Signs``); below a threshold the reader abstains. The raw score is never used for that: it
separates answerable from unanswerable worse.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from kit import views
from kit.answering.hints import find_span
from kit.knowledge import japanese
from kit.knowledge.ranking import bm25, coverage, margin
from kit.knowledge.rows import index_text
from kit.records import Answer, Chunk, Citation, Hit, Step

NOT_FOUND = "資料に見当たりません。"
CHUNK = 4.0
"""Weight of a chunk's score, divided by the best one's, beside its sentence's BM25 (at most about 2.6 in all)."""
FITS = 0.3
"""What a sentence gains by holding the kind of thing that was asked for, such as a date. Both fitted on JaQuAD (DECISIONS.md)."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What speaks for an answer being there. A word that no document holds weighs most, and is covered by nothing."""

    chunk: float
    """BM25 of the best sentence's chunk by the question's idf weight, mean of words and grams; about 0–1."""
    sentence: float
    """Share (0–1) of the question's idf weight that the best sentence covers, with its title and headings."""
    margin: float
    """By which share (0–1) of its score the first hit is ahead of the second."""

    @property
    def evidence(self) -> float:
        """Log-odds that the shown sentences hold the answer, for questions like those of JaQuAD.

        Logistic regression on 1,500 of its questions, each asked with all documents, without its article's and
        without its own (``python -m tests.bench.reading … --fit``; CC BY-SA 3.0, no text of it is kept here).
        """
        return -6.94 + 5.24 * self.chunk + 4.29 * self.sentence + 3.99 * self.margin


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence = 1 / (1 + exp(-(intercept + slope × evidence))); below ``threshold`` the reader abstains."""

    intercept: float
    slope: float
    threshold: float
    source: str
    """What it was fitted on, in Japanese, for the summary."""

    def confidence(self, evidence: float) -> float:
        """Return the probability that the shown sentences hold the answer."""
        return 1 / (1 + math.exp(-(self.intercept + self.slope * evidence)))

    def _repr_html_(self) -> str:
        return views.paragraphs(f"確信度が {self.threshold:.2f} 未満なら「{NOT_FOUND}」と答えます（調整: {self.source}）。")


SHIPPED = Calibration(1.44, 0.57, 0.60, "キット同梱の値（見本の開発用質問60問で調整）")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a hit, with the score that ordered it."""

    text: str
    hit: Hit
    score: float


class ExtractiveReader:
    """Reads sentences out of hits.

    Args:
        calibration: The confidence curve and threshold; the shipped one unless fitted on development questions.
        top: Number of hits to read.
    """

    name = "抽出型"

    def __init__(self, calibration: Calibration = SHIPPED, *, top: int = 5) -> None:
        self.calibration = calibration
        self.top = top

    @property
    def identity(self) -> str:
        """Text that changes whenever the answers could."""
        c = self.calibration
        return f"extractive top={self.top} {c.intercept} {c.slope} {c.threshold}"

    def read(self, question: str, hits: Sequence[Hit], idf: Callable[[str], float], *, also: str = "") -> Answer:
        """Answer from hits.

        Args:
            question: The question, any text.
            hits: What search found, best first.
            idf: Weight of a token in the store (``Statistics.idf``).
            also: Words that search added to the question, such as synonyms.

        Returns:
            One or two sentences with their citations, or an abstention; ``hint`` is a span found by rule.
        """
        begun = perf_counter()
        best, signs = find(f"{question} {also}", hits[: self.top], idf)
        confidence = self.calibration.confidence(signs.evidence) if best else 0.0
        detail = f"語の網羅率 {signs.sentence:.2f}、確信度 {confidence:.2f}（しきい値 {self.calibration.threshold:.2f}）"
        step = Step("抽出", detail if best else "質問の語を含む文がありません", perf_counter() - begun)
        if not best or confidence < self.calibration.threshold:
            return Answer(NOT_FOUND, confidence=confidence, abstained=True, reader=self.name, trace=(step,))
        shown = list(best)
        if len({sentence.hit.chunk.id for sentence in best}) == 1:  # sentences of one chunk are read in their order
            shown.sort(key=lambda sentence: sentence.hit.chunk.text.find(sentence.text))
        return Answer(
            text="\n".join(sentence.text for sentence in shown),
            citations=tuple(Citation.of(sentence.hit.chunk, sentence.text) for sentence in best),
            confidence=confidence,
            hint=find_span(question, best[0].text),
            reader=self.name,
            trace=(step,),
        )


def find(question: str, hits: Sequence[Hit], idf: Callable[[str], float]) -> tuple[list[Sentence], Signs]:
    """Find the two best sentences of some hits.

    Returns:
        At most two sentences, best first, and what speaks for the answer being in them.
    """
    asked = japanese.query(question)
    words, grams = _split(asked)
    weights = [sum(map(idf, set(kind))) or 1.0 for kind in (words, grams)]
    pairs = [(text, hit) for hit in hits for text in readable(hit)]
    tokens = [_split(japanese.union(japanese.normalise(text))) for text, _ in pairs]
    by_word = bm25(words, [text for text, _ in tokens], idf)
    by_gram = bm25(grams, [text for _, text in tokens], idf)
    best_score = max((hit.score for hit in hits), default=0.0) or 1.0
    found = [
        Sentence(text, hit, w / weights[0] + g / weights[1] + CHUNK * hit.score / best_score + FITS * bool(find_span(question, text)))
        for (text, hit), w, g in zip(pairs, by_word, by_gram, strict=True)
    ]
    if not found:
        return [], Signs(0.0, 0.0, 0.0)
    ranked = sorted(found, key=lambda sentence: -sentence.score)
    first = ranked[0]
    # The same sentence in another edition, or twice in one text, is no second sentence.
    best = [first, *[sentence for sentence in ranked if sentence.text != first.text][:1]]
    chunk = first.hit.chunk
    alone = japanese.union(japanese.normalise(index_text(chunk.title, chunk.place.headings, first.text)))
    parts = first.hit.parts
    whole = (parts.words / weights[0] + parts.grams / weights[1]) / 2 if parts else coverage(asked, chunk_tokens(chunk), idf)
    return best, Signs(whole, coverage(asked, alone, idf), margin(hits))


def _split(tokens: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part words from grams."""
    return [t for t in tokens if t.startswith("w:")], [t for t in tokens if not t.startswith("w:")]


def readable(hit: Hit) -> list[str]:
    """Return a chunk's sentences without those that only repeat its headings: the citation shows them anyway."""
    found = [text.strip() for text in japanese.sentences(hit.chunk.text)]
    headings = {_bare(heading) for heading in (hit.chunk.title, *hit.chunk.place.headings)}
    return [text for text in found if text and _bare(text) not in headings] or [text for text in found if text]


def _bare(text: str) -> str:
    return re.sub(r"[\s#■【】]+", "", text)


def chunk_tokens(chunk: Chunk) -> tuple[str, ...]:
    """Return the tokens of a chunk with its title and headings."""
    return japanese.union(japanese.normalise(index_text(chunk.title, chunk.place.headings, chunk.text)))
