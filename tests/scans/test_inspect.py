import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage
from tests.drawn import structure_set

from twobe3 import __version__
from twobe3.cohort.read import cohort_document, read_cohort
from twobe3.core.grid import Grid
from twobe3.dicom.reader import quietly
from twobe3.dicom.series import choose_series, find_series
from twobe3.dicom.volume import read_suv
from twobe3.io.nifti import read_nifti
from twobe3.scans.inspect import convert, inspect
from twobe3.scans.regions import Region

KEYS = ["path", "patient", "series_uid", "modality", "slices", "usable", "code", "reason", "remedy", "suv", "contour"]
KEYS += ["tracer", "manufacturer", "model", "spacing_mm"]


def test_real_scan(real_data: Path) -> None:
    document = inspect([real_data / "ge_whole_body"]).to_json()
    (entry,) = document["series"]
    assert list(document) == ["series", "found", "usable", "excluded"]
    assert list(entry) == KEYS
    assert (entry["path"], entry["modality"], entry["slices"]) == ("PET", "PT", 267)
    assert list(entry["suv"]) == ["type", "rule", "factor_min", "factor_max", "max", "median", "min", "warnings"]
    assert entry["suv"]["rule"] == "BQML_START"
    assert entry["code"] is None


def test_one_bad_scan_does_not_stop_the_others(bench: Any) -> None:
    bench.save(bench.slices(), "a/good")
    heavy = bench.slices(patient="P2")
    for dataset in heavy:
        dataset.PatientWeight = None
    bench.save(heavy, "a/bad")
    scan = bench.slices(patient="P3")
    for dataset in scan:
        dataset.Modality, dataset.SOPClassUID = "CT", CTImageStorage
    bench.save(scan, "ct")
    (bench.folder / "empty.dcm").touch()
    (bench.folder / "readme.txt").write_text("junk")
    document = inspect([bench.folder]).to_json()
    json.dumps(document, allow_nan=False)
    assert (document["found"], document["usable"], document["excluded"]) == (4, 1, 3)
    by_path = {entry["path"]: entry for entry in document["series"]}
    assert {path: entry["code"] for path, entry in by_path.items()} == {
        "a/good": None,
        "a/bad": "WEIGHT_MISSING",
        "ct": "NOT_PET",
        ".": "CORRUPT_FILE",
    }
    assert by_path["a/bad"]["remedy"] == "complete PatientWeight (0010,1030)"
    assert by_path["a/bad"]["suv"] is None
    assert by_path["ct"]["modality"] == "CT"


def test_converted_files(bench: Any) -> None:
    """Acceptance row 5: the weight is in grams."""
    stored = np.random.default_rng(1).integers(0, 9000, (4, 6, 5), dtype=np.uint16)
    slices = bench.slices(stored)
    for dataset in slices:
        dataset.PatientWeight = 70_000
    expected = bench.read(slices)
    out = bench.folder / "out"
    (entry,) = convert([bench.save(slices)], out).to_json()["series"]
    assert list(entry) == [*KEYS, "output"]
    name = entry["series_uid"]
    assert Path(entry["output"]) == out / f"{name}.nii.gz"
    assert sorted(path.name for path in out.iterdir()) == [f"{name}.json", f"{name}.nii.gz"]
    array, geometry = read_nifti(out / f"{name}.nii.gz")
    np.testing.assert_array_equal(array, expected.array)
    assert geometry.same_as(expected.geometry)
    said = json.loads((out / f"{name}.json").read_text())
    assert said["twobe3"] == __version__
    assert said["calibration"]["rule"] == "BQML_START"
    assert said["calibration"]["warnings"][0].startswith("WEIGHT_IMPLAUSIBLE")
    np.testing.assert_array_equal(said["geometry"]["affine_lps_mm"], expected.geometry.affine)


def test_a_refused_scan_writes_nothing(bench: Any) -> None:
    """Acceptance row 5."""
    slices = bench.slices()
    for dataset in slices:
        dataset.PatientWeight = 72_000
    folder, out = bench.save(slices), bench.folder / "out"
    assert convert([folder], out, policy="strict").usable == 0
    assert not out.exists()


@pytest.mark.parametrize("patient", ["../../etc/x", "a\0b", "x" * 300, "CON", "..", "/etc/passwd", "a/b\\c", ""])
def test_what_is_written_lies_in_the_output_folder_under_a_hashed_name(bench: Any, patient: str) -> None:
    """Acceptance row 27."""
    out = bench.folder / "deep" / "out"
    with quietly():
        slices = bench.slices(patient=patient)
        for dataset in slices:
            dataset.StudyID = dataset.SeriesDescription = dataset.Radiopharmaceutical = "../../etc/x"
        folder = bench.save(slices)
        before = set(bench.folder.rglob("*"))
        (entry,) = convert([folder], out).series
    assert re.fullmatch(r"pa-[0-9a-f]{12}", entry.patient)
    assert re.fullmatch(r"se-[0-9a-f]{12}", entry.series)
    written = set(bench.folder.rglob("*")) - before
    assert written == {out.parent, out, *(out / f"{entry.series}.{suffix}" for suffix in ("nii.gz", "json"))}


@pytest.mark.parametrize("weight", [None, 0, ""], ids=["absent", "zero", "empty"])
def test_without_a_weight_nothing_is_written(bench: Any, weight: object) -> None:
    """Acceptance row 4."""
    slices = bench.slices()
    for dataset in slices:
        dataset.PatientWeight = weight
        if weight is None:
            del dataset.PatientWeight
    folder, out = bench.save(slices), bench.folder / "out"
    (entry,) = convert([folder], out).series
    assert entry.exclusion is not None
    assert entry.exclusion.code == "WEIGHT_MISSING"
    assert not out.exists()


@pytest.mark.parametrize("suv_type", ["lbm-james", "ibw", "bsa"])
def test_without_a_height_only_body_weight_is_written(bench: Any, suv_type: Any) -> None:
    slices = bench.slices()
    for dataset in slices:
        del dataset.PatientSize
    folder, out = bench.save(slices), bench.folder / "out"
    (entry,) = convert([folder], out, suv_type=suv_type).series
    assert entry.exclusion is not None
    assert entry.exclusion.code == "HEIGHT_MISSING"
    assert not out.exists()
    assert convert([folder], out).usable == 1


def test_corrected_and_uncorrected_series_of_one_study(bench: Any) -> None:
    """Acceptance row 2."""
    corrected, raw = bench.slices(), bench.slices()
    for dataset in raw:
        dataset.StudyInstanceUID, dataset.CorrectedImage = corrected[0].StudyInstanceUID, ["DECY"]
        dataset.SeriesDescription = "WB AC"  # the description says what the tag denies
    bench.save(corrected, "1")
    bench.save(raw, "2")
    assert {one.path: one.exclusion and one.exclusion.code for one in inspect([bench.folder]).series} == {
        "1": None,
        "2": "NOT_ATTN",
    }
    (chosen,), (other,) = choose_series(find_series([bench.folder]).series)
    assert chosen.files[0].parent.name == "1"
    assert (other.code, other.patient) == ("NOT_ATTN", chosen.patient)


def test_philips_counts_without_private_elements(bench: Any) -> None:
    """Acceptance row 11."""
    slices = bench.slices()
    for dataset in slices:
        dataset.Units, dataset.Manufacturer = "CNTS", "Philips Medical Systems"
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", "0.0005")
    assert inspect([bench.save(slices, "whole")]).usable == 1
    for dataset in slices:
        dataset.remove_private_tags()
    (entry,) = inspect([bench.save(slices, "stripped")]).series
    assert entry.exclusion is not None
    assert entry.exclusion.code == "NO_SCALE_FACTOR"


def test_dose_in_megabecquerel(bench: Any) -> None:
    """Acceptance row 6."""
    slices = bench.slices()
    right = bench.read(slices)
    for dataset in slices:
        dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = 370
    folder = bench.save(slices)
    (entry,) = inspect([folder]).series
    assert entry.suv is not None
    assert entry.suv.max == pytest.approx(float(right.array.max()))
    assert [warning.split(":")[0] for warning in entry.suv.calibration.warnings] == ["DOSE_IMPLAUSIBLE"]
    (strict,) = inspect([folder], policy="strict").series
    assert strict.exclusion is not None
    assert strict.exclusion.code == "DOSE_IMPLAUSIBLE"


IDENTIFYING = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "PatientAddress",
    "AccessionNumber",
    "InstitutionName",
    "StationName",
    "StudyID",
    "ReferringPhysicianName",
    "OperatorsName",
    "StudyDescription",
    "SeriesDescription",
    "PatientComments",
)


def test_no_identity_gets_out(bench: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    slices = bench.slices()
    for dataset in slices:
        for keyword in IDENTIFYING:
            setattr(dataset, keyword, "MARKER")
    bad = bench.slices(patient="MARKER2")
    for dataset in bad:
        dataset.PatientName, dataset.RescaleSlope = "MARKER", -1
    folder, out = bench.save([*slices, *bad]), bench.folder / "out"
    inspection = convert([folder], out)
    assert inspection.usable == 1
    text = json.dumps(inspection.to_json()) + repr(inspection) + caplog.text + "".join(capfd.readouterr())
    text += "".join(path.name + path.read_bytes().decode("latin-1") for path in out.iterdir())
    assert "MARKER" not in text
    assert slices[0].SeriesInstanceUID not in text


def test_what_was_drawn_is_the_same_for_inspect_convert_and_the_cohort(
    bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Two contours of one plane overlap in part; the second file has a contour in another frame of reference."""
    slices = bench.slices(np.arange(1, 2401, dtype=np.uint16).reshape(4, 20, 30))
    folder = bench.save(slices, "scan")
    (series,) = find_series([folder]).series
    geometry = read_suv(series).geometry

    def draw(name: str, frame: str, squares: list[tuple[int, int]]) -> None:
        corners = [[(1, a, a), (1, a, b), (1, b, b), (1, b, a)] for a, b in squares]
        path = structure_set(folder / name, {"GTV": [geometry.to_mm(one) for one in corners]}, frame=frame)
        dataset, study, one, reference = pydicom.dcmread(path), *(pydicom.Dataset() for _ in range(3))
        dataset.PatientID, dataset.StudyInstanceUID = slices[0].PatientID, slices[0].StudyInstanceUID
        one.SeriesInstanceUID, study.RTReferencedSeriesSequence = slices[0].SeriesInstanceUID, [one]
        reference.FrameOfReferenceUID, reference.RTReferencedStudySequence = frame, [study]
        dataset.ReferencedFrameOfReferenceSequence = [reference]
        dataset.SeriesInstanceUID = pydicom.uid.generate_uid()
        dataset.save_as(path)

    draw("1.dcm", slices[0].FrameOfReferenceUID, [(2, 5), (4, 9)])
    draw("2.dcm", "9.9", [(2, 5)])
    notes = (
        "CONTOUR_OVERLAP: 1 contour overlaps another one in part, with which it is united (region 'GTV')",
        f"CONTOUR_PLANES: it is drawn on single planes, each of which stands for {geometry.spacing_mm[0]:.2f} mm "
        "(region 'GTV')",
        "CONTOUR_UNUSED: 1 of 2 files: CONTOUR_FRAME: region 'GTV' lies in another frame of reference than the scan",
    )
    volume_ml = pytest.approx((16 + 36 - 4) * geometry.voxel_volume_ml)
    drawn = {"regions": "GTV", "volume_ml": volume_ml, "notes": notes, "code": None, "reason": None}
    (entry,) = inspect([folder]).to_json()["series"]
    assert entry["contour"] == drawn
    (entry,) = convert([folder], bench.folder / "out").to_json()["series"]
    assert entry["contour"] == drawn
    assert [record.message for record in caplog.records] == [f"{entry['series_uid']}: {note}" for note in notes]
    (again,) = inspect([bench.folder / "out"]).to_json()["series"]
    assert again["contour"] == {**drawn, "regions": "mask"}
    cohort = read_cohort(folder, grid=Grid(16.0), region=Region("contour"))
    (subject,) = cohort_document(cohort)["subjects"]
    assert subject["region"] == {"name": "contour", "volume_ml": volume_ml, "notes": list(notes)}
    assert [line for line in cohort.warnings if "CONTOUR" in line] == [f"{subject['patient']}: {one}" for one in notes]
    (folder / "1.dcm").unlink()
    (entry,) = inspect([folder]).to_json()["series"]
    assert (entry["contour"]["code"], entry["contour"]["volume_ml"]) == ("CONTOUR_FRAME", None)
