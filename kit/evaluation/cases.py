"""Questions with gold answers, read from XLSX, CSV, JSON lines and SQuAD JSON.

A file is read whole or not at all: everything that is wrong in it is told at once, by sheet, row and column.
Wording is kept as written (only line ends, invisible characters and Unicode composition are made uniform); comparing
wordings is the metrics' business.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kit.errors import DataError
from kit.evaluation import sheets
from kit.evaluation.matching import comparable
from kit.evaluation.sheets import Entry, Problems, suggestion, tidy, unreadable
from kit.records import READER_NAME, Case, Evidence, Place, place_from_json
from kit.trust.durable import digest_of, to_json

_SHOWN = 10
_MODEL = to_json(Case("番号", "質問", (("言い方",),), (Evidence("文書名", Place(headings=("見出し",))),)))
"""The form of a question in JSON: the names and types of its parts; the items of a list are like its first."""
_JSON_NAMES = {field: f"「{field}」" for field in _MODEL}
_FORMS = {
    "answers": '[["言い方1", "言い方2"]] の形で書きます。文書に答えがない質問は [] です。',
    "evidence": '[{"document": "文書名", "place": {"page": 3}}] の形で書きます。場所だけでは使えません。',
}


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph of a SQuAD file, which becomes one document, and its questions.

    Attributes:
        name: The document's file name without ending; unique in the file.
        title: The article's title.
        text: The paragraph without its title.
        cases: Its questions; their evidence names the document.
    """

    name: str
    title: str
    text: str
    cases: tuple[Case, ...]


def read_cases(path: str | Path, *, readers: Collection[str] | None = None) -> list[Case]:
    """Read questions from a file.

    Args:
        path: ``.xlsx`` (sheet 質問表, else the first), ``.csv``, ``.jsonl`` or SQuAD ``.json``. A SQuAD question that
            recurs under another paragraph is ambiguous and is taken once, where it first stands.
        readers: The names that askers may have; None takes any.

    Raises:
        DataError: The file cannot be read, holds no question, or something in it is wrong.
    """
    cases = _read(Path(path), sheets.QUESTIONS, readers)
    if not cases:
        raise DataError(
            f"{path} に質問がまだ1問もありません。",
            "見出しの下が空です（シート「記入例」と「開発用」は数えません）。",
            "「質問」と「正解」の列を埋めて保存し、もう一度実行してください。",
        )
    return cases


def read_development(path: str | Path, *, readers: Collection[str] | None = None) -> list[Case]:
    """Read development questions: sheet 開発用 of an XLSX (none if it is absent or empty), any other file whole.

    Args:
        path: See ``read_cases``.
        readers: The names that askers may have; None takes any.

    Raises:
        DataError: The file cannot be read, or something in it is wrong.
    """
    return _read(Path(path), sheets.DEVELOPMENT, readers)


def check_overlap(cases: Iterable[Case], development: Iterable[Case]) -> None:
    """Refuse development questions that are also judged by: a system tuned on them looks better than it is.

    Raises:
        DataError: A question stands in both.
    """
    judged = {question_hash(case): case for case in cases}
    shared = [(case, judged[key]) for case in development if (key := question_hash(case)) in judged]
    if shared:
        lines = [f"開発用の番号 {d.id} = 判定用の番号 {c.id}: {d.question[:40]}" for d, c in shared]
        raise DataError(
            _listed(f"開発用の質問のうち {len(shared)} 問が、判定に使う質問と同じです。", lines),
            "調整に使った質問で判定すると、実力より良い結果が出てしまいます。",
            "どちらか一方から消して保存し、もう一度実行してください。",
        )


def cases_sha256(cases: Iterable[Case]) -> str:
    """Return the hash (64 hex digits) of the questions themselves, whatever file they came from."""
    return digest_of([to_json(case) for case in cases])


def question_hashes(cases: Iterable[Case]) -> tuple[str, ...]:
    """Return the hash of each question, sorted, each once."""
    return tuple(sorted(set(map(question_hash, cases))))


def question_hash(case: Case) -> str:
    """Return a hash (12 hex digits) of a question's letters and digits; all else, full stops and blanks, does not count."""
    return hashlib.sha256(re.sub(r"[\W_]", "", comparable(case.question)).encode()).hexdigest()[:12]


def refuse_if_wrong(path: Path, problems: Problems, cause: str = "書き間違いか書き忘れです。", beside: Path | None = None) -> None:
    """Raise one error that tells all that is wrong in a file: the first ten places in their order, then the count.

    Args:
        path: The file.
        problems: What is wrong in it; nothing is raised where there are none.
        cause: What they likely come from.
        beside: The file that may be mended in its place.

    Raises:
        DataError: There are problems.
    """
    if problems:
        lines = [line for _, line in sorted(problems, key=lambda problem: problem[0])]
        named, places = (f"{beside.name} か {path.name}", f"{beside} か {path}") if beside else (path.name, path)
        raise DataError(
            _listed(f"{named} に直すところが {len(lines)} か所あります。", lines),
            cause,
            f"{places} の上の箇所を直して保存し、もう一度実行してください。",
        )


def read_squad(path: Path) -> list[Paragraph]:
    """Read a SQuAD file by paragraphs; a JSQuAD context ``TITLE [SEP] BODY`` is split.

    Raises:
        DataError: The file cannot be read or is not SQuAD JSON.
    """
    text = sheets.read_text(path)
    try:
        pairs = [(article, paragraph) for article in json.loads(text)["data"] for paragraph in article["paragraphs"]]
        return [_paragraph(number, article["title"], content) for number, (article, content) in enumerate(pairs, 1)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        cause = f"中身が違います（{repr(error)[:100]}）。1行に1問の JSON なら、拡張子を .jsonl にします。"
        raise unreadable(path, "SQuAD 形式のファイル", cause) from error


def _listed(head: str, lines: Sequence[str]) -> str:
    rest = [f"・ほか {len(lines) - _SHOWN} か所"] if len(lines) > _SHOWN else []
    return "\n".join([head, *(f"・{line}" for line in lines[:_SHOWN]), *rest])


def _read(path: Path, sheet: str, readers: Collection[str] | None) -> list[Case]:
    problems: Problems = []
    match path.suffix.lower():
        case ".xlsx" | ".xlsm":
            entries = sheets.read_xlsx(path, sheet, problems)
        case ".csv":
            entries = sheets.read_csv(path, problems)
        case ".jsonl":
            entries = _read_lines(sheets.read_text(path), problems)
        case ".json":
            entries = _first_of_each(read_squad(path))
        case _:
            raise unreadable(path, "Excel ブック", "質問は .xlsx、.csv、.jsonl、.json（SQuAD 形式）で用意します。")
    cases = _checked(entries, problems, readers)
    refuse_if_wrong(path, problems)
    return cases


def _checked(entries: Sequence[Entry], problems: Problems, readers: Collection[str] | None) -> list[Case]:
    """Check what holds for questions from any source, and number those without a number."""
    ids: dict[str, Entry] = {}
    questions: dict[str, Entry] = {}
    for entry in entries:
        case, wrong = entry.case, dict(entry.wrong)
        if not case.question:
            wrong.setdefault("question", "質問が空です。")
        elif (first := questions.setdefault(question_hash(case), entry)) is not entry:
            wrong["question"] = f"{first.row}行目と同じ質問です（記号と空白の違いは数えません）。"
        if case.id and (first := ids.setdefault(case.id, entry)) is not entry:
            wrong["id"] = f"番号「{case.id[:40]}」が{first.row}行目と重なっています。"
        if case.user and not READER_NAME.fullmatch(case.user):
            what = "使えません。acl.csv の閲覧者名（半角英数字と . _ @ - で64文字まで）か、空にします。"
            wrong["user"] = f"「{case.user[:40]}」は{what}"
        elif case.user and readers is not None and case.user not in readers:
            wrong["user"] = f"「{case.user}」は acl.csv にない閲覧者名です。{suggestion(case.user, sorted(readers))}"
        problems += [(entry.row, f"{entry.place} {entry.columns[field]}: {what}") for field, what in wrong.items()]
    free = (str(number) for number in itertools.count(1) if str(number) not in ids)
    return [entry.case if entry.case.id else replace(entry.case, id=next(free)) for entry in entries]


def _read_lines(text: str, problems: Problems) -> list[Entry]:
    entries = []
    for number, line in enumerate(text.split("\n"), 1):  # a line separator inside a JSON string is no end of line
        if line.strip():
            try:
                entries.append(Entry(_case(json.loads(line)), number, f"{number}行目", _JSON_NAMES, {}))
            except json.JSONDecodeError as error:
                problems.append((number, f"{number}行目: JSON として読めません（{error.colno}文字目）。"))
            except (ValueError, RecursionError) as error:
                problems.append((number, f"{number}行目: {error}"))
    return entries


def _case(data: Any) -> Case:
    """Build a question from one JSON object; a ValueError says in Japanese what is wrong with it."""
    _require(isinstance(data, dict), "{ } で囲んだ1問になっていません。")
    for key, value in data.items():
        _require(key in _MODEL, f"「{key}」は知らない項目です。{suggestion(key, _MODEL)}")
        _require(_is_like(value, _MODEL[key]), f"「{key}」は、{_FORMS.get(key, '文字列で書きます。')}")
    for key in ("question", "answers"):
        _require(key in data, f"「{key}」がありません。")
    answers = tuple(tuple(word for word in map(tidy, part) if word) for part in data["answers"])
    _require(all(answers), f"「answers」は、{_FORMS['answers']}")
    evidence = tuple(map(_evidence, data.get("evidence", [])))
    _require(all(item.document for item in evidence), f"「evidence」は、{_FORMS['evidence']}")
    texts = {key: tidy(value) for key, value in data.items() if isinstance(value, str)}
    return Case(**{"id": "", **texts}, answers=answers, evidence=evidence)


def _is_like(value: Any, model: Any) -> bool:
    if type(value) is not type(model):
        return False
    if isinstance(model, dict):
        return all(key in model and _is_like(part, model[key]) for key, part in value.items())
    return not isinstance(model, list) or all(_is_like(part, model[0]) for part in value)


def _evidence(item: Mapping[str, Any]) -> Evidence:
    return Evidence(tidy(item.get("document", "")), place_from_json({"headings": (), **item.get("place", {})}))


def _require(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _paragraph(number: int, title: str, content: Mapping[str, Any]) -> Paragraph:
    first, mark, rest = content["context"].partition(" [SEP] ")
    title, body = (tidy(first), tidy(rest)) if mark else (tidy(title), tidy(content["context"]))
    name = f"{number:04d}_" + re.sub(r"[^\w.-]", "_", title)[:50]
    cases = []
    for item in content["qas"]:
        words = tuple(dict.fromkeys(tidy(answer["text"]) for answer in item["answers"]))
        known = words and not item.get("is_impossible")
        parts, evidence = ((words,), (Evidence(name),)) if known else ((), ())
        cases.append(Case(str(item["id"]), tidy(item["question"]), parts, evidence, title))
    return Paragraph(name, title, body, tuple(cases))


def _first_of_each(paragraphs: Iterable[Paragraph]) -> list[Entry]:
    entries: dict[str, Entry] = {}
    for number, paragraph in enumerate(paragraphs, 1):
        for case in paragraph.cases:
            entry = Entry(case, number, f"{number}番目の段落", _JSON_NAMES, {})
            entries.setdefault(question_hash(case), entry)
    return list(entries.values())
