"""Workbooks that the kit hands out to people to fill in, and takes back: known rows, known columns, few open cells.

``forms/`` holds the empty workbooks (``tools/build_forms.py``): what row 4 of a sheet leaves unlocked is to be filled
in, and its drop-downs say with what. What was handed out is compared word for word when it comes back.
"""

import copy
import io
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.errors import DataError
from kit.evaluation.sheets import Cell, Problems, Table, read_worksheets, tidy
from kit.trust.durable import write_atomically

GUIDE = "手引き"
Rows = Mapping[str, Sequence[Sequence[str]]]
"""Sheet → its rows: what the locked columns show, from the left; the first is the row's id."""
_HEAD, _MODEL = 3, 4  # rows of the headings and of the model of all rows; above them stand purpose and mark
_MARK = re.compile(r"照合番号: ?([A-Z]-[0-9a-f]{12})")
_LONGEST = 32_000  # Excel cuts a cell at 32,767 letters
_LINE, _TALLEST = 18.75, 409  # points: a line of the font, and what Excel allows a row


@dataclass(frozen=True, slots=True)
class Filled:
    """One row that came back with something in it: column → what was filled in, blanks left out."""

    row: int
    cells: Mapping[str, str]


def write(path: Path, form: str, mark: str, rater: str, rows: Rows) -> Path:
    """Fill a form in and write it; every text is written as a text, whatever it begins with.

    Args:
        path: The file, overwritten.
        form: Name of the form.
        mark: By what the workbook is known again: a letter, ``-`` and 12 hex digits.
        rater: Who is to fill it in.
        rows: The rows of each sheet; a sheet that is not named is left out.
    """
    book = _form(form)
    _leave_out(book[GUIDE], rows)
    for sheet in [sheet for sheet in book.worksheets if sheet.title != GUIDE]:
        if sheet.title not in rows:
            book.remove(sheet)
            continue
        _put(sheet["A2"], f"{rater}　照合番号: {mark}")
        models = [copy.copy(cell._style) for cell in sheet[_MODEL]]
        widths = [sheet.column_dimensions[cell.column_letter].width for cell in sheet[_MODEL]]
        for number, texts in enumerate(rows[sheet.title], _MODEL):
            for place, style in enumerate(models):
                cell = sheet.cell(number, place + 1)
                cell._style = style
                if place < len(texts):
                    _put(cell, texts[place])
            sheet.row_dimensions[number].height = _height(texts, widths)
    stream = io.BytesIO()
    book.save(stream)
    write_atomically(path, stream.getvalue())
    return path


def mark_of(path: Path) -> str:
    """Return the mark of a workbook that was handed out.

    Raises:
        DataError: It is not there, no workbook, or not one of ours.
    """
    if not path.is_file():
        raise DataError(
            f"記入したシート {path} が見つかりません。", "ファイルの名前か場所が違います。",
            "記入したファイルの場所を指定してください。シートの書き出しは: kit score 実行フォルダ",
        )
    sheets = read_worksheets(path, lambda titles: [title for title in titles if title != GUIDE])
    heads = [str(cell) for rows in sheets.values() for _, row in rows[:_HEAD] for cell in row]
    if not (found := _MARK.search("\n".join(heads))):
        raise DataError(
            f"{path} は、キットが配ったシートではありません。", "照合番号がありません。別のファイルか、照合番号の行が消されています。",
            "`kit score 実行フォルダ` で書き出したファイルに記入してください。",
        )
    return found[1]


def take_back(path: Path, form: str, rows: Rows, problems: Problems) -> dict[str, dict[str, Filled]]:
    """Read what was filled in: sheet → row id → what stands there; rows without an entry are left out.

    Args:
        path: The workbook.
        form: Name of its form.
        rows: The rows as they were handed out.
        problems: Receives every row that is unknown, twice there or changed, and every entry that cannot be used.

    Raises:
        DataError: It is no workbook.
    """
    book, sheets = _form(form), read_worksheets(path, lambda titles: [title for title in rows if title in titles])
    problems += [(0, f"シート「{title}」がありません。") for title in rows if title not in sheets]
    return {title: _read(book[title], rows[title], table, problems) for title, table in sheets.items()}


def _read(form: Any, handed: Sequence[Sequence[str]], table: Table, problems: Problems) -> dict[str, Filled]:
    def tell(number: int, name: str, what: str) -> None:
        problems.append((number, f"シート「{form.title}」 {number}行目 「{name}」列: {what}"))

    names = [str(cell.value) for cell in form[_HEAD]]
    heads = {tidy(str(cell)): place for _, row in table[_HEAD - 1 : _HEAD] for place, cell in enumerate(row)}
    if missing := [name for name in names if name not in heads]:
        tell(_HEAD, "」「".join(missing), "見出しがありません。配ったときのままにします。")
        return {}
    known = {_writable(row[0]): row for row in handed}
    found: dict[str, Filled] = {}
    seen: dict[str, int] = {}
    for number, row in table[_HEAD:]:
        cells = [row[heads[name]] if heads[name] < len(row) else "" for name in names]
        texts = [tidy(str(cell)) for cell in cells]
        if texts[0] in known and texts[0] not in seen:
            seen[texts[0]] = number
            shown = known[texts[0]]
            for place, name in enumerate(names):
                before = shown[place] if place < len(shown) else None
                if wrong := _wrong(form, place, cells[place], before):
                    tell(number, name, wrong)
            if filled := {name: text for name, text in list(zip(names, texts, strict=True))[len(shown) :] if text}:
                found[shown[0]] = Filled(number, filled)
        elif any(texts):
            other = f"が{seen[texts[0]]}行目と重なっています。" if texts[0] in seen else "は、配ったシートにない番号です。"
            tell(number, names[0], f"「{texts[0][:40]}」{other}")
    return found


def _wrong(form: Any, place: int, cell: Cell, before: str | None) -> str:
    """Say what is wrong with a cell, by what it showed or by the rule of its column; "" where nothing is."""
    if isinstance(cell, ValueError):
        return str(cell)
    text = tidy(cell)
    if before is not None:
        same = "".join(text.split()) == "".join(_writable(before).split())
        return "" if same else "配ったときの文が書き換えられています。元に戻してください。"
    at = form.cell(_MODEL, place + 1).coordinate
    for rule in form.data_validations.dataValidation:
        if text and at in rule.sqref:
            choices = rule.formula1.strip('"').split(",")
            if not (text in choices if rule.type == "list" else re.fullmatch(r"\d{1,4}(\.\d{1,9})?", text)):
                return f"「{text[:20]}」は使えません。{rule.error}"
    return ""


def _leave_out(guide: Any, rows: Rows) -> None:
    """Take out of the guide what it says of sheets that are left out."""
    heights, gone, about = list[float](), list[int](), ""
    for number in range(1, guide.max_row + 1):
        text = str(guide.cell(number, 1).value)
        if text.startswith("■"):
            about = found[1] if (found := re.match("■ シート「(.+)」", text)) else ""
        if about and about not in rows:
            gone.append(number)
        else:
            heights.append(guide.row_dimensions[number].height)
    for number in reversed(gone):
        guide.delete_rows(number)
    for number, height in enumerate(heights, 1):
        guide.row_dimensions[number].height = height


def _form(name: str) -> Any:
    import openpyxl

    return openpyxl.load_workbook(Path(__file__).with_name("forms") / f"{name}.xlsx")


def _put(cell: Any, text: str) -> None:
    """Write a text as a text: never a formula, a number or a date."""
    cell.value = _writable(text)
    cell.data_type = "s"


def _writable(text: str) -> str:
    return tidy(text)[:_LONGEST]


def _height(texts: Sequence[str], widths: Sequence[float]) -> float:
    """Estimate a row's height in points: LibreOffice does not when it opens a file that says nothing of it."""

    def lines(text: str, width: float) -> int:
        letters = (sum(2 if unicodedata.east_asian_width(c) in "WFA" else 1 for c in line) for line in text.split("\n"))
        return sum(max(1, math.ceil(count * 1.05 / width)) for count in letters)

    return min(_TALLEST, 4 + _LINE * max(map(lines, texts, widths)))
