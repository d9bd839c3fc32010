"""Document → chunks: consecutive blocks of one place, ending at a sentence."""

import hashlib
from collections.abc import Iterator
from itertools import groupby

from kit.knowledge.japanese import sentences
from kit.records import Block, Chunk, Document

CHUNK_CHARACTERS = 400
"""Blocks of one place are joined up to this length; a single sentence or table row may be longer."""


def split(document: Document) -> list[Chunk]:
    """Cut a document into chunks of about ``CHUNK_CHARACTERS`` characters.

    A chunk never crosses a page, sheet, table row, slide or heading, so that its place is true for all of it.
    """
    pieces = [
        piece
        for _, blocks in groupby(document.blocks, key=lambda block: block.place)
        for piece in _pack(list(blocks))
    ]
    return [
        Chunk(
            id=hashlib.sha256(f"{document.id}\n{document.name}\n{ordinal}".encode()).hexdigest()[:24],
            document_id=document.id,
            document=document.name,
            title=document.title,
            text=piece.text,
            place=piece.place,
            ordinal=ordinal,
            readers=document.readers,
            date=document.date,
        )
        for ordinal, piece in enumerate(pieces)
    ]


def _pack(blocks: list[Block]) -> Iterator[Block]:
    """Join short blocks and cut long ones; a packed block keeps the place of its first piece."""
    text, place = "", blocks[0].place
    for block in blocks:
        for piece in _pieces(block.text):
            if text and len(text) + len(piece) > CHUNK_CHARACTERS:
                if text.strip():
                    yield Block(text.strip(), place)
                text = ""
            if not text.strip():
                place = block.place
            text += piece
        text += "\n" if text and not text.endswith("\n") else ""
    if text.strip():
        yield Block(text.strip(), place)


def _pieces(text: str) -> list[str]:
    if len(text) <= CHUNK_CHARACTERS:
        return [text]
    return [
        sentence[start : start + 4 * CHUNK_CHARACTERS]  # text without any full stop is cut hard
        for sentence in sentences(text)
        for start in range(0, len(sentence), 4 * CHUNK_CHARACTERS)
    ]
