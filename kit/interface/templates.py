"""What ``kit init`` lays down: an empty ``documents/``, a question workbook, commented criteria and a short guide.

Their texts stand in ``starter/``.
"""

import io
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kit.errors import RunError
from kit.interface.project import CRITERIA, DOCUMENTS, Project, locate
from kit.trust.durable import write_atomically

_STARTER = Path(__file__).parent / "starter"
_FONT, _INK = "游ゴシック", "1F3A5F"


def init(path: str | Path) -> Project:
    """Make a project folder ready to be filled in; what is there already stays untouched.

    Args:
        path: The folder; made where it does not exist.

    Returns:
        The project, with the names of the files made and of those kept.

    Raises:
        DataError: An existing ``criteria.yaml`` cannot be read.
        RunError: The folder cannot be written.
    """
    folder = Path(path).expanduser().resolve()
    try:
        (folder / DOCUMENTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder} を作れません（{error.strerror}）。",
            "書き込み権限がないか、同じ名前のファイルがあります。",
            "別の名前か場所で `kit init フォルダ` を実行してください。",
        ) from error
    contents = {
        CRITERIA: (_STARTER / CRITERIA).read_bytes(),
        "質問表.xlsx": question_workbook(),
        "使い方.md": (_STARTER / "howto.md").read_bytes(),
    }
    kept = tuple(name for name in contents if (folder / name).exists())
    made = tuple(name for name in contents if name not in kept)
    for name in made:
        write_atomically(folder / name, contents[name])
    return replace(locate(folder), made=made, kept=kept)


def question_workbook() -> bytes:
    """Return an empty question workbook: sheets 質問表, 開発用 and 記入例, which explains the columns."""
    import openpyxl

    text = tomllib.loads((_STARTER / "workbook.toml").read_text(encoding="utf-8"))
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
    from openpyxl.styles import Alignment, Font, PatternFill

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
    from openpyxl.worksheet.datavalidation import DataValidation

    choices = DataValidation(type="list", formula1=f'"{",".join(categories)}"', showErrorMessage=False)
    choices.add("F3:F5000")
    sheet.add_data_validation(choices)
