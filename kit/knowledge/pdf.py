"""PDF by pypdfium2: characters with their positions → lines → whole sentences, page by page.

A PDF knows no paragraphs, only characters on a page. Which lines belong together is judged by geometry: a line that
reaches the right margin of its column goes on in the next one. A page of pictures is read where Tesseract is installed
(``ocr``), else it is named. A page printed downwards is laid on its side first.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import median
from typing import Any

from kit.knowledge import ocr, texts
from kit.knowledge.texts import CJK, ITEM, Reading, UnreadableError, finished, glue, sections, share_readable, squeeze
from kit.records import Block, Place

READABLE = 0.8
"""A page with a smaller share of Japanese or printable characters is garbled: its font does not say what it shows."""

_PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD
_EDGE = 0.1  # share of the page's height at top and bottom where running titles and page numbers stand
_SENTENCE_END = ("。", "．", "」", "!", "?", "！", "？", "：")
_IDEOGRAPH = re.compile(rf"[{CJK}]")
_FIGURES = re.compile(r"[\d\s.,%△▲/()年月:~-]{1,12}")
_NUMBERING = re.compile("[0-9０-９.．]+|第[0-9０-９一二三四五六七八九十]+[編章節款条]")
_COUNTERS = "年月日時分秒千万億兆円件人個回社名歳条項号頁割位%％"
_LEADERS = re.compile(r"(?:[.．・…‥_＿]\s?){5,}")
_HIRAGANA = re.compile("[ぁ-ん、ー]")
_Box = tuple[float, float, float, float]
_Piece = tuple[list[str], list[_Box]]
_KATAKANA = re.compile("[ァ-ヶー・]")


@dataclass(frozen=True, slots=True)
class _Line:
    """One printed line; coordinates in points from the page's lower left, as seen."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    starts: tuple[float, ...]
    """Where it begins, and where it begins again after a gap: perhaps the cells of a table row."""
    row: bool
    size: float
    """Width of a Japanese character: the measure of all gaps."""

    @property
    def column(self) -> float:
        """Where the column begins that its last word stands in."""
        return self.starts[-1] if self.row else self.starts[0]


@dataclass(frozen=True, slots=True)
class _Page:
    """The lines of a page, its width and height in points."""

    lines: list[_Line]
    width: float
    height: float

    def at_edge(self, line: _Line) -> bool:
        """Whether a line stands where running titles, page numbers and side tabs do."""
        middle = (line.y0 + line.y1) / 2 / self.height
        return not _EDGE < middle < 1 - _EDGE or line.x1 < 0.08 * self.width or line.x0 > 0.92 * self.width


def read_pdf(data: bytes, stem: str) -> Reading:
    """Read a PDF; the place of a paragraph is the page where it begins.

    Raises:
        UnreadableError: A password is asked for, the file is broken, or it holds no text to speak of.
    """
    document = _open(data)
    pages = [_page_lines(document, index) for index in range(len(document))]
    printed = [" ".join(line.text for line in page.lines) for page in pages]
    empty = [number for number, text in enumerate(printed, 1) if not text.split()]
    garbled = [number for number, text in enumerate(printed, 1) if share_readable(text) < READABLE]
    seen = _recognised(document, [*empty, *garbled])
    text = "".join(printed)
    if not (text.split() or seen):
        raise UnreadableError(
            "文字情報なし: OCRが必要です（画像だけのPDFのようです）。文字入りのPDFにするか、"
            "tesseract と日本語データ jpn を入れてから読み直してください。"
        )
    if not seen and (share_readable(text) < READABLE or len(garbled) * 2 > len(pages)):
        raise UnreadableError(
            "文字が正しく取り出せません（文字化けしたPDF）。元のアプリからPDFを作り直すか、OCRをかけてください。"
        )
    running = _running(pages)
    paragraphs: list[tuple[int, str]] = []
    once: dict[str, tuple[int, str]] = {}
    unfinished = 0.0
    for number, page in enumerate(pages, 1):
        body = [line for line in page.lines if not page.at_edge(line) or _key(line) not in running]
        for line in page.lines:
            if page.at_edge(line) and _key(line) in running and len(_key(line)) > 3 and number not in garbled:
                once.setdefault(_key(line), (number, f"ヘッダー: {line.text}"))
        if number in garbled or not body:
            unfinished = 0.0
            paragraphs += [(number, line) for line in seen.get(number, ())]
            continue
        joined, last_open = _paragraphs(body)
        if unfinished and abs(body[0].size - unfinished) < 1 and not ITEM.match(joined[0]):
            start, half = paragraphs[-1]
            paragraphs[-1] = (start, glue(half, joined.pop(0)))
        paragraphs += [(number, text) for text in joined]
        unfinished = last_open
    paragraphs = sorted((*once.values(), *paragraphs), key=lambda paragraph: paragraph[0])
    kept = [(number, text) for number, text in ((number, squeeze(text)) for number, text in paragraphs) if text]
    # A slide begins anew; only a text printed upright runs on under the headings of the pages before.
    slides = sum(page.width > page.height for page in pages) * 2 > len(pages)
    marked = _bookmarks(document)
    blocks: list[Block] = []
    for _, group in groupby(kept, key=lambda item: item[0] if slides else 0):
        part = list(group)
        placed = sections([(text, marked.get("".join(text.split()), 0)) for _, text in part], marks=False)
        blocks += [Block(t, Place(page=n, headings=path)) for (n, _), (t, path) in zip(part, placed, strict=True)]
    unread = [number for number in empty if number not in seen], [number for number in garbled if number not in seen]
    odd = [number for number, text in enumerate(printed, 1) if texts.is_gibberish(text)]
    doubts = _told("文字情報なし: OCRが必要な頁", unread[0]) + _told("文字化けのため除いた頁", unread[1])
    doubts += _told("OCRで読んだ頁（誤読に注意）", sorted(seen)) + _told("文字化けの疑いがある頁", odd)
    facts = document.get_metadata_dict()
    # A file name without Japanese says less than the first line.
    first = "" if _IDEOGRAPH.search(stem) else next((text for _, text in kept if not text.startswith("ヘッダー: ")), "").strip("○●■◆ ")
    found = (facts.get("Title", ""), _largest(pages), first)
    day = facts.get("ModDate", "") or facts.get("CreationDate", "")
    return Reading(texts.choose_title(stem, found, blocks), tuple(blocks), doubts, date=day)


def _recognised(document: Any, numbers: Iterable[int]) -> dict[int, list[str]]:
    """Lines of pages without usable text by OCR, by page number; none where it is not installed."""
    found: dict[int, list[str]] = {}
    for number in sorted(set(numbers)) if ocr.is_available() else ():
        with suppress(RuntimeError):  # a page that cannot be drawn
            if lines := ocr.recognise(document[number - 1]):
                found[number] = lines
        finished()
    return found


def _told(what: str, pages: list[int]) -> tuple[str, ...]:
    return (f"{what}: {len(pages)}頁分、最初は{pages[0]}頁。",) if pages else ()


def _largest(pages: list[_Page]) -> str:
    """The first line of page 1 in the largest type, with those right below that go on in it, if larger than the text."""
    if not pages[0].lines:
        return ""
    usual = median(line.size for page in pages for line in page.lines for _ in line.text)
    lines = [
        line for line in pages[0].lines if not (line.row or ITEM.match(line.text) or _FIGURES.fullmatch(line.text))
    ]
    top = max((line.size for line in lines if len(line.text) > 3), default=0.0)
    groups = groupby(lines, key=lambda line: line.size > max(0.8 * top, 1.15 * usual))
    titles = ("".join(line.text for line in group) for is_large, group in groups if is_large)
    return next((title for title in titles if len(title) > 3), "")


def _open(data: bytes) -> Any:
    import pypdfium2

    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD_ERROR:
            raise UnreadableError(texts.LOCKED) from error
        raise


def _page_lines(document: Any, index: int) -> _Page:
    """Lines of a page in the order of its content; a broken page counts as empty."""
    import pypdfium2

    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return _Page([], 1.0, 1.0)
    textpage = page.get_textpage()
    width, height = page.get_size()
    pieces = list(_printed(textpage, page.get_rotation(), width, height))
    if _is_vertical(pieces):
        pieces, width, height = _columns(pieces, height), height, width
    lines = _same_row(line for piece in pieces for line in _line(*piece))
    textpage.close()
    page.close()
    finished()
    return _Page(lines, width, height)


def _printed(textpage: Any, rotation: int, width: float, height: float) -> Iterator[_Piece]:
    """Cut the characters of a page at its line breaks."""
    from pypdfium2 import PdfMatrix, raw

    # Boxes are those of the page before it is turned; width and height are as seen.
    turned = PdfMatrix().rotate(rotation).translate(width * (rotation in (180, 270)), height * (rotation in (90, 180)))
    characters: list[str] = []
    boxes: list[_Box] = []
    for index in range(textpage.count_chars()):
        code = raw.FPDFText_GetUnicode(textpage, index)
        character = chr(code) if code < 0x110000 else "\ufffd"
        if character in "\r\n":
            yield characters, boxes
            characters, boxes = [], []
            continue
        # pdfium's hyphen at the end of a line; bullets of symbol fonts, which have no meaning outside of them
        characters.append("-" if character == "\x02" else "・" if "\uf000" <= character <= "\uf0ff" else character)
        box = textpage.get_charbox(index, loose=True)
        boxes.append(turned.on_rect(*box) if rotation else box)
    yield characters, boxes


def _is_vertical(pieces: list[_Piece]) -> bool:
    """Whether most Japanese characters of a page stand below the one before and not beside it."""
    solid = [(b[0] + b[2], b[1] + b[3], b[3] - b[1]) for text, boxes in pieces for c, b in zip(text, boxes, strict=True) if _IDEOGRAPH.match(c)]
    below = sum(abs(x - x0) < h / 2 and h < y0 - y < 5 * h for (x0, y0, h), (x, y, _) in pairwise(solid))
    return below * 2 > len(solid) > 20


def _columns(pieces: list[_Piece], height: float) -> list[_Piece]:
    """Lay a page printed downwards on its side: its columns become lines, the rightmost on top, the upper tier first."""
    columns: list[_Piece] = []
    for text, places in pieces:
        for character, (left, bottom, right, top) in zip(text, places, strict=True):
            if character.isspace():
                continue
            box = (height - top, left, height - bottom, right)
            if not columns or abs(left + right - columns[-1][1][-1][1] - columns[-1][1][-1][3]) > right - left:
                columns.append(([], []))
            columns[-1][0].append(character)
            columns[-1][1].append(box)
    # pdfium gives columns from left to right, however they were written.
    return sorted(columns, key=lambda column: (column[1][0][0] > 0.45 * height, -column[1][0][1]))


def _line(characters: list[str], boxes: list[_Box]) -> Iterator[_Line]:
    """Make a line of what is printed between two line breaks; a gap that is only typographic (四分アキ) is not a space."""
    solid = [i for i, character in enumerate(characters) if not character.isspace()]
    if not solid:
        return
    wide = [boxes[i][2] - boxes[i][0] for i in solid if _IDEOGRAPH.match(characters[i])]
    size = max(median(wide or [0.85 * (boxes[i][3] - boxes[i][1]) for i in solid]), 1.0)
    parts = [characters[solid[0]]]
    starts = [boxes[solid[0]][0]]
    for before, here in pairwise(solid):
        if here > before + 1:
            gap = boxes[here][0] - boxes[before][2]
            japanese = _IDEOGRAPH.match(characters[before]) or _IDEOGRAPH.match(characters[here])
            numbered = len(parts) < 8 and characters[here] not in _COUNTERS and _NUMBERING.fullmatch("".join(parts))
            typographic = gap < (0.2 if numbered else 0.48) * size
            parts.append("" if japanese and typographic else "\t" if gap > 2.2 * size else " ")
            if gap > 0.9 * size:
                starts.append(boxes[here][0])
        parts.append(characters[here])
    # 全 世 帯 is one word set wide; a tab is a gap between columns and stays a gap.
    text = texts.unspread("".join(parts))
    row = bool("\t" in text or _LEADERS.search(text))
    text = _LEADERS.sub("…… ", text)
    x0, y0, x1, y1 = (edge(boxes[i][side] for i in solid) for side, edge in enumerate((min, min, max, max)))
    yield _Line(text.replace("\t", " "), x0, y0, x1, y1, tuple(starts), row, size)


def _same_row(lines: Iterable[_Line]) -> list[_Line]:
    """Join pieces of one printed row that a raised footnote number broke."""
    rows: list[_Line] = []
    for line in lines:
        if rows and _beside(rows[-1], line):
            last, large = rows[-1], max(rows[-1], line, key=lambda piece: piece.y1 - piece.y0)
            space = " " if line.x0 - last.x1 > 0.48 * large.size else ""
            rows[-1] = replace(last, text=last.text + space + line.text, x1=line.x1, y0=large.y0, y1=large.y1)
        else:
            rows.append(line)
    return rows


def _beside(left: _Line, right: _Line) -> bool:
    overlap = min(left.y1, right.y1) - max(left.y0, right.y0)
    near = -0.3 * right.size < right.x0 - left.x1 < max(left.size, right.size) < 40
    return near and overlap > 0.5 * min(left.y1 - left.y0, right.y1 - right.y0)


def _follows(above: _Line, below: _Line) -> bool:
    """Whether a line stands right under another one in the same column and the same type size."""
    step = (above.y0 + above.y1 - below.y0 - below.y1) / 2
    size = max(above.size, below.size)
    near = 0.5 * size < step < 2.3 * size and abs(above.size - below.size) < 0.3 * size and below.x0 < above.x1
    shift = min((below.x0 - start for start in above.starts), key=abs)
    return near and -2.5 * size < shift < (5 if ITEM.match(above.text) else 1.2) * size


def _paragraphs(lines: list[_Line]) -> tuple[list[str], float]:
    """Join the lines of a page to paragraphs.

    Returns:
        The paragraphs, and the type size of the last one if it goes on on the next page, else 0.
    """
    joined: list[str] = []
    open_end = 0.0
    for run in _runs(lines):
        above: _Line | None = None
        for line in run:
            column = [other for other in run if abs(other.column - line.column) < 3 * line.size]
            right = max(other.x1 for other in column)
            width = (right - min(other.column for other in column)) / line.size
            flush = sum(other.x1 > right - 0.6 * line.size for other in column)
            if above and _continues(above, line, width, flush):
                joined[-1] = glue(joined[-1], line.text)
            elif joined and not above and _FIGURES.fullmatch(line.text) and _FIGURES.fullmatch(joined[-1].split()[-1]):
                joined[-1] += f" {line.text}"  # labels of a chart's axis: one line, not forty
            else:
                joined.append(line.text)
            full = line.x1 >= right - 1.6 * line.size
            above = line if full else None
            ends = not full or line.row or width < 20 or line.text.endswith(_SENTENCE_END)
            open_end = 0.0 if ends else line.size
    return joined, open_end


def _continues(above: _Line, below: _Line, width: float, flush: int) -> bool:
    """Whether a full line goes on in the next one, which is no item, no table row and no new indented paragraph.

    Args:
        above: A line that reaches the right margin of its column.
        below: The line below it.
        width: Width of the column in characters.
        flush: How many lines of the column end exactly at its margin.
    """
    start, end = below.text[:1], above.text[-1:]
    if len(above.text) == len(below.text) == 1 and not start.isdigit():  # a word printed downwards
        return True
    shift = min((below.x0 - start for start in above.starts), key=abs) / below.size
    indented = above.text.endswith(_SENTENCE_END) and below.x0 > above.x0 + 0.7 * below.size
    alike = above.text[:3] == below.text[:3]  # rows of a list without bullets
    if below.row or alike or indented or ITEM.match(below.text) or (above.row and (abs(shift) > 1.5 or end.isdigit())):
        return False
    # A full line of a narrow column may as well be a cell of its own: the wording must speak for a sentence.
    wording = _HIRAGANA.match(end) or _HIRAGANA.match(start) or (_KATAKANA.match(end) and _KATAKANA.match(start))
    return width >= 9 or (width >= 7 and flush > 1) or bool(width >= 3 and wording)


def _runs(lines: list[_Line]) -> list[list[_Line]]:
    runs: list[list[_Line]] = []
    for line in lines:
        if runs and _follows(runs[-1][-1], line):
            runs[-1].append(line)
        else:
            runs.append([line])
    return runs


def _key(line: _Line) -> str:
    return re.sub(r"[\d\s０-９]", "", line.text)


def _running(pages: list[_Page]) -> set[str]:
    """Texts, figures aside, that stand at the edge of more than half of the pages."""
    counts = Counter(key for page in pages for key in {_key(line) for line in page.lines if page.at_edge(line)})
    return {key for key, count in counts.items() if count * 2 > len(pages) > 2}


def _bookmarks(document: Any) -> dict[str, int]:
    """Titles of the PDF's outline, without white space, with their level from 1."""
    with suppress(RuntimeError):  # a broken outline
        return {"".join(squeeze(item.get_title()).split()): item.level + 1 for item in document.get_toc(max_depth=4)}
    return {}
