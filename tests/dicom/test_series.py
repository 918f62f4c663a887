import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)
from tests.command_line import Call
from tests.dicom.test_archive import zipped

from twobe3.core.errors import ConfigurationError, EmptyInputError
from twobe3.dicom.archive import list_inputs
from twobe3.dicom.fast_parser import BEFORE_PIXELS, skim
from twobe3.dicom.series import PETSeries, choose_series, find_series, require_pet


def structure_set(slices: list[Dataset], *, series: bool) -> Dataset:
    first = slices[0]
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = first.file_meta.TransferSyntaxUID
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    dataset.PatientID, dataset.StudyInstanceUID = first.PatientID, first.StudyInstanceUID
    dataset.SeriesInstanceUID = generate_uid()
    frame, study, reference = Dataset(), Dataset(), Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    reference.SeriesInstanceUID = first.SeriesInstanceUID if series else generate_uid()
    study.RTReferencedSeriesSequence = Items([reference])
    frame.RTReferencedStudySequence = Items([study])
    dataset.ReferencedFrameOfReferenceSequence = Items([frame])
    return dataset


def other_modality(slices: list[Dataset], modality: str, sop_class: str) -> list[Dataset]:
    uid = generate_uid()
    for dataset in slices:
        dataset.Modality, dataset.SOPClassUID, dataset.SeriesInstanceUID = modality, sop_class, uid
        dataset.file_meta.MediaStorageSOPClassUID = sop_class
    return slices


def test_a_mixed_folder_is_sorted_out(bench: Any) -> None:
    """Acceptance row 17."""
    slices, other = bench.slices(), bench.slices(patient="P2")
    far, near = structure_set(slices, series=False), structure_set(slices, series=True)
    stray = structure_set(bench.slices(patient="P3"), series=True)
    bench.save([*slices, *other, far, near, stray])
    bench.save(other_modality(bench.slices(), "CT", CTImageStorage), "CT")
    bench.save(other_modality(bench.slices(), "PT", SecondaryCaptureImageStorage), "screenshots")
    (bench.folder / "notes.txt").write_text("hello")
    (bench.folder / "table.csv").write_text("a,b")
    found = find_series([bench.folder])
    assert sorted((one.patient_id, one.slices) for one in found.series) == [("P1", 4), ("P2", 4)]
    assert sorted(one.modality for one in found.unused) == ["CT", "PT", "RTSTRUCT"]
    assert {one.code for one in found.exclusions} == {"NOT_PET"}
    assert (found.n_series, found.n_files, found.n_other_files) == (5, 21, 2)
    (first,) = (one for one in found.series if one.patient_id == "P1")
    referenced = [pydicom.dcmread(path).SOPInstanceUID for path in first.contours]
    assert referenced == [near.SOPInstanceUID, far.SOPInstanceUID]


def test_what_a_series_says_of_itself(bench: Any) -> None:
    bench.save(bench.slices())
    (series,) = find_series([bench.folder]).series
    assert (series.tracer, series.units, series.decay_correction, series.frames) == ("FDG", "BQML", "START", "static")
    assert series.corrections == ("ATTN", "DECY")
    assert series.covariates == {"age_years": 3.0, "sex": "F", "weight_kg": 70.0, "height_m": 1.75}
    assert series.coverage_mm == 9.0
    assert "P1" not in repr(series)
    assert str(bench.folder) not in repr(series)


@pytest.mark.parametrize(
    ("age", "born", "expected"),
    [("059Y", "", 59.0), ("026W", "", 0.4983), ("", "19900301", 34.0), ("", "", None), ("old", "20990101", None)],
)
def test_age(bench: Any, age: str, born: str, expected: float | None) -> None:
    with disable_value_validation():
        slices = bench.slices()
        for dataset in slices:
            dataset.PatientAge, dataset.PatientBirthDate, dataset.StudyDate = age, born, "20240301"
        bench.save(slices)
    (series,) = find_series([bench.folder]).series
    assert series.covariates.get("age_years") == (expected and pytest.approx(expected, abs=1e-3))


def test_nothing_depends_on_names_of_files(bench: Any) -> None:
    """Acceptance row 14: the same series, in the same order."""
    slices = bench.slices() + bench.slices(patient="P0")
    one = find_series([bench.save(slices, "one")]).series
    two = find_series([bench.save(slices[::-1], "two", files=list("hbfdgace"))]).series
    assert [series.content_digest for series in one] == [series.content_digest for series in two]
    assert [series.patient_id for series in one] == ["P0", "P1"]
    assert [replace(s, files=(), contours=()) for s in one] == [replace(s, files=(), contours=()) for s in two]


def test_two_frames_of_reference_are_two_series(bench: Any) -> None:
    slices = bench.slices()
    for dataset in slices[2:]:
        dataset.FrameOfReferenceUID = "1.2.3"
    bench.save(slices)
    found = find_series([bench.folder]).series
    assert [one.slices for one in found] == [2, 2]
    assert found[0].series != found[1].series


def with_nested_sequences(content: bytes, depth: int) -> bytes:
    """A file with ReferencedSeriesSequence in ReferencedSeriesSequence, and so on, before its first element."""
    start = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    position = content.index(b"\x08\x00\x16\x00")
    return content[:position] + start * depth + end * depth + content[position:]


def test_damaged_files_are_listed(bench: Any) -> None:
    """Acceptance rows 24 and 26."""
    whole = bench.save(bench.slices()) / "000.dcm"
    content = whole.read_bytes()
    damaged = bench.folder / "damaged"
    damaged.mkdir()
    (damaged / "empty.dcm").touch()
    (damaged / "empty").touch()
    (damaged / "bare.dcm").write_bytes(content[132:400])
    (damaged / "bare").write_bytes(content[132:400])
    (damaged / "meta_only.dcm").write_bytes(content[:300])
    (damaged / "text.dcm").write_text("this is no image, though it is long enough to have had a preamble " * 4)
    (damaged / "deep.dcm").write_bytes(with_nested_sequences(content, 10_000))
    (damaged / "empty.txt").touch()
    found = find_series([bench.folder])
    assert len(found.series) == 1
    assert [one.code for one in found.exclusions] == ["CORRUPT_FILE"] * 7
    assert found.n_other_files == 1
    assert all(str(bench.folder) not in one.reason for one in found.exclusions)


def test_links_to_files_and_folders_are_followed(bench: Any, twobe3: Call) -> None:
    """Acceptance row 69: a cohort made of links; a file reached by several ways is one file."""
    inside = bench.save(bench.slices(), "in/PET")
    outside = bench.save(bench.slices(patient="P2"), "out/deep")
    alone = bench.save(bench.slices(patient="P3"), "pool")
    zipped(bench.save(bench.slices(patient="P4"), "raw"), bench.folder / "stored.zip")
    (bench.folder / "in" / "folder").symlink_to(outside.parent)
    (bench.folder / "in" / "again").symlink_to(outside)
    (bench.folder / "in" / "file.dcm").symlink_to(outside / "000.dcm")
    (bench.folder / "in" / "again.dcm").symlink_to(inside / "000.dcm")
    (bench.folder / "in" / "archive.zip").symlink_to(bench.folder / "stored.zip")
    for i, path in enumerate(sorted(alone.iterdir())):
        (bench.folder / "in" / f"IM{i}").symlink_to(path)
    found = find_series([bench.folder / "in", inside])
    assert sorted((one.patient_id, one.slices) for one in found.series) == [(f"P{i}", 4) for i in (1, 2, 3, 4)]
    assert not any(one.copies for one in found.series)
    assert (found.n_files, found.n_other_files, found.exclusions) == (16, 0, ())
    inspected = twobe3("inspect", bench.folder / "in", "--json").json()
    assert (inspected["found"], inspected["usable"]) == (4, 4)
    assert sorted(one["path"] for one in inspected["series"]) == [".", ".", "PET", "archive.zip"]


def test_links_in_a_circle_end(bench: Any) -> None:
    """Acceptance row 69."""
    folder = bench.save(bench.slices(), "in/PET")
    (folder / "up").symlink_to(bench.folder / "in")
    (folder / "here").symlink_to(".")
    (bench.folder / "in" / "there").symlink_to("back")
    (bench.folder / "in" / "back").symlink_to("there")
    (bench.folder / "other").mkdir()
    (bench.folder / "other" / "first").symlink_to(bench.folder / "in")
    (bench.folder / "in" / "second").symlink_to(bench.folder / "other")
    found = find_series([bench.folder])
    assert [one.slices for one in found.series] == [4]
    assert [(one.code, one.reason) for one in found.exclusions] == [("LINK_BROKEN", "2 symbolic links lead nowhere")]


def test_links_that_lead_nowhere_are_counted_and_said(bench: Any, twobe3: Call) -> None:
    """Acceptance row 69: a disk that is not there leaves a cohort of links that lead nowhere."""
    (bench.folder / "in").mkdir()
    for i in range(3):
        (bench.folder / "in" / f"{i}.dcm").symlink_to(bench.folder / "disk" / f"{i}.dcm")
    found = find_series([bench.folder])
    assert (found.n_files, found.n_other_files) == (3, 3)
    with pytest.raises(EmptyInputError, match=r"NO_PET: none of 3 files .* there is links that lead nowhere"):
        require_pet(found)
    bench.save(bench.slices(), "in/PET")
    inspected = twobe3("inspect", bench.folder / "in", "--json").json()
    assert (inspected["found"], inspected["usable"], inspected["excluded"]) == (1, 1, 0)
    lost = inspected["lost"]
    assert (lost["code"], lost["reason"]) == ("LINK_BROKEN", "3 symbolic links lead nowhere")
    assert "disk" not in str(lost)
    *_, said, count = twobe3("inspect", bench.folder / "in").out.splitlines()
    assert said.startswith("LINK_BROKEN: 3 symbolic links lead nowhere (mount or restore")
    assert count == "1 series: 1 usable"


def test_a_file_that_vanishes_is_listed(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acceptance row 69: between the listing and the reading."""
    folder = bench.save(bench.slices())

    def list_and_lose(paths: list[Path]) -> Any:
        listed = list_inputs(paths)
        (folder / "001.dcm").unlink()
        return listed

    monkeypatch.setattr("twobe3.dicom.series.list_inputs", list_and_lose)
    found = find_series([folder])
    assert [one.slices for one in found.series] == [3]
    assert [one.code for one in found.exclusions] == ["CORRUPT_FILE"]


def test_a_link_may_be_given(bench: Any) -> None:
    folder = bench.save(bench.slices(), "PET")
    (bench.folder / "link").symlink_to(folder)
    (bench.folder / "first").symlink_to(folder / "000.dcm")
    assert [one.slices for one in find_series([bench.folder / "link"]).series] == [4]
    assert [one.slices for one in find_series([bench.folder / "link", bench.folder / "first"]).series] == [4]
    assert [one.slices for one in find_series([bench.folder / "first"]).series] == [1]
    (bench.folder / "nowhere").symlink_to(bench.folder / "absent")
    with pytest.raises(ConfigurationError, match="NO_PET"):
        find_series([bench.folder / "nowhere"])


class CountingFile(io.FileIO):
    n_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(-1 if size is None else size)
        CountingFile.n_bytes += len(content)
        return content

    def readinto(self, buffer: Any, /) -> int:
        size = super().readinto(buffer)
        CountingFile.n_bytes += size
        return size


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless])
def test_pixels_are_not_read_until_somebody_asks(bench: Any, monkeypatch: pytest.MonkeyPatch, syntax: str) -> None:
    noise = np.random.default_rng(0).integers(0, 2**16, (3, 512, 512), dtype=np.uint16)
    slices = bench.slices(noise)
    for dataset in slices:
        if syntax == RLELossless:
            dataset.compress(syntax, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = syntax
    folder = bench.save(slices)
    size = sum(file.stat().st_size for file in folder.iterdir())
    monkeypatch.setattr(Path, "open", lambda path, mode: CountingFile(path, mode))
    monkeypatch.setattr(CountingFile, "n_bytes", 0)
    (series,) = find_series([folder]).series
    assert series.slices == 3
    assert 0 < CountingFile.n_bytes < size / 20
    assert series.content_digest
    assert CountingFile.n_bytes > size


def test_copies_share_headers_and_other_pixels_show_in_the_content(bench: Any) -> None:
    """Acceptance row 16: copies are recognised by their headers, and change no digest."""
    slices = bench.slices()
    one = find_series([bench.save(slices, "one")]).series[0]
    copied = find_series([bench.save([*slices, *slices[:2]], "copied")]).series[0]
    assert (copied.header_digest, copied.content_digest) == (one.header_digest, one.content_digest)
    slices[1].PixelData = bytes(reversed(slices[1].PixelData))
    other = find_series([bench.save(slices, "other")]).series[0]
    assert other.header_digest == one.header_digest
    assert other.content_digest != one.content_digest
    slices[2].ImageComments = "edited"
    edited = find_series([bench.save(slices, "edited")]).series[0]
    assert edited.header_digest != one.header_digest


def test_the_beginning_of_a_file_gives_all_that_is_wanted_or_nothing(bench: Any) -> None:
    slices = bench.slices()[:1]
    content = (bench.save(slices) / "000.dcm").read_bytes()
    pixels = content.index(b"\xe0\x7f\x10\x00")
    wanted = [0x00100020, 0x00200032, 0x00540016]
    whole = skim(content, wanted, last=BEFORE_PIXELS)
    assert whole is not None
    assert (whole.size, whole.dataset.PatientID) == (pixels, "P1")
    for n in range(len(content)):
        found = skim(content[:n], wanted, last=BEFORE_PIXELS, whole=False)
        assert (found is None) == (
            n < pixels + 12
        )  # up to the length of the pixel data, where it is known that they begin
        assert found is None or (found.size == pixels and found.dataset == whole.dataset)


def test_whatever_a_parser_raises_becomes_a_refusal(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bench.save(bench.slices())

    def fail(*_: Any, **__: Any) -> None:
        raise RecursionError

    monkeypatch.setattr("twobe3.dicom.reader.skim", fail)
    assert [one.code for one in find_series([folder]).exclusions] == ["CORRUPT_FILE"] * 4


def test_any_number_of_threads_finds_the_same(bench: Any) -> None:
    slices = bench.slices(np.ones((40, 6, 5), np.uint16))
    bench.save([*slices, *bench.slices(patient="P2"), structure_set(slices, series=True)])
    bench.save(other_modality(bench.slices(), "CT", CTImageStorage), "CT")
    (bench.folder / "empty.dcm").touch()
    (bench.folder / "notes.txt").write_text("hello")
    alone, together = (find_series([bench.folder], threads=threads) for threads in (1, 4))
    assert alone == together
    assert [len(one.files) for one in alone.series] == [40, 4]


def segmentation(slices: list[Dataset], *, series: bool) -> Dataset:
    """What a SEG says of where it belongs (DICOM PS3.3 A.51); where it lies is another test's matter."""
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = SegmentationStorage, generate_uid(), "SEG"
    dataset.PatientID, dataset.StudyInstanceUID = slices[0].PatientID, slices[0].StudyInstanceUID
    dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = generate_uid(), slices[0].FrameOfReferenceUID
    if series:
        reference = Dataset()
        reference.SeriesInstanceUID = slices[0].SeriesInstanceUID
        dataset.ReferencedSeriesSequence = Items([reference])
    return dataset


def test_contours_come_in_an_order_of_their_own(bench: Any) -> None:
    slices = bench.slices()
    stray = segmentation(bench.slices(patient="P2"), series=True)
    drawn = [kind(slices, series=series) for series in (True, False) for kind in (structure_set, segmentation)]
    for name, files in (("one", drawn), ("two", drawn[::-1])):
        bench.save([*slices, *files, stray], name)
        found = find_series([bench.folder / name])
        order = [pydicom.dcmread(path).SOPInstanceUID for path in found.series[0].contours]
        assert order == [dataset.SOPInstanceUID for dataset in drawn]
        assert [(one.modality, one.exclusion.code) for one in found.unused] == [("SEG", "NOT_PET")]


def test_directory_of_media_is_no_image(bench: Any) -> None:
    slices = bench.slices()[:1]
    slices[0].file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    dcmwrite(bench.folder / "DICOMDIR", slices[0])
    found = find_series([bench.folder])
    assert (found.n_series, found.n_other_files) == (0, 1)
    with pytest.raises(EmptyInputError, match="NO_PET"):
        require_pet(found)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        find_series([tmp_path / "nowhere"])
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("patient", ["../../etc/x", "a\0b", "x" * 300, "CON"])
def test_patient_ids_never_become_names(bench: Any, patient: str) -> None:
    """Acceptance row 27."""
    with disable_value_validation():
        bench.save(bench.slices(patient=patient))
    (series,) = find_series([bench.folder]).series
    assert series.patient.startswith("pa-")
    assert len(series.patient) == 15


def series_of(name: str, **changes: Any) -> PETSeries:
    base = PETSeries(
        "pa-1", "st-1", name, "P1", (), (), "", "", "FDG", "BQML", "START", ("ATTN",), {}, name, 100, "static", 300.0
    )
    return replace(base, **changes)


def test_one_series_of_each_patient() -> None:
    long, short = series_of("se-long", coverage_mm=900.0), series_of("se-short", slices=400)
    raw = series_of("se-raw", corrections=("DECY",), coverage_mm=1000.0)
    moving, frames = series_of("se-moving", frames="dynamic"), series_of("se-frames", frames="multi-frame")
    fine, coarse = series_of("se-fine", patient="pa-2", slices=200), series_of("se-coarse", patient="pa-2")
    alone = series_of("se-alone", patient="pa-3", corrections=())
    every = [raw, short, long, moving, frames, coarse, fine, alone]
    chosen, exclusions = choose_series(every)
    assert chosen == (long, fine)
    assert {one.series: one.code for one in exclusions} == {
        "se-raw": "NOT_ATTN",
        "se-short": "NOT_CHOSEN",
        "se-moving": "NOT_STATIC",
        "se-frames": "MULTI_FRAME",
        "se-coarse": "NOT_CHOSEN",
        "se-alone": "NOT_ATTN",
    }
    assert set(choose_series(every[::-1])[0]) == set(chosen)


def test_ties_are_broken_by_content() -> None:
    """Acceptance row 3."""
    one, two = series_of("se-1", header_digest="a"), series_of("se-2", header_digest="b")
    assert choose_series([one, two])[0] == choose_series([two, one])[0] == (two,)


def test_torch_is_not_imported() -> None:
    code = "import sys, twobe3.scans.inspect, twobe3.scans.masks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
