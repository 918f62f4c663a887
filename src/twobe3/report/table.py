"""A table for print: cells as they are for CSV, and as a reader wants them for LaTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, Literal

from twobe3.io.csv import to_csv
from twobe3.report.wording import interval, number, p_value

LEVEL = "95 %"
LONGEST_NAME = 40


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, as far as they can be estimated."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        """The figure, the interval in brackets."""
        if self.value is None or self.low is None or self.high is None:
            return number(self.value)
        return f"{number(self.value)} ({interval(self.low, self.high)})"


@dataclass(frozen=True)
class PValue:
    """A p-value of one comparison, and the same adjusted for all of them (Holm)."""

    p: float | None
    p_holm: float | None

    def text(self) -> str:
        """The adjusted one in brackets."""
        return p_value(None) if self.p is None else f"{p_value(self.p)} ({p_value(self.p_holm)})"


Cell = str | int | float | Estimate | PValue | None


@dataclass(frozen=True)
class Column:
    """A column: its heading, what its cells are, and how they read in print.

    ``"sentence"`` is text that may need several lines; an ``"estimate"`` is three columns in a CSV file, a ``"p"`` two.
    ``short`` is the heading in print where the other one is too long.
    """

    heading: str
    kind: Literal["text", "sentence", "number", "estimate", "p"] = "text"
    show: Callable[[Any], str] = str
    short: str = ""

    @property
    def printed(self) -> str:
        """The heading in print."""
        return self.short or (f"{self.heading} (Holm)" if self.kind == "p" else self.heading)

    @property
    def names(self) -> tuple[str, ...]:
        """The headings in a CSV file."""
        further = {"estimate": (f"{LEVEL} low", f"{LEVEL} high"), "p": ("Holm",)}.get(self.kind, ())
        return (self.heading, *(f"{self.heading}, {name}" for name in further))

    def text(self, cell: Cell) -> str:
        """The cell in print."""
        return cell.text() if isinstance(cell, Estimate | PValue) else self.show(cell)


@dataclass(frozen=True)
class Table:
    """A table with its caption; ``name`` is that of its files."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def csv(self) -> bytes:
        """Comma-separated, with all digits; what cannot be estimated is empty, an interval has columns of its own."""
        head = [name for column in self.columns for name in column.names]
        return to_csv([head, *([value for cell in row for value in _values(cell)] for row in self.rows)])


def file_name(text: str) -> str:
    """Small Latin letters and digits, joined by hyphens: what any file system and LaTeX's labels take."""
    plain = text.replace("–", "-").replace("@", "-at-").lower()
    latin = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", latin)[:LONGEST_NAME].strip("-")


def _values(cell: Cell) -> tuple[str | int | float | None, ...]:
    """The cells of a CSV file."""
    return astuple(cell) if isinstance(cell, Estimate | PValue) else (cell,)
