"""Charts of a workbook that can be edited: drawn from cells of one sheet."""

from collections.abc import Sequence
from typing import Any

from kit.reporting.blocks import Chart, Plot
from kit.reporting.charts import BLUE, INK, ORANGE

FONT = "游ゴシック"
"""Comes with Excel; where it is missing, the program puts in its own Japanese font."""
WIDTH, HEIGHT = 900, 270
"""Of a chart, in pixels."""
_COLORS = (BLUE, ORANGE, "#00785A", "#AA4E87", "#8A6D00", "#3A7CA5", "#6B6B6B")
_GRID = {"visible": True, "line": {"color": "#D5DADE", "width": 0.75}}
_TYPES = {
    "ranges": "line", "columns": "column", "stacked": "column stacked", "waterfall": "column", "lines": "line", "tornado": "bar",
    "points": "scatter",
}  # fmt: skip


class Figures:
    """What the charts of a workbook draw, and the charts.

    Attributes:
        lines: The sheet with the figures, line by line: how numbers are written, and the cells.
    """

    def __init__(self, book: Any, sheet: str) -> None:
        self.lines: list[tuple[str, tuple[str | float | None, ...]]] = []
        self._book, self._sheet = book, sheet

    def chart(self, block: Chart, plot: Plot) -> Any:
        """Return a chart that draws a plot, and note its figures."""
        names, columns = zip(*plot.series, strict=True)
        top, last = len(self.lines) + 2, len(self.lines) + 1 + len(plot.categories)
        lines = [(block.title or block.alt,), ("", *names), *zip(plot.categories, *columns, strict=True), ()]
        self.lines += [(plot.number, line) for line in lines]
        cells = [[self._sheet, top, column, last, column] for column in range(len(names) + 1)]
        chart, above = (self._book.add_chart(dict(zip(("type", "subtype"), _TYPES[plot.kind].split(), strict=False))) for _ in range(2))
        for index, look in enumerate(_looks(plot)):
            place = {"name": [self._sheet, top - 1, index + 1], "categories": cells[plot.kind == "points"], "values": cells[index + 1]}
            if look:
                (above if plot.kind == "ranges" and index > 2 else chart).add_series(place | look)
        if plot.kind == "ranges":  # the lines from low to high span all series of a chart: bar and baseline are in another one
            chart.set_high_low_lines({"line": {"color": BLUE, "width": 3}})
            chart.combine(above)
        letters = {"name": FONT, "size": 10, "color": INK, "bold": False}
        fonts: dict[str, Any] = {"num_font": letters, "name_font": letters}
        is_cloud = plot.kind == "points"
        along: dict[str, Any] = {"name": names[0], "min": 0} if is_cloud else {"label_position": "low", "interval_unit": 1}
        along = fonts | along | {"major_gridlines": {"visible": False}}
        up = fonts | {"name": plot.axis, "log_base": 10 if _is_wide(plot) else None, "num_format": plot.number, "major_gridlines": _GRID}
        lying = plot.kind == "tornado"
        chart.set_x_axis(up if lying else along)
        chart.set_y_axis(along | {"reverse": True, "crossing": "max"} if lying else up)
        chart.set_title({"none": True})
        chart.set_legend({"none": is_cloud or len(names) == 1, "position": "bottom", "font": letters})
        chart.set_size({"width": WIDTH, "height": HEIGHT})
        return chart


def _is_wide(plot: Plot) -> bool:
    """Whether lines run over so many orders of size that one of them would flatten the others."""
    values = [value for _, series in plot.series for value in series if value is not None]
    return plot.kind == "lines" and 0 < 1000 * min(values, default=0) < max(values, default=0)


def _looks(plot: Plot) -> list[dict[str, Any]]:
    """Return how each series is drawn; {} for one that is not drawn by itself."""
    values = [series for _, series in plot.series]
    if plot.kind == "ranges":
        unseen = _marked("long_dash", BLUE, 9)
        return [_marked("circle", BLUE), unseen, unseen, _marked("long_dash", ORANGE, 14), _marked("diamond", "#6B6B6B")][: len(values)]
    if plot.kind == "points":
        _, y, low, high = values
        bars = {"type": "custom", "plus_values": _apart(high, y), "minus_values": _apart(y, low), "line": {"color": BLUE, "width": 1.5}}
        # XlsxWriter takes what looks like "sheet!A1" for a reference, which Excel would call damaged.
        named = {"custom": [{"value": name.replace("!", "！")} for name in plot.categories], "position": "right", "value": True, "font": {"name": FONT, "size": 10}}
        return [{}, _marked("circle", BLUE) | {"y_error_bars": bars, "data_labels": named}]
    if plot.kind == "lines":
        return [{"line": {"color": color, "width": 2.25}, "marker": {"type": "none"}} for color, _ in zip(_COLORS * 2, values, strict=False)]
    columns: dict[str, Any] = {"gap": 60, "invert_if_negative": True, "invert_if_negative_color": ORANGE} if plot.kind == "waterfall" else {"gap": 60}
    return [{"fill": {"color": color}, "overlap": 100 * (plot.kind == "stacked"), **columns} for color, _ in zip(_COLORS * 2, values, strict=False)]


def _marked(form: str, color: str, size: int = 8) -> dict[str, Any]:
    """Return the look of points without a line."""
    return {"line": {"none": True}, "marker": {"type": form, "size": size, "fill": {"color": color}, "border": {"color": color}}}


def _apart(upper: Sequence[float | None], lower: Sequence[float | None]) -> list[float]:
    """Return how far two series lie apart, 0 where one of them has no value."""
    return [0.0 if a is None or b is None else a - b for a, b in zip(upper, lower, strict=True)]
