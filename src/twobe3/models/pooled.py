"""The train-free variant: frozen feature maps, pooled over position, and a ridge head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat
from pydantic.dataclasses import dataclass

from twobe3.cohort.cohort import Cohort
from twobe3.core.grid import Modality
from twobe3.core.outcomes import FloatArray, IntArray, Outcomes
from twobe3.features.ct import WINDOWS_HU, Window, require_windows
from twobe3.features.slices import Plane, SliceSpec
from twobe3.features.weights import WeightsSource
from twobe3.io.cache import Arrays
from twobe3.io.model_file import nest, unnest
from twobe3.models import encoder
from twobe3.models.encoder import CovariateEncoder, count_imputed, fit_encoder
from twobe3.models.fit_report import FitReport
from twobe3.models.inner_cv import Risk, cross_val_predict, inner_split
from twobe3.models.learners.linear import RidgeModel, choose_penalty, fit_ridge, moments
from twobe3.models.model import CONFIG, Model
from twobe3.models.nn.feature_maps import FeatureMaps, make_ct_maps
from twobe3.models.registry import register

PENALTIES = tuple(float(penalty) for penalty in np.logspace(0, 5, 11))
Statistic = Literal["mean", "max", "std"]
STATISTICS: tuple[Statistic, ...] = ("mean", "max", "std")


@register
@dataclass(kw_only=True, config=CONFIG)
class PooledModel(Model):
    """Mean, maximum and standard deviation of each frozen map, and ridge regression on them.

    Parameters
    ----------
    backbone, weights, layer, planes, windows_suv, slice_size
        Of the maps, see :class:`~twobe3.models.stacked_maps.StackedMapsModel`.
    modalities, windows_hu, ct_backbone, ct_weights, ct_layer
        Whether the PET, the CT or both are seen, and of the maps of the CT, see
        :class:`~twobe3.models.stacked_maps.StackedMapsModel`.
    penalties : tuple of float
        Candidates, of which an inner cross-validation of the training patients chooses.
    inner_folds : int
        Parts of that cross-validation.
    statistics : tuple of {"mean", "max", "std"}
        Over all positions of a map.
    pool_planes : bool
        Whether the statistics are those of all planes' positions together, each plane counting alike, instead of one
        for each plane.
    projection : int
        Columns of a random projection of the standardised statistics, drawn without looking at any patient; 0 for
        none.
    covariates : tuple of str
        Clinical covariates that join late: a second ridge regression weighs them against the risk that the images
        give patients whom it was not fitted on.
    """

    kind: ClassVar[str] = "pooled"
    summary: ClassVar[str] = "frozen feature maps pooled over position, ridge logistic or Cox head"
    has_network: ClassVar[bool] = True

    backbone: str = "pet-lesions"
    weights: str = "pretrained"
    layer: NonNegativeInt | tuple[NonNegativeInt, ...] = 3
    planes: tuple[Plane, ...] = Field(default=("axial", "coronal", "sagittal"), min_length=1)
    windows_suv: tuple[float, ...] = (5.0, 10.0, 25.0)
    slice_size: int = 128
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)] = ("pet",)
    windows_hu: tuple[Window, ...] = WINDOWS_HU
    ct_backbone: str = "mobilenetv2_100"
    ct_weights: str = "pretrained"
    ct_layer: NonNegativeInt | tuple[NonNegativeInt, ...] = 3
    penalties: tuple[PositiveFloat, ...] = Field(default=PENALTIES, min_length=1)
    inner_folds: int = Field(default=4, ge=2)
    statistics: tuple[Statistic, ...] = Field(default=STATISTICS, min_length=1)
    pool_planes: bool = False
    projection: int = Field(default=0, ge=0, le=16_384)
    covariates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.statistics)) < len(self.statistics):
            raise ValueError(f"each of `statistics` may stand once, got {self.statistics}")
        slices = SliceSpec(self.windows_suv, self.slice_size)
        self.maps_ = FeatureMaps(self.backbone, self.weights, self.layer, self.planes, slices)
        if len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"each of `modalities` may stand once, got {self.modalities}")
        require_windows(self.windows_hu)
        shown = SliceSpec(size=self.slice_size)
        self.ct_maps_ = (
            make_ct_maps(self.ct_backbone, self.ct_weights, self.ct_layer, self.planes, shown, self.windows_hu)
            if self.sees_ct
            else None
        )
        self.ridge_: RidgeModel | None = None
        self.encoder_: CovariateEncoder | None = None
        self.joined_: RidgeModel | None = None

    @property
    def maps(self) -> FeatureMaps:
        """The feature maps, computed and kept where this model says."""
        return self.maps_.at(self.cache, self.device)

    @property
    def all_maps(self) -> dict[str, FeatureMaps]:
        """The feature maps of each modality."""
        of_ct = {"ct": self.ct_maps_.at(self.cache, self.device)} if self.ct_maps_ else {}
        return {**({"pet": self.maps} if "pet" in self.modalities else {}), **of_ct}

    def _content_of_files(self) -> dict[str, Any]:
        return {"weights": " ".join(maps.cache_key() for maps in self.all_maps.values())}

    def public_parameters(self) -> dict[str, Any]:
        """The parameters, files told by their names alone."""
        return {**super().public_parameters(), "ct_weights": WeightsSource.parse(self.ct_weights).label}

    def precompute(self, cohort: Cohort) -> None:
        """Compute the pooled feature maps that the cache lacks."""
        self._pooled(cohort)

    def report(self, cohort: Cohort) -> FitReport:
        """Count missing covariates; and pooled maps, or columns of their projection, and columns of covariates."""
        columns = CovariateEncoder.fit(cohort.subjects, self.covariates).columns if self.covariates else ()
        n = (self.projection or int(self._pooled(cohort.subset([0])).shape[1])) + len(columns)
        imputed = count_imputed(cohort.subjects, self.covariates)
        return replace(super().report(cohort), imputed=imputed, n_parameters=n)

    def _fit(self, cohort: Cohort) -> None:
        x, outcomes = self._pooled(cohort), cohort.outcomes
        self.ridge_ = self._ridge(x, outcomes)
        self.encoder_ = self.joined_ = None
        if self.covariates:
            self.encoder_ = fit_encoder(cohort.subjects, self.covariates)
            risk = self._predict_out_of_fold(x, outcomes)
            joined = np.column_stack([risk, self.encoder_.encode(cohort.subjects)])
            penalty = choose_penalty(joined, outcomes, encoder.PENALTIES, inner_folds=self.inner_folds, seed=self.seed)
            self.joined_ = fit_ridge(joined, outcomes, penalty)

    def _predict_out_of_fold(self, x: FloatArray, outcomes: Outcomes) -> FloatArray:
        """Each training patient's risk by a ridge regression fitted without the patient, shape (n,).

        The fitted model's own risks where there are too few patients to split.
        """
        assert self.ridge_ is not None
        split, penalty = inner_split(outcomes, self.inner_folds, self.seed), self.ridge_.penalty

        def fit(train: IntArray) -> Risk:
            model = fit_ridge(x[train], outcomes.subset(train), penalty)
            return lambda index: model.risk(x[index])

        return cross_val_predict(fit, outcomes, split) if split else self.ridge_.risk(x)

    def _ridge(self, x: FloatArray, outcomes: Outcomes) -> RidgeModel:
        if not self.projection:
            penalty = choose_penalty(x, outcomes, self.penalties, inner_folds=self.inner_folds, seed=self.seed)
            return fit_ridge(x, outcomes, penalty)
        mean, scale = moments(x)
        directions = random_directions(x.shape[1], self.projection, self.seed)
        z = (x - mean) / scale @ directions
        penalty = choose_penalty(z, outcomes, self.penalties, inner_folds=self.inner_folds, seed=self.seed)
        inner = fit_ridge(z, outcomes, penalty)
        # Both steps are linear: together they are one linear model of the statistics themselves.
        weights = inner.weights / inner.scale
        return RidgeModel(mean, scale, directions @ weights, inner.bias - float(inner.mean @ weights), penalty)

    def _risk(self, cohort: Cohort) -> FloatArray:
        assert self.ridge_ is not None
        risk = self.ridge_.risk(self._pooled(cohort))
        if self.encoder_ is None or self.joined_ is None:
            return risk
        return self.joined_.risk(np.column_stack([risk, self.encoder_.encode(cohort.subjects)]))

    def _pooled(self, cohort: Cohort) -> FloatArray:
        """Shape (patients, statistics · channels · planes), of several layers and modalities one after another."""
        layers = []
        for extractor in (one for maps in self.all_maps.values() for one in maps.extractors()):
            rows = np.stack([extractor.extract_pooled(cohort, subject) for subject in cohort.subjects])
            by_plane = rows.reshape(len(rows), len(self.planes), len(STATISTICS), -1)
            if self.pool_planes:
                by_plane = _over_planes(by_plane)
            asked = [STATISTICS.index(statistic) for statistic in self.statistics]
            layers.append(by_plane[:, :, asked].reshape(len(rows), -1))
        return np.concatenate(layers, axis=1)

    def _arrays(self) -> Arrays:
        assert self.ridge_ is not None
        arrays = {name: array for maps in self.all_maps.values() for name, array in maps.arrays().items()}
        arrays |= self.ridge_.arrays()
        if self.encoder_ is not None and self.joined_ is not None:
            arrays |= nest("covariates.", self.encoder_.arrays()) | nest("joined.", self.joined_.arrays())
        return arrays

    def _notes(self) -> dict[str, Any]:
        return {f"{name}_maps": maps.notes() for name, maps in self.all_maps.items()}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        if "pet" in self.modalities:
            self.maps_.restore(arrays, notes["pet_maps"])
        if self.ct_maps_:
            self.ct_maps_.restore(arrays, notes["ct_maps"])
        self.ridge_ = RidgeModel.from_arrays(arrays)
        if self.covariates:
            self.encoder_ = CovariateEncoder.from_arrays(unnest("covariates.", arrays))
            self.joined_ = RidgeModel.from_arrays(unnest("joined.", arrays))


def random_directions(p: int, k: int, seed: int) -> FloatArray:
    """A random projection that keeps distances on the whole, shape (p, k).

    Johnson & Lindenstrauss; independent normal numbers of variance 1/k: Dasgupta & Gupta, Random Struct Algorithms
    2003;22:60. Numpy keeps this generator's stream for ever, so the matrix needs no place in a model file.
    """
    return np.asarray(np.random.RandomState(seed).standard_normal((p, k)) / np.sqrt(k))


def _over_planes(by_plane: FloatArray) -> FloatArray:
    """Statistics of the positions of all planes together, shape (n, planes, 3, channels) to (n, 1, 3, channels)."""
    mean, largest, deviation = np.moveaxis(by_plane, 2, 0)
    together = mean.mean(axis=1)
    # Law of total variance: the mean of the variances, and the variance of the means.
    variance = (deviation**2).mean(axis=1) + mean.var(axis=1)
    return np.stack([together, largest.max(axis=1), np.sqrt(variance)], axis=1)[:, None]
