"""Files as other tools store them: without preamble, without file meta information."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
)

from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv
from twobe3.scans.inspect import convert, inspect


def store_bare(dataset: Dataset, path: Path, syntax: str) -> None:
    """Write the data set alone, with pydicom."""
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    bare = Dataset()
    bare.update(dataset)
    pydicom.dcmwrite(path, bare, implicit_vr=implicit, little_endian=little)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_bare_data_sets_give_the_same_suv_and_a_note(bench: Any, syntax: str) -> None:
    """Acceptance row 66."""
    plain, folder = bench.read(bench.slices()), bench.folder / "bare"
    folder.mkdir()
    for i, dataset in enumerate(bench.slices()):
        store_bare(dataset, folder / f"{i:03}", syntax)
    (series,) = find_series([folder]).series
    volume = read_suv(series, policy="strict")
    np.testing.assert_array_equal(volume.array, plain.array)
    name = pydicom.uid.UID(syntax).name
    assert volume.calibration.warnings == (f"FILE_META_MISSING: 4 of 4 files have none; they were read as {name}",)
    (entry,) = inspect([folder]).to_json()["series"]
    assert entry["suv"]["warnings"][0].startswith("FILE_META_MISSING")
    assert convert([folder], bench.folder / "out").usable == 1


@pytest.mark.parametrize(
    "beginning",
    ["no preamble", "no preamble but DICM", "no syntax", "preamble only", "preamble without DICM", "zeros only"],
)
def test_parts_of_the_beginning_that_are_missing(bench: Any, beginning: str) -> None:
    plain, folder = bench.read(bench.slices()), bench.save(bench.slices())
    for path in folder.iterdir():
        content = path.read_bytes()
        start = content.index(b"\x08\x00\x16\x00")
        match beginning:
            case "no preamble":
                content = content[132:]
            case "no preamble but DICM":
                content = content[128:]
            case "no syntax":
                group_length = b"\x02\x00\x02\x00UI\x02\x00\x001"
                content = content[:132] + group_length + content[start:]
            case "preamble without DICM":
                content = content[:128] + content[132:]
            case "zeros only":
                content = content[:128] + content[start:]
            case "preamble only":
                content = content[:132] + content[start:]
        path.write_bytes(content)
    (series,) = find_series([folder]).series
    volume = read_suv(series)
    np.testing.assert_array_equal(volume.array, plain.array)
    assert [warning.split(":")[0] for warning in volume.calibration.warnings] == ["FILE_META_MISSING"]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_truncated_bare_file_is_refused(bench: Any, syntax: str) -> None:
    store_bare(bench.slices()[0], bench.folder / "whole", syntax)
    content = (bench.folder / "whole").read_bytes()
    (bench.folder / "whole").unlink()
    for end in (6, 30, 60, 300, len(content) - 70, len(content) - 20):
        folder = bench.folder / f"cut-{end}"
        folder.mkdir()
        (folder / "image").write_bytes(content[:end])
        document = inspect([folder]).to_json()
        assert [one["code"] for one in document["series"]] == ["CORRUPT_FILE"], end


def test_only_a_file_that_ends_is_said_to_end_before_its_modality(bench: Any) -> None:
    slices = bench.slices()
    del slices[0].Modality
    del slices[1].SeriesInstanceUID
    folder = bench.save(slices[:2])
    whole = bench.save(slices[2:3], "cut") / "000.dcm"
    whole.write_bytes(whole.read_bytes()[:380])
    reasons = sorted(one.reason for one in find_series([folder, whole]).exclusions)
    assert reasons == [
        "a file ends before its Modality",
        "a file has no Modality (0008,0060)",
        "a file has no SeriesInstanceUID (0020,000e)",
    ]


def test_other_modalities_are_read_bare_too(bench: Any) -> None:
    bench.save(bench.slices())
    for modality, sop_class in (("CT", CTImageStorage), ("RTSTRUCT", RTStructureSetStorage)):
        dataset = bench.slices()[0]
        dataset.Modality, dataset.SOPClassUID, dataset.SeriesInstanceUID = modality, sop_class, f"1.2.{len(modality)}"
        store_bare(dataset, bench.folder / modality, ImplicitVRLittleEndian)
    found = find_series([bench.folder])
    assert sorted(one.modality for one in found.unused) + [one.code for one in found.exclusions] == [
        "CT",
        "RTSTRUCT",
        "NOT_PET",
        "NOT_PET",
    ]


def test_other_files_stay_other_files(bench: Any) -> None:
    bench.save(bench.slices())
    (bench.folder / "note").write_bytes(b"DICOM is what this is not " * 40)
    (bench.folder / "zeros").write_bytes(b"\0" * 4000)
    found = find_series([bench.folder])
    assert (len(found.series), len(found.unused), found.n_other_files) == (1, 0, 2)
