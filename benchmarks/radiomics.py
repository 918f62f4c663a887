"""How long a scan takes and how much memory: radiomics through our wrapper, MIRP called directly, mask-free models.

All get the same SUV in memory, on one thread and in turn; a round that is not counted comes first.

* ``twobe3`` and ``MIRP directly``: the same families of features, 4 mm voxels and bins of 0.5 SUV, in a contour that
  somebody has drawn already.
* ``2be3-net`` and ``pooled``: from the scan alone to its risk, that is resampling, feature maps of the MobileNetV2 and
  the fitted head; on the grid of examples/sts.toml, so on scans of ``sts`` only. How long they were trained (one epoch
  of a few patients) does not change how long they predict.

Peak memory is that of a fresh process that does one scan, reading it included (Linux); ``reading alone`` is what the
libraries and the scan take before anything is computed. Needs the extra ``radiomics``.
Run::

    TWOBE3_DATA=… python benchmarks/radiomics.py [--rounds 3] [--scans 4]

``$TWOBE3_DATA/ge_whole_body`` and the first scans of ``$TWOBE3_DATA/sts`` are measured.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.read import read_cohort
from twobe3.core.endpoints import Binary
from twobe3.core.grid import Grid
from twobe3.core.volume import Mask, SUVVolume
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv
from twobe3.features.radiomics import IBSI_FAMILIES, RadiomicsSettings, extract
from twobe3.io.cache import Cache
from twobe3.models import Model, PooledModel, TwoBe3Net, load_model
from twobe3.runtime.process import one_thread
from twobe3.scans.masks import contour_mask
from twobe3.scans.scan import ArrayScan

TARGET_RATIO = 1.1
TRAINING = 4  # patients of each class, for the mask-free models
GRID = Grid((4.0, 4.0, 4.0), (384.0, 320.0, 320.0))
Way = Callable[[SUVVolume, Mask], object]


def read(folder: Path) -> tuple[SUVVolume, Mask]:
    (series,) = find_series([folder]).series
    volume = read_suv(series)
    mask = contour_mask(series, volume)
    assert mask is not None
    return volume, mask


def wrapper(volume: SUVVolume, mask: Mask) -> object:
    return extract(volume, mask, RadiomicsSettings())


def directly(volume: SUVVolume, mask: Mask) -> object:
    """As MIRP's manual has it, on the whole image; only the spacing, which its importer of arrays lacks, is set."""
    mirp = importlib.import_module("mirp")
    (image,) = importlib.import_module("mirp.data_import.import_image").import_image(volume.array, image_modality="pet")
    (region,) = importlib.import_module("mirp.data_import.import_mask").import_mask(mask.array)
    image.image_spacing = region.image_spacing = volume.geometry.spacing_mm
    return mirp.extract_features(
        image=image,
        mask=region,
        new_spacing=4.0,
        base_feature_families=list(IBSI_FAMILIES),
        base_discretisation_method="fixed_bin_size",
        base_discretisation_bin_width=0.5,
        resegmentation_intensity_range=[0.0, math.nan],
    )


def mask_free(model: Model, volume: SUVVolume, _: Mask) -> object:
    model.cache = Cache()  # nothing is known of the scan
    return model.predict(Cohort((Subject("scan", ArrayScan(volume)),), grid=GRID))


RADIOMICS: dict[str, Way] = {"twobe3": wrapper, "MIRP directly": directly}


def ways(models: Mapping[str, Path]) -> dict[str, Way]:
    return RADIOMICS | {name: partial(mask_free, load_model(path)) for name, path in models.items()}


def fit_mask_free(data: Path, folder: Path) -> dict[str, Path]:
    """Mask-free models of a few patients, each in its file."""
    endpoint = Binary("lung metastasis", "lung_metastasis")
    cohort = read_cohort(data / "sts" / "dicom", clinical=data / "sts" / "clinical.csv", endpoints=[endpoint])
    event = cohort.outcomes.event
    few = [*np.flatnonzero(event)[:TRAINING], *np.flatnonzero(~event)[:TRAINING]]
    training = replace(cohort.subset(few), grid=GRID)
    network: dict[str, Any] = {
        "backbone": "mobilenetv2_100.tf",
        "weights": str(data / "weights" / "mobilenetv2_100_imagenet_fp16.safetensors"),
        "cache": Cache(),
    }
    models: tuple[Model, ...] = (TwoBe3Net(**network, epochs=1), PooledModel(**network))
    return {model.name: model.fit(training).save(folder / f"{model.name}.safetensors") for model in models}


def peak_mib(name: str | None, models: Mapping[str, Path], folder: Path) -> float:
    """Of this process, after one scan; with no name, after reading it."""
    quiet()
    volume, mask = read(folder)
    if name is not None:
        with one_thread():
            ways({name: models[name]} if name in models else {})[name](volume, mask)
    # Not ru_maxrss, which a process that was forked begins with its parent's.
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) / 1024.0


def in_fresh_process(name: str | None, models: Mapping[str, Path], folder: Path) -> float:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak_mib, name, models, folder).result()


def seconds(volume: SUVVolume, mask: Mask, models: Mapping[str, Path], rounds: int) -> dict[str, float]:
    named = ways(models)
    times: dict[str, list[float]] = {name: [] for name in named}
    with one_thread():
        for i in range(rounds + 1):
            for name, way in named.items():
                began = time.perf_counter()
                way(volume, mask)
                if i:
                    times[name].append(time.perf_counter() - began)
    return {name: statistics.median(of) for name, of in times.items()}


def measure(folder: Path, models: Mapping[str, Path], rounds: int) -> float:
    """Print the rows of a scan; gives how much longer the wrapper takes than MIRP."""
    volume, mask = read(folder)
    took = seconds(volume, mask, models, rounds)
    scan = f"{folder.name} ({' × '.join(map(str, volume.array.shape))}, {mask.volume_ml:.0f} ml)"
    print(f"| {scan} | reading alone | | | {in_fresh_process(None, models, folder):.0f} |")
    for name, value in took.items():
        relative = value / took["MIRP directly"]
        peak = in_fresh_process(name, models, folder)
        print(f"| {scan} | {name} | {value:.2f} | {relative:.2f} | {peak:.0f} |")
    return took["twobe3"] / took["MIRP directly"]


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
    with tempfile.TemporaryDirectory(prefix="twobe3-") as folder:
        models = fit_mask_free(data, Path(folder))
        print("| scan (voxels, contour) | way | seconds | of MIRP's | peak MiB |\n|---|---|---|---|---|")
        ratios = [measure(data / "ge_whole_body", {}, arguments.rounds)]
        for scan in sorted((data / "sts" / "dicom").iterdir())[: arguments.scans]:
            ratios.append(measure(scan, models, arguments.rounds))
    met = "met" if max(ratios) <= TARGET_RATIO else "missed"
    print(f"\nLargest ratio of the wrapper to MIRP: {max(ratios):.2f}; target {TARGET_RATIO}, {met}.")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}.")


if __name__ == "__main__":
    main()
