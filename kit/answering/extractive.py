"""The extractive reader: one or two sentences of the documents, word for word, with their citation. No model.

Sentences of the best chunks are scored by BM25 plus their chunk's score. Confidence is a logistic curve over the idf
coverage of the question (unknown words weigh most), fitted on development questions; below a threshold the reader
abstains. The raw score and the margin are never used for that: they separate answerable from unanswerable worse.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from kit import views
from kit.answering.hints import find_span
from kit.knowledge import japanese
from kit.knowledge.ranking import bm25, coverage
from kit.knowledge.rows import index_text
from kit.records import Answer, Chunk, Citation, Hit, Step

NOT_FOUND = "資料に見当たりません。"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence = 1 / (1 + exp(-(intercept + slope × coverage))); below ``threshold`` the reader abstains."""

    intercept: float
    slope: float
    threshold: float
    source: str
    """What it was fitted on, in Japanese, for the summary."""

    def _repr_html_(self) -> str:
        return views.paragraphs(f"確信度が {self.threshold:.2f} 未満なら「{NOT_FOUND}」と答えます（調整: {self.source}）。")


SHIPPED = Calibration(-2.14, 4.84, 0.40, "キット同梱の値（見本の開発用質問60問で調整）")


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
        best, covered = find(f"{question} {also}", hits[: self.top], idf)
        confidence = self.confidence(covered) if best else 0.0
        detail = f"語の網羅率 {covered:.2f}、確信度 {confidence:.2f}（しきい値 {self.calibration.threshold:.2f}）"
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

    def confidence(self, covered: float) -> float:
        """Turn idf coverage (0–1) into the probability that the shown sentences hold the answer."""
        return 1 / (1 + math.exp(-(self.calibration.intercept + self.calibration.slope * covered)))


def find(question: str, hits: Sequence[Hit], idf: Callable[[str], float]) -> tuple[list[Sentence], float]:
    """Find the two best sentences of some hits.

    Returns:
        At most two sentences, best first, and the share (0–1) of the question's idf weight that the first one's
        chunk, title and headings cover.
    """
    tokens = japanese.query(question)
    pairs = [(text, hit) for hit in hits for text in readable(hit)]
    scores = bm25(tokens, [japanese.union(japanese.normalise(text)) for text, _ in pairs], idf)
    found = [Sentence(text, hit, score + _whole(hit)) for (text, hit), score in zip(pairs, scores, strict=True)]
    ranked = sorted(found, key=lambda sentence: -sentence.score)
    # The same sentence in another edition, or twice in one text, is no second sentence.
    best = ranked[:1] + [sentence for sentence in ranked if sentence.text != ranked[0].text][:1]
    return best, coverage(tokens, chunk_tokens(best[0].hit.chunk), idf) if best else 0.0


def _whole(hit: Hit) -> float:
    """The score of a sentence's chunk, on the scale of the sentence's own."""
    return hit.parts.words + hit.parts.grams if hit.parts else hit.score


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
