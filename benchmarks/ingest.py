"""How long reading takes: a whole-body series into SUV, and the headers of many files.

Compared with SimpleITK's ``ImageSeriesReader`` and, where it is installed, ``dcm2niix``, on the same series, in turn
in one run; medians. Files are in the page cache for all of them. Headers are read by one thread, by several and by
several processes, and once more from storage that makes each file wait, as network drives do. Run::

    TWOBE3_DATA=… python benchmarks/ingest.py [--rounds 9] [--files 10000]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pydicom
import SimpleITK

from twobe3.dicom.instance import Instance, read_instance
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv
from twobe3.dicom.walk import THREADS

TARGET_OF_SIMPLEITK, TARGET_OF_DCM2NIIX = 0.7, 3.0
WAIT_S = 2e-3


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


def write_many(source: Path, folder: Path, n: int) -> None:
    """Series of 200 files with the header of a real one and 64 × 64 pixels."""
    dataset = pydicom.dcmread(min(source.rglob("*.dcm")))
    dataset.Rows = dataset.Columns = 64
    dataset.PixelData = bytes(2 * 64 * 64)
    for i in range(n):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{i}"
        dataset.SeriesInstanceUID = f"1.2.3.4.{i // 200}"
        dataset.ImagePositionPatient = [0, 0, 3 * (i % 200)]
        dataset.save_as(folder / f"{i:06}.dcm")


def find_all(folder: Path, n: int, threads: int | None = None) -> None:
    found = find_series([folder], threads=threads)
    assert sum(series.slices for series in found.series) == n


def read_instances(paths: Sequence[Path]) -> list[Instance | None]:
    return [read_instance(path) for path in paths]


def in_processes(folder: Path, workers: int) -> None:
    """What find_series would do with processes, their start counted, the grouping not."""
    paths = list(folder.iterdir())
    parts = [paths[i : i + 250] for i in range(0, len(paths), 250)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        assert sum(len(part) for part in pool.map(read_instances, parts)) == len(paths)


@contextmanager
def slow_storage(wait_s: float) -> Iterator[None]:
    """Storage that makes each file wait before it is opened."""
    path_open = Path.open

    def patient_open(path: Path, *arguments: Any, **options: Any) -> Any:
        time.sleep(wait_s)
        return path_open(path, *arguments, **options)

    with mock.patch.object(Path, "open", patient_open):
        yield


def share_of_bytes_read(folder: Path) -> float:
    """Share of a folder's bytes that is read to find the series in it (Linux)."""
    counter = Path("/proc/self/io")
    before = int(counter.read_text().split()[1])
    find_series([folder])
    after = int(counter.read_text().split()[1])
    return (after - before) / sum(path.stat().st_size for path in folder.iterdir())


def many_headers(source: Path, n: int) -> dict[str, float]:
    """Seconds for finding the series among n files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_many(source, folder, n)
        cores = os.cpu_count() or 1
        ways: dict[str, Callable[[], None]] = {
            "one thread": lambda: find_all(folder, n, 1),
            f"{THREADS} threads": lambda: find_all(folder, n, THREADS),
            f"{cores} processes, headers only": lambda: in_processes(folder, cores),
            "as it chooses": lambda: find_all(folder, n),
        }
        seconds = in_turn(ways, 3)
        with slow_storage(WAIT_S):
            for way in ("one thread", "as it chooses"):
                began = time.perf_counter()
                ways[way]()
                seconds[f"{1000 * WAIT_S:g} ms of waiting for each file: {way}"] = time.perf_counter() - began
        return {"files": n, **{name: round(value, 2) for name, value in seconds.items()}}


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
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "slices": len(list(folder.glob("*.dcm"))),
        "median_seconds": {name: round(value, 4) for name, value in seconds.items()},
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "targets": {"to SimpleITK": TARGET_OF_SIMPLEITK, "to dcm2niix": TARGET_OF_DCM2NIIX},
        "share of the bytes read to find the series": round(share_of_bytes_read(folder), 3),
        "headers": many_headers(folder, arguments.files),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
