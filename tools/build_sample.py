"""Build data/sample/ (documents in eight formats, acl.csv, questions) from data/sample/sources/.

``sources/<部門>/<名前>.<ext>.md`` becomes ``documents/<部門>/<名前>.<ext>``; the parts in ``sources/questions/`` become
``questions.jsonl`` and ``development.jsonl``, each evidence with the place where its quote stands. Building twice gives
the same bytes. All that is wrong is listed at once. ``--check`` writes nothing and compares with what is committed.
"""

import argparse
import csv
import html
import io
import json
import random
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import east_asian_width, normalize

import docx
import openpyxl
import pptx
import pypdfium2
import typst
import yaml
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from docx.shared import Mm, Pt, RGBColor
from markdown_it import MarkdownIt
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from pptx.dml.color import RGBColor as SlideColor
from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
from pptx.util import Inches

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "sample"
COMPANY, FONT, INK, PALE = "あさぎり精工株式会社", "游ゴシック", "1F3A5F", "E4EAF2"
STAMP = datetime(2026, 11, 2, 9, 0, 0)  # noqa: DTZ001 - Office files hold local times
KINDS = ("plain", "paraphrase", "table", "two_documents", "edition", "unanswerable")
COUNTS = {"questions.jsonl": (r"\w+\.jsonl", 200), "development.jsonl": (r"\w+\.dev\.jsonl", 60)}
Place = dict[str, Any]
Case = dict[str, Any]
Texts = list[tuple[Place, str]]
Rows = tuple[tuple[str, ...], ...]


class Block(NamedTuple):
    """One piece of a source: ``kind`` is heading, text, item, note, table or break."""

    kind: str
    text: str = ""
    level: int = 0  # the number of # of a heading; the depth of a list item, from 0
    mark: str = ""  # "1." of a numbered item
    rows: Rows = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One source file: its front matter and its body, whole and in blocks (without the ``#`` title)."""

    name: str
    head: dict[str, Any]
    body: str
    blocks: list[Block]
    title: str
    suffix: str


def read_source(path: Path, root: Path) -> Source:
    _, front, body = path.read_text(encoding="utf-8").split("---\n", 2)
    name, head = normalize("NFC", path.relative_to(root).as_posix().removesuffix(".md")), yaml.safe_load(front)
    blocks = [block for block in parse(body) if block[:3:2] != ("heading", 1)]
    return Source(name, head, body.strip("\n") + "\n", blocks, str(head["title"]), name.rsplit(".")[1])


def parse(body: str) -> Iterator[Block]:
    """Cut Markdown into blocks; each line of a paragraph is a paragraph of its own, as Japanese rules are written."""
    table: list[tuple[str, ...]] = []
    for line in [*body.splitlines(), ""]:
        if line.startswith("|"):
            table.append(tuple(plain(cell.strip()) for cell in line.strip().removesuffix("|")[1:].split("|")))
            continue
        if table:
            header, _, *rows = table
            yield Block("table", rows=(header, *((*row, *[""] * len(header))[: len(header)] for row in rows)))
            table = []
        if match := re.match(r"(#+) +(.+)", line):
            yield Block("heading", match[2].strip(), len(match[1]))
        elif match := re.match(r"( *)(?:[-*]|(\d+\.)) +(.+)", line):
            yield Block("item", match[3].strip(), min(len(match[1]) // 2, 2), match[2] or "")
        elif match := re.match(r"> ?(.+)", line):
            yield Block("note", match[1].strip())
        elif line.strip():
            yield Block("break") if line.strip() == "\\pagebreak" else Block("text", line.strip())


def runs(text: str) -> list[tuple[str, bool]]:
    """Text in runs, each with whether it is bold."""
    return [(part, index % 2 == 1) for index, part in enumerate(text.replace("`", "").split("**")) if part]


def plain(text: str) -> str:
    return "".join(part for part, _ in runs(text))


def normal(text: str) -> str:
    """Text as it is compared: NFKC, without white space and marks of Markdown."""
    return re.sub(r"[\s|]", "", normalize("NFKC", plain(text)))


def width(text: str) -> float:
    """Width in full-width characters."""
    return sum(1 if east_asian_width(letter) in "WFA" else 0.55 for letter in text)


def shares(rows: Rows) -> list[float]:
    """The part of a table's width that each column gets."""
    wanted = [max(min(max(map(width, column)), 24), 4) + 2 for column in zip(*rows, strict=True)]
    return [value / sum(wanted) for value in wanted]


def amounts(rows: Rows) -> list[bool]:
    """Which columns after the first hold amounts, to be set flush right."""
    amount = re.compile(r"[-▲△±+]?[\d,.]+ ?[^\d\s]{0,3}|[-―—－]?")
    return [n > 0 and all(map(amount.fullmatch, column[1:])) for n, column in enumerate(zip(*rows, strict=True))]


def hanging(block: Block) -> int:
    """Depth of a number at the start: 1 for ``１　`` or ``1.``, 2 for ``（1）`` or ``①``, else 0."""
    if block.mark or re.match(r"[0-9０-９]+　", block.text):
        return 1 + block.level
    return 2 if re.match(r"[（(][0-9０-９一-十]+[）)]|[①-⑳]", block.text) else 0


def add_runs(paragraph: Any, text: str, size: float | None = None, bold: bool = False) -> None:
    """Fill a paragraph of python-docx or python-pptx."""
    for part, strong in runs(text):
        run = paragraph.add_run()
        run.text, run.font.bold, run.font.size = part, (bold or strong) or None, Pt(size) if size else None


def packed(document: Any, source: Source) -> bytes:
    """An Office file with fixed dates and order, our title, and our fonts and colour in its theme."""
    properties = getattr(document, "core_properties", None) or document.properties
    setattr(properties, "author" if hasattr(properties, "author") else "creator", COMPANY)
    properties.title, properties.created, properties.modified = source.title, STAMP, STAMP
    raw, packing = io.BytesIO(), io.BytesIO()
    document.save(raw)
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(packing, "w") as new:
        for name in sorted(old.namelist(), key=lambda name: (name != "[Content_Types].xml", name)):
            data = old.read(name)
            if name.endswith("/theme1.xml"):
                data = re.sub(rb'<a:(latin|ea) typeface="[^"]*"', rb'<a:\1 typeface="%s"' % FONT.encode(), data)
                data = data.replace(b"4F81BD", INK.encode())
            elif name == "docProps/core.xml":  # openpyxl puts the time of saving there
                data = re.sub(rb"\d{4}-\d\d-\d\dT[\d:]+Z", STAMP.strftime("%Y-%m-%dT%H:%M:%SZ").encode(), data)
            elif name == "word/styles.xml":
                data = data.replace(b'w:eastAsia="en-US"', b'w:eastAsia="ja-JP"')
            new.writestr(zipfile.ZipInfo(name, STAMP.timetuple()[:6]), data, zipfile.ZIP_DEFLATED)
    return packing.getvalue()


def contents(data: bytes) -> Any:
    """What two builds must share: the bytes; of an Office file, unpacked (zlib differs between machines)."""
    if not data.startswith(b"PK"):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def build_docx(source: Source) -> bytes:
    document = docx.Document()
    section = document.sections[0]
    section.page_width, section.page_height, section.left_margin, section.right_margin = map(Mm, (210, 297, 25, 25))
    for name, size in {"Normal": 10.5, "Title": 20, "Heading 1": 14, "Heading 2": 11.5, "Heading 3": 10.5}.items():
        style = document.styles[name]
        style.font.size, style.paragraph_format.space_after = Pt(size), Pt(4)
        style.font.color.rgb = RGBColor.from_string("000000" if name == "Normal" else INK)
    section.header.paragraphs[0].text = f"{COMPANY}　{source.title}"
    field = f'<w:fldSimple {nsdecls("w")} w:instr="PAGE"><w:r><w:t>1</w:t></w:r></w:fldSimple>'
    section.footer.paragraphs[0]._p.append(parse_xml(field))
    section.footer.paragraphs[0].alignment = WD_ALIGN_PARAGRAPH.CENTER
    document.add_paragraph(source.title, "Title")
    for block in source.blocks:
        if block.kind == "heading":
            document.add_heading(plain(block.text), block.level - 1)
        elif block.kind == "table":
            docx_table(document, block.rows)
        elif block.kind == "break":
            document.add_page_break()
        else:
            bullet = ("List Bullet", "List Bullet 2", "List Bullet 3")[block.level]
            paragraph = document.add_paragraph(style=bullet if block.kind == "item" and not block.mark else None)
            add_runs(paragraph, f"{block.mark}　{block.text}" if block.mark else block.text)
            if depth := hanging(block):
                paragraph.paragraph_format.left_indent = Pt(21 * depth)
                paragraph.paragraph_format.first_line_indent = Pt(-21)
    return packed(document, source)


def docx_table(document: Any, rows: Rows) -> None:
    table = document.add_table(len(rows), len(rows[0]), "Table Grid")
    table.autofit, flush = False, amounts(rows)
    for column, share in zip(table.columns, shares(rows), strict=True):
        column.width = Mm(160 * share)
    for number, row in enumerate(table.rows):
        for mark in ("cantSplit", "tblHeader")[: 1 if number else 2]:
            row._tr.get_or_add_trPr().append(parse_xml(f"<w:{mark} {nsdecls('w')}/>"))
        for column, cell in enumerate(row.cells):
            cell.width = table.columns[column].width
            paragraph = cell.paragraphs[0]
            paragraph.paragraph_format.space_before = paragraph.paragraph_format.space_after = Pt(2)
            add_runs(paragraph, rows[number][column], 9, bold=number == 0)
            if number == 0:
                cell._tc.get_or_add_tcPr().append(parse_xml(f'<w:shd {nsdecls("w")} w:val="clear" w:fill="{PALE}"/>'))
            elif flush[column]:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
    document.add_paragraph().paragraph_format.space_after = Pt(0)


TYPST = """#set document(date: none, title: TITLE)
#set page(paper: "a4", margin: (x: 24mm, top: 28mm, bottom: 24mm),
  header: text(8pt, fill: luma(90))[COMPANY #h(1fr) #TITLE #v(-6pt) #line(length: 100%, stroke: 0.4pt + luma(150))],
  footer: context align(center, text(8pt, fill: luma(90))[#counter(page).display() ／ #counter(page).final().first()]))
#set text(font: "IPAexGothic", lang: "ja", region: "JP", size: 10pt)
#set par(leading: 0.75em, spacing: 0.9em, justify: true)
#let ink = rgb("#1F3A5F"); #let pale = rgb("#E4EAF2")
#show heading: it => block(above: 1.4em, below: 0.8em, sticky: true, text(11pt, fill: ink, it.body))
#show heading.where(level: 1): it => block(above: 1.8em, below: 1em, sticky: true, width: 100%, fill: pale,
  inset: (left: 8pt, y: 5pt), stroke: (left: 3pt + ink), text(13pt, fill: ink, it.body))
#let bold(s) = text(stroke: 0.2pt, s)
#let entry(depth, mark, body) = pad(left: 0.6em + depth * 1.4em, grid(columns: (1.6em, 1fr), mark, body))
#let clause(depth, body) = pad(left: calc.max(depth - 1, 0) * 1.2em,
  par(hanging-indent: calc.min(depth, 1) * 2em, body))
#let rows(columns, align, head, ..cells) = block(above: 1em, below: 1.2em, {
  set text(8.5pt); set par(justify: false, leading: 0.55em)
  table(columns: columns, align: (x, y) => if y == 0 { center + horizon } else { align.at(x) + top },
    inset: (x: 4pt, y: 4.5pt), stroke: 0.5pt + luma(120), fill: (x, y) => if y == 0 { pale },
    table.header(..head.map(bold)), ..cells) })
#align(center, block(above: 0.5em, below: 1em, text(20pt, fill: ink, tracking: 0.08em, TITLE)))
#line(length: 100%, stroke: 1pt + ink)
"""


def typst_text(text: str) -> str:
    """Text as string literals, so that nothing in it is markup; bold is drawn with a stroke (the font has no bold)."""
    quoted = [(json.dumps(part, ensure_ascii=False), bold) for part, bold in runs(text)]
    return " + ".join(f"bold({part})" if bold else part for part, bold in quoted) or '""'


def build_pdf(source: Source) -> bytes:
    parts = [TYPST.replace("TITLE", typst_text(source.title)).replace("COMPANY", COMPANY)]
    if sum(block[:3:2] == ("heading", 2) for block in source.blocks) >= 5:
        parts.append("#block(inset: (x: 12mm, y: 6mm), outline(title: none, depth: 1))")
    for kind, text, level, mark, rows in source.blocks:
        if kind == "table":
            columns = ", ".join(f"{share * 100:.2f}fr" for share in shares(rows))
            sides = ", ".join("right" if flush else "left" for flush in amounts(rows))
            head, *cells = (", ".join(map(typst_text, row)) for row in rows)
            parts.append(f"#rows(({columns},), ({sides},), ({head},), {', '.join(cells)})")
        elif kind == "item":
            parts.append(f"#entry({level}, {typst_text(mark or '・–・'[level])}, {typst_text(text)})")
        elif kind == "heading":
            parts.append(f"#heading(level: {level - 1}, {typst_text(text)})")
        else:
            clause = f"#clause({hanging(Block(kind, text))}, {typst_text(text)})"
            parts.append("#pagebreak()" if kind == "break" else clause)
    fonts = str(Path(find_spec("matplotlib_fontja").origin).parent / "fonts")  # found, not imported: that takes seconds
    return typst.compile("\n".join(parts).encode(), font_paths=[fonts], ignore_system_fonts=True)


def build_pptx(source: Source) -> bytes:
    deck = pptx.Presentation()
    deck.slide_width, deck.slide_height = Inches(13.333), Inches(7.5)
    for number, (title, blocks) in enumerate(slides(source), 1):
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        top, height, size = (2.0, 1.5, 36) if number == 1 else (0, 1.05, 28)
        bar = slide.shapes.title
        bar.left, bar.top, bar.width, bar.height = 0, Inches(top), deck.slide_width, Inches(height)
        bar.fill.solid()
        bar.fill.fore_color.rgb = SlideColor.from_string(INK)
        bar.text_frame.margin_left, bar.text_frame.vertical_anchor = Inches(0.7), MSO_ANCHOR.MIDDLE
        paragraph = bar.text_frame.paragraphs[0]
        add_runs(paragraph, title, min(size, 11.5 * 72 / width(title)), bold=True)
        paragraph.alignment, paragraph.runs[0].font.color.rgb = PP_ALIGN.LEFT, SlideColor(255, 255, 255)
        slide_body(slide, blocks, top + height + 0.25)
        foot = slide.shapes.add_textbox(Inches(0.6), Inches(6.95), Inches(12.1), Inches(0.4)).text_frame
        foot.word_wrap = True
        add_runs(foot.paragraphs[0], f"{COMPANY}　　{number}", 10)
        if notes := [plain(block.text) for block in blocks if block.kind == "note"]:
            slide.notes_slide.notes_text_frame.text = "\n".join(notes)
    return packed(deck, source)


def slides(source: Source) -> list[tuple[str, list[Block]]]:
    """Title and blocks of each slide; the first is the cover."""
    cover = [Block("text", str(source.head.get("edition", source.title)))]
    pages = [] if source.blocks[0].text == source.title else [(source.title, cover)]
    for block in source.blocks:
        if block[:3:2] == ("heading", 2):
            pages.append((plain(block.text), []))
        else:
            pages[-1][1].append(block)
    return pages


def slide_body(slide: Any, blocks: list[Block], top: float) -> None:
    """One text box and, below it, at most one table, in the largest size that fits (inches; 72 points each)."""
    texts = [block for block in blocks if block.kind in ("text", "item")]
    rows: Rows = next((block.rows for block in blocks if block.kind == "table"), ())
    for size in (26, 24, 22, 20, 18, 16, 14, 12):
        high = sum(-(-width(block.text) * size // (11.2 * 72)) * size * 1.55 / 72 for block in texts)
        room = [11.9 * 72 * share / (size - 4) - 1.3 for share in shares(rows)]
        lines = [max(-(-width(cell) // space) or 1 for cell, space in zip(row, room, strict=True)) for row in rows]
        if top + high + sum(count * (size - 4) * 1.3 / 72 + 0.1 for count in lines) < 6.8:
            break
    frame = slide.shapes.add_textbox(Inches(0.7), Inches(top), Inches(11.9), Inches(high + 0.1)).text_frame
    frame.word_wrap = True
    for number, block in enumerate(texts):
        paragraph = frame.add_paragraph() if number else frame.paragraphs[0]
        paragraph.space_after = Pt(size * 0.3)
        add_runs(paragraph, block.text, size - 2 * block.level)
        if block.kind == "item":
            mark = f"<a:buChar %s char='{'•–・'[block.level]}'/>"
            mark = "<a:buAutoNum %s type='arabicPeriod'/>" if block.mark else mark
            properties = paragraph._p.get_or_add_pPr()
            properties.set("marL", str(Inches(0.3 + 0.35 * block.level)))
            properties.set("indent", str(-Inches(0.3)))
            properties.append(parse_xml(mark % nsdecls("a")))
    if rows:
        place = (Inches(0.7), Inches(top + high + 0.15), Inches(11.9), Inches(0.3 * len(rows)))
        table = slide.shapes.add_table(len(rows), len(rows[0]), *place).table
        for column, share in zip(table.columns, shares(rows), strict=True):
            column.width = Inches(11.9 * share)
        for cell, text in zip(table.iter_cells(), sum(rows, ()), strict=True):
            cell.margin_top = cell.margin_bottom = Inches(0.04)
            add_runs(cell.text_frame.paragraphs[0], text, size - 4)


def units(source: Source) -> Iterator[tuple[Place, Block, tuple[str, ...]]]:
    """Each paragraph and table row with its place; a worksheet's rows are where ``build_xlsx`` puts them."""
    path: list[str] = []
    slide, row, before = int(source.blocks[0].text != source.title), 0, ""
    for block in source.blocks:
        if block.kind == "heading":
            path = [*path[: block.level - 2], normalize("NFKC", plain(block.text))]
            slide, row = (slide + 1, 0) if block.level == 2 else (slide, row)
            if source.suffix == "xlsx":
                continue
        row += bool(row and source.suffix == "xlsx" and "table" in (before, block.kind))  # an empty row round a table
        for cells in block.rows or ((plain(block.text),),):
            row += 1
            places: dict[str, Place] = {"csv": {"row": row}, "pptx": {"slide": slide}}
            places["xlsx"] = {"sheet": "".join(path[:1]), "row": row}
            yield places.get(source.suffix, {"headings": path} if path else {}), block, cells
        before = block.kind


def build_xlsx(source: Source) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    line = Border(*[Side("thin", color="9AA5B1")] * 4)
    for place, block, cells in units(source):
        name, row, header = place["sheet"], place["row"], cells is next(iter(block.rows), None)
        sheet = book[name] if name in book.sheetnames else book.create_sheet(name)
        for number, text in enumerate(cells, 1):
            cell = sheet.cell(row, number)
            column = [other[number - 1] for other in block.rows]
            cell.value, cell.number_format = typed(text, column[1:])
            cell.font = Font(name=FONT, size=10, bold=header)
            if block.kind == "table":
                cell.border, cell.alignment = line, Alignment("left" if number == 1 else None, "top", wrap_text=True)
            if header:
                cell.fill, sheet.freeze_panes = PatternFill("solid", fgColor=PALE), f"A{row + 1}"
                longest = max(map(width, column))
                sheet.column_dimensions[get_column_letter(number)].width = min(max(longest * 2 + 3, 7), 44)
        sheet.page_setup.orientation, sheet.page_setup.fitToHeight = "landscape", 0
        sheet.sheet_properties.pageSetUpPr.fitToPage = True
    return packed(book, source)


def typed(text: str, column: list[str]) -> tuple[str | int | float | date, str]:
    """A cell's value and number format: an ISO date is a date, a number in a column of numbers a number."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return date.fromisoformat(text), "yyyy-mm-dd"
    numbers = {other for other in column if re.fullmatch(r"-?(0|[1-9][\d,]{0,12})(\.\d+)?", other)}
    if text not in numbers or sum(other in numbers for other in column) * 2 < len(column):
        return text, "General"
    whole, dot, decimals = text.replace(",", "").partition(".")
    form = ("#,##0" if any("," in number for number in numbers) else "0") + dot + "0" * len(decimals)
    return float(f"{whole}.{decimals}") if dot else int(whole), form


def build_csv(source: Source) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(source.blocks[0].rows)
    return text.getvalue().encode(source.head.get("encoding", "utf-8-sig"))


def build_text(source: Source) -> bytes:
    encoding = source.head.get("encoding", "utf-8")
    return source.body.replace("\n", "\r\n" if encoding == "cp932" else "\n").encode(encoding)


HTML = """<!DOCTYPE html>
<html lang="ja">
<head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font-family: "游ゴシック", "Noto Sans CJK JP", sans-serif; color: #222; line-height: 1.8; margin: 0; }}
header, footer {{ background: #1F3A5F; color: #fff; padding: .8em 2em; clear: both; }}
nav {{ float: left; width: 15em; padding: 1em 2em; font-size: 85%; }} nav ul {{ padding: 0; list-style: none; }}
main {{ max-width: 54em; margin-left: 19em; padding: 1em 2em 3em; }}
h1, h2, h3 {{ color: #1F3A5F; }} h2 {{ border-bottom: 2px solid; }} table {{ border-collapse: collapse; }}
th, td {{ border: 1px solid #9AA5B1; padding: .3em .7em; }}
th, blockquote {{ background: #E4EAF2; }} blockquote {{ padding: .3em 1em; }}
</style></head>
<body>
<header>あさぎりポータル</header>
<nav><ul>
{nav}
</ul></nav>
<main>
{main}</main>
<footer>あさぎり精工株式会社</footer>
</body>
</html>
"""


def build_html(source: Source) -> bytes:
    body = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", source.body)
    main = MarkdownIt("commonmark", {"breaks": True}).enable("table").render(body)
    nav = "\n".join(f"<li>{title}</li>" for title in re.findall(r"<h2>(.*?)</h2>", main))
    return HTML.format(title=html.escape(source.title), nav=nav, main=main).encode()


BUILDERS: dict[str, Callable[[Source], bytes]] = {
    **{"docx": build_docx, "pdf": build_pdf, "pptx": build_pptx, "xlsx": build_xlsx},
    **{"html": build_html, "csv": build_csv, "txt": build_text, "md": build_text},
}


def texts_by_place(source: Source, built: bytes) -> Texts:
    """The document's text by place, to find quotes in: a PDF's as built."""
    if source.suffix == "txt":
        return [({}, normal(source.body))]
    if source.suffix != "pdf":
        return [(place, normal("".join(cells))) for place, _, cells in units(source)]
    with pypdfium2.PdfDocument(built) as pdf:
        return [({"page": n}, normal(page.get_textpage().get_text_range())) for n, page in enumerate(pdf, 1)]


def find(quote: str, row: str, texts: Texts) -> Place | None:
    """Place of a quote; with ``row``, where it stands nearest after that text."""
    best, found = sys.maxsize, None
    for place, text in texts:
        for match in re.finditer(re.escape(normal(quote)), text):
            start = text.rfind(normal(row), 0, match.end()) if row else match.start()
            if start >= 0 and match.start() - start < best:
                best, found = match.start() - start, place
    return found


def resolve(case: Case, sources: dict[str, Source], texts: dict[str, Texts], faults: list[str]) -> Case:
    """The case with places instead of quotes; what is wrong with it goes to ``faults``."""
    evidence, quotes = [], [normal(item["quote"]) for item in case["evidence"]]
    several = len({item["document"] for item in case["evidence"]}) > 1
    if case["kind"] not in KINDS or (case["kind"] == "unanswerable") != (not case["answers"]):
        faults.append(f"kind does not fit: {case['kind']}")
    if bool(case["answers"]) != bool(quotes) or (case["kind"] == "two_documents") != several:
        faults.append("number of evidence documents does not fit")
    firsts = [part[0] for part in case["answers"]]
    faults += [f"wording not in a quote: {first}" for first in firsts if not any(normal(first) in q for q in quotes)]
    for item in case["evidence"]:
        source = sources.get(item["document"])
        place = find(item["quote"], item.get("row", ""), texts[source.name]) if source else None
        if place is None:
            faults.append(f"{'quote not found in' if source else 'no such document:'} {item}")
        if source and case["user"] not in source.head.get("readers", [case["user"]]):
            faults.append(f"the asker may not read {source.name}")
        evidence.append({"document": item["document"], "place": place})
    return {key: evidence if key == "evidence" else case[key] for key in case}


def build(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """All files by path below data/sample/, and what is wrong with the questions."""
    sources = {source.name: source for source in (read_source(path, folder) for path in sorted(folder.glob("*/*.md")))}
    built = {name: BUILDERS[source.suffix](source) for name, source in sources.items()}
    texts = {name: texts_by_place(source, built[name]) for name, source in sources.items()}
    acl = [f"{name},{';'.join(s.head['readers'])}\n" for name, s in sources.items() if "readers" in s.head]
    files = {f"documents/{name}": data for name, data in built.items()}
    files["documents/acl.csv"] = "".join(["パス,閲覧者\n*,everyone\n", *acl]).encode()
    faults, ids = [], set()
    for name, (pattern, count) in COUNTS.items():
        cases = []
        for path in sorted(path for path in (folder / "questions").iterdir() if re.fullmatch(pattern, path.name)):
            for case in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
                wrong = ["id stands twice"] if case["id"] in ids else []
                cases.append(resolve(case, sources, texts, wrong))
                faults += [f"{path.name} {case['id']}: {what}" for what in wrong]
                ids.add(case["id"])
        if len(cases) != count:
            faults.append(f"{name}: {len(cases)} questions instead of {count}")
        random.Random(20261102).shuffle(cases)
        files[name] = "".join(json.dumps(case, ensure_ascii=False) + "\n" for case in cases).encode()
    return files, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, write nothing")
    check = parser.parse_args().check
    files, faults = build(SAMPLE / "sources")
    if check:
        there = {path.relative_to(SAMPLE).as_posix(): path for path in SAMPLE.glob("documents/**/*.*")}
        there |= {name: SAMPLE / name for name in COUNTS if (SAMPLE / name).exists()}
        same = [n for n in files if n in there and contents(there[n].read_bytes()) == contents(files[n])]
        faults += [f"{name}: not the same as a rebuild" for name in sorted({*files, *there} - {*same})]
    else:
        shutil.rmtree(SAMPLE / "documents", ignore_errors=True)
        for name, data in files.items():
            (SAMPLE / name).parent.mkdir(parents=True, exist_ok=True)
            (SAMPLE / name).write_bytes(data)
    print("\n".join(faults) or f"{len(files)} files, all as they should be")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
