"""When does the order of slices matter? Phantoms whose label lies in space, and how many patients each network needs.

    python benchmarks/spatial.py CACHE_FOLDER --weights mobilenetv2_100_imagenet_fp16.safetensors

Four tasks on volumes of 64³ voxels of 4 mm, each with the same lesions, noise and background in both classes but for:

- ``uptake``: how hot the lesion is;
- ``distance``: two lesions 24 to 56 mm apart along the body, or more than 88 mm; within the slices nothing differs;
- ``elongation``: sixteen slices with a disc, four with a bar of four discs. Either the sixteen follow each other (one
  lesion elongated along the body) and the four lie apart, or the four follow each other (one elongated within the
  slice) and the sixteen lie apart: volume and the distribution of slice contents are equal, slice by slice;
- ``side``: the lesion lies headwards or footwards of a mildly warm organ, whose place varies.

Training sets of 40, 80, 160 and 320, one inside the other, and 200 other patients for testing; each of several seeds is
another such cohort. What was computed is kept in the cache folder, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

import twobe3 as tb
from twobe3.compute import one_thread
from twobe3.progress import track
from twobe3.store import ArrayStore
from twobe3.volume import SUVCalibration

SIZES = (40, 80, 160, 320)
TEST = 200
SIDE = 64
VOXEL_MM = 4.0
GOOD = 0.9
NOISE_SUV = 0.35
SLOW_SUV = 0.15
JITTER = 6.0
"""Voxels by which two lesions of one patient may lie apart within the slice."""
DISC_MM = 7.0
"""Standard deviation of a disc and of a lesion within the slice."""

Volume = npt.NDArray[np.float64]
Paint = Callable[[Volume, bool, np.random.Generator], None]

# -- the phantoms


def background(rng: np.random.Generator) -> Volume:
    """Tissue whose level varies between patients and slowly in space, and noise as smooth as PET's."""
    slow = ndimage.gaussian_filter(rng.normal(size=(8, 8, 8)), 1.0)
    slow = ndimage.zoom(slow / slow.std(), SIDE / 8, order=1)
    noise = ndimage.gaussian_filter(rng.normal(size=(SIDE,) * 3), 1.2)
    level = rng.uniform(0.8, 1.2)
    return np.asarray(level + SLOW_SUV * slow + NOISE_SUV * noise / noise.std())


def blob(centre: Sequence[float], sigma_mm: Sequence[float]) -> Volume:
    """A Gaussian of height 1; centre in voxels."""
    axes = np.ogrid[:SIDE, :SIDE, :SIDE]
    square = sum(((axis - at) * VOXEL_MM / sigma) ** 2 for axis, at, sigma in zip(axes, centre, sigma_mm, strict=True))
    return np.asarray(np.exp(-square / 2))


def disc(centre: Sequence[float]) -> npt.NDArray[np.float64]:
    """One slice with a Gaussian of height 1."""
    axes = np.ogrid[:SIDE, :SIDE]
    square = sum(((axis - at) * VOXEL_MM / DISC_MM) ** 2 for axis, at in zip(axes, centre, strict=True))
    return np.asarray(np.exp(-square / 2))


def in_plane(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return rng.uniform(16, SIDE - 16, size=2)


def uptake(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    height = rng.uniform(3.0, 5.0) if positive else rng.uniform(1.5, 3.5)
    volume += height * blob([rng.uniform(12, SIDE - 12), *in_plane(rng)], [DISC_MM] * 3)


def distance(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    apart = (rng.uniform(24, 56) if positive else rng.uniform(88, 160)) / VOXEL_MM
    middle = rng.uniform(6 + apart / 2, SIDE - 6 - apart / 2)
    place = in_plane(rng)
    for side in (-1, 1):
        at = place + rng.uniform(-JITTER, JITTER, size=2)
        volume += rng.uniform(3.0, 5.0) * blob([middle + side * apart / 2, *at], [6.0] * 3)


def elongation(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    height, long, short = rng.uniform(0.8, 1.6), 16, 4
    together, apart = (long, short) if positive else (short, long)
    first = int(rng.integers(4, SIDE - 4 - together))
    block = np.arange(first, first + together)
    free = [z for z in range(2, SIDE - 2) if z < first - 2 or z > block[-1] + 2]
    scattered = _no_neighbours(free, apart, rng)
    place = in_plane(rng)
    for slices, is_block in ((block, True), (scattered, False)):
        offsets = (np.arange(4) - 1.5) * 3.0 if len(slices) == short else np.zeros(1)
        for z in slices:
            at = place if is_block else in_plane(rng)
            volume[z] += height * np.max([disc([at[0], at[1] + offset]) for offset in offsets], axis=0)


def _no_neighbours(free: list[int], number: int, rng: np.random.Generator) -> list[int]:
    """So many of the slices, no two of which touch where that is possible."""
    chosen: list[int] = []
    for z in rng.permutation(free).tolist():
        if len(chosen) < number and all(abs(z - other) > 1 for other in chosen):
            chosen.append(z)
    assert len(chosen) == number
    return chosen


def side(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    organ = rng.uniform(22, SIDE - 22)
    volume += 1.2 * blob([organ, *(SIDE / 2 + rng.normal(0, 2, size=2))], [20.0, 40.0, 40.0])
    away = rng.uniform(48, 76) / VOXEL_MM
    volume += rng.uniform(3.0, 5.0) * blob([organ + (away if positive else -away), *in_plane(rng)], [6.0] * 3)


TASKS: dict[str, Paint] = {"uptake": uptake, "distance": distance, "elongation": elongation, "side": side}


@dataclass(frozen=True)
class PhantomScan:
    """A phantom that is drawn when it is needed; every second one is positive."""

    task: str
    seed: int
    number: int

    @property
    def positive(self) -> bool:
        return self.number % 2 == 1

    @property
    def digest(self) -> str:
        return f"spatial-1 {self.task} {self.seed} {self.number} {NOISE_SUV} {DISC_MM}"

    @cached_property
    def _array(self) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng([list(TASKS).index(self.task), self.seed, self.number])
        volume = background(rng)
        TASKS[self.task](volume, self.positive, rng)
        return volume.clip(0).astype(np.float32)

    def suv(self) -> tb.SUVVolume:
        affine = np.zeros((4, 4))
        affine[2, 0] = affine[1, 1] = affine[0, 2] = VOXEL_MM
        affine[3, 3] = 1.0
        calibration = SUVCalibration(type="bw", rule="PHANTOM", factor_min=1.0, factor_max=1.0)
        return tb.SUVVolume(self._array, tb.Geometry((SIDE,) * 3, affine), calibration)

    def contour(self, volume: tb.SUVVolume, *, roi: Sequence[str] = ()) -> None:
        return None


def cohort(task: str, seed: int, numbers: range, folder: Path) -> tb.Cohort:
    scans = {f"{number:04d}": PhantomScan(task, seed, number) for number in numbers}
    table = {patient: {"y": str(int(scan.positive))} for patient, scan in scans.items()}
    studies = tuple(tb.Study(patient, scan) for patient, scan in scans.items())
    spec = tb.VolumeSpec((VOXEL_MM,) * 3, (SIDE * VOXEL_MM,) * 3)
    return tb.Cohort(studies, (tb.Binary("label", "y").outcomes(table),), spec, ArrayStore(folder / "volumes"))


# -- the experiment


def models(weights: str, store: tb.FeatureStore) -> dict[str, Callable[[], tb.Model]]:
    network = {"backbone": "mobilenetv2_100.tf", "weights": weights, "store": store, "slice_size": SIDE}
    return {
        "2be3-net": lambda: tb.TwoBe3Net(**network),
        "cnn2d": lambda: tb.CNN2D(**network),
        "cnn3d": lambda: tb.CNN3D(store=store),
        "pooled": lambda: tb.PooledFeatures(**network, planes=("axial",)),
        "radiomics": lambda: tb.Radiomics(region="threshold", threshold_suv=2.5, store=store),
    }


@dataclass(frozen=True)
class Cell:
    """One fit."""

    task: str
    seed: int
    n: int
    model: str


def compute(cell: Cell, folder: Path, weights: str) -> dict[str, float]:
    """AUC on the test patients with its interval, and the seconds of the fit; kept in a file."""
    path = folder / "cells" / f"{cell.task}-{cell.seed}-{cell.n}-{cell.model}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    store = tb.FeatureStore(folder / "features")
    model = models(weights, store)[cell.model]()
    training = cohort(cell.task, cell.seed, range(TEST, TEST + cell.n), folder)
    test = cohort(cell.task, cell.seed, range(TEST), folder)
    with one_thread():
        for part in (training, test):
            model.prepare(part)
        start = time.perf_counter()
        model.fit(training)
        seconds = time.perf_counter() - start
        auc = tb.evaluate(model.predict(test), test.outcomes, resamples=1000).metrics[0]
    found = {"auc": auc.value, "low": auc.low, "high": auc.high, "seconds": seconds}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return found


def _computed(arguments: tuple[Cell, Path, str]) -> tuple[Cell, dict[str, float]]:
    return arguments[0], compute(*arguments)


def reaches(values: dict[int, list[float]]) -> str:
    """The smallest number of patients at which the mean AUC of the seeds is at least :data:`GOOD`."""
    there = [n for n, aucs in sorted(values.items()) if np.mean(aucs) >= GOOD]
    return str(there[0]) if there else f"> {max(values)}"


def draw(results: dict[Cell, dict[str, float]], path: Path) -> None:
    """Learning curves: a panel for each task, a line for each model, a dot for each seed."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "twobe3"
    import matplotlib.pyplot as plt

    tasks = [task for task in TASKS if any(cell.task == task for cell in results)]
    figure, panels = plt.subplots(1, len(tasks), figsize=(3.4 * len(tasks), 3.4), sharey=True, squeeze=False)
    for panel, task in zip(panels[0], tasks, strict=True):
        of_task = {cell: found for cell, found in results.items() if cell.task == task}
        for number, name in enumerate(dict.fromkeys(cell.model for cell in of_task)):
            sizes = sorted({cell.n for cell in of_task if cell.model == name})
            dots = [[f["auc"] for c, f in of_task.items() if c.model == name and c.n == n] for n in sizes]
            colour = f"C{number}"
            panel.plot(sizes, [np.mean(aucs) for aucs in dots], color=colour, label=name)
            for n, aucs in zip(sizes, dots, strict=True):
                panel.plot([n] * len(aucs), aucs, ".", color=colour, alpha=0.6)
        panel.axhline(0.5, color="0.8", zorder=0)
        panel.axhline(GOOD, color="0.8", linestyle=":", zorder=0)
        panel.set(title=task, xscale="log", xlabel="patients for training", ylim=(0.4, 1.02))
        panel.set_xticks(SIZES, [str(n) for n in SIZES])
        panel.minorticks_off()
    panels[0][0].set_ylabel("AUC of 200 test patients")
    panels[0][-1].legend(frameon=False, loc="lower right", fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["2be3-net", "cnn2d", "cnn3d", "pooled"])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    cells = [Cell(*cell) for cell in product(options.tasks, range(options.seeds), options.sizes, options.models)]
    with ProcessPoolExecutor(options.processes) as pool:
        arguments = [(cell, options.folder, options.weights) for cell in cells]
        results = dict(track(pool.map(_computed, arguments), "fits", total=len(cells)))
    header = " | ".join(f"n = {n}" for n in options.sizes)
    print(f"| task | model | {header} | patients for {GOOD} | seconds a fit, largest n |")
    print("|---" * (4 + len(options.sizes)) + "|")
    for task, name in product(options.tasks, options.models):
        values = {
            n: [results[Cell(task, seed, n, name)]["auc"] for seed in range(options.seeds)] for n in options.sizes
        }
        shown = [f"{np.mean(aucs):.2f} ({min(aucs):.2f}–{max(aucs):.2f})" for aucs in values.values()]
        slowest = np.median([results[Cell(task, seed, max(values), name)]["seconds"] for seed in range(options.seeds)])
        print(f"| {task} | {name} | {' | '.join(shown)} | {reaches(values)} | {slowest:.0f} |")
    if options.figure:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
