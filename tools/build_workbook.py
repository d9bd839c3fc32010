"""Build kit/interface/starter/質問表.xlsx, the question workbook that ``kit init`` lays down, from workbook.toml."""

import io
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openpyxl
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.worksheet.datavalidation import DataValidation

WORKBOOK = Path(__file__).resolve().parents[1] / "kit" / "interface" / "starter" / "質問表.xlsx"
_FONT, _INK = "游ゴシック", "1F3A5F"


def question_workbook() -> bytes:
    """Return an empty question workbook: sheets 質問表, 開発用 and 記入例, which explains the columns."""
    text = tomllib.loads(Path(__file__).with_name("workbook.toml").read_text(encoding="utf-8"))
    book: Any = openpyxl.Workbook()
    book.remove(book.active)
    for page in text["sheets"]:
        sheet = book.create_sheet(page["title"])
        for row in ([page["purpose"]], text["header"], *page["rows"]):
            sheet.append([cell or None for cell in row])
        for number, height in enumerate(page["heights"], 1):
            sheet.row_dimensions[number].height = height
        _style(sheet, text["widths"])
        _offer(sheet, text["categories"])
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def _style(sheet: Any, widths: Sequence[int]) -> None:
    centred = Alignment(vertical="center")
    sheet["A1"].font, sheet["A1"].alignment = Font(name=_FONT, bold=True, color=_INK), centred
    for head, width in zip(sheet[2], widths, strict=False):
        head.font, head.alignment = Font(name=_FONT, bold=True, color="FFFFFF"), centred
        head.fill = PatternFill("solid", fgColor=_INK)
        column = sheet.column_dimensions[head.column_letter]
        column.width = width
        for styled in (column, *(row[head.column - 1] for row in sheet.iter_rows(min_row=3))):
            styled.font = Font(name=_FONT)
            styled.alignment = Alignment(wrap_text=True, vertical="top")
            styled.number_format = "@"  # text: Excel would turn 3-5 and 4月1日 into dates
    sheet.freeze_panes = "C3"


def _offer(sheet: Any, categories: Sequence[str]) -> None:
    """Offer the categories as a drop-down; other words are welcome, too."""
    choices = DataValidation(type="list", formula1=f'"{",".join(categories)}"', showErrorMessage=False)
    choices.add("F3:F5000")
    sheet.add_data_validation(choices)


if __name__ == "__main__":
    WORKBOOK.write_bytes(question_workbook())
