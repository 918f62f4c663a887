"""The head of 2be3-net and how it is trained, where the label is faint and where it is plain. Phantoms only.

    python benchmarks/heads.py CACHE_FOLDER

Faint: phantoms with an outcome; training sets of 50, one test set of 140, a binary and a time-to-event endpoint; prints
AUC and Harrell's C on the test set for each training set, and their mean. Plain: ``distance`` and ``side`` of
`spatial.py`, 40 patients for training and 100 for testing, of seeds that it does not use; prints AUC and their mean.
Maps of the packaged 2D network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

import spatial
import spatial_phantoms
import twobe3 as tb
from twobe3.io.cache import Cache
from twobe3.models.nn.networks import Shape, StackBranch
from twobe3.phantom import draw_phantom_subject, make_patient
from twobe3.runtime.process import one_thread
from twobe3.runtime.progress import track

FIRST_SEED = 20_000_000
TRAINING = tuple(range(first, first + 50) for first in (0, 50, 240, 290, 340, 390))
TEST = range(100, 240)
PLAIN = tuple(product(("distance", "side"), (7, 8)))


class PhantomScan:
    """A phantom that is rendered when it is needed."""

    def __init__(self, number: int) -> None:
        self.seed = FIRST_SEED + number

    @property
    def digest(self) -> str:
        return f"phantom {self.seed}"

    def suv(self) -> tb.core.SUVVolume:
        return self._volume

    def contour(self, volume: tb.core.SUVVolume, *, roi: tuple[str, ...] = ()) -> None:
        return None

    @cached_property
    def _volume(self) -> tb.core.SUVVolume:
        return make_patient(self.seed).volume


class PlainBranch(StackBranch):
    """The blocks from a random start with group normalisation, pooled only at the end."""

    def __init__(self, shape: Shape, *, width: int, **others: Any) -> None:
        super().__init__(shape, width=width, **others)
        for block in self.blocks:
            block.insert(1, nn.GroupNorm(width // 4, width))
        self.features = 2 * width

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = self.reduction(maps)
        for block in self.blocks:
            maps = block(maps)
        positions = maps.flatten(2)
        return torch.cat([positions.mean(dim=2), positions.amax(dim=2)], dim=1)


class PlainHead(tb.models.TwoBe3Net):
    """2be3-net with the plain head."""

    branch: ClassVar[type[StackBranch]] = PlainBranch


SHORT: dict[str, Any] = {"epochs": 30, "learning_rate": 1e-3, "shift_share": 0.0, "taps": 0, "blocks_start": "random"}
VARIANTS: dict[str, tuple[type[tb.models.TwoBe3Net], dict[str, Any]]] = {
    "the default": (tb.models.TwoBe3Net, {}),
    "400 steps, one member": (tb.models.TwoBe3Net, {"ensemble_size": 1, "fewest_steps": 400}),
    "400 steps, three members": (tb.models.TwoBe3Net, {"fewest_steps": 400}),
    "before, one member": (tb.models.TwoBe3Net, {**SHORT, "ensemble_size": 1}),
    "before (random start, all taps, 30 epochs)": (tb.models.TwoBe3Net, SHORT),
    "plain head, 30 epochs, one member": (PlainHead, {**SHORT, "ensemble_size": 1}),
}


def cohort(numbers: range, folder: Path) -> tb.Cohort:
    outcomes = {str(number): draw_phantom_subject(FIRST_SEED + number).outcome for number in numbers}
    table = {
        key: {"m": str(int(outcome.metastasis)), "t": str(outcome.recurrence_days), "e": str(int(outcome.recurrence))}
        for key, outcome in outcomes.items()
    }
    endpoints = (
        tb.Binary("metastasis", "m").outcomes(table),
        tb.TimeToEvent("recurrence", "t", "e").outcomes(table),
    )
    subjects = tuple(tb.Subject(str(number), PhantomScan(number)) for number in numbers)
    grid = tb.Grid((8.0, 8.0, 8.0), (1024.0, 512.0, 512.0))
    return tb.Cohort(subjects, endpoints, grid, Cache(folder / "volumes"))


def faint(make: Callable[[], tb.models.TwoBe3Net], sets: int, folder: Path) -> list[float]:
    """AUC and Harrell's C for each of the training sets."""
    test, found = cohort(TEST, folder), []
    for numbers in TRAINING[:sets]:
        training = cohort(numbers, folder)
        for endpoint in ("metastasis", "recurrence"):
            found.append(evaluate_model(make(), training.for_endpoint(endpoint), test.for_endpoint(endpoint)))
    return found


def plain(make: Callable[[], tb.models.TwoBe3Net], folder: Path) -> list[float]:
    """AUC for each of the spatial cohorts."""
    return [
        evaluate_model(
            make(),
            spatial_phantoms.cohort(task, seed, range(spatial.TEST, spatial.TEST + 40), folder),
            spatial_phantoms.cohort(task, seed, range(spatial.TEST), folder),
        )
        for task, seed in PLAIN
    ]


def evaluate_model(model: tb.models.Model, training: tb.Cohort, test: tb.Cohort) -> float:
    with one_thread():
        prediction = model.fit(training).predict(test)
    return tb.evaluate(prediction, test.outcomes, resamples=200).metrics[0].value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--sets", type=int, choices=range(1, len(TRAINING) + 1), default=2, help="training sets")
    asked = parser.parse_args()
    cache = tb.Cache(asked.folder / "features")
    for name in track(asked.variants, "variants"):
        kind, parameters = VARIANTS[name]
        common = {"backbone": "phantom-resnet10", "inputs": ("maps",), "cache": cache, **parameters}
        for what, values in (
            ("faint", faint(partial(kind, **common), asked.sets, asked.folder)),
            ("plain", plain(partial(kind, slice_size=spatial.PICTURE, **common), asked.folder)),
        ):
            shown = " ".join(f"{value:.3f}" for value in values)
            print(f"{name:<44} {what}  {shown}  mean {np.mean(values):.3f}", flush=True)


if __name__ == "__main__":
    main()
