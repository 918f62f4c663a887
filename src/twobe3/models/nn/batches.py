"""Inputs of all patients, the batches of training, and the views of a prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from twobe3.core.outcomes import BoolArray, IntArray, Outcomes

SLICES = -3


@dataclass(frozen=True)
class ModelInput:
    """One input of a network for all patients.

    Attributes
    ----------
    values : Tensor, shape (n, …)
        A row a patient.
    left_right_axis : int or None
        The axis, counted from the end, that runs from the patient's right to the left; None for what is no picture.
    augmented : tuple of Tensor, each of the shape of ``values``
        The same input of augmented scans, in the same order for every input of a network.
    """

    values: torch.Tensor
    left_right_axis: int | None
    augmented: tuple[torch.Tensor, ...] = ()

    @property
    def versions(self) -> tuple[torch.Tensor, ...]:
        """The scan itself, and its augmentations."""
        return (self.values, *self.augmented)


def preload(inputs: Sequence[ModelInput], device: torch.device) -> Sequence[ModelInput]:
    """The inputs on a GPU where they take less than a quarter of its free memory; otherwise batch by batch."""
    if device.type == "cpu":
        return inputs
    size = sum(version.nbytes for stack in inputs for version in stack.versions)
    if size > torch.cuda.mem_get_info(device)[0] / 4:
        return inputs
    return [
        ModelInput(
            stack.values.to(device), stack.left_right_axis, tuple(version.to(device) for version in stack.augmented)
        )
        for stack in inputs
    ]


def to_device(batch: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """A batch on a device, copied from pinned memory while the device still computes."""
    return [
        values if values.device == device else values.pin_memory().to(device, non_blocking=True) for values in batch
    ]


def set_aside(outcomes: Outcomes, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Who trains, and who tells when to stop: a share of those with the event and of those without."""
    everybody = np.arange(len(outcomes))
    if share == 0:
        return everybody, everybody[:0]
    draw = np.random.default_rng([seed, 1])
    groups = (np.flatnonzero(outcomes.event), np.flatnonzero(~outcomes.event))
    aside = np.concatenate([draw.permutation(group)[: math.ceil(share * len(group))] for group in groups])
    return np.setdiff1d(everybody, aside), np.sort(aside)


def epoch_batches(
    shuffle: np.random.Generator, patients: IntArray, event: BoolArray, count: int, *, stratified: bool
) -> list[IntArray]:
    """The patients of one epoch in ``count`` batches, drawn anew; stratified, events are dealt out like cards."""
    if not stratified:
        return list(np.array_split(patients[shuffle.permutation(len(patients))], count))
    groups = (patients[event[patients]], patients[~event[patients]])
    cards = np.concatenate([shuffle.permutation(group) for group in groups])
    return [cards[first::count] for first in range(count)]


def augmented_batch(
    inputs: Sequence[ModelInput], index: torch.Tensor, shuffle: np.random.Generator, shift_share: float = 0.0
) -> list[torch.Tensor]:
    """For each patient the scan or one of its augmentations, half mirrored, all shifted; in all inputs alike.

    Each input is shifted along its own slices: stacks of several planes along an axis of the body each.
    """
    versions = len(inputs[0].versions)
    version = torch.from_numpy(shuffle.integers(0, versions, len(index))) if versions > 1 else None
    mirrored = torch.from_numpy(shuffle.random(len(index)) < 0.5)
    shifts = shuffle.uniform(-shift_share, shift_share, len(index)) if shift_share else None
    batch = []
    for stack in inputs:
        values = stack.values[index]
        if version is not None and stack.augmented:
            values = torch.stack([stack.versions[v][i] for v, i in zip(version, index, strict=True)])
        if stack.left_right_axis is not None:
            which = mirrored.view(-1, *[1] * (values.dim() - 1)).to(values.device)
            values = torch.where(which, values.flip(stack.left_right_axis), values)
            if shifts is not None:
                by = np.rint(shifts * values.shape[SLICES]).astype(int).tolist()
                values = torch.stack([one.roll(places, SLICES) for one, places in zip(values, by, strict=True)])
        batch.append(values)
    return batch


def tta_views(inputs: Sequence[ModelInput], test_time: str) -> Iterator[list[torch.Tensor]]:
    """The inputs of all patients as a prediction sees them, one view after another."""
    if test_time == "single":
        yield [stack.values for stack in inputs]
        return
    for version in range(len(inputs[0].versions)):
        view = [stack.versions[version] if stack.augmented else stack.values for stack in inputs]
        yield view
        yield [
            values if stack.left_right_axis is None else values.flip(stack.left_right_axis)
            for values, stack in zip(view, inputs, strict=True)
        ]
