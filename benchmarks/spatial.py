"""When does the order of slices matter? Phantoms whose label lies in space, and how many patients each network needs.

    python benchmarks/spatial.py CACHE_FOLDER --weights mobilenetv2_100_imagenet_fp16.safetensors

The phantoms are those of `spatial_phantoms.py`. Training sets of 40, 80, 160 and 320, one inside the other, and 100
other patients for testing; each seed is another such cohort. Every fit is a row of the file of ``--cells``, which a
later run goes on from; ``--show`` prints what is there and computes nothing.

    python benchmarks/spatial.py CACHE_FOLDER --weights … --sizes 160 --contrasts 1 0.7 0.5

shows instead where every network ends: the same phantoms with fainter lesions and organs on the same background.

Choices are made on the seeds ``development``, which are the default. Published tables are of the seeds ``published``,
which no choice has seen and no earlier table used: seeds 0 to 2, 11 to 15 and 21 to 25 were
those of earlier tables, 7 and 8 of `heads.py`.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

import twobe3 as tb
from candidates import DEFAULT, NAMES, Make, candidates
from cells import CellTable, Figures, Mean, compute_cells, measure_fit, parameters_digest, parse_seeds
from spatial_phantoms import TASKS, VERSION, cohort

SEEDS = {"development": range(101, 106), "published": range(31, 36)}
SIZES = (40, 80, 160, 320)
TEST = 100
PICTURE = 64
GOOD = 0.9
REFERENCES = ("cnn3d", "cnn2d")
"""The networks from which differences are taken."""


def models(weights: str, cache: tb.Cache) -> dict[str, Make]:
    return candidates(weights, cache, threshold_suv=2.5, slice_size=PICTURE)


@dataclass(frozen=True)
class Cell:
    """One fit."""

    task: str
    model: str
    n: int
    seed: int
    contrast: float = 1.0

    def folder(self, folder: Path) -> Path:
        """Where the features of the cohort are kept."""
        return folder / f"{self.task}.{self.seed}.{self.contrast:g}"


def compute(cell: Cell, folder: Path, weights: str) -> Figures:
    """AUC on the test patients with its interval, and the seconds."""
    own = cell.folder(folder)
    model = models(weights, tb.Cache(own / "features"))[cell.model]()
    training = cohort(cell.task, cell.seed, range(TEST, TEST + cell.n), own, cell.contrast)
    test = cohort(cell.task, cell.seed, range(TEST), own, cell.contrast)
    return measure_fit(model, training, test)


# -- tables and figure


Axis = Literal["n", "contrast"]
AXES: dict[Axis, str] = {"n": "patients for training", "contrast": "contrast"}
Results = dict[Cell, Figures]


def places_of(results: Results, axis: Axis) -> list[float]:
    return sorted({getattr(cell, axis) for cell in results}, reverse=axis == "contrast")


def mean(cells: Sequence[Figures], key: str) -> float:
    return float(np.mean([getattr(cell, key) for cell in cells]))


def table(results: Results, axis: Axis) -> list[str]:
    """For each task and model the mean AUC of the seeds, the mean ends of their 95 % intervals, how many seeds."""
    places = places_of(results, axis)
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
            columns += [_required_size(there), f"{np.median([cell.fit_seconds for cell in most]):.0f}"]
        lines.append(f"| {' | '.join(columns)} |")
    return lines


def _format_cells(cells: Sequence[Figures]) -> str:
    if not cells:
        return ""
    if any(cell.low is None for cell in cells):  # of a model that says the same of everybody
        return f"{mean(cells, 'value'):.2f}, {len(cells)}"
    return f"{mean(cells, 'value'):.2f} ({mean(cells, 'low'):.2f}–{mean(cells, 'high'):.2f}), {len(cells)}"


def _required_size(by_size: dict[float, list[Figures]]) -> str:
    """The fewest patients with which the mean is good."""
    enough = [n for n, cells in by_size.items() if cells and mean(cells, "value") >= GOOD]
    return f"{enough[0]:g}" if enough else f"> {max(n for n, cells in by_size.items() if cells):g}"


def differences(results: Results, axis: Axis, names: Sequence[str]) -> list[str]:
    """AUC less that of each reference on the same cohorts: the mean of the seeds with its interval over them.

    The last rows are of the mean of all tasks, of the seeds in which every task is there.
    """
    places = places_of(results, axis)
    tasks = [task for task in TASKS if any(cell.task == task for cell in results)]
    head = " | ".join(f"{axis} = {place:g}" for place in places)
    lines = [f"| task | model | less | {head} |", "|---" * (3 + len(places)) + "|"]
    for group, name, other in product([*([task] for task in tasks), tasks], names, REFERENCES):
        if name == other or (len(group) == len(tasks) == 1 and group is tasks):
            continue
        means = [Mean.of(_differences(results, axis, place, group, name, other)) for place in places]
        if any(one.n for one in means):
            where = "mean" if group is tasks else group[0]
            lines.append(f"| {where} | {name} | {other} | {' | '.join(one.text(signed=True) for one in means)} |")
    return lines


def _differences(
    results: Results, axis: Axis, place: float, tasks: Sequence[str], name: str, other: str
) -> list[float]:
    """Of each seed: the mean of the tasks."""
    by_seed: dict[int, dict[str, float]] = {}
    for cell, found in results.items():
        against = results.get(replace(cell, model=other))
        if cell.model == name and cell.task in tasks and getattr(cell, axis) == place and against:
            by_seed.setdefault(cell.seed, {})[cell.task] = found.value - against.value
    return [float(np.mean(list(found.values()))) for found in by_seed.values() if len(found) == len(tasks)]


def draw(results: Results, axis: Axis, path: Path) -> None:
    """A panel for each task, a line for each model through the means, a dot for each seed."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "twobe3"
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(cell.task for cell in results))
    names = [name for name in NAMES if any(cell.model == name for cell in results)]
    shown = sorted(places_of(results, axis))
    figure, panels = plt.subplots(1, len(tasks), figsize=(3.2 * len(tasks), 3.6), sharey=True, squeeze=False)
    for panel, task in zip(panels[0], tasks, strict=True):
        for number, name in enumerate(names):
            dots = sorted(
                (getattr(cell, axis), found.value)
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
    lines, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="", help="MobileNetV2 of ImageNet, for the models on its maps")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--models", nargs="*", choices=NAMES, default=list(DEFAULT))
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--contrasts", nargs="*", type=float, default=[1.0], help="several: of the first of the sizes")
    parser.add_argument("--seeds", nargs="*", default=["development"], help="development, published, 3, 11-15")
    parser.add_argument("--differences", nargs="*", choices=NAMES, default=["2be3-net"], help="of these models")
    parser.add_argument("--cells", type=Path, help="CSV of every fit; by default cells.csv in the folder")
    parser.add_argument("--show", action="store_true", help="compute nothing")
    parser.add_argument("--tidy", action="store_true", help="remove a cohort's features once its fits are done")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    axis: Axis = "n" if len(asked.contrasts) == 1 else "contrast"
    sizes = asked.sizes if axis == "n" else asked.sizes[:1]
    seeds = parse_seeds(asked.seeds, SEEDS)
    cells = [
        Cell(task, model, n, seed, contrast)
        for seed, task, contrast, n, model in product(seeds, asked.tasks, asked.contrasts, sizes, asked.models)
    ]
    found = CellTable(asked.cells or asked.folder / "cells.csv", Cell)
    if not asked.show:
        made = {name: models(asked.weights, tb.Cache())[name]() for name in asked.models}
        versions = {name: parameters_digest(model, VERSION) for name, model in made.items()}
        found.describe(made, versions)

        def tidy(cell: Cell) -> None:
            if asked.tidy:
                shutil.rmtree(cell.folder(asked.folder), ignore_errors=True)

        compute_cells(
            found,
            cells,
            versions,
            partial(compute, folder=asked.folder, weights=asked.weights),
            group=lambda cell: (cell.task, cell.seed, cell.contrast),
            processes=asked.processes,
            finish=tidy,
        )
    results = found.select(cells)
    print("\n".join([*table(results, axis), "", *differences(results, axis, asked.differences)]))
    if asked.figure:
        draw(results, axis, asked.figure)


if __name__ == "__main__":
    main()
