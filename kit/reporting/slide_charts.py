"""Charts of a slide deck that can be edited in the office program: each holds its figures in a workbook of its own."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from kit.reporting.blocks import Plot
from kit.reporting.charts import BLUE, INK, ORANGE

FACE = "Yu Gothic"
"""Comes with every Office; where it is missing, the program puts in its own Japanese font."""
_COLORS = (BLUE, ORANGE, "#00785A", "#AA4E87", "#8A6D00", "#3A7CA5", "#6B6B6B")
_TYPES = {
    "columns": "COLUMN_CLUSTERED", "stacked": "COLUMN_STACKED", "waterfall": "COLUMN_STACKED", "lines": "LINE_MARKERS",
    "ranges": "LINE_MARKERS", "tornado": "BAR_CLUSTERED", "points": "XY_SCATTER",
}  # fmt: skip
_NAMES = " ".join(
    f'xmlns:{short}="http://schemas.openxmlformats.org/drawingml/2006/{name}"' for short, name in (("c", "chart"), ("a", "main"))
)
_Values = Sequence[float | None]


def add_chart(slide: Any, plot: Plot, frame: tuple[float, float, float, float], size: float) -> Any:
    """Put an editable chart on a slide and return the shape that holds it.

    Args:
        slide: The slide of python-pptx.
        plot: The figures.
        frame: Left, top, width and height in points.
        size: Of the letters, in points.
    """
    from pptx.chart.data import CategoryChartData, XyChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Pt

    series = _steps(plot) if plot.kind == "waterfall" else plot.series
    data: Any
    if plot.kind == "points":
        data = XyChartData(number_format=plot.number)
        for name, *point in zip(plot.categories, *(values for _, values in series[:2]), strict=True):
            data.add_series(name).add_data_point(*point)
    else:
        data = CategoryChartData(number_format=plot.number)
        data.categories = plot.categories
        for name, values in series:
            data.add_series(name, values)
    kind = "columns" if plot.kind == "waterfall" and len(series) == 1 else plot.kind
    shape = slide.shapes.add_chart(XL_CHART_TYPE[_TYPES[kind]], *map(Pt, frame), data)
    _dress(shape.chart, plot, size)
    {"ranges": _as_ranges, "points": _as_points, "lines": _as_lines}.get(plot.kind, _as_bars)(shape.chart, plot)
    return shape


def _steps(plot: Plot) -> list[tuple[str, _Values]]:
    """Return a waterfall's series: an unseen one below, rises, falls, sum; below zero the amounts stand side by side."""
    amounts = [value or 0.0 for value in plot.series[0][1]]
    ends = [*accumulate(amounts[:-1])]
    if min(ends) < 0:
        return [(plot.series[0][0], amounts)]
    foot = [min(end, end - amount) for end, amount in zip(ends, amounts[:-1], strict=True)]
    rises: _Values = [amount if amount >= 0 else None for amount in amounts[:-1]]
    falls: _Values = [-amount if amount < 0 else None for amount in amounts[:-1]]
    return [("", [*(end or None for end in foot), None]), ("＋", [*rises, None]), ("−", [*falls, None]), (plot.series[0][0], [*[None] * len(foot), amounts[-1]])]


def _dress(chart: Any, plot: Plot, size: float) -> None:
    """Give a chart the house's letters, lines and axis titles."""
    from pptx.enum.chart import XL_LEGEND_POSITION, XL_TICK_LABEL_POSITION
    from pptx.oxml import parse_xml
    from pptx.util import Pt

    chart.font.size, chart.font.name = Pt(size), FACE
    chart.font._rPr.append(parse_xml(f'<a:ea {_NAMES} typeface="{FACE}"/>'))
    chart.font.color.rgb = _color(INK)
    chart.has_title = False
    chart.has_legend = len(chart.plots[0].series) > 1
    if chart.has_legend:
        chart.legend.position, chart.legend.include_in_layout = XL_LEGEND_POSITION.TOP, False
    axis, across = chart.value_axis, chart.category_axis
    axis.tick_labels.number_format, axis.tick_labels.number_format_is_linked = plot.number, False
    axis.major_gridlines.format.line.color.rgb = _color("#D5DADE")
    axis.format.line.fill.background()
    across.tick_label_position = XL_TICK_LABEL_POSITION.LOW
    across.format.line.color.rgb = _color("#8A939B")
    across.has_major_gridlines = False
    across.tick_labels.font.size = Pt(size)
    across._element.txPr.bodyPr.set("rot", "0")  # long names are broken, not turned
    axis.has_title = bool(plot.axis)
    if plot.axis:
        axis.axis_title.text_frame.text = plot.axis
        font = axis.axis_title.text_frame.paragraphs[0].runs[0].font
        font.size, font.bold = Pt(size), False


def _as_bars(chart: Any, plot: Plot) -> None:
    """Colour columns and bars; the unseen series of a waterfall stays unseen, few values are written at them."""
    from pptx.enum.chart import XL_LABEL_POSITION

    drawn, seen = chart.plots[0], [*chart.plots[0].series]
    drawn.gap_width, drawn.overlap = 60, 0 if plot.kind == "columns" else 100
    steps = plot.kind == "waterfall" and len(seen) > 1
    if steps:
        seen.pop(0).format.fill.background()
        chart.has_legend = False
    if plot.kind == "tornado":
        chart.category_axis.reverse_order, chart.value_axis.crosses_at = True, plot.base
        chart.value_axis._element.find("{*}crosses").set("val", "max")
    for series, color in zip(seen, (BLUE, ORANGE, INK) if steps else _COLORS * len(seen), strict=False):
        series.format.fill.solid()
        series.format.fill.fore_color.rgb = _color(color)
        series.invert_if_negative = False
        if len(seen) * len(plot.categories) <= 16 and plot.kind not in ("stacked", "tornado"):
            series.data_labels.show_value = True
            series.data_labels.number_format = f'"−"{plot.number}' if series.name == "−" else plot.number
            series.data_labels.number_format_is_linked = False
            if not steps:
                series.data_labels.position = XL_LABEL_POSITION.OUTSIDE_END
            else:
                series.data_labels.font.color.rgb = _color("#FFFFFF")


def _as_lines(chart: Any, plot: Plot) -> None:
    from pptx.enum.chart import XL_MARKER_STYLE
    from pptx.util import Pt

    forms = (XL_MARKER_STYLE.CIRCLE, XL_MARKER_STYLE.SQUARE, XL_MARKER_STYLE.DIAMOND, XL_MARKER_STYLE.TRIANGLE)
    for place, series in enumerate(chart.plots[0].series):
        color = _COLORS[place % len(_COLORS)]
        series.smooth, series.format.line.width = False, Pt(2)
        series.format.line.color.rgb = _color(color)
        _mark(series, forms[place % len(forms)], 7, color)


def _as_ranges(chart: Any, plot: Plot) -> None:
    """Draw a dot with its interval, a long dash for the bar and a diamond for the baseline."""
    from pptx.enum.chart import XL_MARKER_STYLE
    from pptx.oxml import parse_xml

    forms = ((XL_MARKER_STYLE.CIRCLE, 6, BLUE), (XL_MARKER_STYLE.DASH, 8, BLUE), (XL_MARKER_STYLE.DASH, 8, BLUE),
             (XL_MARKER_STYLE.DASH, 14, INK), (XL_MARKER_STYLE.DIAMOND, 7, ORANGE))  # fmt: skip
    for series, form in zip(chart.plots[0].series, forms, strict=False):
        series.smooth = False
        series.format.line.fill.background()
        _mark(series, *form)
    value, low, high = (values for _, values in plot.series[:3])
    _spread(chart.plots[0].series[0], value, low, high)
    for hidden in (2, 1):  # the ends belong to the dot
        entry = f'<c:legendEntry {_NAMES}><c:idx val="{hidden}"/><c:delete val="1"/></c:legendEntry>'
        chart.legend._element.find("{*}legendPos").addnext(parse_xml(entry))
    if plot.number.endswith("%"):
        chart.value_axis.minimum_scale, chart.value_axis.maximum_scale, chart.value_axis.major_unit = 0, 1, 0.2


def _as_points(chart: Any, plot: Plot) -> None:
    from pptx.enum.chart import XL_MARKER_STYLE

    forms = (XL_MARKER_STYLE.CIRCLE, XL_MARKER_STYLE.SQUARE, XL_MARKER_STYLE.DIAMOND, XL_MARKER_STYLE.TRIANGLE)
    chart.category_axis.minimum_scale = 0
    chart.category_axis.tick_labels.number_format, chart.category_axis.tick_labels.number_format_is_linked = "#,##0.##", False
    bounds = [values for _, values in plot.series[1:4]]
    if plot.number.endswith("%"):  # the lines to the ends do not count where the axis is chosen
        chart.value_axis.minimum_scale, chart.value_axis.maximum_scale = 0, min(1, math.ceil(10 * max(filter(None, bounds[-1]), default=1)) / 10)
    for place, series in enumerate(chart.plots[0].series):
        series.format.line.fill.background()
        _mark(series, forms[place % len(forms)], 10, _COLORS[place % len(_COLORS)])
        if len(bounds) == 3:
            y, low, high = ([values[place]] for values in bounds)
            _spread(series, y, low, high)


def _mark(series: Any, form: Any, size: int, color: str) -> None:
    series.marker.style, series.marker.size = form, size
    series.marker.format.fill.solid()
    series.marker.format.fill.fore_color.rgb = _color(color)
    series.marker.format.line.color.rgb = _color(color)


def _spread(series: Any, value: _Values, low: _Values, high: _Values) -> None:
    """Draw lines from each value to its ends, which python-pptx cannot; an end that is not known has none."""
    from pptx.oxml import parse_xml

    def ends(others: _Values) -> str:
        sizes = [abs(a - b) if a is not None and b is not None else 0 for a, b in zip(value, others, strict=True)]
        points = "".join(f'<c:pt idx="{at}"><c:v>{size!r}</c:v></c:pt>' for at, size in enumerate(sizes) if math.isfinite(size))
        return f'<c:numLit><c:formatCode>General</c:formatCode><c:ptCount val="{len(sizes)}"/>{points}</c:numLit>'

    line = f'<c:spPr><a:ln w="34925"><a:solidFill><a:srgbClr val="{series.marker.format.fill.fore_color.rgb}"/></a:solidFill></a:ln></c:spPr>'
    kind = '<c:errDir val="y"/><c:errBarType val="both"/><c:errValType val="cust"/><c:noEndCap val="1"/>'
    bars = f"<c:errBars {_NAMES}>{kind}<c:plus>{ends(high)}</c:plus><c:minus>{ends(low)}</c:minus>{line}</c:errBars>"
    values = series._element.find("{*}cat")
    (series._element.find("{*}xVal") if values is None else values).addprevious(parse_xml(bars))


def _color(code: str) -> Any:
    from pptx.dml.color import RGBColor

    return RGBColor.from_string(code[1:])
