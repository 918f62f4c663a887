"""Tables as text: whatever is in the file, it is read or refused."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.csv import read_delimited

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=6)
ALPHABET = st.sampled_from([*b',;\t"\r\n.0159eE+- ', *b"ab\x00\xef\xbb\xbf\xff"])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("delimited") / "table.csv"


@given(content=st.lists(ALPHABET, max_size=60).map(bytes))
def test_any_bytes_are_a_table_or_refused_in_one_line(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    refusal, rows = None, []
    try:
        rows = read_delimited(file, Code.TABLE_UNREADABLE, text=())
    except ConfigurationError as error:
        refusal = error
    assert (refusal is None) == bool(rows)
    assert refusal is None or (refusal.code is Code.TABLE_UNREADABLE and str(file.parent) not in str(refusal))
    assert len({tuple(row.cells) for row in rows}) <= 1
    assert [row.line for row in rows] == sorted({row.line for row in rows})


@given(
    cells=st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=5),
    separator=st.sampled_from(",;\t"),
)
def test_text_reads_back_as_it_was_written(file: Path, cells: list[list[str]], separator: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b", "c"], *cells])
    file.write_bytes(text.getvalue().encode())
    there = [row for row in cells if any(map(str.strip, row))]
    if not there:
        with pytest.raises(ConfigurationError, match="no row below its header"):
            read_delimited(file, Code.TABLE_UNREADABLE, text="abc")
    else:
        rows = read_delimited(file, Code.TABLE_UNREADABLE, text="abc")
        assert [list(row.cells.values()) for row in rows] == there


@given(number=st.floats(allow_nan=False, allow_infinity=False), commas=st.booleans())
def test_decimal_commas_between_semicolons_are_numbers(file: Path, number: float, commas: bool) -> None:
    text = str(number).replace(".", ",") if commas else str(number)
    file.write_text(f"id;x\nA;{text}\n")
    (row,) = read_delimited(file, Code.TABLE_UNREADABLE, text=["id"])
    assert float(row.cells["x"]) == number
