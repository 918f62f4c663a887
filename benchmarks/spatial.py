"""When does the order of slices matter? Phantoms whose label lies in space, and how many patients each network needs.

    python benchmarks/spatial.py CACHE_FOLDER --weights mobilenetv2_100_imagenet_fp16.safetensors

Five tasks on volumes of 48³ voxels of 4 mm, each with the same lesions, noise and background in both classes but for:

- ``uptake``: how hot the lesion is;
- ``distance``: two lesions 24 to 56 mm apart along the body, or more than 88 mm; within the slices nothing differs;
- ``elongation``: twelve slices with a disc, three with a bar of four discs. Either the twelve follow each other (one
  lesion elongated along the body) and the three lie apart, or the three follow each other (one elongated within the
  slice) and the twelve lie apart: volume and the distribution of slice contents are equal, slice by slice;
- ``side``: the lesion lies headwards or footwards of a mildly warm organ, whose place varies;
- ``scattered``: ``distance`` again, but the two lesions lie anywhere in their slices, not at nearly the same place.

Training sets of 40, 80, 160 and 320, one inside the other, and 100 other patients for testing; each of several seeds is
another such cohort. What was computed is kept in the cache folder, so that an interrupted run goes on.

    python benchmarks/spatial.py CACHE_FOLDER --weights … --sizes 160 --contrasts 1 0.7 0.5

shows instead where every network ends: the same phantoms with fainter lesions and organs on the same background.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

import twobe3 as tb
from twobe3.core.volume import SUVCalibration
from twobe3.io.cache import Cache
from twobe3.io.files import write_atomic
from twobe3.runtime.parallel import one_thread
from twobe3.runtime.progress import track

MODELS = ("2be3-net", "cnn2d", "cnn3d", "pooled", "radiomics")
FINER = "2be3-net-layer-2"
"""On maps of stride 8 instead of 16; on request."""
STACKS = {"2be3-net-image": ("image", "profile"), "2be3-net-maps-image": ("maps", "image", "profile")}
"""2be3-net on other inputs; on request."""
CLOSED_FORM = "spatial"
"""Correlograms and a ridge, devised with these tasks in mind; on request."""
NAMES = (*MODELS, FINER, *STACKS, CLOSED_FORM)
SIZES = (40, 80, 160, 320)
TEST = 100
SIDE = 48
VOXEL_MM = 4.0
PICTURE = 64
GOOD = 0.9
NOISE_SUV = 0.3
SLOW_SUV = 0.1
JITTER = 3.0
"""Voxels by which two lesions of one patient may lie apart within the slice."""
DISC_MM = 7.0
"""Standard deviation of a disc and of a lesion within the slice."""

Volume = npt.NDArray[np.float64]
Paint = Callable[[Volume, bool, np.random.Generator], None]

# -- the phantoms


def background(rng: np.random.Generator) -> Volume:
    """Tissue whose level varies between patients and slowly in space, and noise as smooth as PET's."""
    slow = ndimage.gaussian_filter(rng.normal(size=(6, 6, 6)), 1.0)
    slow = ndimage.zoom(slow / slow.std(), SIDE / 6, order=1)
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
    return rng.uniform(12, SIDE - 12, size=2)


def uptake(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    height = rng.uniform(3.0, 5.0) if positive else rng.uniform(1.5, 3.5)
    volume += height * blob([rng.uniform(8, SIDE - 8), *in_plane(rng)], [DISC_MM] * 3)


def distance(volume: Volume, positive: bool, rng: np.random.Generator, *, scattered: bool = False) -> None:
    apart = (rng.uniform(24, 56) if positive else rng.uniform(88, 140)) / VOXEL_MM
    middle = rng.uniform(6 + apart / 2, SIDE - 6 - apart / 2)
    place = in_plane(rng)
    for side in (-1, 1):
        at = in_plane(rng) if scattered else place + rng.uniform(-JITTER, JITTER, size=2)
        volume += rng.uniform(3.0, 5.0) * blob([middle + side * apart / 2, *at], [6.0] * 3)


def elongation(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    height, long, short = rng.uniform(1.7, 3.0), 12, 3
    together, apart = (long, short) if positive else (short, long)
    first = int(rng.integers(4, SIDE - 4 - together))
    block = np.arange(first, first + together)
    free = [z for z in range(2, SIDE - 2) if z < first - 2 or z > block[-1] + 2]
    scattered = _no_neighbours(free, apart, rng)
    for slices in (block, scattered):
        offsets = (np.arange(4) - 1.5) * 3.0 if len(slices) == short else np.zeros(1)
        # One place for all of them, the scattered ones too: how much places vary must not tell the label.
        at = in_plane(rng)
        picture = height * np.max([disc([at[0], at[1] + offset]) for offset in offsets], axis=0)
        for z in slices:
            volume[z] += picture


def _no_neighbours(free: list[int], number: int, rng: np.random.Generator) -> list[int]:
    """So many of the slices, no two of which touch where that is possible."""
    chosen: list[int] = []
    for z in rng.permutation(free).tolist():
        if len(chosen) < number and all(abs(z - other) > 1 for other in chosen):
            chosen.append(z)
    assert len(chosen) == number
    return chosen


def side(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    organ = rng.uniform(18, SIDE - 18)
    volume += 0.8 * blob([organ, *(SIDE / 2 + rng.normal(0, 2, size=2))], [16.0, 40.0, 40.0])
    away = rng.uniform(36, 60) / VOXEL_MM
    volume += rng.uniform(2.0, 4.0) * blob([organ + (away if positive else -away), *in_plane(rng)], [6.0] * 3)


TASKS: dict[str, Paint] = {
    "uptake": uptake,
    "distance": distance,
    "elongation": elongation,
    "side": side,
    "scattered": partial(distance, scattered=True),
}


@dataclass(frozen=True)
class PhantomScan:
    """A phantom that is drawn when it is needed; every second one is positive."""

    task: str
    seed: int
    number: int
    contrast: float = 1.0

    @property
    def positive(self) -> bool:
        return self.number % 2 == 1

    @property
    def digest(self) -> str:
        contrast = "" if self.contrast == 1 else f" {self.contrast}"
        return f"spatial-3 {self.task} {self.seed} {self.number} {NOISE_SUV} {DISC_MM}{contrast}"

    @cached_property
    def _array(self) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng([list(TASKS).index(self.task), self.seed, self.number])
        tissue, painted = background(rng), np.zeros((SIDE,) * 3)
        TASKS[self.task](painted, self.positive, rng)
        return np.asarray(tissue + self.contrast * painted).clip(0).astype(np.float32)

    def suv(self) -> tb.core.SUVVolume:
        affine = np.zeros((4, 4))
        affine[2, 0] = affine[1, 1] = affine[0, 2] = VOXEL_MM
        affine[3, 3] = 1.0
        calibration = SUVCalibration(type="bw", rule="PHANTOM", factor_min=1.0, factor_max=1.0)
        return tb.core.SUVVolume(self._array, tb.core.Geometry((SIDE,) * 3, affine), calibration)

    def contour(self, volume: tb.core.SUVVolume, *, roi: Sequence[str] = ()) -> None:
        return None


def cohort(task: str, seed: int, numbers: range, folder: Path, contrast: float = 1.0) -> tb.Cohort:
    scans = {f"{number:04d}": PhantomScan(task, seed, number, contrast) for number in numbers}
    table = {patient: {"y": str(int(scan.positive))} for patient, scan in scans.items()}
    subjects = tuple(tb.Subject(patient, scan) for patient, scan in scans.items())
    grid = tb.Grid((VOXEL_MM,) * 3, (SIDE * VOXEL_MM,) * 3)
    return tb.Cohort(subjects, (tb.Binary("label", "y").outcomes(table),), grid, Cache(folder / "volumes"))


# -- the experiment


def models(weights: str, cache: tb.Cache) -> dict[str, Callable[[], tb.models.Model]]:
    """The models at their defaults, on pictures of 64 pixels."""
    network: dict[str, Any] = {
        "backbone": "mobilenetv2_100.tf",
        "weights": weights,
        "cache": cache,
        "slice_size": PICTURE,
    }
    return {
        "2be3-net": lambda: tb.models.TwoBe3Net(**network),
        FINER: lambda: tb.models.TwoBe3Net(**network, layer=2),
        **{name: partial(tb.models.TwoBe3Net, **network, inputs=inputs) for name, inputs in STACKS.items()},
        "cnn2d": lambda: tb.models.CNN2D(**network),
        "cnn3d": lambda: tb.models.CNN3D(cache=cache),
        "pooled": lambda: tb.models.PooledModel(**network, planes=("axial",)),
        CLOSED_FORM: lambda: tb.models.SpatialModel(cache=cache),
        "radiomics": lambda: tb.models.RadiomicsModel(region="threshold", threshold_suv=2.5, cache=cache),
    }


@dataclass(frozen=True)
class Cell:
    """One fit."""

    task: str
    model: str
    n: int
    seed: int
    contrast: float = 1.0

    def path(self, folder: Path) -> Path:
        contrast = "" if self.contrast == 1 else f".contrast-{self.contrast}"
        return folder / "cells" / f"{self.task}.{self.model}.{self.n}.{self.seed}{contrast}.json"


Figures = dict[str, float]


def compute(cell: Cell, folder: Path, weights: str) -> None:
    """AUC on the test patients with its interval, and the seconds of the fit; kept in a file."""
    if cell.path(folder).exists():
        return
    cache = tb.Cache(folder / "features")
    model = models(weights, cache)[cell.model]()
    training = cohort(cell.task, cell.seed, range(TEST, TEST + cell.n), folder, cell.contrast)
    test = cohort(cell.task, cell.seed, range(TEST), folder, cell.contrast)
    with one_thread():
        for part in (training, test):
            model.precompute(part)
        start = time.perf_counter()
        model.fit(training)
        seconds = time.perf_counter() - start
        prediction = model.predict(test)
        auc = tb.evaluate(prediction, test.outcomes.of(prediction.patients), resamples=1000).metrics[0]
    found = {"auc": auc.value, "low": auc.low, "high": auc.high, "seconds": seconds, "tested": len(prediction)}
    write_atomic(cell.path(folder), json.dumps(found).encode())


def _compute(arguments: tuple[Cell, Path, str]) -> None:
    compute(*arguments)


def load_results(cells: Sequence[Cell], folder: Path) -> dict[Cell, Figures]:
    """What is there of these cells, of this run or earlier ones."""
    return {cell: json.loads(cell.path(folder).read_text()) for cell in cells if cell.path(folder).exists()}


def mean(cells: Sequence[Figures], key: str) -> float:
    return float(np.mean([cell[key] for cell in cells]))


Axis = Literal["n", "contrast"]
AXES: dict[Axis, str] = {"n": "patients for training", "contrast": "contrast"}


def table(results: dict[Cell, Figures], axis: Axis) -> list[str]:
    """For each task and model the mean AUC of the seeds, the mean ends of their 95 % intervals, how many seeds."""
    places = sorted({getattr(cell, axis) for cell in results}, reverse=axis == "contrast")
    head = " | ".join(f"{axis} = {place:g}" for place in places)
    last = f" | patients for {GOOD} | seconds a fit" if axis == "n" else ""
    lines = [f"| task | model | {head}{last} |", "|---" * (2 + len(places) + last.count("|")) + "|"]
    for task, name in product(TASKS, NAMES):
        there = {
            place: [
                found
                for cell, found in results.items()
                if (cell.task, cell.model, getattr(cell, axis)) == (task, name, place)
            ]
            for place in places
        }
        if not any(there.values()):
            continue
        columns = [task, name, *(_format_cells(cells) for cells in there.values())]
        if axis == "n":
            most = [cells for cells in there.values() if cells][-1]
            columns += [_required_size(there), f"{np.median([cell['seconds'] for cell in most]):.0f}"]
        lines.append(f"| {' | '.join(columns)} |")
    return lines


def _format_cells(cells: Sequence[Figures]) -> str:
    if not cells:
        return ""
    if any(cell["low"] is None for cell in cells):  # of a model that says the same of everybody
        return f"{mean(cells, 'auc'):.2f}, {len(cells)}"
    return f"{mean(cells, 'auc'):.2f} ({mean(cells, 'low'):.2f}–{mean(cells, 'high'):.2f}), {len(cells)}"


def _required_size(by_size: dict[int, list[Figures]]) -> str:
    """The fewest patients with which the mean is good."""
    enough = [n for n, cells in by_size.items() if cells and mean(cells, "auc") >= GOOD]
    return str(enough[0]) if enough else f"> {max(n for n, cells in by_size.items() if cells)}"


def draw(results: dict[Cell, Figures], axis: Axis, path: Path) -> None:
    """A panel for each task, a line for each model through the means, a dot for each seed."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "twobe3"
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(cell.task for cell in results))
    shown = sorted({getattr(cell, axis) for cell in results})
    figure, panels = plt.subplots(1, len(tasks), figsize=(3.2 * len(tasks), 3.6), sharey=True, squeeze=False)
    for panel, task in zip(panels[0], tasks, strict=True):
        for number, name in enumerate(NAMES):
            dots = sorted(
                (getattr(cell, axis), found["auc"])
                for cell, found in results.items()
                if (cell.task, cell.model) == (task, name)
            )
            if not dots:
                continue
            places = sorted({place for place, _ in dots})
            colour = f"C{number}"
            means = [np.mean([auc for place, auc in dots if place == at]) for at in places]
            panel.plot(places, means, color=colour, label=name)
            panel.plot(*zip(*dots, strict=True), ".", color=colour, alpha=0.6)
        panel.axhline(0.5, color="0.8", zorder=0)
        panel.axhline(GOOD, color="0.8", linestyle=":", zorder=0)
        panel.set(title=task, xscale="log", xlabel=AXES[axis], ylim=(0.3, 1.02))
        panel.set_xticks(shown, [f"{place:g}" for place in shown])
        panel.minorticks_off()
    panels[0][0].set_ylabel(f"AUC of {TEST} test patients")
    lines, names = panels[0][0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=len(names), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--models", nargs="*", choices=NAMES, default=list(MODELS))
    parser.add_argument("--sizes", nargs="*", type=int, choices=SIZES, default=list(SIZES))
    parser.add_argument("--contrasts", nargs="*", type=float, default=[1.0], help="several: of the first of the sizes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    axis: Axis = "n" if len(asked.contrasts) == 1 else "contrast"
    sizes = asked.sizes if axis == "n" else asked.sizes[:1]
    cells = [Cell(*cell) for cell in product(asked.tasks, asked.models, sizes, range(asked.seeds), asked.contrasts)]
    # One process works on one cohort at a time: two would compute the same features.
    cells.sort(key=lambda cell: (cell.seed, cell.task, cell.contrast))
    with ProcessPoolExecutor(asked.processes) as pool:
        arguments = [(cell, asked.folder, asked.weights) for cell in cells]
        for _ in track(
            pool.map(_compute, arguments, chunksize=len(asked.models) * len(sizes)), "fits", total=len(cells)
        ):
            pass
    # A learning curve shows whatever is there of earlier runs; over contrasts, other models have one point alone.
    models = dict.fromkeys([*MODELS, *asked.models]) if axis == "n" else asked.models
    shown = product(asked.tasks, models, sizes, range(asked.seeds), asked.contrasts)
    results = load_results([Cell(*cell) for cell in shown], asked.folder)
    print("\n".join(table(results, axis)))
    if asked.figure:
        draw(results, axis, asked.figure)


if __name__ == "__main__":
    main()
