"""Zip files and directories of media: what is inside is read, what leads outside or never ends is refused."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from twobe3.dicom import archive
from twobe3.dicom.series import PETSeries, SearchResult, find_series
from twobe3.dicom.volume import read_suv
from twobe3.scans.inspect import inspect


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive_:
        for path in folder.rglob("*"):
            archive_.write(path, path.relative_to(folder))
    return target


def directory(folder: Path, names: list[list[str]]) -> Path:
    dataset = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with pydicom.config.disable_value_validation():
        records = []
        for name in names:
            record = Dataset()
            record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", name
            records.append(record)
        dataset.DirectoryRecordSequence = Items(records)
        pydicom.dcmwrite(folder / "DICOMDIR", dataset, enforce_file_format=True)
    return folder / "DICOMDIR"


def codes(found: SearchResult[PETSeries]) -> list[str]:
    return [one.code for one in found.exclusions]


@pytest.mark.parametrize("given", ["the zip file", "its folder"])
def test_a_zip_file_is_read_like_the_folder_it_was_made_of(bench: Any, given: str) -> None:
    plain = bench.read(bench.slices())
    folder = bench.save(bench.slices(), "in/deep/PET")
    (folder.parents[1] / "notes.txt").write_text("hello")
    (bench.folder / "sent").mkdir()
    path = zipped(folder.parents[1], bench.folder / "sent" / "scans.ZIP")
    found = find_series([path if given == "the zip file" else path.parent])
    (series,) = found.series
    np.testing.assert_array_equal(read_suv(series).array, plain.array)
    assert (found.n_files, found.n_other_files, codes(found)) == (5, 1, [])
    assert find_series([path]).series[0].files == series.files  # unpacked once


def test_what_is_unpacked_is_private_and_under_names_of_ours(bench: Any) -> None:
    path = zipped(bench.save(bench.slices()), bench.folder / "a.zip")
    folder = archive.unpack(path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [file.name for file in sorted(folder.iterdir())] == [f"{i:07}.dcm" for i in range(4)]


@pytest.mark.parametrize("name", ["../outside.dcm", "a/../../outside.dcm", "/outside.dcm", "C:\\x.dcm", "..\\x.dcm"])
def test_a_zip_file_that_leads_outside_is_refused(bench: Any, name: str) -> None:
    """Acceptance row 29."""
    content = (bench.save(bench.slices(), "good") / "000.dcm").read_bytes()
    (bench.folder / "in").mkdir()
    with zipfile.ZipFile(bench.folder / "in" / "bad.zip", "w") as archive_:
        archive_.writestr("inside.dcm", content)
        archive_.writestr(name, content)
    found = find_series([bench.folder])
    assert codes(found) == ["CORRUPT_FILE"]
    assert "outside its folder" in found.exclusions[0].reason
    assert [one.slices for one in found.series] == [4]  # the folder beside it
    assert not (bench.folder / "outside.dcm").exists()


def test_a_symbolic_link_in_a_zip_file_is_refused(bench: Any) -> None:
    """Acceptance row 29."""
    member = zipfile.ZipInfo("link.dcm")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(bench.folder / "link.zip", "w") as archive_:
        archive_.writestr(member, "/etc/passwd")
    assert codes(find_series([bench.folder])) == ["CORRUPT_FILE"]


def test_a_zip_bomb_is_refused_before_it_is_unpacked(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acceptance row 29."""
    monkeypatch.setattr(archive, "SMALL_BYTES", 2**20)
    with zipfile.ZipFile(bench.folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive_:
        archive_.writestr("zeros.dcm", bytes(2**24))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    found = find_series([bench.folder])
    assert codes(found) == ["TOO_LARGE"]
    assert str(2**24) in found.exclusions[0].reason


def test_a_zip_file_that_lies_about_its_sizes_is_corrupt(bench: Any) -> None:
    """Acceptance row 29."""
    path = bench.folder / "lies.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive_:
        archive_.writestr("zeros.dcm", bytes(2**24))
    path.write_bytes(path.read_bytes().replace((2**24).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    assert codes(find_series([path])) == ["CORRUPT_FILE"]


def test_a_zip_file_cut_short_is_corrupt(bench: Any) -> None:
    path = zipped(bench.save(bench.slices()), bench.folder / "a.zip")
    content = path.read_bytes()
    for n in (0, 100, len(content) - 30):
        path.write_bytes(content[:n])
        assert codes(find_series([path])) == ["CORRUPT_FILE"]


def test_a_directory_of_media_names_what_is_read(bench: Any) -> None:
    plain = bench.read(bench.slices())
    bench.save(bench.slices(), "medium/PET", files=["I0", "I1", "I2", "I3"])
    bench.save(bench.slices(patient="P2"), "medium/OTHER")
    path = directory(bench.folder / "medium", [["PET", f"I{i}"] for i in range(4)])
    found = find_series([path])
    assert [one.patient_id for one in found.series] == ["P1"]
    np.testing.assert_array_equal(read_suv(found.series[0]).array, plain.array)
    assert len(find_series([path.parent]).series) == 2


def test_files_missing_on_a_medium_are_counted(bench: Any) -> None:
    bench.save(bench.slices(), "medium/PET", files=["I0", "I1", "I2", "I3"])
    found = find_series([directory(bench.folder / "medium", [["PET", f"I{i}"] for i in range(6)])])
    assert [one.slices for one in found.series] == [4]
    assert codes(found) == ["CORRUPT_FILE"]
    assert "2 files that are not there" in found.exclusions[0].reason


@pytest.mark.parametrize("name", [["..", "secret", "000.dcm"], ["PET", "..", "..", "x"], ["/etc", "passwd"], ["LINK"]])
@pytest.mark.parametrize("given", ["the directory", "its folder"])
def test_a_directory_of_media_that_leads_outside_is_refused(bench: Any, name: list[str], given: str) -> None:
    """Acceptance row 28."""
    secret = bench.save(bench.slices(patient="P2"), "secret")
    bench.save(bench.slices(), "medium/PET")
    (bench.folder / "medium" / "LINK").symlink_to(secret / "000.dcm")
    path = directory(bench.folder / "medium", [["PET", "000.dcm"], name])
    found = find_series([path if given == "the directory" else path.parent])
    # A medium is as closed as an archive; in a folder, links are followed like those of any other.
    assert [one.patient_id for one in found.series if one.slices] == ([] if given == "the directory" else ["P1", "P2"])
    if given == "the directory" or name != ["LINK"]:
        assert codes(found) == ["CORRUPT_FILE"]
    assert all(str(bench.folder) not in one.reason for one in found.exclusions)


def test_what_came_from_a_zip_file_is_shown_under_its_path(bench: Any) -> None:
    zipped(bench.save(bench.slices(), "raw/a/b"), bench.save(bench.slices(patient="P2"), "in/plain").parent / "all.zip")
    (bench.folder / "in" / "deep").mkdir()
    zipped(bench.folder / "raw", bench.folder / "in" / "deep" / "one.zip")
    (bench.folder / "in" / "deep" / "bad.zip").write_bytes(b"PK")

    def shown(*paths: Path) -> list[tuple[str, bool]]:
        return sorted((one.path, one.usable) for one in inspect(paths).series)

    both = [("deep/bad.zip", False), ("plain", True)]
    assert [one for one in shown(bench.folder / "in") if one in both] == both
    assert shown(bench.folder / "in" / "all.zip") == [("all.zip", True)]
    assert shown(bench.folder / "in" / "deep") == [("bad.zip", False), ("one.zip", True)]
    assert shown(bench.folder / "in" / "deep" / "one.zip", bench.folder / "in" / "plain") == [
        (".", True),
        ("one.zip", True),
    ]


def test_what_a_directory_of_media_names_is_shown_below_it(bench: Any) -> None:
    bench.save(bench.slices(), "medium/PET", files=["I0", "I1", "I2", "I3"])
    path = directory(bench.folder / "medium", [["PET", f"I{i}"] for i in range(4)])
    assert [one.path for one in inspect([path]).series] == ["PET"]
