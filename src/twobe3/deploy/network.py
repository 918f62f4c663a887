"""A fitted model as one torch module, from SUV on its grid to what it predicts, and that module as a graph."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.grid import Grid, place_grid
from twobe3.core.volume import Geometry, SUVCalibration, SUVVolume
from twobe3.deploy.covariates import CovariateLayer
from twobe3.explain.pathway import build_pathway
from twobe3.models.model import Model
from twobe3.scans.scan import ArrayScan


class RiskNetwork(nn.Module):
    """What a fitted model does with the SUV of one patient on its grid, and with the covariates, if it knows any."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        assert model.endpoint_ is not None
        self.pathway = build_pathway(model, example_cohort(model))
        self.pathway.rounded = True
        encoder = getattr(model, "encoder_", None)
        self.covariates = None if encoder is None else CovariateLayer(encoder)
        self.gives_probability = model.endpoint_.probability(np.zeros(1)) is not None
        self.slope, self.intercept = model.recalibration_ or (1.0, 0.0)
        self.eval().requires_grad_(False)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what :meth:`forward` takes."""
        return ("suv",) if self.covariates is None else ("suv", "covariates")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what :meth:`forward` returns."""
        return ("risk", "probability") if self.gives_probability else ("risk",)

    def forward(self, suv: torch.Tensor, covariates: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """SUV, (slices, rows, columns), and covariates, see :class:`CovariateLayer`, to numbers of shape ()."""
        pathway = self.pathway
        if self.covariates is not None and covariates is not None:
            pathway = copy.copy(pathway)
            pathway.covariates = self.covariates(covariates)
        risk = pathway(suv[None])
        if not self.gives_probability:
            return (risk.float(),)
        return risk.float(), torch.sigmoid(self.slope * risk.double() + self.intercept).float()


def example_cohort(model: Model) -> Cohort:
    """One patient of whom nothing is known: noise in a body, a hot sphere, and slices of padding, on a model's grid."""
    grid = model.grid_ or Grid()
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, length) for length in grid.shape), indexing="ij"))
    suv = rng.gamma(4.0, 0.25, grid.shape) * ((place**2).sum(axis=0) < 0.7)
    suv += 8.0 * (((place - 0.2) ** 2).sum(axis=0) < 0.02)
    geometry = place_grid(Geometry(grid.shape, np.eye(4)), grid)
    scan = ArrayScan(SUVVolume(suv.astype(np.float32), geometry, SUVCalibration("bw", "EXAMPLE", 1.0, 1.0)))
    return Cohort((Subject("example", scan),), grid=grid)
