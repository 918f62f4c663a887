from __future__ import annotations

import csv
import io

import pytest

from twobe3.report.table import Column, Estimate, PValue, Table, file_name


def test_a_csv_file_has_all_digits_and_a_column_for_each_number() -> None:
    columns = (Column("Model"), Column("AUC", "estimate"), Column("p", "p"), Column("n", "number"))
    values = (
        ("one, two", Estimate(1 / 3, 0.25, None), PValue(0.01, 0.3), 51),
        ('"', Estimate(None), PValue(None, None), 0),
    )
    lines = list(csv.reader(io.StringIO(Table("t", "c", columns, values).csv().decode())))
    assert lines[0] == ["Model", "AUC", "AUC, 95 % low", "AUC, 95 % high", "p", "p, Holm", "n"]
    assert float(lines[1][1]) == 1 / 3
    assert lines[1:] == [["one, two", repr(1 / 3), "0.25", "", "0.01", "0.3", "51"], ['"', "", "", "", "", "", "0"]]


def test_a_cell_is_no_formula_for_a_spreadsheet() -> None:
    table = Table("t", "c", (Column("Model"),), (("=1+1",),))
    assert table.csv() == b"Model\n'=1+1\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Kaplan–Meier curves by predicted risk", "kaplan-meier-curves-by-predicted-risk"),
        ("../../etc/passwd", "etc-passwd"),
        ("Überleben_2", "uberleben-2"),
        ("brier@365", "brier-at-365"),
        ("転移", ""),
    ],
)
def test_a_file_name_has_small_latin_letters_and_digits(text: str, name: str) -> None:
    assert file_name(text) == name
