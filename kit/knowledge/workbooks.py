"""Excel workbooks and CSV: row by row, each row with its column names so that it can be understood alone."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import Any, NamedTuple

from kit.knowledge.texts import Reading, choose_title, decode, labelled, looks_like_header, squeeze, table_rows
from kit.records import Block, Place


def read_csv(data: bytes, stem: str) -> Reading:
    """Read comma, semicolon or tab separated values; a record's row counts from 1 at the header."""
    text, doubts = decode(data)
    text = re.sub("\r\n?", "\n", text)
    csv.field_size_limit(max(len(text), 131072))
    mark = max(",\t;", key=text[:20000].count)
    records = list(csv.reader(io.StringIO(text), delimiter=mark))
    if any(cell.count("\n") > 50 for record in records for cell in record):
        # One lost quotation mark would swallow the rest of the file.
        records = [line.split(mark) for line in text.split("\n")]
        doubts += ('引用符「"」が閉じていないため、1行を1件として読みました。',)
    grid = [[squeeze(cell) for cell in record] for record in records] or [[]]
    width = max(len(row) for row in grid)
    # Lines above the header (a title, a date) fill few columns.
    start = next((i for i, row in enumerate(grid[:10]) if sum(map(bool, row)) * 2 > width), 0)
    lines = [(i, " / ".join(filter(None, row))) for i, row in enumerate(grid[:start])]
    lines += [(i + start, line) for i, line in table_rows(grid[start:], int(looks_like_header(grid[start], 40)))]
    return Reading(choose_title(stem), tuple(Block(line, Place(row=i + 1)) for i, line in lines if line), doubts)


def read_xlsx(data: bytes, stem: str) -> Reading:
    """Read every visible sheet row by row: 「列名: 値 / 列名: 値」, results of formulas as stored, merged cells repeated."""
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(data), data_only=True)
    hidden = [sheet.title for sheet in book.worksheets if sheet.sheet_state != "visible"]
    blocks = [
        Block(text, Place(sheet=squeeze(sheet.title), row=row, headings=(caption,) if caption else ()))
        for sheet in book.worksheets
        if sheet.title not in hidden
        for row, caption, text in _Sheet(sheet).lines()
    ]
    doubts = [f"非表示のシートは読みませんでした: {squeeze('、'.join(hidden))}。"] if hidden else []
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        names = [name for name in package.namelist() if re.match("xl/(worksheets|drawings)/[^/]+xml$", name)]
        parts = b"".join(map(package.read, names))
    if empty := len(re.findall(rb"(?:</f>|<f[^>]*/>)(?:<v\s*/>|<v></v>)?</c>", parts)):
        doubts.append(f"計算結果が保存されていない数式が{empty}個あります。Excelで開いて上書き保存すると読めます。")
    if b"<a:t>" in parts:
        doubts.append("図形の中の文字は読みませんでした。必要ならセルに書き写してください。")
    title = choose_title(stem, (book.properties.title or "",), blocks)
    return Reading(title, tuple(blocks), tuple(doubts))


class _Cell(NamedTuple):
    text: str
    is_name: bool
    look: str
    """Bold type and fill, by which a header sets itself off; "" for a plain cell."""


_Row = dict[int, _Cell]


class _Sheet:
    """Walks the rows of one sheet and keeps the column names that are in force."""

    def __init__(self, sheet: Any) -> None:
        self._rows = _filled(sheet)
        self._names: dict[int, str] = {}
        self._header = 0

    def lines(self) -> Iterator[tuple[int, str, str]]:
        """Yield (row number, caption in force, line)."""
        caption, captioned = "", 0
        for number, row in sorted(self._rows.items()):
            first = row[min(row)]
            opens = number - 1 not in self._rows
            if len({cell.text for cell in row.values()}) == 1 and min(row) <= min(self._names, default=min(row)):
                # One text at the left edge: a title or a remark, not a record.
                if first.is_name and (opens or first.look):
                    caption, captioned = first.text, number
                yield number, caption, first.text
            elif self._take_header(number, row):
                if opens and number - captioned > 2:
                    caption = ""  # what stood above belongs to something else
            else:
                names = [self._names.get(column, "") for column in sorted(row)]
                yield number, caption, labelled([cell.text for _, cell in sorted(row.items())], names)

    def _take_header(self, number: int, row: _Row) -> bool:
        """Take the row for column names if it is a header; a second header row refines the first."""
        above = self._rows[number - 1] if self._header == number - 1 > 0 else {}
        below = self._rows.get(number + 1, {})
        if not below or len({cell.text for cell in row.values()}) < 2 or not all(cell.is_name for cell in row.values()):
            return False
        if not (_refines(above, row) if above else self._sets_off(number, row, below)):
            return False
        if not above:
            self._names = {}
        for column, cell in row.items():
            name = self._names.get(column, "")
            self._names[column] = " ".join(dict.fromkeys(filter(None, (name, cell.text))))
        self._header = 0 if above else number  # two rows at most
        return True

    def _sets_off(self, number: int, row: _Row, below: _Row) -> bool:
        """Whether a row looks unlike the row below, or at least opens a table of three columns."""
        common = [column for column in row if column in below]
        apart = sum(row[column].look not in ("", below[column].look) for column in common)
        if common and apart * 5 >= len(common) * 3:
            return True
        fresh = not self._names or (number - 1 not in self._rows and set(row) != set(self._names))
        return fresh and len(row) > 2 and len(below) > 1 and looks_like_header([cell.text for cell in row.values()])


def _refines(above: _Row, row: _Row) -> bool:
    """Whether a row of names below a header is its second half and not the first record."""
    common = [column for column in row if column in above]
    merged_down = any(row[column].text == above[column].text for column in common)
    spanned = len({cell.text for cell in above.values()}) < len(above)
    alike = sum(row[column].look == above[column].look != "" for column in common) * 2 > len(common)
    repeats = len(row) >= 6 and len({cell.text for cell in row.values()}) * 2 <= len(row)
    return merged_down or repeats or (spanned and (alike or len(row) > len(common)))


def _filled(sheet: Any) -> dict[int, _Row]:
    """Filled cells by row and column. The grid between them is never visited: it may be 17 billion cells large."""
    rows: dict[int, _Row] = {}
    for (row, column), cell in sheet._cells.items():  # the public iter_rows() would create the empty ones
        if text := _shown(cell):
            is_name = isinstance(cell.value, str) and len(text) <= 40 and not text.endswith("。")
            fill = f"{cell.fill.fgColor.rgb}{cell.fill.fgColor.theme}" if cell.fill.fill_type else ""
            rows.setdefault(row, {})[column] = _Cell(text, is_name, fill + "b" * bool(cell.font.bold))
    for area in sheet.merged_cells.ranges:
        value = rows.get(area.min_row, {}).get(area.min_col)
        columns = range(area.min_col, min(area.max_col, area.min_col + 100) + 1)
        for row in range(area.min_row, min(area.max_row, area.min_row + 1000) + 1):
            if value and row in rows:
                rows[row].update(dict.fromkeys(columns, value))
    return rows


def _shown(cell: Any) -> str:
    """A cell's text as a reader sees it; a figure that is shown with thousands separators, both ways."""
    value, pattern = cell.value, cell.number_format
    if value is None or cell.data_type == "e":
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    if isinstance(value, time):
        return f"{value:%H:%M}"
    if isinstance(value, timedelta):
        hours, minutes = divmod(round(value.total_seconds() / 60), 60)
        return f"{hours}:{minutes:02}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return squeeze(str(value))
    if "%" in pattern:
        return f"{value * 100:.10g}%"
    text, grouped = f"{value:.15g}", f"{value:,.15g}"
    if re.fullmatch("0+", pattern):  # a code with leading zeros, 00123
        return text.zfill(len(pattern))
    return f"{text}({grouped})" if "," in pattern and grouped != text else text
