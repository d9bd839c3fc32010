"""Document → chunks: consecutive blocks of one place, ending at a sentence, each with its section around it."""

import hashlib
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from kit.knowledge.japanese import sentences
from kit.records import Block, Chunk, Document, Place

CHUNK_CHARACTERS = 400
"""Blocks of one place are joined up to this length; a single sentence or table row may be longer."""
SECTION_CHARACTERS = 2000
"""Chunks of one section are joined up to this length, and small sections with those beside them."""


class _Span(NamedTuple):
    """A stretch of a document's text."""

    start: int
    end: int
    place: Place


def split(document: Document) -> list[Chunk]:
    """Cut a document into chunks of about ``CHUNK_CHARACTERS`` characters.

    A chunk never crosses a page, sheet, table row, slide or heading, so that its place is true for all of it.
    """
    text = document.text
    spans = _spans(document.blocks)
    ids = [hashlib.sha256(f"{document.id}\n{document.name}\n{i}".encode()).hexdigest()[:24] for i in range(len(spans))]
    return [
        Chunk(
            id=ids[ordinal], parent=ids[first], ordinal=ordinal, place=span.place, readers=document.readers,
            document_id=document.id, document=document.name, title=document.title, date=document.date,
            text=text[span.start : span.end], start=span.start, end=span.end,
        )
        for ordinal, (span, first) in enumerate(zip(spans, _parents(spans), strict=True))
    ]  # fmt: skip


def _spans(blocks: tuple[Block, ...]) -> list[_Span]:
    """Join short blocks of one place and cut long ones; blank ends are left out."""
    spans: list[_Span] = []
    position = 0
    for block in blocks:
        for piece in _pieces(block.text):
            if piece.strip():
                start, end = position + len(piece) - len(piece.lstrip()), position + len(piece.rstrip())
                if spans and spans[-1].place == block.place and end - spans[-1].start <= CHUNK_CHARACTERS:
                    start = spans.pop().start
                spans.append(_Span(start, end, block.place))
            position += len(piece)
        position += 1  # the line break between blocks
    return spans


def _pieces(text: str) -> list[str]:
    if len(text) <= CHUNK_CHARACTERS:
        return [text]
    return [
        sentence[start : start + 4 * CHUNK_CHARACTERS]  # text without any full stop is cut hard
        for sentence in sentences(text)
        for start in range(0, len(sentence), 4 * CHUNK_CHARACTERS)
    ]


def _parents(spans: list[_Span]) -> Iterator[int]:
    """Yield for each span the number of the first one of its section.

    What stands under one heading stays together as long as it fits; small sections take in those that follow below the
    same upper heading. Neither a sheet's nor a slide's end is crossed.
    """
    first = 0  # of the section that is open
    for _, group in groupby(range(len(spans)), key=lambda i: _region(spans[i].place)):
        unit = list(group)
        opened, here = spans[first].place, spans[unit[0]].place
        upper = opened.headings[:-1]
        beside = (opened.sheet, opened.slide) == (here.sheet, here.slide) and here.headings[: len(upper)] == upper
        if not beside or spans[unit[-1]].end - spans[first].start > SECTION_CHARACTERS:
            first = unit[0]
        for i in unit:
            if spans[i].end - spans[first].start > SECTION_CHARACTERS:
                first = i
            yield first


def _region(place: Place) -> tuple[str, int, tuple[str, ...]]:
    return place.sheet, place.slide, place.headings
