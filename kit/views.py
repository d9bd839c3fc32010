"""Pure HTML pieces for Jupyter: escaped tables, lines, links and marks, no state, no third party."""

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "padding:2px 10px;text-align:left;vertical-align:top;border-bottom:1px solid #ddd"

_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


class Html(str):
    """Text that is HTML already. Only the functions of this module make it, from escaped text; nothing read is ever one."""

    __slots__ = ()


def html(*pieces: str) -> Html:
    """Put pieces one after the other; what is not ``Html`` is escaped."""
    return Html("".join(piece if isinstance(piece, Html) else escape(piece) for piece in pieces))


def link(text: str, target: str, *, download: bool = False) -> Html:
    """Draw a link.

    Args:
        text: What is shown.
        target: A relative path, percent-encoded; "" leaves the text without a link.
        download: Let the browser keep the file instead of showing it.
    """
    kept = " download" if download else ""
    return Html(f'<a href="{escape(target)}"{kept}>{escape(text)}</a>') if target else html(text)


def marked(text: str, spans: Iterable[tuple[int, int]]) -> Html:
    """Mark stretches of a text.

    Args:
        text: Any text.
        spans: Begin and end (exclusive) of each stretch, in order, none over another.
    """
    pieces, at = [], 0
    for begin, end in spans:
        pieces += [escape(text[at:begin]), f"<mark>{escape(text[begin:end])}</mark>"]
        at = end
    return Html("".join(pieces) + escape(text[at:]))


def stack(lengths: Sequence[float], width: int = 130) -> Html:
    """Draw lengths (shares of ``width`` pixels, 0–1) side by side as one bar; ``key`` tells which is which."""
    parts = (
        f'<span style="display:inline-block;height:10px;width:{width * length:.0f}px;background:{color};border-right:1px solid #fff"></span>'
        for length, color in zip(lengths, _COLORS, strict=False)
    )
    return Html(f'<span style="white-space:nowrap">{"".join(parts)}</span>')


def key(*names: str) -> Html:
    """Draw the legend of ``stack``."""
    named = (f'<span style="color:{color}">■</span> {escape(name)}　' for name, color in zip(names, _COLORS, strict=False))
    return Html("".join(named))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """Draw an escaped HTML table.

    Args:
        header: Column titles.
        rows: One sequence per row; every value is shown by ``str`` and escaped, unless it is ``Html``.
        caption: Optional line above the table.

    Returns:
        HTML text that loads nothing from outside.
    """
    head = "".join(f'<th style="{_CELL};white-space:nowrap">{escape(h)}</th>' for h in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}{_whole(value)}">{html(value if isinstance(value, Html) else str(value))}</td>' for value in row) + "</tr>" for row in rows
    )
    title = f"<p><b>{escape(caption)}</b></p>" if caption else ""
    return f'{title}<table style="border-collapse:collapse"><tr>{head}</tr>{body}</table>'


def paragraphs(*lines: str) -> str:
    """Draw lines as HTML paragraphs; escaped, unless they are ``Html``."""
    return "".join(f'<p style="margin:2px 0;white-space:pre-wrap">{html(line)}</p>' for line in lines)


def frame(page: str, title: str, height: int = 1000) -> Html:
    """Draw a whole HTML page in a frame of its own: its styles stay inside, and no script of it runs."""
    style = f"width:100%;height:{height}px;zoom:0.8;border:1px solid #ddd"  # made for a wider window than a cell has
    return Html(f'<div><iframe sandbox title="{escape(title)}" style="{style}" srcdoc="{escape(page)}"></iframe></div>')


def _whole(value: object) -> str:
    """Style of a cell so short that a line break would only tear it."""
    return ";white-space:nowrap" if len(str(value)) <= 8 else ""
