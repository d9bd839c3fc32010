"""What a summary is made of, whatever the format: sections of texts, lists, tables and charts, every figure written out."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Grade = Literal["", "A", "B", "C"]
"""How sure a claim is: measured, estimated, assumed; "" where nothing is claimed."""


@dataclass(frozen=True, slots=True)
class Text:
    """One paragraph."""

    text: str
    grade: Grade = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of short texts under an optional heading."""

    items: tuple[Text, ...]
    title: str = ""
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of written-out cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    """One letter a column: l, r or c."""
    title: str = ""
    note: str = ""


Kind = Literal["ranges", "stacked", "waterfall", "lines", "tornado", "points"]


@dataclass(frozen=True, slots=True)
class Plot:
    """The figures that a chart draws, for formats that hold charts which can be edited."""

    kind: Kind
    """``ranges``: intervals against bars; ``points``: a scatter of x and y; ``tornado``: low and high around a middle."""
    categories: tuple[str, ...]
    series: tuple[tuple[str, tuple[float | None, ...]], ...]
    """Name and one value for each category. ``ranges``: the series are, in this order, value, low, high, bar, baseline;
    ``points``: x, y, low, high; ``tornado``: low, high; ``lines``: the categories are the x axis."""
    number: str = "#,##0"
    """How values are written, as a spreadsheet's number format."""
    axis: str = ""
    """Title of the axis of values."""
    base: float = 0.0
    """Value from which the bars of a tornado go to either side."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart: ``svg`` can stand inside an HTML page, ``alt`` says the same in words."""

    svg: str = field(repr=False)
    alt: str
    title: str = ""
    plot: Plot | None = None

    def _repr_html_(self) -> str:
        return self.svg


Block = Text | Listing | Table | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """One chapter; a slide deck gives it a slide, a workbook a sheet."""

    key: str
    """worth, cost, qpd, risks, answers, plan, talk, appendix, overview."""
    title: str
    blocks: tuple[Block, ...]
    lead: str = ""
    """What to remember of it, in one sentence."""


def graded(blocks: Iterable[Block], words: Mapping[str, Any]) -> Iterator[Block]:
    """Yield blocks with the grades of their texts written out, for formats that show them as part of the text."""

    def mark(text: Text) -> Text:
        return Text(text.text + words["grade_after"].format(text.grade) if text.grade else text.text)

    for block in blocks:
        if isinstance(block, Listing):
            yield replace(block, items=tuple(map(mark, block.items)))
        else:
            yield mark(block) if isinstance(block, Text) else block
