"""What people read in a summary file, and what it holds beside that: texts, figures of charts, links, colours."""

import dataclasses
import io
import re
import zipfile
from itertools import accumulate

from kit.reporting.blocks import Chart

FIGURE = re.compile(r"\d[\d,]*(?:\.\d+)?")
CACHE, CACHED = re.compile(rb"<c:numCache>.*?</c:numCache>", re.S), re.compile(rb"<c:v>([^<]*)</c:v>")


def figures(text):
    """The figures of a text, as they are written, each once."""
    return set(FIGURE.findall(text))


def squeezed(text):
    """A text without blanks and line ends, which each format sets its own way."""
    return re.sub(r"\s+", "", text)


def texts_of(value):
    """All texts of a summary that every format shows, in order; what a chart says in words stands where it is not drawn."""
    if isinstance(value, Chart):
        return [value.title]
    if dataclasses.is_dataclass(value):
        return [text for field in dataclasses.fields(value) if field.name not in ("lang", "align", "key") for text in texts_of(getattr(value, field.name))]
    if isinstance(value, tuple | list):
        return [text for item in value for text in texts_of(item)]
    return [value] if isinstance(value, str) else []


def charts_of(summary):
    blocks = [summary.chart, *(block for section in summary.sections for block in section.blocks)]
    return [block for block in blocks if isinstance(block, Chart)]


def labels(summary):
    """What charts that can be edited write beside their figures."""
    plots = [chart.plot for chart in charts_of(summary) if chart.plot]
    return [text for plot in plots for text in (*plot.categories, *(name for name, _ in plot.series), plot.axis)]


def drawn(summary):
    """The figures that charts may hold: those of the plots, and where the steps of a waterfall and of a range begin and end."""
    found = set()
    for plot in filter(None, (chart.plot for chart in charts_of(summary))):
        columns = [[value for value in values if value is not None] for _, values in plot.series]
        found |= {value for values in columns for value in values}
        if plot.kind == "waterfall":
            found |= {sign * value for value in (*columns[0], *accumulate(columns[0])) for sign in (1, -1)}
        if plot.kind in ("tornado", "ranges", "points"):
            found |= {abs(a - b) for values in zip(*columns, strict=False) for a in values for b in values}
    return found


def read(path):
    """Return what people read in a file, as one text, and the figures that its native charts hold."""
    return {"html": _html, "md": _markdown, "pdf": _pdf, "pptx": _slides, "xlsx": _workbook}[path.suffix[1:]](path)


def _html(path):
    from bs4 import BeautifulSoup

    page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    alts = [tag["aria-label"] for tag in page.find_all(attrs={"aria-label": True})]
    for tag in page.find_all(["style", "svg", "title"]):
        tag.decompose()
    return "\n".join([*page.stripped_strings, *alts]), set()


def _markdown(path):
    text = re.sub(r"(?m)^(\d+)\. ", "", path.read_text(encoding="utf-8"))
    return re.sub(r"\\(.)", r"\1", text).replace("|", " "), set()


def _pdf(path):
    import pypdfium2

    document = pypdfium2.PdfDocument(path)
    texts = [page.get_textpage().get_text_range() for page in document]
    document.close()
    return "\n".join(texts), set()


def _slides(path):
    import pptx

    texts = []

    def collect(shapes):
        for shape in shapes:
            texts.append(shape._element._nvXxPr.cNvPr.get("descr", ""))
            if shape.shape_type == 6:  # a group
                collect(shape.shapes)
            if shape.has_text_frame:
                texts.append(shape.text_frame.text)
            if getattr(shape, "has_table", False) and shape.has_table:
                texts.extend(cell.text for row in shape.table.rows for cell in row.cells)

    for slide in pptx.Presentation(str(path)).slides:
        collect(slide.shapes)
        if slide.has_notes_slide:
            collect(slide.notes_slide.shapes)
    return "\n".join(texts), cached(path)


def _workbook(path):
    import openpyxl

    book, texts, numbers = openpyxl.load_workbook(path), [], cached(path)
    for sheet in book.worksheets:
        if sheet.title in ("全質問", "All questions"):
            continue
        texts.append(sheet.title)
        cells = [cell.value for row in sheet.iter_rows() for cell in row]
        texts += [value for value in cells if isinstance(value, str)]
        numbers |= {float(value) for value in cells if isinstance(value, int | float)}
    with zipfile.ZipFile(path) as parts:
        drawings = [parts.read(name).decode() for name in parts.namelist() if name.startswith("xl/drawings/drawing")]
    texts += re.findall(r'descr="([^"]*)"', "".join(drawings))
    return "\n".join(texts), numbers


def cached(path):
    """The numbers that native charts keep for programs that do not calculate."""
    return {float(value) for _, content in parts_of(path) for cache in CACHE.findall(content) for value in CACHED.findall(cache)}


def parts_of(path):
    """Yield (name, content) of all parts of a file: of an office file those inside, of workbooks inside too."""
    if path.suffix in (".pptx", ".xlsx"):
        yield from _unzipped(path.read_bytes())
    else:
        yield path.name, path.read_bytes()


def _unzipped(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            yield name, content
            if name.endswith(".xlsx"):
                yield from _unzipped(content)


def contrast(one, other):
    """Return the contrast of two colours (#rrggbb) by WCAG 2.2, 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
