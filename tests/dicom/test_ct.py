"""CT beside PET: Hounsfield units, geometry, and which CT goes with which PET."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.core.grid import Grid, place_grid, resample, resample_array
from twobe3.core.volume import AIR_HU, CTVolume, Geometry
from twobe3.dicom.ct import read_ct
from twobe3.dicom.ct_series import CTSeries, is_sharp
from twobe3.dicom.series import PETSeries, find_series
from twobe3.dicom.volume import read_suv

SHAPE = (6, 16, 12)


def ct_slices(bench: Any, pet: Sequence[Dataset], hu: np.ndarray | None = None, **geometry: Any) -> list[Dataset]:
    """The slices of a CT of the PET's patient, study and frame of reference, stored with intercept -1024."""
    if hu is None:
        hu = np.full(SHAPE, -1000)
        hu[:, 4:12, 3:9] = 40
    slices: list[Dataset] = bench.slices((hu + 1024).astype(np.uint16), patient=pet[0].PatientID, **geometry)
    for one in slices:
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = CTImageStorage
        one.Modality, one.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.StudyInstanceUID, one.FrameOfReferenceUID = pet[0].StudyInstanceUID, pet[0].FrameOfReferenceUID
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, -1024, "HU"
        one.ConvolutionKernel = "STANDARD"
    return slices


def find(bench: Any, pet: Sequence[Dataset], *cts: Sequence[Dataset]) -> PETSeries:
    folder = bench.save(pet, generate_uid())
    others = [bench.save(ct, generate_uid()) for ct in cts]
    (series,) = find_series([folder, *others]).series
    return series


def read(bench: Any, ct: Sequence[Dataset], pet: Sequence[Dataset]) -> CTVolume:
    series = find(bench, pet, ct)
    assert isinstance(series.ct, CTSeries)
    return read_ct(series.ct)


def code(bench: Any, ct: Sequence[Dataset], pet: Sequence[Dataset]) -> str:
    """Why a CT is refused: by its headers, or when it is read."""
    series = find(bench, pet, ct)
    if isinstance(series.ct, Exclusion):
        return series.ct.code
    assert series.ct is not None
    with pytest.raises(UnusableScanError) as refused:
        read_ct(series.ct)
    return refused.value.code.name


def put(slices: Sequence[Dataset], **values: Any) -> list[Dataset]:
    for one in slices:
        for keyword, value in values.items():
            if value is None:
                delattr(one, keyword)
            else:
                setattr(one, keyword, value)
    return list(slices)


@pytest.mark.parametrize("number", [1, 4, 35])
def test_real_ct_is_what_simpleitk_reads(real_data: Path, number: int) -> None:
    name = f"STS_{number:03d}"
    found = find_series([real_data / "sts" / "dicom" / name, real_data / "sts_ct" / name])
    (series,) = found.series
    assert isinstance(series.ct, CTSeries)
    assert (found.unused, series.ct.same_frame) == ((), True)
    ct, folder = read_ct(series.ct), str(real_data / "sts_ct" / name / "CT")
    expected = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(folder))
    np.testing.assert_array_equal(ct.array, SimpleITK.GetArrayFromImage(expected))
    for index in ((0, 0, 0), (5, 40, 70)):
        np.testing.assert_allclose(
            ct.geometry.to_mm(index), expected.TransformIndexToPhysicalPoint(index[::-1]), atol=1e-6
        )


def test_real_chest_ct_has_its_intercept(real_data: Path, bench: Any) -> None:
    """The IBSI-1 chest phantom, whose intercept is -1000, beside a PET of its frame."""
    files = sorted((real_data / "ibsi1_chest" / "dicom").rglob("*.dcm"))
    first = next(one for one in map(pydicom.dcmread, files) if one.Modality == "CT")
    pet = put(
        bench.slices(), PatientID=first.PatientID, FrameOfReferenceUID=first.FrameOfReferenceUID,
        StudyInstanceUID=first.StudyInstanceUID,
    )  # fmt: skip
    bench.save(pet)
    (series,) = find_series([bench.folder, real_data / "ibsi1_chest" / "dicom"]).series
    assert isinstance(series.ct, CTSeries)
    folder = str(Path(series.ct.files[0]).parent)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(folder, str(first.SeriesInstanceUID))
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(names))
    np.testing.assert_array_equal(read_ct(series.ct).array, expected)
    assert expected.min() == -1000


ORIENTATIONS = {
    "axial": ((1, 0, 0, 0, 1, 0), (0, 0, 1)),
    "feet first": ((1, 0, 0, 0, 1, 0), (0, 0, -1)),
    "prone": ((-1, 0, 0, 0, -1, 0), (0, 0, 1)),
    "coronal": ((1, 0, 0, 0, 0, -1), (0, 1, 0)),
    "sagittal": ((0, 1, 0, 0, 0, -1), (1, 0, 0)),
    "oblique": ((0.8, 0.6, 0, -0.6, 0.8, 0), (0, 0, 1)),
    "twice oblique": ((0.8, 0, 0.6, 0.36, 0.8, -0.48), (-0.48, 0.6, 0.64)),
}


@pytest.mark.parametrize("ct_lies", ORIENTATIONS)
@pytest.mark.parametrize("pet_lies", ["axial", "oblique"])
def test_a_landmark_of_the_ct_lands_on_the_voxel_of_the_pet(bench: Any, pet_lies: str, ct_lies: str) -> None:
    """A ball of bone at a known place in mm, written in any orientation, on the grid that follows from the PET."""
    landmark = np.array([3.0, -6.0, 130.0])

    def paint(orientation: Any, normal: Any, shape: Any, spacing: Any) -> tuple[np.ndarray, np.ndarray]:
        axes = np.column_stack([np.array(normal) * spacing[0], np.array(orientation[3:]) * 2.0,
                                np.array(orientation[:3]) * 4.0])  # fmt: skip
        origin = np.array([0.0, 0.0, 120.0]) - axes @ ((np.array(shape) - 1) / 2)
        places = np.moveaxis(np.indices(shape), 0, -1) @ axes.T + origin
        return np.linalg.norm(places - landmark, axis=-1), origin

    orientation, normal = ORIENTATIONS[pet_lies]
    distance, origin = paint(orientation, normal, (30, 48, 24), (3.0,))
    pet = bench.slices(
        (100 + 5000 * (distance < 9)).astype(np.uint16), orientation=orientation, origin=origin,
        step=np.array(normal) * 3.0,
    )  # fmt: skip
    orientation, normal = ORIENTATIONS[ct_lies]
    distance, origin = paint(orientation, normal, (60, 40, 30), (1.5,))
    ct = ct_slices(
        bench, pet, np.where(distance < 9, 1000, 0), orientation=orientation, origin=origin, step=np.array(normal) * 1.5
    )
    put(ct, SliceThickness=1.5)
    ct[0].PixelData = np.full((40, 30), 0, np.uint16).tobytes()  # some air, so that these are HU
    series = find(bench, pet, ct)
    assert isinstance(series.ct, CTSeries)
    suv, hu, grid = read_suv(series), read_ct(series.ct), Grid(4.0, (112.0, 112.0, 112.0))
    target = place_grid(suv.geometry, grid)
    pet_on_grid = resample(suv, grid).array
    ct_on_grid = resample_array(hu.array, hu.geometry, target, outside=AIR_HU)
    for array, level in ((pet_on_grid, pet_on_grid.max() / 2), (ct_on_grid, 500.0)):
        centre = target.to_mm(np.argwhere(array > level).mean(axis=0))
        np.testing.assert_allclose(centre, landmark, atol=1.0)


def test_fine_ct_is_averaged_and_beyond_it_is_air() -> None:
    """A checkerboard finer than the grid becomes its mean; half a millimetre of linear interpolation would not."""
    fine, coarse = Geometry((40, 40, 40), np.eye(4)), np.diag([4.0, 4.0, 4.0, 1.0])
    coarse[:3, 3] = 3.0
    board = (1000.0 * (np.indices((40, 40, 40)).sum(axis=0) % 2)).astype(np.float32)
    inner = resample_array(board, fine, Geometry((8, 8, 8), coarse), outside=AIR_HU)
    np.testing.assert_allclose(inner, 500.0, atol=1.0)
    coarse[:3, 3] = 100.0
    np.testing.assert_array_equal(resample_array(board, fine, Geometry((4, 4, 4), coarse), outside=AIR_HU), AIR_HU)


def test_padding_and_what_no_tissue_has_become_air(bench: Any) -> None:
    pet = bench.slices()
    hu = np.full(SHAPE, 30)
    hu[:, :2], hu[:, 2:4], hu[:, 4:6] = -1024 + 40, -1000, -1019
    ct = put(ct_slices(bench, pet, hu), PixelPaddingValue=40, PixelPaddingRangeLimit=41)
    array = read(bench, ct, pet).array
    assert (array[:, :4] == AIR_HU).all()
    assert (array[:, 4:6] == -1019).all()
    assert (array[:, 6:] == 30).all()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"RescaleSlope": None}, "HU_MISSING"),
        ({"RescaleIntercept": None}, "HU_MISSING"),
        ({"RescaleSlope": 0}, "HU_MISSING"),
        ({"RescaleType": "US"}, "HU_MISSING"),
        ({"RescaleIntercept": 0}, "HU_IMPLAUSIBLE"),
    ],
)
def test_stored_values_without_a_way_to_hu_are_refused(bench: Any, changes: dict[str, Any], expected: str) -> None:
    pet = bench.slices()
    assert code(bench, put(ct_slices(bench, pet), **changes), pet) == expected


def test_a_missing_unit_stands_for_hu(bench: Any) -> None:
    pet = bench.slices()
    np.testing.assert_array_equal(
        read(bench, put(ct_slices(bench, pet), RescaleType=None), pet).array,
        read(bench, ct_slices(bench, pet), pet).array,
    )


def test_slices_must_lie_as_those_of_a_pet(bench: Any) -> None:
    pet = bench.slices()
    whole = ct_slices(bench, pet)
    assert code(bench, whole[:2] + whole[3:], pet) == "SLICE_GAP"
    uneven = ct_slices(bench, pet, np.full(LONG, -100))
    for i, one in enumerate(uneven):
        one.ImagePositionPatient = [-10, -20, 100 + (3.0 * i if i < 3 else 9 + 4.0 * (i - 3))]
    assert code(bench, uneven, pet) == "GEOMETRY_MIXED"
    twice = ct_slices(bench, pet)
    twice[3].ImagePositionPatient = twice[2].ImagePositionPatient
    twice[3].PixelData = bytes(len(twice[3].PixelData))
    assert code(bench, twice, pet) == "SLICE_DUPLICATE"
    mixed = ct_slices(bench, pet)
    mixed[2].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    assert code(bench, mixed, pet) == "GEOMETRY_MIXED"
    tilt = np.tan(np.radians(15))
    tilted = put(ct_slices(bench, pet, step=(0, 3 * tilt, 3)), GantryDetectorTilt=15)
    series = find(bench, pet, tilted)
    assert isinstance(series.ct, CTSeries)
    with pytest.raises(UnusableScanError, match=r"SHEARED: the gantry was tilted by 15°"):
        read_ct(series.ct)


def test_breathing_cycles_and_enhanced_objects_are_told_by_their_headers(bench: Any) -> None:
    pet = bench.slices()
    first, second = ct_slices(bench, pet), ct_slices(bench, pet)
    cycle = [*first, *put(second, SeriesInstanceUID=first[0].SeriesInstanceUID)]
    assert code(bench, cycle, pet) == "NOT_STATIC"
    assert code(bench, put(ct_slices(bench, pet)[:1], SOPClassUID=EnhancedCTImageStorage), pet) == "MULTI_FRAME"


def test_ct_of_somebody_else_or_of_another_frame_is_refused(bench: Any) -> None:
    pet, frame, study = bench.slices(), generate_uid(), generate_uid()
    other_frame = put(ct_slices(bench, pet), FrameOfReferenceUID=frame)
    series = find(bench, pet, other_frame)
    assert isinstance(series.ct, CTSeries)
    assert not series.ct.same_frame
    assert code(bench, put(other_frame, StudyInstanceUID=study), pet) == "CT_FRAME"
    assert code(bench, put(ct_slices(bench, pet), PatientID="P2"), pet) == "CT_PATIENT"
    mr = put(ct_slices(bench, pet), Modality="MR", SOPClassUID=MRImageStorage)
    assert code(bench, mr, pet) == "NOT_CT"
    stranger = put(ct_slices(bench, pet), PatientID="P2", FrameOfReferenceUID=frame, StudyInstanceUID=study)
    assert find(bench, pet, stranger).ct is None
    assert "P2" not in repr(find(bench, pet, put(ct_slices(bench, pet), PatientID="P2")).ct)


def test_localisers_and_captures_are_no_ct(bench: Any) -> None:
    pet = bench.slices()
    ct = ct_slices(bench, pet)
    scout = put(ct_slices(bench, pet)[:2], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    put(scout, SeriesInstanceUID=ct[0].SeriesInstanceUID)  # even within the series
    capture = put(ct_slices(bench, pet)[:1], SOPClassUID=SecondaryCaptureImageStorage)
    bench.save(pet)
    for name, slices in (("ct", ct), ("scout", scout), ("capture", capture)):
        bench.save(slices, name)
    found = find_series([bench.folder])
    (series,) = found.series
    assert isinstance(series.ct, CTSeries)
    assert series.ct.slices == len(ct)
    assert [one.code for one in found.exclusions] == ["NOT_PET", "NOT_PET"]
    assert all("localisers" in one.reason for one in found.exclusions)


LONG = (20, 16, 12)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({}, {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"], "SeriesDescription": "CTAC"}),
        ({}, {"ContrastBolusAgent": "OMNIPAQUE"}),
        ({"ContrastBolusAgent": "NONE"}, {"ContrastBolusVolume": 80}),
        ({}, {"ConvolutionKernel": "LUNG"}),
        ({"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B70f"}),
        ({"SeriesDescription": "AC CT 5.0"}, {"SeriesDescription": "CT NAC 5.0"}),
        ({"SeriesDescription": "CTAC WB", "ContrastBolusAgent": "X"}, {"ConvolutionKernel": "SOFT"}),
    ],
)
def test_the_order_in_which_a_ct_is_chosen(bench: Any, better: dict[str, Any], worse: dict[str, Any]) -> None:
    pet = bench.slices()
    for order in (1, -1):
        wanted, other = put(ct_slices(bench, pet), **better), put(ct_slices(bench, pet), **worse)
        series = find(bench, pet, *(wanted, other)[::order])
        assert isinstance(series.ct, CTSeries)
        assert pydicom.dcmread(series.ct.files[0]).SeriesInstanceUID == wanted[0].SeriesInstanceUID


def test_coverage_goes_before_names_and_the_step_decides_last(bench: Any) -> None:
    pet = bench.slices(np.ones((20, 6, 5), np.uint16))
    hu = np.full(LONG, 40)
    hu[:, :3] = -1000
    whole, half = ct_slices(bench, pet, hu), put(ct_slices(bench, pet, hu[:9]), SeriesDescription="CTAC")
    series = find(bench, pet, half, whole)
    assert isinstance(series.ct, CTSeries)
    assert series.ct.slices == 20
    fine = ct_slices(bench, pet, np.repeat(hu, 3, axis=0), step=(0, 0, 1))
    series = find(bench, pet, fine, whole)
    assert isinstance(series.ct, CTSeries)
    assert series.ct.slices == 20


@pytest.mark.parametrize("kernel", ["LUNG", "BONEPLUS", "B70f", "Br64", "BL57", "I70f", "FC51", "FC30", "YD", "L"])
def test_sharp_kernels(kernel: str) -> None:
    assert is_sharp(kernel) == (kernel != "BL57")


@pytest.mark.parametrize("kernel", ["", "SOFT", "STANDARD", "B31f", "Br40f", "I30f", "FC08", "FC13", "B", "C", "FL01"])
def test_soft_kernels(kernel: str) -> None:
    assert not is_sharp(kernel)
