"""Ranking of chunks: BM25 over words and over character 1-2-grams, of the whole chunk and of its best sentence.

Each of the four scores is divided by the best candidate's, so that they can be added: words + grams, and ``SENTENCE``
times the best sentence's two. A vector's likeness, where there is one, is added with the weight fitted for it.
"""

import datetime
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from kit.knowledge import japanese
from kit.knowledge.dates import era_date
from kit.records import Chunk, Hit, Parts

if TYPE_CHECKING:
    from kit.knowledge.corpus import Statistics

K1 = 0.3
B = 0.9
"""Low k1 and high b, chosen on JSQuAD (../shared notes; confirmed in DECISIONS.md)."""
SENTENCE = 0.4
"""Weight of the best sentence beside its whole chunk (DECISIONS.md)."""


SAME = 0.8
"""Share of letter pairs that near-duplicates have in common at least (Jaccard)."""
FOLDED = 20
SUBJECT = 0.25
"""Share of letter pairs from which on two editions' chunks are about the same (DECISIONS.md)."""
RIVAL = 0.4
"""Share of an older chunk's score from which on a newer edition's is taken to answer the same question (DECISIONS.md)."""
_MARK = re.compile(
    r"第?\d+(?:\.\d+)*[版訂]|初版|(?<![a-z])(?:ver|rev|v)[._ ]?\d+(?:\.\d+)*|改[定訂正]版?|全面改[定訂正]|施行|制定|年?度?版"
    r"|(?:令和|平成|昭和|(?<![a-z])[rhs])(?:\d+|元)(?:年度?(?:\d+月(?:\d+日)?)?|[./_-]\d+[./_-]\d+)"
    r"|(?<!\d)(?:19|20)\d\d(?:年度?(?:\d+月(?:\d+日)?)?|[./_-]\d{1,2}[./_-]\d{1,2}|\d{2}|\d{4})?(?!\d)|(?<!\d)\d{6}(?!\d)"
    r"|(?<![^\W_])(?:新|旧|現行|最新|確定|最終|old|new|final)(?![^\W_])"
)
"""What tells editions of one document apart in their names."""
_SERIES = re.compile(r"議事|会議|[日週月季年社]報|報告|実績|通信|だより|ニュース|号$|\d月(?!.*(?:版|改|施行))")
"""Names of what appears again and again: September's minutes hold good beside October's."""
_FORMER = re.compile("旧版|旧規|旧制度|新旧|改[定訂正]前|(?:前|以前|過去)の版")
_NUMBER = re.compile(r"^(?:第?[\d〇一二三四五六七八九十.-]+[編章節款条項]?[の\d]*)?\s*")


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


def folded(hits: Sequence[Hit], question: str, today: str = "") -> list[Hit]:
    """Put older editions and near-duplicates under one hit, the newest on top.

    A chunk of an older edition goes under one of a newer edition at hand that is about the same: under the same heading,
    alike by ``SUBJECT``, or as good an answer (``RIVAL``). Where there is none it stays, and likewise where the question names
    its edition (第4版, 2022年) or asks for former ones (旧版, 改定前). An edition that is not in force yet counts as an old one.

    Two chunks beside are folded when they stand in different documents, share ``SAME`` of their letter pairs, and hold the
    same tokens of the question: rows of two tables that differ in what was asked for are no duplicates.

    Args:
        hits: Best first; only the first ``FOLDED`` are compared as near-duplicates.
        question: As it was asked.
        today: The day on which editions must be in force; "" is today by this machine's clock.
    """
    asked = {token.removeprefix("w:") for token in japanese.query(question)}
    question = japanese.normalise(question)
    today = today or datetime.datetime.now().astimezone().date().isoformat()
    hits = _superseded(hits, question, today)
    groups: list[tuple[list[Hit], str, set[str] | None]] = []
    for hit in hits[:FOLDED]:
        letters = japanese.normalise(hit.chunk.text)
        held = None if _meant(hit.chunk, question) else {token for token in asked if token in letters}
        for members, other, also_held in groups:
            elsewhere = hit.chunk.document not in {member.chunk.document for member in members}
            if elsewhere and held is not None and held == also_held and _shared(letters, other) >= SAME:  # the costly one last
                members.append(hit)
                break
        else:
            groups.append(([hit], letters, held))
    shown = []
    for members, *_ in groups:
        newest = max(members, key=lambda hit: _age(hit, today))  # the first of equal ones: the best
        older = [chunk for hit in members if hit is not newest for chunk in (hit.chunk, *hit.also)]
        shown.append(replace(newest, score=members[0].score, also=(*newest.also, *older)))
    return [*shown, *hits[FOLDED:]]


def _superseded(hits: Sequence[Hit], question: str, today: str) -> Sequence[Hit]:
    """Put chunks of older editions under those of newer ones, which take the better of both places."""
    if len({hit.chunk.date for hit in hits} - {""}) < 2:
        return hits
    kept: list[Hit] = []
    under: dict[str, list[Hit]] = {}
    # The newest first, so that the others find those that stay; those of one day in the order of their scores.
    for hit in sorted(hits, key=lambda hit: _age(hit, today), reverse=True):
        home = None if _meant(hit.chunk, question) else _successor(hit, kept)
        if home:
            under.setdefault(home.chunk.id, []).append(hit)
        else:
            kept.append(hit)
    if not under:
        return hits
    shown = []
    for hit in kept:
        older = under.get(hit.chunk.id, [])
        shown.append(replace(hit, score=max(h.score for h in (hit, *older)), also=tuple(h.chunk for h in older)))
    return sorted(shown, key=lambda hit: (-hit.score, hit.chunk.document, hit.chunk.ordinal))


def _age(hit: Hit, today: str) -> tuple[bool, str]:
    """Return what is the greater, the newer the edition; of one not in force yet it is less than of any that is."""
    return hit.chunk.date <= today, hit.chunk.date


def _successor(hit: Hit, newer: Iterable[Hit]) -> Hit | None:
    """Return what a newer edition says in the place of an older one's chunk, None where it says nothing about it."""
    text, heading = japanese.normalise(hit.chunk.text), _heading(hit.chunk)
    others = [other for other in newer if _editions(hit.chunk, other.chunk)]
    alike = {id(other): _shared(text, japanese.normalise(other.chunk.text)) for other in others}
    same = [other for other in others if heading and _heading(other.chunk) == heading]
    if same or max(alike.values(), default=0.0) >= SUBJECT:
        return max(same or others, key=lambda other: alike[id(other)])
    rivals = [other for other in others if other.score >= RIVAL * hit.score]
    return max(rivals, key=lambda other: other.score * alike[id(other)], default=None)


def _heading(chunk: Chunk) -> str:
    """Return the innermost heading without its number."""
    return _NUMBER.sub("", japanese.normalise("".join(chunk.place.headings[-1:]))).strip("() ")


def _meant(chunk: Chunk, question: str) -> bool:
    """Tell whether a normalised question names a chunk's edition, or asks for former ones."""
    marks = re.findall(r"第\d+版", japanese.normalise(chunk.document))
    if chunk.date:
        day = datetime.date.fromisoformat(chunk.date)
        marks += [f"{day.year}年", era_date(day).split("年")[0] + "年"]
    return bool(_FORMER.search(question)) or any(mark in question for mark in marks)


def _editions(chunk: Chunk, other: Chunk) -> bool:
    """Tell whether two chunks stand in editions of one document.

    These lie in one folder, differ in their days, and have the same name without what tells editions apart (第2版, 2025年版,
    20250401, ver.2, 改定), or the same title and names that share half of their letter pairs.
    """
    if chunk.date == other.date or not (chunk.date and other.date):
        return False
    folder, name, title = _family(chunk.document, chunk.title)
    folder_of_other, name_of_other, title_of_other = _family(other.document, other.title)
    if folder != folder_of_other or not (name and name_of_other):
        return False
    return name == name_of_other or (title == title_of_other != "" and 2 * _shared(name, name_of_other, least=True) >= 1)


@lru_cache(maxsize=4096)
def _family(document: str, title: str) -> tuple[str, str, str]:
    """Return what editions have in common: folder, name, title; "" for what says nothing, as the names of minutes do."""
    path = PurePosixPath(document)
    names = [japanese.normalise(text) for text in (path.stem, title)]
    if any(map(_SERIES.search, names)):
        return str(path.parent), "", ""
    name, title = (re.sub(r"[\W_]+", "", _MARK.sub(" ", name)) for name in names)
    return str(path.parent), name, title


def _shared(text: str, other: str, *, least: bool = False) -> float:
    """Return the share (0–1) of letter pairs that two texts have in common: of all, or of the shorter one's."""
    mine, others = _pairs(text), _pairs(other)
    whole = min(len(mine), len(others)) if least else len(mine | others)
    return len(mine & others) / whole if whole else 0.0


@lru_cache(maxsize=512)
def _pairs(text: str) -> frozenset[str]:
    return frozenset(text[i : i + 2] for i in range(len(text) - 1))


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
