r"""A source of a sample document: front matter and plain Markdown, cut into blocks.

The front matter holds ``title`` and ``edition``; where needed, the ``encoding`` of a text file and its ``readers``. The
body may hold the title (``#``), headings (``##``, ``###``), paragraphs (one a line), lists (nested on slides only),
tables, notes (``>``) and ``\pagebreak``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from unicodedata import normalize

import yaml

Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a source: ``kind`` is heading, text, item, note, table or break."""

    kind: str
    text: str = ""
    level: int = 0  # of a heading: 1 for ##, 2 for ###; of a list item: its depth, from 0
    mark: str = ""  # "1." of a numbered item
    rows: Rows = ()

    @property
    def lines(self) -> Rows:
        """The rows of a table; of any other block, its text as the only cell of one row."""
        return self.rows or ((self.text,),)


@dataclass(frozen=True, slots=True)
class Source:
    """One source file: the name of its document, its front matter, and its body, whole and in blocks."""

    name: str
    suffix: str
    title: str
    head: dict[str, Any]
    body: str
    blocks: list[Block]


def read_source(path: Path) -> Source:
    _, front, body = path.read_text(encoding="utf-8").split("---\n", 2)
    head = yaml.safe_load(front)
    name = normalize("NFC", f"{path.parent.name}/{path.stem}")
    return Source(name, Path(name).suffix, head["title"], head, body.strip("\n") + "\n", list(parse(body)))


def parse(body: str) -> Iterator[Block]:
    """Cut Markdown into blocks; each line of a paragraph is a paragraph of its own, as Japanese rules are written."""
    for is_table, lines in groupby(body.splitlines(), key=lambda line: line.startswith("|")):
        if is_table:
            cells = (line.strip().removeprefix("|").removesuffix("|").split("|") for line in lines)
            header, _, *rows = (tuple(plain(cell.strip()) for cell in row) for row in cells)
            yield Block("table", rows=(header, *rows))
            continue
        for line in filter(str.strip, lines):
            if match := re.match(r"(#+) +(.+)", line):
                if match[1] != "#":  # the title is in the front matter too
                    yield Block("heading", plain(match[2].strip()), len(match[1]) - 1)
            elif match := re.match(r"( *)(?:[-*]|(\d+\.)) +(.+)", line):
                yield Block("item", match[3].strip(), len(match[1]) // 2, match[2] or "")
            elif match := re.match(r"> ?(.+)", line):
                yield Block("note", match[1].strip())
            else:
                yield Block("break") if line.strip() == "\\pagebreak" else Block("text", line.strip())


def chapters(source: Source) -> list[tuple[str, list[Block]]]:
    """Heading and blocks of each ``##``, after the title and what stands above the first ``##``."""
    found: list[tuple[str, list[Block]]] = [(source.title, [])]
    for block in source.blocks:
        if block.kind == "heading" and block.level == 1:
            found.append((block.text, []))
        else:
            found[-1][1].append(block)
    return found


def runs(text: str) -> list[tuple[str, bool]]:
    """Text in runs, each with whether it is bold."""
    return [(part, index % 2 == 1) for index, part in enumerate(text.replace("`", "").split("**")) if part]


def plain(text: str) -> str:
    return "".join(part for part, _ in runs(text))
