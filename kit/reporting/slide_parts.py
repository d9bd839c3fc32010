"""What stands on a slide: boxes of text, tables, charts, and the empty 16:9 slide they stand on. Lengths are points."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit.reporting.blocks import Block, Chart, Listing, Table, Text
from kit.reporting.charts import INK, SOFT, TONES
from kit.reporting.native_charts import alone
from kit.reporting.summary import Summary
from kit.reporting.typesetting import LEADING, clipped, column_widths, height, wrapped

WIDTH, FOOT = 960.0, 498.0
"""Of a slide, and where its body ends."""
FACE, LINE, WASH = "Yu Gothic", "#D5DADE", "#F4F6F8"
NOTE, _PAD, _LEAST, _INDENT = 10.0, 10.0, 110.0, 16.0
Frame = tuple[float, float, float, float]
"""Left, top, width, height."""
_DRAWING = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'


def needed(block: Block, width: float, size: float) -> float:
    """Return the height that a block takes; a chart's is the least."""
    if isinstance(block, Text):
        return height([(block.text, size)], width)
    title = height([(block.title, size)], width) if block.title else 0
    if isinstance(block, Listing):
        return title + height(((item.text, size) for item in block.items), width - _INDENT)
    if isinstance(block, Chart):
        many = len(block.plot.categories) if block.plot and block.plot.kind == "tornado" else 0
        return title + max(_LEAST, 15 * many + 50)
    return title + sum(_rows(block, width, size - 1)) + (4 + height([(block.note, NOTE)], width) if block.note else 0)


def draw(slide: Any, block: Block, frame: Frame, size: float, lang: str) -> None:
    """Draw a block into its frame."""
    from pptx.util import Pt

    left, top, width, tall = frame
    if isinstance(block, Text):
        write(slide, [(block.text, size)], frame, lang)
        return
    if block.title:
        own = height([(block.title, size)], width)
        write(slide, [(block.title, size)], (left, top, width, own), lang, bold=True, color=SOFT)
        top, tall = top + own, tall - own
    if isinstance(block, Listing) and block.items:
        write(slide, [(item.text, size) for item in block.items], (left, top, width, tall), lang, bullet="1" if block.numbered else "•")
    if isinstance(block, Chart):
        if block.plot:
            _describe(slide.shapes.add_chart(None, *map(Pt, (left, top, width, tall)), alone(block.plot)), block.alt)
        else:
            write(slide, [(clipped(block.alt, size, width, int(tall / size / LEADING)), size)], (left, top, width, tall), lang)
    if isinstance(block, Table):
        rows = _rows(block, width, size - 1)
        _table(slide, block, (left, top, width, sum(rows)), rows, size - 1, lang)
        if block.note:
            foot = (left, top + sum(rows) + 4, width, height([(block.note, NOTE)], width))
            write(slide, [(block.note, NOTE)], foot, lang, soft=True)


def write(
    slide: Any, texts: Sequence[tuple[str, float]], frame: Frame, lang: str, *, bold: bool = False, soft: bool = False,
    color: str = INK, ground: str = "", bullet: str = "", align: str = "l", box: Any = None,
) -> None:  # fmt: skip
    """Write paragraphs (text, size) into a box of their own.

    Args:
        slide: The slide of python-pptx.
        texts: Paragraphs.
        frame: The box.
        lang: Of the texts.
        bold: Whether the first paragraph is.
        soft: Whether the ink is grey.
        color: The ink, unless ``soft`` or ``ground`` says otherwise.
        ground: An outcome whose tone fills the box; the ink is white then.
        bullet: A letter before each paragraph; ``1`` numbers them.
        align: l, r or c.
        box: A shape to fill in place of a new one.
    """
    from pptx.enum.text import MSO_ANCHOR, MSO_AUTO_SIZE
    from pptx.util import Pt

    box = box or slide.shapes.add_textbox(0, 0, 0, 0)
    box.left, box.top, box.width, box.height = map(Pt, frame)
    body = box.text_frame
    body.margin_left = body.margin_right = body.margin_top = body.margin_bottom = 0
    body.word_wrap, body.auto_size = True, MSO_AUTO_SIZE.NONE
    body.vertical_anchor = MSO_ANCHOR.MIDDLE if ground else MSO_ANCHOR.TOP
    if ground:
        box.fill.solid()
        box.fill.fore_color.rgb = _rgb(TONES[ground])
    ink = "#FFFFFF" if ground else SOFT if soft else color
    for place, (text, size) in enumerate(texts):
        paragraph = body.paragraphs[0] if place == 0 else body.add_paragraph()
        _set(paragraph, text, size, lang, bold=(bold or bool(ground)) and place == 0, color=ink, align="c" if ground else align)
        paragraph.space_after = Pt(size / 3)
        if bullet:
            _bullet(paragraph, bullet)


def _set(paragraph: Any, text: str, size: float, lang: str, *, bold: bool = False, color: str = INK, align: str = "l") -> None:
    """Write one paragraph: typeface for both scripts, language, and lines at an exact distance."""
    from pptx.enum.text import PP_ALIGN
    from pptx.oxml import parse_xml
    from pptx.util import Pt

    paragraph.alignment = {"l": PP_ALIGN.LEFT, "r": PP_ALIGN.RIGHT, "c": PP_ALIGN.CENTER}[align]
    paragraph.line_spacing = Pt(round(size * LEADING, 2))
    for part in text.split("\n") if text else ["\u3000"]:  # an empty cell would take the program's size
        if paragraph.runs:
            paragraph.add_line_break()
        run = paragraph.add_run()
        run.text = part
        run.font.size, run.font.bold, run.font.color.rgb, run.font.name = Pt(size), bold, _rgb(color), FACE
        run.font._element.append(parse_xml(f'<a:ea {_DRAWING} typeface="{FACE}"/>'))
        run.font._element.set("lang", "ja-JP" if lang == "ja" else "en-US")
        run.font._element.set("altLang", "en-US" if lang == "ja" else "ja-JP")


def _bullet(paragraph: Any, bullet: str) -> None:
    from pptx.oxml import parse_xml

    properties = paragraph._p.get_or_add_pPr()
    properties.set("marL", f"{_INDENT * 12700:.0f}")
    properties.set("indent", f"{-_INDENT * 12700:.0f}")
    kind = '<a:buAutoNum {} type="arabicPeriod"/>' if bullet == "1" else f'<a:buChar {{}} char="{bullet}"/>'
    properties.append(parse_xml(kind.format(_DRAWING)))


def _rows(table: Table, width: float, size: float) -> list[float]:
    """Return the heights of a table's rows, header included."""
    cells = [table.header, *table.rows]
    columns = column_widths(cells, size, width, _PAD)
    lines = [max(len(wrapped(cell, size, own - _PAD)) for cell, own in zip(row, columns, strict=True)) for row in cells]
    return [count * LEADING * size + 4 for count in lines]


def _table(slide: Any, table: Table, frame: Frame, tall: Sequence[float], size: float, lang: str) -> None:
    """Draw a table: a line under each row, no fill but under the header."""
    from pptx.enum.text import MSO_ANCHOR
    from pptx.oxml import parse_xml
    from pptx.util import Pt

    rows = [table.header, *table.rows]
    shape = slide.shapes.add_table(len(rows), len(table.header), *map(Pt, frame))
    _describe(shape, table.title or " / ".join(table.header))
    made = shape.table
    made._tbl.tblPr.find("{*}tableStyleId").text = "{2D5ABB26-0587-4C30-8999-92F81FD0307C}"  # no style, no grid
    made.horz_banding = False
    for column, width in zip(made.columns, column_widths(rows, size, frame[2], _PAD), strict=True):
        column.width = Pt(width)
    for number, (line, texts, own) in enumerate(zip(made.rows, rows, tall, strict=True)):
        line.height = Pt(own)
        for cell, text, align in zip(line.cells, texts, table.align, strict=True):
            cell.margin_left = cell.margin_right = Pt(_PAD / 2)
            cell.margin_top = cell.margin_bottom = Pt(1.5)
            cell.vertical_anchor = MSO_ANCHOR.MIDDLE
            _set(cell.text_frame.paragraphs[0], text, size, lang, bold=number == 0, color=SOFT if number == 0 else INK, align=align)
            properties = cell._tc.get_or_add_tcPr()
            ink, thick = (INK, 15875) if number == 0 else (LINE, 6350)
            fill = f'<a:solidFill><a:srgbClr val="{ink[1:]}"/></a:solidFill>'
            properties.append(parse_xml(f'<a:lnB {_DRAWING} w="{thick}">{fill}</a:lnB>'))
            if number == 0:
                properties.append(parse_xml(f'<a:solidFill {_DRAWING}><a:srgbClr val="{WASH[1:]}"/></a:solidFill>'))


def template(summary: Summary, kicker: str) -> Any:
    """Return the empty 16:9 deck of ``templates/deck.pptx``: the tone of the outcome at the edge, the deck's name at the foot.

    It may be restyled in PowerPoint as long as its one layout keeps the shapes ``edge`` and ``foot``. It calls itself a file
    of Office 2007, for charts leave out what is off as that version did: LibreOffice would take it for on in a later one.
    """
    import pptx

    show = pptx.Presentation(str(Path(__file__).parent / "templates" / "deck.pptx"))
    shapes = {shape.name: shape for shape in show.slide_layouts[0].shapes}
    shapes["edge"].fill.solid()
    shapes["edge"].fill.fore_color.rgb = _rgb(TONES[summary.outcome])
    shapes["foot"].text_frame.paragraphs[0].runs[0].text = f"{kicker}　{clipped(summary.title, NOTE, 640, 1)}"
    core = show.core_properties
    core.title, core.language = summary.title[:250], "ja-JP" if summary.lang == "ja" else "en-US"
    return show


def _describe(shape: Any, text: str) -> None:
    shape._element.nvGraphicFramePr.cNvPr.set("descr", text)


def _rgb(code: str) -> Any:
    from pptx.dml.color import RGBColor

    return RGBColor.from_string(code[1:])
