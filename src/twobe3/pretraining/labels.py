"""Labels of patients from the headers, as numbers to learn; missing labels are masked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from twobe3.cohort.cohort import Subject
from twobe3.core.outcomes import BoolArray, FloatArray, IntArray

SEX = "sex"
POSITIVE = "M"  # as a number: 1, and F: 0; other codes are not known


@dataclass(frozen=True)
class Scale:
    """The unit of a label: mean and standard deviation of the training patients; 0 and 1 of a binary label."""

    name: str
    binary: bool
    origin: float = 0.0
    unit: float = 1.0


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of all n scans that can be learnt, in the units of their ``scales``.

    ``values`` and ``known``, (n, labels), are 0 and false where the header lacks the label; ``left_out`` are labels of
    which the training patients have fewer than two different values.
    """

    scales: tuple[Scale, ...]
    values: npt.NDArray[np.float32]
    known: BoolArray
    left_out: tuple[str, ...]

    @classmethod
    def from_subjects(cls, subjects: Sequence[Subject], names: Sequence[str], training: IntArray) -> Labels:
        """Read labels, ``"sex"`` or numeric covariates of the headers, in units of the subjects at ``training``."""
        scales, columns, left_out = [], [], []
        for name in names:
            values = label_values(subjects, name)
            learnt = values[training][np.isfinite(values[training])]
            if len(np.unique(learnt)) < 2:
                left_out.append(name)
                continue
            moments = (0.0, 1.0) if name == SEX else (float(learnt.mean()), float(learnt.std()))
            scales.append(Scale(name, name == SEX, *moments))
            columns.append((values - moments[0]) / moments[1])
        table = np.stack(columns, axis=1) if columns else np.zeros((len(subjects), 0))
        known = np.isfinite(table)
        return cls(tuple(scales), np.where(known, table, 0.0).astype(np.float32), known, tuple(left_out))

    def subset(self, rows: IntArray) -> Labels:
        """The labels of some scans."""
        return replace(self, values=self.values[rows], known=self.known[rows])

    def add_column(self, scale: Scale) -> Labels:
        """Add a label that no row has yet."""
        right = ((0, 0), (0, 1))
        values, known = np.pad(self.values, right), np.pad(self.known, right)
        return replace(self, scales=(*self.scales, scale), values=values, known=known)


def label_values(subjects: Sequence[Subject], name: str) -> FloatArray:
    """A label of each scan in its own unit, NaN where the header does not have it."""
    values = [subject.covariates.get(name) for subject in subjects]
    if name == SEX:
        values = [None if value not in ("M", "F") else float(value == POSITIVE) for value in values]
    return np.array([np.nan if value is None else float(value) for value in values])


def label_weights(known: BoolArray) -> npt.NDArray[np.float32]:
    """Weights of the labels of a batch, (m, labels): equal for each column and, in it, for each row that has the label.

    They sum to 1 where every label is known in some row; an unknown label has weight 0.
    """
    counts = np.maximum(known.sum(axis=0), 1) * max(known.shape[1], 1)
    return np.asarray(known / counts, dtype=np.float32)


def label_loss(raw: torch.Tensor, values: torch.Tensor, weights: torch.Tensor, scales: Sequence[Scale]) -> torch.Tensor:
    """Weighted sum of the losses: cross-entropy of a binary label, squared error of a number; shape ().

    Standardised, they are of one order, so no label needs a weight of its own. Predictions, true values and
    :func:`label_weights` have the shape (m, labels).
    """
    values = torch.where(weights > 0, values, 0.0)
    binary = torch.tensor([scale.binary for scale in scales], device=raw.device)
    entropy = functional.binary_cross_entropy_with_logits(raw, torch.where(binary, values, 0.5), reduction="none")
    return (torch.where(binary, entropy, (raw - values) ** 2) * weights).sum()
