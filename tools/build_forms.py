"""Build the workbooks in kit/evaluation/forms/, which ``kit score`` fills in and hands out, from forms.toml.

Row 3 holds the headings; row 4 is the model of every row: how it looks, which cells are open, what may stand in them.
"""

import io
import tomllib
from pathlib import Path
from typing import Any

import openpyxl
from openpyxl.styles import Alignment, Border, Font, PatternFill, Protection, Side
from openpyxl.worksheet.datavalidation import DataValidation

FORMS = Path(__file__).resolve().parents[1] / "kit" / "evaluation" / "forms"
_FONT, _INK, _OPEN, _LINE = "游ゴシック", "1F3A5F", "FFF8DC", Side(style="thin", color="BFBFBF")
_GUIDE_WIDTH, _LAST_ROW = 140, 100_003


def build(name: str) -> bytes:
    """Return one workbook: the sheet 手引き, then those to fill in."""
    form = tomllib.loads(Path(__file__).with_name("forms.toml").read_text(encoding="utf-8"))[name]
    book: Any = openpyxl.Workbook()
    book.active.title = "手引き"
    _guide(book.active, form["guide"].strip().split("\n"))
    for page in form["sheets"]:
        _page(book.create_sheet(page["title"]), page)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def _guide(sheet: Any, lines: list[str]) -> None:
    for number, line in enumerate(lines, 1):
        bold = number == 1 or line.startswith("■")
        cell = sheet.cell(number, 1, line)
        cell.font = Font(name=_FONT, bold=bold, size=16 if number == 1 else 11, color=_INK if bold else None)
        cell.alignment = Alignment(wrap_text=True, vertical="center")
        sheet.row_dimensions[number].height = 31 if bold else 23
    sheet.column_dimensions["A"].width = _GUIDE_WIDTH
    sheet.sheet_view.showGridLines = False
    sheet.protection.sheet = True
    _print_on_a4(sheet)


def _page(sheet: Any, page: dict[str, Any]) -> None:
    sheet["A1"], sheet["A1"].font = page["purpose"], Font(name=_FONT, bold=True, color=_INK)
    sheet["A2"].font = Font(name=_FONT, size=9, color="7F7F7F")
    for place, column in enumerate(page["columns"], 1):
        head, model = sheet.cell(3, place, column["name"]), sheet.cell(4, place)
        head.font, head.fill = Font(name=_FONT, bold=True, color="FFFFFF"), PatternFill("solid", fgColor=_INK)
        head.alignment = Alignment(vertical="center")
        sheet.column_dimensions[head.column_letter].width = column["width"]
        model.font, model.border = Font(name=_FONT), Border(_LINE, _LINE, _LINE, _LINE)
        model.alignment = Alignment(wrap_text=True, vertical="top")
        model.number_format = "General" if column.get("kind") == "minutes" else "@"  # else 3-5 would become a date
        if "choices" in column or "kind" in column:
            model.protection, model.fill = Protection(locked=False), PatternFill("solid", fgColor=_OPEN)
            _limit(sheet, column, head.column_letter)
        else:
            model.quotePrefix = True  # a text that begins with = + - @ stays one when somebody edits it
    sheet.row_dimensions[1].height = sheet.row_dimensions[3].height = 24
    sheet.freeze_panes, sheet.print_title_rows = "C4", "1:3"
    sheet.protection.sheet = True  # no password: it guards against slips; what comes back is compared with what went out
    sheet.protection.formatColumns = sheet.protection.formatRows = False
    _print_on_a4(sheet)


def _limit(sheet: Any, column: dict[str, Any], letter: str) -> None:
    """Let only what can be used be entered; the kit reads its choices from here, too."""
    if choices := column.get("choices"):
        rule = DataValidation(type="list", formula1=f'"{",".join(choices)}"', error=f"{'、'.join(choices)} から選んでください。")
    elif column["kind"] == "minutes":
        rule = DataValidation(type="decimal", operator="between", formula1="0", formula2="9999", error="分を数字だけで書いてください（30秒は 0.5）。")
    else:
        return
    rule.allow_blank, rule.showErrorMessage, rule.errorTitle = True, True, column["name"]
    rule.add(f"{letter}4:{letter}{_LAST_ROW}")
    sheet.add_data_validation(rule)


def _print_on_a4(sheet: Any) -> None:
    sheet.page_setup.orientation, sheet.page_setup.paperSize = "landscape", sheet.PAPERSIZE_A4
    sheet.page_setup.fitToWidth, sheet.page_setup.fitToHeight = 1, 0
    sheet.sheet_properties.pageSetUpPr.fitToPage = True
    sheet.oddFooter.center.text = "&P / &N"
    sheet.page_margins.left = sheet.page_margins.right = 0.4  # inches
    sheet.page_margins.top = sheet.page_margins.bottom = 0.6
    sheet.page_margins.footer = 0.3


if __name__ == "__main__":
    FORMS.mkdir(exist_ok=True)
    for form in ("採点シート", "実務記録シート"):
        (FORMS / f"{form}.xlsx").write_bytes(build(form))
