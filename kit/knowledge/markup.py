"""Markdown and HTML: the text of a page without its navigation, tables as rows."""

import re
from typing import Any

from kit.knowledge.texts import CJK, NEWLINES, PLAIN, Covered, Line, Reading, decode, outlined, squeeze, table_rows

# \x03 stands for the end of a line that is shown; \n is one of the HTML source.
# A full-width space is written to be seen (第一条　この規則は), not to indent the source.
_SOURCE_BREAK = re.compile(rf"(?<=[{CJK}（）()])[ \t]*\n[ \t\n]*(?=[{CJK}（）()])")


def read_markdown(data: bytes, stem: str) -> Reading:
    """Read Markdown by way of HTML."""
    from markdown_it import MarkdownIt

    text, doubts = decode(data)
    text = re.sub(r"\A---\s*\n.*?\n---\s*\n", "", NEWLINES.sub("\n", text), flags=re.DOTALL)  # front matter
    # Only a long line was wrapped in mid-sentence; after a short one the author meant a new line.
    text = re.sub(r"(?m)^(.{1,29})$", r"\1  ", text)
    return _html(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text), doubts, stem)


def read_html(data: bytes, stem: str) -> Reading:
    """Read HTML; its charset is judged by the text, for what the file declares is often wrong."""
    return _html(*decode(data), stem)


def _html(text: str, doubts: tuple[str, ...], stem: str) -> Reading:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(re.sub(r"^\s*<\?xml[^>]*\?>|[\x01-\x03]", "", NEWLINES.sub("\n", text)), "lxml")
    title = soup.title.get_text() if soup.title else ""
    for tag in soup(_is_unseen):
        tag.decompose()
    if left_out := _without_navigation(soup):
        doubts += (f"ナビゲーションとみて本文から除きました: {left_out}。",)
    lines = (_html_line(line.strip()) for line in _laid_out(soup).split("\n"))
    return outlined(lines, stem, ("", title), doubts)


def _html_line(line: str) -> Line:
    if line.startswith("\x02"):
        return squeeze(line[2:]), int(line[1])
    return squeeze(line), PLAIN if line.startswith("\x01") else 0


def _laid_out(soup: Any) -> str:
    """Text with a line per block; the signs 1 and 2 mark lines that are never headings, and headings with their level."""
    for text in [text for tag in soup("pre") for text in tag.strings]:
        text.replace_with(text.replace("\n", "\x03"))
    for tag in soup(_BLOCK_TAGS):
        is_numbered = tag.name == "li" and tag.parent.name == "ol"
        number = f"{1 + len(tag.find_previous_siblings('li'))}. " if is_numbered else ""
        # A paragraph that opens a list item stands beside its number.
        opens = tag.name == "p" and tag.parent.name == "li" and not any(map(str.strip, map(str, [*tag.previous_siblings][:-1])))
        # Inside of the tag: beside it, bs4 would first look for it among its siblings.
        tag.insert(0, f"\x03\x02{tag.name[1]}" if re.fullmatch("h[1-6]", tag.name) else f"\x03{number}" * (not opens))
        tag.append("\x03")
    for table in soup("table"):
        # A table around tables is layout, not data; so is one of a single column.
        if not table("table") and any(len(row(["td", "th"])) > 1 for row in table("tr")):
            grid, head = _grid(table)
            caption = [squeeze(table.caption.get_text())] if table.caption else []
            rows = (f"\x01{line}" for _, line in table_rows(grid, head or None))
            table.string = "\x03".join(["", *caption, *rows, ""])
    return _mended(soup)


def _mended(node: Any) -> str:
    return _SOURCE_BREAK.sub("", node.get_text()).replace("\n", " ").replace("\x03", "\n")


def _is_unseen(tag: Any) -> bool:
    """Whether a tag is hidden, or holds the page's navigation and the like; the header of an article is text."""
    if tag.name in ("header", "footer"):
        return tag.find_parent(["article", "main", "section"]) is None
    is_hidden = tag.has_attr("hidden") or "display:none" in tag.get("style", "").replace(" ", "")
    return tag.name in _UNSEEN or is_hidden or tag.get("role") in ("navigation", "banner", "contentinfo", "search")


def _without_navigation(soup: Any) -> str:
    """Take out what its class or id calls navigation and is made of links or trails, and quote it; sentences stay.

    A page on which nothing but headings would be left is a list of links: its navigation is what it has to say.
    """
    found = [tag for tag in soup(_is_navigation) if not tag.find_parent(_is_navigation)]
    inside = {id(text) for tag in found for text in tag.strings}
    rest = (text for text in soup.strings if id(text) not in inside and not text.find_parent(re.compile("^h[1-6]$")))
    if not any(map(str.strip, rest)):
        return ""
    quotes = [squeeze(tag.extract().get_text(" ")) for tag in found]
    return "".join(f"「{quote[:20]}{'…' * (len(quote) > 20)}」" for quote in quotes[:5] if quote) + "など" * (len(quotes) > 5)


def _is_navigation(tag: Any) -> bool:
    """Whether a block bears a name of navigation, holds no sentence and is a trail, or at least half of it links."""
    named = " ".join([*tag.get("class", ()), tag.get("id", ""), tag.get("role", "")]).lower()
    words = set(re.split(r"[^a-z]+", "sidebar" * (tag.name == "aside") + " " + named))
    if tag.name in ("html", "body", "main", "article", "a") or not words & _NAVIGATION:
        return False
    text = squeeze(tag.get_text())
    linked = sum(len(squeeze(link.get_text())) for link in tag("a"))
    return "。" not in text and (bool(words & _TRAILS) or 0 < len(text) <= 2 * linked)


_TRAILS = {"breadcrumb", "breadcrumbs", "topicpath", "pankuzu", "pager", "pagination"}
_NAVIGATION = _TRAILS | {
    "nav", "navi", "gnav", "gnavi", "globalnav", "lnav", "localnav", "sidenav", "navbar", "navigation", "menu",
    "sidebar", "sidemenu", "footer", "complementary",
}  # fmt: skip
_UNSEEN = ("script", "style", "nav", "noscript", "template", "title", "svg", "rt", "rp")
_BLOCK_TAGS = re.compile(
    "^(?:br|p|div|li|[uod]l|d[td]|section|article|main|blockquote|pre|figure|figcaption|address|form|fieldset|details"
    "|summary|hr|center|body|h[1-6]|table|caption|tr|td|th)$"
)


def _grid(table: Any) -> tuple[list[list[str]], int]:
    """Cells of an HTML table, spans repeated, and the number of header rows that it declares."""
    rows = table("tr")
    grid: list[dict[int, str]] = [{} for _ in rows]
    for index, row in enumerate(rows):
        for cell in row(["td", "th"]):
            column = next(free for free in range(len(grid[index]) + 1) if free not in grid[index])
            spans = [str(cell.get(name, "1")) for name in ("rowspan", "colspan")]
            down, across = (min(int(span), 1000) if span.isdigit() and int(span) else 1 for span in spans)
            text = squeeze(_mended(cell))
            for line in grid[index : index + down]:
                line |= {column: text, **dict.fromkeys(range(column + 1, column + across), Covered(text))}
    head = next((i for i, row in enumerate(rows) if row("td") or not row("th")), len(rows))
    return [[row.get(column, "") for column in range(max(row, default=-1) + 1)] for row in grid], head
