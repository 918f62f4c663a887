"""The baseline of the field: radiomic features of the tumour, and a learner on the few that matter."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion, UnusableScanError
from twobe3.core.grid import Modality
from twobe3.core.outcomes import FloatArray, IntArray, Outcomes
from twobe3.features.radiomics import Change, FeatureVector, RadiomicsSettings, Voxels, ct_features, radiomic_features
from twobe3.io.cache import Arrays
from twobe3.io.model_file import nest, unnest
from twobe3.models.fit_report import FitReport, UndefinedFeature
from twobe3.models.learners.combat import Combat, fit_combat
from twobe3.models.learners.learner import FITTED, Learner, LearnerName, fit_learner
from twobe3.models.learners.selection import (
    agreement,
    concordance,
    minimum_redundancy,
    most_relevant,
    spearman,
    without_redundancy,
)
from twobe3.models.model import CONFIG, Model
from twobe3.models.registry import register
from twobe3.scans.regions import Fraction, Region, RegionKind, ROINames, ThresholdSUV

Selection = Literal["mrmr", "univariate", "none"]
SHARE_MISSING = 0.5  # a feature that more of the training patients lack is left out
FEWEST = 4  # training patients with features, below which nothing is learnt
log = logging.getLogger("twobe3")


@register
@dataclass(kw_only=True, config=CONFIG)
class RadiomicsModel(Model):
    """IBSI and PET features of a region, chosen and weighed inside the training patients.

    In this order, each step fitted on the training patients: features that most of them lack and constant ones are
    left out, and, if asked for, those that another contour would change; the median stands in for what a patient
    lacks; ComBat, if asked for; of features that rank patients alike only the one that ranks them best is kept; a few
    are chosen; the learner. ICARE does its own choosing. A scan without a usable region neither trains nor is
    predicted; :meth:`report` says why.

    Parameters
    ----------
    region, roi, threshold_suv, fraction
        Where features are taken: see :class:`~twobe3.scans.regions.Region`.
    otherwise : {"none", "threshold", "percist"}
        The region of a scan without the contour that ``region`` needs: an automatic one, or none.
    spacing_mm, bin_width_suv, n_bins, log_sigma_mm
        How: see :class:`~twobe3.features.radiomics.RadiomicsSettings`.
    modalities : tuple of {"pet", "ct"}
        Whose features: those of the PET, those of the CT in the same region, or both. A scan without a usable CT is
        left out where CT is among them.
    bin_width_hu : float
        Of the grey levels of the CT, the first of which begins at -1000 HU.
    voxels : {"measured", "shuffled"}
        Whether the voxels of the region are permuted first, as a baseline that has its volume, shape and histogram, and
        no texture: see :func:`~twobe3.features.radiomics.shuffle_voxels`.
    learner : str
        ``elastic-net``, ``ridge``, ``random-forest``, ``random-survival-forest`` (needs ``twobe3[survival-forest]``),
        ``gradient-boosting``, ``icare``.
    selection : {"mrmr", "univariate", "none"}
        How the features that the learner sees are chosen.
    max_features : int
        How many features are chosen at most.
    redundancy : float
        Largest absolute rank correlation between two of them; 1 keeps all.
    stability : float, optional
        Smallest agreement (ICC) of a feature over the region, the region less a layer of voxels and the region with
        one more; takes the extraction three times. All features by default.
    harmonise : {"none", "combat"}
        Whether centres are brought to one location and scale.
    l1_share, trees
        Of the learners that have them: see :func:`~twobe3.models.learners.learner.fit_learner`.
    inner_folds : int
        Of the cross-validation that chooses a penalty.
    """

    kind: ClassVar[str] = "radiomics"
    summary: ClassVar[str] = "IBSI and PET features of the tumour, selected, and one of six learners"
    min_patients: ClassVar[int] = FEWEST

    region: RegionKind = "contour"
    roi: ROINames = ()
    threshold_suv: ThresholdSUV = 4.0
    fraction: Fraction = 0.41
    otherwise: Literal["none", "threshold", "percist"] = "threshold"
    spacing_mm: PositiveFloat = 4.0
    bin_width_suv: PositiveFloat = 0.5
    n_bins: int | None = Field(default=None, ge=2)
    log_sigma_mm: tuple[PositiveFloat, ...] = ()
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)] = ("pet",)
    bin_width_hu: PositiveFloat = 25.0
    voxels: Voxels = "measured"
    learner: LearnerName = "elastic-net"
    selection: Selection = "mrmr"
    max_features: int = Field(default=10, ge=1)
    redundancy: float = Field(default=0.9, gt=0, le=1)
    stability: float | None = Field(default=None, ge=0, le=1)
    harmonise: Literal["none", "combat"] = "none"
    l1_share: float = Field(default=0.5, gt=0, le=1)
    trees: int = Field(default=200, ge=1)
    inner_folds: int = Field(default=4, ge=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"each of `modalities` may stand once, got {self.modalities}")
        if self.sees_ct and self.stability is not None:
            raise ValueError('`stability` is for `modalities = ["pet"]`')
        self.names_: tuple[str, ...] = ()
        self.median_: FloatArray = np.zeros(0)
        self.undefined_: tuple[UndefinedFeature, ...] = ()
        self.chosen_: IntArray = np.zeros(0, np.int64)
        self.combat_: Combat | None = None
        self.learner_: Learner | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether its voxels are shuffled."""
        return self.voxels == "shuffled"

    @property
    def default_name(self) -> str:
        """For instance ``radiomics elastic-net (contour, else SUV > 4)``."""
        shuffled = ", shuffled voxels" if self.voxels == "shuffled" else ""
        return f"radiomics {self.learner} ({', else '.join(region.label for region in self.regions)}{shuffled})"

    @property
    def regions(self) -> tuple[Region, ...]:
        """The region, and the one for scans without a contour, if there is another."""
        first = Region(self.region, self.roi, self.threshold_suv, self.fraction)
        if self.otherwise == "none" or self.region not in ("contour", "relative"):
            return (first,)
        return first, Region(self.otherwise, threshold_suv=self.threshold_suv)

    def precompute(self, cohort: Cohort) -> None:
        """Extract the features that the cache lacks."""
        for subject in cohort.subjects:
            for change in self._changes():
                self._features(subject, change)

    def _changes(self) -> tuple[Change, ...]:
        return ("none",) if self.stability is None else ("none", "eroded", "dilated")

    def report(self, cohort: Cohort) -> FitReport:
        """Count the features, and those of them that are not defined in some of the scans that have features."""
        vectors = self._vectors(cohort)
        if not vectors:
            return super().report(cohort)
        names = vectors[0].names
        undefined = _find_undefined(names, _stack(vectors))
        return replace(super().report(cohort), undefined=undefined, n_parameters=len(names))

    def _exclusions(self, cohort: Cohort) -> tuple[Exclusion, ...]:
        """The scans that have no features, and why; models without a region may use them."""
        found = ((subject, self._features(subject)) for subject in cohort.subjects)
        return tuple(
            Exclusion.of(features, patient=subject.patient)
            for subject, features in found
            if isinstance(features, UnusableScanError)
        )

    @property
    def chosen_names(self) -> tuple[str, ...]:
        """The features that the fitted learner sees."""
        return tuple(self.names_[i] for i in self.chosen_)

    def _features(self, subject: Subject, change: Change = "none") -> FeatureVector | UnusableScanError:
        settings = RadiomicsSettings(self.spacing_mm, self.bin_width_suv, self.log_sigma_mm, self.n_bins)
        for region in self.regions:
            try:
                return self._extract(subject, region, settings, change)
            except UnusableScanError as refusal:
                refused = refusal
            if refused.code is not Code.CONTOUR_MISSING:
                break
        return refused

    def _extract(self, subject: Subject, region: Region, settings: RadiomicsSettings, change: Change) -> FeatureVector:
        """Those of the PET, of the CT, or of both."""
        of_ct = None
        if self.sees_ct:
            of_ct = ct_features(subject, region, settings, self.bin_width_hu, self.cache, voxels=self.voxels)
        if of_ct is not None and "pet" not in self.modalities:
            return of_ct
        found = radiomic_features(subject, region, settings, self.cache, change=change, voxels=self.voxels)
        return found if of_ct is None else found.extend(dict(zip(of_ct.names, of_ct.values.tolist(), strict=True)))

    def _fit(self, cohort: Cohort) -> None:
        vectors = self._vectors(cohort)
        raw = _stack(vectors)
        kept = _informative(raw) & self._stable(cohort, raw.shape[1])
        if not kept.any():
            raise ConfigurationError(
                Code.NOTHING_USABLE, f"model {self.name!r}: no stable feature differs between training patients"
            )
        self.names_ = tuple(name for name, keep in zip(vectors[0].names, kept, strict=True) if keep)
        self.median_ = np.nanmedian(raw[:, kept], axis=0)
        self.undefined_ = _find_undefined(vectors[0].names, raw)
        log.info("%s: %d training patients; the median stands in for %.1f %% of their values",
                 self.name, len(cohort), 100 * float(np.isnan(raw[:, kept]).mean()))  # fmt: skip
        x = self._impute(vectors)
        self.combat_ = None
        if self.harmonise == "combat":
            self.combat_ = fit_combat(x, cohort.centres)
            x = self.combat_.apply(x, cohort.centres)
        self.chosen_ = self._choose(x, cohort.outcomes)
        self.learner_ = fit_learner(
            self.learner, x[:, self.chosen_], cohort.outcomes,
            l1_share=self.l1_share, trees=self.trees, inner_folds=self.inner_folds, seed=self.seed,
        )  # fmt: skip

    def _vectors(self, cohort: Cohort) -> list[FeatureVector]:
        """The features of the scans that have some."""
        found = [self._features(subject) for subject in cohort.subjects]
        return [one for one in found if isinstance(one, FeatureVector)]

    def _stable(self, cohort: Cohort, p: int) -> npt.NDArray[np.bool_]:
        """Which features agree between contours, over the patients in whom every contour gives them."""
        if self.stability is None:
            return np.ones(p, dtype=np.bool_)
        found = [[self._features(subject, change) for change in self._changes()] for subject in cohort.subjects]
        values = [[one.values for one in row if isinstance(one, FeatureVector)] for row in found]
        ratings = np.array([row for row in values if len(row) == len(self._changes())])
        if len(ratings) < FEWEST:
            raise ConfigurationError(
                Code.NOTHING_USABLE,
                f"model {self.name!r}: {len(ratings)} training patients have features of the changed contours too",
                remedy="leave `stability` out",
            )
        known = ~np.isnan(ratings).any(axis=(0, 1))
        stable = np.zeros(p, dtype=np.bool_)
        stable[known] = agreement(ratings[:, :, known]) >= self.stability
        log.info("%s: %d of %d features agree between contours", self.name, int(stable.sum()), p)
        return stable

    def _choose(self, x: FloatArray, outcomes: Outcomes) -> IntArray:
        everything = np.arange(x.shape[1])
        if self.learner == "icare":
            return everything
        relevance, correlation = np.abs(concordance(x, outcomes) - 0.5), spearman(x)
        order = most_relevant(relevance, len(relevance))
        unlike = without_redundancy(correlation, order, self.redundancy) if self.redundancy < 1 else everything
        if self.selection == "none":
            return unlike
        if self.selection == "univariate":
            return unlike[most_relevant(relevance[unlike], self.max_features)]
        return unlike[minimum_redundancy(relevance[unlike], correlation[np.ix_(unlike, unlike)], self.max_features)]

    def learner_inputs(self, cohort: Cohort) -> FloatArray:
        """What the fitted learner sees of patients whose scans it can use, shape (patients, chosen features)."""
        return self._present(self._impute(self._vectors(cohort)), cohort)

    def median_inputs(self, cohort: Cohort) -> FloatArray:
        """What the fitted learner would see of them if each had the training patients' median of every feature."""
        return self._present(np.tile(self.median_, (len(cohort), 1)), cohort)

    def _present(self, x: FloatArray, cohort: Cohort) -> FloatArray:
        x = x if self.combat_ is None else self.combat_.apply(x, cohort.centres)
        return x[:, self.chosen_]

    def _risk(self, cohort: Cohort) -> FloatArray:
        assert self.learner_ is not None
        return self.learner_.risk(self.learner_inputs(cohort))

    def _impute(self, found: list[FeatureVector]) -> FloatArray:
        """Shape (patients, kept features), the median where a patient lacks one."""
        place = {name: i for i, name in enumerate(found[0].names)}
        values = _stack(found)[:, [place[name] for name in self.names_]]
        return np.where(np.isnan(values), self.median_, values)

    def _arrays(self) -> Arrays:
        assert self.learner_ is not None
        arrays = {"median": self.median_, "chosen": self.chosen_, **nest("learner.", self.learner_.arrays())}
        if self.combat_ is not None:
            arrays |= {"combat.factor": self.combat_.factor, "combat.shift": self.combat_.shift}
        return arrays

    def _notes(self) -> dict[str, Any]:
        return {
            "names": self.names_,
            "centres": None if self.combat_ is None else self.combat_.centres,
            "undefined": [asdict(one) for one in self.undefined_],
        }

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.names_, self.median_, self.chosen_ = tuple(notes["names"]), arrays["median"], arrays["chosen"]
        self.undefined_ = tuple(UndefinedFeature(**one) for one in notes["undefined"])
        self.learner_ = FITTED[self.learner].from_arrays(unnest("learner.", arrays))
        if notes["centres"] is not None:
            self.combat_ = Combat(tuple(notes["centres"]), arrays["combat.factor"], arrays["combat.shift"])


def _stack(vectors: list[FeatureVector]) -> FloatArray:
    """Shape (patients, features)."""
    return np.stack([one.values for one in vectors])


def _find_undefined(names: tuple[str, ...], raw: FloatArray) -> tuple[UndefinedFeature, ...]:
    """The features that are NaN in some of the patients."""
    n, missing = len(raw), np.isnan(raw).sum(axis=0)
    return tuple(
        UndefinedFeature(name, int(count), n, bool(count / n > SHARE_MISSING))
        for name, count in zip(names, missing, strict=True)
        if count
    )


def _informative(raw: FloatArray) -> npt.NDArray[np.bool_]:
    """Which features differ between patients, and are known of enough of them."""
    missing = np.isnan(raw)
    differs = np.where(missing, -np.inf, raw).max(axis=0) > np.where(missing, np.inf, raw).min(axis=0)
    return np.asarray(differs & (missing.mean(axis=0) <= SHARE_MISSING))
