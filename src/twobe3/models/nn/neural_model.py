"""A model that is an ensemble of trained networks, put together from inputs, a network and a training procedure."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.cohort.cohort import Cohort
from twobe3.core.grid import Modality
from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.features.augment import Augmentation
from twobe3.features.ct import WINDOWS_HU, Window, require_windows
from twobe3.io.cache import Arrays
from twobe3.io.model_file import nest, unnest
from twobe3.models.encoder import CovariateEncoder, count_imputed, fit_encoder, initial_weights
from twobe3.models.fit_report import FitReport
from twobe3.models.model import CONFIG, Model
from twobe3.models.nn.heads import HazardHead, Head, MultitaskHead, RiskHead, interval_edges, mortality, survival_curves
from twobe3.models.nn.inputs import Inputs, ModelInput
from twobe3.models.nn.size import NetworkSize, size_for
from twobe3.models.nn.training import (
    TrainingParameters,
    ensemble_outputs,
    member_from_arrays,
    members_to_arrays,
    require_shapes,
    train_ensemble,
)

EDGES = "interval_edges"


@dataclass(kw_only=True, config=CONFIG)
class NeuralModel(Model):
    """An ensemble of trained networks: :meth:`make_inputs` says what they see, :meth:`make_network` what they are.

    By default the length of the training is fixed beforehand, so no patient is spent on stopping it.

    Parameters
    ----------
    epochs : int or "auto"
        Passes over the training patients; ``"auto"``: as many as make ``fewest_steps``, but at least
        ``fewest_epochs``. 40 patients make 3 steps an epoch, too few for any number of epochs that suits 400.
    batch_size : int
        Patients a step.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over the first tenth of the steps and falls along a cosine to 0.
    dropout : float
        Before the last layer.
    ensemble_size : int
        Networks trained from different seeds; their risks are averaged.
    head : {"risk", "hazard"}
        For a time to an event: ``"risk"``, a log hazard ratio by Cox's partial likelihood, or ``"hazard"``, the
        discrete-time logistic hazard, which gives survival curves. Other endpoints have ``"risk"``.
    intervals : int
        Of the discrete-time hazard, at quantiles of the training patients' event times.
    batches : {"shuffled", "stratified"}
        Whether each batch has its share of the events.
    stopping_share : float
        Share of the training patients, stratified by event and drawn anew for each member, that is set aside to tell
        when to stop; 0 trains for all epochs.
    patience : int
        Epochs without a better loss of those patients, after which training ends; the best epoch is kept. They count
        from when the rate has risen: before, little is learnt, and with few patients that takes many epochs.
    augmentations : int
        Shifted, scaled and mirrored versions of every scan, cached like the scan itself; each step draws one of them
        or the scan for each of its patients.
    augmentation_seed : int
        Of those versions; models that share it share the cache.
    test_time : {"single", "average"}
        Whether a prediction is that of the scan, or the mean over the scan, its augmentations, and the mirror
        images of them, which training drew from; shifts along the slices are not among them.
    fewest_steps, fewest_epochs : int
        See ``epochs``; not looked at where their number is given.
    shift_share : float
        Up to such a share of its length each patient's stack is shifted along its slices in every step; what leaves at
        one end enters at the other. Maps of the shifted scan would be the same, so this costs nothing.
    covariates : tuple of str
        Clinical covariates that join the images at the last layer, see :func:`~twobe3.models.encoder.initial_weights`.
    capacity : {"fixed", "auto"}
        Whether the size of the network is what its parameters say, or is chosen from the number of training patients
        and events, see :mod:`twobe3.models.nn.size`; then ``width``, ``dropout`` and their like are not looked at.
    modalities : tuple of {"pet", "ct"}
        What the network sees: the PET, the CT beside it, or both. A scan without a usable CT is left out where CT is
        among them.
    windows_hu : tuple of (float, float)
        From and to which HU the windows of the CT reach, a channel each: soft tissue, lung and bone by default.
    endpoints : {"own", "all"}
        Whether the network learns the endpoint that it predicts alone, or all of the study at once, see
        :class:`~twobe3.models.nn.heads.MultitaskHead`. Another endpoint of which the training patients tell nothing
        is left out: it is known of none of them, all are of one class, or nobody has the event.
    """

    has_network: ClassVar[bool] = True

    epochs: PositiveInt | Literal["auto"] = Field(default="auto")
    batch_size: int = Field(default=16, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    ensemble_size: int = Field(default=3, ge=1)
    head: Literal["risk", "hazard"] = Field(default="risk")
    intervals: int = Field(default=10, ge=1)
    batches: Literal["shuffled", "stratified"] = Field(default="shuffled")
    stopping_share: float = Field(default=0.0, ge=0, le=0.5)
    patience: int = Field(default=5, ge=1)
    augmentations: int = Field(default=0, ge=0)
    augmentation_seed: int = Field(default=0, ge=0)
    test_time: Literal["single", "average"] = Field(default="single")
    fewest_steps: int = Field(default=400, ge=1)
    fewest_epochs: int = Field(default=20, ge=1)
    shift_share: float = Field(default=0.0, ge=0, le=0.5)
    covariates: tuple[str, ...] = ()
    capacity: Literal["fixed", "auto"] = Field(default="fixed")
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)] = ("pet",)
    windows_hu: Annotated[tuple[Window, ...], Field(min_length=1)] = WINDOWS_HU
    endpoints: Literal["own", "all"] = Field(default="own")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.covariates)) < len(self.covariates):
            raise ValueError(f"each covariate may stand once in `covariates`, got {self.covariates}")
        if len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"each of `modalities` may stand once, got {self.modalities}")
        require_windows(self.windows_hu)
        self.size_ = self.default_size()
        self.encoder_: CovariateEncoder | None = None
        self.edges_: FloatArray = np.zeros(0)  # ends of the intervals, where the own endpoint has a hazard
        self.other_outputs_: dict[str, int] = {}  # of each other endpoint; in the last layer they follow the own ones
        self.inputs_: Inputs
        self.networks_: list[nn.Module] = []

    @property
    def multitask(self) -> bool:
        """Whether it learns all endpoints."""
        return self.endpoints == "all"

    @property
    def training(self) -> TrainingParameters:
        """The parameters of the training procedure."""
        return TrainingParameters(**{item.name: getattr(self, item.name) for item in fields(TrainingParameters)})

    @abstractmethod
    def default_size(self) -> NetworkSize:
        """The size that the parameters say."""

    @abstractmethod
    def make_inputs(self) -> Inputs:
        """What turns scans into inputs, not yet fitted."""

    @abstractmethod
    def make_network(self, *, covariates: int, outputs: int) -> nn.Module:
        """A fresh network, drawn from torch, for the fitted inputs, of which the covariates' columns are the last."""

    def _build_network(self) -> nn.Module:
        columns = 0 if self.encoder_ is None else len(self.encoder_.columns)
        outputs = max(1, len(self.edges_)) + sum(self.other_outputs_.values())
        return self.make_network(covariates=columns, outputs=outputs)

    def _init_network(self) -> nn.Module:
        """A network as training starts with it."""
        return self._build_network()

    def _final_network(self, *, trainable: bool) -> nn.Module:
        """A network as training ends with it, with or without what training alone needs."""
        return self._build_network()

    @property
    def _network_prefix(self) -> str:
        """How the names of what :meth:`_build_network` builds begin in what training ends with."""
        return ""

    def report(self, cohort: Cohort) -> FitReport:
        """Count missing covariates; with one endpoint also the trainable parameters, and events for each of them."""
        counts = count_imputed(cohort.subjects, self.covariates)
        size = self._size(cohort) if len(cohort.endpoints) == 1 else {}
        return replace(super().report(cohort), imputed=counts, size=size)

    def _size(self, cohort: Cohort) -> dict[str, Any]:
        model, outcomes = copy.copy(self), cohort.outcomes  # what it may have learnt stays
        model.fit_head(cohort)
        model.fit_inputs(cohort.subset([0]))  # whoever it is, the shapes are the same
        with torch.random.fork_rng(devices=[]):
            network = model._final_network(trainable=True)
        count = sum(value.numel() for value in network.parameters() if value.requires_grad)
        return {
            "capacity": asdict(model.size_),
            "trainable_parameters": count,
            "events_per_parameter": outcomes.endpoint.effective_sample_size(outcomes) / count,
        }

    def fit_head(self, cohort: Cohort) -> None:
        """Choose the size of the network, and learn what its last layer takes and gives."""
        outcomes = cohort.outcomes
        self.size_ = size_for(outcomes) if self.capacity == "auto" else self.default_size()
        self.encoder_ = fit_encoder(cohort.subjects, self.covariates) if self.covariates else None
        self.edges_ = self._edges(outcomes)
        others = self._other_outcomes(cohort)
        self.other_outputs_ = {other.endpoint.name: max(1, len(self._edges(other))) for other in others}

    def fit_inputs(self, cohort: Cohort) -> None:
        """Learn from the training patients what the inputs are made with."""
        self.inputs_ = self.make_inputs().fit(cohort)

    def _edges(self, outcomes: Outcomes) -> FloatArray:
        """Ends of the intervals of an endpoint that has a hazard, else none."""
        hazard = self.head == "hazard" and outcomes.endpoint.has_times
        return interval_edges(outcomes, self.intervals) if hazard else np.zeros(0)

    def _other_outcomes(self, cohort: Cohort) -> list[Outcomes]:
        """The outcomes of other endpoints that the network learns at once with its own."""
        others = cohort.other_endpoints if self.multitask else ()
        return [other for other in others if other.endpoint.effective_sample_size(other)]

    def _fit(self, cohort: Cohort) -> None:
        self.fit_head(cohort)
        self.fit_inputs(cohort)
        self.networks_ = self._train(cohort)

    def _train(self, cohort: Cohort) -> list[nn.Module]:
        """The networks on the fitted inputs."""
        inputs, head = self._transform(cohort, self.augmentations), self.make_head(cohort)
        return train_ensemble(self._init_network, inputs, cohort.outcomes, self.training, self.seed, head, self.device)

    def make_head(self, cohort: Cohort) -> Head:
        """The losses of the endpoints that are learnt, and where the last layer starts."""
        own = cohort.outcomes
        subjects = {subject.patient_id: subject for subject in cohort.subjects}
        heads: list[tuple[Head, Sequence[str]]] = []
        for outcomes in (own, *self._other_outcomes(cohort)):
            weights, edges = None, self._edges(outcomes)
            if self.encoder_ is not None:
                x = self.encoder_.encode([subjects[patient] for patient in outcomes.patients])
                weights = initial_weights(x, outcomes, seed=self.seed)
            head = HazardHead(outcomes, edges, weights) if len(edges) else RiskHead(outcomes, weights)
            heads.append((head, outcomes.patients))
        return MultitaskHead(own.patients, heads) if len(heads) > 1 else heads[0][0]

    def _risk(self, cohort: Cohort) -> FloatArray:
        outputs = self._outputs(cohort)
        if not len(self.edges_):
            return outputs[..., 0].mean(dim=0).numpy()
        return np.asarray(mortality(outputs.numpy()).mean(axis=0))

    def _member_risks(self, cohort: Cohort) -> FloatArray | None:
        members = len(self.networks_)
        if members < 2:
            return None
        outputs = self._outputs(cohort)
        risks: FloatArray = mortality(outputs.numpy()) if len(self.edges_) else outputs[..., 0].numpy()
        views = risks.reshape(-1, members, len(cohort))  # one after another
        return np.asarray(views.mean(axis=0))

    def _curves(self, cohort: Cohort) -> tuple[FloatArray, FloatArray] | None:
        if not len(self.edges_):
            return None
        return self.edges_, np.asarray(survival_curves(self._outputs(cohort).numpy()).mean(axis=0))

    def _outputs(self, cohort: Cohort) -> torch.Tensor:
        """Of the own endpoint, a risk or the hazards of the intervals, shape (networks · views, n, outputs)."""
        inputs = self._transform(cohort, self.augmentations if self.test_time == "average" else 0)
        outputs = ensemble_outputs(self.networks_, inputs, self.training, self.device)
        return outputs[..., : max(1, len(self.edges_))]

    def _versions(self, count: int) -> tuple[Augmentation, ...]:
        return tuple(Augmentation(number, self.augmentation_seed) for number in range(1, count + 1))

    def _transform(self, cohort: Cohort, augmentations: int) -> list[ModelInput]:
        """What the networks see, with so many augmented versions of every scan."""
        inputs = self.inputs_.transform(cohort, self._versions(augmentations))
        if self.encoder_ is not None:
            inputs.append(ModelInput(torch.from_numpy(self.encoder_.encode(cohort.subjects)), None))
        return inputs

    def _arrays(self) -> Arrays:
        arrays = {**self.inputs_.arrays(), **members_to_arrays(self.networks_)}
        if self.encoder_ is not None:
            arrays |= nest("covariates.", self.encoder_.arrays())
        return {**arrays, EDGES: self.edges_} if len(self.edges_) else arrays

    def _notes(self) -> dict[str, Any]:
        sizes = {"capacity": asdict(self.size_), "other_outputs": self.other_outputs_, "members": len(self.networks_)}
        return {**self.inputs_.notes(), **sizes}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.size_ = NetworkSize(**notes["capacity"])
        encoder = unnest("covariates.", arrays)
        self.encoder_ = CovariateEncoder.from_arrays(encoder) if encoder else None
        self.edges_ = np.asarray(arrays[EDGES]) if EDGES in arrays else np.zeros(0)
        self.other_outputs_ = dict(notes["other_outputs"])
        self.inputs_ = self.make_inputs().restore(arrays, notes)
        with torch.device("meta"):  # shapes without memory: a file may ask for any
            planned = self._build_network().state_dict()
        require_shapes({f"{self._network_prefix}{name}": one for name, one in planned.items()}, arrays)
        self.networks_ = [
            member_from_arrays(self._final_network(trainable=False), arrays, member)
            for member in range(notes["members"])
        ]
