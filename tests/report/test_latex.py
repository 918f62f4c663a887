from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobe3.report.latex import escape_latex, render_latex
from twobe3.report.table import Column, Estimate, PValue, Table

# Characters that TeX does not set as they are (The TeXbook, chapter 7), outside of a command or a group.
SPECIAL = re.compile(r"(?<!\\)[&%$#_~^]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 % of A & B", r"50 \% of A \& B"),
        ("tumour_volume", r"tumour\_volume"),
        ("radiomics (SUV > 4)", r"radiomics (SUV \textgreater{} 4)"),
        ("{a}^~\\$#", r"\{a\}\textasciicircum{}\textasciitilde{}\textbackslash{}\$\#"),
        ("−0.10 ± 0.2", r"$-$0.10 $\pm$ 0.2"),
        ("Spearman’s ρ, R², λ", r"Spearman’s $\rho$, R$^{2}$, $\lambda$"),
        ("a -- b --- c", r"a -{}- b -{}-{}- c"),
        ("[x] *", "{[}x{]} {*}"),
        ("two\nlines\x07", "two lines"),
        ("3 < 4\N{NARROW NO-BREAK SPACE}000", r"3 \textless{} 4\,000"),
    ],
)
def test_what_tex_reads_as_a_command_is_set_as_text(text: str, expected: str) -> None:
    assert escape_latex(text) == expected


@given(st.text())
def test_any_text_is_one_balanced_line_without_a_bare_special_character(text: str) -> None:
    escaped = escape_latex(text)
    assert "\n" not in escaped
    depth = 0
    for mark in re.findall(r"(?<!\\)[{}]", escaped.replace("\\\\", "")):
        depth += 1 if mark == "{" else -1
        assert depth >= 0
    assert depth == 0
    bare = re.sub(r"\$[^$]*\$", "", escaped.replace(r"\$", "").replace("\\&", "")).replace("\N{NO-BREAK SPACE}", "")
    assert set(SPECIAL.findall(bare)) <= {"~"}


def rows(latex: str) -> list[str]:
    return [line for line in latex.splitlines() if line.endswith(r" \\")]


def test_a_table_stands_between_the_rules_of_booktabs() -> None:
    columns = (Column("Model"), Column("AUC", "estimate"), Column("p", "p"), Column("n", "number"))
    table = Table("t", "100 % of a_b.", columns, (("a & b", Estimate(0.8, 0.7, 0.9), PValue(0.0001, 0.5), 51),))
    latex = render_latex(table)
    assert r"\caption{100 \% of a\_b.}\label{tab:t}" in latex
    assert latex.index(r"\toprule") < latex.index(r"\midrule") < latex.index(r"\bottomrule")
    assert rows(latex) == [
        r"Model & AUC & p (Holm) & n \\",
        r"a \& b & 0.80 (0.70–0.90) & \textless{}~0.001 (0.50) & 51 \\",
    ]
    assert r"\begin{tabular}{lrrr}" in latex


def test_what_is_not_estimable_is_said() -> None:
    table = Table("t", "c", (Column("Model"), Column("AUC", "estimate")), (("m", Estimate(None)),))
    assert r"m & not estimable \\" in render_latex(table)


def test_a_wide_table_is_set_in_parts_that_repeat_the_first_column() -> None:
    columns = (Column("Model"), *(Column(f"metric {i}", "estimate") for i in range(12)))
    table = Table("t", "c", columns, (("m", *(Estimate(i / 100, 0.0, 1.0) for i in range(12))),))
    latex = render_latex(table)
    parts = latex.count(r"\begin{tabular}")
    assert parts > 1
    assert latex.count(r"\caption") == 1
    cells = [line.removesuffix(r" \\").split(" & ") for line in rows(latex)]
    heads, values = cells[::2], cells[1::2]
    assert [head[0] for head in heads] == ["Model"] * parts
    assert [cell for head in heads for cell in head[1:]] == [f"metric {i}" for i in range(12)]
    assert [cell for line in values for cell in line[1:]] == [f"0.{i:02} (0.00–1.00)" for i in range(12)]


def test_sentences_share_the_line_and_run_over_pages() -> None:
    columns = (Column("Item"), Column("Short", "sentence"), Column("Long", "sentence"))
    table = Table("t", "c", columns, tuple((str(i), "s" * 40, "word " * 30) for i in range(50)))
    latex = render_latex(table)
    assert r"\begin{longtable}" in latex
    short, long = map(float, re.findall(r"p\{([\d.]+)\\linewidth\}", latex))
    assert 0 < short < long
    assert short + long < 1
    assert latex.count(r"\label") == 1
