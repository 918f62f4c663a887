"""Whatever a file holds, reading it ends in a volume or in a coded refusal; and SUV follows its definition."""

from __future__ import annotations

import shutil
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import DeflatedExplicitVRLittleEndian, LegacyConvertedEnhancedPETImageStorage

from twobe3.dicom import skim
from twobe3.dicom.files import number, numbers, quietly, read_dataset, text, texts
from twobe3.dicom.read import read_suv
from twobe3.dicom.series import find_series
from twobe3.errors import Refusal
from twobe3.volume import SUVVolume

QUICK = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def set_dose(slices: Sequence[Dataset], dose_bq: float) -> None:
    for one in slices:
        one.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = dose_bq


# -- what SUV is


@QUICK
@given(factor=st.floats(0.01, 100), decay=st.sampled_from(["START", "ADMIN", "NONE"]))
def test_suv_is_linear_in_activity(bench: Any, factor: float, decay: str) -> None:
    slices, scaled = bench.slices(), bench.slices(slopes=[pydicom.valuerep.DSfloat(100 * factor, auto_format=True)] * 4)
    for one in (*slices, *scaled):
        one.DecayCorrection, one.CorrectedImage = decay, ["ATTN"] if decay == "NONE" else ["ATTN", "DECY"]
    np.testing.assert_allclose(bench.read(scaled).array, bench.read(slices).array * factor, rtol=1e-6)


@QUICK
@given(weight_kg=st.integers(20, 250))
def test_suv_is_linear_in_weight(bench: Any, weight_kg: int) -> None:
    slices, other = bench.slices(), bench.slices()
    for one in other:
        one.PatientWeight = weight_kg
    np.testing.assert_allclose(bench.read(other).array * 70, bench.read(slices).array * weight_kg, rtol=1e-6)


@QUICK
@given(dose_mbq=st.integers(1, 2000))
def test_suv_is_inverse_in_dose(bench: Any, dose_mbq: int) -> None:
    slices, other = bench.slices(), bench.slices()
    set_dose(other, dose_mbq * 1e6)
    np.testing.assert_allclose(bench.read(other).array * dose_mbq, bench.read(slices).array * 370, rtol=1e-6)


@QUICK
@given(order=st.permutations(range(4)), numbers_=st.permutations(range(1, 5)))
def test_suv_does_not_depend_on_the_order_of_files(bench: Any, order: list[int], numbers_: list[int]) -> None:
    """Acceptance row 14."""
    slices = bench.slices(slopes=[1.0, 2.0, 3.0, 4.0])
    plain = bench.read(slices)
    for one, instance in zip(slices, numbers_, strict=True):
        one.InstanceNumber = instance
    shuffled = bench.read([slices[i] for i in order])
    np.testing.assert_array_equal(shuffled.array, plain.array)
    assert shuffled.geometry.same_as(plain.geometry)


# -- damage

VALUES = (
    "",
    "0",
    "-1",
    "1e400",
    "nan",
    "x" * 300,
    "\\",
    "a\\b\\c",
    "../../etc/x",
    "99999999",
    "1\\0\\0\\0\\1\\0",
    "\0",
)


def flip_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes of the header are others."""
    found = bytearray(content)
    end = max(200, content.rfind(b"\xe0\x7f\x10\x00"))
    for position in rng.integers(128, end, rng.integers(1, 12)):
        found[position] = rng.integers(256)
    return bytes(found)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, len(content))]


def splice(content: bytes, rng: np.random.Generator) -> bytes:
    """A stretch of the file stands elsewhere too."""
    start, to = rng.integers(132, len(content), 2)
    return content[:to] + content[start : start + rng.integers(1, 200)] + content[to:]


def lengthen(content: bytes, rng: np.random.Generator) -> bytes:
    """A four-byte word is a huge number, as a length may be."""
    position = 2 * int(rng.integers(66, min(len(content) // 2 - 4, 2000)))
    word = rng.choice([0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x10000, 0]).item().to_bytes(4, "little")
    return content[:position] + word + content[position + 4 :]


def change_elements(content: bytes, rng: np.random.Generator) -> bytes:
    """Some elements are gone or say something else."""
    dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))
    holders = [dataset, *dataset.get("RadiopharmaceuticalInformationSequence", ())]
    for _ in range(rng.integers(1, 5)):
        holder = holders[rng.integers(len(holders))]
        elements = [element for element in holder if element.tag.group != 2]
        element = elements[rng.integers(len(elements))]
        if rng.random() < 0.3:
            del holder[element.tag]
        elif element.VR in ("US", "SS"):
            element.value = int(rng.choice([0, 1, 7, 8, 12, 255, 32767]))
        elif element.VR in ("DS", "IS", "CS", "DA", "TM", "DT", "UI", "LO", "SH", "AS"):
            holder.add_new(element.tag, "UT" if rng.random() < 0.2 else "LO", str(rng.choice(VALUES)))
        elif element.VR in ("OW", "OB"):
            holder.add_new(element.tag, element.VR, bytes(2 * int(rng.integers(100))))
    target = pydicom.filebase.DicomBytesIO()
    pydicom.dcmwrite(target, dataset)
    return target.getvalue()


MUTATIONS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    flip_bytes, cut, splice, lengthen, change_elements, change_elements,
)  # fmt: skip


def attempt(folder: Path) -> list[str]:
    """What becomes of each series and file: "SUV", or a code."""
    found = find_series([folder])
    outcomes = [one.code for one in found.exclusions]
    for series in found.series:
        try:
            volume = read_suv(series)
        except Refusal as refusal:
            outcomes.append(refusal.code.name)
        else:
            assert isinstance(volume, SUVVolume)
            assert np.isfinite(volume.array).all()
            outcomes.append("SUV")
    return outcomes


def fuzz(folder: Path, files: Sequence[bytes], n: int, seed: int) -> Counter[str]:
    rng, seen = np.random.default_rng(seed), Counter[str]()
    for _ in range(n):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        bend = MUTATIONS[rng.integers(len(MUTATIONS))]
        hit = set(range(len(files))) if rng.random() < 0.3 else {int(rng.integers(len(files)))}
        state = rng.integers(2**32)
        with quietly():
            for i, content in enumerate(files):
                damaged = bend(content, np.random.default_rng(state)) if i in hit else content
                (folder / f"{i}.dcm").write_bytes(damaged)
        seen.update(attempt(folder))
    return seen


@pytest.mark.parametrize("which", [(0, 1, 2, 3), (0, 1, 1)])
def test_damaged_files_end_in_suv_or_a_code(bench: Any, tmp_path: Path, which: tuple[int, ...]) -> None:
    files = [path.read_bytes() for path in sorted(bench.save(bench.slices()).iterdir())]
    seen = fuzz(tmp_path / "fuzz", [files[i] for i in which], 200, seed=0)
    assert {"SUV", "CORRUPT_FILE"} < set(seen)
    assert len(seen) > 5  # the damage reaches the rules, not the parser only


def test_damaged_real_files_end_in_suv_or_a_code(real_data: Path, tmp_path: Path) -> None:
    series = find_series([real_data / "ge_whole_body"]).series[0]
    by_place = sorted(series.files, key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    seen = fuzz(tmp_path / "fuzz", [path.read_bytes() for path in by_place[100:103]], 250, seed=1)
    assert {"SUV", "CORRUPT_FILE"} < set(seen)
    assert len(seen) > 5


def test_damaged_enhanced_objects_end_in_suv_or_a_code(bench: Any, tmp_path: Path) -> None:
    slices = bench.slices()
    frames = []
    for one in slices:
        frame, position, scale = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient, scale.RescaleSlope, scale.RescaleIntercept = one.ImagePositionPatient, 100, 0
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = Items([position]), Items([scale])
        frames.append(frame)
    measures, orientation, shared, whole = Dataset(), Dataset(), Dataset(), slices[0]
    measures.PixelSpacing, orientation.ImageOrientationPatient = whole.PixelSpacing, whole.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    whole.PerFrameFunctionalGroupsSequence, whole.SharedFunctionalGroupsSequence = Items(frames), Items([shared])
    whole.SOPClassUID, whole.NumberOfFrames = LegacyConvertedEnhancedPETImageStorage, 4
    whole.PixelData = b"".join(one.PixelData for one in slices)
    files = [path.read_bytes() for path in bench.save([whole]).iterdir()]
    assert attempt(bench.folder) == ["SUV"]
    seen = fuzz(tmp_path / "fuzz", files, 200, seed=2)
    assert {"SUV", "CORRUPT_FILE"} < set(seen)
    assert len(seen) > 5


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
            with pytest.raises(Refusal, match="TOO_LARGE"):
                read_suv(one)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


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
    began = time.monotonic()
    assert attempt(bench.folder) in (["CORRUPT_FILE"], ["SUV"])  # unread where its length steps over it
    assert time.monotonic() - began < 10


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
    assert attempt(bench.folder) == ["TOO_LARGE"]


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
