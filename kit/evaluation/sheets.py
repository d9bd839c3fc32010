"""Question tables as people keep them, in XLSX and CSV: headings in any order, places in any spelling.

This module turns rows into ``Entry`` values, which know their sheet, row and columns; ``cases`` checks what holds for
questions from any source.
"""

import csv
import difflib
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from kit.errors import DataError, reason
from kit.evaluation.matching import comparable
from kit.knowledge.texts import UnreadableError, decode
from kit.records import Case, Evidence, Place, place_from_json

QUESTIONS, DEVELOPMENT, EXAMPLES = "質問表", "開発用", "記入例"
"""The sheets of a question workbook; examples never count as questions."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("番号", "id", "no", "no.", "項番"),
    "question": ("質問", "question", "質問文", "質問内容"),
    "answers": ("正解", "answers", "answer", "正答", "回答"),
    "document": ("根拠文書", "document", "evidence", "文書名", "文書"),
    "place": ("頁", "page", "ページ", "場所", "place"),
    "category": ("分類", "category", "カテゴリ", "カテゴリー"),
    "user": ("質問者", "user", "利用者"),
    "kind": ("種類", "kind", "種別"),
}
"""Field → headings it may stand under, the proper one first; compared without width, case, blanks and (notes)."""

_HEADER_WITHIN = 20  # rows in which the header is looked for: lines of explanation may stand above it
_NO_ANSWER = {"", "なし", "無し", "該当なし"}
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\ufffe\uffff]")
_NUMBER = re.compile(r"(?i)(?:p\.?|page|slide|頁|ページ|スライド)?\s*(\d{1,6})\s*(?:p|頁|ページ|枚目|行目)?")
_SHEET = re.compile(r"(?:シート[:「\s]\s*)?(?P<sheet>.+?)」?\s*(?:(?P<row>\d{1,7})\s*行目)?")
_COUNTED = {".pptx": "slide", ".xlsx": "row", ".xlsm": "row", ".csv": "row"}  # what a bare number counts there

Cell = str | ValueError
"""A cell's text, or why it has none that can be used."""
Table = Sequence[tuple[int, Sequence[Cell]]]
"""Rows with their numbers as a spreadsheet shows them."""
Problems = list[tuple[int, str]]
"""Row and one Japanese line for everything that is wrong in a file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A question and where it was found.

    Attributes:
        case: The question, not yet checked; its id may be "".
        row: Row, line or paragraph, from 1.
        place: Sheet and row in words.
        columns: Field → its column in words.
        wrong: Field → what is wrong with it.
    """

    case: Case
    row: int
    place: str
    columns: Mapping[str, str]
    wrong: Mapping[str, str]


def tidy(text: str) -> str:
    r"""Return text in NFC with ``\n`` line ends, without invisible characters and outer blanks."""
    plain = _INVISIBLE.sub("", re.sub("\r\n?", "\n", text)).encode("utf-8", "replace").decode()
    return unicodedata.normalize("NFC", plain).strip()


def suggestion(word: str, known: Collection[str]) -> str:
    """Return a hint at the known word that was meant; where none is near, all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"「{near[0]}」の書き間違いではありませんか。" if near else f"使えるもの: {'、'.join(known)}"


def unreadable(path: Path, form: str, cause: str, line: int = 0) -> DataError:
    """Return the error for a file that is not what it is taken for; ``line`` says where it stops being that."""
    where = f"{path} の {line} 行目あたり" if line else f"{path} "
    return DataError(f"{where}を {form}として読めません。", cause, f"開いて確かめ、{form}として保存し直してください。")


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} を読めません（{reason(error)}）。",
            "名前か場所が違うか、読む権限がありません。",
            "場所を確かめてください。新しく始めるときは `kit init フォルダ` がひな形を作ります。",
        ) from error


def read_text(path: Path) -> str:
    """Return a file's text, whatever Japanese encoding it is in.

    Raises:
        DataError: It cannot be read, or is not text.
    """
    try:
        return decode(read_bytes(path))[0]
    except UnreadableError as error:
        raise unreadable(path, "UTF-8 のテキスト", str(error)) from error


def read_xlsx(path: Path, wanted: str, problems: Problems) -> list[Entry]:
    """Read one worksheet: the wanted one; for 質問表 else the first that is neither 開発用 nor 記入例.

    Raises:
        DataError: The file is no workbook, or is protected by a password.
    """

    def named(titles: Collection[str]) -> list[str]:
        others = [title for title in titles if title not in (DEVELOPMENT, EXAMPLES)] if wanted == QUESTIONS else []
        return ([wanted] if wanted in titles else others)[:1]

    read = read_worksheets(path, named)
    return [entry for title, rows in read.items() for entry in _entries(rows, f"シート「{title}」 ", problems)]


def read_worksheets(path: Path, choose: Callable[[Collection[str]], Collection[str]]) -> dict[str, Table]:
    """Return the rows of the chosen worksheets by title.

    Args:
        path: An Excel workbook.
        choose: Picks from the titles of all worksheets, in NFKC; the others are not read.

    Raises:
        DataError: The file is no workbook, or is protected by a password.
    """
    data = read_bytes(path)
    import openpyxl

    found: dict[str, Table] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of drop-downs and styles that it leaves out
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            sheets = {unicodedata.normalize("NFKC", sheet.title).strip(): sheet for sheet in book.worksheets}
            for title in choose(sheets):
                sheets[title].reset_dimensions()  # the stated size is often wrong
                found[title] = [(i, [_cell(cell) for cell in row]) for i, row in enumerate(sheets[title].iter_rows(), 1)]
    except Exception as error:  # openpyxl raises anything on a broken file
        cause = "壊れているか、パスワードで保護されているか、古い形式（.xls）です。"
        raise unreadable(path, "Excel ブック", cause) from error
    return found


def read_csv(path: Path, problems: Problems) -> list[Entry]:
    """Read a CSV file in any Japanese encoding.

    Raises:
        DataError: The file is no CSV.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        return _entries(list(enumerate(reader, 1)), "", problems)
    except csv.Error as error:
        cause = f'引用符「"」の数が合わないようです（{error}）。'
        raise unreadable(path, "CSV ファイル", cause, reader.line_num) from error


def _cell(cell: Any) -> Cell:
    """Return a cell as its author sees it; Excel turns what looks like a date into one and loses the wording."""
    value = cell.value
    if cell.data_type == "e":
        return ValueError(f"Excel のエラー値（{value}）になっています。")
    if value is None or isinstance(value, str):
        return (value or "").replace("_x000D_", "")  # how XLSX spells a carriage return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ValueError("Excel が日付・時刻などに変換しています。表示形式を「文字列」にして入れ直してください。")
    return f"{value * 100:.10g}%" if "%" in cell.number_format else f"{value:.15g}"


def _entries(rows: Table, sheet: str, problems: Problems) -> list[Entry]:
    filled = [(number, row) for number, row in rows if any(str(cell).strip() for cell in row)]
    if not filled:
        return []
    start = max(range(len(filled[:_HEADER_WITHIN])), key=lambda index: len(_columns(filled[index][1])))
    number, header = filled[start]
    columns = _columns(header)
    problems += [(number, f"{sheet}{number}行目: {what}") for what in _header_problems(header, columns)]
    if not {"question", "answers"} <= columns.keys():
        return []
    names = {field: f"「{tidy(str(header[column]))}」列" for field, column in columns.items()}
    entries = []
    for number, row in filled[start + 1 :]:
        cells = {field: row[column] for field, column in columns.items() if column < len(row)}
        if any(str(cell).strip() for field, cell in cells.items() if field != "id"):
            entries.append(_entry(cells, number, f"{sheet}{number}行目", names))
    return entries


def _header_problems(header: Sequence[Cell], columns: Collection[str]) -> Iterator[str]:
    """Tell of headings that are missing or look like slips."""
    there = {name: " ".join(str(cell).split())[:20] for cell in header if (name := _heading(cell))}
    if missing := [COLUMNS[field][0] for field in ("question", "answers") if field not in columns]:
        yield f"列「{'」「'.join(missing)}」がありません。今の見出し: {'、'.join([*there.values()][:8])}"
    known = {alias: field for field, aliases in COLUMNS.items() for alias in aliases}
    for name, shown in there.items():
        for close in difflib.get_close_matches(name, known, n=1, cutoff=0.75):
            # ページ数 is another column, 根拠文章 a slip.
            if known[close] not in columns and close not in name and name not in close:
                yield f"列「{shown}」は「{close}」の書き間違いではありませんか。"


def _columns(row: Sequence[Cell]) -> dict[str, int]:
    names = [_heading(cell) for cell in row]
    found = {field: [names.index(alias) for alias in aliases if alias in names] for field, aliases in COLUMNS.items()}
    return {field: places[0] for field, places in found.items() if places}


def _heading(cell: Cell) -> str:
    return re.sub(r"\(.*?\)|[\s*※:]", "", unicodedata.normalize("NFKC", str(cell)).lower())


def _entry(cells: Mapping[str, Cell], number: int, place: str, names: Mapping[str, str]) -> Entry:
    wrong = {field: str(cell) for field, cell in cells.items() if isinstance(cell, ValueError)}
    texts = {field: "" if field in wrong else str(cells.get(field, "")) for field in COLUMNS}
    documents, spots = ([tidy(line) for line in texts[field].splitlines()] for field in ("document", "place"))
    pairs = list(zip_longest(documents, spots, fillvalue=""))
    if stray := next((spot for document, spot in pairs if spot and not document), ""):
        what = "に対応する根拠文書がありません。文書と場所は、上から同じ順に1行ずつ書きます。"
        wrong.setdefault("place", f"「{stray[:20]}」{what}")
    answers = _parts(tidy(texts["answers"]))
    if any(documents) and not answers:
        what = "根拠文書があるのに正解が空です。文書に答えがない質問なら、根拠文書も空にします。"
        wrong.setdefault("answers", what)
    case = Case(
        id=tidy(texts["id"]),
        question=tidy(texts["question"]),
        answers=answers,
        evidence=tuple(_evidence(document, spot) for document, spot in pairs if document),
        category=tidy(texts["category"]),
        kind=tidy(texts["kind"]),
        user=unicodedata.normalize("NFKC", tidy(texts["user"])),
    )
    return Entry(case, number, place, names, wrong)


def _parts(text: str) -> tuple[tuple[str, ...], ...]:
    """Split a gold answer: needed parts by line, alternative wordings by ｜."""
    if comparable(text) in _NO_ANSWER:
        return ()
    parts = (tuple(word for word in map(tidy, re.split("[｜|]", line)) if word) for line in text.split("\n"))
    return tuple(part for part in parts if part)


def _evidence(document: str, spot: str) -> Evidence:
    """Read a place as people write it; what a bare number counts depends on the kind of document."""
    text, suffix = unicodedata.normalize("NFKC", spot), PurePosixPath(document.lower()).suffix
    place = Place(headings=tuple(part.strip() for part in text.split(">") if part.strip()))
    if match := _NUMBER.fullmatch(text):
        kind = "slide" if text.lower().startswith(("slide", "スライド")) else _COUNTED.get(suffix, "page")
        place = place_from_json({"headings": (), kind: int(match[1])})
    elif (suffix in (".xlsx", ".xlsm") or text.startswith("シート")) and (match := _SHEET.fullmatch(text)):
        place = Place(sheet=match["sheet"], row=int(match["row"] or 0))
    return Evidence(document.replace("\\", "/"), place)
