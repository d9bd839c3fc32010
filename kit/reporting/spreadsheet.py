"""The summary as a workbook (XLSX): a sheet a section, charts that can be edited, and every question of the run."""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime
from io import BytesIO
from itertools import chain, count, zip_longest
from typing import Any

from kit.records import Decision
from kit.reporting import wording
from kit.reporting.blocks import Block, Chart, Listing, Section, Table, Text, graded
from kit.reporting.charts import INK, PALE, SOFT, TONES
from kit.reporting.native_charts import FONT, HEIGHT, Figures, cell
from kit.reporting.samples import Sample, samples
from kit.reporting.summary import Summary, kpi_table, money_table
from kit.reporting.wording import plain

_RULE = "#8C96A0"
_PAGE, _LEAST = 150, 9
"""Widths in half-width letters: of all columns of a sheet together, and of the narrowest."""
_SIZES, _LINE, _LOOSE = {"title": 18, "lead": 13, "heading": 12, "soft": 10}, 1.65, 1.08
"""Sizes of letters other than 11 pt; height of a line in sizes; how much wider than that letters may turn out."""
_HIGHEST = 409
"""Points that a row may have."""
_ALIGN = {"l": "left", "r": "right", "c": "center"}
_MANY = 20_000
"""Samples from which on rows go straight to disk instead of memory; charts then have no figures in reserve."""
_WIDTHS = {"case": 12, "question": 38, "arm": 14, "state": 13, "right": 7, "gold": 18, "shown": 50, "cited": 27, "cause": 19}
_NUMBERS = {"seconds": "0.000", "yen": "0.0000", "prompt": "#,##0", "completion": "#,##0"}


def workbook(summary: Summary, decision: Decision) -> bytes:
    """Return the workbook; the same values and records give the same bytes.

    The sheets of the summary show its texts as they were written out, nothing is computed. A cell is never a formula or a
    link, whatever it begins with.

    Args:
        summary: What the first sheets show.
        decision: Whose questions the sheet 全質問 lists (see ``samples``).
    """
    import xlsxwriter

    stream, words = BytesIO(), wording.words(summary.lang)
    number = sum(sum(states.values()) for states in decision.states.values())
    harmless = dict.fromkeys(("strings_to_formulas", "strings_to_urls", "strings_to_numbers"), False)
    book = xlsxwriter.Workbook(stream, {**harmless, "constant_memory": number > _MANY})
    made = datetime.fromisoformat(decision.facts["finished"])
    book.set_properties({"title": summary.title, "subject": words["page"], "created": made})
    book.set_custom_property("Language", summary.lang)
    pages = _Pages(book, words, TONES[summary.outcome])
    for section in (_first(summary, words), *summary.sections):
        pages.section(section)
    pages.all_questions(samples(decision, summary.lang), number, decision.folder.name)
    pages.close()
    return stream.getvalue()


def _first(s: Summary, words: dict[str, Any]) -> Section:
    """Lay out the first page."""
    arms = (*(f"{name}: {label}" for name, label in s.arms), s.failures)
    texts = (s.evidence, s.comparison, s.title, s.hypothesis, "　".join(filter(None, (s.scope, *s.headline))))
    blocks: list[Block | None] = [
        *map(Text, texts),
        kpi_table(s),
        Listing(tuple(map(Text, arms))),
        s.chart,
        Text(s.footnote),
        money_table(s, s.assumption + words["grades"]) if s.money else None,
        Listing(tuple(map(Text, s.steps)), words["next"], numbered=True),
        Listing(tuple(map(Text, s.notes)), words["notes"]) if s.notes else None,
    ]
    return Section("", words["book_decision"], (Text(s.reason), *(block for block in blocks if block)), f"{s.outcome}　{s.mark} {words[s.outcome]}")


class _Pages:
    """The sheets of a workbook."""

    def __init__(self, book: Any, words: dict[str, Any], tone: str) -> None:
        self._book, self._words, self._names = book, words, {words["book_figures"].lower(), ""}
        self._figures = Figures(book, words["book_figures"])
        base = {"font_name": FONT, "font_color": INK, "valign": "top", "text_wrap": True, "quote_prefix": True}
        looks: dict[str, dict[str, object]] = {
            "title": {"bold": True, "font_color": tone}, "lead": {"bold": True}, "heading": {"bold": True}, "soft": {"font_color": SOFT},
            "text": {}, "wrong": {"bold": True, "font_color": TONES["NO-GO"]}, "note": {"text_wrap": False},
            **{letter: {"bottom": 4, "bottom_color": _RULE, "align": align, "indent": int(letter != "c")} for letter, align in _ALIGN.items()},
            **{f"header {letter}": {"bold": True, "bg_color": PALE, "bottom": 1, "align": align, "indent": int(letter != "c")} for letter, align in _ALIGN.items()},
            **{name: {"num_format": form, "quote_prefix": False} for name, form in {**_NUMBERS, "score": "General"}.items()},
        }  # fmt: skip
        self._looks = {name: book.add_format({**base, "font_size": _SIZES.get(name, 11), **look}) for name, look in looks.items()}

    def _sheet(self, title: str) -> Any:
        """Add a sheet under a name that a spreadsheet takes, for A4 landscape, one page wide."""
        stem = re.sub(r"[\[\]:*?/\\']", " ", plain(title)).strip()[:28]
        names = (f"{stem} {i}" if i else stem for i in count())
        name = next(name for name in names if name.lower() not in self._names)
        self._names.add(name.lower())
        sheet = self._book.add_worksheet(name)
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        sheet.set_margins(0.5, 0.5, 0.6, 0.6)
        sheet.set_footer(f"&R&9{self._words['book_page']}")
        sheet.hide_gridlines(2)
        return sheet

    def section(self, section: Section) -> None:
        """Write a section: what to remember of it, then its blocks."""
        sheet, is_first = self._sheet(section.title), not section.key
        whole = is_first or any(isinstance(block, Chart) and block.plot for block in section.blocks)
        sheet.fit_to_pages(1, int(whole))  # no chart is torn apart in print; 0: as many pages as it takes
        page = _Page(sheet, self._looks, section.blocks)
        page.line(section.lead if is_first else section.title, "title")
        page.line("" if is_first else section.lead, "lead")
        for index, block in enumerate(graded(section.blocks, self._words)):
            if isinstance(block, Text):
                page.line(block.text, "lead" if is_first and not index else "text")
                continue
            page.line(block.title, "heading", gap=True)
            if isinstance(block, Table):
                page.table(block)
            elif isinstance(block, Listing):
                for place, item in enumerate(block.items, 1):
                    page.line(f"{f'{place}.' if block.numbered else '・'} {item.text}", "text")
            else:
                page.chart(block, self._figures)

    def all_questions(self, found: Iterator[Sample], number: int, run: str) -> None:
        """Write the sheet of all questions, the texts in print, the scores beside it; none where nothing is known of them."""
        head = next(found, None)
        if not head:
            return
        keys = {self._words[f"book_{key}"]: key for key in (*_WIDTHS, *_NUMBERS)}
        sheet, told = self._sheet(self._words["book_answers"]), "book_whole" if self._words["book_question"] in head else "book_scores"
        sheet.set_default_row(38)
        sheet.set_row(0, 20)
        sheet.write_string(0, 0, self._words[told].format(count=number, run=run), self._looks["note"])
        sheet.set_row(1, 56)
        looks = []
        for column, heading in enumerate(head):
            sheet.set_column(column, column, _WIDTHS.get(keys.get(heading, ""), 12))
            sheet.write_string(1, column, heading, self._looks["header l"])
            looks.append(self._looks.get(keys.get(heading, ""), self._looks["score"]))
        for row, sample in enumerate(chain([head], found), 2):
            for column, value in enumerate(sample.values()):
                if value and isinstance(value, str):
                    sheet.write_string(row, column, cell(value), self._looks["wrong" if value == "×" else "text"])
                elif isinstance(value, int | float):
                    sheet.write_number(row, column, value, looks[column])
        sheet.autofilter(1, 0, number + 1, len(head) - 1)
        sheet.freeze_panes(2, 1)
        sheet.repeat_rows(1)
        sheet.print_area(0, 0, number + 1, sum(keys.get(heading) in _WIDTHS for heading in head) - 1)

    def close(self) -> None:
        """Write what the charts draw, and the file."""
        if self._figures:
            self._names.remove(self._words["book_figures"].lower())
            self._figures.write(self._sheet(self._words["book_figures"]))
        self._book.close()


class _Page:
    """A sheet that is written from top to bottom, its columns as wide as its tables want them."""

    def __init__(self, sheet: Any, looks: dict[str, Any], blocks: Sequence[Block]) -> None:
        rows = [row for block in blocks if isinstance(block, Table) for row in (block.header, *block.rows)]
        wanted = [2 + math.ceil(_LOOSE * max(map(_width, cells))) for cells in zip_longest(*rows, fillvalue="")] or [0]
        cap = next(cap for cap in range(_PAGE, 0, -1) if sum(min(width, cap) for width in wanted) <= _PAGE)
        self._widths = [max(_LEAST, min(width, cap)) for width in wanted]
        self._widths += [rest] if (rest := _PAGE - sum(self._widths)) > 0 else []
        for column, width in enumerate(self._widths):
            sheet.set_column(column, column, width)
        self._sheet, self._looks, self._row = sheet, looks, 0

    def line(self, text: str, look: str, *, gap: bool = False) -> None:
        """Write a paragraph across all columns, after an empty row where there is a gap; nothing where there is no text."""
        self._row += gap
        if text:
            self._take([(text, sum(self._widths))], _SIZES.get(look, 11))
            if len(self._widths) > 1:
                self._sheet.merge_range(self._row, 0, self._row, len(self._widths) - 1, "", self._looks[look])
            self._sheet.write_string(self._row, 0, cell(text), self._looks[look])
            self._row += 1

    def table(self, table: Table) -> None:
        """Write a table."""
        for index, row in enumerate((table.header, *table.rows)):
            self._take(list(zip(row, self._widths, strict=False)), 11)
            for column, (text, letter) in enumerate(zip(row, table.align, strict=True)):
                self._sheet.write_string(self._row, column, cell(text), self._looks[letter if index else f"header {letter}"])
            self._row += 1
        self.line(table.note, "soft")

    def chart(self, chart: Chart, figures: Figures) -> None:
        """Put in a chart that can be edited; in place of one without figures stands what it says."""
        if not chart.plot:
            return self.line(chart.alt, "soft")
        self._sheet.insert_chart(self._row, 0, figures.chart(chart.plot, chart.title or chart.alt), {"description": chart.alt, "object_position": 2})
        self._row += HEIGHT // 20 + 1
        return None

    def _take(self, texts: Sequence[tuple[str, float]], size: float) -> None:
        """Make the row as high as the highest of some texts in cells of so many letters; programs do it for few files."""
        lines = (sum(math.ceil(_width(line) * _LOOSE * size / 11 / room) or 1 for line in text.split("\n")) for text, room in texts)
        self._sheet.set_row(self._row, min(size * _LINE * max(lines), _HIGHEST))


def _width(text: str) -> int:
    """Return the width of a text's longest line in half-width letters."""
    return max(sum(1 + (unicodedata.east_asian_width(letter) in "WFA") for letter in line) for line in text.split("\n"))
