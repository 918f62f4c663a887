"""SUV volumes that were converted already: what ``convert`` wrote comes back; what says too little is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from tests.command_line import Call

import twobe3 as tb
from twobe3.cohort.read import cohort_document, read_cohort
from twobe3.core.endpoints import Binary
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv
from twobe3.io.pseudonym import pseudonym
from twobe3.scans.find import find_scans
from twobe3.scans.inspect import convert, inspect
from twobe3.scans.scan import DicomScan, NiftiScan
from twobe3.scans.sidecar import find_nifti_series, read_nifti_scan

SPEC = Grid((16.0,) * 3, (192.0, 160.0, 160.0))
Y = Binary("y", "outcome")
BW: dict[str, Any] = {"calibration": {"type": "bw"}}


@pytest.fixture
def call(twobe3: Call) -> Callable[..., Any]:
    """The command line in this process; the one document that it prints."""

    def document(*arguments: object) -> Any:
        done = twobe3(*arguments, "--json")
        assert done.status == 0
        return done.json()

    return document


def scan(path: Path, sidecar: object = BW, *, suv: float = 3.0, slices: int = 12) -> Path:
    """A foreign conversion: SUV 0.5 everywhere but in a lesion, with any JSON beside it."""
    array = np.full((10, 10, slices), 0.5, np.float32)
    array[5:8, 3:6, 4:7] = suv
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, None)
    image.header.set_sform(np.diag([-16.0, -16.0, 16.0, 1.0]), code=1)
    nibabel.save(image, path)
    if sidecar is not None:
        text = sidecar if isinstance(sidecar, str) else json.dumps(sidecar)
        path.with_name(path.name.partition(".")[0] + ".json").write_text(text)
    return path


def code_of(path: Path) -> str:
    """Why the one NIfTI file of a folder cannot be used; everything found is listed."""
    document = inspect([path]).to_json()
    (entry,) = document["series"]
    assert (document["found"], document["usable"], document["excluded"]) == (1, 0, 1)
    assert entry["series_uid"].startswith("se-")
    return f"{entry['code']}: {entry['reason']}"


# -- what convert writes


def test_a_real_scan_comes_back_exactly(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "sts/dicom/STS_003"
    convert([source], tmp_path)
    (dicom,), (nifti,) = find_series([source]).series, find_nifti_series([tmp_path]).series
    before, after = read_suv(dicom), read_nifti_scan(nifti)
    np.testing.assert_array_equal(after.array, before.array)
    np.testing.assert_array_equal(after.geometry.affine, before.geometry.affine)
    assert after.calibration.document() == before.calibration.document()
    assert (after.source, after.history) == (before.source, before.history)
    assert (nifti.patient, nifti.covariates, nifti.tracer) == (dicom.patient, dicom.covariates, dicom.tracer)
    drawn, again = DicomScan(dicom).contour(before), NiftiScan(nifti).contour(after)
    assert drawn is not None
    assert again is not None
    np.testing.assert_array_equal(again.array, drawn.array)


def test_a_study_on_converted_real_scans_is_the_study_on_their_dicom(
    call: Callable[..., Any], real_data: Path, tmp_path: Path
) -> None:
    patients = ["STS_001", "STS_003", "STS_011", "STS_012"]
    folders = [real_data / "sts/dicom" / name for name in patients]
    call("convert", *folders, "--out", tmp_path / "nifti")
    inspected = call("inspect", tmp_path / "nifti")
    assert (inspected["found"], inspected["usable"]) == (4, 4)
    on_dicom = {row["series_uid"]: row["suv"] for row in call("inspect", *folders)["series"]}
    assert {row["series_uid"]: row["suv"] for row in inspected["series"]} == on_dicom
    (tmp_path / "clinical.csv").write_text("patient_id,y\n" + "".join(f"{p},{i % 2}\n" for i, p in enumerate(patients)))
    dicom, nifti = (
        tb.read_cohort(images, clinical=tmp_path / "clinical.csv", endpoints=[Binary("y", "y")], grid=SPEC)
        for images in (folders, tmp_path / "nifti")
    )
    assert nifti.patients == dicom.patients == tuple(patients)
    for one, other in zip(dicom.subjects, nifti.subjects, strict=True):
        np.testing.assert_array_equal(nifti.volume(other), dicom.volume(one))
        assert other.covariates == one.covariates


def test_a_study_runs_and_predicts_on_what_convert_wrote(
    call: Callable[..., Any], tiny_cohort: Any, tmp_path: Path
) -> None:
    study = tiny_cohort.patients(8).study()
    call("run", study, "--out", tmp_path / "before", "--workers", 1)
    call("convert", tiny_cohort.images, "--out", tmp_path / "nifti")
    study.write_text(study.read_text().replace('images = "dicom"', 'images = "nifti"'))
    call("run", study, "--out", tmp_path / "after", "--workers", 1)
    after = (tmp_path / "after/predictions.csv").read_text()
    assert after == (tmp_path / "before/predictions.csv").read_text()
    assert "P00," in after
    (model,) = (tmp_path / "after/models").glob("*suvmax*")
    predicted = [call("predict", model, folder)["predictions"] for folder in (tmp_path / "nifti", tiny_cohort.images)]
    risks = [{row["series_uid"]: (row["patient"], row["risk"]) for row in rows} for rows in predicted]
    assert risks[0] == risks[1]
    assert len(risks[0]) == 8


def test_suv_of_another_type_are_read_as_suv_by_body_weight(tiny_cohort: Any, tmp_path: Path) -> None:
    folder = tiny_cohort.scan("A")
    convert([folder], tmp_path / "lean", suv_type="lbm-janma")
    volume = read_nifti_scan(find_nifti_series([tmp_path / "lean"]).series[0])
    np.testing.assert_allclose(volume.array, read_suv(find_series([folder]).series[0]).array, rtol=1e-6)
    assert (volume.calibration.type, volume.calibration.per_bw) == ("bw", 1.0)
    assert "lbm-janma" in volume.history[-1]


# -- foreign conversions


def test_a_foreign_conversion_needs_type_and_patient_only(tiny_cohort: Any) -> None:
    patient = {"covariates": {"age_years": 61, "sex": "F"}, "PatientName": "another tool's key"}
    scan(tiny_cohort.images / "one.nii.gz", {**BW, "patient_id": 17, **patient})
    scan(tiny_cohort.images / "deep" / "two.nii", {**BW, "patient_id": "B"}, suv=6.0)
    tiny_cohort.table({"17": (1,), "B": (0,)})
    cohort = read_cohort(tiny_cohort.images, clinical=tiny_cohort.clinical, endpoints=[Y], grid=SPEC)
    assert cohort.patients == ("17", "B")
    assert cohort.subjects[0].covariates == {"age_years": 61.0, "sex": "F"}
    expected = np.full(SPEC.shape, 0.5)
    expected[4:7, 3:6, 5:8] = 6.0
    np.testing.assert_allclose(cohort.volume(cohort.subjects[1]), expected, atol=1e-5)
    assert cohort_document(cohort)["subjects"][1]["calibration"]["rule"] == "NIFTI"


def test_a_mask_named_by_the_sidecar_is_the_contour_and_no_series(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii.gz", {**BW, "mask": "lesion.nii.gz"})
    scan(tmp_path / "lesion.nii.gz", None)  # everything is above 0
    (series,) = find_nifti_series([tmp_path]).series
    mask = NiftiScan(series).contour(read_nifti_scan(series))
    assert mask is not None
    assert mask.array.all()
    assert inspect([tmp_path]).found == 1
    changed = series.digest
    scan(tmp_path / "lesion.nii.gz", None, suv=4.0)
    assert find_nifti_series([tmp_path]).series[0].digest != changed


def test_everything_found_is_used_or_listed(tiny_cohort: Any) -> None:
    images = tiny_cohort.images
    tiny_cohort.scan("A")
    scan(images / "also-a.nii", {**BW, "patient_id": "A"})
    scan(images / "b.nii.gz", {**BW, "patient_id": "B", "mask": "b-mask.nii.gz"})
    scan(images / "b-mask.nii.gz", None)
    scan(images / "b-shorter.nii.gz", {**BW, "patient_id": "B"}, slices=10)
    scan(images / "stranger.nii", {**BW, "patient_id": "C"})
    scan(images / "nobody.nii", BW, suv=7.0)
    scan(images / "silent.nii", None, suv=8.0)
    scan(images / "broken.nii", {**BW, "patient_id": "D"}, suv=9.0).write_bytes(b"")
    tiny_cohort.table({"A": (1,), "B": (0,), "D": (1,)})
    cohort = read_cohort(images, clinical=tiny_cohort.clinical, endpoints=[Y], grid=SPEC)
    document = cohort_document(cohort)
    assert (document["found"], document["used"], document["excluded"]) == (8, 2, 6)
    listed = {(one.code, one.patient) for one in cohort.exclusions}
    a, b, c, d = (pseudonym("patient", name) for name in "ABCD")
    assert {("NOT_CHOSEN", a), ("NOT_CHOSEN", b), ("PATIENT_NOT_IN_TABLE", c), ("CORRUPT_FILE", d)} < listed
    assert {code for code, _ in listed} >= {"SIDECAR_MISSING", "PATIENT_NOT_IN_TABLE"}
    assert "PATIENT_NOT_SCANNED" not in {code for code, _ in listed}
    assert isinstance(cohort.subjects[0].scan, DicomScan)
    assert cohort.subjects[1].description["slices"] == 12


def test_unnamed_nifti_are_masks_of_a_dicom_archive_until_one_of_them_is_offered_as_a_scan(
    tiny_cohort: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_cohort.scan("A")
    scan(tiny_cohort.images / "mask.nii.gz", None)
    assert inspect([tiny_cohort.images]).found == 1
    assert "1 NIfTI files beside DICOM have no JSON" in caplog.text
    scan(tiny_cohort.images / "b.nii.gz", BW)
    assert [one.exclusion and one.exclusion.code for one in inspect([tiny_cohort.images]).series] == [
        None,
        None,
        "SIDECAR_MISSING",
    ]


def test_names_of_files_do_not_matter(tmp_path: Path) -> None:
    scan(tmp_path / "x" / "a.nii", {**BW, "patient_id": "A"}, suv=3.0)
    scan(tmp_path / "x" / "b.nii", {**BW, "patient_id": "A"}, suv=4.0)
    scan(tmp_path / "y" / "b.nii", {**BW, "patient_id": "A"}, suv=3.0)
    scan(tmp_path / "y" / "a.nii", {**BW, "patient_id": "A"}, suv=4.0)
    one, other = (find_scans([tmp_path / name]) for name in "xy")
    assert [series.series for series in one.series] == [series.series for series in other.series]
    assert one.exclusions == other.exclusions


def test_patients_who_are_not_in_the_table_are_told(tiny_cohort: Any) -> None:
    scan(tiny_cohort.images / "a.nii", {**BW, "patient_id": "A"})
    tiny_cohort.table({"B": (1,), "C": (0,)})
    with pytest.raises(ConfigurationError, match="NO_PATIENT_MATCHES"):
        read_cohort(tiny_cohort.images, clinical=tiny_cohort.clinical, endpoints=[Y], grid=SPEC)


def test_no_identity_is_listed(tmp_path: Path) -> None:
    scan(tmp_path / "a.nii", {**BW, "patient_id": "MARKER", "PatientName": "MARKER"})
    scan(tmp_path / "b.nii", {"calibration": {"type": "MARKER"}, "patient_id": "MARKER"})
    scan(tmp_path / "c.nii", '{"calibration": "MARKER", ')
    inspection = inspect([tmp_path])
    assert inspection.found == 3
    assert "MARKER" not in json.dumps(inspection.to_json()) + repr(inspection) + repr(find_nifti_series([tmp_path]))


# -- the order of the affine's axes

TURNED = nibabel.affines.from_matvec(
    np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]]) @ np.diag([-4.0, 4.0, 3.0]), (100.3, -90.7, -200.1)
)
STRAIGHT = nibabel.affines.from_matvec(np.diag([-4.0, 4.0, 3.0]), (100.0, -90.0, -200.0))
SAGITTAL = nibabel.affines.from_matvec(np.array([[0, 0, 3.0], [-4.0, 0, 0], [0, -4.0, 0]]), (100.0, -90.0, -200.0))
CUBIC = nibabel.affines.from_matvec(np.diag([-4.0, -4.0, 4.0]), (0.0, 0.0, 0.0))


def foreign(folder: Path, shape: tuple[int, ...], ras: np.ndarray, **geometry: Any) -> np.ndarray:
    """A scan of random voxels that nibabel wrote, with an affine of any order beside it; its voxels by (i, j, k)."""
    voxels = np.random.default_rng(0).random(shape, dtype=np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, ras), folder / "x.nii.gz")
    (folder / "x.json").write_text(json.dumps({**BW, "patient_id": "P", "geometry": geometry}))
    return voxels


@pytest.mark.parametrize("ras", [STRAIGHT, TURNED, SAGITTAL, CUBIC], ids=["straight", "turned", "sagittal", "cubic"])
@pytest.mark.parametrize("shape", [(20, 22, 30), (20, 20, 30), (20, 30, 20), (16, 16, 16), (20, 22, 1), (1, 22, 1)])
@pytest.mark.parametrize("order", ["ijk", "kji"])
def test_either_order_of_the_affine_puts_every_voxel_where_the_header_does(
    tmp_path: Path, ras: np.ndarray, shape: tuple[int, ...], order: str
) -> None:
    lps = np.diag([-1.0, -1, 1, 1]) @ ras
    voxels = foreign(tmp_path, shape, ras, affine_lps_mm=(lps if order == "ijk" else lps[:, [2, 1, 0, 3]]).tolist())
    (series,) = find_nifti_series([tmp_path]).series
    volume = read_nifti_scan(series)
    np.testing.assert_array_equal(volume.array, voxels.transpose(2, 1, 0))
    for i, j, k in np.ndindex(*(min(n, 3) for n in shape)):
        np.testing.assert_allclose(volume.geometry.to_mm((k, j, i)), (lps @ (i, j, k, 1))[:3], atol=1e-9)
    said = [one for one in volume.calibration.warnings if "order (i, j, k)" in one]
    assert bool(said) == (order == "ijk")


@pytest.mark.parametrize("order", ["ijk", "kji"])
def test_an_affine_in_ras_is_refused_with_the_remedy(tmp_path: Path, order: str) -> None:
    foreign(
        tmp_path, (20, 20, 20), TURNED, affine_lps_mm=(TURNED if order == "ijk" else TURNED[:, [2, 1, 0, 3]]).tolist()
    )
    assert code_of(tmp_path) == "GEOMETRY_MIXED: `geometry.affine_lps_mm` of the JSON is in RAS, as the NIfTI header"
    assert "negate its first two rows" in inspect([tmp_path]).to_json()["series"][0]["remedy"]


def test_a_transposed_affine_is_refused(tmp_path: Path) -> None:
    foreign(tmp_path, (20, 20, 20), TURNED, affine_lps_mm=TURNED.T.tolist())
    assert code_of(tmp_path) == "AFFINE_INVALID: the last row of the affine is not 0, 0, 0, 1"


@pytest.mark.parametrize("axes", [(1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1)])
def test_any_other_order_is_refused(tmp_path: Path, axes: tuple[int, ...]) -> None:
    lps = np.diag([-1.0, -1, 1, 1]) @ STRAIGHT
    foreign(tmp_path, (20, 20, 20), STRAIGHT, affine_lps_mm=lps[:, [*axes, 3]].tolist())
    assert code_of(tmp_path).startswith("GEOMETRY_MIXED")


def test_the_order_is_said_in_the_cohort(tiny_cohort: Any, call: Callable[..., Any]) -> None:
    lps = np.diag([16.0, 16.0, 16.0, 1.0])
    scan(tiny_cohort.images / "a.nii", {**BW, "patient_id": "A", "geometry": {"affine_lps_mm": lps.tolist()}})
    tiny_cohort.table({"A": (1,)})
    assert call("inspect", tiny_cohort.images)["usable"] == 1
    cohort = read_cohort(tiny_cohort.images, clinical=tiny_cohort.clinical, grid=SPEC)
    (warning,) = cohort_document(cohort)["subjects"][0]["calibration"]["warnings"]
    assert warning == "GEOMETRY_MIXED: `geometry.affine_lps_mm` was read in the order (i, j, k) of the NIfTI header"


# -- what says too little, or nonsense


@pytest.mark.parametrize(
    ("sidecar", "says"),
    [
        (None, "SIDECAR_MISSING"),
        ("", "SIDECAR_INVALID: the JSON: Invalid JSON"),
        ("nonsense", "SIDECAR_INVALID: the JSON: Invalid JSON"),
        ("[" * 100_000, "SIDECAR_INVALID: the JSON: Invalid JSON"),
        (" " * 2**20 + "{}", "SIDECAR_INVALID: the JSON has 1048578 bytes"),
        ("[1]", "SIDECAR_INVALID: the JSON: Input should be an object"),
        ({}, "SIDECAR_INVALID: calibration: Field required"),
        ({"Units": "Bq/mL"}, "SIDECAR_INVALID: calibration: Field required"),
        ({"calibration": {}}, "SIDECAR_INVALID: calibration.type: Field required"),
        ({"calibration": {"type": "BQML"}}, "SIDECAR_INVALID: .* is not one of bw, lbm-james"),
        ({"calibration": {"type": "ibw"}}, "SIDECAR_INVALID: .* SUV ibw need calibration.per_bw"),
        ({"calibration": {"type": "ibw", "per_bw": 0}}, "SIDECAR_INVALID: calibration.per_bw: .*greater than 0"),
        ('{"calibration": {"type": "ibw", "per_bw": Infinity}}', "SIDECAR_INVALID: calibration.per_bw: .*finite"),
        ({"calibration": {"type": "bw", "per_bw": 0.7}}, "SIDECAR_INVALID: .*per_bw = 1"),
        ({**BW, "covariates": {"sex": "female"}}, "SIDECAR_INVALID: covariates.sex"),
        ({**BW, "series": "../../x"}, "SIDECAR_INVALID: series"),
        ({**BW, "mask": "../a.nii"}, "CORRUPT_FILE: a sidecar names a file outside its folder"),
        ({**BW, "mask": "/etc/passwd"}, "CORRUPT_FILE: a sidecar names a file outside its folder"),
        ({**BW, "mask": "C:\\a.nii"}, "CORRUPT_FILE: a sidecar names a file outside its folder"),
        ({**BW, "mask": "a\0.nii"}, "CORRUPT_FILE: a sidecar names a file outside its folder"),
        ({**BW, "mask": "m" * 5000 + ".nii"}, "SIDECAR_INVALID: mask"),
        ({**BW, "mask": "absent.nii"}, "SIDECAR_INVALID: mask"),
        ({**BW, "mask": "scan.json"}, "SIDECAR_INVALID: mask"),
        ({**BW, "mask": "scan.nii"}, "SIDECAR_INVALID: mask"),
        ({**BW, "geometry": {"affine_lps_mm": [[1, 0], [0, 1]]}}, "SIDECAR_INVALID: geometry.affine_lps_mm"),
        ({**BW, "geometry": {"affine_lps_mm": [[0] * 4] * 4}}, "AFFINE_INVALID"),
        ({**BW, "geometry": {"affine_lps_mm": np.eye(4).tolist()}}, "GEOMETRY_MIXED: .*in either order"),
        ({**BW, "geometry": {"affine_lps_mm": np.eye(4)[:3].tolist()}}, "SIDECAR_INVALID: geometry.affine_lps_mm"),
    ],
)
def test_a_sidecar_that_does_not_say_what_is_needed(tmp_path: Path, sidecar: object, says: str) -> None:
    scan(tmp_path / "scan.nii", sidecar)
    assert re.match(says, code_of(tmp_path))


@pytest.mark.parametrize("linked", ["image", "image and JSON", "everything", "the folder"])
def test_links_to_converted_scans_are_followed(twobe3: Call, tmp_path: Path, linked: str) -> None:
    """Acceptance row 69: a subset of a pool, made of links; the JSON and the mask may stay in the pool."""
    pool, subset = tmp_path / "pool", tmp_path / "subset"
    path = scan(pool / "a.nii.gz", {**BW, "patient_id": "A", "mask": "lesion.nii.gz"})
    scan(pool / "lesion.nii.gz", None)
    scan(pool / "b.nii.gz", {**BW, "patient_id": "B"}, suv=4.0)
    subset.mkdir()
    names = {"image": ["a.nii.gz"], "image and JSON": ["a.nii.gz", "a.json"], "the folder": []}
    for name in names.get(linked, ["a.nii.gz", "a.json", "lesion.nii.gz"]):
        (subset / name).symlink_to(pool / name)
    if linked == "the folder":
        (subset / "pool").symlink_to(pool)
    found = find_nifti_series([subset])
    assert sorted(one.patient_id for one in found.series) == (["A", "B"] if linked == "the folder" else ["A"])
    (series,) = (one for one in found.series if one.patient_id == "A")
    assert series.digest == next(one for one in find_nifti_series([pool]).series if one.patient_id == "A").digest
    mask = NiftiScan(series).contour(read_nifti_scan(series))
    assert mask is not None
    assert mask.array.all()
    inspected = twobe3("inspect", subset, "--json").json()
    assert (inspected["found"], inspected["usable"]) == (len(found.series), len(found.series))
    inspected = twobe3("inspect", subset / "a.nii.gz" if "image" in linked else path, "--json").json()
    assert [one["path"] for one in inspected["series"] if one["usable"]] == ["a.nii.gz"]


def test_one_nifti_file_by_several_ways_is_one_scan(tmp_path: Path) -> None:
    """Links to the file, with or without a link to its JSON; a JSON that says something else makes another scan."""
    scan(tmp_path / "pool" / "0a1b.nii.gz", {**BW, "patient_id": "A"})
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scan.nii.gz").symlink_to("../pool/0a1b.nii.gz")
    (tmp_path / "two" / "scan.json").symlink_to("../pool/0a1b.json")
    assert [one.patient_id for one in find_nifti_series([tmp_path]).series] == ["A"]
    (tmp_path / "three" / "scan.json").write_text(json.dumps({**BW, "patient_id": "B"}))
    assert sorted(one.patient_id for one in find_nifti_series([tmp_path]).series) == ["A", "B"]


def test_a_stored_object_is_known_by_the_names_of_its_links(tmp_path: Path) -> None:
    """As data managers store files: under a digest without a suffix, in the tree beside the links or elsewhere."""
    path = scan(tmp_path / "scan.nii", {**BW, "patient_id": "A"})
    (tmp_path / "objects").mkdir()
    path.rename(tmp_path / "objects" / "d41d8cd9")
    path.symlink_to(tmp_path / "objects" / "d41d8cd9")
    assert [one.patient_id for one in find_nifti_series([tmp_path]).series] == ["A"]
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "scan.nii").symlink_to(tmp_path / "objects" / "d41d8cd9")
    assert code_of(tmp_path / "alone").startswith("SIDECAR_MISSING")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.nan, "VOXELS_INVALID: 1 of 1200 voxels are not finite"),
        (np.inf, "VOXELS_INVALID: 1 of 1200 voxels are not finite"),
        (0.0, "VOXELS_INVALID: the largest voxel is 0"),
        (-1.0, "VOXELS_INVALID: the largest voxel is 0"),
    ],
)
def test_voxels_that_are_no_suv(tmp_path: Path, value: float, says: str) -> None:
    image = nibabel.load(scan(tmp_path / "scan.nii"))
    array = np.asarray(image.dataobj) * np.float32(np.isnan(value) or np.isinf(value))
    array[1, 2, 3] = value
    nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), tmp_path / "scan.nii")
    assert code_of(tmp_path) == says


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = scan(tmp_path / "scan.nii")
    path.write_bytes(path.read_bytes()[:-1])
    assert code_of(tmp_path).startswith("CORRUPT_FILE")


def test_convert_does_not_look_at_what_is_converted(tiny_cohort: Any, tmp_path: Path) -> None:
    tiny_cohort.scan("A")
    for _ in range(2):  # the second time its own output lies among the input
        assert convert([tiny_cohort.images], tiny_cohort.images / "out").found == 1
    assert len(list((tiny_cohort.images / "out").iterdir())) == 2
