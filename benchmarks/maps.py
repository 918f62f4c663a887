"""What computes the maps of a 2D network how fast: torch as it is, with norms folded, and OpenVINO; pictures a second.

    python benchmarks/maps.py --weights mobilenetv2_100_imagenet_fp16.safetensors

Pictures of 128² pixels of noise, the third layer, one thread; processor seconds of each way in turns in one run. The
ratio is to torch with its norms as they are, 32 pictures at once, which was this package's way before: that of one
round, median and range. Beside it how far the maps are from those, as a share of the largest, and what loading costs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

import twobe3 as tb
from rounds import span
from twobe3.features.backbones import Backbone, intermediates, load_backbone, normalise
from twobe3.features.maps import BATCH, show
from twobe3.features.slices import SliceSpec
from twobe3.runtime.process import one_thread
from twobe3.runtime.progress import track

PICTURES, LAYER = 64, 3
NETWORKS = ("pet-lesions", "mobilenetv2_100.tf", "phantom-resnet10", "resnet18", "resnet50")
DEVICES = {
    "torch": tb.Device("cpu", "32", maps="torch"),
    "OpenVINO": tb.Device("cpu", "32", maps="openvino"),
    "OpenVINO, bf16": tb.Device("cpu", "bf16", maps="openvino"),
}
BEFORE = "torch, norms unfolded"
Way = Callable[[torch.Tensor], torch.Tensor]


def compute_unfolded(backbone: Backbone, pictures: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        seen = [normalise(part, backbone.mean, backbone.std) for part in pictures.split(32)]
        return torch.cat([intermediates(backbone.network, part, [LAYER])[0] for part in seen])


def ways(backbone: Backbone) -> dict[str, Way]:
    def way(device: tb.Device) -> Way:
        return lambda pictures: torch.cat([backbone.maps(p, LAYER, device) for p in pictures.split(BATCH["cpu"])])

    return {BEFORE: lambda pictures: compute_unfolded(backbone, pictures), **{k: way(d) for k, d in DEVICES.items()}}


def measure(run: Way, pictures: torch.Tensor) -> float:
    start = time.process_time()
    run(pictures)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="random", help="of MobileNetV2; the ResNets have random ones")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    weights = {"mobilenetv2_100.tf": asked.weights, "resnet18": "random", "resnet50": "random"}
    suv = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 1.5, (PICTURES, 128, 128)).astype(np.float32))
    print("| network | by | pictures a second | times as many | differs by | loading, s |\n|---|---|---|---|---|---|")
    with one_thread():
        for name in asked.networks:
            backbone = load_backbone(name, weights.get(name, "pretrained"))
            pictures, seconds = show(backbone.network, suv, SliceSpec()), []
            made = ways(backbone)
            loading = {way: measure(run, pictures[:1]) for way, run in made.items()}
            for _ in track(range(asked.rounds), name):
                seconds.append([measure(run, pictures) for run in made.values()])
            taken, expected = np.array(seconds), made[BEFORE](pictures)
            for number, (way, run) in enumerate(made.items()):
                rate, ratio = PICTURES / taken[:, number], taken[:, 0] / taken[:, number]
                differs = float((run(pictures) - expected).abs().max() / expected.abs().max())
                row = [name, way, span(rate, 0), span(ratio, 1), f"{differs:.1e}", f"{loading[way]:.2f}"]
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
