"""What a notebook shows of an object: plain tables and pictures, every text escaped, without any style of their own."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

PIXELS_PER_MM = 0.3


def html_table(rows: Iterable[Sequence[str]], *, head: Sequence[str] = (), caption: str = "") -> str:
    """A table; the first cell of a row is its heading where the table has none."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    header = f"<thead><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr></thead>" if head else ""
    first = "td" if head else "th"
    lines = "".join(
        f"<tr>{''.join(_cell(text, 'td' if i else first) for i, text in enumerate(row))}</tr>" for row in rows
    )
    return f"<table>{title}{header}<tbody>{lines}</tbody></table>"


def html_picture(png: bytes, width_mm: float, height_mm: float, text: str) -> str:
    """A picture in its true proportions, with a text for those who do not see it."""
    return html_image(png, text, f'width="{width_mm * PIXELS_PER_MM:.0f}" height="{height_mm * PIXELS_PER_MM:.0f}"')


def html_image(png: bytes, text: str, size: str = 'style="max-width: 100%"') -> str:
    """A picture as it is, no wider than the page, with a text for those who do not see it."""
    said = escape(text, quote=True)
    return f'<img src="data:image/png;base64,{b64encode(png).decode("ascii")}" {size} alt="{said}" title="{said}">'


def _cell(text: str, tag: str) -> str:
    return f"<{tag}>{escape(text)}</{tag}>"
