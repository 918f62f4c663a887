"""How long radiomic features of a scan take and how much memory: our wrapper against MIRP called directly.

Both get the same arrays in memory, the same families of features, 4 mm voxels and bins of 0.5 SUV, on one thread and
in turn; a round that is not counted comes first. Peak memory is that of a fresh process that does one scan, reading
it included (Linux). Needs the extra ``radiomics``. Run::

    TWOBE3_DATA=… python benchmarks/radiomics.py [--rounds 3] [--scans 4]

``$TWOBE3_DATA/ge_whole_body`` and the first scans of ``$TWOBE3_DATA/sts`` are measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import math
import multiprocessing
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from twobe3.dicom.read import read_suv
from twobe3.dicom.series import find_series
from twobe3.dicom.voi import contour_mask
from twobe3.features.radiomics import IBSI_FAMILIES, RadiomicsSettings, extract
from twobe3.volume import Mask, SUVVolume

TARGET_RATIO = 1.1


def read(folder: Path) -> tuple[SUVVolume, Mask]:
    (series,) = find_series([folder]).series
    volume = read_suv(series)
    mask = contour_mask(series, volume)
    assert mask is not None
    return volume, mask


def wrapper(volume: SUVVolume, mask: Mask) -> int:
    return len(extract(volume, mask, RadiomicsSettings()).names)


def directly(volume: SUVVolume, mask: Mask) -> int:
    """As MIRP's manual has it, on the whole image; only the spacing, which its importer of arrays lacks, is set."""
    mirp = importlib.import_module("mirp")
    (image,) = importlib.import_module("mirp.data_import.import_image").import_image(volume.array, image_modality="pet")
    (region,) = importlib.import_module("mirp.data_import.import_mask").import_mask(mask.array)
    image.image_spacing = region.image_spacing = volume.geometry.spacing_mm
    (table,) = mirp.extract_features(
        image=image,
        mask=region,
        new_spacing=4.0,
        base_feature_families=list(IBSI_FAMILIES),
        base_discretisation_method="fixed_bin_size",
        base_discretisation_bin_width=0.5,
        resegmentation_intensity_range=[0.0, math.nan],
    )
    return int(table.shape[1])


WAYS: dict[str, Callable[[SUVVolume, Mask], int]] = {"twobe3": wrapper, "MIRP directly": directly}


def peak_mib(way: str | None, folder: Path) -> float:
    """Of this process, after one scan; with no way, after importing MIRP and reading the scan."""
    quiet()
    volume, mask = read(folder)
    importlib.import_module("mirp")
    if way is not None:
        WAYS[way](volume, mask)
    # Not ru_maxrss, which a process that was forked begins with its parent's.
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) / 1024.0


def in_fresh_process(way: str | None, folder: Path) -> float:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak_mib, way, folder).result()


def seconds(volume: SUVVolume, mask: Mask, rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for i in range(rounds + 1):
        for name, way in WAYS.items():
            began = time.perf_counter()
            way(volume, mask)
            if i:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(of) for name, of in times.items()}


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    volume, mask = read(folder)
    with threadpool_limits(1):
        took = seconds(volume, mask, rounds)
    return {
        "shape": volume.array.shape,
        "region_ml": round(mask.volume_ml, 1),
        "seconds": {name: round(value, 2) for name, value in took.items()},
        "ratio": round(took["twobe3"] / took["MIRP directly"], 3),
        "peak_mib": {name: round(in_fresh_process(name, folder)) for name in WAYS},
        "peak_mib_before": round(in_fresh_process(None, folder)),
    }


def quiet() -> None:
    """MIRP configures the root logger unless it has a handler."""
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scans", type=int, default=4)
    arguments = parser.parse_args()
    quiet()
    data = Path(os.environ["TWOBE3_DATA"])
    folders = [data / "ge_whole_body", *sorted((data / "sts" / "dicom").iterdir())[: arguments.scans]]
    scans = {folder.name: measure(folder, arguments.rounds) for folder in folders}
    ratios = [scan["ratio"] for scan in scans.values()]
    summary = {"cores": os.cpu_count(), "python": platform.python_version(), "largest_ratio": max(ratios),
               "target": TARGET_RATIO, "met": max(ratios) <= TARGET_RATIO, "scans": scans}  # fmt: skip
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
