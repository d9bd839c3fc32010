"""The sample company's documents and questions: what is committed is what the sources give, and it is sound."""

import csv
import difflib
import importlib
import io
import itertools
import json
import re
import unicodedata
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path

import openpyxl
import pypdfium2
import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "data" / "sample"
DOCUMENTS = SAMPLE / "documents"


def load(name):
    return [json.loads(line) for line in (SAMPLE / name).read_text(encoding="utf-8").splitlines()]


QUESTIONS, DEVELOPMENT = load("questions.jsonl"), load("development.jsonl")
KINDS = {"plain", "paraphrase", "table", "two_documents", "edition", "unanswerable"}
CASES = QUESTIONS + DEVELOPMENT
NAMES = {p.relative_to(DOCUMENTS).as_posix(): p for p in DOCUMENTS.rglob("*") if p.is_file() and p.name != "acl.csv"}


def normal(text):
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text))


@cache
def decoded(path):
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp932")


@cache
def member(path, part):
    with zipfile.ZipFile(path) as archive:
        return BeautifulSoup(archive.read(part), "xml").get_text()


workbook = cache(openpyxl.load_workbook)


def text_at(name, place):
    """Text of a built document at a place, read without the script that built it."""
    path = NAMES[name]
    if path.suffix == ".pdf":
        with pypdfium2.PdfDocument(path) as pdf:
            return pdf[place["page"] - 1].get_textpage().get_text_range()
    if path.suffix == ".xlsx":
        cells = workbook(path)[place["sheet"]][place["row"]]
        return "\n".join(f"{c.value:,}\n{c.value}" if isinstance(c.value, int) else str(c.value) for c in cells)
    if path.suffix == ".csv":
        return "\n".join(list(csv.reader(io.StringIO(decoded(path))))[place["row"] - 1])
    if path.suffix in (".docx", ".pptx"):
        return member(path, f"ppt/slides/slide{place['slide']}.xml" if "slide" in place else "word/document.xml")
    return BeautifulSoup(decoded(path), "html.parser").get_text() if path.suffix == ".html" else decoded(path)


def contents(data):
    """What two builds must share: the bytes; of an Office file, unpacked (zlib differs between machines)."""
    if not data.startswith(b"PK"):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module("build_sample")


def test_a_rebuild_gives_what_is_committed(script):
    files, faults = script.build(SAMPLE / "sources")
    assert not faults
    committed = [*DOCUMENTS.rglob("*.*"), SAMPLE / "questions.jsonl", SAMPLE / "development.jsonl"]
    assert set(files) == {path.relative_to(SAMPLE).as_posix() for path in committed}
    assert not [name for name, data in files.items() if contents((SAMPLE / name).read_bytes()) != contents(data)]


def test_quotes_become_places_and_all_that_are_missing_are_listed(script, tmp_path):
    (tmp_path / "総務").mkdir()
    source = "---\ntitle: 規程\n---\n## 第1条\n\n休暇は20日とする。\n\n## 第2条\n\n| 区分 | 日数 |\n| - | - |\n| 夏季 | 3 |\n"
    (tmp_path / "総務" / "規程.md.md").write_text(source, encoding="utf-8")
    evidence = {
        "a-1": {"document": "総務/規程.md", "quote": "休暇は20日"},
        "a-2": {"document": "総務/規程.md", "quote": "3", "row": "夏季"},
        "a-3": {"document": "総務/規程.md", "quote": "休暇は40日"},
        "a-4": {"document": "総務/無い.md", "quote": "休暇は20日"},
    }
    (tmp_path / "questions").mkdir()
    lines = [json.dumps({"id": key, "evidence": [item]}, ensure_ascii=False) for key, item in evidence.items()]
    (tmp_path / "questions" / "a.jsonl").write_text("\n".join(lines[:1] + lines[2:]), encoding="utf-8")
    (tmp_path / "questions" / "a.dev.jsonl").write_text(lines[1], encoding="utf-8")
    files, faults = script.build(tmp_path)
    cases = [json.loads(line) for line in (files["questions.jsonl"] + files["development.jsonl"]).splitlines()]
    places = {case["id"]: case["evidence"][0]["place"] for case in cases}
    assert places == {"a-1": {"headings": ["第1条"]}, "a-2": {"headings": ["第2条"]}, "a-3": None, "a-4": None}
    assert files["development.jsonl"].startswith(b'{"id": "a-2"')
    assert [fault.split(":")[0] for fault in faults] == ["a-3", "a-4"]


def test_questions_are_of_their_kind_and_quotes_hold_the_answers():
    parts = (SAMPLE / "sources" / "questions").glob("*.jsonl")
    for case in [json.loads(line) for path in parts for line in path.read_text(encoding="utf-8").splitlines()]:
        documents = {item["document"] for item in case["evidence"]}
        assert case["kind"] in KINDS, case["id"]
        assert (case["kind"] == "two_documents") == (len(documents) > 1), case["id"]
        quotes = [normal(item["quote"].replace("**", "")) for item in case["evidence"]]
        for first, *_ in case["answers"]:
            assert any(normal(first) in quote for quote in quotes), (case["id"], first)


def test_numbers_of_questions():
    kinds = Counter(case["kind"] for case in QUESTIONS)
    assert (len(QUESTIONS), len(DEVELOPMENT)) == (200, 60)
    assert kinds["unanswerable"] == 50 == sum(not case["answers"] for case in QUESTIONS)
    assert kinds["paraphrase"] >= 25
    assert kinds["table"] >= 25
    assert kinds["two_documents"] >= 12
    assert kinds["edition"] >= 12
    assert len({case["id"] for case in CASES}) == 260


def test_documents_cover_all_formats_and_encodings():
    assert len(NAMES) >= 30
    suffixes = {path.suffix for path in NAMES.values()}
    assert suffixes == {".pdf", ".docx", ".pptx", ".xlsx", ".html", ".md", ".txt", ".csv"}
    for suffix in (".csv", ".txt"):
        data = [path.read_bytes() for path in NAMES.values() if path.suffix == suffix]
        old = [text.decode("cp932") for text in data if "\ufffd" in text.decode("utf-8", "replace")]
        assert any("\r\n" in text and "あさぎり" in text for text in old), suffix


def test_two_documents_are_restricted_and_only_their_readers_are_answered_from_them():
    head, everyone, *rows = list(csv.reader((DOCUMENTS / "acl.csv").read_text(encoding="utf-8").splitlines()))
    assert head == ["パス", "閲覧者"]
    assert everyone == ["*", "everyone"]
    readers = dict(rows)
    assert len(readers) == 2
    assert set(readers) <= set(NAMES)
    for case in CASES:
        for item in case["evidence"]:
            assert readers.get(item["document"], case["user"]) == case["user"], case["id"]


def test_evidence_exists_and_holds_the_answer_at_its_place():
    for case in CASES:
        assert bool(case["evidence"]) == bool(case["answers"]) == (case["kind"] != "unanswerable"), case["id"]
        texts = [normal(text_at(item["document"], item["place"])) for item in case["evidence"]]
        for first, *_ in case["answers"]:
            assert any(normal(first) in text for text in texts), (case["id"], first, case["evidence"])
        for item, text in zip(case["evidence"], texts, strict=True):
            assert all(normal(heading) in text for heading in item["place"].get("headings", [])), case["id"]


def test_no_two_questions_are_near_copies():
    for one, other in itertools.combinations(CASES, 2):
        matcher = difflib.SequenceMatcher(None, one["question"], other["question"])
        near = matcher.real_quick_ratio() > 0.8 and matcher.quick_ratio() > 0.8 and matcher.ratio() > 0.8
        assert not near, (one["id"], other["id"])


def test_every_document_says_that_the_company_is_made_up():
    for path in (SAMPLE / "sources").glob("*/*.md"):
        assert re.search("架空.*見本", path.read_text(encoding="utf-8")), path
