"""The trivial explanations that every other model must beat: volume, SUVmax, clinical facts, image extent, centre."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.covariates import covariate_of
from twobe3.core.errors import Exclusion
from twobe3.core.outcomes import FloatArray
from twobe3.features.measurements import Measurements, measure
from twobe3.io.cache import Arrays
from twobe3.io.model_file import nest, unnest
from twobe3.models.encoder import CovariateEncoder
from twobe3.models.fit_report import FitReport
from twobe3.models.learners.linear import RidgeModel, choose_penalty, fit_ridge
from twobe3.models.model import CONFIG, Model
from twobe3.models.registry import register
from twobe3.scans.regions import Fraction, Region, RegionKind, ROINames, ThresholdSUV

Variable = Literal["suvmax", "tumour_volume", "tlg", "image_extent", "age", "sex", "weight", "clinical", "centre"]
MEASURED = {"suvmax": "suv_max", "tumour_volume": "volume_ml", "tlg": "tlg_ml", "image_extent": "extent_ml"}
IN_REGION = ("suvmax", "tumour_volume", "tlg")
# Those that stand in a table by themselves where there is what they look at, in its order.
DEFAULT: tuple[Variable, ...] = ("tumour_volume", "suvmax", "tlg", "image_extent", "clinical", "centre")
COVARIATES = {"age": "age_years", "weight": "weight_kg"}
SEX = {"M": 1.0, "F": 0.0}
# One or a few standardised columns: enough to keep the fit finite where a column separates the classes.
PENALTY = 1.0
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # candidates where several clinical covariates stand side by side
log = logging.getLogger("twobe3")


@register
@dataclass(config=CONFIG)
class Baseline(Model):
    """One number of each patient, and the univariate logistic, Cox or linear model on it.

    A scan without the region in which the number is measured is left out; nothing above a
    threshold is a region of volume 0. The training median stands in for a missing age, sex or weight.

    ``clinical`` is the one with several numbers: covariates as :class:`~twobe3.models.encoder.CovariateEncoder`
    encodes them, with a ridge penalty that inner cross-validation chooses where there is more than one column.

    Parameters
    ----------
    variable : str
        ``suvmax``, ``tumour_volume`` (MTV), ``tlg``, ``image_extent``, ``age``, ``sex``, ``weight``, ``clinical``,
        ``centre``. The first four enter as logarithms.
    region : {"contour", "threshold", "relative", "percist"}
        Where the first three are measured, see :class:`~twobe3.scans.regions.Region`.
    roi, threshold_suv, fraction
        Of that region.
    covariates : tuple of str
        Of ``clinical``: facts of the headers (``age``, ``sex``, ``weight_kg``, ``height_m``) and columns of the
        clinical table that the cohort was read with; age, sex and all of these columns by default.
    inner_folds : int
        Of ``clinical``: of the cross-validation that chooses the penalty.
    """

    kind: ClassVar[str] = "baseline"
    summary: ClassVar[str] = f"one trivial explanation: {', '.join(get_args(Variable))}"

    variable: Variable = "suvmax"
    region: RegionKind = Field(default="contour", kw_only=True)
    roi: ROINames = Field(default=(), kw_only=True)
    threshold_suv: ThresholdSUV = Field(default=4.0, kw_only=True)
    fraction: Fraction = Field(default=0.41, kw_only=True)
    covariates: tuple[str, ...] = Field(default=(), kw_only=True)
    inner_folds: int = Field(default=4, ge=2, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ridge_: RidgeModel | None = None
        self.median_: float = 0.0
        self.centres_: tuple[str, ...] = ()
        self.encoder_: CovariateEncoder | None = None

    @property
    def where(self) -> Region:
        """The region."""
        return Region(self.region, self.roi, self.threshold_suv, self.fraction)

    @property
    def is_baseline(self) -> bool:
        """Always."""
        return True

    @property
    def default_name(self) -> str:
        """For instance ``suvmax (contour)``, ``clinical (age, stage)``."""
        if self.variable in IN_REGION:
            return f"{self.variable} ({self.where.label})"
        return f"{self.variable} ({', '.join(self.covariates)})" if self.covariates else self.variable

    def precompute(self, cohort: Cohort) -> None:
        """Measure every scan that the cache lacks."""
        if self.variable in MEASURED:
            self._values(cohort)

    def report(self, cohort: Cohort) -> FitReport:
        """Count missing covariates, and columns: one, or one for each centre but the first, or for each covariate."""
        imputed, n = {}, 1
        if self.variable == "clinical":
            encoder = self._encoder(cohort)
            imputed, n = encoder.count_imputed(cohort.subjects), max(1, len(encoder.columns))
        elif self.variable == "centre":
            n = max(1, len(set(cohort.centres)) - 1)
        elif self.variable not in MEASURED:
            missing = int(np.isnan(self._values(cohort)).sum())
            imputed = {self.variable: missing} if missing else {}
        return replace(super().report(cohort), imputed=imputed, n_parameters=n)

    def _exclusions(self, cohort: Cohort) -> tuple[Exclusion, ...]:
        """The scans without the region in which the variable is measured, and why there is none."""
        if self.variable not in IN_REGION:
            return ()
        found = ((subject, self._measure(subject).lacking) for subject in cohort.subjects)
        return tuple(Exclusion.of(lacking, patient=subject.patient) for subject, lacking in found if lacking)

    def _encoder(self, cohort: Cohort) -> CovariateEncoder:
        return CovariateEncoder.fit(cohort.subjects, tuple(map(covariate_of, self.covariates)))

    def _fit(self, cohort: Cohort) -> None:
        self.encoder_ = self._encoder(cohort) if self.variable == "clinical" else None
        self.centres_ = tuple(sorted({subject.centre for subject in cohort.subjects}))
        if self.variable not in ("centre", "clinical"):
            values = self._values(cohort)
            self.median_ = 0.0 if np.isnan(values).all() else float(np.nanmedian(values))
        x, outcomes, penalty = self._columns(cohort), cohort.outcomes, PENALTY
        if self.variable == "clinical" and x.shape[1] > 1:
            penalty = choose_penalty(x, outcomes, PENALTIES, inner_folds=self.inner_folds, seed=self.seed)
        self.ridge_ = fit_ridge(x, outcomes, penalty)

    def _risk(self, cohort: Cohort) -> FloatArray:
        assert self.ridge_ is not None
        return self.ridge_.risk(self._columns(cohort))

    def _columns(self, cohort: Cohort) -> FloatArray:
        """Shape (patients, 1), or (patients, centres): a centre unseen in training is none of them; or covariates."""
        if self.encoder_ is not None:
            return self.encoder_.encode(cohort.subjects)
        if self.variable == "centre":
            return np.array(
                [[subject.centre == centre for centre in self.centres_] for subject in cohort.subjects], float
            )
        values = self._values(cohort)
        missing = np.isnan(values)
        if missing.any():
            log.info("baseline %s: %d of %d patients lack it; the training median stands in",
                     self.name, int(missing.sum()), len(values))  # fmt: skip
        return np.where(missing, self.median_, values)[:, None]

    def _measure(self, subject: Subject) -> Measurements:
        return measure(subject.scan, self.where, cache=self.cache)

    def _values(self, cohort: Cohort) -> FloatArray:
        """The number of each patient, NaN where it is not known."""
        return np.array([self._value(subject) for subject in cohort.subjects])

    def _value(self, subject: Subject) -> float:
        if self.variable in MEASURED:
            return float(np.log1p(getattr(self._measure(subject), MEASURED[self.variable])))
        if self.variable == "sex":
            return SEX.get(str(subject.covariates.get("sex")), np.nan)
        return float(subject.covariates.get(COVARIATES[self.variable], np.nan))

    def _arrays(self) -> Arrays:
        assert self.ridge_ is not None
        return {**self.ridge_.arrays(), **nest("encoder.", {} if self.encoder_ is None else self.encoder_.arrays())}

    def _notes(self) -> dict[str, Any]:
        return {"median": self.median_, "centres": self.centres_}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.ridge_ = RidgeModel.from_arrays(arrays)
        self.median_, self.centres_ = notes["median"], tuple(notes["centres"])
        encoder = unnest("encoder.", arrays)
        self.encoder_ = CovariateEncoder.from_arrays(encoder) if encoder else None
