"""How much of a text's wording another repeats: ROUGE and BLEU over Japanese words.

The usual tokenisers of both cut at blanks, which Japanese does not write: they give 0 to equal texts. Words are Sudachi's
here (surface forms, particles included), of the text as ``matching.bare`` compares it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from kit.evaluation.matching import bare, overlap_f1, wordings
from kit.knowledge import japanese


def rouge_n(given: Sequence[str], wanted: Sequence[str], n: int) -> float:
    """Return the F1 (0–1) of the n-grams of two lists of words, each counted as often as it stands there."""
    return overlap_f1(*(Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in (given, wanted)))


def rouge_l(given: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the F1 (0–1) of the longest common subsequence of two lists of words."""
    from rapidfuzz.distance import LCSseq

    common = LCSseq.similarity(given, wanted)
    return 2 * common / (len(given) + len(wanted)) if common else 0.0


def bleu(given: Sequence[str], wanted: Iterable[Sequence[str]]) -> float:
    """Return sacrebleu's sentence BLEU (0–1) against several references, of the n-gram orders (1–4) that the text is long enough for."""
    score: float = _bleu().sentence_score(" ".join(given), [" ".join(words) for words in wanted]).score
    return min(1.0, max(0.0, score / 100))  # 100.00000000000004 is 1


def overlap(text: str, answers: Sequence[Sequence[str]], measure: str) -> float:
    """Return ``rouge_1``, ``rouge_2``, ``rouge_l`` or ``bleu`` (0–1) against the best wording of all parts of a gold answer."""
    same = [*wordings(answers)]
    if bare(text) in same:
        return float(bare(text) != "")  # of a single word, too, which has no pairs
    given, wanted = _words(bare(text)), [*map(_words, same)]
    if not given or not any(wanted):
        return 0.0
    if measure == "bleu":
        return bleu(given, filter(None, wanted))
    if measure == "rouge_l":
        return max(rouge_l(given, words) for words in wanted)
    return max(rouge_n(given, words, int(measure[-1])) for words in wanted)


@lru_cache(maxsize=4096)
def _words(text: str) -> tuple[str, ...]:
    return tuple(japanese.surfaces(text))


@lru_cache(maxsize=1)
def _bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize="none", effective_order=True)
