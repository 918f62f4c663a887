"""The map of one scan, with its checks."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.map_check import MapCheck
from twobe3.explain.attribution import METHODS, Method, attribute
from twobe3.explain.checks import (
    block_edge,
    check_agreement,
    check_contour,
    check_deletion,
    check_randomised,
    randomise,
)
from twobe3.explain.images import read_images
from twobe3.explain.pathway import build_pathway
from twobe3.models.model import Model

log = logging.getLogger("twobe3")
Volume = npt.NDArray[np.float32]
SECOND: dict[Method, Method] = {
    "integrated-gradients": "grad-cam", "grad-cam": "integrated-gradients", "occlusion": "integrated-gradients",
}  # fmt: skip
"""With which method each is compared."""


@dataclass(frozen=True, eq=False)
class RiskMap:
    """Where in a scan a risk comes from.

    Attributes
    ----------
    method : {"integrated-gradients", "grad-cam", "occlusion"}
    values : ndarray of float32, shape of the grid
        What each voxel of the PET adds to the risk, in its unit: log-odds, log hazard ratio, or the outcome's own.
    risk : float
        Of the patient, as the model gives it.
    checks : tuple of MapCheck
    of_ct : ndarray of float32, shape of the grid, or None
        The same for each voxel of the CT; None for a model that does not see it.
    """

    method: Method
    values: Volume
    risk: float
    checks: tuple[MapCheck, ...] = ()
    of_ct: Volume | None = None

    @property
    def total(self) -> Volume:
        """Of each place: what both images add there."""
        return self.values if self.of_ct is None else self.values + self.of_ct

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)


def explain(
    model: Model,
    cohort: Cohort,
    *,
    method: Method = "integrated-gradients",
    contour: npt.NDArray[np.bool_] | None = None,
    checks: bool = True,
) -> RiskMap:
    """Tell what each voxel of the only patient's PET, and CT where it is seen, adds to the risk of a fitted model.

    Parameters
    ----------
    model : Model
        Fitted, of a kind that sees voxels: 2be3-net, cnn2d, cnn3d or pooled.
    cohort : Cohort
        One subject, on the grid on which the model was fitted; outcomes are not looked at.
    method : {"integrated-gradients", "grad-cam", "occlusion"}
        See :mod:`twobe3.explain.attribution`.
    contour : ndarray of bool, shape of the grid, optional
        With which the map is compared.
    checks : bool
        Whether the map is checked, see :mod:`twobe3.explain.checks`.

    Raises
    ------
    ConfigurationError
        ``NO_PATHWAY``: no gradient leads from voxels to the risk. ``GRID_MISMATCH``: the model saw another grid.
    UnusableScanError
        The scan cannot become SUV, or the CT that the model sees cannot be used.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    (subject,) = cohort.subjects
    if model.grid_ is not None and model.grid_ != cohort.grid:
        raise ConfigurationError(
            Code.GRID_MISMATCH,
            f"model {model.name!r} was fitted on {model.grid_}, and is asked for a map on {cohort.grid}",
        )
    pathway, spacing = build_pathway(model, cohort), cohort.grid.spacing_mm
    images = read_images(cohort, pathway.modalities)
    values = attribute(pathway, images, method, spacing)
    risk = float(model.predict(cohort.without_outcomes()).risk[0])
    found: list[MapCheck] = []
    if checks:
        edge, second = block_edge(spacing), SECOND[method]
        random = attribute(build_pathway(randomise(model), cohort), images, method, spacing)
        other = attribute(pathway, images, second, spacing)
        for place, of in enumerate(("", " (CT)")[: len(images)]):
            found.append(check_randomised(values[place], random[place], images[0], edge, of))
            found.append(check_agreement(values[place], other[place], images[0], edge, f"{second}{of}"))
        found += check_deletion(pathway, values, images, edge)
    if contour is not None:
        if not contour.any():
            code = Code.CONTOUR_NOT_IN_VIEW
            log.warning("%s: %s: %s; %s", subject.patient, code.name, code.summary, code.remedy)
        found += check_contour(values, contour)
    return RiskMap(method, values[0], risk, tuple(found), values[1] if len(values) > 1 else None)
