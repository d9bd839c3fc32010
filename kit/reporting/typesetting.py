"""How much room a text takes: measured with the font the kit ships, so that no box overflows whoever opens the file.

Full-width letters are one em in every Japanese font; the others are taken for a fifth wider than in the shipped one,
because office programs put in what the machine has.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

from kit.reporting.charts import font

LEADING = 1.32
"""Distance of lines over the size of letters; set exactly in the file, as fonts differ in it."""
_JOINTS = re.compile(r"[0-9A-Za-z%.](?=[^\x00-\xff])|[^\x00-\xff](?=[0-9A-Za-z+])")
_PIECES = re.compile(r"[（「『【〔(]*(?:[!-~]+|\S)[、。，．）」』】〕％ー〜・：？！]*|\s")


def wrapped(text: str, size: float, width: float) -> list[str]:
    """Return the lines of a text: Latin words stay whole where they can, and no line begins with a full stop.

    Args:
        text: Any text; its own line ends are kept.
        size: Of the letters, in points.
        width: Of the line, in points.
    """
    return list(_wrapped(text, size, width))


def height(texts: Iterable[tuple[str, float]], width: float) -> float:
    """Return the height in points of paragraphs (text, size), each followed by a third of its size."""
    return sum((len(_wrapped(text, size, width)) * LEADING + 1 / 3) * size for text, size in texts)


def clipped(text: str, size: float, width: float, lines: int) -> str:
    """Return what fits in so many lines, ending in … where something was left out."""
    found = _wrapped(text, size, width)
    if len(found) <= lines:
        return text
    return re.sub(r"[\d.,+−-]+$", "", "".join(found[:lines])[:-2].rstrip()) + "…"  # half a number would be a wrong one


def column_widths(rows: Sequence[Sequence[str]], size: float, width: float, pad: float) -> list[float]:
    """Share a table's width out: a column gets what its longest cell needs, the long ones share what is left.

    Args:
        rows: The cells, header included.
        size: Of the letters, in points.
        width: Of the table, in points.
        pad: Left and right margin of a cell, together.
    """
    wanted = [max(_length(cell) for cell in column) * size + pad + 4 for column in zip(*rows, strict=True)]
    if sum(wanted) <= width:
        return [width * want / sum(wanted) for want in wanted]
    found, left = dict.fromkeys(range(len(wanted)), 0.0), width
    order = sorted(found, key=wanted.__getitem__)
    for place, column in enumerate(order):
        weight = wanted[column] ** 0.5 / sum(wanted[other] ** 0.5 for other in order[place:])
        found[column] = min(wanted[column], left * weight)
        left -= found[column]
    return list(found.values())


@lru_cache(4096)
def _wrapped(text: str, size: float, width: float) -> tuple[str, ...]:
    lines = []
    for paragraph in text.split("\n"):
        lines.append("")
        used = 0.0
        for piece in _PIECES.findall(paragraph):
            for part in [piece] if _length(piece) * size <= width else piece:
                last = lines[-1][-1:]
                own = (_length(last + part) - _length(last)) * size
                if used and used + (own if part.strip() else 0) > width:
                    lines.append("")
                    used = 0
                if used or part.strip():
                    lines[-1] += part
                    used += own
    return tuple(lines)


@lru_cache(1 << 16)
def _length(text: str) -> float:
    """Return a length in em; programs may set Latin letters and Japanese ones a quarter apart."""
    return sum(map(_advance, text)) + 0.25 * len(_JOINTS.findall(text))


@cache
def _advance(letter: str) -> float:
    """Return the width of a letter in em; one that the font lacks counts as full-width."""
    share = _face().getlength(letter) / 1000
    return float(share * 1.2 if share < 0.95 else 1)


@cache
def _face() -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(str(font()), 1000, layout_engine=ImageFont.Layout.BASIC)
