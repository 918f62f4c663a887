"""Damages real headers and reads them, in a process of its own whose memory and time are bounded.

``python -m tests.dicom.fuzzing N SEED SOURCE…`` damages each series N times: one of SOURCES, a header of
``pet_headers``, or the files of a folder. It prints a JSON document: what became of the series and files of each, and
how much the process grew.
"""

from __future__ import annotations

import csv
import faulthandler
import json
import os
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.sequence import Sequence as Items
from pydicom.uid import LegacyConvertedEnhancedPETImageStorage
from tests.dicom_bench import pet_slices

from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import SUVVolume
from twobe3.dicom.frames import choose_frame
from twobe3.dicom.reader import quietly
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv

MORE_BYTES = 2**30  # of address space; every source holds less than a megabyte
SECONDS_PER_INPUT = 60.0  # a watchdog, not a measurement: an input takes some hundredths

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
    dataset = pydicom.dcmread(DicomBytesIO(content))
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
    target = DicomBytesIO()
    pydicom.dcmwrite(target, dataset)
    return target.getvalue()


def announce(content: bytes, rng: np.random.Generator) -> bytes:
    """The header announces a very large image."""
    dataset = pydicom.dcmread(DicomBytesIO(content))
    for keyword, values in {
        "Rows": (6, 20_000, 32_767),
        "Columns": (5, 20_000, 32_767),
        "NumberOfFrames": (1, 1, 4, 9999),
    }.items():
        setattr(dataset, keyword, int(rng.choice(values)))
    target = DicomBytesIO()
    pydicom.dcmwrite(target, dataset)
    return target.getvalue()


MUTATIONS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    flip_bytes, cut, splice, lengthen,     change_elements,
    change_elements,
    announce,

)  # fmt: skip


def attempt(folder: Path) -> list[str]:
    """What becomes of each series and file: "SUV", or a code."""
    found = find_series([folder])
    outcomes = [one.code for one in found.exclusions]
    for series in found.series:
        try:
            if series.frames in ("dynamic", "gated"):
                series = choose_frame(series, 1)
            volume = read_suv(series)
        except UnusableScanError as refusal:
            outcomes.append(refusal.code.name)
        else:
            assert isinstance(volume, SUVVolume)
            assert np.isfinite(volume.array).all()
            outcomes.append("SUV")
    return outcomes


def tiny() -> list[Dataset]:
    return list(pet_slices())


def single() -> list[Dataset]:
    return list(pet_slices(np.arange(30, dtype=np.uint16).reshape(1, 6, 5)))


def doubled() -> list[Dataset]:
    """Two slices, and the second once more."""
    first, second, *_ = pet_slices()
    return [first, second, second]


def dynamic() -> list[Dataset]:
    """Two frames of two slices, ten minutes apart."""
    slices = pet_slices()
    for i, one in enumerate(slices):
        one.SeriesType, one.AcquisitionTime = ["DYNAMIC", "IMAGE"], f"11{10 * (i // 2):02}00"
        one.ImagePositionPatient = slices[i % 2].ImagePositionPatient
    return slices


def enhanced() -> list[Dataset]:
    """The tiny series as one legacy converted enhanced object."""
    slices = pet_slices()
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
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID
    whole.PixelData = b"".join(one.PixelData for one in slices)
    return [whole]


SOURCES: dict[str, Callable[[], list[Dataset]]] = {
    "tiny": tiny,
    "single": single,
    "doubled": doubled,
    "dynamic": dynamic,
    "enhanced": enhanced,
}


def vendor(headers: Path) -> list[Dataset]:
    """Slices with the header of a real series of ``pet_headers``, one of its instances each, and slope 1."""
    instances = json.loads(headers.read_text())
    slices = pet_slices(np.arange(30 * len(instances), dtype=np.uint16).reshape(-1, 6, 5))
    for one, instance in zip(slices, instances, strict=True):
        tracer = one.RadiopharmaceuticalInformationSequence[0]
        del tracer.RadiopharmaceuticalStartDateTime, one.PatientSize
        factors = instance.pop("PhilipsPETPrivateGroup")
        for keyword, value in instance.items():
            holder = tracer if keyword.startswith("Radio") else one
            setattr(holder, keyword, value)
        one.Manufacturer, one.RescaleSlope = headers.name.split("_")[0], 1
        for name, element in (("SUVScaleFactor", 0x00), ("ActivityConcentrationScaleFactor", 0x09)):
            if name in factors:
                block = one.private_block(0x7053, "Philips PET Private Group", create=True)
                block.add_new(element, "DS", factors[name])
    return slices


def published_factor(headers: Path) -> float:
    with (headers.parent / "expected.csv").open() as stream:
        (factor,) = (row["suv_bw_factor"] for row in csv.DictReader(stream) if row["file"] == headers.name)
    return float(factor)


def written(slices: Sequence[Dataset]) -> list[bytes]:
    found = []
    for one in slices:
        target = DicomBytesIO()
        pydicom.dcmwrite(target, one, enforce_file_format=True)
        found.append(target.getvalue())
    return found


def fuzz(files: Sequence[bytes], n: int, seed: int) -> Counter[str]:
    """What becomes of n damaged copies of a series; nothing but a volume or a coded refusal may."""
    rng, seen = np.random.default_rng(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "in")
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
            faulthandler.dump_traceback_later(SECONDS_PER_INPUT, exit=True)
            seen.update(attempt(folder))
            faulthandler.cancel_dump_traceback_later()
    return seen


def files_of(source: str) -> list[bytes]:
    if source in SOURCES:
        return written(SOURCES[source]())
    if source.endswith(".json"):
        with quietly():
            return written(vendor(Path(source)))
    return [path.read_bytes() for path in sorted(Path(source).iterdir())]


def main(n: str, seed: str, *names: str) -> None:
    sources = {name: files_of(name) for name in names}
    for files in sources.values():
        fuzz(files, 3, 0)  # what is loaded once is loaded
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = {name: fuzz(files, int(n), int(seed)) for name, files in sources.items()}
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(json.dumps({"seen": seen, "grown_bytes": grown}))


if __name__ == "__main__":
    main(*sys.argv[1:])
