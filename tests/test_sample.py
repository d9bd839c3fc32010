"""The sample company's documents and questions: what is committed is what the sources give, and it is sound."""

import csv
import difflib
import importlib.util
import io
import itertools
import json
import re
import sys
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


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("build_sample", ROOT / "tools" / "build_sample.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_sample"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["build_sample"]


def test_a_rebuild_gives_what_is_committed(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["build_sample.py", "--check"])
    assert script.main() == 0, capsys.readouterr().out


def test_faults_are_listed_together_with_file_and_id(script, tmp_path):
    (tmp_path / "総務").mkdir()
    source = "---\ntitle: 規程\n---\n## 第1条\n\n休暇は20日とする。\n"
    (tmp_path / "総務" / "規程.md.md").write_text(source, encoding="utf-8")
    case = {"id": "a-1", "question": "何日？", "category": "休暇", "kind": "plain", "user": ""}
    right = {"document": "総務/規程.md", "quote": "休暇は20日とする。"}
    lines = [
        {**case, "answers": [["20日"]], "evidence": [right]},
        {**case, "answers": [["30日"]], "evidence": [{**right, "quote": "休暇は40日"}]},
        {**case, "id": "a-2", "answers": [["20日"]], "evidence": [{**right, "document": "総務/無い.md"}]},
    ]
    (tmp_path / "questions").mkdir()
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "questions" / "a.jsonl").write_text(text, encoding="utf-8")
    files, faults = script.build(tmp_path)
    found = "\n".join(faults)
    assert json.dumps({"headings": ["第1条"]}, ensure_ascii=False) in files["questions.jsonl"].decode()
    assert "a.jsonl a-1: id stands twice" in found
    assert "a.jsonl a-1: wording not in a quote: 30日" in found
    assert "a.jsonl a-1: quote not found in" in found
    assert "a.jsonl a-2: no such document" in found
    assert "questions.jsonl: 3 questions instead of 200" in found


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
