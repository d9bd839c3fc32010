"""Ranking of chunks: BM25 over words and over character 1-2-grams, of the whole chunk and of its best sentence.

Each of the four scores is divided by the best candidate's, so that they can be added: words + grams, and ``SENTENCE``
times the best sentence's two. A vector's likeness, where there is one, is added with the weight fitted for it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from kit.knowledge import japanese
from kit.records import Hit, Parts

if TYPE_CHECKING:
    from kit.knowledge.corpus import Statistics

K1 = 0.3
B = 0.9
"""Low k1 and high b, chosen on JSQuAD (../shared notes; confirmed in DECISIONS.md)."""
SENTENCE = 0.4
"""Weight of the best sentence beside its whole chunk (DECISIONS.md)."""


@dataclass(frozen=True, slots=True)
class Text:
    """A chunk as ranking sees it: first its title and headings, then its sentences."""

    words: Sequence[Sequence[str]]
    """Of each part, its words."""
    letters: Sequence[str]
    """Of each part, its normalised text."""


def measure(question: Iterable[str], texts: Sequence[Text], weights: "Statistics") -> list[Parts]:
    """Score texts against a question by BM25, part by part (Robertson; k1 = 0.3, b = 0.9).

    All is counted in one pass over the letters of all texts: to look for each token in each sentence took half of a search.

    Args:
        question: Its tokens, the words marked as in ``japanese.query``; repeated ones count once.
        texts: The candidates.
        weights: The corpus.
    """
    if not texts:
        return []
    import numpy as np

    tokens = list(dict.fromkeys(question))
    asked = {word[2:]: column for column, word in enumerate(token for token in tokens if token.startswith("w:"))}
    sought = sorted((token for token in tokens if not token.startswith("w:")), key=_code)
    idf = np.array(weights.idfs([*(f"w:{word}" for word in asked), *sought]))
    lines = [line for text in texts for line in text.words]
    held = [row * len(asked) + asked[word] for row, line in enumerate(lines) for word in line if word in asked]
    counts = np.bincount(np.array(held, int), minlength=len(lines) * len(asked)).reshape(len(lines), len(asked))
    lengths = np.array([len(line) for line in lines])
    firsts = np.cumsum([0, *(len(text.words) for text in texts[:-1])])
    by_words = _whole_and_best(counts, lengths, firsts, idf[: len(asked)], weights.words, weights.sentence_words)
    counts, lengths = _count_grams(sought, [part for text in texts for part in text.letters])
    firsts = np.cumsum([0, *(len(text.letters) for text in texts[:-1])])
    by_grams = _whole_and_best(counts, lengths, firsts, idf[len(asked) :], weights.grams, weights.sentence_grams)
    rows = zip(by_words[0], by_grams[0], by_words[1], by_grams[1], strict=True)
    return [Parts(*map(float, row)) for row in rows]


def _whole_and_best(counts: Any, lengths: Any, firsts: Any, idf: Any, mean: float, mean_of_part: float) -> tuple[Any, Any]:
    """Return BM25 of each text and of the best part of each.

    Args:
        counts: How often each token (column) stands in each part (row).
        lengths: Of the parts, in tokens.
        firsts: Of each text, the number of its first part; every text has a part.
        idf: Of each token.
        mean: Length of a text in the corpus.
        mean_of_part: Length of a part in the corpus.
    """
    import numpy as np

    def score(counts: Any, lengths: Any, mean: float) -> Any:
        norm = K1 * (1 - B + B * lengths / mean)
        # No matrix product, which adds in an order that depends on the row: equal texts must score equally, to the last bit.
        return (idf * counts * (K1 + 1) / (counts + norm[:, None])).sum(axis=1)

    whole = score(np.add.reduceat(counts, firsts), np.add.reduceat(lengths, firsts), mean)
    return whole, np.maximum.reduceat(score(counts, lengths, mean_of_part), firsts)


def _count_grams(sought: Sequence[str], parts: Sequence[str]) -> tuple[Any, Any]:
    """Return how often each part (row) holds each gram (column; sorted by code), and the number of all grams of each part."""
    import numpy as np

    letters = np.frombuffer("\n".join(parts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    owners = np.repeat(np.arange(len(parts)), [len(part) + 1 for part in parts])[: len(letters)]
    single = _letters()[np.minimum(letters, 0xFFFF)]
    double = single[:-1] & single[1:]  # no gram crosses a blank or punctuation, so none crosses the end of a part
    codes = np.concatenate((letters[single], (letters[:-1] << np.uint64(32) | letters[1:])[double]))
    owners = np.concatenate((owners[single], owners[:-1][double]))
    known = np.array([*map(_code, sought), 2**64 - 1], np.uint64)  # the last one, which no gram has, keeps every place valid
    columns = np.searchsorted(known, codes)
    held = known[columns] == codes
    cells = np.bincount(owners[held] * len(known) + columns[held], minlength=len(parts) * len(known))
    return cells.reshape(len(parts), len(known))[:, :-1], np.bincount(owners, minlength=len(parts))


def _code(gram: str) -> int:
    """Return one number for one or two letters."""
    return ord(gram) if len(gram) == 1 else ord(gram[0]) << 32 | ord(gram[1])


@cache
def _letters() -> Any:
    """Return of each code point of the basic plane whether it is a letter of grams; all beyond are."""
    import numpy as np

    every = "".join(map(chr, range(0x10000)))
    kept = set("".join(japanese.runs(every)))
    return np.array([letter in kept for letter in every])


def combine(parts: Sequence[Parts], likeness: float = 0.0) -> list[float]:
    """Add up the parts of each candidate, each divided by the best candidate's; 0–2.8, and ``likeness`` times the cosine."""

    def share(values: list[float]) -> list[float]:
        best = max(values, default=0.0)
        return [value / best if best > 0 else 0.0 for value in values]

    columns = (share([getattr(part, kind) for part in parts]) for kind in ("words", "grams", "sentence_words", "sentence_grams"))
    return [
        words + grams + SENTENCE * (sentence_words + sentence_grams) + likeness * part.likeness
        for words, grams, sentence_words, sentence_grams, part in zip(*columns, parts, strict=True)
    ]


def scored(hits: Sequence[Hit], likeness: float = 0.0) -> list[Hit]:
    """Return hits with the scores that their parts combine to, best first."""
    scores = combine([hit.parts for hit in hits if hit.parts], likeness)
    # The index gives equal scores in any order.
    found = (replace(hit, score=score) for hit, score in zip(hits, scores, strict=True))
    return sorted(found, key=lambda hit: (-hit.score, hit.chunk.document, hit.chunk.ordinal))


def ranked(hits: Sequence[Hit], k: int) -> list[Hit]:
    """Return the first k hits with their ranks."""
    return [replace(hit, rank=rank) for rank, hit in enumerate(hits[:k], 1)]


def margin(hits: Sequence[Hit]) -> float:
    """Return by which share (0–1) of its score the first hit is ahead of the second; 1 for a single hit, 0 for none.

    Predicts whether the first one is the right one among answerable questions (AUC .95 on JSQuAD), not whether the documents hold an
    answer at all.
    """
    if len(hits) < 2:
        return float(len(hits))
    return 1 - hits[1].score / hits[0].score if hits[0].score > 0 else 0.0


def bm25(
    question: Iterable[str], texts: Sequence[Sequence[str]], idf: Callable[[str], float], mean_length: float = 0.0
) -> list[float]:
    """Score texts that are given by their tokens, all of one kind (see ``measure``).

    Args:
        question: Tokens of the question; repeated tokens count once.
        texts: Tokens of each text.
        idf: Weight of a token in the corpus.
        mean_length: Mean length of a text in tokens; 0 takes the mean of ``texts``.

    Returns:
        One score per text, 0 where no token matches.
    """
    weights = {token: idf(token) for token in set(question)}
    mean = mean_length or sum(map(len, texts)) / max(1, len(texts)) or 1.0

    def score(tokens: Sequence[str]) -> float:
        norm, held = K1 * (1 - B + B * len(tokens) / mean), Counter(tokens)
        return sum(weight * n * (K1 + 1) / (n + norm) for token, weight in weights.items() if (n := held.get(token)))

    return [score(tokens) for tokens in texts]


def coverage(question: Iterable[str], text: Iterable[str], idf: Callable[[str], float]) -> float:
    """Return the share (0–1) of the question's idf weight that the text's tokens cover; 0 for an empty question."""
    weights = {token: idf(token) for token in set(question)}
    total = sum(weights.values())
    return sum(weights[token] for token in weights.keys() & set(text)) / total if total else 0.0
