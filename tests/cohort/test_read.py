import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import CTImageStorage

from twobe3.cohort import read as reading
from twobe3.cohort.cohort import Cohort
from twobe3.cohort.read import cohort_document, read_cohort
from twobe3.cohort.splits import CrossValidation
from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.errors import ConfigurationError, EmptyInputError
from twobe3.core.grid import Grid
from twobe3.io.pseudonym import pseudonym

SPEC = Grid((16.0,) * 3, (192.0, 160.0, 160.0))
Y = Binary("y", "outcome")


def read(tiny: Any, **more: Any) -> Cohort:
    options = {"clinical": tiny.clinical, "endpoints": [Y], "grid": SPEC, **more}
    return read_cohort(tiny.images, **options)


def test_a_cohort_is_read(tiny_cohort: Any) -> None:
    tiny_cohort.scan("B", suv=4.0)
    tiny_cohort.scan("A", suv=6.0)
    tiny_cohort.table({"A": (1, "north"), "B": (0, "NA")}, "patient_id,outcome,centre")
    cohort = read(tiny_cohort, centre="centre")
    assert cohort.patients == ("A", "B")
    assert [subject.centre for subject in cohort.subjects] == ["north", ""]
    assert cohort.outcomes.event.tolist() == [True, False]
    assert cohort.subjects[0].covariates == {"age_years": 60.0, "sex": "F", "weight_kg": 70.0, "height_m": 1.7}
    # The grid is that of the scans: what was written comes back, lesion and all.
    expected = np.full((12, 10, 10), 0.5)
    expected[4:7, 3:6, 5:8] = 6.0
    np.testing.assert_allclose(cohort.volume(cohort.subjects[0]), expected, atol=2e-4)
    assert (cohort.found, len(cohort), cohort.exclusions, cohort.warnings) == (2, 2, (), ())


def test_everything_found_is_used_or_listed_with_its_reason(tiny_cohort: Any, caplog: pytest.LogCaptureFixture) -> None:
    for patient in ("A", "B", "C", "D", "E"):
        tiny_cohort.scan(patient)
    tiny_cohort.scan("F", PatientWeight=None)
    tiny_cohort.scan("A", folder="again", CorrectedImage=["DECY"])
    tiny_cohort.scan("A", folder="ct", Modality="CT", SOPClassUID=CTImageStorage)
    (tiny_cohort.scan("G") / "0003.dcm").write_bytes(b"")
    (tiny_cohort.images / "notes.txt").write_text("nothing")
    rows = {"A": (1,), "B": (0,), "C": (1,), "D": ("",), "F": (0,), "G": (0,), "H": (1,)}
    tiny_cohort.table(rows)
    with caplog.at_level(logging.INFO, "twobe3"):
        cohort = read(tiny_cohort)
    assert cohort.patients == ("A", "B", "C")
    assert Counter(exclusion.code for exclusion in cohort.exclusions) == {
        "PATIENT_NOT_IN_TABLE": 1,  # E
        "OUTCOME_MISSING": 1,  # D
        "WEIGHT_MISSING": 1,  # F
        "NOT_ATTN": 1,
        "NOT_PET": 1,
        "SLICE_GAP": 1,  # G, whose empty file is listed beside it
        "CORRUPT_FILE": 1,
        "PATIENT_NOT_SCANNED": 1,  # H
    }
    document = cohort_document(cohort)
    json.dumps(document, allow_nan=False)
    assert (document["found"], document["used"], document["excluded"]) == (9, 3, 6)
    by_code = {exclusion.code: exclusion for exclusion in cohort.exclusions}
    for code, patient in (("PATIENT_NOT_IN_TABLE", "E"), ("OUTCOME_MISSING", "D"), ("PATIENT_NOT_SCANNED", "H")):
        assert by_code[code].patient == pseudonym("patient", patient)
    assert by_code["PATIENT_NOT_SCANNED"].series == ""
    logged = [record.getMessage() for record in caplog.records]
    for exclusion in cohort.exclusions:
        assert any(exclusion.code in line and exclusion.series in line for line in logged)


def test_several_endpoints_keep_the_patients_that_each_knows(tiny_cohort: Any) -> None:
    for patient in "ABCD":
        tiny_cohort.scan(patient)
    rows = {"A": (1, 10, 1), "B": (0, "", ""), "C": ("", 30, 0), "D": ("", "", "")}
    tiny_cohort.table(rows, "patient_id,outcome,t,e")
    cohort = read(tiny_cohort, endpoints=[Y, TimeToEvent("os", "t", "e")])
    assert cohort.patients == ("A", "B", "C")
    assert cohort.for_endpoint("y").patients == ("A", "B")
    assert cohort.for_endpoint("os").patients == ("A", "C")
    assert [exclusion.code for exclusion in cohort.exclusions] == ["OUTCOME_MISSING"]


def test_names_and_order_of_files_do_not_matter(tiny_cohort: Any) -> None:
    tiny_cohort.patients(8)
    before = read(tiny_cohort)
    folders = sorted(tiny_cohort.images.iterdir())
    for number, folder in enumerate(reversed(folders)):
        files = sorted(folder.iterdir())
        for i, file in enumerate(files):
            file.rename(file.with_name(f"z{(i * 5) % len(files):02d}.ima"))
        folder.rename(folder.with_name(f"renamed-{number}"))
    after = read(tiny_cohort)
    assert after.patients == before.patients
    assert cohort_document(after) == cohort_document(before)
    for one, other in zip(CrossValidation(3).split(after.sample), CrossValidation(3).split(before.sample), strict=True):
        np.testing.assert_array_equal(one.test, other.test)
    for one, other in zip(after.subjects, before.subjects, strict=True):
        np.testing.assert_array_equal(after.volume(one), before.volume(other))


def test_uptake_that_the_field_of_view_cuts_off_is_told(tiny_cohort: Any) -> None:
    tiny_cohort.patients(2)
    cohort = read(tiny_cohort, grid=Grid((8.0,) * 3, (64.0,) * 3))
    # The lesion's three columns lie 8, 24 and 40 mm to the left of the middle.
    assert [line.partition(": ")[2] for line in cohort.warnings] == [
        "33% of the voxels above SUV 1 lie outside the field of view"
    ] * 2


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"A": (1,), "B": (1,)}, "ONE_CLASS: endpoint 'y': 2 of 2"),
        ({"A": (1,), "B": (1,), "unscanned": (0,)}, "ONE_CLASS: endpoint 'y': 2 of 2"),
        ({"a": (1,), "b": (0,), "c": (0,)}, "NO_PATIENT_MATCHES: 2 patients were scanned, 3 are in the clinical table"),
    ],
)
def test_a_table_that_does_not_fit_the_scans(tiny_cohort: Any, rows: dict[str, tuple[int]], says: str) -> None:
    tiny_cohort.scan("A")
    tiny_cohort.scan("B")
    tiny_cohort.table(rows)
    with pytest.raises(ConfigurationError, match=says):
        read(tiny_cohort)


def test_the_table_is_checked_before_any_scan_is_read(tiny_cohort: Any, tmp_path: Path) -> None:
    tiny_cohort.table({"A": (1,), "B": (0,)})
    for more, code in (
        ({"endpoints": [Binary("y", "no")]}, "COLUMN_MISSING"),
        ({"centre": "no"}, "COLUMN_MISSING"),
        ({"patient": "no"}, "COLUMN_MISSING"),
        ({"endpoints": [Binary("y", "outcome", "7")]}, "OUTCOME_INVALID"),
    ):
        with pytest.raises(ConfigurationError, match=code):
            read_cohort(tmp_path / "absent", **{"clinical": tiny_cohort.clinical, "endpoints": [Y], **more})


def test_no_scan_is_left(tiny_cohort: Any) -> None:
    tiny_cohort.table({"A": (1,), "B": (0,)})
    tiny_cohort.scan("A", Modality="CT", SOPClassUID=CTImageStorage)
    with pytest.raises(EmptyInputError, match="NO_PET: none of 12 files belongs to a PET series; there is CT"):
        read(tiny_cohort)
    tiny_cohort.scan("A", PatientWeight=None)
    tiny_cohort.scan("B", CorrectedImage=["DECY"])
    with pytest.raises(
        EmptyInputError, match=r"NOTHING_USABLE: none of the 2 series can be used: 1 NOT_ATTN, 1 WEIGHT_MISSING"
    ):
        read(tiny_cohort)


def test_strict_rules_can_be_asked_for(tiny_cohort: Any) -> None:
    tiny_cohort.patients(2)
    tiny_cohort.scan("C", PatientWeight="70000")
    tiny_cohort.table({"P00": (0,), "P01": (1,), "C": (1,)})
    assert len(read(tiny_cohort)) == 3
    strict = read(tiny_cohort, policy="strict")
    assert strict.patients == ("P00", "P01")
    assert [exclusion.code for exclusion in strict.exclusions] == ["WEIGHT_IMPLAUSIBLE"]


def test_two_workers_read_what_one_does_and_scans_come_back_with_their_digests(
    tiny_cohort: Any, tmp_path: Path
) -> None:
    for patient in ("A", "B", "C"):
        tiny_cohort.scan(patient)
    tiny_cohort.scan("D", PatientWeight=None)
    tiny_cohort.table({patient: (i % 2,) for i, patient in enumerate("ABCD")})
    alone, together = (
        read(tiny_cohort, volumes=tmp_path / f"{n}" / "volumes", contours=tmp_path / f"{n}" / "contours", workers=n)
        for n in (1, 2)
    )
    assert cohort_document(together) == cohort_document(alone)
    assert together.exclusions == alone.exclusions
    known = {subject.patient_id: vars(subject.scan)["digest"] for subject in together.subjects}  # not asked for here
    assert known == {subject.patient_id: subject.scan.digest for subject in alone.subjects}
    names = [sorted(path.name for path in (tmp_path / f"{n}" / "volumes").iterdir()) for n in (1, 2)]
    assert names[0] == names[1]


def test_a_scan_that_ends_the_workers_which_read_it_is_excluded(
    tiny_cohort: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patient in "ABCD":
        tiny_cohort.scan(patient)
    tiny_cohort.table({patient: (i % 2,) for i, patient in enumerate("ABCD")})

    def run(function: Callable[..., Any], tasks: Any, *, shared: Any, instead: Callable[[int], Any], **_: Any) -> Any:
        return [(task, instead(task) if task == 1 else function(shared, task)) for task in reversed(tasks)]

    monkeypatch.setattr(reading, "run_tasks", run)
    cohort = read(tiny_cohort)
    assert cohort.patients == ("A", "C", "D")
    (exclusion,) = cohort.exclusions
    assert (exclusion.code, exclusion.patient) == ("WORKER_DIED", pseudonym("patient", "B"))
