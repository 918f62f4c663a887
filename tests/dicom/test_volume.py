import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedPETImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from twobe3.core.errors import UnusableScanError
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv

FACTOR = 70e3 / 370e6 * 2 ** (3600 / 6586.2)


def nifti(path: Path) -> np.ndarray:
    """An image that others wrote, as (slices, rows, columns); these files run along x, y and z of LPS."""
    return nibabel.load(path).get_fdata().transpose(2, 1, 0)


# -- real data


def test_synthetic_objects_have_their_published_suv(real_data: Path) -> None:
    """Acceptance row 1."""
    with (real_data / "suv_dro" / "DRO_list.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    found = {one.files[0].parents[1].name: one for one in find_series([real_data / "suv_dro"]).series}
    assert set(found) == {row["ID"] for row in rows}
    for row in rows:
        volume = read_suv(found[row["ID"]])
        inside = nifti(real_data / "suv_dro" / row["ID"] / "mask" / "DRO_mask.nii.gz") > 0
        suv = volume.array[inside]
        values = {"SUVmin_expected": suv.min(), "SUVmed_expected": np.median(suv), "SUVmax_expected": suv.max()}
        for column, value in values.items():
            if row[column] is not None:  # one row of the published table ends early
                assert value == pytest.approx(float(row[column]), abs=0.01), (row["ID"], column)
        assert not volume.array[~inside].any()


def test_whole_body_equals_its_independent_conversion(real_data: Path) -> None:
    (series,) = find_series([real_data / "ge_whole_body"]).series
    volume = read_suv(series)
    expected = nifti(real_data / "sts" / "nifti" / "STS_001" / "PET_image.nii.gz")
    slices, rows, columns = expected.shape
    crop = volume.array[:slices, 45 : 45 + rows, 59 : 59 + columns]
    np.testing.assert_allclose(crop, expected, atol=1e-3)
    assert crop.max() == pytest.approx(25.4123, abs=1e-3)
    assert volume.calibration.factor_min == volume.calibration.factor_max == pytest.approx(2.42903e-4, rel=1e-5)
    assert volume.calibration.warnings == ()


@pytest.mark.parametrize("patient", [f"STS_{n:03}" for n in range(1, 6)])
def test_sarcoma_scans_equal_their_independent_conversion(real_data: Path, patient: str) -> None:
    (series,) = find_series([real_data / "sts" / "dicom" / patient]).series
    volume = read_suv(series, policy="strict")
    path = real_data / "sts" / "nifti" / patient / "PET_image.nii.gz"
    np.testing.assert_allclose(volume.array, nifti(path), atol=1e-5)
    ras = nibabel.load(path).affine
    # (i, j, k) of the file is our (column, row, slice); RAS is LPS with x and y negated
    np.testing.assert_allclose(volume.geometry.affine[:, [2, 1, 0, 3]], np.diag([-1, -1, 1, 1]) @ ras, atol=1e-4)


# -- decoding and order


def test_each_slice_has_its_own_slope(bench: Any) -> None:
    stored = np.arange(120, dtype=np.uint16).reshape(4, 6, 5)
    volume = bench.read(bench.slices(stored, slopes=[1.5, 2.5, 0.25, 1000.0]))
    expected = stored * np.array([1.5, 2.5, 0.25, 1000.0])[:, None, None] * FACTOR
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)


def test_names_and_instance_numbers_do_not_matter(bench: Any) -> None:
    """Acceptance row 14."""
    slices = bench.slices()
    plain = bench.read(slices)
    for dataset, number in zip(slices, (9, 2, 7, 1), strict=True):
        dataset.InstanceNumber = number
    folder = bench.save([slices[i] for i in (2, 0, 3, 1)], "shuffled", files=["d", "a", "c", "b"])
    (series,) = find_series([folder]).series
    shuffled = read_suv(series)
    np.testing.assert_array_equal(shuffled.array, plain.array)
    assert shuffled.geometry.same_as(plain.geometry)


def test_signed_pixels_and_twelve_bits_in_sixteen(bench: Any) -> None:
    """Acceptance row 23."""
    signed = np.arange(-60, 60, dtype=np.int16).reshape(4, 6, 5)
    np.testing.assert_allclose(bench.read(bench.slices(signed)).array, signed * 100.0 * FACTOR, rtol=1e-6)
    stored = np.arange(4000, 4000 + 96, dtype=np.uint16).reshape(4, 6, 4)
    slices = bench.slices(stored | 0xF000)  # what stands above the stored bits is not part of the value
    for dataset in slices:
        dataset.BitsStored, dataset.HighBit = 12, 11
    np.testing.assert_allclose(bench.read(slices).array, stored * 100.0 * FACTOR, rtol=1e-6)


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEGLSLossless,
    ],
)
def test_transfer_syntaxes_give_the_same_volume(bench: Any, syntax: str) -> None:
    """Acceptance row 22: deflated, big endian, RLE, JPEG-LS."""
    stored = np.random.default_rng(0).integers(0, 30000, (2, 32, 32), dtype=np.uint16)
    plain = bench.read(bench.slices(stored))
    slices = bench.slices(stored)
    for dataset in slices:
        if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
            dataset.compress(syntax, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, dtype="<u2").astype(">u2").tobytes()
    np.testing.assert_array_equal(bench.read(slices).array, plain.array)


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEG2000Lossless"])
def test_jpeg_gives_the_same_volume(bench: Any, syntax: str) -> None:
    """Acceptance row 22: JPEG lossless, JPEG 2000."""
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm, of the extra [codecs], is not installed")
    stored = np.random.default_rng(0).integers(0, 30000, (2, 32, 32), dtype=np.uint16)
    folder = bench.save(bench.slices(stored))
    plain, compressed = find_series([folder]).series[0], bench.folder / "compressed"
    expected = read_suv(plain)
    compressed.mkdir()
    for file in plain.files:
        reader, changer, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(file))
        assert reader.Read()
        changer.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        changer.SetInput(reader.GetImage())
        assert changer.Change()
        writer.SetFileName(str(compressed / file.name))
        writer.SetFile(reader.GetFile())
        writer.SetImage(changer.GetOutput())
        assert writer.Write()
    (series,) = find_series([compressed]).series
    assert pydicom.dcmread(series.files[0]).file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(read_suv(series).array, expected.array)


def test_an_absent_codec_is_named(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acceptance row 22: what to install."""
    slices = bench.slices()
    for dataset in slices:
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    monkeypatch.setattr("pydicom.pixels.decoders.JPEGLSLosslessDecoder._available", {})
    with pytest.raises(UnusableScanError, match=r"CODEC_MISSING: JPEG-LS .* needs one of .*twobe3\[codecs\]"):
        bench.read(slices)


def test_an_unknown_transfer_syntax_is_refused(bench: Any) -> None:
    folder = bench.save(bench.slices())
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.7\0"))
    (series,) = find_series([folder]).series
    with pytest.raises(UnusableScanError, match="CODEC_MISSING"):
        read_suv(series)


# -- geometry

AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)
FLIPPED, OBLIQUE = (-1, 0, 0, 0, 1, 0), (np.cos(0.3), np.sin(0.3), 0, -np.sin(0.3), np.cos(0.3), 0)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL, FLIPPED, OBLIQUE])
@pytest.mark.parametrize("sign", [1, -1])
def test_every_voxel_keeps_its_place(bench: Any, orientation: tuple[float, ...], sign: int) -> None:
    """Acceptance row 18."""
    stored = np.zeros((4, 6, 5), dtype=np.uint16)
    stored[3, 1, 4] = 7  # asymmetric in every direction
    normal = np.cross(orientation[:3], orientation[3:])
    step = normal * 3.0 * sign
    slices = bench.slices(stored, orientation=orientation, step=step)
    volume = bench.read(slices)
    (index,) = np.argwhere(volume.array)
    # DICOM PS3.3 C.7.6.2.1.1: position + row index × row spacing along the columns, and the other way round
    expected = (
        np.array([-10, -20, 100]) + 3 * step + 1 * 2.0 * np.array(orientation[3:]) + 4 * 4.0 * np.array(orientation[:3])
    )
    np.testing.assert_allclose(volume.geometry.to_mm(index), expected, atol=1e-6)
    assert volume.geometry.affine[:3, 0] @ normal > 0
    assert volume.geometry.spacing_mm == pytest.approx((3.0, 2.0, 4.0))


def test_axial_slices_run_from_feet_to_head(bench: Any) -> None:
    assert bench.read(bench.slices(step=(0, 0, -3))).geometry.affine[2, 0] == pytest.approx(3.0)


def change(name: str, value: object, which: int = 1) -> Any:
    def bend(slices: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
        setattr(slices[which], name, value)
        return slices

    return bend


def change_all(**values: object) -> Any:
    def bend(slices: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
        for dataset in slices:
            for name, value in values.items():
                setattr(dataset, name, value)
        return slices

    return bend


def without(name: str) -> Any:
    def bend(slices: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
        for dataset in slices:
            delattr(dataset, name)
        return slices

    return bend


def sheared(slices: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
    for i, dataset in enumerate(slices):
        dataset.ImagePositionPatient = [-10.0, -20.0 + 0.2 * i, 100.0 + 3 * i]
    return slices


def twice(slices: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
    other = pydicom.Dataset.from_json(slices[1].to_json())
    other.file_meta, other.SOPInstanceUID = slices[1].file_meta, generate_uid()
    other.PixelData = bytes(reversed(slices[1].PixelData))
    return [*slices, other]


def dynamic(slices: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
    return [two for dataset in slices for two in twice([dataset, dataset])[1:]]


@pytest.mark.parametrize(
    ("bend", "code"),
    [
        (lambda slices: slices[:1] + slices[2:], "SLICE_GAP"),
        (change("PixelSpacing", [2.0, 4.1]), "GEOMETRY_MIXED"),
        (change("ImageOrientationPatient", [0, 1, 0, -1, 0, 0]), "GEOMETRY_MIXED"),
        (change("ImagePositionPatient", [-10, -20, 104.4]), "GEOMETRY_MIXED"),
        (change("ImagePositionPatient", [-6, -20, 103]), "GEOMETRY_MIXED"),
        (sheared, "SHEARED"),
        (twice, "SLICE_DUPLICATE"),
        (change_all(SeriesType=["DYNAMIC", "IMAGE"]), "NOT_STATIC"),
        (change_all(NumberOfFrames=3), "MULTI_FRAME"),
        (change_all(SOPClassUID=EnhancedPETImageStorage), "MULTI_FRAME"),
        (change_all(Rows=60000, Columns=60000, NumberOfFrames=300), "TOO_LARGE"),
        (change_all(Rows=20000, Columns=20000), "TOO_LARGE"),
        (without("PixelSpacing"), "CORRUPT_FILE"),
        (without("ImagePositionPatient"), "CORRUPT_FILE"),
        (without("PixelData"), "CORRUPT_FILE"),
        (change("PixelData", b"\0" * 20), "CORRUPT_FILE"),
        (change("Units", "CNTS"), "UNITS_UNSUPPORTED"),
        (without("PatientWeight"), "WEIGHT_MISSING"),
        (change_all(PatientWeight=""), "WEIGHT_MISSING"),
        (without("RadiopharmaceuticalInformationSequence"), "HALF_LIFE_MISSING"),
        (change("RescaleIntercept", -1024), "RESCALE_INVALID"),
        (change("RescaleSlope", 1e60), "RESCALE_INVALID"),
    ],
)
def test_refusals(bench: Any, bend: Any, code: str) -> None:
    """Acceptance rows 4, 13, 15, 16, 19, 20, 21 and 25."""
    with pytest.raises(UnusableScanError) as refused:
        bench.read(bend(bench.slices()))
    assert refused.value.code.name == code


def test_rows_that_differ_are_refused(bench: Any) -> None:
    """Acceptance row 20."""
    slices = bench.slices()
    slices[2].Rows, slices[2].Columns = 5, 6
    with pytest.raises(UnusableScanError, match="GEOMETRY_MIXED"):
        bench.read(slices)


def test_a_gap_is_placed(bench: Any) -> None:
    """Acceptance row 15."""
    slices = bench.slices(np.ones((6, 6, 5), np.uint16))
    with pytest.raises(UnusableScanError, match=r"1 slice is missing.*between 103\.00 and 109\.00 mm"):
        bench.read(slices[:2] + slices[3:])


def test_slices_missing_at_an_end_are_noted(bench: Any) -> None:
    slices = bench.slices()
    for dataset in slices:
        dataset.NumberOfSlices = 5
    assert bench.read(slices).calibration.warnings[0].startswith("SLICE_GAP: 4 of 5")
    with pytest.raises(UnusableScanError, match="SLICE_GAP"):
        bench.read(slices, policy="strict")


def test_every_position_repeated_is_dynamic(bench: Any) -> None:
    """Acceptance row 21."""
    with pytest.raises(UnusableScanError, match="NOT_STATIC"):
        bench.read(dynamic(bench.slices()))


def test_the_same_slice_twice_is_used_once(bench: Any) -> None:
    """Acceptance row 16: the same pixels; different ones are among the refusals above."""
    slices = bench.slices()
    plain = bench.read(slices)
    copy = pydicom.Dataset.from_json(slices[1].to_json())
    copy.file_meta, copy.SOPInstanceUID = slices[1].file_meta, generate_uid()
    doubled = bench.read([*slices, copy])
    np.testing.assert_array_equal(doubled.array, plain.array)
    assert doubled.calibration.warnings[0].startswith("SLICE_DUPLICATE")
    with pytest.raises(UnusableScanError, match="SLICE_DUPLICATE"):
        bench.read([*slices, copy], policy="strict")


def test_a_file_cut_short_is_corrupt(bench: Any) -> None:
    """Acceptance row 24: truncated PixelData."""
    folder = bench.save(bench.slices())
    file = folder / "002.dcm"
    file.write_bytes(file.read_bytes()[:-17])
    (series,) = find_series([folder]).series
    with pytest.raises(UnusableScanError, match="CORRUPT_FILE"):
        read_suv(series)


# -- private scale factors of Philips


def counts(bench: Any, creator: str | None, manufacturer: str = "Philips") -> list[pydicom.Dataset]:
    slices = bench.slices()
    for dataset in slices:
        dataset.Units, dataset.Manufacturer = "CNTS", manufacturer
        if creator is None:
            dataset.add_new((0x7053, 0x1000), "DS", "0.0005")
        else:
            dataset.private_block(0x7053, creator, create=True).add_new(0x00, "DS", "0.0005")
    return slices


def test_philips_factor_under_its_creator(bench: Any) -> None:
    volume = bench.read(counts(bench, "Philips PET Private Group"), policy="strict")
    assert volume.array.max() == pytest.approx(119 * 100 * 0.0005)
    assert volume.calibration.rule == "PHILIPS_SUV"


def test_philips_factor_under_another_creator_is_ignored(bench: Any) -> None:
    """Acceptance row 12."""
    with pytest.raises(UnusableScanError, match="NO_SCALE_FACTOR"):
        bench.read(counts(bench, "SOMEBODY ELSE"))


def test_philips_factor_whose_creator_was_removed(bench: Any) -> None:
    """Acceptance row 11: the creator removed and the factor left."""
    assert bench.read(counts(bench, None)).calibration.warnings[0].startswith("NO_SCALE_FACTOR")
    with pytest.raises(UnusableScanError, match="NO_SCALE_FACTOR"):
        bench.read(counts(bench, None), policy="strict")
    with pytest.raises(UnusableScanError, match="NO_SCALE_FACTOR"):
        bench.read(counts(bench, None, manufacturer="Other"))
