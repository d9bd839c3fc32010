"""The summary as a slide deck (PPTX): the decision on one slide, then the chapters; charts and tables can be edited.

Sizes and breaks are computed from measured text (``typesetting``), so that no box overflows; what finds no room at a
legible size stands in the notes of its slide, which hold all texts of it in full. All lengths are points.
"""

import io
import re
import zipfile
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kit.reporting import wording
from kit.reporting.blocks import Block, Chart, Listing, Section, Table, Text, graded
from kit.reporting.slide_parts import FOOT, WIDTH, Frame, draw, needed, template, write
from kit.reporting.summary import Summary, kpi_table, money_table
from kit.reporting.typesetting import clipped, height

MOST = 8
"""Slides of a deck."""
_LEFT, _ROOM, _GAP = 36.0, WIDTH - 72.0, 24.0
_SIZES = (13, 12, 11)
_LINES = (99, 8, 4, 2)
"""Most lines of one text where not all fits at the smallest size, tried in this order."""
_LEADS = (17, 16, 15, 14, 13, 12, 11)
_JOINED = (("plan", "talk"), ("cost", "qpd"))
"""Chapters that share a slide where there are more than slides."""
_Placed = list[tuple[Block, Frame]]


@dataclass(frozen=True, slots=True)
class _Page:
    title: str
    lead: str
    blocks: tuple[Block, ...]
    told: tuple[str, ...]
    """All texts, for the notes."""


def deck(summary: Summary) -> bytes:
    """Return the slides as a file; the same summary gives the same bytes."""
    words = wording.words(summary.lang)
    show = template(summary, words["page"])
    _first(show, summary, words)
    for page in _pages(summary, words):
        slide = _slide(show, page.title, page.told, summary)
        top = 70.0
        if page.lead:
            top += 10 + _write_fitting(slide, [page.lead], (_LEFT, top, _ROOM, 46), _LEADS, summary.lang, bold=True)
        if not _fill(slide, page.blocks, (_LEFT, top, _ROOM, FOOT - top), summary):
            _more(slide, summary)
    file = io.BytesIO()
    show.save(file)
    return _undated(file.getvalue())


def _first(show: Any, s: Summary, words: dict[str, Any]) -> None:
    """Draw the slide of the decision: the same content as the first page of the other formats."""
    kpis = kpi_table(s, "　".join((*(f"{name}: {label}" for name, label in s.arms), s.failures)))
    steps = Listing(tuple(map(Text, s.steps)), words["next"], numbered=True)
    right = [block for block in (s.chart, money_table(s) if s.money else None) if block]
    seal = " / ".join(part for part in (s.scope, *s.headline) if part)
    badge = f"{s.outcome}　{s.mark} {words[s.outcome]}"
    said = [badge, s.reason, *filter(None, (s.evidence, s.comparison)), s.title, s.hypothesis, seal, *_told((kpis, steps, *right), words)]
    rest = [s.footnote, s.assumption, words["grades"], *([words["notes"], *s.notes] if s.notes else [])]
    slide = _slide(show, s.title, (*said, *filter(None, rest)), s)
    _write_fitting(slide, [s.hypothesis, seal], (_LEFT, 60, _ROOM, 48), (12, 11, 10.5, 10), s.lang, soft=True)
    write(slide, [(s.outcome, 28), (f"{s.mark} {words[s.outcome]}", 15)], (_LEFT, 108, 150, 72), s.lang, ground=s.outcome)
    why = [s.reason, " ".join(filter(None, (s.evidence, s.comparison)))]
    _write_fitting(slide, why, (_LEFT + 164, 108, _ROOM - 164, 72), _LEADS, s.lang, bold=True)
    top, wide = 186.0, (_ROOM - _GAP) * (0.6 if right else 1)
    short = steps if needed(steps, wide, 11) < 125 else _shortened(steps, 2, wide, 11)
    foot = FOOT - needed(short, wide, 11)  # what happens next never makes way for a table
    draw(slide, short, (_LEFT, foot, wide, FOOT - foot), 11, s.lang)
    whole = _fill(slide, [kpis], (_LEFT, top, wide, foot - top - 6), s, apart=False) and short == steps
    whole &= _fill(slide, right, (_LEFT + wide + _GAP, top, _ROOM - _GAP - wide, FOOT - top), s, apart=False)
    write(slide, [(words["grades"], 10)], (_LEFT, FOOT + 3, 600, 17), s.lang, soft=True)
    if not whole:
        _more(slide, s)


def _more(slide: Any, s: Summary) -> None:
    """Say where the rest is."""
    text = wording.words(s.lang)["slides_more"]
    write(slide, [(text, 10)], (_LEFT + 610, FOOT + 3, _ROOM - 610, 17), s.lang, soft=True, align="r")


def _pages(summary: Summary, words: dict[str, Any]) -> list[_Page]:
    """Return the slides after the first, some chapters together where there are too many."""
    pages = {section.key: _page(section, words) for section in summary.sections}
    for one, other in _JOINED:
        if len(pages) >= MOST and {one, other} <= pages.keys():
            a, b = pages[one], pages.pop(other)
            heading = Listing((Text(b.lead),) if b.lead else (), b.title)
            pages[one] = _Page(f"{a.title}／{b.title}", a.lead, (*a.blocks, heading, *b.blocks), (*a.told, *b.told))
    return [*pages.values()]


def _page(section: Section, words: dict[str, Any]) -> _Page:
    told = (section.title, *[section.lead] * bool(section.lead), *_told(section.blocks, words))
    return _Page(section.title, section.lead, tuple(graded(section.blocks, words)), told)


def _told(blocks: Sequence[Block], words: dict[str, Any]) -> Iterator[str]:
    """Yield all that blocks say, as plain lines."""
    for block in graded(blocks, words):
        if isinstance(block, Text):
            yield block.text
            continue
        yield from [f"■ {block.title}"] * bool(block.title)
        if isinstance(block, Listing):
            yield from (f"・{item.text}" for item in block.items)
        elif isinstance(block, Table):
            yield from (" ｜ ".join(row) for row in (block.header, *block.rows))
            yield from [block.note] * bool(block.note)
        else:
            yield block.alt


def _slide(show: Any, title: str, told: Sequence[str], summary: Summary) -> Any:
    """Add a slide with its title and notes."""
    slide = show.slides.add_slide(show.slide_layouts[0])
    sizes = (24, 22, 20, 18)
    size, texts = _fitting([title], _ROOM, 34, sizes)
    write(slide, [(texts[0], size)], (_LEFT, 26, _ROOM, 34), summary.lang, bold=True, box=slide.shapes.title)
    slide.notes_slide.notes_text_frame.text = "\n".join(told)
    return slide


def _fitting(texts: Sequence[str], width: float, room: float, sizes: Sequence[float]) -> tuple[float, list[str]]:
    """Return the largest size at which texts fit; at the smallest they are cut to the lines that do, ending in …."""
    for size in sizes:
        if height(((text, size) for text in texts), width) <= room:
            return size, [*texts]
    size = sizes[-1]
    for lines in range(9, 0, -1):
        cut = [clipped(text, size, width, lines) for text in texts]
        if height(((text, size) for text in cut), width) <= room:
            break
    return size, cut


def _write_fitting(slide: Any, texts: Sequence[str], frame: Frame, sizes: Sequence[float], lang: str, **look: Any) -> float:
    """Write texts as large as they fit and return the height they take."""
    size, cut = _fitting([text for text in texts if text], frame[2], frame[3], sizes)
    write(slide, [(text, size) for text in cut], frame, lang, **look)
    return height(((text, size) for text in cut), frame[2])


def _fill(slide: Any, blocks: Sequence[Block], frame: Frame, summary: Summary, apart: bool = True) -> bool:
    """Draw blocks as large as all of them fit, else what comes first; return whether all of it stands there."""
    for size in _SIZES:
        if placed := _arranged(blocks, frame, size, apart):
            return _drawn(slide, placed, size, summary)
    size, width = _SIZES[-1], frame[2] * (0.5 if apart else 1)
    for lines in _LINES:
        short = [_shortened(block, lines, width, size) for block in blocks]
        if placed := _arranged(short, frame, size, apart):
            return _drawn(slide, placed, size, summary) and short == [*blocks]

    def cut(most: int) -> _Placed | None:
        """Keep so many lines of lists and tables, and the charts."""
        return _arranged(_first_of(short, most), frame, size, apart)

    too_many = bisect_left(range(sum(map(_units, blocks)) + 1), True, key=lambda most: not cut(most))
    _drawn(slide, cut(too_many - 1) or [] if too_many else [], size, summary)
    return False


def _drawn(slide: Any, placed: _Placed, size: float, summary: Summary) -> bool:
    for block, place in placed:
        draw(slide, block, place, size, summary.lang)
    return True


def _units(block: Block) -> int:
    if isinstance(block, Table):
        return len(block.rows)
    return len(block.items) if isinstance(block, Listing) else int(isinstance(block, Text))


def _first_of(blocks: Sequence[Block], most: int) -> list[Block]:
    """Return the charts and the first so many texts, items and rows."""
    kept: list[Block] = []
    for block in blocks:
        own = min(most, _units(block))
        most -= own
        if isinstance(block, Table) and own < len(block.rows) <= 4 and len(blocks) > 1:
            continue  # one row of a few would tell half a story
        if own and isinstance(block, Table):
            kept.append(replace(block, rows=block.rows[:own]))
        elif own and isinstance(block, Listing):
            kept.append(replace(block, items=block.items[:own]))
        elif own or isinstance(block, Chart):
            kept.append(block)
    return kept


def _arranged(blocks: Sequence[Block], frame: Frame, size: float, apart: bool) -> _Placed | None:
    """Return an arrangement that fits, in one column or two."""
    if not apart:
        return _stacked(blocks, frame, size)
    charts = sum(isinstance(block, Chart) for block in blocks)
    if not charts and (found := _stacked(blocks, frame, size)):
        return found
    shares = (0.5,) if charts > 1 else (0.5, 0.6, 0.4)
    both = (_beside([blocks[:at], blocks[at:]], frame, size, share) for share in shares for at in range(1, len(blocks)))
    return min((placed for placed in both if placed), key=_bottom, default=None) or _stacked(blocks, frame, size)


def _bottom(placed: _Placed) -> float:
    return max(top + tall for _, (_, top, _, tall) in placed)


def _beside(columns: Sequence[Sequence[Block]], frame: Frame, size: float, share: float) -> _Placed | None:
    left, top, width, room = frame
    first = (width - _GAP) * share
    one = _stacked(columns[0], (left, top, first, room), size)
    two = _stacked(columns[1], (left + first + _GAP, top, width - _GAP - first, room), size)
    return [*one, *two] if one is not None and two is not None else None


def _stacked(blocks: Sequence[Block], frame: Frame, size: float) -> _Placed | None:
    """Put blocks below each other, charts as tall as the room allows; None where they do not fit."""
    left, top, width, room = frame
    tall = [needed(block, width, size) for block in blocks]
    spare = room - sum(tall) - 8 * (len(blocks) - 1)
    if spare < 0:
        return None
    placed: _Placed = []
    charts = sum(isinstance(block, Chart) for block in blocks)
    for block, own in zip(blocks, tall, strict=True):
        own += min(spare / charts, max(0.62 * width - own, 0)) if isinstance(block, Chart) else 0
        placed.append((block, (left, top, width, own)))
        top += own + 8
    return placed


def _shortened(block: Block, lines: int, width: float, size: float) -> Block:
    """Shorten each text to so many lines."""
    if isinstance(block, Chart):
        return block
    if isinstance(block, Text):
        return replace(block, text=clipped(block.text, size, width, lines))
    if isinstance(block, Listing):
        return replace(block, items=tuple(replace(item, text=clipped(item.text, size, width - 16, lines)) for item in block.items))
    cells = tuple(tuple(clipped(cell, size - 1, 1.5 * width / len(row), lines) for cell in row) for row in block.rows)
    return replace(block, rows=cells, note=clipped(block.note, 10, width, lines))


def _undated(file: bytes) -> bytes:
    """Return an office file, and the workbooks in it, without times."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(written, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(".xlsx"):
                content = _undated(content)
            if name == "docProps/core.xml":
                content = re.sub(rb"<dcterms:(created|modified)\b[^>]*>[^<]*</dcterms:\1>", b"", content)
            new.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return written.getvalue()
