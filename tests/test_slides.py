import io
import re
import subprocess
import zipfile

import openpyxl
import pptx
import pytest
from pptx.util import Pt

from kit.reporting.slides import MOST, deck
from kit.reporting.summary import summarise
from kit.reporting.typesetting import LEADING, clipped, column_widths, height, wrapped
from tests.formats import squeezed, texts_of
from tests.test_summary import PRICES, VARIANTS

SHOWN = (("GO", "ja"), ("NO-GO", "en"), ("EXTEND", "ja"), ("one arm", "ja"), ("void", "ja"), ("hostile", "ja"))


@pytest.fixture(scope="module", params=SHOWN, ids="-".join)
def made(request):
    """A summary, its file, and the deck that the file holds."""
    name, lang = request.param
    summary = summarise(VARIANTS[name](), PRICES, lang)
    file = deck(summary)
    return summary, file, pptx.Presentation(io.BytesIO(file))


def charts(show):
    return [shape.chart for slide in show.slides for shape in slide.shapes if shape.has_chart]


def overflowing(slide):
    """What does not fit: boxes and rows lower than their lines, and shapes that leave the slide."""
    found = []
    for shape in slide.shapes:
        if shape.left < 0 or shape.top < 0 or shape.left + shape.width > Pt(960) + 9 or shape.top + shape.height > Pt(519):
            found.append((shape.name, "leaves the slide"))
        if shape.has_text_frame:
            indent = max(int(p._p.pPr.get("marL", 0)) for p in shape.text_frame.paragraphs) / 12700
            texts = [(p.text.replace("\v", "\n"), p.runs[0].font.size.pt) for p in shape.text_frame.paragraphs]
            if height(texts, shape.width.pt - indent) > shape.height.pt + 0.5:
                found.append((shape.name, texts))
        for row in shape.table.rows if shape.has_table else ():
            for cell, column in zip(row.cells, shape.table.columns, strict=True):
                size = cell.text_frame.paragraphs[0].runs[0].font.size.pt
                lines = len(wrapped(cell.text.replace("\v", "\n"), size, column.width.pt - 10 + 0.1))
                if lines * size * LEADING + 3 > row.height.pt + 0.5 or size < 10:
                    found.append((shape.name, cell.text))
    return found


def test_a_slide_for_each_chapter_with_its_title_and_notes(made):
    summary, _, show = made
    assert (show.slide_width, show.slide_height) == (Pt(960), Pt(540))
    assert len(show.slides) <= MOST
    titles = [slide.shapes.title.text for slide in show.slides]
    assert all(titles)
    assert [slide for slide in show.slides if not slide.notes_slide.notes_text_frame.text] == []
    assert [len(slide.placeholders) for slide in show.slides] == [1] * len(titles)
    assert [holder.width for holder in show.slide_layouts[0].placeholders] == [Pt(888)]
    assert summary.sections[-1].title in titles[-1]


def test_no_text_overflows(made):
    assert [found for slide in made[2].slides for found in overflowing(slide)] == []


def test_all_that_the_summary_says_stands_in_the_deck(made):
    summary, _, show = made
    shown = []
    for slide in show.slides:
        shown += [shape.text_frame.text for shape in slide.shapes if shape.has_text_frame]
        shown.append(slide.notes_slide.notes_text_frame.text)
    whole = squeezed("".join(shown))
    assert [text for text in texts_of(summary) if squeezed(text) not in whole] == []


def test_the_first_slide_says_what_was_decided_what_it_costs_and_what_happens_next():
    summary = summarise(VARIANTS["GO"](), PRICES)
    slide = pptx.Presentation(io.BytesIO(deck(summary))).slides[0]
    shown = [shape.text_frame.text for shape in slide.shapes if shape.has_text_frame]
    cells = [cell.text for shape in slide.shapes if shape.has_table for row in shape.table.rows for cell in row.cells]
    assert {"GO\n○ 導入を進める", "\n".join(summary.steps)} <= {*shown}
    assert [text for text in shown if text.startswith(summary.reason)]
    assert {summary.kpis[0].label, summary.kpis[0].interval, summary.money[0].value, summary.money[-1].value} <= {*cells}


def test_charts_can_be_edited_and_tables_are_tables():
    summary = summarise(VARIANTS["GO"](), PRICES)
    show = pptx.Presentation(io.BytesIO(deck(summary)))
    drawn = charts(show)
    plot = summary.chart.plot
    book = openpyxl.load_workbook(io.BytesIO(drawn[0].part.chart_workbook.xlsx_part.blob))
    held = [list(column) for column in book.active.iter_cols(min_col=2, min_row=2, values_only=True)]
    assert held == [list(values) for _, values in plot.series]
    assert drawn[0].part._element.findall(".//{*}errBars")
    columns = [part for chart in drawn for part in chart.part._element.findall(".//{*}barChart//{*}ser") + chart.part._element.findall(".//{*}dPt")]
    assert columns and [part for part in columns if part.find("{*}invertIfNegative").get("val") != "0"] == []  # else white below zero
    assert len(drawn) == 1 + sum(getattr(block, "plot", None) is not None for s in summary.sections for block in s.blocks)
    assert all(shape._element.nvGraphicFramePr.cNvPr.get("descr") for slide in show.slides for shape in slide.shapes if shape.has_chart or shape.has_table)


def test_the_deck_is_its_own_world_and_the_same_again(made):
    summary, file, _ = made
    assert deck(summary) == file
    with zipfile.ZipFile(io.BytesIO(file)) as parts:
        for name in parts.namelist():
            assert b'TargetMode="External"' not in parts.read(name), name
        assert re.search(rb"created|modified|Canny", parts.read("docProps/core.xml")) is None
        assert b"<AppVersion>12.0000<" in parts.read("docProps/app.xml")  # else LibreOffice rounds lines and adds to labels
        runs = re.findall(rb"<a:rPr[^>]*>.*?</a:rPr>", b"".join(parts.read(n) for n in parts.namelist() if re.match(r"ppt/slides/s", n)))
    assert runs
    assert [run for run in runs if b"<a:latin" not in run or b"<a:ea" not in run or b"lang=" not in run] == []


def test_lines_break_where_japanese_and_latin_may():
    assert wrapped("あいうえお。かき", 10, 51) == ["あいうえ", "お。かき"]  # no line begins with a full stop
    assert wrapped("the cat", 10, 25) == ["the ", "cat"]
    assert "".join(wrapped("f" * 64, 10, 100)) == "f" * 64
    assert height([("あい\nう", 12)], 100) == pytest.approx((2 * LEADING + 1 / 3) * 12)
    assert clipped("あいうえおかきくけこ", 10, 31, 2) == "あいうえ…"
    cut = [clipped("費用は年に31,000円、差は−1.5万円", 10, width, 1) for width in range(30, 200)]
    assert [text for text in cut if re.search(r"[\d.,−]…", text)] == []  # half a number would be a wrong one
    assert sum(column_widths([["短い", "長い" * 40]], 10, 300, 10)) == pytest.approx(300)
    assert column_widths([["短い", "長い" * 40]], 10, 300, 10)[0] >= 30


@pytest.mark.browser
def test_libreoffice_shows_every_slide(made, soffice, tmp_path):
    import pypdfium2

    _, file, show = made
    (tmp_path / "deck.pptx").write_bytes(file)
    command = [soffice, f"-env:UserInstallation=file://{tmp_path}/profile", "--headless", "--convert-to", "pdf", "--outdir", str(tmp_path)]
    subprocess.run([*command, str(tmp_path / "deck.pptx")], check=True, capture_output=True, timeout=120)
    with pypdfium2.PdfDocument(tmp_path / "deck.pdf") as document:
        assert len(document) == len(show.slides)
