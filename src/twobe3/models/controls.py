"""The trivial explanations that every other model must beat: volume, SUVmax, age, sex, image extent, centre."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from twobe3.cohort import Cohort, Study
from twobe3.features.measurements import Region, measure
from twobe3.models.base import CONFIG, Model, register
from twobe3.models.linear import FloatArray, RidgeModel, fit_ridge
from twobe3.store import Arrays

Variable = Literal["suvmax", "tumour_volume", "tlg", "image_extent", "age", "sex", "weight", "centre"]
MEASURED = {"suvmax": "suv_max", "tumour_volume": "volume_ml", "tlg": "tlg_ml", "image_extent": "extent_ml"}
COVARIATES = {"age": "age_years", "weight": "weight_kg"}
SEX = {"M": 1.0, "F": 0.0}
# One or a few standardised columns: enough to keep the fit finite where a column separates the classes.
PENALTY = 1.0
log = logging.getLogger("twobe3")


@register
@dataclass(config=CONFIG)
class Control(Model):
    """One number of each patient, and the univariate logistic, Cox or linear model on it.

    Parameters
    ----------
    variable : str
        ``suvmax``, ``tumour_volume`` (MTV), ``tlg``, ``image_extent``, ``age``, ``sex``, ``weight``, ``centre``.
        The first four enter as logarithms.
    region : {"contour", "threshold"}
        Where the first three are measured: in the contour, or in all voxels above ``threshold_suv``.
    threshold_suv : float
        For ``region = "threshold"``.
    """

    kind: ClassVar[str] = "control"
    summary: ClassVar[str] = f"one trivial explanation: {', '.join(get_args(Variable))}"

    variable: Variable = "suvmax"
    region: Region = Field(default="contour", kw_only=True)
    threshold_suv: float = Field(default=4.0, gt=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ridge_: RidgeModel | None = None
        self.median_: float = 0.0
        self.centres_: tuple[str, ...] = ()

    def default_name(self) -> str:
        """For instance ``suvmax (contour)``."""
        if self.variable not in ("suvmax", "tumour_volume", "tlg"):
            return self.variable
        where = "contour" if self.region == "contour" else f"SUV > {self.threshold_suv:g}"
        return f"{self.variable} ({where})"

    def prepare(self, cohort: Cohort) -> None:
        """Measure every scan that the store lacks."""
        if self.variable in MEASURED:
            for study in cohort.studies:
                self._value(study)

    def _fit(self, cohort: Cohort) -> None:
        self.centres_ = tuple(sorted({study.centre for study in cohort.studies}))
        if self.variable != "centre":
            values = np.array([self._value(study) for study in cohort.studies])
            known = values[~np.isnan(values)]
            self.median_ = float(np.median(known)) if len(known) else 0.0
        self.ridge_ = fit_ridge(self._columns(cohort), cohort.outcomes, PENALTY)

    def _risk(self, cohort: Cohort) -> FloatArray:
        assert self.ridge_ is not None
        return self.ridge_.risk(self._columns(cohort))

    def _columns(self, cohort: Cohort) -> FloatArray:
        """Shape (patients, 1), or (patients, centres): a centre unseen in training is none of them."""
        if self.variable == "centre":
            return np.array([[study.centre == centre for centre in self.centres_] for study in cohort.studies], float)
        values = np.array([self._value(study) for study in cohort.studies])
        missing = np.isnan(values)
        if missing.any():
            log.info("control %s: %d of %d patients lack it; the training median stands in", self.name,
                     int(missing.sum()), len(values))  # fmt: skip
        return np.where(missing, self.median_, values)[:, None]

    def _value(self, study: Study) -> float:
        if self.variable in MEASURED:
            found = measure(study.scan, self.region, threshold_suv=self.threshold_suv, store=self.store)
            return float(np.log1p(getattr(found, MEASURED[self.variable])))
        if self.variable == "sex":
            return SEX.get(str(study.covariates.get("sex")), np.nan)
        return float(study.covariates.get(COVARIATES[self.variable], np.nan))

    def _arrays(self) -> Arrays:
        assert self.ridge_ is not None
        return self.ridge_.arrays()

    def _notes(self) -> dict[str, Any]:
        return {"median": self.median_, "centres": self.centres_}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.ridge_ = RidgeModel.from_arrays(arrays)
        self.median_, self.centres_ = notes["median"], tuple(notes["centres"])
