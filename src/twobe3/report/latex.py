"""Tables as LaTeX, for booktabs: what pdfLaTeX, XeLaTeX and LuaLaTeX set alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from textwrap import wrap

from twobe3.report.table import Table

PACKAGES = "% \\usepackage{array, booktabs, longtable}"
TEXTS = ("text", "sentence")
LONGEST = 30  # rows of a table that stays on one page
LONGEST_HEADING = 16  # letters in a line
LONGEST_TEXT = 28  # letters of a column that does not go over several lines
LONGEST_SENTENCE = 120  # letters beyond which a column gets no wider
SMALLEST_SHARE = 0.25  # of the line, for all columns of several lines
LETTER, GAP = 0.0105, 0.031  # widths in footnotesize of a letter and between two columns, of the line

ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}", "*": "{*}", "`": "{`}",
    "\N{NO-BREAK SPACE}": "~", "\N{NARROW NO-BREAK SPACE}": r"\,", "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$", "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{DEGREE SIGN}": r"$^{\circ}$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$", "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$", "\N{MICRO SIGN}": r"$\mu$",
    "\N{MIDDLE DOT}": r"$\cdot$", "\N{SUPERSCRIPT TWO}": "$^{2}$", "\N{SUPERSCRIPT THREE}": "$^{3}$",
    "\N{VULGAR FRACTION ONE HALF}": r"$\frac{1}{2}$", "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{ALMOST EQUAL TO}": r"$\approx$", "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}", "\N{BULLET}": r"$\bullet$",
}  # fmt: skip
SMALL_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega"
)
GREAT_GREEK = "gamma delta theta lambda xi pi sigma phi psi omega"


def _greek(size: str, name: str) -> str:
    return unicodedata.lookup(f"GREEK {size} LETTER {name.upper().replace('LAMBDA', 'LAMDA')}")


ESCAPES |= {_greek("SMALL", name): rf"$\{name}$" for name in SMALL_GREEK.split()}
ESCAPES |= {_greek("CAPITAL", name): rf"$\{name.title()}$" for name in GREAT_GREEK.split()}
_TRANSLATION = str.maketrans(ESCAPES)


def escape_latex(text: str) -> str:
    r"""Text that LaTeX sets as it is: special characters escaped, line breaks as spaces, no control character.

    Hyphens are kept from joining into dashes, brackets and asterisks from being taken for the options of ``\\``.
    Letters outside Latin and Greek stay; pdfLaTeX has no fonts for them.
    """
    line = " ".join(text.splitlines())
    printable = "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf"))
    return re.sub("-(?=-)", "-{}", printable.translate(_TRANSLATION))


def render_latex(table: Table) -> str:
    """The table as LaTeX; long ones run over pages, wide ones are set in parts under one another."""
    parts = _parts(table)
    is_long = len(table.rows) * len(parts) > LONGEST or any(column.kind == "sentence" for column in table.columns)
    lines = [f"% {table.name}.tex, needs:", PACKAGES, *(_long(table, parts) if is_long else _floating(table, parts))]
    return "\n".join([*lines, ""])


def _parts(table: Table) -> list[list[int]]:
    """Which columns stand beside one another: the first, and as many others as the line holds."""
    first, *widths = (min(_width(table, i), LONGEST_TEXT * LETTER) + GAP for i in range(len(table.columns)))
    parts, left = [[0]], 1 - first
    for i, width in enumerate(widths, start=1):
        if width > left and len(parts[-1]) > 1:
            parts, left = [*parts, [0]], 1 - first
        parts[-1].append(i)
        left -= width
    return parts


def _width(table: Table, i: int) -> float:
    """Width of a column on one line, of the line."""
    column = table.columns[i]
    heading = min(len(column.printed), LONGEST_HEADING)
    return LETTER * max([heading, *(len(column.text(row[i])) for row in table.rows)])


def _floating(table: Table, parts: Sequence[Sequence[int]]) -> list[str]:
    lines = [r"\begin{table}", r"\centering\footnotesize", _caption(table)]
    for i, part in enumerate(parts):
        lines += [r"\par\medskip"] if i else []
        lines += [rf"\begin{{tabular}}{{{_alignment(table, part)}}}", r"\toprule", _head(table, part), r"\midrule"]
        lines += [*_body(table, part), r"\bottomrule", r"\end{tabular}"]
    return [*lines, r"\end{table}"]


def _long(table: Table, parts: Sequence[Sequence[int]]) -> list[str]:
    lines = [r"\begingroup\footnotesize"]
    for i, part in enumerate(parts):
        head = [r"\toprule", _head(table, part), r"\midrule"]
        lines += [rf"\begin{{longtable}}{{{_alignment(table, part)}}}", *([] if i else [_caption(table) + r"\\"])]
        lines += [*head, r"\endfirsthead", *head, r"\endhead", r"\bottomrule", r"\endfoot"]
        lines += [*_body(table, part), r"\end{longtable}"]
    return [*lines, r"\endgroup"]


def _caption(table: Table) -> str:
    return rf"\caption{{{escape_latex(table.caption)}}}\label{{tab:{table.name}}}"


def _head(table: Table, part: Sequence[int]) -> str:
    """The headings; a long one goes over several lines."""
    cells = []
    for column in (table.columns[i] for i in part):
        lines = [escape_latex(line) for line in wrap(column.printed, LONGEST_HEADING)]
        stack = r"\shortstack[l]{" if column.kind in TEXTS else r"\shortstack[r]{"
        cells.append(lines[0] if len(lines) == 1 else stack + r"\\".join(lines) + "}")
    return " & ".join(cells) + r" \\"


def _body(table: Table, part: Sequence[int]) -> list[str]:
    return [" & ".join(escape_latex(table.columns[i].text(row[i])) for i in part) + r" \\" for row in table.rows]


def _alignment(table: Table, part: Sequence[int]) -> str:
    """Figures to the right, text to the left; long texts share what is left of the line, by their length."""
    widths = {i: _width(table, i) for i in part}
    is_broken = {i: table.columns[i].kind in TEXTS and widths[i] > LONGEST_TEXT * LETTER for i in part}
    free = 1 - sum(GAP + (0 if is_broken[i] else widths[i]) for i in part)
    shares = {i: min(widths[i], LONGEST_SENTENCE * LETTER) for i in part if is_broken[i]}
    marks = []
    for i in part:
        if is_broken[i]:
            width = max(free, SMALLEST_SHARE) * shares[i] / sum(shares.values())
            marks.append(rf">{{\raggedright\arraybackslash}}p{{{width:.2f}\linewidth}}")
        else:
            marks.append("l" if table.columns[i].kind in TEXTS else "r")
    return "".join(marks)
