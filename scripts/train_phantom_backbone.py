"""Train the small 2D network that ships with the package, on slices of the project's own phantoms.

    python scripts/train_phantom_backbone.py src/twobe3/features/data/phantom_resnet10.safetensors

Two tasks on single slices of axial, coronal and sagittal planes: where in the slice lesions lie (a heat map on the
maps of layer 3, the layer that the models use), and how far up the body the slice's lesions and the slice itself are
(from the pooled maps of layer 4). No outcome is used. The phantoms are drawn from seeds that neither the
demonstration nor the tests draw from. What the network reaches on held-out phantoms goes into the file's metadata.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets.resnet import ResNet
from safetensors.torch import save
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from twobe3.core.grid import Grid, resample
from twobe3.core.volume import SUVVolume
from twobe3.features.backbones import BACKBONES, SYMMETRIC
from twobe3.features.slices import AXIS, SliceSpec, apply_windows, cut
from twobe3.io.files import write_atomic
from twobe3.phantom import NORTH, SOUTH, PhantomSpec, make_patient
from twobe3.runtime.progress import track

FIRST_SEED = 10_000_000
GRID = Grid((8.0, 8.0, 8.0), (1024.0, 512.0, 512.0))
SLICES = SliceSpec()
SLICES_A_PLANE = 20
CELLS = SLICES.size // 16

Samples = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # pictures, lesion heat maps, heights


def samples(patients: range) -> Samples:
    """Slices with uptake, where their lesions are on the grid of layer 3, and their height in the body."""
    pictures, heats, heights = [], [], []
    for number in track(patients, "phantoms"):
        rng = np.random.default_rng([FIRST_SEED, number])
        patient = make_patient(rng, spec=PhantomSpec(scanner=(NORTH, SOUTH)[number % 2]))
        scan = patient.volume
        suv = resample(scan, GRID).array
        region = SUVVolume(patient.mask.array.astype(np.float32), scan.geometry, scan.calibration)
        lesion = resample(region, GRID).array > 0.25
        for plane, axis in AXIS.items():
            slices, lesions = cut(suv, plane), cut(lesion.astype(np.float32), plane)
            usable = np.flatnonzero((slices > 0.2).any(axis=(1, 2)))
            # Slices with lesions are rare: half of the draw is made among them.
            diseased = np.intersect1d(usable, np.flatnonzero(lesions.any(axis=(1, 2))))
            chosen = rng.choice(usable, SLICES_A_PLANE, replace=False)
            if len(diseased):
                chosen[: SLICES_A_PLANE // 2] = rng.choice(diseased, SLICES_A_PLANE // 2)
            channels = apply_windows(torch.from_numpy(slices[chosen]), SLICES.windows_suv)
            size = (SLICES.size, SLICES.size)
            pictures.append(functional.interpolate(channels, size, mode="bilinear", antialias=True).half())
            shown = functional.interpolate(torch.from_numpy(lesions[chosen])[:, None], size, mode="nearest")
            heats.append(functional.adaptive_max_pool2d(shown, CELLS).squeeze(1))
            heights.append(torch.from_numpy((chosen - usable[0]) / max(1, np.ptp(usable)) * (axis == 0)))
    return torch.cat(pictures), torch.cat(heats), torch.cat(heights).float()


class Heads(nn.Module):
    """The 2D network with the two heads that it is trained with and loses afterwards."""

    def __init__(self, backbone: ResNet) -> None:
        super().__init__()
        self.backbone = backbone
        self.heat = nn.Conv2d(64, 1, 1)
        self.height = nn.Linear(128, 1)

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Heat-map logits, (n, cells, cells), and heights, (n,)."""
        network = self.backbone
        x = network.maxpool(network.act(network.bn1(network.conv1((pictures.float() - 0.5) / 0.5))))
        maps = network.layer3(network.layer2(network.layer1(x)))
        pooled = network.layer4(maps).mean(dim=(2, 3))
        return self.heat(maps).squeeze(1), self.height(pooled).squeeze(1)


def train(model: Heads, data: Samples, epochs: int, batch: int = 64) -> None:
    """AdamW with a one-cycle rate."""
    pictures, heats, heights = data
    steps = len(pictures) // batch
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=epochs * steps)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for index in track(torch.randperm(len(pictures))[: steps * batch].view(steps, batch), f"epoch {epoch + 1}"):
            heat, height = model(pictures[index])
            loss = functional.binary_cross_entropy_with_logits(heat, heats[index], pos_weight=torch.tensor(5.0))
            loss = loss + functional.mse_loss(height, heights[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: mean loss {total / steps:.4f}")


def evaluate_csv(model: Heads, data: Samples) -> dict[str, float]:
    """AUC of the heat map's cells, and correlation of the height on axial slices, of phantoms never trained on."""
    model.eval()
    with torch.inference_mode():
        parts = [model(pictures) for pictures in data[0].split(128)]
    heat, height = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    axial = data[2] > 0
    return {
        "cell_auc": round(float(roc_auc_score(data[1].flatten(), heat.flatten())), 3),
        "height_correlation": round(float(np.corrcoef(height[axial], data[2][axial])[0, 1]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--patients", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    torch.manual_seed(0)
    network = BACKBONES["phantom-resnet10"].build({})
    assert isinstance(network, ResNet)
    network.fc = None
    model = Heads(network)
    train(model, samples(range(asked.patients)), asked.epochs)
    held_out = 40
    reached = evaluate_csv(model, samples(range(asked.patients, asked.patients + held_out)))
    print(reached)
    notes = {
        "mean": json.dumps(SYMMETRIC),
        "std": json.dumps(SYMMETRIC),
        "trained_on": f"{asked.patients} phantoms of twobe3, {SLICES_A_PLANE} slices of each plane, 8 mm grid",
        "tasks": "lesion heat map on layer 3; height of the slice in the body from layer 4",
        "held_out": json.dumps({"phantoms": held_out, **reached}),
        "made_by": "scripts/train_phantom_backbone.py",
    }
    state = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    write_atomic(asked.target, save(state, metadata=notes))
    print(f"{asked.target.name}: {asked.target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
