"""What an epoch costs: `2be3-net` on cached maps beside a MONAI 3D ResNet-18 end to end, on the same volumes.

    python benchmarks/training.py CACHE_FOLDER --weights mobilenetv2_100_imagenet_fp16.safetensors

Forty volumes of 64³ voxels of 4 mm; every epoch goes through the project's own training loop, and epochs of all
networks take turns in one run. The last column is the share of an epoch in which batches are cut and brought to the
device (`--device cuda`: where there is a GPU).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets.resnet import resnet18
from torch import nn

import twobe3 as tb
from twobe3.core.volume import SUVCalibration
from twobe3.io.cache import Cache
from twobe3.models.nn.inputs import ModelInput
from twobe3.models.nn.networks import VolumeNetwork
from twobe3.models.nn.training import TrainingParameters, train_ensemble
from twobe3.runtime.device import Device
from twobe3.runtime.process import one_thread

PATIENTS = 40
SIDE = 64
VOXEL_MM = 4.0
WINDOWS_SUV = (5.0, 10.0, 25.0)


class NoiseScan:
    """Noise: what an epoch costs does not depend on what is seen."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.digest = f"training-1 {number}"

    def suv(self) -> tb.core.SUVVolume:
        noise = np.random.default_rng(self.number).gamma(2.0, 1.0, (SIDE,) * 3)
        affine = np.zeros((4, 4))
        affine[2, 0] = affine[1, 1] = affine[0, 2] = VOXEL_MM
        affine[3, 3] = 1.0
        calibration = SUVCalibration(type="bw", rule="PHANTOM", factor_min=1.0, factor_max=1.0)
        return tb.core.SUVVolume(noise.astype(np.float32), tb.core.Geometry((SIDE,) * 3, affine), calibration)

    def contour(self, volume: tb.core.SUVVolume, *, roi: Sequence[str] = ()) -> None:
        return None


def cohort(folder: Path) -> tb.Cohort:
    names = [f"{number:02d}" for number in range(PATIENTS)]
    outcomes = tb.Binary("label", "y").outcomes({name: {"y": str(int(name) % 2)} for name in names})
    subjects = tuple(tb.Subject(name, NoiseScan(int(name))) for name in names)
    grid = tb.Grid((VOXEL_MM,) * 3, (SIDE * VOXEL_MM,) * 3)
    return tb.Cohort(subjects, (outcomes,), grid, Cache(folder / "volumes"))


def default_resnet18() -> nn.Module:
    """MONAI's 3D ResNet-18 with its default stem, whose first stride is 1."""
    body = resnet18(spatial_dims=3, n_input_channels=len(WINDOWS_SUV), num_classes=64)
    return VolumeNetwork(WINDOWS_SUV, body, 64, dropout=0.0)


def epochs(
    networks: dict[str, tuple[Callable[[], nn.Module], Sequence[ModelInput], TrainingParameters]],
    outcomes: tb.Outcomes,
    device: Device,
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds of an epoch of each network, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, (make, inputs, how) in networks.items():
            start = time.perf_counter()
            train_ensemble(make, inputs, outcomes, how, 0, device=device)
            if device.kind == "cuda":
                torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - start) / how.epochs_of(1))
    return seconds


def waiting_share(inputs: Sequence[ModelInput], seconds: float, batch_size: int, device: Device) -> float:
    """The share of an epoch that goes into cutting the batches and bringing them to the device."""
    target = device.torch_device()
    start = time.perf_counter()
    for first in range(0, PATIENTS, batch_size):
        for stack in inputs:
            stack.values[first : first + batch_size].to(target)
    if device.kind == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    device, patients = Device(asked.device), cohort(asked.folder)
    cache = tb.Cache(asked.folder / "features")
    mapped = tb.models.TwoBe3Net(backbone="mobilenetv2_100.tf", weights=asked.weights, inputs=("maps",), cache=cache)
    compact = tb.models.CNN3D()
    with one_thread():
        start = time.perf_counter()
        mapped.precompute(patients)
        print(
            f"feature maps of {PATIENTS} volumes, once: {time.perf_counter() - start:.0f} s (0 where they were cached)"
        )
        start = time.perf_counter()
        for model in (mapped, compact):
            model.fit_head(patients)
            model.fit_inputs(patients)
        inputs = {name: model._transform(patients, 0) for name, model in (("maps", mapped), ("volumes", compact))}
        print(f"principal components and projected maps, once a fit: {time.perf_counter() - start:.1f} s")
        many, one = (TrainingParameters(epochs=n, ensemble_size=1, batch_size=size) for n, size in ((10, 16), (1, 8)))
        networks = {
            "2be3-net on cached maps": (mapped._init_network, inputs["maps"], many),
            "cnn3d, compact (this project's default)": (compact._init_network, inputs["volumes"], one),
            "MONAI ResNet-18, default stem": (default_resnet18, inputs["volumes"], one),
        }
        seconds = epochs(networks, patients.outcomes, device, asked.rounds)
    slowest = float(np.median(list(seconds.values())[-1]))
    print("| network | seconds an epoch (range) | times cheaper than MONAI ResNet-18 | waiting for data |")
    print("|---|---|---|---|")
    for name, (_, stacks, how) in networks.items():
        own = float(np.median(seconds[name]))
        waits = waiting_share(stacks, own, how.batch_size, device)
        spread = f"{min(seconds[name]):.3f}–{max(seconds[name]):.3f}"
        print(f"| {name} | {own:.3f} ({spread}) | {slowest / own:.0f} | {waits:.1%} |")


if __name__ == "__main__":
    main()
