"""The hook for Tesseract, with a program of that name which says what it was given."""

import pytest

from kit.knowledge import ocr
from kit.knowledge.worker import Worker, parse
from tests.test_pdf import column, made

PROGRAM = """#!/bin/sh
if [ "$1" = --list-langs ]; then echo "List of available languages"; echo {language}; exit; fi
head -c 12 >&2; cat >/dev/null
printf '出 張 の 旅 費 は 3 千 円\\nABC DEF\\n'
"""


@pytest.fixture(params=["jpn"])
def tesseract(tmp_path, monkeypatch, request):
    program = tmp_path / "tesseract"
    program.write_text(PROGRAM.format(language=request.param))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    ocr.is_available.cache_clear()
    yield
    ocr.is_available.cache_clear()


@pytest.mark.usefixtures("tesseract")
def test_a_page_of_pictures_is_read_and_said_even_in_the_closed_worker():
    data = made(column("本文である。"), [], column("三頁目である。"))
    with Worker() as reader:
        reading = reader.read("a.pdf", data)
    assert [(block.text, block.place.page) for block in reading.blocks] == [
        ("本文である。", 1), ("出張の旅費は 3 千円", 2), ("ABC DEF", 2), ("三頁目である。", 3),
    ]  # fmt: skip
    assert reading.doubts == ("OCRで読んだ頁（誤読に注意）: 1頁分、最初は2頁。",)
    assert len(parse("a.pdf", made([], [])).blocks) == 4


@pytest.mark.usefixtures("tesseract")
@pytest.mark.parametrize("tesseract", ["eng"], indirect=True)
def test_without_japanese_data_the_verdict_stays():
    assert not ocr.is_available()
    assert "文字情報なし: OCRが必要" in parse("a.pdf", made([])).problem
