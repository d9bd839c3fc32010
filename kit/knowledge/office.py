"""Word and PowerPoint files by python-docx and python-pptx, and the check of every Office package.

The libraries open the package and find its parts; the text is taken from the XML where they leave some out (text boxes,
footnotes, content controls, list numbers, SmartArt). Every table row is written so that it can be understood alone.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from kit.knowledge import texts
from kit.knowledge.texts import PLAIN, Covered, Line, Reading, UnreadableError, finished, outlined, squeeze, table_rows
from kit.records import Block, Place

MAX_UNPACKED = 500 * 1024 * 1024
"""Bytes that the parts of one file may have when unpacked; beyond it the file is taken for a zip bomb."""

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_FOLDERS = {"word/": "docx", "ppt/": "pptx", "xl/": "xlsx"}
# Deleted or moved text, readings above words, field codes, and the second copy of every drawing.
_UNSEEN = {*(_W + tag for tag in ("del", "moveFrom", "rt", "pPr", "rPr", "instrText")),
           "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"}  # fmt: skip
_SIGNS = {_W + "tab": " ", _W + "br": "\n", _W + "cr": "\n", _W + "noBreakHyphen": "-"}
_NOTES = {"footnote": "注", "endnote": "注", "comment": "コメント"}
_REFERENCES = {f"{_W}{kind}Reference" for kind in _NOTES}
_KANA = "アイウエオカキクケコサシスセソタチツテト"
_NUMERALS = {"aiueo": _KANA, "aiueoFullWidth": _KANA, "lowerLetter": ascii_lowercase, "upperLetter": ascii_uppercase}
"""Signs of list numbers that are no figures."""
_FURNITURE = (13, 15, 16)  # PP_PLACEHOLDER: slide number, footer, date


def package_kind(data: bytes) -> str:
    """Check a zip package before a parser sees it, and tell what it is: ``docx``, ``pptx``, ``xlsx`` or "".

    Raises:
        UnreadableError: It unpacks to more than ``MAX_UNPACKED``, or an XML part declares a document type (Office never
            does; XML bombs and file disclosure need one).
    """
    package = zipfile.ZipFile(io.BytesIO(data))
    parts = package.infolist()
    if sum(part.file_size for part in parts) > MAX_UNPACKED or len(parts) > 50_000:
        raise UnreadableError("展開すると大きすぎます（圧縮爆弾の疑い）。元のアプリで開き、分割して保存してください。")
    for part in parts:
        if part.filename.endswith((".xml", ".rels", ".vml")):
            with package.open(part) as stream:
                if re.search(rb"<!(DOCTYPE|ENTITY)", stream.read(4096).replace(b"\0", b"")):
                    raise UnreadableError("外部参照を含む不正なXMLがあるので読みません。提供元に確かめてください。")
    names = {part.filename.lstrip("/") for part in parts}
    kinds = [kind for folder, kind in _FOLDERS.items() if any(name.startswith(folder) for name in names)]
    return kinds[0] if kinds and "[Content_Types].xml" in names else ""


def modified(data: bytes) -> str:
    """Return when a package says it was last changed (ISO 8601), "" if it does not; libraries would say: now.

    The days of the templates that python-docx and python-pptx begin with say nothing about what was made of them.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        core = package.read("docProps/core.xml") if "docProps/core.xml" in package.namelist() else b""
    found = re.search(rb"<dcterms:modified[^>]*>\s*([0-9T:.Z+-]+)", core)
    day = found[1].decode() if found else ""
    return "" if day in ("2013-12-23T23:15:00Z", "2013-01-27T09:15:58Z") else day


# --- Word -------------------------------------------------------------------------------------------------------------


def read_docx(data: bytes, stem: str) -> Reading:
    """Read a Word document: headers and footers first, then all else in its order; deleted and hidden text is left out."""
    from docx.opc.part import PartFactory
    from docx.package import Package
    from docx.parts.document import DocumentPart

    # python-docx refuses documents with macros, whose text is no different.
    PartFactory.part_type_for["application/vnd.ms-word.document.macroEnabled.main+xml"] = DocumentPart
    part = Package.open(io.BytesIO(data)).main_document_part
    word = _Word(part)
    lines = [(squeeze(text), level) for text, level in (*word.margins(), *word.lines(part.element.body))]
    titles = (part.core_properties.title or "", " ".join(word.titles[:3]))
    return outlined(lines, stem, titles, date=modified(data))


class _Word:
    """Walks the XML of one Word document; counts list numbers as it goes."""

    def __init__(self, part: Any) -> None:
        self._part = part
        related = {r.reltype.rsplit("/", 1)[1]: r.target_part for r in part.rels.values() if not r.is_external}
        self._styles = {style.style_id: style for style in part.styles}
        self._notes = {
            (kind, note.get(_W + "id")): note
            for kind in _NOTES
            for note in (parse_xml(related[kind + "s"].blob) if kind + "s" in related else ())
        }
        self._lists = _Lists(parse_xml(related["numbering"].blob if "numbering" in related else b"<none/>"))
        self.titles: list[str] = []

    def margins(self) -> list[Line]:
        """Return what stands in headers and footers, once each; page numbers are left out."""
        found: dict[str, None] = {}
        for relation in self._part.rels.values():
            kind = {"header": "ヘッダー", "footer": "フッター"}.get(relation.reltype.rsplit("/", 1)[1])
            if kind and not relation.is_external:
                lines = (squeeze(text) for text, _ in self.lines(parse_xml(relation.target_part.blob)))
                found |= {f"{kind}: {text}": None for text in lines if re.search(r"[^\W\d_]", text)}
        return [(text, PLAIN) for text in found]

    def lines(self, container: Any) -> Iterator[Line]:
        """Yield the lines below an element that holds paragraphs and tables."""
        for number, element in enumerate(container):
            if number % 500 == 499:  # a file has no pages: these are some ten
                finished()
            if element.tag == _W + "p":
                yield from self._paragraph(element)
            elif element.tag == _W + "tbl":
                yield from self._table(element)
            elif element.tag not in _UNSEEN:
                yield from self.lines(element)

    def _paragraph(self, element: Any) -> Iterator[Line]:
        aside: list[Any] = []
        text = "".join(self._runs(element, aside)).strip()
        # What a paragraph does not say itself, its style says, or the style that one is based on.
        said: list[Any] = [element.find(_W + "pPr")]
        names: list[str] = []
        style = self._styles.get(_value(said[0], "pStyle"))
        while style is not None and len(names) < 20:
            names.append((style.name or "").lower())
            said.append(style.element.find(_W + "pPr"))
            style = style.base_style
        number, level = self._lists.label(said), _level(said, names)
        if text and not re.match("toc ?\\d|目次 ?\\d", names[0] if names else ""):
            if names and names[0] in ("title", "表題"):
                self.titles.append(squeeze(text))
                level = PLAIN
            head, *rest = f"{number} {text}".strip().split("\n")
            yield head, level
            yield from ((line, PLAIN if level else 0) for line in rest)
        for anchored in aside:
            if anchored.tag == _W + "txbxContent":
                yield from self.lines(anchored)
            elif anchored.tag.startswith(_W):
                kind = _NOTES[anchored.tag[len(_W) :]]
                yield f"{kind}: " + squeeze("".join("".join(self._runs(p, [])) for p in anchored.iter(_W + "p"))), PLAIN
            else:
                yield from ((f"図形: {text}", PLAIN) for text in _drawn(anchored) if text.strip())

    def _runs(self, element: Any, aside: list[Any]) -> Iterator[str]:
        """Text below a paragraph; the notes and text boxes anchored in it are collected aside."""
        for child in element:
            tag = child.tag
            if tag == _W + "t":
                yield child.text or ""
            elif tag in _SIGNS:
                yield _SIGNS[tag]
            elif tag == _W + "txbxContent":
                aside.append(child)
            elif isinstance(tag, str) and tag.endswith("}relIds"):  # SmartArt
                diagram = self._part.related_parts.get(child.get(f"{_R}dm"))
                aside.extend([] if diagram is None else [parse_xml(diagram.blob)])
            elif tag in _REFERENCES:
                note = self._notes.get((tag[len(_W) : -len("Reference")], child.get(_W + "id")))
                aside.extend([] if note is None else [note])
            elif tag not in _UNSEEN and isinstance(tag, str) and child.find(f"{_W}rPr/{_W}vanish") is None:
                yield from self._runs(child, aside)

    def _table(self, table: Any) -> Iterator[Line]:
        grid: list[list[str]] = []
        fills: list[set[str]] = []
        head = 0
        for row in table.xpath("./w:tr | ./w:sdt/w:sdtContent/w:tr"):
            cells: list[str] = []
            for cell in row.xpath("./w:tc | ./w:sdt/w:sdtContent/w:tc"):
                properties = cell.find(_W + "tcPr")
                text = squeeze("\n".join(line for line, _ in self.lines(cell)))
                if _has(properties, "vMerge") and _value(properties, "vMerge") != "restart" and grid:
                    text = "".join(grid[-1][len(cells) : len(cells) + 1])
                cells += [text, *[Covered(text)] * (min(int(_value(properties, "gridSpan") or "1"), 100) - 1)]
            head += head == len(grid) and _has(row.find(_W + "trPr"), "tblHeader")
            grid.append(cells)
            shades = (cell.find(f"{_W}tcPr/{_W}shd") for cell in row.iterfind(_W + "tc"))
            fills.append({"" if shade is None else shade.get(_W + "fill", "") for shade in shades} or {""})
        if all(len(set(row)) <= 1 for row in grid):  # a frame around text, not a table
            for cell in table.xpath(".//w:tc[not(.//w:tc)]"):
                yield from ((line, PLAIN) for line, _ in self.lines(cell))
        else:
            shaded = len(fills) > 1 and not fills[0] & {"", "auto", "FFFFFF", *fills[1]}
            yield from ((line, PLAIN) for _, line in table_rows(grid, min(head, 2) or texts.header_rows(grid) or int(shaded)))


def _level(said: list[Any], names: list[str]) -> int:
    """Heading level by the nearest outline level or style name; 0 for ordinary text."""
    for index, properties in enumerate(said):
        if _has(properties, "outlineLvl"):
            level = int(_value(properties, "outlineLvl"))
            return level + 1 if level < 9 else 0
        named = re.fullmatch(r"(?:heading|見出し) ?(\d)", names[index - 1]) if index else None
        if named:
            return int(named[1])
    return 0


class _Lists:
    """Automatic list numbers, which stand in no paragraph's text: 第1条, (1), 1.2.3."""

    def __init__(self, numbering: Any) -> None:
        numbers = list(numbering.iter(_W + "num"))
        self._abstract = {num.get(_W + "numId"): _value(num, "abstractNumId") for num in numbers}
        self._levels = {
            (entry.get(_W + "abstractNumId"), int(level.get(_W + "ilvl"))): level
            for entry in numbering.iter(_W + "abstractNum")
            for level in entry.iter(_W + "lvl")
        }
        self._restarts = {
            (num.get(_W + "numId"), int(change.get(_W + "ilvl"))): int(_value(change, "startOverride"))
            for num in numbers
            for change in num.iter(_W + "lvlOverride")
            if _has(change, "startOverride")
        }
        self._counts: dict[str, Counter[int]] = {}

    def label(self, said: list[Any]) -> str:
        """Count one paragraph and return its printed number, "" for a paragraph without one."""
        found = [properties.find(_W + "numPr") for properties in said if _has(properties, "numPr")]
        number, depth = (next(filter(None, (_value(p, name) for p in found)), "") for name in ("numId", "ilvl"))
        abstract, deepest = self._abstract.get(number, ""), int(depth or "0")
        level = self._levels.get((abstract, deepest))
        if level is None:
            return ""
        counts = self._counts.setdefault(abstract, Counter())
        for upper in range(deepest + 1):
            start = int(_value(self._levels.get((abstract, upper)), "start") or "1")
            counts.setdefault(upper, start - (upper == deepest))
        counts[deepest] = self._restarts.pop((number, deepest), counts[deepest] + 1)
        for deeper in [other for other in counts if other > deepest]:
            del counts[deeper]
        if _value(level, "numFmt") in ("bullet", "none"):
            return "・" if _value(level, "numFmt") == "bullet" else ""

        def numeral(match: re.Match[str]) -> str:
            depth = int(match[1]) - 1
            signs = _NUMERALS.get(_value(self._levels.get((abstract, depth)), "numFmt"), "")
            return signs[counts[depth] - 1] if 0 < counts[depth] <= len(signs) else str(counts[depth])

        return re.sub("%([1-9])", numeral, _value(level, "lvlText"))


def _has(element: Any, child: str) -> bool:
    return element is not None and element.find(_W + child) is not None


def _value(element: Any, child: str) -> str:
    return str(element.find(_W + child).get(_W + "val", "")) if _has(element, child) else ""


def parse_xml(blob: bytes) -> Any:
    """Parse a part of a package; nothing outside of it is looked up."""
    from lxml import etree

    return etree.fromstring(blob, etree.XMLParser(resolve_entities=False, no_network=True))


# --- PowerPoint -------------------------------------------------------------------------------------------------------


def read_pptx(data: bytes, stem: str) -> Reading:
    """Read slides: title, shapes from top to bottom, tables, charts, SmartArt, notes; hidden slides are read, and named."""
    from pptx import Presentation

    deck = Presentation(io.BytesIO(data))
    blocks: list[Block] = []
    for number, slide in enumerate(deck.slides, 1):
        head = slide.shapes.title
        title = squeeze(head.text_frame.text) if head is not None and head.has_text_frame else ""
        place = Place(slide=number, headings=(title,) if title else ())
        shapes = [shape for shape in slide.shapes if head is None or shape.shape_id != head.shape_id]
        found = [title, *_shape_texts(shapes)]
        for relation in slide.part.rels.values():
            if relation.reltype.endswith("/diagramData") and not relation.is_external:  # SmartArt
                found += _drawn(parse_xml(relation.target_part.blob))
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            notes = slide.notes_slide.notes_text_frame.text.splitlines()
            found += [f"ノート: {line}" for line in notes if line.strip()]
        blocks += [Block(text, place) for text in map(squeeze, found) if text and text != str(number)]
        finished()
    hidden = [str(n) for n, slide in enumerate(deck.slides, 1) if slide.element.get("show") in ("0", "false")]
    doubts = (f"非表示のスライドも読みました: {', '.join(hidden)}。",) if hidden else ()
    first = next((block.place.headings[0] for block in blocks if block.place.headings), "")
    title = texts.choose_title(stem, (deck.core_properties.title or "", first), blocks)
    return Reading(title, tuple(blocks), doubts, date=modified(data))


def _shape_texts(shapes: Iterable[Any]) -> Iterator[str]:
    """Texts of shapes in reading order: rows from the top, in a row from the left; groups and tables unfolded."""
    band = 360_000  # EMU, 1 cm: what stands in one row is seldom placed to the point
    for shape in sorted(shapes, key=lambda shape: ((shape.top or 0) // band, shape.left or 0)):
        if hasattr(shape, "shapes"):
            yield from _shape_texts(shape.shapes)
        elif getattr(shape, "has_table", False):
            grid = [[squeeze(cell.text) for cell in row.cells] for row in shape.table.rows]
            for i, row in enumerate(shape.table.rows):
                for j, cell in enumerate(row.cells):
                    if cell.is_merge_origin:
                        for merged in grid[i : i + cell.span_height]:
                            merged[j : j + cell.span_width] = [grid[i][j], *[Covered(grid[i][j])] * (cell.span_width - 1)]
            yield from (line for _, line in table_rows(grid, 1 if shape.table.first_row else None))
        elif getattr(shape, "has_chart", False):
            yield from _chart_texts(shape.chart)
        elif shape.has_text_frame and not (shape.is_placeholder and shape.placeholder_format.type in _FURNITURE):
            yield from (paragraph.text for paragraph in shape.text_frame.paragraphs)


def _chart_texts(chart: Any) -> Iterator[str]:
    """Titles of a chart, then its values as a table with a column for each series."""
    yield from (text.text or "" for text in chart._chartSpace.iter(_A + "t"))
    for plot in chart.plots:
        names = ["", *(series.name for series in plot.series)]
        values = zip(map(str, plot.categories), *(series.values for series in plot.series), strict=False)
        grid = [names, *([label, *("" if v is None else f"{v:.15g}" for v in row)] for label, *row in values)]
        yield from (line for _, line in table_rows(grid, 1))


def _drawn(root: Any) -> Iterator[str]:
    """Paragraphs of a drawing."""
    for paragraph in root.iter(_A + "p"):
        yield "".join(text.text or "" for text in paragraph.iter(_A + "t"))
