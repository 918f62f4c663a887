"""Clinical covariates as an exported network takes them: one number each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from twobe3.core.table import parse_number
from twobe3.models.encoder import CodedCovariate, CovariateEncoder


class CovariateLayer(nn.Module):
    """What a :class:`~twobe3.models.encoder.CovariateEncoder` does, as a layer.

    It takes one number for each covariate, (n,): NaN where it is missing; of a category the place of its level, see
    :func:`describe_covariates`.
    """

    kept: torch.Tensor
    fill: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, encoder: CovariateEncoder) -> None:
        super().__init__()
        self.covariates = encoder.covariates
        self.register_buffer("kept", torch.from_numpy(np.flatnonzero(encoder.kept)))
        for name in ("fill", "mean", "scale"):
            self.register_buffer(name, torch.from_numpy(np.asarray(getattr(encoder, name), np.float64)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """To the standardised columns, (1, columns)."""
        columns = [_spread(one, value) for one, value in zip(self.covariates, values.double().unbind(), strict=True)]
        raw = torch.cat(columns)[self.kept]
        return ((torch.where(raw.isnan(), self.fill, raw) - self.mean) / self.scale).float()[None]


def _spread(covariate: CodedCovariate, value: torch.Tensor) -> torch.Tensor:
    """The columns of one covariate, NaN where it does not say, as :meth:`CodedCovariate.raw` has them."""
    missing, found = value.isnan(), [value]
    if covariate.kind == "category":
        known, groups = len(covariate.levels), len(covariate.levels) + covariate.others
        silent = missing if covariate.others else missing | (value >= known)
        nan = torch.full_like(value, torch.nan)
        shown = range(groups) if groups > 2 else range(1, groups)
        found = [torch.where(silent, nan, (value == group).to(value.dtype)) for group in shown]
    return torch.stack([*found, *[missing.to(value.dtype)] * covariate.indicator])


def describe_covariates(encoder: CovariateEncoder | None) -> list[dict[str, Any]]:
    """How each covariate becomes the number that :class:`CovariateLayer` takes, as JSON types, in their order."""
    return [
        {"name": one.name, "kind": one.kind, "missing": "NaN"}
        | ({} if one.kind == "number" else {"levels": list(one.levels), "another level": len(one.levels)})
        for one in (encoder.covariates if encoder else ())
    ]


def number_covariates(encoder: CovariateEncoder, known: Mapping[str, float | str]) -> npt.NDArray[np.float32]:
    """The covariates of a patient as numbers, in the order of the encoder, shape (n,)."""
    return np.array([_number(one, known.get(one.name)) for one in encoder.covariates], np.float32)


def _number(covariate: CodedCovariate, value: float | str | None) -> float:
    if value is None:
        return np.nan
    if covariate.kind == "number":
        number = parse_number(value)
        return np.nan if number is None else number
    level = value if isinstance(value, str) else f"{value:g}"
    return covariate.levels.index(level) if level in covariate.levels else len(covariate.levels)
