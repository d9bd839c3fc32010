"""BM25 over union tokens: the corpus statistics and the one scoring formula used for chunks and sentences."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

K1 = 0.3
B = 0.9
"""Low k1 and high b, chosen on JSQuAD (../shared notes; confirmed in DECISIONS.md)."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What BM25 needs to know of a corpus: document frequencies, count, mean length in tokens."""

    frequencies: Counter[str]
    count: int
    mean_length: float

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]]) -> "Statistics":
        """Count the tokens of every text of a corpus."""
        frequencies: Counter[str] = Counter()
        count = length = 0
        for tokens in texts:
            frequencies.update(set(tokens))
            count += 1
            length += len(tokens)
        return cls(frequencies, count, length / count if count else 1.0)

    def idf(self, token: str) -> float:
        """Return ln(1 + (N - n + 0.5) / (n + 0.5)); a token of no text gets the maximum, as n = 0."""
        n = self.frequencies[token]
        return math.log1p((self.count - n + 0.5) / (n + 0.5))


def bm25(
    question: Iterable[str], texts: Sequence[Sequence[str]], idf: Callable[[str], float], mean_length: float = 0.0
) -> list[float]:
    """Score texts against a question by BM25 (Robertson; k1 = 0.3, b = 0.9).

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
    scores = []
    for tokens in texts:
        counts = Counter(token for token in tokens if token in weights)
        norm = K1 * (1 - B + B * len(tokens) / mean)
        scores.append(sum(weights[t] * n * (K1 + 1) / (n + norm) for t, n in counts.items()))
    return scores


def coverage(question: Iterable[str], text: Iterable[str], idf: Callable[[str], float]) -> float:
    """Return the share (0–1) of the question's idf weight that the text's tokens cover; 0 for an empty question."""
    weights = {token: idf(token) for token in set(question)}
    total = sum(weights.values())
    return sum(weights[token] for token in weights.keys() & set(text)) / total if total else 0.0
