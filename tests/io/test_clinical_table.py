from pathlib import Path

import pytest

from twobe3.core.errors import ConfigurationError
from twobe3.io.clinical_table import read_table


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "clinical.csv"


@pytest.mark.parametrize(
    "content",
    [
        b"id,y\nP1,1\nP2,0\n",
        b"id;y\nP1;1\nP2;0\n",
        b"id\ty\nP1\t1\nP2\t0\n",
        b"id,y\r\nP1,1\r\nP2,0",
        b"\xef\xbb\xbfid,y\nP1,1\nP2,0\n",
        b" id , y \nP1, 1\nP2 ,0 \n",
        b'"id";"y"\n"P1";"1"\n"P2";"0"\n',
        b"id,y,\nP1,1,\nP2,0\n,,\n\n",
    ],
    ids=["comma", "semicolon", "tab", "windows", "byte-order mark", "blanks", "quotes", "empty columns and lines"],
)
def test_what_spreadsheets_save(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    table = read_table(file, patient="id")
    assert [(patient, row["id"], row["y"]) for patient, row in table.items()] == [("P1", "P1", "1"), ("P2", "P2", "0")]


def test_decimal_commas_of_a_semicolon_table_become_points(file: Path) -> None:
    file.write_text("id;t;note;s\n1,5;12,25;a, b;1,2,3\n2;7;1,;-,5e3\n")
    table = read_table(file, patient="id")
    assert table["1,5"] == {"id": "1,5", "t": "12.25", "note": "a, b", "s": "1,2,3"}
    assert table["2"] == {"id": "2", "t": "7", "note": "1,", "s": "-.5e3"}


def test_decimal_commas_elsewhere_stay(file: Path) -> None:
    file.write_text('patient_id,t\nA,"1,5"\n')
    assert read_table(file)["A"]["t"] == "1,5"


def test_text_may_hold_separators_and_line_ends(file: Path) -> None:
    file.write_text('id,note,y\nP1,"tall, thin\nand \u2028 \x0c old",1\nP2,,0\n', newline="")
    table = read_table(file, patient="id")
    assert table["P1"] == {"id": "P1", "note": "tall, thin\nand \u2028 \x0c old", "y": "1"}
    assert table["P2"]["y"] == "0"


def test_a_short_row_lacks_its_last_cells(file: Path) -> None:
    file.write_text("id,y,z\nP1,1\n")
    assert read_table(file, patient="id")["P1"] == {"id": "P1", "y": "1", "z": ""}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "TABLE_UNREADABLE: clinical.csv is empty"),
        (b"id,y\n", "TABLE_UNREADABLE: clinical.csv has no row below its header"),
        (b"id,y\n1,2\n", "COLUMN_MISSING: the clinical table has no column 'patient_id'; it has id, y"),
        (b"patient_id,y\nA,1\n,0\n", "TABLE_UNREADABLE: clinical.csv: line 3 has no 'patient_id'"),
        (
            b"patient_id,y\nA,1\nB,0\n A ,0\n",
            "PATIENT_TWICE: clinical.csv: the patient_id of line 2 stands again in line 4",
        ),
        (b"patient_id,y,y\nA,1,0\n", "TABLE_UNREADABLE: clinical.csv: two columns are called 'y'"),
        (b"patient_id;t\nA;1,5\nB;1.234\n", "TABLE_UNREADABLE: clinical.csv: column 't' has a decimal comma in line 2"),
        (b"patient_id,t,y\nA,1,5,1\n", "TABLE_UNREADABLE: clinical.csv: line 2 has more cells than the header"),
        (b"\x89PNG\r\n\x1a\n\x00\x01\xff\xfe", "TABLE_UNREADABLE: clinical.csv is not a table as text"),
        (
            b"PK\x03\x04\x14\x00\x06\x00\x08\x00\xff\xfe",
            "TABLE_UNREADABLE: clinical.csv is no spreadsheet that can be read",
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 512,
            "TABLE_UNREADABLE: clinical.csv is a workbook of Excel before 2007",
        ),
        (b'patient_id,y\nA,"' + b"x" * 200_000, "TABLE_UNREADABLE: clinical.csv is not a table as text"),
    ],
)
def test_what_is_wrong_is_said(file: Path, content: bytes, says: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        read_table(file)
    assert str(refused.value).startswith(says)
    assert "\n" not in str(refused.value)


def test_an_absent_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"TABLE_UNREADABLE: no\.csv can't be read: No such file") as refused:
        read_table(tmp_path / "no.csv")
    assert str(tmp_path) not in str(refused.value)


def test_the_real_table(real_data: Path) -> None:
    table = read_table(real_data / "sts" / "clinical.csv")
    assert len(table) == 51
    assert table["STS_001"]["patient_id"] == "STS_001"


def test_a_table_knows_its_rows_and_its_repr_no_patient(file: Path) -> None:
    file.write_bytes("patient_id,y\nXYZZY,1\n\nB,ü\n".encode("latin-1"))
    table = read_table(file)
    assert table.numbers == {"XYZZY": 2, "B": 4}
    assert table.notes == ("clinical.csv is not in UTF-8: it was read as Latin-1",)
    assert repr(table) == "NumberedTable(2 patients)"
