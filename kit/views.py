"""Pure HTML pieces for Jupyter: escaped tables and marked lines, no state, no third party."""

from collections.abc import Sequence
from html import escape

_CELL = "padding:2px 10px;text-align:left;vertical-align:top;border-bottom:1px solid #ddd"


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """Draw an escaped HTML table.

    Args:
        header: Column titles.
        rows: One sequence per row; every value is shown by ``str`` and escaped.
        caption: Optional line above the table.

    Returns:
        HTML text that loads nothing from outside.
    """
    head = "".join(f'<th style="{_CELL};white-space:nowrap">{escape(h)}</th>' for h in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}{_whole(value)}">{escape(str(value))}</td>' for value in row) + "</tr>" for row in rows
    )
    title = f"<p><b>{escape(caption)}</b></p>" if caption else ""
    return f'{title}<table style="border-collapse:collapse"><tr>{head}</tr>{body}</table>'


def paragraphs(*lines: str) -> str:
    """Draw escaped lines as HTML paragraphs."""
    return "".join(f'<p style="margin:2px 0;white-space:pre-wrap">{escape(line)}</p>' for line in lines)


def _whole(value: object) -> str:
    """Style of a cell so short that a line break would only tear it."""
    return ";white-space:nowrap" if len(str(value)) <= 8 else ""
