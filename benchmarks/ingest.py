"""How long reading takes: a whole-body series into SUV, and the headers of many files.

Compared with SimpleITK's ``ImageSeriesReader`` and, where it is installed, ``dcm2niix``, on the same series, in turn
in one run; medians. Files are in the page cache for all of them. Run::

    TWOBE3_DATA=… python benchmarks/ingest.py [--rounds 9] [--files 10000]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
import SimpleITK

from twobe3.dicom.read import read_suv
from twobe3.dicom.series import find_series

TARGET_OF_SIMPLEITK, TARGET_OF_DCM2NIIX = 0.7, 3.0


def twobe3_folder(folder: Path) -> None:
    (series,) = find_series([folder]).series
    read_suv(series)


def simpleitk_folder(folder: Path) -> None:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    reader.Execute()


def dcm2niix_folder(folder: Path) -> None:
    """Uncompressed NIfTI on the fastest temporary folder: it can't but write."""
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(["dcm2niix", "-z", "n", "-b", "n", "-o", out, str(folder)], check=True, capture_output=True)


def in_turn(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each way, after a round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if i:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def whole_body(folder: Path, rounds: int) -> dict[str, float]:
    (series,) = find_series([folder]).series
    reader = SimpleITK.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(folder))
    reader.SetFileNames(names)
    ways: dict[str, Callable[[], None]] = {
        "twobe3: files to SUV": lambda: read_suv(series) and None,
        "SimpleITK: files to image": lambda: reader.Execute() and None,
        "twobe3: folder to SUV": lambda: twobe3_folder(folder),
        "SimpleITK: folder to image": lambda: simpleitk_folder(folder),
    }
    if shutil.which("dcm2niix"):
        ways["dcm2niix: folder to NIfTI"] = lambda: dcm2niix_folder(folder)
    return in_turn(ways, rounds)


def many_headers(source: Path, n: int) -> float:
    """Seconds for finding the series among n files of 64 × 64 pixels."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = sorted(source.rglob("*.dcm"))
        dataset = pydicom.dcmread(files[0])
        dataset.Rows = dataset.Columns = 64
        dataset.PixelData = bytes(2 * 64 * 64)
        for i in range(n):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{i}"
            dataset.SeriesInstanceUID = f"1.2.3.4.{i // 200}"
            dataset.ImagePositionPatient = [0, 0, 3 * (i % 200)]
            dataset.save_as(folder / f"{i:06}.dcm")
        began = time.perf_counter()
        found = find_series([folder])
        seconds = time.perf_counter() - began
        assert sum(series.slices for series in found.series) == n
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--files", type=int, default=10_000)
    arguments = parser.parse_args()
    data = os.environ.get("TWOBE3_DATA")
    if not data:
        parser.exit(2, "TWOBE3_DATA must name the folder of unpacked real PET data\n")
    folder = Path(data) / "ge_whole_body" / "PET"
    seconds = whole_body(folder, arguments.rounds)
    ours = seconds["twobe3: folder to SUV"]
    ratios = {
        "files, to SimpleITK": seconds["twobe3: files to SUV"] / seconds["SimpleITK: files to image"],
        "folder, to SimpleITK": ours / seconds["SimpleITK: folder to image"],
    }
    if "dcm2niix: folder to NIfTI" in seconds:
        ratios["folder, to dcm2niix"] = ours / seconds["dcm2niix: folder to NIfTI"]
    scan_s = many_headers(folder, arguments.files)
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "slices": len(list(folder.glob("*.dcm"))),
        "median_seconds": {name: round(value, 4) for name, value in seconds.items()},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "targets": {"to SimpleITK": TARGET_OF_SIMPLEITK, "to dcm2niix": TARGET_OF_DCM2NIIX},
        "headers": {"files": arguments.files, "seconds": round(scan_s, 2)},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
