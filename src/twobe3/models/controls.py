"""The trivial explanations that every other model must beat: volume, SUVmax, age, sex, image extent, centre."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from twobe3.cohort import Cohort, Study
from twobe3.features.measurements import Measurements, measure
from twobe3.models.base import CONFIG, Model, register
from twobe3.models.linear import FloatArray, RidgeModel, fit_ridge
from twobe3.regions import Fraction, Region, RegionKind, ROINames, ThresholdSUV
from twobe3.store import Arrays

Variable = Literal["suvmax", "tumour_volume", "tlg", "image_extent", "age", "sex", "weight", "centre"]
MEASURED = {"suvmax": "suv_max", "tumour_volume": "volume_ml", "tlg": "tlg_ml", "image_extent": "extent_ml"}
IN_REGION = ("suvmax", "tumour_volume", "tlg")
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
    region : {"contour", "threshold", "relative", "percist"}
        Where the first three are measured, see :class:`~twobe3.regions.Region`.
    roi, threshold_suv, fraction
        Of that region.
    """

    kind: ClassVar[str] = "control"
    summary: ClassVar[str] = f"one trivial explanation: {', '.join(get_args(Variable))}"

    variable: Variable = "suvmax"
    region: RegionKind = Field(default="contour", kw_only=True)
    roi: ROINames = Field(default=(), kw_only=True)
    threshold_suv: ThresholdSUV = Field(default=4.0, kw_only=True)
    fraction: Fraction = Field(default=0.41, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ridge_: RidgeModel | None = None
        self.median_: float = 0.0
        self.centres_: tuple[str, ...] = ()
        self.lacking_: dict[str, int] = {}

    @property
    def where(self) -> Region:
        """The region."""
        return Region(self.region, self.roi, self.threshold_suv, self.fraction)

    def default_name(self) -> str:
        """For instance ``suvmax (contour)``."""
        if self.variable not in IN_REGION:
            return self.variable
        return f"{self.variable} ({self.where.label})"

    def prepare(self, cohort: Cohort) -> None:
        """Measure every scan that the store lacks."""
        if self.variable in MEASURED:
            for study in cohort.studies:
                self._value(study)

    def candidate_parameters(self, cohort: Cohort) -> int:
        """One, or one for each centre but the first."""
        return max(1, len({study.centre for study in cohort.studies}) - 1) if self.variable == "centre" else 1

    def _fit(self, cohort: Cohort) -> None:
        self.centres_ = tuple(sorted({study.centre for study in cohort.studies}))
        if self.variable != "centre":
            values = np.array([self._value(study) for study in cohort.studies])
            known = values[~np.isnan(values)]
            self.median_ = float(np.median(known)) if len(known) else 0.0
            self.lacking_ = self._lacking(cohort)
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
            why = "".join(f", {n} {code}" for code, n in self._lacking(cohort).items())
            log.info("control %s: %d of %d patients lack it%s; the training median stands in", self.name,
                     int(missing.sum()), len(values), why)  # fmt: skip
        return np.where(missing, self.median_, values)[:, None]

    def _lacking(self, cohort: Cohort) -> dict[str, int]:
        """For how many patients there is no region, by the code of the reason."""
        if self.variable not in IN_REGION:
            return {}
        codes = Counter(self._measured(study).lacking for study in cohort.studies)
        return {code: n for code, n in sorted(codes.items()) if code}

    def _measured(self, study: Study) -> Measurements:
        return measure(study.scan, self.where, store=self.store)

    def _value(self, study: Study) -> float:
        if self.variable in MEASURED:
            return float(np.log1p(getattr(self._measured(study), MEASURED[self.variable])))
        if self.variable == "sex":
            return SEX.get(str(study.covariates.get("sex")), np.nan)
        return float(study.covariates.get(COVARIATES[self.variable], np.nan))

    def _arrays(self) -> Arrays:
        assert self.ridge_ is not None
        return self.ridge_.arrays()

    def _notes(self) -> dict[str, Any]:
        return {"median": self.median_, "centres": self.centres_, "lacking": self.lacking_}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.ridge_ = RidgeModel.from_arrays(arrays)
        self.median_, self.centres_ = notes["median"], tuple(notes["centres"])
        self.lacking_ = dict(notes.get("lacking", {}))
