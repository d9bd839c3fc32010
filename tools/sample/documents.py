"""The writers of the sample documents, one a format, and where the text of a document stands.

A format is a ``write_*`` function in ``WRITERS`` and a branch of ``places``. The look of the PDF files is ``page.typ``,
that of the HTML pages ``page.html``. All files are free of dates and chance, so that building twice gives the same bytes.
"""

import csv
import html
import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any
from unicodedata import east_asian_width, normalize

import docx
import openpyxl
import pptx
import pypdfium2
import typst
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
from sample.source import Block, Rows, Source, chapters, plain, runs

LAYOUTS = Path(__file__).parent
COMPANY, FONT, INK, PALE = "あさぎり精工株式会社", "游ゴシック", "1F3A5F", "E4EAF2"
Text = tuple[dict[str, Any], str]  # a place in a document and what stands there


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


def is_numbered(block: Block) -> bool:
    """Whether a paragraph begins with its number (``1.`` or ``１　``), so that its further lines are indented."""
    return bool(block.mark or re.match(r"\d+　", block.text))


def add_runs(paragraph: Any, text: str, size: float | None = None, bold: bool = False) -> None:
    """Fill a paragraph of python-docx or python-pptx."""
    for part, strong in runs(text):
        run = paragraph.add_run()
        run.text, run.font.bold, run.font.size = part, (bold or strong) or None, Pt(size) if size else None


def packed(document: Any, properties: Any, source: Source) -> bytes:
    """An Office file with fixed dates and order, our title, and our fonts and colour in its theme."""
    properties.title = source.title
    properties.author = properties.creator = COMPANY  # python-docx and python-pptx say author, openpyxl creator
    raw, packing = io.BytesIO(), io.BytesIO()
    document.save(raw)
    with zipfile.ZipFile(raw) as old, zipfile.ZipFile(packing, "w") as new:
        for name in sorted(old.namelist(), key=lambda name: (name != "[Content_Types].xml", name)):
            data = old.read(name)
            if name.endswith("/theme1.xml"):
                data = re.sub(rb'<a:(latin|ea) typeface="[^"]*"', rb'<a:\1 typeface="%s"' % FONT.encode(), data)
                data = data.replace(b"4F81BD", INK.encode())
            elif name == "docProps/core.xml":  # where the time of saving is
                data = re.sub(rb"\d{4}-\d\d-\d\dT[\d:]+Z", b"2026-11-02T09:00:00Z", data)
            elif name == "word/styles.xml":
                data = data.replace(b'w:eastAsia="en-US"', b'w:eastAsia="ja-JP"')
            new.writestr(zipfile.ZipInfo(name, (2026, 11, 2, 9, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return packing.getvalue()


def write_docx(source: Source) -> bytes:
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
            document.add_heading(block.text, block.level)
        elif block.kind == "table":
            docx_table(document, block.rows)
        elif block.kind == "break":
            document.add_page_break()
        else:
            bullet = block.kind == "item" and not block.mark
            paragraph = document.add_paragraph(style="List Bullet" if bullet else None)
            add_runs(paragraph, f"{block.mark}　{block.text}" if block.mark else block.text)
            if is_numbered(block):
                paragraph.paragraph_format.left_indent = Pt(21)
                paragraph.paragraph_format.first_line_indent = Pt(-21)
    return packed(document, document.core_properties, source)


def docx_table(document: Any, rows: Rows) -> None:
    table = document.add_table(len(rows), len(rows[0]), "Table Grid")
    table.autofit, flush = False, amounts(rows)
    for column, share in zip(table.columns, shares(rows), strict=True):
        column.width = Mm(160 * share)
    for number, row in enumerate(table.rows):
        header = number == 0
        for mark in ("cantSplit", "tblHeader") if header else ("cantSplit",):
            row._tr.get_or_add_trPr().append(parse_xml(f"<w:{mark} {nsdecls('w')}/>"))
        for column, cell in enumerate(row.cells):
            cell.width = table.columns[column].width
            paragraph = cell.paragraphs[0]
            paragraph.paragraph_format.space_before = paragraph.paragraph_format.space_after = Pt(2)
            add_runs(paragraph, rows[number][column], 9, bold=header)
            if header:
                cell._tc.get_or_add_tcPr().append(parse_xml(f'<w:shd {nsdecls("w")} w:val="clear" w:fill="{PALE}"/>'))
            elif flush[column]:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
    document.add_paragraph().paragraph_format.space_after = Pt(0)


def write_pdf(source: Source) -> bytes:
    """Typst lays out the blocks as ``page.typ`` says; rulebooks of five chapters and more get a table of contents."""
    blocks = [
        {
            **asdict(block),
            "runs": runs(block.text),
            "numbered": is_numbered(block),
            "shares": [round(share * 100, 2) for share in shares(block.rows)],
            "amounts": amounts(block.rows),
        }
        for block in source.blocks
    ]
    look = {"company": COMPANY, "ink": INK, "pale": PALE, "contents": len(chapters(source)) > 5}
    data = json.dumps({"title": source.title, "blocks": blocks, **look})
    fonts = Path(find_spec("matplotlib_fontja").origin).parent / "fonts"  # found, not imported: that takes seconds
    return typst.compile(
        LAYOUTS / "page.typ", font_paths=[fonts], ignore_system_fonts=True, sys_inputs={"source": data}
    )


def slides(source: Source) -> list[tuple[str, list[Block]]]:
    """Title and blocks of each slide; a deck whose first ``##`` is not its title gets a cover with its edition."""
    (title, blocks), *others = chapters(source)
    cover = (title, [Block("text", source.head["edition"]), *blocks])
    return others if others[0][0] == title else [cover, *others]


def write_pptx(source: Source) -> bytes:
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
    return packed(deck, deck.core_properties, source)


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
            properties = paragraph._p.get_or_add_pPr()
            properties.set("marL", str(Inches(0.3 + 0.35 * block.level)))
            properties.set("indent", str(-Inches(0.3)))
            properties.append(parse_xml(f"<a:buChar {nsdecls('a')} char='{'•–'[block.level]}'/>"))
    if rows:
        place = (Inches(0.7), Inches(top + high + 0.15), Inches(11.9), Inches(0.3 * len(rows)))
        table = slide.shapes.add_table(len(rows), len(rows[0]), *place).table
        for column, share in zip(table.columns, shares(rows), strict=True):
            column.width = Inches(11.9 * share)
        for cell, text in zip(table.iter_cells(), sum(rows, ()), strict=True):
            cell.margin_top = cell.margin_bottom = Inches(0.04)
            add_runs(cell.text_frame.paragraphs[0], text, size - 4)


def sheets(source: Source) -> Iterator[tuple[str, int, Block]]:
    """Worksheet and first row of each block: each ``##`` is a sheet; above and below a table is an empty row."""
    for name, blocks in chapters(source)[1:]:
        row = 1
        for block in blocks:
            gap = 1 if block.kind == "table" else 0
            yield name, row + gap, block
            row += len(block.lines) + 2 * gap


def write_xlsx(source: Source) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, _ in chapters(source)[1:]:
        sheet = book.create_sheet(name)
        sheet.page_setup.orientation, sheet.page_setup.fitToHeight = "landscape", 0
        sheet.sheet_properties.pageSetUpPr.fitToPage = True
    for name, first, block in sheets(source):
        if block.kind == "table":
            xlsx_table(book[name], first, block.rows)
        else:
            book[name].cell(first, 1, block.text).font = Font(name=FONT, size=10)
    return packed(book, book.properties, source)


def xlsx_table(sheet: Any, first: int, rows: Rows) -> None:
    line = Border(*[Side("thin", color="9AA5B1")] * 4)
    sheet.freeze_panes = f"A{first + 1}"
    for number, column in enumerate(zip(*rows, strict=True), 1):
        sheet.column_dimensions[get_column_letter(number)].width = min(max(max(map(width, column)) * 2 + 3, 7), 44)
        for row, text in enumerate(column, first):
            cell = sheet.cell(row, number)
            cell.value, cell.number_format = typed(text, column[1:])
            cell.font, cell.border = Font(name=FONT, size=10, bold=row == first), line
            cell.alignment = Alignment("left" if number == 1 else None, "top", wrap_text=True)
            if row == first:
                cell.fill = PatternFill("solid", fgColor=PALE)


def typed(text: str, column: tuple[str, ...]) -> tuple[str | int | float, str]:
    """A cell's value and number format: in a column that is mostly numbers, a number."""
    numbers = [other for other in column if re.fullmatch(r"-?(0|[1-9][\d,]{0,12})(\.\d+)?", other)]
    if text not in numbers or len(numbers) * 2 < len(column):
        return text, "General"
    whole, dot, decimals = text.replace(",", "").partition(".")
    form = ("#,##0" if any("," in number for number in numbers) else "0") + dot + "0" * len(decimals)
    return float(f"{whole}.{decimals}") if dot else int(whole), form


def write_csv(source: Source) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(source.blocks[0].rows)
    return text.getvalue().encode(source.head.get("encoding", "utf-8-sig"))


def write_text(source: Source) -> bytes:
    encoding = source.head.get("encoding", "utf-8")
    return source.body.replace("\n", "\r\n" if encoding == "cp932" else "\n").encode(encoding)


def write_html(source: Source) -> bytes:
    main = MarkdownIt("commonmark", {"breaks": True}).enable("table").render(source.body)
    nav = "\n".join(f"<li>{html.escape(title)}</li>" for title, _ in chapters(source)[1:])
    template = Template((LAYOUTS / "page.html").read_text(encoding="utf-8"))
    page = template.substitute(title=html.escape(source.title), nav=nav, main=main, company=COMPANY, ink=INK, pale=PALE)
    return page.encode()


WRITERS = {
    ".docx": write_docx,
    ".pdf": write_pdf,
    ".pptx": write_pptx,
    ".xlsx": write_xlsx,
    ".html": write_html,
    ".csv": write_csv,
    ".txt": write_text,
    ".md": write_text,
}


def places(source: Source, built: bytes) -> Iterator[Text]:
    """The document's text by place, to find quotes in: a PDF's as built, any other's as its writer lays it out."""
    if source.suffix == ".pdf":
        with pypdfium2.PdfDocument(built) as pdf:
            yield from (({"page": n}, page.get_textpage().get_text_range()) for n, page in enumerate(pdf, 1))
    elif source.suffix == ".pptx":
        for n, (title, blocks) in enumerate(slides(source), 1):
            yield {"slide": n}, title + "".join(cell for block in blocks for line in block.lines for cell in line)
    elif source.suffix == ".xlsx":
        for name, first, block in sheets(source):
            yield from (({"sheet": name, "row": n}, "".join(line)) for n, line in enumerate(block.lines, first))
    elif source.suffix == ".csv":
        yield from (({"row": n}, "".join(line)) for n, line in enumerate(source.blocks[0].rows, 1))
    elif source.suffix == ".txt":
        yield {}, source.body
    else:
        path: list[str] = []
        for block in source.blocks:
            if block.kind == "heading":
                path = [*path[: block.level - 1], normalize("NFKC", block.text)]
            yield {"headings": path} if path else {}, "".join(cell for line in block.lines for cell in line)
