"""Excel workbooks as people keep them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.table import is_missing
from twobe3.io.clinical_table import read_table
from twobe3.io.rows import read_rows

HEADER = ("patient_id", "y", "t")
ROWS = (("A", 1, 300), ("B", 0, 400.5))


def save(path: Path, rows: Sequence[Sequence[object]] = (HEADER, *ROWS), **others: Sequence[Sequence[object]]) -> Path:
    """Write a workbook with the sheet ``Clinical``, and others."""
    book = Workbook()
    for name, content in {"Clinical": rows, **others}.items():
        sheet = book.create_sheet(name)
        for row in content:
            sheet.append(list(row))
    del book["Sheet"]
    book.save(path)
    return path


def change(path: Path, edit: Callable[[Any], object]) -> Path:
    book = load_workbook(path)
    edit(book["Clinical"])
    book.save(path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save(tmp_path / "clinical.xlsx")


def refusal(file: Path, **options: str) -> str:
    with pytest.raises(ConfigurationError, match="TABLE_UNREADABLE") as refused:
        read_table(file, **options)
    assert str(file.parent) not in str(refused.value)
    return str(refused.value)


def test_cells_are_as_a_text_file_would_have_them(tmp_path: Path) -> None:
    """Acceptance row 68."""
    columns = ("patient_id", "float", "text", "date", "truth", "empty", "Tumour\nstage")
    day = datetime(2019, 4, 3, 10, 22)
    file = save(tmp_path / "x.xlsx", [columns, (12.0, 0.1, " 007 ", day, True, None, "II"), ("B", 3, "é", day, False)])
    table = read_table(file)
    assert table["12"] == {
        "patient_id": "12", "float": "0.1", "text": "007", "date": "2019-04-03", "truth": "True", "empty": "",
        "Tumour\nstage".replace("\n", " "): "II",
    }  # fmt: skip
    assert table["B"]["float"] == "3"
    assert (table.numbers, table.notes) == ({"12": 2, "B": 3}, ())


def test_a_number_that_is_shown_with_leading_zeros_has_them(tmp_path: Path) -> None:
    file = save(tmp_path / "x.xlsx", [HEADER, (7, 1, 300), (123, 0, 400)])
    change(file, lambda sheet: [setattr(sheet[place], "number_format", "00000") for place in ("A2", "A3")])
    assert list(read_table(file)) == ["00007", "00123"]


def test_blank_rows_count_and_are_passed_over(tmp_path: Path) -> None:
    file = save(tmp_path / "x.xlsx", [(), HEADER, ROWS[0], (None, "", " "), ROWS[1]])
    assert read_table(file).numbers == {"A": 3, "B": 5}


def test_the_content_says_that_it_is_a_workbook(file: Path) -> None:
    assert list(read_table(file.rename(file.with_name("clinical.csv")))) == ["A", "B"]


def test_predictions_may_be_a_sheet_too(tmp_path: Path) -> None:
    file = save(tmp_path / "p.xlsx", [("patient_id", "risk"), (1, 0.5)])
    (row,) = read_rows(file, Code.PREDICTION_INVALID).rows
    assert row.cells == {"patient_id": "1", "risk": "0.5"}


def test_of_several_sheets_one_must_be_named(tmp_path: Path) -> None:
    """Acceptance row 68."""
    file = save(tmp_path / "x.xlsx", PET=[HEADER, ("C", 1, 3)], Blank=[])
    assert "x.xlsx has several sheets: 'Clinical', 'PET' (name one of them: `sheet = ...`" in refusal(file)
    assert list(read_table(file, sheet="PET")) == ["C"]
    assert "no sheet 'Pet' with any content; there is 'Clinical', 'PET'" in refusal(file, sheet="Pet")
    assert "no sheet 'Blank' with any content" in refusal(file, sheet="Blank")


def test_a_hidden_sheet_is_read_where_it_is_named(tmp_path: Path) -> None:
    file = save(tmp_path / "x.xlsx", Codes=[("code", "meaning"), ("1", "dead")])
    book = load_workbook(file)
    book["Codes"].sheet_state = "hidden"
    book.save(file)
    assert list(read_table(file)) == ["A", "B"]
    assert list(read_table(file, sheet="Codes", patient="code")) == ["1"]


def test_only_workbooks_have_sheets(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("patient_id,y\nA,1\n")
    assert "x.csv is no Excel workbook, and so has no sheet 'Clinical'" in refusal(tmp_path / "x.csv", sheet="Clinical")


def test_a_header_below_the_first_row_is_refused_with_its_row(tmp_path: Path) -> None:
    """Acceptance row 68."""
    file = save(tmp_path / "x.xlsx", [("Tumour board 2019",), (), HEADER, *ROWS])
    assert "the header with the column 'patient_id' is in line 3, not the first of the table" in refusal(file)


@pytest.mark.parametrize("place", ["B2:B3", "A2:A3", "B2:C2"])
def test_merged_cells_are_refused(file: Path, place: str) -> None:
    """Acceptance row 68."""
    change(file, lambda sheet: sheet.merge_cells(place))
    assert f"sheet 'Clinical': cells {place} are merged, so that all but the first are empty" in refusal(file)


def test_merged_cells_without_content_do_not_matter(file: Path) -> None:
    change(file, lambda sheet: sheet.merge_cells("E1:G2"))
    assert len(read_table(file)) == 2


def store(file: Path, xml: str) -> None:
    """Give the cell C2 another content, as a spreadsheet program would have stored it."""
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    content[sheet], n = re.subn(rb'<c r="C2".*?</c>', xml.encode(), content[sheet])
    assert n == 1
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("xml", "value"),
    [('<c r="C2"><f>100*3</f><v>300</v></c>', "300"), ('<c r="C2" t="str"><f>IF(TRUE,"",1)</f><v></v></c>', "")],
    ids=["a number", "an empty text"],
)
def test_a_formula_is_the_value_that_was_computed_last(file: Path, xml: str, value: str) -> None:
    """Acceptance row 68."""
    store(file, xml)
    assert read_table(file)["A"]["t"] == value


def test_a_formula_that_nobody_computed_is_not_taken_for_an_empty_cell(file: Path) -> None:
    """Acceptance row 68."""
    change(file, lambda sheet: setattr(sheet["C3"], "value", "=100*4"))
    assert "the formula in C3 has no value, since no program has computed it (open the file" in refusal(file)


def test_what_excel_writes_for_a_value_that_is_not_there_is_missing(tmp_path: Path) -> None:
    file = save(tmp_path / "x.xlsx", [HEADER, ("A", "#N/A", 3)])
    assert is_missing(read_table(file)["A"]["y"])


def test_what_is_no_workbook_of_today(tmp_path: Path) -> None:
    file = tmp_path / "x.xls"
    file.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500))
    assert "x.xls is a workbook of Excel before 2007, or protected by a password" in refusal(file)
    with zipfile.ZipFile(tmp_path / "x.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    assert "x.ods is no spreadsheet that can be read" in refusal(tmp_path / "x.ods")
