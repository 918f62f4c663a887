"""Time and memory of indexing a directory tree of many subjects, by their headers alone and by their pictures.

The subjects are synthetic: one PET series each, of small slices, in one folder a patient; every size is indexed in a
process of its own. The landmarks compared are random, which costs what real ones cost. Run::

    python benchmarks/catalogue.py [--slices 20] [--subjects 700 1400 2800]
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom

from twobe3.collections.catalogue import make_catalogue
from twobe3.core.volume import Geometry, SUVCalibration, SUVVolume
from twobe3.phantom.dicom_writer import PETHeader, write_pet_series
from twobe3.scans.fingerprint import MOST, Landmarks, match_landmarks, no_landmarks

COLUMNS = 16
NUMBER = "90000"  # of the first patient, in every identifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--subjects", type=int, nargs="+", default=[700, 1400, 2800])
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--compare", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.index is not None:
        index(asked.index)
    elif asked.compare is not None:
        compare(asked.compare)
    else:
        print(f"{platform.machine()}, {os.cpu_count()} cores, {asked.slices} slices of {COLUMNS}² a study")
        print("| subjects | files | index s | peak MB | KB a study above the first size | compare s | peak MB |")
        print("|---|---|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            report(Path(folder), sorted(asked.subjects), asked.slices)


def report(folder: Path, sizes: list[int], slices: int) -> None:
    made, least = 0, None
    for size in sizes:
        write(folder, made, size, slices)
        made = size
        seconds, peak_mb = measure("--index", str(folder))
        least = least or (size, peak_mb)
        grown = (peak_mb - least[1]) * 1024 / (size - least[0]) if size > least[0] else 0.0
        compare_s, compare_mb = measure("--compare", str(size))
        print(f"| {size} | {size * slices} | {seconds:.1f} | {peak_mb:.0f} | {grown:.1f} | {compare_s:.1f} "
              f"| {compare_mb:.0f} |", flush=True)  # fmt: skip


def measure(*arguments: str) -> tuple[float, float]:
    run = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    seconds, peak_mb = map(float, run.stdout.split())
    return seconds, peak_mb


def index(folder: Path) -> None:
    start = time.perf_counter()
    make_catalogue([folder], compare=False)
    describe(start)


def compare(scans: int) -> None:
    rng = np.random.default_rng(0)
    dims = no_landmarks().patches.shape[1]
    prints = []
    for _ in range(scans):
        patches = rng.normal(size=(MOST, dims)).astype(np.float32)
        patches /= np.linalg.norm(patches, axis=1, keepdims=True)
        prints.append(Landmarks(rng.uniform(0, 1000, (MOST, 3)).astype(np.float32), patches))
    start = time.perf_counter()
    match_landmarks(prints)
    describe(start)


def describe(start: float) -> None:
    print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def write(folder: Path, first: int, last: int, slices: int) -> None:
    """Studies as copies of one, with other identifiers of the same length."""
    with tempfile.TemporaryDirectory() as name:
        templates = [file.read_bytes() for file in template(Path(name), slices)]
    for number in range(first, last):
        study = folder / f"patient-{number:05d}"
        study.mkdir(parents=True)
        for i, content in enumerate(templates):
            (study / f"{i:04d}.dcm").write_bytes(content.replace(NUMBER.encode(), str(int(NUMBER) + number).encode()))


def template(folder: Path, slices: int) -> list[Path]:
    shape = (slices, COLUMNS, COLUMNS)
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * 4.0
    suv = np.random.default_rng(0).gamma(2.0, 1.0, shape).astype(np.float32)
    header = PETHeader(
        patient_id=NUMBER, sex="F", age_years=60, weight_kg=70.0, height_m=1.7, injected_dose_bq=3e8,
        injected=datetime(2020, 1, 1, 9), started=datetime(2020, 1, 1, 10),
    )  # fmt: skip
    files = write_pet_series(SUVVolume(suv, Geometry(shape, affine), SUVCalibration("bw", "test", 1, 1)), folder,
                             header=header)  # fmt: skip
    for i, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.3.1.{NUMBER}", f"1.2.3.2.{NUMBER}"
        dataset.FrameOfReferenceUID = f"1.2.3.3.{NUMBER}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{NUMBER}.{i + 1}"
        dataset.save_as(file)
    return list(files)


if __name__ == "__main__":
    main()
