"""What the default of `2be3-net` costs beside the maps of a larger 2D network alone: seconds, and sizes of caches.

    python benchmarks/cost.py CACHE_FOLDER --weights mobilenetv2_100_imagenet_fp16.safetensors

Fifty patients of `outcome_phantoms.py`, on the grid of whole bodies, or with ``--small`` of `spatial_phantoms.py`, on
48³ voxels. Features are computed first, each stack into a folder of its own. Fits and predictions on cached inputs then
take turns in one run, one thread; the seconds are the processor's, so that others on the machine do not count. The
ratio is that of one round, the median and the range over the rounds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import spatial_phantoms
import twobe3 as tb
from candidates import candidates
from cells import parameters_digest
from outcome_phantoms import FIRST_SEED, VERSION, cohort
from rounds import span
from twobe3.runtime.process import one_thread
from twobe3.runtime.progress import track

PATIENTS = 50
MODELS = ("2be3-net", "2be3-net-maps", "2be3-net-maps-phantom")
"""The default, and the maps of MobileNetV2 and of the package's ResNet-10 alone."""


def make(name: str, weights: str, folder: Path) -> tb.models.TwoBe3Net:
    model = candidates(weights, tb.Cache(folder / name), threshold_suv=4.0)[name]()
    assert isinstance(model, tb.models.TwoBe3Net)
    return model


def cache_sizes(model: tb.models.TwoBe3Net, patients: tb.Cohort, folder: Path) -> dict[str, float]:
    """Kilobytes a patient that each stack takes on disk, by its name; computed where they are not there."""
    sizes = {}
    for stack in model.parts:
        alone = model.clone().set_params(inputs=(stack,))
        own = folder / "stacks" / parameters_digest(alone, VERSION)
        alone = alone.clone(cache=tb.Cache(own))
        alone.precompute(patients)
        sizes[stack] = sum(path.stat().st_size for path in own.iterdir()) / len(patients) / 1000
    return sizes


def measure_seconds(model: tb.models.Model, patients: tb.Cohort) -> tuple[float, float]:
    """Processor seconds of a fit, and of a prediction of as many patients."""
    start = time.process_time()
    model.fit(patients)
    fitted = time.process_time()
    model.predict(patients)
    return fitted - start, time.process_time() - fitted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="ratios are to the first")
    parser.add_argument("--small", action="store_true", help="phantoms of 48³ voxels")
    parser.add_argument("--patients", type=int, default=PATIENTS)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    first = FIRST_SEED["development"]
    if asked.small:
        seed = 101  # of development
        patients = spatial_phantoms.cohort("distance", seed, range(asked.patients), asked.folder)
    else:
        patients = cohort(range(first, first + asked.patients), "burden", asked.folder).for_endpoint("metastasis")
    models = {name: make(name, asked.weights, asked.folder) for name in asked.models}
    seconds = []
    with one_thread():
        for model in models.values():
            model.precompute(patients)
        sizes = {name: cache_sizes(model, patients, asked.folder) for name, model in models.items()}
        for _ in track(range(asked.rounds), "rounds"):
            seconds.append([measure_seconds(model, patients) for model in models.values()])
    taken = np.array(seconds)  # rounds, models, fit and prediction
    ratios = taken[:, :1] / taken
    print(f"{asked.patients} patients, {asked.rounds} rounds; medians and ranges")
    print()
    print(f"| model | seconds a fit | {asked.models[0]} to it | seconds a prediction | {asked.models[0]} to it |")
    print("|---|---|---|---|---|")
    for number, name in enumerate(models):
        shown = [
            span(values[:, number, what].tolist(), digits)
            for what in (0, 1)
            for values, digits in ((taken, 2), (ratios, 2))
        ]
        print(f"| {name} | {' | '.join(shown)} |")
    print()
    print("| model | kB a patient in the cache |")
    print("|---|---|")
    for name, of_stacks in sizes.items():
        print(f"| {name} | {', '.join(f'{stack} {size:.1f}' for stack, size in of_stacks.items())} |")


if __name__ == "__main__":
    main()
