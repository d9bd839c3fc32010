"""Charts that can be edited in the office programs: one drawing, from cells, for the workbook's sheets and the slides."""

import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate, cycle, pairwise
from typing import Any

from kit.reporting.blocks import Plot
from kit.reporting.charts import BLUE, COLORS, INK, ORANGE
from kit.reporting.wording import plain

FONT = "游ゴシック"
"""Comes with every Office; where it is missing, the program puts in its own Japanese font."""
WIDTH, HEIGHT = 900, 270
"""Of a chart on a sheet, in pixels."""
_LETTERS = {"name": FONT, "size": 10, "color": INK, "bold": False}
_LINE, _GRID = {"color": "#8A939B", "width": 0.75}, {"visible": True, "line": {"color": "#D5DADE", "width": 0.75}}
_FORMS = ("circle", "square", "diamond", "triangle")
_TYPES = {
    "ranges": ("line", ""), "stacked": ("column", "stacked"), "waterfall": ("column", "stacked"), "lines": ("line", ""), "tornado": ("bar", ""),
    "points": ("scatter", ""),
}  # fmt: skip
_COLUMNS = ("stacked", "waterfall", "tornado")
_LONGEST = 32_767
"""Letters that a cell can hold."""
_Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Alone:
    """A chart with a workbook of its own, by the methods that ``add_chart`` of python-pptx asks of its data."""

    xml: bytes
    xlsx_blob: bytes

    def xml_bytes(self, _: object) -> bytes:
        """Return the chart."""
        return self.xml


def alone(plot: Plot) -> Alone:
    """Return a chart for a slide."""
    import xlsxwriter

    stream = BytesIO()
    book = xlsxwriter.Workbook(stream)
    figures = Figures(book, "Sheet1")
    chart, sheet = figures.chart(plot), book.add_worksheet("Sheet1")
    figures.write(sheet)
    sheet.insert_chart(0, 9, chart)
    book.close()
    with zipfile.ZipFile(stream) as parts:
        xml = parts.read("xl/charts/chart1.xml")
    for place in (rb"<c:ser>.*?</c:spPr>", rb'<c:dPt><c:idx val="\d+"/>') if plot.kind in _COLUMNS else ():
        xml = re.sub(place, rb'\g<0><c:invertIfNegative val="0"/>', xml)  # where it is not said, PowerPoint whitens what is below zero
    return Alone(xml, stream.getvalue())


class Figures:
    """The charts of a workbook, and the sheet with what they draw."""

    def __init__(self, book: Any, sheet: str) -> None:
        self._book, self._sheet = book, sheet
        self._lines: list[tuple[str, tuple[str | float | None, ...]]] = []

    def chart(self, plot: Plot, title: str = "") -> Any:
        """Return a chart that draws a plot, and note its figures, under a title if there is one."""
        names, columns = zip(*plot.series, *(_steps(plot) if plot.kind == "waterfall" else ()), strict=True)
        top = len(self._lines) + bool(title)
        lines = [*[(title,)] * bool(title), ("", *names), *zip(plot.categories, *columns, strict=True), ()]
        self._lines += [(plot.number, line) for line in lines]
        chart = self._book.add_chart(dict(zip(("type", "subtype"), _TYPES[plot.kind], strict=True)))
        if plot.kind == "points":  # each has its name, form and colour
            for row, (form, color, values) in enumerate(zip(cycle(_FORMS), cycle(COLORS), zip(*columns, strict=True)), top + 1):
                x, y = ([self._sheet, row, column, row, column] for column in (1, 2))
                look = _marked(form, color, 10) | _spread(*([value] for value in values[1:4]), color=color)
                chart.add_series({"name": [self._sheet, row, 0], "categories": x, "values": y, **look})
        else:
            along, *cells = ([self._sheet, top + 1, column, top + len(plot.categories), column] for column in range(len(names) + 1))
            for column, look in enumerate(_looks(plot), len(names) - 2 if plot.kind == "waterfall" else 1):
                chart.add_series({"name": [self._sheet, top, column], "categories": along, "values": cells[column - 1], **look})
        across, up = _axes(plot)
        chart.set_x_axis(up if plot.kind == "tornado" else across)
        chart.set_y_axis(across if plot.kind == "tornado" else up)
        chart.set_title({"none": True})
        hidden = [1, 2] if plot.kind == "ranges" else []  # the ends belong to the dot
        chart.set_legend({"none": plot.kind == "waterfall" or len(chart.series) == 1, "position": "top", "font": _LETTERS, "delete_series": hidden})
        chart.set_chartarea({"border": {"none": True}, "fill": {"none": True}})
        chart.set_size({"width": WIDTH, "height": HEIGHT})
        return chart

    def write(self, sheet: Any) -> None:
        """Write the sheet."""
        sheet.set_column(0, 0, 44)
        sheet.set_column(1, 8, 14)
        forms = {form: self._book.add_format({"font_name": FONT, "num_format": form}) for form, _ in self._lines}
        note = self._book.add_format({"font_name": FONT, "font_size": 11, "font_color": INK, "valign": "top", "quote_prefix": True})
        for row, (form, cells) in enumerate(self._lines):
            for column, value in enumerate(cells):
                if isinstance(value, str):
                    sheet.write_string(row, column, cell(value), note)
                elif value is not None:
                    sheet.write_number(row, column, value, forms[form])

    def __bool__(self) -> bool:
        return bool(self._lines)


def cell(text: str) -> str:
    """Return what a cell can hold of a text."""
    text = plain(text, None)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _axes(plot: Plot) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the axis of categories (of a cloud: of x) and that of values."""
    values = [values for _, values in plot.series]
    usual = {"num_font": {**_LETTERS, "rotation": 0}, "name_font": _LETTERS, "major_tick_mark": "none", "minor_tick_mark": "none"}
    across: dict[str, Any] = {**usual, "label_position": "low", "line": _LINE, "major_gridlines": {"visible": False}}
    up: dict[str, Any] = {**usual, "name": plot.axis, "num_format": plot.number, "line": {"none": True}, "major_gridlines": _GRID}
    if plot.kind == "points":
        across |= {"name": plot.series[0][0], "min": 0}
        if plot.number.endswith("%"):  # the lines to the ends do not count where the axis is chosen
            up |= {"min": 0, "max": min(1, math.ceil(10 * max(filter(None, values[3]), default=1)) / 10)}
        return across, up
    across["interval_unit"] = 1
    known = [value for column in values for value in column if value is not None]
    if plot.kind == "tornado":
        return across | {"reverse": True, "crossing": "max"}, up | {"crossing": plot.base}
    if plot.kind == "lines" and 0 < 1000 * min(known, default=0) < max(known, default=0):  # one would flatten the others
        up["log_base"] = 10
    if plot.kind == "ranges" and plot.number.endswith("%"):
        up |= {"min": 0, "max": 1, "major_unit": 0.2}
    return across, up


def _looks(plot: Plot) -> Iterator[dict[str, Any]]:
    """Yield how each series is drawn."""
    values = [column for _, column in plot.series]
    if plot.kind == "ranges":
        ends = _marked("long_dash", BLUE, 8)
        yield from (_marked("circle", BLUE, 7) | _spread(*values[:3], color=BLUE), ends, ends)
        yield from (_marked("long_dash", INK, 14), _marked("diamond", ORANGE, 7))[: len(values) - 3]
    elif plot.kind == "waterfall":
        yield {"fill": {"none": True}, "gap": 60}
        yield from _step_looks(plot)
    else:
        colors = (ORANGE, BLUE) if plot.kind == "tornado" else COLORS  # as in the drawn chart
        for form, color, _ in zip(cycle(_FORMS), cycle(colors), values, strict=False):
            line = {"line": {"color": color, "width": 2}, "marker": _marked(form, color, 7)["marker"]}
            yield line if plot.kind == "lines" else {"fill": {"color": color}, "gap": 60, "overlap": 100}


def _steps(plot: Plot) -> list[tuple[str, _Values]]:
    """Return a waterfall's columns: an unseen one up to where each step begins, its part above zero, and that below."""
    amounts = [value or 0.0 for value in plot.series[0][1]]
    spans = [*pairwise([0.0, *accumulate(amounts[:-1])]), (0.0, amounts[-1])]
    parts = [(max(0.0, *span) - max(0.0, min(span)), min(0.0, *span) - min(0.0, max(span))) for span in spans]
    feet: _Values = [max(0.0, min(span)) + min(0.0, max(span)) or None for span in spans]
    above, below = ([part or None for part in column] for column in zip(*parts, strict=True))
    return [("", feet), ("＋", above), ("−", below)]


def _step_looks(plot: Plot) -> Iterator[dict[str, Any]]:
    """Yield how the parts of a waterfall above and below zero are drawn: gains, costs and their sum, each with its amount."""
    amounts = [value or 0.0 for value in plot.series[0][1]]
    colors = [*(BLUE if amount >= 0 else ORANGE for amount in amounts[:-1]), INK]
    _, (_, above), (_, below) = _steps(plot)
    longest = max(map(abs, amounts))
    for own, other in ((above, below), (below, above)):
        labels: list[dict[str, Any]] = []
        for amount, part, rest in zip(amounts, own, other, strict=True):
            inside = abs(part or 0) > 0.25 * longest  # else the letters stand across a thin column
            text = {"value": f"{amount:,.0f}".replace("-", "−"), "font": {**_LETTERS, "color": "#FFFFFF" if inside else INK}}
            labels.append(text if part and abs(part) >= abs(rest or 0) else {"delete": True})
        yield {"fill": {"color": BLUE}, "points": [{"fill": {"color": color}} for color in colors], "data_labels": {"value": True, "custom": labels}}


def _marked(form: str, color: str, size: int) -> dict[str, Any]:
    """Return the look of points without a line."""
    return {"line": {"none": True}, "marker": {"type": form, "size": size, "fill": {"color": color}, "border": {"color": color}}}


def _spread(value: _Values, low: _Values, high: _Values, *, color: str) -> dict[str, Any]:
    """Return lines from each value to its ends; an end that is not known has none."""
    minus, plus = ([0.0 if a is None or b is None else abs(a - b) for a, b in zip(value, ends, strict=True)] for ends in (low, high))
    return {"y_error_bars": {"type": "custom", "plus_values": plus, "minus_values": minus, "end_style": 0, "line": {"color": color, "width": 2.75}}}
