"""Train the 2D network that knows PET and ships with the package, on simulated slices alone.

    python scripts/train_pet_lesions.py src/twobe3/features/data/pet_lesions.safetensors

Half of each batch shows the project's phantoms, the other half slices of nobody's anatomy, see
`twobe3.pretraining.simulation`; the tasks are those of `twobe3.pretraining.dense`. No outcome, task or seed of a
benchmark, a test or the demonstration is used. What it reaches on slices that it was not trained on goes into the
metadata of the file.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import save

from twobe3.features.pet_lesions import PETLesionNetwork
from twobe3.io.files import write_atomic
from twobe3.models.nn.training import warmup_cosine
from twobe3.pretraining.dense import dense_loss, score_dense
from twobe3.pretraining.simulation import DenseSlices, simulate_generic_slices, simulate_phantom_slices
from twobe3.runtime.progress import track

PHANTOMS, GENERIC = 40_000_000, 41_000_000
HELD_OUT, HELD_OUT_PHANTOMS = 1_000_000, 24
CHUNK = 64
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2


def phantom_slices(number: int) -> DenseSlices:
    return simulate_phantom_slices([PHANTOMS, number])


def generic_slices(number: int) -> DenseSlices:
    return simulate_generic_slices([GENERIC, number], CHUNK)


def simulate(phantoms: range, chunks: range, processes: int) -> tuple[DenseSlices, DenseSlices]:
    """Slices of phantoms, and generic ones."""
    with ProcessPoolExecutor(processes) as pool:
        seen = list(track(pool.map(phantom_slices, phantoms), "phantoms", total=len(phantoms)))
        generic = list(track(pool.map(generic_slices, chunks), "generic slices", total=len(chunks)))
    return DenseSlices.join(seen), DenseSlices.join(generic)


def draw_batch(kinds: tuple[DenseSlices, DenseSlices], size: int) -> DenseSlices:
    """Half of either kind."""
    halves = [kind[torch.randint(len(kind), (size // 2,))] for kind in kinds]
    return DenseSlices.join(halves).turn(turns=int(torch.randint(4, ())), mirrored=bool(torch.randint(2, ())))


def train(network: PETLesionNetwork, kinds: tuple[DenseSlices, DenseSlices], steps: int, batch: int) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    factor = warmup_cosine(steps)
    network.train()
    total = 0.0
    for step in track(range(steps), "steps"):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * factor(step)
        slices = draw_batch(kinds, batch)
        loss = dense_loss(network(slices.suv), slices)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.item()
        if step % 200 == 199:
            print(f"step {step + 1}: mean loss {total / 200:.4f}", flush=True)
            total = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--phantoms", type=int, default=200)
    parser.add_argument("--generic", type=int, default=160, help="times 64 slices")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0, help="of the training; slices stay the same")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    torch.manual_seed(asked.seed)
    network = PETLesionNetwork()
    train(network, simulate(range(asked.phantoms), range(asked.generic), asked.processes), asked.steps, asked.batch)
    network.eval()
    later = range(HELD_OUT, HELD_OUT + HELD_OUT_PHANTOMS)
    held_out = dict(zip(("phantoms", "generic"), simulate(later, later, asked.processes), strict=True))
    reached = {
        name: {key: round(value, 3) for key, value in score_dense(network, slices).items()}
        for name, slices in held_out.items()
    }
    print(reached)
    notes = {
        "mean": json.dumps([0.0]),
        "std": json.dumps([1.0]),
        "trained_on": f"{asked.phantoms} phantoms of twobe3 and {CHUNK * asked.generic} generic slices, all simulated",
        "held_out": json.dumps({"slices": {name: len(one) for name, one in held_out.items()}, **reached}),
        "made_by": "scripts/train_pet_lesions.py",
    }
    state = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    write_atomic(asked.target, save(state, metadata=notes))
    print(f"{asked.target.name}: {asked.target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
