"""Japanese text: words by Sudachi, character n-grams, sentences. Pure functions over NFKC text.

Words are Sudachi C-mode normalised forms without particles, auxiliaries, symbols and blanks; the union of words and
character 1-2-grams in one BM25 ranks JSQuAD better than either alone (DECISIONS.md, 2026-11-21).
"""

import re
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

_NO_CONTENT = {"助詞", "助動詞", "補助記号", "空白"}
_SUDACHI_LIMIT = 12_000  # characters per call; Sudachi refuses more than 49,149 bytes
_SENTENCE_END = "。！？!?\n"
_OPEN, _CLOSE = "「『（(【[〈《", "」』）)】]〉》"
_BRACKET_OR_END = re.compile(f"[{re.escape(_SENTENCE_END + _OPEN + _CLOSE)}]")
_LONGEST_BRACKET = 200  # an opening bracket never closed within this many characters is a slip, not a bracket
_NOT_GRAM = re.compile(r"[\s。、，．,.!?！？「」『』（）()\[\]【】・:：;；/|]+")
_HIRAGANA = re.compile(r"[ぁ-ゖー]+")
_KANJI_PAIR = re.compile("[一-龠々]{2}")
_local = threading.local()


def normalise(text: str) -> str:
    """Return NFKC text in lower case: the form in which questions and documents are compared. Half a letter becomes a "?"."""
    return unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode()).lower()


def words(text: str) -> list[str]:
    """Return the content words of a text as Sudachi's normalised forms, in order."""
    # "in vitro" is one word of Sudachi's dictionary.
    return [word for morpheme in _morphemes(text) for word in morpheme.normalized_form().lower().split()]


def surfaces(text: str) -> list[str]:
    """Return all words of a text as they are written, particles and symbols included, blanks left out."""
    pieces = (text[start : start + _SUDACHI_LIMIT] for start in range(0, len(text), _SUDACHI_LIMIT))
    found = (m.surface() for piece in pieces for m in _tokenizer()[0].tokenize(piece.encode("utf-8", "replace").decode()))
    return [word for surface in found if (word := surface.strip())]


@lru_cache(maxsize=1 << 16)
def marks(word: str) -> frozenset[str]:
    """Return by what the index finds a word, too.

    Those are the short units (Sudachi's A mode) of a longer one, ``+有給`` and ``+休暇`` of 年次有給休暇, and the numbers of its synonym
    groups: 年休 has the same one.
    """
    return frozenset([*(f"+{unit}" for unit in units(word)), *(f"#{group}" for found in _morphemes(word) for group in _groups(found))])


def _groups(morpheme: Any) -> Sequence[int]:
    """Return the numbers of a morpheme's synonym groups: none for numbers and pronouns, 「どちら」 is no word to look for."""
    groups: Sequence[int] = morpheme.synonym_group_ids()
    return () if groups and {"数詞", "代名詞"} & set(morpheme.part_of_speech()[:2]) else groups


def _morphemes(text: str) -> Iterator[Any]:
    """Cut a text into morphemes and leave out those without content."""
    for start in range(0, len(text), _SUDACHI_LIMIT):
        piece = text[start : start + _SUDACHI_LIMIT].encode("utf-8", "replace").decode()
        tokenizer, holds_content = _tokenizer()
        yield from filter(holds_content, tokenizer.tokenize(piece))


@lru_cache(maxsize=1024)
def synonym_groups(text: str) -> dict[str, frozenset[int]]:
    """Return the words of a text (as in ``words``) with the numbers of their synonym groups in Sudachi's dictionary."""
    return {morpheme.normalized_form().lower(): frozenset(_groups(morpheme)) for morpheme in _morphemes(normalise(text))}


def units(word: str) -> list[str]:
    """Return the short units (Sudachi's A mode) that a word consists of, numbers left out; none for a word that is one."""
    from sudachipy import SplitMode

    found = [unit for morpheme in _morphemes(word) for unit in morpheme.split(SplitMode.A)]
    return [unit.normalized_form().lower() for unit in found if unit.part_of_speech()[1] != "数詞"] if len(found) > 1 else []


def grams(text: str) -> list[str]:
    """Return the character 1-grams and 2-grams of a text, none of them across blanks or punctuation."""
    found: list[str] = []
    for run in runs(normalise(text)):
        found.extend(run)
        found.extend(run[i : i + 2] for i in range(len(run) - 1))
    return found


def runs(text: str) -> list[str]:
    """Cut a normalised text at blanks and punctuation, which no gram crosses."""
    return [run for run in _NOT_GRAM.split(text) if run]


@lru_cache(maxsize=4096)
def union(text: str) -> tuple[str, ...]:
    """Return words and grams together, the words marked so that they do not mix with grams of the same letters."""
    return tuple(f"w:{word}" for word in words(text)) + tuple(grams(text))


def query(text: str) -> tuple[str, ...]:
    """Return the tokens of a question: words, and grams except those of hiragana alone.

    People ask in whole sentences; the grams of 「を教えてください」 match everywhere and mean nothing. Without them
    recall rises on questions in everyday language and does not fall on JSQuAD (DECISIONS.md, 2026-11-21).
    """
    return tuple(token for token in union(normalise(text)) if token.startswith("w:") or not _HIRAGANA.fullmatch(token))


def sentences(text: str) -> list[str]:
    """Cut a text after 。！？ and at line breaks, never inside brackets; joined, the pieces give the text again."""
    pieces: list[str] = []
    start, depth, opened = 0, 0, 0
    for found in _BRACKET_OR_END.finditer(text):
        i, letter = found.start(), found[0]
        if letter in _OPEN:
            depth, opened = depth + 1, i
        elif letter in _CLOSE:
            depth = max(0, depth - 1)
        elif depth == 0 or letter == "\n" or i - opened > _LONGEST_BRACKET:
            pieces.append(text[start : i + 1])
            start, depth = i + 1, 0
    if start < len(text):
        pieces.append(text[start:])
    return pieces


def matched(text: str, question: str) -> list[tuple[int, int]]:
    """Return where a text holds what a question asks for: its words in any spelling but hiragana, and its pairs of kanji.

    Args:
        text: The text as it is stored.
        question: The question as it was asked.

    Returns:
        Begin and end (exclusive) of each stretch, in order, none touching another.
    """
    wanted = set(words(normalise(question)))
    hit = [False] * len(text)
    for start in range(0, len(text) if wanted else 0, _SUDACHI_LIMIT):
        # One letter for one letter, so that the places stay: what cannot be encoded becomes a question mark.
        piece = text[start : start + _SUDACHI_LIMIT].encode("utf-8", "replace").decode()
        for morpheme in _tokenizer()[0].tokenize(piece):
            meant = wanted.intersection(morpheme.normalized_form().lower().split())
            if meant and not _HIRAGANA.fullmatch(morpheme.surface()):
                begin, end = start + morpheme.begin(), start + morpheme.end()
                hit[begin:end] = [True] * (end - begin)
    pairs = {pair for pair in grams(question) if _KANJI_PAIR.fullmatch(pair)}
    for begin in range(len(text) - 1 if pairs else 0):
        if text[begin : begin + 2] in pairs:
            hit[begin : begin + 2] = [True, True]
    edges = [i for i in range(len(hit) + 1) if (i < len(hit) and hit[i]) != (i > 0 and hit[i - 1])]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _tokenizer() -> tuple[Any, Callable[[Any], bool]]:
    """Return a tokenizer with the test for words that carry content: one per thread, because they must not be shared."""
    if not hasattr(_local, "tokenizer"):
        from sudachipy import Dictionary, SplitMode

        dictionary = Dictionary(dict="core")
        content = dictionary.pos_matcher(lambda part_of_speech: part_of_speech[0] not in _NO_CONTENT)
        _local.tokenizer = dictionary.tokenizer(mode=SplitMode.C), content
    tokenizer: tuple[Any, Callable[[Any], bool]] = _local.tokenizer
    return tokenizer
