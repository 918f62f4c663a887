import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from twobe3.dicom import elements
from twobe3.dicom.elements import Element, Odd, Wanted, find_elements, read_element
from twobe3.dicom.fast_parser import BEFORE_PIXELS, read_file_meta

EVERYTHING = Wanted((), range(0x0008, 0x7FE0), BEFORE_PIXELS)


def step_through(content: bytes, position: int, implicit: bool, wanted: Wanted) -> tuple[list[Element], int] | None:
    """One element after the other, remembering nothing: what :func:`find_elements` must give, or None."""
    found: list[Element] = []
    previous = 0
    try:
        while position < len(content):
            element = read_element(content, position, implicit, 0, [])
            tag, end = element[0], element[4]
            if tag <= previous or tag >> 16 == 0xFFFE:
                return None
            if tag > wanted.last:
                return found, position
            if end > len(content):
                return None
            if tag in wanted.tags or tag >> 16 in wanted.groups:
                found.append(element)
            previous, position = tag, end
    except (Odd, struct.error):
        return None
    return found, position


def remembering(content: bytes, position: int, implicit: bool, wanted: Wanted) -> tuple[list[Element], int] | None:
    try:
        return find_elements(content, position, implicit, wanted)
    except (Odd, struct.error):
        return None


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "_known", {})


@pytest.fixture(params=[ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=["implicit", "explicit"])
def files(request: pytest.FixtureRequest, real_data: Path, tmp_path: Path) -> list[bytes]:
    """Headers of a whole body, with sequences of undefined length, and the beginning of its pixels."""
    contents = []
    for path in sorted((real_data / "ge_whole_body" / "PET").glob("*.dcm"))[:60]:
        dataset = pydicom.dcmread(path)
        dataset.RadiopharmaceuticalInformationSequence.is_undefined_length = True
        dataset.RadiopharmaceuticalInformationSequence[0].is_undefined_length_sequence_item = True
        dataset.file_meta.TransferSyntaxUID = request.param
        dataset.save_as(tmp_path / "file.dcm", implicit_vr=request.param.is_implicit_VR, little_endian=True)
        contents.append((tmp_path / "file.dcm").read_bytes())
    return contents


def test_a_file_lies_as_stepping_through_it_tells_whatever_was_read_before(files: list[bytes]) -> None:
    wants = [
        EVERYTHING,
        Wanted((0x00080018, 0x00200032, 0x7FE00010), (0x0054,)),
        Wanted((0x00100020,)),
        Wanted((0x00280030,), (), 0x00280030),  # ends within a group
        Wanted((0x00080018,), (), 0xFFFFFFFF),
    ]
    rng = np.random.default_rng(0)
    for i in rng.integers(0, len(files), 300):
        content, wanted = files[i], wants[rng.integers(len(wants))]
        meta, start = read_file_meta(content)
        implicit = meta.syntax == ImplicitVRLittleEndian
        expected = step_through(content, start, implicit, wanted)
        assert expected is not None
        assert remembering(content, start, implicit, wanted) == expected
    assert {group for group, _ in elements._known} >= {b"\x08\x00", b"\x20\x00", b"\x54\x00"}


def test_a_damaged_file_lies_as_stepping_through_it_tells(files: list[bytes]) -> None:
    rng = np.random.default_rng(1)
    refused = differ = 0
    for _ in range(6000):
        whole = files[rng.integers(len(files))]
        meta, start = read_file_meta(whole)
        implicit = meta.syntax == ImplicitVRLittleEndian
        remembering(whole, start, implicit, EVERYTHING)
        undamaged = step_through(whole, start, implicit, EVERYTHING)
        assert undamaged
        content = bytearray(whole[: undamaged[1] + 64])
        match rng.integers(4):
            case 0:  # a byte of a header of an element, or of a value
                element = undamaged[0][rng.integers(len(undamaged[0]))]
                content[element[2] + rng.integers(12)] = rng.integers(256)
            case 1:
                content[rng.integers(start, len(content))] = rng.integers(256)
            case 2:  # cut short
                del content[rng.integers(start, len(content)) :]
            case _:  # an element is gone, or stands twice
                _, _, at, _, end, _ = undamaged[0][rng.integers(len(undamaged[0]))]
                content[at:end] = content[at:end] * int(rng.choice([0, 2]))
        expected = step_through(bytes(content), start, implicit, EVERYTHING)
        assert remembering(bytes(content), start, implicit, EVERYTHING) == expected
        refused += expected is None
        differ += expected is not None and expected != undamaged
    assert refused > 500
    assert differ > 500


def test_what_is_remembered_is_bounded() -> None:
    def file(lengths: list[int]) -> bytes:
        return b"".join(struct.pack("<HHL", 0x0008, i + 1, n) + bytes(n) for i, n in enumerate(lengths))

    for i in range(400):
        content = file([i, 3, 2 * i])
        found, size = find_elements(content, 0, True, EVERYTHING)
        assert ([end - value for _, _, _, value, end, _ in found], size) == ([i, 3, 2 * i], len(content))
        find_elements(struct.pack("<HHL", 0x0009 + 2 * i, 1, 0), 0, True, EVERYTHING)
    find_elements(file([1] * 5000), 0, True, EVERYTHING)
    assert sum(map(len, elements._known.values())) <= (elements._MAX_GROUPS + 1) * elements._MAX_LAYOUTS
    assert max(len(one.expected) for known in elements._known.values() for one in known) <= elements._MAX_PIECES
