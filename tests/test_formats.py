"""All formats say the same, and none says what the summary does not; each stands alone and can be read."""

import math
import re

import pytest

from kit.reporting import charts, wording
from kit.reporting.export import FORMATS, draw_summary, write_summary
from tests.formats import charts_of, contrast, drawn, figures, labels, parts_of, read, squeezed, texts_of
from tests.test_summary import PRICES, VARIANTS

CHOSEN = (("GO", "ja"), ("NO-GO", "en"), ("EXTEND", "ja"), ("EXTEND", "en"), ("one arm", "ja"), ("void", "en"))
SCHEMES = re.compile(rb"(?:https?|ftp|file|mailto):[^\s\"'<>()\\]+")
OWN = re.compile(rb"https?://(?:schemas\.(?:openxmlformats|microsoft)\.(?:org|com)|www\.w3\.org|purl\.org|ns\.adobe\.com|dublincore\.org|www\.aiim\.org/pdfua/ns)/")
"""Names of the formats themselves: nobody follows them."""


@pytest.fixture(scope="module", params=CHOSEN, ids="-".join)
def written(request, tmp_path_factory):
    """A summary and its files, each with what people read in it and the figures of its charts."""
    name, lang = request.param
    made = VARIANTS[name]()
    files = write_summary(made, to=tmp_path_factory.mktemp("formats"), lang=lang, prices=PRICES)
    return draw_summary(made, lang=lang, prices=PRICES), {path: read(path) for path in files}


def test_every_format_says_all_of_the_summary_and_nothing_else(written):
    summary, files = written
    assert [path.suffix[1:] for path in files] == [*FORMATS]
    said = [text for text in texts_of(summary) if figures(text)]
    alts = " ".join([*(chart.alt for chart in charts_of(summary)), *labels(summary)])
    known = figures(" ".join(said)) | figures(alts) | figures(str(wording.words(summary.lang))) | {str(i) for i in range(1, 13)}  # pages, lists
    assert len(figures(" ".join(said))) > 40
    for path, (shown, _) in files.items():
        whole = squeezed(shown)
        assert [text for text in said if squeezed(text) not in whole] == [], path.name
        assert figures(shown) - known == set(), path.name


def test_charts_that_can_be_edited_hold_the_figures_of_the_plots(written):
    summary, files = written
    plots = [chart.plot for chart in charts_of(summary) if chart.plot]
    plotted = {value for plot in plots for _, values in plot.series for value in values if value is not None}
    for path, (_, charted) in files.items():
        assert beyond(charted, drawn(summary)) == [], path.name
        if path.suffix == ".xlsx":
            assert beyond(plotted, charted) == []


def beyond(found, allowed):
    """Return the figures of one set that are not in another one, but for what 15 digits round away."""
    return [value for value in found if not any(math.isclose(value, other, rel_tol=1e-12, abs_tol=1e-9) for other in allowed)]


def test_each_file_stands_alone(written):
    for path, (shown, _) in written[1].items():
        assert path.stat().st_size <= 5_000_000
        assert not set("〓□\ufffd") & set(shown), path.name  # no letter is missing
        for name, content in parts_of(path):
            assert [url for url in SCHEMES.findall(content) if not OWN.match(url)] == [], (path.name, name)
            assert b'TargetMode="External"' not in content, (path.name, name)


def test_decks_and_papers_are_short(written):
    for path in written[1]:
        if path.suffix == ".pdf":
            import pypdfium2

            with pypdfium2.PdfDocument(path) as document:
                assert len(document) <= 8
        if path.suffix == ".pptx":
            assert sum(re.fullmatch(r"ppt/slides/slide\d+\.xml", name) is not None for name, _ in parts_of(path)) <= 8


def test_colours_can_be_told_from_their_ground(tmp_path):
    import openpyxl

    html, book = write_summary(VARIANTS["GO"](), to=tmp_path, formats=("html", "xlsx"), prices=PRICES)
    style = re.search(r"<style>(.*?)</style>", html.read_text(encoding="utf-8"), re.S)[1]
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", style.partition("}")[0]))
    tones = re.findall(r"--tone: (#[0-9a-f]{6})", style)
    assert len(tones) == 4
    assert [tone for tone in tones if contrast(tone, "#ffffff") < 4.5] == []
    assert min(contrast(named[ink], named.get(ground, "#ffffff")) for ink in ("ink", "soft") for ground in ("", "wash")) >= 4.5
    for sheet in openpyxl.load_workbook(book).worksheets:
        for cell in (cell for row in sheet.iter_rows() for cell in row if cell.value):
            ground = cell.fill.fgColor.rgb[2:] if cell.fill.fill_type else "FFFFFF"
            ink = cell.font.color.rgb if cell.font.color else "FF000000"
            assert not isinstance(ink, str) or contrast(f"#{ink[2:]}", f"#{ground}") >= 4.5, (sheet.title, cell.coordinate)
    assert [color for color in (charts.BLUE, charts.ORANGE, charts.INK) if contrast(color, "#ffffff") < 3] == []
