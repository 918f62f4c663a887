"""Which model predicts an outcome, by what the outcome depends on? Phantoms of which we know it.

    python benchmarks/outcomes.py CACHE_FOLDER --weights mobilenetv2_100_imagenet_fp16.safetensors

The patients, and the five properties of which each decides a metastasis and a time to recurrence, are those of
`outcome_phantoms.py`. Twenty training sets of 50 patients and ten of 200, those of one size without a patient in
common, and one test set of 200. AUC or Harrell's C on the test set, the mean of the training sets with its 95 %
interval over them; ``truth`` is the property itself. Every fit is a row of the file of ``--cells``, which a later run
goes on from; ``--show`` prints what is there and computes nothing.

Choices are made on the patients ``development``, which are the default; published tables are of ``published``, which
no choice has seen. Neither were among those of `heads.py` or of any network's training.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

import twobe3 as tb
from candidates import DEFAULT, Make, candidates
from cells import METRICS, CellTable, Figures, Mean, compute_cells, measure_fit, measure_risk, parameters_digest
from outcome_phantoms import FIRST_SEED, MECHANISMS, VERSION, cohort, draw_outcome, draw_patient, scans
from twobe3.io.files import digest
from twobe3.runtime.parallel import run_tasks

TEST = 200
SETS = {50: 20, 200: 10}
"""How many training sets of each size."""
ENDPOINTS = {"metastasis": "binary", "recurrence": "time-to-event"}
TRUTH = "truth"
UNFAIR = ("radiomics-contour", TRUTH)
"""These are told where the lesions are, or more."""
BLOCK = 20
"""Patients whose features one process computes at a time."""


def models(weights: str, cache: tb.Cache) -> dict[str, Make]:
    region = {"region": "threshold", "threshold_suv": 4.0, "cache": cache}
    return {
        **candidates(weights, cache, threshold_suv=4.0),
        "tlg": partial(tb.models.Baseline, "tlg", **region),
        "suvmax": partial(tb.models.Baseline, "suvmax", **region),
        "radiomics-contour": partial(tb.models.RadiomicsModel, region="contour", cache=cache),
    }


NAMES = (*models("", tb.Cache()), TRUTH)


@dataclass(frozen=True)
class Cell:
    """One fit; ``number`` is that of the training set."""

    mechanism: str
    endpoint: str
    model: str
    n: int
    number: int
    patients: str

    @property
    def training(self) -> range:
        first = FIRST_SEED[self.patients] + TEST + self.number * self.n
        return range(first, first + self.n)

    @property
    def test(self) -> range:
        return range(FIRST_SEED[self.patients], FIRST_SEED[self.patients] + TEST)


def compute(cell: Cell, folder: Path, weights: str) -> Figures:
    """The metric on the test patients with its interval, and the seconds."""
    training, test = (
        cohort(seeds, cell.mechanism, folder).for_endpoint(cell.endpoint) for seeds in (cell.training, cell.test)
    )
    if cell.model == TRUTH:
        risk = [draw_outcome(draw_patient(seed), cell.mechanism).risk for seed in cell.test]
        return measure_risk(np.array(risk), test.outcomes)
    return measure_fit(models(weights, tb.Cache(folder / "features"))[cell.model](), training, test)


def prepare(shared: tuple[Path, str, Sequence[str]], seeds: range) -> None:
    """Compute the features of patients, each of whom is painted once."""
    folder, weights, names = shared
    made = models(weights, tb.Cache(folder / "features"))
    ready = [made[name]() for name in names if name != TRUTH]
    for seed in seeds:
        patient = scans(range(seed, seed + 1), folder)
        patient.volume(patient.subjects[0])
        for model in ready:
            model.precompute(patient)


def blocks(cells: Sequence[Cell]) -> list[range]:
    """The patients of cells, in blocks."""
    seeds = {seed for cell in cells for part in (cell.training, cell.test) for seed in part}
    return [range(first, first + BLOCK) for first in sorted({seed // BLOCK * BLOCK for seed in seeds})]


# -- tables

Results = dict[Cell, Figures]
Scores = dict[str, dict[int, float]]


def scores(results: Results, n: int, mechanisms: Sequence[str], endpoints: Sequence[str]) -> Scores:
    """By model and training set: the mean over mechanisms and endpoints, where all of them are there."""
    values: dict[tuple[str, int], list[float]] = {}
    for cell, found in results.items():
        if cell.n == n and cell.mechanism in mechanisms and cell.endpoint in endpoints:
            values.setdefault((cell.model, cell.number), []).append(found.value)
    means: Scores = {name: {} for name in NAMES}
    for (name, number), all_values in values.items():
        if len(all_values) == len(mechanisms) * len(endpoints):
            means[name][number] = float(np.mean(all_values))
    return means


def columns(results: Results) -> dict[str, list[str]]:
    """The mechanisms that are there, each by itself, and all of them."""
    there = [name for name in MECHANISMS if any(cell.mechanism == name for cell in results)]
    return {**{name: [name] for name in there}, "mean": there}


def table(results: Results, n: int, endpoint: str) -> Iterator[str]:
    """For each model and mechanism the mean of the training sets with its interval over them, and how many."""
    heads = columns(results)
    yield f"{n} patients, {endpoint}: {METRICS[ENDPOINTS[endpoint]]}"
    yield ""
    yield f"| model | {' | '.join(heads)} |"
    yield "|---" * (1 + len(heads)) + "|"
    found = {head: scores(results, n, mechanisms, [endpoint]) for head, mechanisms in heads.items()}
    for name in NAMES:
        means = [Mean.of(list(found[head][name].values())) for head in heads]
        if any(one.n for one in means):
            yield f"| {name} | {' | '.join(one.text() for one in means)} |"
    yield ""


def differences(results: Results, n: int, name: str) -> Iterator[str]:
    """Of a model to the best other network and to the best other model, on the same training sets, endpoints together.

    Which one is the best is decided on the same figures, so it is flattered.
    """
    endpoints = sorted({cell.endpoint for cell in results})
    yield f"{n} patients, {name} less the best of the others, mean of {' and '.join(endpoints)}"
    yield ""
    yield "| mechanism | best other network | difference | best other model | difference |"
    yield "|---" * 5 + "|"
    for head, mechanisms in columns(results).items():
        found = scores(results, n, mechanisms, endpoints)
        own = found[name]
        row = [head]
        for networks in (True, False):
            pairs = {
                other: [own[number] - value for number, value in theirs.items() if number in own]
                for other, theirs in found.items()
                if other not in (name, *UNFAIR) and (not networks or is_network(other))
            }
            means = {other: Mean.of(values) for other, values in pairs.items() if values}
            best = min(means, key=lambda other: means[other].value, default="")
            row += [best, means[best].text(signed=True) if best else ""]
        yield f"| {' | '.join(row)} |"
    yield ""


def is_network(name: str) -> bool:
    """Whether a network is trained; the ridge regression of ``pooled`` is none."""
    return name.startswith(("2be3-net", "cnn"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="", help="MobileNetV2 of ImageNet, for the models on its maps")
    parser.add_argument("--patients", choices=FIRST_SEED, default="development")
    parser.add_argument("--mechanisms", nargs="*", choices=MECHANISMS, default=list(MECHANISMS))
    parser.add_argument("--endpoints", nargs="*", choices=ENDPOINTS, default=list(ENDPOINTS))
    parser.add_argument("--models", nargs="*", choices=NAMES, default=[*DEFAULT, "tlg", "suvmax", TRUTH])
    parser.add_argument("--sizes", nargs="*", type=int, choices=SETS, default=list(SETS))
    parser.add_argument("--sets", type=int, help="fewer training sets of each size")
    parser.add_argument("--differences", nargs="*", choices=NAMES, default=["2be3-net"], help="of these models")
    parser.add_argument("--cells", type=Path, help="CSV of every fit; by default cells.csv in the folder")
    parser.add_argument("--show", action="store_true", help="compute nothing")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    cells = [
        Cell(mechanism, endpoint, model, n, number, asked.patients)
        for n in asked.sizes
        for number in range(min(asked.sets or SETS[n], SETS[n]))
        for mechanism, endpoint, model in product(asked.mechanisms, asked.endpoints, asked.models)
        if model != TRUTH or number == 0  # which does not depend on the training set
    ]
    found = CellTable(asked.cells or asked.folder / "cells.csv", Cell)
    if not asked.show:
        made = {name: make() for name, make in models(asked.weights, tb.Cache()).items() if name in asked.models}
        versions = {name: parameters_digest(model, VERSION) for name, model in made.items()}
        found.describe(made, versions)
        versions[TRUTH] = digest([TRUTH, VERSION])[:12]
        missing = [cell for cell in cells if found.version(cell) != versions[cell.model]]
        names = [name for name in asked.models if any(cell.model == name for cell in missing)]
        shared = asked.folder, asked.weights, names
        for _ in run_tasks(prepare, blocks(missing), shared=shared, workers=asked.processes, description="features"):
            pass
        how = partial(compute, folder=asked.folder, weights=asked.weights)
        compute_cells(found, cells, versions, how, group=lambda cell: cell, processes=asked.processes)
    results = found.select(cells)
    for n in asked.sizes:
        for endpoint in asked.endpoints:
            print("\n".join(table(results, n, endpoint)))
        for name in asked.differences:
            print("\n".join(differences(results, n, name)))


if __name__ == "__main__":
    main()
