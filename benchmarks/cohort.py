"""Thousands of patients on one machine: seconds and memory of every step, from DICOM to a validated study.

    python benchmarks/cohort.py FOLDER SERIES --scans 700 2800

Writes whole bodies once: each is the DICOM series SERIES (a GE whole body in the shared data, for one) under ids of its
own, moved by up to three voxels, with noise of 2 %, and every second one with a hot lesion somewhere in the body, which
is the outcome. A part of them is read (DICOM to resampled SUV), its feature maps are computed, and five folds of
`2be3-net` and of the controls are run, each step in a process of its own. Told are its seconds on the clock, seconds a
scan, and the largest memory that the system could not take back (mapped files it can); `--kill-after SECONDS` kills
the study -9 once and starts it again, and compares its predictions with those of a study that nobody killed. A whole
body takes 9 MB on the disk, and as much again resampled to 4 mm. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

import twobe3 as tb
from twobe3.runtime.parallel import one_thread
from twobe3.runtime.progress import track

STEPS = ("reading", "features", "study")
STUDY = """
[cohort]
images = "scans-{scans}"
clinical = "clinical.csv"
[endpoint]
name = "lesion"
kind = "binary"
column = "lesion"
[volume]
spacing_mm = {spacing_mm}
[region]
kind = "threshold"
threshold_suv = 4.0
[[model]]
kind = "2be3-net"
[[model]]
kind = "baseline"
variable = "suvmax"
[[model]]
kind = "baseline"
variable = "volume"
[validation]
folds = 5
repeats = 1
"""


class Template:
    """A series whose files are written anew under other ids, by replacing the bytes that hold them."""

    def __init__(self, folder: Path) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        headers = [pydicom.dcmread(path) for path in files]
        order = sorted(range(len(files)), key=lambda i: float(headers[i].ImagePositionPatient[2]))
        self.headers = [headers[i] for i in order]
        self.contents = [files[i].read_bytes() for i in order]
        self.pixels = np.stack([one.pixel_array for one in self.headers]).astype(np.int16)
        for content, header in zip(self.contents, self.headers, strict=True):
            assert content.endswith(header.PixelData), "the pixels must end the file"

    def write(self, folder: Path, number: int, lesion: bool) -> None:
        """Write patient ``number``."""
        if folder.exists():
            return
        rng = np.random.default_rng(number)
        pixels = np.roll(self.pixels, rng.integers(-3, 4, 3), (0, 1, 2)).astype(np.float32)
        if lesion:
            pixels += self._lesion(pixels, rng)
        pixels *= 1 + rng.normal(0, 0.02, pixels.shape).astype(np.float32)
        stored = np.rint(pixels).clip(0, 32767).astype("<i2")
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        for place, (content, header) in enumerate(zip(self.contents, self.headers, strict=True)):
            head = content[: -len(header.PixelData)]
            for uid in (header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID):
                head = head.replace(uid.encode(), f"{uid[:-6]}{number:06d}".encode())
            patient = str(header.PatientID)
            head = head.replace(patient.encode(), name(number).ljust(len(patient)).encode()[: len(patient)])
            (partial / f"{place:04d}.dcm").write_bytes(head + stored[place].tobytes())
        partial.rename(folder)

    def _lesion(self, pixels: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """A ball of three voxels, as hot as the hottest ten thousandth, where there is body."""
        body = np.argwhere(pixels > np.quantile(pixels, 0.9))
        centre = body[rng.integers(len(body))]
        axes = np.ogrid[tuple(slice(0, length) for length in pixels.shape)]
        distance = sum((axis - at) ** 2 for axis, at in zip(axes, centre, strict=True))
        return np.asarray(np.quantile(pixels, 0.9999) * np.exp(-distance / 18.0), np.float32)


def name(number: int) -> str:
    return f"P{number:06d}"


def write_cohort(folder: Path, series: Path, scans: list[int]) -> None:
    """Whole bodies, folders of links to the first of them, clinical table."""
    template = Template(series)
    for number in track(range(max(scans)), "scans written"):
        template.write(folder / "dicom" / name(number), number, lesion=number % 2 == 1)
    for count in scans:
        part = folder / f"scans-{count}"
        part.mkdir(exist_ok=True)
        for number in range(count):
            link = part / name(number)
            if not link.is_symlink():
                link.symlink_to(folder.resolve() / "dicom" / name(number))
    rows = [f"{name(number)},{number % 2}" for number in range(max(scans))]
    (folder / "clinical.csv").write_text("\n".join(["patient_id,lesion", *rows, ""]))


def study_file(folder: Path, scans: int, spacing_mm: float) -> Path:
    path = folder / f"study-{scans}.toml"
    path.write_text(STUDY.format(scans=scans, spacing_mm=spacing_mm))
    return path


def run_step(step: str, folder: Path, scans: int, spacing_mm: float) -> None:
    """One step, in this process alone; what it made before is not made again."""
    out = folder / f"out-{scans}"
    if step == "study":
        tb.run(study_file(folder, scans, spacing_mm), out, workers=1)
        return
    cohort = tb.read_cohort(
        [folder / f"scans-{scans}"], clinical=folder / "clinical.csv", endpoints=[tb.Binary("lesion", "lesion")],
        grid=tb.Grid(spacing_mm), volumes=out / "volumes", contours=out / "contours",
    )  # fmt: skip
    if step == "features":
        with one_thread():
            tb.models.TwoBe3Net(cache=tb.Cache(out / "features")).precompute(cohort)


@contextmanager
def watch_memory(process: subprocess.Popen[bytes]) -> Iterator[list[float]]:
    """The largest anonymous memory of a process, MiB, looked at ten times a second."""
    peak, ended = [0.0], threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            try:
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            except OSError:
                return
            found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")]
            peak[0] = max(peak[0], *found) if found else peak[0]

    thread = threading.Thread(target=look)
    thread.start()
    yield peak
    ended.set()
    thread.join()


def measure(step: str, asked: argparse.Namespace, scans: int) -> tuple[float, float]:
    """Seconds on the clock and MiB of a step in a process of its own."""
    command = [sys.executable, __file__, str(asked.folder), str(asked.series), "--scans", str(scans)]
    command += ["--spacing-mm", str(asked.spacing_mm), "--step", step]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    with watch_memory(process) as peak:
        status = process.wait()
    assert status == 0, f"{step} ended with {status}"
    return time.perf_counter() - start, peak[0]


def compare_after_kill(asked: argparse.Namespace, scans: int) -> str:
    """Whether a study that is killed in the middle, and started again, predicts as the one that nobody killed."""
    study, out = study_file(asked.folder, scans, asked.spacing_mm), asked.folder / f"killed-{scans}"
    command = [sys.executable, "-m", "twobe3", "run", str(study), "--out", str(out)]
    process = subprocess.Popen(command)
    try:
        process.wait(asked.kill_after)
        return "the study had ended before it was killed"
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    kept = sum(1 for _ in out.rglob("*.safetensors"))
    subprocess.run(command, check=True)
    one, other = (folder / "predictions.csv" for folder in (out, asked.folder / f"out-{scans}"))
    same = "the same" if one.read_bytes() == other.read_bytes() else "NOT the same"
    return f"{scans} scans, killed after {asked.kill_after:g} s with {kept} entries kept: {same} predictions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("series", type=Path, help="folder of one DICOM series")
    parser.add_argument("--scans", type=int, nargs="+", default=[700, 2800])
    parser.add_argument("--spacing-mm", type=float, default=4.0)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--kill-after", type=float, default=0.0, help="seconds after which a study is killed; 0: never")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        run_step(asked.step, asked.folder, asked.scans[0], asked.spacing_mm)
        return
    write_cohort(asked.folder, asked.series, asked.scans)
    print("| scans | step | s | s a scan | MiB |\n|---|---|---|---|---|")
    for scans in asked.scans:
        for step in asked.steps:
            seconds, mib = measure(step, asked, scans)
            print(f"| {scans} | {step} | {seconds:.0f} | {seconds / scans:.2f} | {mib:.0f} |", flush=True)
    if asked.kill_after:
        print(compare_after_kill(asked, asked.scans[0]))


if __name__ == "__main__":
    main()
