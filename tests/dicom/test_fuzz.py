"""Whatever a file holds, reading it ends in a volume or in a coded refusal, within bounded time and memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.config import disable_value_validation
from pydicom.uid import DeflatedExplicitVRLittleEndian
from tests.dicom import fuzzing

from twobe3.core.errors import UnusableScanError
from twobe3.dicom import fast_parser as skim
from twobe3.dicom.reader import number, numbers, quietly, read_dataset, text, texts
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv

ROOT = Path(__file__).parents[2]


# -- damage


N = 60
"""Damaged copies of each series; many more by hand: ``python -m tests.dicom.fuzzing 1000 1 tiny``."""


def damage(sources: Iterable[str | Path], seed: int) -> None:
    """Read damaged copies in a process that may take a gigabyte more than it has, and a minute for each of them."""
    names = list(map(str, sources))
    arguments = [sys.executable, "-m", "tests.dicom.fuzzing", str(N), str(seed), *names]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # an arena reserves address space for each thread
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["grown_bytes"] < 200e6
    assert list(document["seen"]) == names
    for seen in document["seen"].values():
        assert {"SUV", "CORRUPT_FILE"} < set(seen)
        assert len(seen) > 5  # the damage reaches the rules, not the parser only


def test_damaged_files_end_in_suv_or_a_code() -> None:
    damage(fuzzing.SOURCES, seed=0)


VENDORS = ("SIEMENS", "GE_MEDICAL_AND_BQML", "PHILIPS_BQML", "PHILIPS_CNTS_AND_SUV")


@pytest.mark.parametrize("name", VENDORS)
def test_files_of_every_vendor_have_the_published_factor(real_data: Path, bench: Any, name: str) -> None:
    headers = real_data / "pet_headers" / f"{name}-instances.json"
    with quietly():
        volume = bench.read(fuzzing.vendor(headers))
    expected = np.arange(volume.array.size).reshape(volume.array.shape) * fuzzing.published_factor(headers)
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)


def test_damaged_headers_of_every_vendor_end_in_suv_or_a_code(real_data: Path) -> None:
    damage([real_data / "pet_headers" / f"{name}-instances.json" for name in VENDORS], seed=1)


def test_damaged_real_files_end_in_suv_or_a_code(real_data: Path, tmp_path: Path) -> None:
    for folder, first in (("ge_whole_body/PET", 100), ("sts/dicom/STS_019/PET", 10)):
        files = (real_data / folder).rglob("*.dcm")
        by_place = sorted(files, key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
        target = tmp_path / folder.split("/")[0]
        target.mkdir()
        for path in by_place[first : first + 3]:
            shutil.copy(path, target)
    damage(sorted(tmp_path.iterdir()), seed=2)


def test_a_transfer_syntax_of_two_parts_is_a_code(bench: Any) -> None:
    """Found by damaging headers: what should be one UID came as a list, which is no key of a table."""
    for path in bench.save(bench.slices()).iterdir():
        content = path.read_bytes()
        assert content.count(b"1.2.840.10008.1.2.1\0") == 1
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2\\840.10008.1.2.1\0"))
    assert fuzzing.attempt(bench.folder) == ["CODEC_MISSING"]


# -- bounds


def test_a_trillion_voxels_are_refused_before_allocating(bench: Any) -> None:
    """Acceptance row 25."""
    slices = bench.slices()
    for one in slices:
        one.Rows, one.Columns, one.NumberOfFrames = 10_000, 10_000, 10_000
    series = find_series([bench.save(slices)]).series
    tracemalloc.start()
    try:
        for one in series:
            with pytest.raises(UnusableScanError, match="TOO_LARGE"):
                read_suv(one)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("defined_length", [True, False])
def test_deeply_nested_sequences_are_a_bounded_error(bench: Any, defined_length: bool) -> None:
    """Acceptance row 26."""
    content = (bench.save(bench.slices()[:1]) / "000.dcm").read_bytes()
    nested = b""
    if defined_length:
        for _ in range(10_000):
            item = b"\xfe\xff\x00\xe0" + len(nested).to_bytes(4, "little") + nested
            nested = b"\x08\x00\x15\x11SQ\0\0" + len(item).to_bytes(4, "little") + item
    else:
        opened = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
        nested = opened * 10_000 + (b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0") * 10_000
    position = content.index(b"\x08\x00\x60\x00")
    (bench.folder / "PET" / "000.dcm").write_bytes(content[:position] + nested + content[position:])
    assert fuzzing.attempt(bench.folder) in (["CORRUPT_FILE"], ["SUV"])  # unread where its length steps over it


def test_a_deflated_file_that_would_not_end_is_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acceptance row 29."""
    monkeypatch.setattr(skim, "MAX_INFLATED_BYTES", 2**22)
    slices = bench.slices()[:1]
    slices[0].file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    slices[0].PixelData = bytes(2**24)
    with disable_value_validation():
        path = bench.save(slices) / "000.dcm"
    assert path.stat().st_size < 2**16
    monkeypatch.setattr(zlib, "decompress", None)
    assert fuzzing.attempt(bench.folder) == ["TOO_LARGE"]


# -- the fast way and pydicom's


KEYWORDS = (
    "PatientID", "PatientWeight", "Manufacturer", "Units", "CorrectedImage", "PixelSpacing", "ImagePositionPatient",
    "AcquisitionTime", "RescaleSlope", "Rows", "SeriesInstanceUID", "FrameReferenceTime", "Modality",
)  # fmt: skip


def test_skimmed_headers_say_what_pydicom_reads(real_data: Path) -> None:
    folders = [real_data / "ge_whole_body", real_data / "suv_dro", real_data / "sts" / "dicom" / "STS_001"]
    paths = [path for folder in folders for path in sorted(folder.rglob("*.dcm"))[::40]]
    assert len(paths) > 10
    for path in paths:
        plain = pydicom.dcmread(path)
        with quietly():
            skimmed = read_dataset(path, tags=KEYWORDS)
            for keyword in KEYWORDS:
                assert text(skimmed, keyword) == text(plain, keyword)
                assert texts(skimmed, keyword) == texts(plain, keyword)
                assert number(skimmed, keyword) == number(plain, keyword)
                assert numbers(skimmed, keyword) == numbers(plain, keyword)
        assert len(skimmed) <= len(KEYWORDS) + 1


@pytest.mark.parametrize("character_set", ["ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87", ""])
def test_skimmed_text_is_decoded_as_pydicom_decodes_it(bench: Any, character_set: str) -> None:
    slices = bench.slices()[:1]
    path = bench.save(slices) / "000.dcm"
    name = "Jürgen" if character_set.startswith("ISO") else "Jurgen"
    with disable_value_validation():
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet, dataset.PatientID = character_set.split("\\"), name
        dataset.save_as(path)
    with quietly():
        assert text(read_dataset(path, tags=("PatientID",)), "PatientID") == name
