"""Does a map find the lesion that decides, and what does it cost beside the prediction?

    python benchmarks/explain.py FOLDER --weights mobilenetv2_100_imagenet_fp16.safetensors

Phantoms of `spatial_phantoms.py`'s tissue, every second one with a lesion; the label is whether there is one. Each
model learns from 160, so that the lesion does decide, and explains 100 others that have a lesion. Counted are the
maps whose maximum lies within two standard deviations of the lesion's centre; and the same among those patients whom
the lesion decides: their risk is above the median of all 200, and below it once the lesion is taken out of them.
Seconds are the processor's, of one thread; a prediction is that of a model whose features are not in the cache, as
for a new patient. Beside them stand the seconds of captum's integrated gradients with as many nodes, for ten of them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import IntegratedGradients
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

import twobe3 as tb
from candidates import candidates
from spatial_phantoms import DISC_MM, SIDE, VOXEL_MM, PhantomScan, background, blob, in_plane
from twobe3.explain.attribution import METHODS, Method, attribute
from twobe3.explain.pathway import Pathway, build_pathway
from twobe3.io.cache import Cache
from twobe3.runtime.process import one_thread
from twobe3.runtime.progress import track

TRAINING, EXPLAINED = 160, 100
MODELS = ("2be3-net", "2be3-net-maps", "cnn2d-default", "cnn3d", "pooled")
NEAR_MM = 2 * DISC_MM


@dataclass(frozen=True)
class PlantedScan(PhantomScan):
    """A phantom with a lesion, or without one."""

    task: str = "planted"
    seed: int = 31
    number: int = 0
    without: bool = False  # the lesion that it has

    @property
    def digest(self) -> str:
        return f"planted {self.seed} {self.number}{' without' if self.without else ''}"

    @cached_property
    def centre(self) -> npt.NDArray[np.float64]:
        """Of the lesion, in voxels."""
        rng = np.random.default_rng([self.seed, self.number, 1])
        return np.array([rng.uniform(8, SIDE - 8), *in_plane(rng)])

    @cached_property
    def _array(self) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng([self.seed, self.number])
        height = rng.uniform(2.0, 4.0) if self.positive and not self.without else 0.0
        volume = background(rng) + height * blob(self.centre.tolist(), [DISC_MM] * 3)
        return np.asarray(volume.clip(0), dtype=np.float32)


def cohort(numbers: range, folder: Path) -> tb.Cohort:
    scans = {f"{number:04d}": PlantedScan(number=number) for number in numbers}
    table = {patient: {"y": str(int(scan.positive))} for patient, scan in scans.items()}
    subjects = tuple(tb.Subject(patient, scan) for patient, scan in scans.items())
    grid = tb.Grid((VOXEL_MM,) * 3, (SIDE * VOXEL_MM,) * 3)
    return tb.Cohort(subjects, (tb.Binary("label", "y").outcomes(table),), grid, Cache(folder / "volumes"))


def measure(model: tb.models.Model, method: Method, tested: tb.Cohort) -> tuple[npt.NDArray[np.bool_], float, float]:
    """Whether each map's maximum is near the lesion; seconds of a map, and of a prediction without a cache."""
    hits, seconds, predicting = [], 0.0, 0.0
    fresh = {"cache": model.cache}
    for i in range(len(tested)):
        alone, subject = tested.subset([i]).without_outcomes(), tested.subjects[i]
        suv = tested.volume(subject)
        start = time.process_time()
        values = attribute(build_pathway(model, alone), suv[None], method, tested.grid.spacing_mm)[0]
        explained = time.process_time()
        model.cache = tb.Cache()
        model.predict(alone)
        model.cache = fresh["cache"]
        seconds, predicting = seconds + explained - start, predicting + time.process_time() - explained
        at = np.array(np.unravel_index(int(values.argmax()), values.shape))
        hits.append(np.linalg.norm((at - planted(subject).centre) * VOXEL_MM) <= NEAR_MM)
    return np.array(hits), seconds / len(tested), predicting / len(tested)


def planted(subject: tb.Subject) -> PlantedScan:
    assert isinstance(subject.scan, PlantedScan)
    return subject.scan


def predict_risks(model: tb.models.Model, cohort: tb.Cohort, *, without: bool = False) -> npt.NDArray[np.float64]:
    """Risks, shape (n,), of patients as they are, or without their lesions."""
    subjects = [
        replace(subject, scan=replace(planted(subject), without=True)) if without else subject
        for subject in cohort.subjects
    ]
    return model.predict(replace(cohort, subjects=tuple(subjects)).without_outcomes()).risk


def count(hits: npt.NDArray[np.bool_]) -> str:
    """How many, of how many, and the interval of Wilson."""
    if not len(hits):
        return "0 of 0"
    low, high = proportion_confint(int(hits.sum()), len(hits), method="wilson")
    return f"{hits.sum()} of {len(hits)} ({low:.2f}–{high:.2f})"


def measure_captum(model: tb.models.Model, tested: tb.Cohort) -> float:
    """Seconds of integrated gradients by captum, called by hand on the same pathway with as many nodes."""
    seconds = 0.0
    for i in range(min(len(tested), 10)):
        alone = tested.subset([i]).without_outcomes()
        suv = torch.from_numpy(tested.volume(tested.subjects[i]))[None, None]
        start = time.process_time()
        path = build_pathway(model, alone)
        by_captum = IntegratedGradients(partial(_risks, path))
        by_captum.attribute(suv, torch.zeros_like(suv), n_steps=3, method="gausslegendre", internal_batch_size=1)
        seconds += time.process_time() - start
    return seconds / min(len(tested), 10)


def _risks(path: Pathway, scans: torch.Tensor) -> torch.Tensor:
    return torch.stack([path(scan) for scan in scans])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="", help="MobileNetV2 of ImageNet, for the models on its maps")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["integrated-gradients", "grad-cam"])
    parser.add_argument("--explained", type=int, default=EXPLAINED)
    parser.add_argument("--training", type=int, default=TRAINING)
    asked = parser.parse_args()
    training = cohort(range(asked.training), asked.folder)
    others = cohort(range(asked.training, asked.training + 2 * asked.explained), asked.folder)
    positive = np.array([planted(subject).positive for subject in others.subjects])
    tested = others.subset(np.flatnonzero(positive))
    make = candidates(asked.weights, tb.Cache(asked.folder / "features"), threshold_suv=2.5)
    print("| model | AUC | method | maximum at the lesion | where it decides | s a map | predictions | by captum, s |")
    print("|---|---|---|---|---|---|---|---|")
    with one_thread():
        for name in asked.models:
            model = make[name]().fit(training)
            risks = predict_risks(model, others)
            decides = (risks[positive] > np.median(risks)) & (
                predict_risks(model, tested, without=True) < np.median(risks)
            )
            for method in track(asked.methods, name):
                hits, seconds, predicting = measure(model, method, tested)
                by_captum = f"{measure_captum(model, tested):.2f}" if method == "integrated-gradients" else ""
                cost = f"{seconds:.2f} | {seconds / predicting:.1f} | {by_captum}"
                found = f"{count(hits)} | {count(hits[decides])}"
                print(f"| {name} | {roc_auc_score(positive, risks):.2f} | {method} | {found} | {cost} |", flush=True)


if __name__ == "__main__":
    main()
