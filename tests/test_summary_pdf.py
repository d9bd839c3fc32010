"""The PDF of the summary: all texts, on few pages, inside the margins, the same bytes everywhere."""

import dataclasses
import functools
import hashlib
import os
import re
import subprocess
import sys

import pypdfium2
import pypdfium2.raw as raw
import pytest

from kit.reporting import charts, export
from kit.reporting.blocks import Chart, Listing, Section, Table, Text
from kit.reporting.summary import summarise
from tests.test_summary import PRICES, VARIANTS, decision

MARGIN = 15 / 25.4 * 72  # points
NAMES = [("GO", "ja"), ("NO-GO", "en"), ("EXTEND", "ja"), ("one arm", "ja"), ("void", "ja")]


@functools.cache
def drawn(name, lang="ja"):
    """Return the summary of a variant and its PDF."""
    summary = summarise(VARIANTS[name](), PRICES, lang)
    return summary, export._pdf(summary)


def folded(text):
    """Return a text without what a line break changes."""
    return re.sub(r"[\s\u200b\ufffe\x02]", "", text)


def text_of(pdf):
    """Return all letters of the pages, without those that stand at their head and foot."""
    with pypdfium2.PdfDocument(pdf) as document:
        pages = [page.get_textpage().get_text_bounded(top=page.get_height() - 40, bottom=45) for page in document]
        return folded("".join(pages)), len(pages)


def texts_of(value):
    """Return all texts that a format has to show."""
    if isinstance(value, Chart):
        return [value.title]
    if isinstance(value, Table):
        return [value.title, *value.header, *(cell for row in value.rows for cell in row), value.note]
    if isinstance(value, Listing):
        return [value.title, *(item.text for item in value.items)]
    if isinstance(value, Text):
        return [value.text]
    if isinstance(value, Section):
        return [value.title, value.lead, *(text for block in value.blocks for text in texts_of(block))]
    return [text for each in value for text in texts_of(each)] if isinstance(value, tuple) else [value]


def wanted(summary):
    """Return the texts of the first page and of the sections."""
    fields = {f.name: getattr(summary, f.name) for f in dataclasses.fields(summary)}
    kpis = [text for k in fields.pop("kpis") for text in (k.label, k.mark, k.word, k.value, k.interval, k.bar, k.n)]
    texts = [fields.pop("mark"), fields.pop("outcome"), *kpis]
    for left_out in ("lang", "chart", "scope"):
        del fields[left_out]
    return [text for text in [*texts, *(t for field in fields.values() for t in texts_of(field))] if text]


@pytest.mark.parametrize(("name", "lang"), NAMES)
def test_all_texts_stand_on_few_pages(name, lang):
    summary, pdf = drawn(name, lang)
    text, pages = text_of(pdf)
    texts = wanted(summary)
    assert len(texts) > 100
    assert [t for t in texts if folded(charts.drawable(t)) not in text] == []
    assert "〓" not in text
    assert pages <= 8 and len(pdf) < 5_000_000


@pytest.mark.parametrize(("name", "lang"), [("NO-GO", "en"), ("EXTEND", "ja"), ("hostile", "ja")])
def test_no_letter_stands_outside_the_margins_or_is_tiny(name, lang):
    with pypdfium2.PdfDocument(drawn(name, lang)[1]) as document:
        for page in document:
            text, (width, height) = page.get_textpage(), page.get_size()
            for place in range(text.count_chars()):
                left, bottom, right, top = text.get_charbox(place)
                inside = left > MARGIN - 2 and right < width - MARGIN + 5 and bottom > 19 and top < height - 19
                assert inside or right == left, text.get_text_range(place, 9)  # a blank has no box
                assert raw.FPDFText_GetFontSize(text, place) > 7.4 or raw.FPDFText_IsGenerated(text, place)


def test_the_decision_stands_on_the_first_page_and_the_ledger_on_the_last():
    summary, pdf = drawn("EXTEND")
    with pypdfium2.PdfDocument(pdf) as document:
        first, second, last = (folded(document[place].get_textpage().get_text_bounded()) for place in (0, 1, len(document) - 1))
        assert [text for text in (summary.reason, summary.steps[-1], summary.footnote, *summary.notes) if folded(text) not in first] == []
        assert folded(summary.sections[0].title) in second and f"2/{len(document)}" in second
        assert last.endswith("台帳の末尾" + "4f" * 32) and folded(summary.headline[0]) in last


def test_the_document_says_what_it_is():
    summary, pdf = drawn("GO")
    with pypdfium2.PdfDocument(pdf) as document:
        assert document.get_metadata_value("Title") == f"GO {summary.title}"
        assert [mark.get_title() for mark in document.get_toc() if mark.level == 0] == [summary.title, *(s.title for s in summary.sections)]
        assert raw.FPDFCatalog_IsTagged(document)
        assert document.get_metadata_value("CreationDate") == ""
    assert b"/Lang" in pdf and b"/URI" not in pdf
    fonts = {*re.findall(rb"/FontName ?/(\S+)", pdf)}
    assert fonts and all(re.match(rb"[A-Z]{6}\+", font) for font in fonts), "each a subset inside the file"
    assert len(re.findall(rb"/FontFile\d? ", pdf)) == len(re.findall(rb"/FontDescriptor ", pdf)) > 0


def test_the_same_decision_gives_the_same_bytes_elsewhere_and_later():
    summary, pdf = drawn("GO")
    assert export._pdf(summary) == pdf
    code = "import hashlib; from tests.test_summary_pdf import drawn; print(hashlib.sha256(drawn('GO')[1]).hexdigest())"
    environment = os.environ | {"TZ": "America/New_York", "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout
    assert found.strip() == hashlib.sha256(pdf).hexdigest()


def test_limits_of_the_input():
    made = summarise(decision(), PRICES)
    label = "答えのない質問で回答を控えた割合" * 4
    rows = tuple(("a" * 300, "値" * 30, f"{n}") for n in range(90))
    odd = dataclasses.replace(
        made, kpis=tuple(dataclasses.replace(made.kpis[0], label=f"{n}{label}"[:60]) for n in range(20)), chart=None, money=(), notes=(), title="",
        sections=(Section("cost", "表", (Table(("長い語", "文", "数"), rows, "llr"), Table(("見出し",), (), "l"), Listing((), "空"))),),
    )  # fmt: skip
    text, pages = text_of(export._pdf(odd))
    assert all(folded(k.label) in text for k in odd.kpis)
    assert text.count("長い語文数") >= pages - 3 > 2, "the header stands again on each page"
    assert text.count("a" * 300) == 90, "no row is torn and no letter of a long word is lost"
    assert "空" in text


def test_signs_that_the_first_font_lacks():
    assert charts.drawable("−〜㎡①㈱髙﨑 ≤≥™⚠✔") == "−〜㎡①㈱髙﨑 ≤≥™⚠✔"
    assert charts.drawable("葛\U000e0100城 ☎\ufe0f\u200b") == "葛城 ☎", "which variant of a letter is meant is not shown"
    assert charts.drawable("𠮷田\n👍") == "〓田 〓"
