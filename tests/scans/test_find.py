from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid

from twobe3.core.errors import ConfigurationError, EmptyInputError, UnusableScanError
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv as read_series
from twobe3.scans.find import find_scans, read_suv
from twobe3.scans.inspect import convert


def without_attenuation_correction(slices: list[Dataset]) -> list[Dataset]:
    uid = generate_uid()
    for one in slices:
        one.SeriesInstanceUID, one.CorrectedImage = uid, ["DECY"]
    return slices


def ct(slices: list[Dataset]) -> list[Dataset]:
    uid = generate_uid()
    for one in slices:
        one.Modality, one.SOPClassUID, one.SeriesInstanceUID = "CT", CTImageStorage, uid
        one.file_meta.MediaStorageSOPClassUID = CTImageStorage
    return slices


def test_the_one_scan_of_a_folder_is_read(bench: Any) -> None:
    folder = bench.save(bench.slices(), "in/PET")
    bench.save(without_attenuation_correction(bench.slices()), "in/NAC")
    bench.save(ct(bench.slices()), "in/CT")
    (series,) = find_series([folder]).series
    expected = read_series(series)
    volume = read_suv(str(folder.parent))
    np.testing.assert_array_equal(volume.array, expected.array)
    assert (volume.source, volume.calibration) == (expected.source, expected.calibration)


def test_a_converted_scan_is_read_too(bench: Any) -> None:
    convert([bench.save(bench.slices())], bench.folder / "nifti")
    np.testing.assert_array_equal(read_suv(bench.folder / "nifti").array, bench.read(bench.slices()).array)


def test_of_several_scans_none_is_guessed(bench: Any) -> None:
    bench.save(bench.slices(), "in/1")
    second = bench.slices()
    uid = generate_uid()
    for one in second:
        one.SeriesInstanceUID = uid
    bench.save(second, "in/2")
    with pytest.raises(ConfigurationError, match="NOT_CHOSEN: 'in' holds 2 scans: se-"):
        read_suv(bench.folder / "in")


def test_a_scan_that_cannot_be_used_says_why(bench: Any, tmp_path: Path) -> None:
    folder = bench.save(without_attenuation_correction(bench.slices()))
    with pytest.raises(UnusableScanError, match="NOT_ATTN"):
        read_suv(folder)
    with pytest.raises(EmptyInputError, match="NO_PET"):
        read_suv(bench.save(ct(bench.slices()), "CT"))
    (bench.folder / "silent").mkdir()
    (bench.folder / "silent" / "a.nii.gz").write_bytes(b"")
    with pytest.raises(UnusableScanError, match="SIDECAR_MISSING"):
        read_suv(bench.folder / "silent")


def test_what_is_found_is_used_or_listed(bench: Any) -> None:
    bench.save(bench.slices(), "in/PET")
    bench.save(without_attenuation_correction(bench.slices()), "in/NAC")
    bench.save(ct(bench.slices()), "in/CT")
    found = find_scans([bench.folder / "in"])
    assert found.n_series == 3 == len(found.series) + len(found.unused)
    assert [one.code for one in found.exclusions] == ["NOT_PET", "NOT_ATTN"]
    assert found.patients == {found.series[0].patient}
