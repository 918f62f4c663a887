"""How much processor time reading and resampling a scan takes, beside an earlier build, dcm2niix and dicomsdl.

    git archive COMMIT src | tar -x -C EARLIER
    python benchmarks/reading.py FOLDER --before EARLIER/src [--rounds 9]

``FOLDER`` holds one PET series; a second one of 545 slices of 200² is written with its headers. A build reads a folder
(every file found, grouped, checked, digested, and decoded to SUV) and resamples the scan to 4 mm, each build in a
process of its own that is warm; dcm2niix is a process for each folder, and dicomsdl (``pip install dicomsdl``) opens
the files by their names and decodes the pixels, nothing else. All take turns in one run. Ratios are those of a round,
median and range; both builds must give the same bytes of SUV, and the largest difference after resampling is told.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dicomsdl
import numpy as np
import pydicom

import twobe3 as tb
from rounds import span
from twobe3.core.grid import Grid, resample

SLICES, SIZE = 545, 200


class Build:
    """A build of this package in a process of its own, which answers with processor seconds and what it computed."""

    def __init__(self, source: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--serve"]
        self.process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, folder: Path, out: Path) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([str(folder), str(out)]) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        self.process.communicate()


def serve() -> None:
    for line in sys.stdin:
        folder, out = json.loads(line)
        start = time.process_time()
        found = tb.find_series([folder])
        between = time.process_time()
        volume = tb.read_suv(found.series[0])
        read = time.process_time()
        resampled = resample(volume, Grid())
        end = time.process_time()
        np.save(out, resampled.array)
        digest = hashlib.sha256(volume.array.tobytes()).hexdigest()
        described = [found.series[0].header_digest, digest, found.series[0].content_digest, volume.geometry.affine]
        seconds = {"find": between - start, "read": read - between, "folder": read - start, "resample": end - read}
        print(json.dumps({"seconds": seconds, "described": str(described)}), flush=True)


def list_files(folder: Path) -> list[Path]:
    (series,) = tb.find_series([folder]).series
    return sorted(series.files)


def write_series(source: Path, folder: Path) -> None:
    """A longer series of larger slices that hold noise, each with the header of a real one."""
    originals = [pydicom.dcmread(path) for path in list_files(source)]
    originals.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    rng, series = np.random.default_rng(0), "1.2.3.4"
    for i in range(SLICES):
        dataset = originals[i * len(originals) // SLICES]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{1000 + i}"
        dataset.SeriesInstanceUID, dataset.NumberOfSlices, dataset.InstanceNumber = series, SLICES, i + 1
        dataset.ImagePositionPatient = [-407.0, -407.0, round(-1200 + 2.0 * i, 3)]
        dataset.PixelSpacing, dataset.Rows, dataset.Columns = [4.07, 4.07], SIZE, SIZE
        dataset.PixelData = rng.integers(0, 30_000, (SIZE, SIZE)).astype("<i2").tobytes()
        dataset.save_as(folder / f"{i:04}.dcm")


def seconds_of_dcm2niix(folder: Path) -> float:
    with tempfile.TemporaryDirectory() as out:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(["dcm2niix", "-z", "n", "-b", "n", "-o", out, str(folder)], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def seconds_of_dicomsdl(files: Sequence[str]) -> float:
    start = time.process_time()
    for path in files:
        dicomsdl.open(path).pixelData(storedvalue=True)
    return time.process_time() - start


def take_turns(folder: Path, builds: dict[str, Build], rounds: int, out: Path) -> tuple[dict[str, np.ndarray], float]:
    """Seconds of everything in each round, after one that is not counted; and how far the builds are apart."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    files = list(map(str, list_files(folder)))
    others: dict[str, Callable[[], float]] = {
        "dcm2niix": lambda: seconds_of_dcm2niix(folder),
        "dicomsdl": lambda: seconds_of_dicomsdl(files),
    }
    for _ in range(rounds + 1):
        answers = {name: build.ask(folder, out / f"{name}.npy") for name, build in builds.items()}
        if len({answer["described"] for answer in answers.values()}) > 1:
            raise SystemExit(f"the builds read different values: {answers}")
        for name, answer in answers.items():
            for what, took in answer["seconds"].items():
                seconds[f"{what}, {name}"].append(took)
        for name, other in others.items():
            seconds[name].append(other())
    before, now = (np.load(out / f"{name}.npy") for name in ("before", "now"))
    return {name: np.array(took[1:]) for name, took in seconds.items()}, float(
        np.abs(now - before).max() / before.max()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--before", type=Path, help="folder src of an earlier build")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    if arguments.folder is None or arguments.before is None:
        parser.error("FOLDER and --before are needed")
    sources = {"before": arguments.before, "now": Path(tb.__file__).parents[1]}
    builds = {name: Build(source.resolve()) for name, source in sources.items()}
    with tempfile.TemporaryDirectory() as temporary:
        long = Path(temporary) / "long"
        long.mkdir()
        write_series(arguments.folder, long)
        for folder in (arguments.folder, long):
            n = len(list_files(folder))
            seconds, apart = take_turns(folder, builds, arguments.rounds, Path(temporary))
            print(f"\n| {n} files | processor seconds |\n|---|---|")
            for name, took in seconds.items():
                print(f"| {name} | {span(took, 4)} |")
            print(f"\n| {n} files | ratio |\n|---|---|")
            for what in ("find", "read", "folder", "resample"):
                print(
                    f"| {what}, to the build before | {span(seconds[f'{what}, now'] / seconds[f'{what}, before'], 3)} |"
                )
            for name in ("dcm2niix", "dicomsdl"):
                for build in builds:
                    print(f"| folder, {build}, to {name} | {span(seconds[f'folder, {build}'] / seconds[name], 2)} |")
            print(f"\nresampled: at most {apart:.1e} of the largest value apart")
    for build in builds.values():
        build.close()


if __name__ == "__main__":
    main()
