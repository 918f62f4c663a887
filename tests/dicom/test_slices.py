"""The same images twice, however they came there: used once and noted; two images under one identifier: refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from tests.command_line import Call
from tests.dicom.test_enhanced import enhanced, legacy

from twobe3.cohort.read import read_cohort
from twobe3.core.errors import UnusableScanError
from twobe3.core.grid import Grid
from twobe3.dicom.frames import choose_frame
from twobe3.dicom.series import PETSeries, find_series
from twobe3.dicom.suv_types import read_body_measurements
from twobe3.dicom.volume import read_suv

Bend = Callable[[Dataset], None]


def leave(dataset: Dataset) -> None:
    """A byte copy."""


def change(**values: Any) -> Bend:
    def bend(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return bend


def encode(syntax: str, *, new_uid: bool = False) -> Bend:
    def bend(dataset: Dataset) -> None:
        if syntax in (RLELossless, JPEGLSLossless):
            dataset.compress(syntax, generate_instance_uid=new_uid)
            return
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, dtype="<u2").astype(">u2").tobytes()

    return bend


def change_voxel(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-2] + b"\xff\x00"


def change_dose(dataset: Dataset) -> None:
    dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = 3.5e8


def again(slices: list[Dataset], bend: Bend) -> list[Dataset]:
    copies = []
    for dataset in slices:
        copy = deepcopy(dataset)
        bend(copy)
        copies.append(copy)
    return copies


def one_series(folder: Path) -> PETSeries:
    found = find_series([folder])
    assert found.exclusions == ()
    (series,) = found.series
    return series


COPIES = {
    "byte copy": leave,
    "another station": change(StationName="PACS2"),
    "another name": change(PatientName="Doe^Jane^M", PatientBirthDate="19800101"),
    "times and numbers in other words": change(
        SeriesTime="110000.000000", AcquisitionTime="1100", RescaleSlope="1.0E+02", PatientWeight="70.00"
    ),
    "other corrections": change(CorrectedImage=["DECY", "SCAT", "ATTN"]),
    "implicit VR": encode(ImplicitVRLittleEndian),
    "deflated": encode(DeflatedExplicitVRLittleEndian),
    "big endian": encode(ExplicitVRBigEndian),
    "RLE": encode(RLELossless),
    "JPEG-LS": encode(JPEGLSLossless),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("twice", [1, 2, 4])
@pytest.mark.parametrize("where", ["one folder", "two folders", "an archive"])
def test_copies_are_used_once_and_noted(bench: Any, how: str, twice: int, where: str) -> None:
    """Acceptance row 64: one SOPInstanceUID, the same voxels."""
    slices = bench.slices()
    plain = bench.read(slices)
    copies = again(slices[:twice], COPIES[how])
    bench.save(slices, "in/a")
    bench.save(copies, "in/a" if where == "one folder" else "in/b", files=[f"x{i}.dcm" for i in range(twice)])
    if where == "an archive":
        with zipfile.ZipFile(bench.folder / "in" / "b.zip", "w") as archive:
            for path in (bench.folder / "in" / "b").iterdir():
                archive.write(path, f"deep/{path.name}")
                path.unlink()
    series = one_series(bench.folder / "in")
    assert (series.slices, series.frames, len(series.files)) == (4, "static", 4)
    for policy in ("lenient", "strict"):
        volume = read_suv(series, policy=policy)
        np.testing.assert_array_equal(volume.array, plain.array)
        assert volume.geometry.same_as(plain.geometry)
        (note,) = volume.calibration.warnings
        assert note.startswith(f"SLICE_DUPLICATE: {twice} of 4 files lie there again")


@pytest.mark.parametrize("how", ["RLE", "implicit VR", "byte copy", "times and numbers in other words"])
def test_copies_under_new_identifiers_are_used_once(bench: Any, how: str) -> None:
    """As pydicom's ``compress`` writes them unless it is told otherwise; every position is there twice."""
    slices = bench.slices()
    copies = again(slices, COPIES[how])
    for copy in copies:
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    bench.save(slices, "in/a")
    bench.save(copies, "in/b")
    volume = read_suv(one_series(bench.folder / "in"))
    np.testing.assert_array_equal(volume.array, bench.read(slices).array)
    assert volume.calibration.warnings[0].startswith("SLICE_DUPLICATE: 4 slices stood twice with the same pixels")


def test_frames_that_look_alike_at_other_times_stay_frames(bench: Any) -> None:
    """Nothing but the time of acquisition differs: no copy."""
    slices = bench.slices()
    later = again(slices, change(AcquisitionTime="111000"))
    for one in later:
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    (series,) = find_series([bench.save([*slices, *later])]).series
    assert (series.frames, choose_frame(series, 2).slices) == ("dynamic", 4)


def test_two_incomplete_copies_complete_each_other(bench: Any) -> None:
    slices = bench.slices()
    bench.save(slices[:3], "in/a")
    bench.save(again(slices[1:], encode(RLELossless)), "in/b")
    volume = read_suv(one_series(bench.folder / "in"))
    np.testing.assert_array_equal(volume.array, bench.read(slices).array)
    assert volume.calibration.warnings[0].startswith("SLICE_DUPLICATE: 2 of 4 files lie there again")


def test_the_fuller_folder_is_used(bench: Any) -> None:
    slices = bench.slices()
    whole = bench.save(slices, "in/b")
    bench.save(again(slices[:3], change(StationName="PACS2")), "in/a")
    assert {path.parent for path in one_series(bench.folder / "in").files} == {whole}


@pytest.mark.parametrize("which", ["the first", "the second"])
def test_a_copy_that_was_cut_short_does_not_count(bench: Any, which: str) -> None:
    slices = bench.slices()
    a, b = bench.save(slices, "in/a"), bench.save(again(slices, change(StationName="PACS2")), "in/b")
    damaged = (a if which == "the first" else b) / "002.dcm"
    damaged.write_bytes(damaged.read_bytes()[:-17])
    volume = read_suv(one_series(bench.folder / "in"))
    np.testing.assert_array_equal(volume.array, bench.read(slices).array)
    assert volume.calibration.warnings[0].endswith("used once; 1 copy cannot be read")


@pytest.mark.parametrize(
    ("bend", "differs"),
    [
        (change_voxel, "voxels"),
        (change(RescaleSlope=99.0), "slope"),
        (change(ImagePositionPatient=[-10.0, -20.0, 104.0]), "position"),
        (change(PixelSpacing=[2.0, 4.1]), "spacing"),
        (change(PatientWeight=80), "weight"),
        (change(AcquisitionTime="110500"), "acquisition time"),
        (change_dose, "dose"),
        (change(CorrectedImage=["DECY"]), "corrections"),
    ],
)
def test_two_images_of_one_identifier_are_refused(bench: Any, bend: Bend, differs: str) -> None:
    """Acceptance row 64: a copy that says something else of place or SUV is none."""
    slices = bench.slices()
    bench.save([*slices, *again(slices[1:2], bend)])
    with pytest.raises(UnusableScanError, match=rf"INSTANCE_CONFLICT: two files with one SOPInstanceUID.*: {differs}"):
        read_suv(find_series([bench.folder]).series[0])


WITHOUT_EFFECT = {
    "height": change(PatientSize=1.80),
    "sex": change(PatientSex="M"),
    "thickness": change(SliceThickness=2.0),
    "model": change(ManufacturerModelName="Biograph"),
}


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
@pytest.mark.parametrize("identifier", ["the same", "a new one"])
def test_copies_that_differ_in_what_decides_nothing_are_used_once(bench: Any, name: str, identifier: str) -> None:
    """Acceptance row 64: identifier and voxels decide; SUV by weight know no height, no sex, and no thickness."""
    slices = bench.slices()
    copies = again(slices, WITHOUT_EFFECT[name])
    for copy in copies if identifier == "a new one" else ():
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    bench.save(slices, "in/a")
    bench.save(copies, "in/b")
    series = one_series(bench.folder / "in")
    volume = read_suv(series)
    np.testing.assert_array_equal(volume.array, bench.read(slices).array)
    assert volume.geometry.spacing_mm[0] == 3.0
    (note,) = volume.calibration.warnings
    assert note.endswith(f"; copies differ in {name}, which the values do not depend on")


@pytest.mark.parametrize("units", [("GML", "LBM"), ("CM2ML", "BSA")])
def test_copies_that_differ_in_what_their_norm_needs_are_refused(bench: Any, units: tuple[str, str]) -> None:
    slices = again(bench.slices(), change(Units=units[0], SUVType=units[1]))
    bench.save([*slices, *again(slices, WITHOUT_EFFECT["height"])])
    with pytest.raises(UnusableScanError, match=r"INSTANCE_CONFLICT: .* differ: height"):
        read_suv(find_series([bench.folder]).series[0])


@pytest.mark.parametrize("name", ["height", "sex"])
def test_no_other_type_of_suv_is_made_of_a_contradicted_body(bench: Any, name: str) -> None:
    slices = bench.slices()
    bench.save([*slices, *again(slices, WITHOUT_EFFECT[name])])
    with pytest.raises(UnusableScanError, match=f"INSTANCE_CONFLICT: .* differ: {name}"):
        read_body_measurements(one_series(bench.folder))


def test_a_contradicted_covariate_is_none(bench: Any) -> None:
    slices = bench.slices()
    bench.save([*slices, *again(slices, change(PatientSex="M", PatientAge=""))])
    assert set(one_series(bench.folder).covariates) == {"age_years", "weight_kg", "height_m"}


@pytest.mark.parametrize("identifier", ["the same", "a new one"])
def test_copies_of_a_slice_that_is_alone_have_one_thickness(bench: Any, identifier: str) -> None:
    (slice_,) = bench.slices()[:1]
    (copy,) = again([slice_], WITHOUT_EFFECT["thickness"])
    if identifier == "a new one":
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    bench.save([slice_, copy])
    with pytest.raises(UnusableScanError, match="differ: thickness"):
        read_suv(find_series([bench.folder]).series[0])


@pytest.mark.parametrize(("bend", "differs"), [(change(PatientWeight=80), "weight"), (change_dose, "dose")])
def test_copies_under_new_identifiers_have_one_suv(bench: Any, bend: Bend, differs: str) -> None:
    slices = bench.slices()
    copies = again(slices, bend)
    for copy in copies:
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    bench.save([*slices, *copies])
    with pytest.raises(UnusableScanError, match=rf"SLICE_DUPLICATE: two slices at 100\.00 mm .* differ: {differs}"):
        read_suv(find_series([bench.folder]).series[0])


def test_images_that_all_have_one_identifier_are_refused(bench: Any) -> None:
    slices = again(bench.slices(), change(SOPInstanceUID="1.2.3"))
    with pytest.raises(UnusableScanError, match="INSTANCE_CONFLICT"):
        read_suv(find_series([bench.save(slices)]).series[0])


@pytest.mark.parametrize("make", [enhanced, legacy])
@pytest.mark.parametrize("how", ["byte copy", "another station", "RLE"])
def test_copies_of_a_multi_frame_object(bench: Any, make: Callable[..., Dataset], how: str) -> None:
    whole = make(bench.slices())
    folder = bench.save([whole, *again([whole], COPIES[how])])
    series = one_series(folder)
    assert (series.slices, series.frames) == (4, "static")
    np.testing.assert_array_equal(read_suv(series).array, bench.read([whole]).array)
    other = again([whole], change_voxel)
    with pytest.raises(UnusableScanError, match=r"INSTANCE_CONFLICT.*: voxels"):
        bench.read([whole, *other])


def test_a_frame_of_a_dynamic_series_that_is_there_twice(bench: Any) -> None:
    slices = bench.slices()
    later = again(slices, change(AcquisitionTime="111000", RescaleSlope=200.0))
    for one in later:
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    frames = again([*slices, *later], change(SeriesType=["DYNAMIC", "IMAGE"]))
    bench.save(frames, "in/a")
    bench.save(again(frames, encode(RLELossless)), "in/b")
    series = one_series(bench.folder / "in")
    assert (series.frames, series.slices) == ("dynamic", 8)
    first, second = (read_suv(choose_frame(series, n)) for n in (1, 2))
    np.testing.assert_allclose(second.array, 2 * first.array, rtol=1e-6)
    assert any("4 of 4 files lie there again" in one for one in second.calibration.warnings)


def test_the_same_scan_twice_from_outside(bench: Any, twobe3: Call, tmp_path: Path) -> None:
    """``inspect`` and ``convert`` see one series with the SUV of one copy, a cohort one scan."""
    slices = bench.slices()
    bench.save(slices, "once/a")
    bench.save(slices, "twice/a")
    bench.save(again(slices, encode(RLELossless)), "twice/b")
    rows = []
    for name in ("once", "twice"):
        inspected = twobe3("inspect", bench.folder / name, "--json").json()
        assert (inspected["found"], inspected["usable"]) == (1, 1)
        assert twobe3("convert", bench.folder / name, "--out", tmp_path / f"out-{name}", "--json").status == 0
        (series,) = inspected["series"]
        noted = series["suv"].pop("warnings")
        assert [note.partition(":")[0] for note in noted] == (["SLICE_DUPLICATE"] if name == "twice" else [])
        rows.append((series["series_uid"], series["slices"], series["suv"]))
        cohort = read_cohort(bench.folder / name, grid=Grid((4.0,) * 3, (32.0, 32.0, 32.0)))
        assert (cohort.found, cohort.patients, cohort.exclusions) == (1, ("P1",), ())
    assert rows[0] == rows[1]
    (one,), (two,) = (list((tmp_path / f"out-{name}").glob("*.nii.gz")) for name in ("once", "twice"))
    assert (one.name, one.read_bytes()) == (two.name, two.read_bytes())


def test_one_image_under_two_patients_is_two_scans(bench: Any) -> None:
    """Whether they are one person is a question of the cohort, which keeps them in one fold."""
    slices = bench.slices()
    bench.save([*slices, *again(slices, change(PatientID="P2"))])
    found = find_series([bench.folder])
    assert sorted(one.patient_id for one in found.series) == ["P1", "P2"]
    one, two = (read_suv(series) for series in found.series)
    np.testing.assert_array_equal(one.array, two.array)
    assert one.calibration.warnings == two.calibration.warnings == ()
    assert pydicom.dcmread(found.series[0].files[0]).PatientID == "P1"
