"""What a model says of patients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import ConfigurationError
from twobe3.core.html import html_table
from twobe3.core.outcomes import BoolArray, FloatArray, IntArray
from twobe3.core.table import name_rows

_PER_ROW = ("risk", "probability", "repeat", "fold", "threshold", "cutoff", "survival")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one model predicted for one endpoint; a row for each patient and repeat.

    Attributes
    ----------
    model, endpoint : str
        Their names.
    patients : tuple of str, length n
        The user's patient ids; a patient stands once in each repeat.
    risk : ndarray of float64, shape (n,)
        Higher means an earlier event, the positive class, or a larger value.
    probability : ndarray of float64, shape (n,), or None
        Of the positive class, where the model gives it.
    repeat, fold : ndarray of int64, shape (n,)
        Which repeat of the cross-validation, and in which fold the patient was tested; 0 outside of one.
    threshold, cutoff : ndarray of float64, shape (n,), or None
        Chosen with the training patients of the patient's fold: the probability from which on the model says yes,
        and the risk above which a patient is in the group of high risk.
    survival : ndarray of float64, shape (n, k), or None
        Probability of being free of the event at each of ``times``, where the model gives it.
    times : ndarray of float64, shape (k,), or None
        Increasing, in the endpoint's unit.
    """

    model: str
    endpoint: str
    patients: tuple[str, ...]
    risk: FloatArray
    probability: FloatArray | None = None
    repeat: IntArray = None  # type: ignore[assignment]  # both are filled below
    fold: IntArray = None  # type: ignore[assignment]
    threshold: FloatArray | None = None
    cutoff: FloatArray | None = None
    survival: FloatArray | None = None
    times: FloatArray | None = None

    def __post_init__(self) -> None:
        n = len(self.patients)
        for name in ("repeat", "fold"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.zeros(n, dtype=np.int64))
        for name in ("risk", "probability", "repeat", "fold", "threshold", "cutoff"):
            values = getattr(self, name)
            if values is not None and values.shape != (n,):
                raise ValueError(f"{name} must have shape ({n},), got {values.shape}")
        if (self.survival is None) != (self.times is None):
            raise ValueError("survival and times belong together")
        if self.survival is not None and self.times is not None and self.survival.shape != (n, len(self.times)):
            raise ValueError(f"survival must have shape ({n}, {len(self.times)}), got {self.survival.shape}")
        if not np.isfinite(self.risk).all():
            bad = (np.flatnonzero(~np.isfinite(self.risk)) + 1).tolist()
            reason = f"model {self.model!r}: the risk of {name_rows(bad)} of {n} is not finite"
            raise ConfigurationError(Code.PREDICTION_INVALID, reason)

    def __len__(self) -> int:
        return len(self.patients)

    def __repr__(self) -> str:
        return f"Prediction({self.model} of {self.endpoint}, {format_count(len(self), 'row')})"

    def _repr_html_(self) -> str:
        """What was predicted, without a patient."""
        rows = [
            ("model", self.model),
            ("endpoint", self.endpoint),
            ("patients", f"{len(set(self.patients))}"),
            ("repeats, folds", f"{len(np.unique(self.repeat))}, {len(np.unique(self.fold))}"),
            ("risk", _spread(self.risk)),
            ("probability", _spread(self.probability)),
            ("threshold of the folds", _spread(self.threshold)),
            ("survival at", "" if self.times is None else ", ".join(f"{time:g}" for time in self.times)),
        ]
        return html_table([row for row in rows if row[1]], caption="Prediction")

    def rows(self, kept: BoolArray) -> Prediction:
        """The prediction of the rows marked, in their order."""
        taken = {name: values[kept] for name in _PER_ROW if (values := getattr(self, name)) is not None}
        patients = tuple(patient for patient, there in zip(self.patients, kept, strict=True) if there)
        return replace(self, patients=patients, **taken)

    def in_fold(self, repeat: int, fold: int) -> Prediction:
        """The same prediction, marked as made in this fold of this repeat."""
        n = len(self)
        return replace(self, repeat=np.full(n, repeat), fold=np.full(n, fold))

    @classmethod
    def concatenate(cls, parts: Iterable[Prediction]) -> Prediction:
        """Join predictions of one model for one endpoint, for instance of several folds.

        Raises ValueError without a part, and for parts of different models, endpoints or times.
        """
        parts = list(parts)
        if len({(part.model, part.endpoint) for part in parts}) != 1:
            raise ValueError("predictions of exactly one model and endpoint can be joined")
        times = {None if part.times is None else part.times.tobytes() for part in parts}
        if len(times) != 1:
            raise ValueError("predictions of different times can't be joined")

        values: dict[str, Any] = {}
        for name in _PER_ROW:
            arrays = [getattr(part, name) for part in parts]
            values[name] = None if any(array is None for array in arrays) else np.concatenate(arrays)
        patients = tuple(patient for part in parts for patient in part.patients)
        return cls(parts[0].model, parts[0].endpoint, patients, times=parts[0].times, **values)


def _spread(values: FloatArray | None) -> str:
    if values is None or not np.isfinite(values).any():
        return ""
    low, middle, high = np.nanquantile(values, (0.0, 0.5, 1.0))
    return f"median {middle:.3g}, {low:.3g} to {high:.3g}"
