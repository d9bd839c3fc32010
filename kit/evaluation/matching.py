"""How Japanese wordings, places and documents are compared: pure functions; what two people would call the same is the same.

A number counts only as a whole, and NFKC, case, blanks, kinds of dashes and commas between thousands never count.

ROUGE and BLEU count Japanese words. The usual tokenisers of both cut at blanks, which Japanese does not write: they give
0 to equal texts. Words are Sudachi's here (surface forms, particles included), of the text as ``bare`` compares it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice, product
from pathlib import PurePosixPath
from typing import Any

from kit.knowledge import japanese
from kit.records import Evidence

_ALIKE = str.maketrans({"〜": "~"} | dict.fromkeys("‐‑‒–—―−", "-"))  # NFKC leaves these apart from ～ and －
NUMERALS = "〇一二三四五六七八九十百千万億兆"
_MOST_WORDINGS = 256  # ways to word an answer of many parts that are tried: five parts of four wordings make 1,024


@lru_cache(maxsize=1024)  # every metric of a row compares the same texts
def comparable(text: str) -> str:
    """Return NFKC lower-case text with one kind of dash, without blanks and without commas between thousands.

    One blank stays between two digits, and ① counts as a number of its own: neither "1 20日" nor ①20日 is 120日.
    """
    apart = "".join(f" {c} " if unicodedata.category(c) == "No" else c for c in text)
    folded = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", apart).lower().translate(_ALIKE))
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))|(?<!\d) | (?!\d)", "", folded)


def contains(shown: str, answers: Sequence[Sequence[str]]) -> bool:
    """Whether every part of the gold answer stands in the shown text in one of its wordings.

    A number counts only as a whole: 20日 does not stand in 120日, nor 十日 in 二十日.
    """
    text = comparable(shown)
    return bool(answers) and all(any(_stands_in(comparable(word), text) for word in part) for part in answers)


def exact_match(text: str, answers: Sequence[Sequence[str]]) -> float:
    """Return 1.0 if the text is one wording of a one-part gold answer (NFKC; outer quotes and full stops stripped)."""
    given = bare(text)
    return float(len(answers) == 1 and any(given == bare(word) != "" for word in answers[0]))


def character_f1(text: str, answers: Sequence[Sequence[str]]) -> float:
    """Return the bag-of-characters F1 (0–1) with the best wording of all parts together; 0.0 without an answer.

    Compared like an exact match, so that one of those has F1 1.0.
    """
    given = Counter(bare(text))
    return max((overlap_f1(given, Counter(wanted)) for wanted in wordings(answers)), default=0.0)


def overlap_f1(given: Counter[Any], wanted: Counter[Any]) -> float:
    """Return the F1 (0–1) of two bags: what both hold, against the mean of their sizes."""
    common = (given & wanted).total()
    return 2 * common / (given.total() + wanted.total()) if common else 0.0


def edit_similarity(text: str, other: str) -> float:
    """Return 1 - Levenshtein distance / length of the longer (0–1), compared like an exact match; 1.0 for two empty texts."""
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_similarity(bare(text), bare(other)))


def wordings(answers: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the ways to word all parts of a gold answer together, as they are compared; none without an answer."""
    ways = islice(product(*answers), _MOST_WORDINGS) if answers else ()
    return ("".join(map(bare, words)) for words in ways)


@lru_cache(maxsize=1 << 16)
def same_document(name: str, gold: str) -> bool:
    """Whether a stored document is the gold one; the gold name may leave out folder and extension."""
    folded = (unicodedata.normalize("NFKC", text).replace("\\", "/") for text in (name, gold))  # as in Windows
    stored, wanted = map(PurePosixPath, folded)
    if not stored.name:
        return False
    return wanted in (stored, PurePosixPath(stored.name), PurePosixPath(stored.stem), stored.with_suffix(""))


def same_place(found: Evidence, gold: Evidence) -> bool:
    """Whether a found place is the gold place: the document, and page, sheet and slide where both name them.

    A Word file has no pages to compare: a page that people wrote down for it is not held against the answer.
    """
    place, wanted = found.place, gold.place
    return (
        same_document(found.document, gold.document)
        and (not wanted.page or place.page in (0, wanted.page))
        and (not wanted.sheet or not place.sheet or comparable(place.sheet) == comparable(wanted.sheet))
        and (not wanted.slide or place.slide in (0, wanted.slide))
    )


def bare(text: str) -> str:
    """Return a comparable text without the quotation marks, brackets and full stops around it."""
    return comparable(text).strip("「」『』()。、.")


def _stands_in(word: str, text: str) -> bool:
    if not word:
        return False
    before = r"(?<!\d)(?<!\d\.)" if word[0].isdigit() else rf"(?<![{NUMERALS}])" if word[0] in NUMERALS else ""
    after = r"(?!\d|\.\d|[千万億兆])" if word[-1].isdigit() else rf"(?![{NUMERALS}])" if word[-1] in NUMERALS else ""
    return re.search(before + re.escape(word) + after, text) is not None


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
