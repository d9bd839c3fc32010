"""Excel workbooks and CSV: row by row, each row with its column names so that it can be understood alone."""

import csv
import io
import posixpath
import re
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime, time, timedelta
from itertools import takewhile
from typing import Any, NamedTuple

from kit.knowledge import texts
from kit.knowledge.dates import era_date
from kit.knowledge.office import modified, parse_xml
from kit.knowledge.texts import Covered, Reading, decode, finished, labelled, looks_like_header, squeeze, table_rows
from kit.records import Block, Place


def read_csv(data: bytes, stem: str) -> Reading:
    """Read comma, semicolon or tab separated values; a record's row counts from 1 at the header."""
    text, doubts = decode(data)
    text = re.sub("\r\n?", "\n", text)
    csv.field_size_limit(max(len(text), 131072))
    mark = max(",\t;", key=text[:20000].count)
    records, lost = _records(list(io.StringIO(text)), mark)
    if lost:
        numbers = "、".join(map(str, lost[:5])) + "行目" + "など" * (len(lost) > 5)
        doubts += (f'引用符「"」が正しく閉じていない行（{numbers}）は、その1行を1件として読みました。',)
    grid = [[squeeze(cell) for cell in record] for record in records] or [[]]
    width = max(len(row) for row in grid)
    # Lines above the header (a title, a date) fill few columns.
    start = next((i for i, row in enumerate(grid[:10]) if sum(map(bool, row)) * 2 > width), 0)
    lines = [(i, " / ".join(filter(None, row))) for i, row in enumerate(grid[:start])]
    lines += [(i + start, line) for i, line in table_rows(grid[start:], int(looks_like_header(grid[start], 40)))]
    return Reading(texts.choose_title(stem), tuple(Block(line, Place(row=i + 1)) for i, line in lines if line), doubts)


def read_xlsx(data: bytes, stem: str) -> Reading:
    """Read every sheet row by row: 「列名: 値 / 列名: 値」, results of formulas as stored, merged cells repeated.

    Comments and the text of shapes follow the row that they are anchored at. Hidden sheets are read, and named.
    """
    from openpyxl import load_workbook
    from openpyxl.styles import numbers

    numbers.BUILTIN_FORMATS.update(_JAPANESE_FORMATS)
    book = load_workbook(io.BytesIO(data), data_only=True, read_only=True)
    blocks: list[Block] = []
    empty = 0
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        sheets: list[Any] = list(book.worksheets)
        for sheet in sheets:
            part = sheet._worksheet_path  # the only way from a sheet to what openpyxl does not read of it
            xml = package.read(part)
            empty += len(_UNCALCULATED.findall(xml))
            merged = [area.decode() for area in _MERGED.findall(xml)]
            caption = ""
            lines = [*_Sheet(_filled(sheet, merged)).lines(), *_asides(package, part)]
            for row, own, text in sorted(lines, key=lambda line: line[0]):
                caption = caption if own is None else own
                blocks.append(Block(text, Place(sheet=squeeze(sheet.title), row=row, headings=(caption,) if caption else ())))
            finished()
    doubts = []
    if hidden := [sheet.title for sheet in book.worksheets if sheet.sheet_state != "visible"]:
        doubts.append(f"非表示のシートも読みました: {squeeze('、'.join(hidden))}。")
    if empty:
        doubts.append(f"計算結果が保存されていない数式が{empty}個あります。Excelで開いて上書き保存すると読めます。")
    title = texts.choose_title(stem, (book.properties.title or "",), blocks)
    return Reading(title, tuple(blocks), tuple(doubts), date=modified(data))


def _records(lines: list[str], mark: str) -> tuple[list[list[str]], list[int]]:
    """Take records apart, and number (from 1) the lines whose quotation marks do not match: such a line stands alone."""
    records: list[list[str]] = []
    lost: list[int] = []
    at = 0
    while at < len(lines):
        # A cell of more lines than this is taken for a lost mark, which would swallow the rest of the file.
        reader = csv.reader(lines[at : at + 50], delimiter=mark, strict=True)
        try:
            records.append(next(reader))
            at += reader.line_num
        except csv.Error:
            records.append([cell.strip('"\n') for cell in lines[at].split(mark)])
            at += 1
            lost.append(at)
    return records, lost


_UNCALCULATED = re.compile(rb"(?:</f>|<f[^>]*/>)(?:<v\s*/>|<v></v>)?</c>")
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=\"([A-Z]+\d+:[A-Z]+\d+)\"")
_JAPANESE_FORMATS = dict.fromkeys((27, 28, 29, 36, 50, 51, 54, 57, 58), "[$-411]ge.m.d")
_JAPANESE_FORMATS |= dict.fromkeys((30, 31, 34, 35, 52, 53, 55, 56), "yyyy.m.d") | {32: "h.mm", 33: "h.mm.ss"}
"""Formats of dates and times that a Japanese Excel knows by number alone (ECMA-376 part 1, 18.8.30) and openpyxl takes for
plain figures."""


def _asides(package: zipfile.ZipFile, part: str) -> Iterator[tuple[int, None, str]]:
    """Yield (row number, None, line) for the comments and shapes of a sheet, which openpyxl leaves out."""
    folder, _, name = part.rpartition("/")
    links = f"{folder}/_rels/{name}.rels"
    for link in parse_xml(package.read(links)) if links in package.namelist() else ():
        target = posixpath.normpath(posixpath.join(folder, link.get("Target", ""))).removeprefix("/")
        kind = link.get("Type", "").rpartition("/")[2]
        if kind not in ("comments", "drawing") or target not in package.namelist():
            continue
        for anchor in parse_xml(package.read(target)).iterfind(".//{*}comment" if kind == "comments" else "*"):
            row = re.sub(r"\D", "", anchor.get("ref", "")) or int(anchor.findtext("{*}from/{*}row") or "0") + 1
            for paragraph in anchor.iterfind("{*}text" if kind == "comments" else ".//{*}txBody/{*}p"):
                runs = (run for run in paragraph.iterfind(".//{*}t") if not run.getparent().tag.endswith("}rPh"))
                if text := squeeze("".join(run.text or "" for run in runs)):
                    yield int(row), None, f"{'コメント' if kind == 'comments' else '図形'}: {text}"


class _Cell(NamedTuple):
    text: str
    is_name: bool
    look: str
    """Bold type and fill, by which a header sets itself off; "" for a plain cell."""


_Row = dict[int, _Cell]


class _Sheet:
    """Walks the rows of one sheet and keeps the column names that are in force."""

    def __init__(self, rows: dict[int, _Row]) -> None:
        self._rows = rows
        self._names: dict[int, str] = {}
        self._header = 0

    def lines(self) -> Iterator[tuple[int, str, str]]:
        """Yield (row number, caption in force, line)."""
        caption, captioned = "", 0
        for count, (number, row) in enumerate(sorted(self._rows.items())):
            if count % 1000 == 999:
                finished()
            first = row[min(row)]
            opens = number - 1 not in self._rows
            if sum(not isinstance(cell.text, Covered) for cell in row.values()) == 1 and min(row) <= min(self._names, default=min(row)):
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
        rows = takewhile(bool, (self._rows.get(n, {}) for n in range(number, number + 20)))
        grid = [[line[column].text if column in line else "" for column in sorted(row)] for line in rows]
        return fresh and len(below) > 1 and texts.header_rows(grid) > 0


def _refines(above: _Row, row: _Row) -> bool:
    """Whether a row of names below a header is its second half and not the first record."""
    common = [column for column in row if column in above]
    merged_down = any(row[column].text == above[column].text for column in common)
    spanned = len({cell.text for cell in above.values()}) < len(above)
    alike = sum(row[column].look == above[column].look != "" for column in common) * 2 > len(common)
    repeats = len(row) >= 6 and len({cell.text for cell in row.values()}) * 2 <= len(row)
    return merged_down or repeats or (spanned and (alike or len(row) > len(common)))


def _filled(sheet: Any, merged: Iterable[str]) -> dict[int, _Row]:
    """Filled cells by row and column. The grid between them is never visited: it may be 17 billion cells large."""
    from openpyxl.worksheet.cell_range import CellRange

    sheet.reset_dimensions()  # what a file says of its size is not to be trusted
    rows: dict[int, _Row] = {}
    looks: dict[int, str] = {}
    for count, line in enumerate(sheet.iter_rows()):
        if count % 1000 == 999:
            finished()
        for cell in line:
            if cell.value is not None and (text := _shown(cell)):
                style = cell._style_id
                if style not in looks:
                    fill = f"{cell.fill.fgColor.rgb}{cell.fill.fgColor.theme}" if cell.fill.fill_type else ""
                    looks[style] = fill + "b" * bool(cell.font.bold)
                is_name = cell.data_type == "s" and len(text) <= 40 and not text.endswith("。")
                rows.setdefault(cell.row, {})[cell.column] = _Cell(text, is_name, looks[style])
    for left, top, right, bottom in (CellRange(area).bounds for area in merged):
        value = rows.get(top, {}).get(left)
        columns = range(left + 1, min(right, left + 100) + 1)
        for row in range(top, min(bottom, top + 1000) + 1):
            if value and row in rows:
                rows[row] |= {left: value, **dict.fromkeys(columns, value._replace(text=Covered(value.text)))}
    return rows


def _shown(cell: Any) -> str:
    """A cell's text as a reader sees it; a figure that is shown with thousands separators, both ways; an era date, too."""
    value = cell.value
    if isinstance(value, str):
        return "" if cell.data_type == "e" else squeeze(value)
    pattern = cell.number_format
    if isinstance(value, datetime):
        text = f"{value:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
        return f"{era_date(value.date())}({text})" if "g" in _LITERAL.sub("", pattern) else text
    if isinstance(value, time):
        return f"{value:%H:%M}"
    if isinstance(value, timedelta):
        hours, minutes = divmod(round(value.total_seconds() / 60), 60)
        return f"{hours}:{minutes:02}"
    return str(value) if isinstance(value, bool) else _figure(value, pattern)


_LITERAL = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|General|G/標準')
_FIGURE = re.compile(r"(?P<before>.*?)(?P<digits>[0#?][0#?,.]*?)(?P<scale>,*)(?P<after>[^0#?]*)")


def _figure(value: float, pattern: str) -> str:
    """A number with the unit that its format puts beside it (「#,##0"円"」), scaled as it says (「#,##0,"千円"」)."""
    if "%" in pattern:
        return f"{value * 100:.10g}%"
    if re.fullmatch("0+", pattern):  # a code with leading zeros, 00123
        return f"{value:.15g}".zfill(len(pattern))
    section = re.sub(r"\[\$([^\]-]*)[^\]]*\]", r"\1", pattern.split(";")[0])  # [$¥-411] is a yen sign
    section = re.sub(r'\[[^\]]*\]|_.|\*.|["\\]', "", section)
    shape = _FIGURE.fullmatch(section)
    before, after = (shape["before"].strip(), shape["after"].strip()) if shape else ("", "")
    if shape and shape["scale"]:
        value = round(value / 1000 ** len(shape["scale"]), len(shape["digits"].partition(".")[2]))
    text, grouped = f"{before}{value:.15g}{after}", f"{before}{value:,.15g}{after}"
    return f"{text}({grouped})" if "," in pattern and grouped != text else text
