"""Question files for the tests, written as other programs write them."""

import csv
import io
import json

import openpyxl
import pytest

from kit.errors import DataError
from kit.evaluation.cases import read_cases

HEADER = ("番号", "質問", "正解", "根拠文書", "頁", "分類", "質問者", "種類")


def write_xlsx(path, rows, sheet="質問表", **others):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, content in {sheet: rows, **others}.items():
        made = book.create_sheet(title)
        for number, row in enumerate(content, 1):
            for column, value in enumerate(row, 1):
                cell = made.cell(number, column, value)
                if isinstance(value, str):
                    cell.data_type = "s"  # else "=1" would become a formula
    book.save(path)
    return path


def write_csv(path, rows, encoding="utf-8"):
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    path.write_bytes(stream.getvalue().encode(encoding))
    return path


def write_lines(path, *items):
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    return path


def refusal(path, read=read_cases):
    with pytest.raises(DataError) as caught:
        read(path)
    error = caught.value
    assert str(error).endswith(f"\n考えられる原因: {error.cause}\n次にすること: {error.remedy}")
    assert "\n" not in error.cause + error.remedy
    return error
