"""The owner's list of what is not used."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import Any

import pytest

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.exclusions import COLUMNS, OwnerNames, write_exclusions
from twobe3.cohort.read import cohort_document, read_cohort
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary
from twobe3.core.errors import ConfigurationError, Exclusion, UnusableScanError
from twobe3.core.grid import Grid
from twobe3.io.pseudonym import pseudonym

SPEC = Grid((16.0,) * 3, (192.0, 160.0, 160.0))


def read(tiny: Any, **more: Any) -> Cohort:
    options = {"clinical": tiny.clinical, "endpoints": [Binary("y", "outcome")], "grid": SPEC, **more}
    return read_cohort(tiny.images, exclusions=tiny.clinical.with_name("exclusions.csv"), **options)


def rows_of(tiny: Any) -> list[dict[str, str]]:
    text = tiny.clinical.with_name("exclusions.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert all(tuple(row) == COLUMNS for row in rows)
    return rows


def test_the_owner_sees_whom_and_what_each_exclusion_means(tiny_cohort: Any) -> None:
    for patient in ("A", "B", "C", "D"):
        tiny_cohort.scan(patient)
    refused = tiny_cohort.scan("F", PatientWeight=None)
    again = tiny_cohort.scan("A", folder="again", CorrectedImage=["DECY"])
    damaged = [tiny_cohort.images / name for name in ("one.dcm", "two.dcm")]
    for file in damaged:
        file.write_bytes(bytes(128) + b"DICM" + b"\2\0\0\0UL")
    tiny_cohort.table({"A": (1,), "B": (0,), "C": ("",), "F": (0,), "=H": (1,)})
    cohort = read(tiny_cohort)
    assert cohort.patients == ("A", "B")
    rows = rows_of(tiny_cohort)
    assert len(rows) == len(cohort.exclusions)
    found = {(row["patient_id"], row["code"]): row["path"] for row in rows if row["patient_id"]}
    assert found == {
        ("A", "NOT_ATTN"): str(again),
        ("C", "OUTCOME_MISSING"): str(tiny_cohort.images / "scan-C"),
        ("D", "PATIENT_NOT_IN_TABLE"): str(tiny_cohort.images / "scan-D"),
        ("F", "WEIGHT_MISSING"): str(refused),
        ("'=H", "PATIENT_NOT_SCANNED"): "",  # no formula for a spreadsheet
    }
    corrupt = [row for row in rows if row["code"] == "CORRUPT_FILE"]
    assert sorted(row["path"] for row in corrupt) == sorted(map(str, damaged))
    for row, exclusion in zip(rows, cohort.exclusions, strict=True):
        assert (row["reason"], row["remedy"], row["model"]) == (exclusion.reason, exclusion.remedy, "")
        assert (row["patient"], row["series"]) == (exclusion.patient, exclusion.series)


def test_ids_that_differ_by_leading_zeros_are_counted_and_shown_to_the_owner_alone(
    tiny_cohort: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Acceptance row 68."""
    for patient in ("XYZZY1", "XYZZY2", "XYZZY03", "XYZZY04"):
        tiny_cohort.scan(patient)
    tiny_cohort.table({"XYZZY1": (1,), "XYZZY2": (0,), "XYZZY3": (1,), "XYZZY4": (0,), "other": (0,)})
    with caplog.at_level(logging.DEBUG, "twobe3"):
        cohort = read(tiny_cohort)
    says = "2 ids of the table differ from ids of the scans by leading zeros alone"
    assert says in cohort.warnings
    assert says in caplog.text
    document = str(cohort_document(cohort)) + repr(cohort) + repr(cohort.names) + caplog.text
    assert "XYZZY" not in document
    reasons = {row["patient_id"]: row["reason"] for row in rows_of(tiny_cohort)}
    assert reasons["XYZZY03"].endswith("; 'XYZZY3' on the other side differs by leading zeros alone")
    assert reasons["XYZZY3"].endswith("; 'XYZZY03' on the other side differs by leading zeros alone")
    assert "other side" not in reasons["other"]


def test_where_nobody_matches_the_list_is_there_all_the_same(tiny_cohort: Any) -> None:
    tiny_cohort.scan("xyzzy 1")
    tiny_cohort.scan("xyzzy 2")
    tiny_cohort.table({"XYZZY 1": (1,), "XYZZY 2": (0,)})
    with pytest.raises(ConfigurationError, match="NO_PATIENT_MATCHES: 2 patients were scanned, 2 are") as refused:
        read(tiny_cohort)
    assert "2 ids of the table differ from ids of the scans by case alone" in str(refused.value)
    assert "xyzzy" not in str(refused.value).lower()
    assert [(row["patient_id"], row["code"]) for row in rows_of(tiny_cohort)] == [
        ("xyzzy 1", "PATIENT_NOT_IN_TABLE"),
        ("xyzzy 2", "PATIENT_NOT_IN_TABLE"),
        ("XYZZY 1", "PATIENT_NOT_SCANNED"),
        ("XYZZY 2", "PATIENT_NOT_SCANNED"),
    ]


def test_what_only_a_model_cannot_use_names_the_model(tmp_path: Path) -> None:
    patient = pseudonym("patient", "A")
    one = Exclusion.of(UnusableScanError(Code.CONTOUR_MISSING, "nobody drew"), patient=patient, series="se-1")
    names = OwnerNames({patient: "A"}, {"se-1": "/scans/A"}, {}, {patient: ("a", "case")})
    write_exclusions(tmp_path / "x.csv", [], names, [("radiomics", one)])
    assert (tmp_path / "x.csv").read_text().splitlines()[1] == (
        f'A,/scans/A,CONTOUR_MISSING,nobody drew,"add one, or choose another region",radiomics,{patient},se-1'
    )
