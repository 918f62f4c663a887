"""Tables as they were saved: whatever is in the file, it is read or refused."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.rows import Row, read_rows

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=6)
ALPHABET = st.sampled_from([*b',;\t"\r\n.0159eE+- ', *b"ab\x00\xef\xbb\xbf\xff\x81\xfe"])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("delimited") / "table.csv"


@given(content=st.lists(ALPHABET, max_size=60).map(bytes))
def test_any_bytes_are_a_table_or_refused_in_one_line(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    refusal: ConfigurationError | None = None
    rows: tuple[Row, ...] = ()
    try:
        rows = read_rows(file, Code.TABLE_UNREADABLE).rows
    except ConfigurationError as error:
        refusal = error
    assert (refusal is None) == bool(rows)
    assert refusal is None or (refusal.code is Code.TABLE_UNREADABLE and str(file.parent) not in str(refusal))
    assert len({tuple(row.cells) for row in rows}) <= 1
    assert [row.line for row in rows] == sorted({row.line for row in rows})


@given(
    cells=st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=5),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_text_reads_back_as_it_was_written(file: Path, cells: list[list[str]], separator: str, encoding: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b", "c"], *cells])
    file.write_bytes(text.getvalue().encode(encoding))
    there = [row for row in cells if any(map(str.strip, row))]
    if not there:
        with pytest.raises(ConfigurationError, match="no row below its header"):
            read_rows(file, Code.TABLE_UNREADABLE, text="abc")
    else:
        rows = read_rows(file, Code.TABLE_UNREADABLE, text="abc").rows
        assert [list(row.cells.values()) for row in rows] == there


@given(number=st.floats(allow_nan=False, allow_infinity=False), commas=st.booleans())
def test_decimal_commas_between_semicolons_are_numbers(file: Path, number: float, commas: bool) -> None:
    text = str(number).replace(".", ",") if commas else str(number)
    file.write_text(f"id;x\nA;{text}\n")
    (row,) = read_rows(file, Code.TABLE_UNREADABLE, text=["id"]).rows
    assert float(row.cells["x"]) == number


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (["0,73", "12"], ["0.73", "12"]),
        (["1,234", "0,5"], ["1.234", "0.5"]),  # what is no thousand shows that the comma is a decimal one
        (["1,234", "2,500"], ["1,234", "2,500"]),  # could be either: nothing is guessed
        (["1,5", "2.5"], ["1,5", "2.5"]),
    ],
)
def test_decimal_commas_between_tabs_are_taken_where_they_can_be_nothing_else(
    file: Path, cells: list[str], read: list[str]
) -> None:
    file.write_text("id\tx\n" + "".join(f"{i}\t{cell}\n" for i, cell in enumerate(cells)))
    rows = read_rows(file, Code.TABLE_UNREADABLE, text=["id"]).rows
    assert [row.cells["x"] for row in rows] == read


@pytest.mark.parametrize(
    ("encoding", "text", "named"),
    [
        ("latin-1", "id,klinik\n1,Müller\n", "Latin-1"),
        ("cp1252", "id,klinik\n1,Müller – 3 €\n", "Windows-1252"),
        ("utf-16", "id\tklinik\r\n1\tMüller\r\n", "UTF-16"),
        ("utf-16-le", "id\tklinik\r\n1\tMüller\r\n", "UTF-16"),
        ("utf-16-be", "id;klinik\r\n1;Müller\r\n", "UTF-16"),
        ("utf-32", "id;klinik\r\n1;Müller\r\n", "UTF-32"),
    ],
)
def test_the_encoding_that_was_taken_is_said(
    file: Path, encoding: str, text: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Acceptance row 68."""
    file.write_bytes(text.encode(encoding))
    with caplog.at_level(logging.WARNING, "twobe3"):
        read = read_rows(file, Code.TABLE_UNREADABLE)
    assert read.rows[0].cells["klinik"] == text.replace("\t", ",").replace(";", ",").split(",")[-1].strip()
    assert read.notes == (f"table.csv is not in UTF-8: it was read as {named}",)
    assert [record.getMessage() for record in caplog.records] == list(read.notes)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_nothing_is_said_of_utf_8(file: Path, encoding: str) -> None:
    file.write_bytes("id,klinik\n1,Müller\n".encode(encoding))
    assert read_rows(file, Code.TABLE_UNREADABLE).notes == ()


def test_another_encoding_can_be_named(file: Path) -> None:
    file.write_bytes("id,ответ\n1,да\n".encode("cp1251"))
    (row,) = read_rows(file, Code.TABLE_UNREADABLE, encoding="cp1251").rows
    assert row.cells == {"id": "1", "ответ": "да"}
    for wrong in ("utf-8", "no such encoding"):
        with pytest.raises(ConfigurationError, match=r"table\.csv is not a table as text"):
            read_rows(file, Code.TABLE_UNREADABLE, encoding=wrong)


def test_excel_can_name_the_separator_and_old_macs_end_lines_with_a_carriage_return(file: Path) -> None:
    file.write_bytes(b"sep=;\r\nid;x,y\r\n1;2\r\n")
    (row,) = read_rows(file, Code.TABLE_UNREADABLE).rows
    assert (row.line, row.cells) == (3, {"id": "1", "x,y": "2"})
    file.write_bytes(b"id;x\r1;a,b,c,d\r")
    assert [one.cells for one in read_rows(file, Code.TABLE_UNREADABLE).rows] == [{"id": "1", "x": "a,b,c,d"}]


def test_a_header_that_is_not_in_the_first_line(file: Path) -> None:
    file.write_text("Export of the tumour board,,\n\npatient_id,y,t\n1,0,2\n")
    with pytest.raises(ConfigurationError, match=r"the header with the column 'patient_id' is in line 3.*delete what"):
        read_rows(file, Code.TABLE_UNREADABLE, key="patient_id")
