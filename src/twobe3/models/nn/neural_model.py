"""What the trained networks share: covariates that join late, the head, the ensemble, and the arrays of its file."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.cohort.cohort import Cohort
from twobe3.core.outcomes import Outcomes
from twobe3.features.augment import Augmentation
from twobe3.io.cache import Arrays
from twobe3.models import encoder as late
from twobe3.models.encoder import CovariateBranch
from twobe3.models.learners.linear import FloatArray
from twobe3.models.model import CONFIG, Model
from twobe3.models.nn.batches import ModelInput
from twobe3.models.nn.heads import HazardHead, Head, MultitaskHead, RiskHead, interval_edges, mortality, survival_curves
from twobe3.models.nn.size import NetworkSize, size_for
from twobe3.models.nn.training import (
    UNCHANGED_TRAINING,
    TrainingParameters,
    ensemble_outputs,
    ensemble_risk,
    member_from_arrays,
    members_to_arrays,
    train_ensemble,
)

EDGES = "interval_edges"


@dataclass(kw_only=True, config=CONFIG)
class NeuralModel(Model, TrainingParameters):
    """A model that is an ensemble of trained networks; subclasses say what they are and what they see.

    Parameters
    ----------
    covariates : tuple of str
        Clinical covariates that join the images at the last layer, see :class:`~twobe3.models.encoder.CovariateBranch`.
    capacity : {"fixed", "auto"}
        Whether the size of the network is what its parameters say, or is chosen from the number of training patients
        and events, see :mod:`twobe3.models.nn.size`; then ``width``, ``dropout`` and their like are not looked at.
    endpoints : {"own", "all"}
        Whether the network learns the endpoint that it predicts alone, or all of the study at once, see
        :class:`~twobe3.models.nn.heads.MultitaskHead`. Another endpoint of which the training patients tell nothing
        is left out: it is known of none of them, all are of one class, or nobody has the event.
    """

    version: ClassVar[int] = 2
    joined_later: ClassVar[Mapping[str, Any]] = {
        **UNCHANGED_TRAINING,
        "covariates": (),
        "capacity": "fixed",
        "endpoints": "own",
    }

    covariates: tuple[str, ...] = ()
    capacity: Literal["fixed", "auto"] = Field(default="fixed")
    endpoints: Literal["own", "all"] = Field(default="own")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.covariates)) < len(self.covariates):
            raise ValueError(f"each covariate may stand once in `covariates`, got {self.covariates}")
        self.networks_: list[nn.Module] = []
        self.late_: CovariateBranch | None = None
        self.edges_: FloatArray = np.zeros(0)
        # Outputs of the last layer for each other endpoint; they follow those of the own one.
        self.beside_: dict[str, int] = {}
        self.capacity_ = self._own_capacity()

    @property
    def multitask(self) -> bool:
        """Whether it learns all endpoints."""
        return self.endpoints == "all"

    @abstractmethod
    def _own_capacity(self) -> NetworkSize:
        """What the parameters say."""

    @abstractmethod
    def _learn_inputs(self, cohort: Cohort) -> None:
        """Learn from the training patients what the inputs are made with."""

    @abstractmethod
    def _inputs(self, cohort: Cohort, augmentations: int) -> list[ModelInput]:
        """The pictures of all patients, with so many augmented versions of each."""

    def _volumes(self, cohort: Cohort, augmentations: int) -> ModelInput:
        """SUV of all patients, (n, 1, slices, rows, columns), with so many augmented versions of each."""
        volumes = [cohort.volume(subject) for subject in cohort.subjects]
        spacing = cohort.grid.spacing_mm
        augmented = [
            [augmentation(volume, spacing) for volume in volumes] for augmentation in self._augmentations(augmentations)
        ]
        scans, *versions = (torch.from_numpy(np.stack(one)).unsqueeze(1) for one in (volumes, *augmented))
        return ModelInput(scans, -1, tuple(versions))

    def _augmentations(self, count: int) -> tuple[Augmentation, ...]:
        return tuple(Augmentation(number, self.augmentation_seed) for number in range(1, count + 1))

    @abstractmethod
    def _network(self, *, covariates: int, outputs: int) -> nn.Module:
        """A fresh network for the inputs, random numbers drawn from torch."""

    def _initialised(self) -> nn.Module:
        """The network as training starts with it."""
        return self._network(**self._ends())

    def _whole(self, *, training: bool) -> nn.Module:
        """A fresh network as it is when training ends, before or after what training alone needs is taken away."""
        return self._network(**self._ends())

    def _ends(self) -> dict[str, int]:
        covariates = 0 if self.late_ is None else len(self.late_.weights)
        return {"covariates": covariates, "outputs": max(1, len(self.edges_)) + sum(self.beside_.values())}

    def cache_key(self) -> str:
        """As for every model, and where it is trained unless that is the CPU in single precision."""
        return f"{super().cache_key()}{self.device.cache_key()}"

    def imputed(self, cohort: Cohort) -> dict[str, int]:
        """How many patients lack each covariate."""
        return late.imputed(cohort.subjects, self.covariates)

    def size(self, cohort: Cohort) -> dict[str, Any]:
        """The capacity for this cohort, its trainable parameters, and events for each of them."""
        model = copy.copy(self)  # what it may have learnt stays
        model._choose_ends(cohort)
        model._learn_inputs(cohort.subset([0]))  # whoever it is, the shapes are the same
        with torch.random.fork_rng(devices=[]):
            network = model._whole(training=True)
        count = sum(value.numel() for value in network.parameters() if value.requires_grad)
        return {
            "capacity": asdict(model.capacity_),
            "trainable_parameters": count,
            "events_per_parameter": cohort.endpoint.effective_sample_size(cohort.outcomes) / count,
        }

    def _choose_ends(self, cohort: Cohort) -> None:
        """The capacity, and what the last layer takes and gives."""
        outcomes = cohort.outcomes
        self.capacity_ = size_for(outcomes) if self.capacity == "auto" else self._own_capacity()
        self.late_ = None
        if self.covariates:
            self.late_ = CovariateBranch.fit(cohort.subjects, outcomes, self.covariates, seed=self.seed)
        self.edges_ = self._edges(outcomes)
        self.beside_ = {other.endpoint.name: max(1, len(self._edges(other))) for other in self._learnt_beside(cohort)}

    def _edges(self, outcomes: Outcomes) -> FloatArray:
        """Ends of the intervals of an endpoint that has a hazard, else none."""
        hazard = self.head == "hazard" and outcomes.endpoint.has_times
        return interval_edges(outcomes, self.intervals) if hazard else np.zeros(0)

    def _learnt_beside(self, cohort: Cohort) -> list[Outcomes]:
        """The outcomes of other endpoints that the network learns at once with its own."""
        others = cohort.other_endpoints if self.multitask else ()
        return [other for other in others if other.endpoint.effective_sample_size(other)]

    def _fit(self, cohort: Cohort) -> None:
        self._choose_ends(cohort)
        self._learn_inputs(cohort)
        inputs, outcomes = self._all_inputs(cohort, self.augmentations), cohort.outcomes
        head = self._head(cohort)
        self.networks_ = train_ensemble(self._initialised, inputs, outcomes, self, self.seed, head, self.device)

    def _head(self, cohort: Cohort) -> Head:
        own = cohort.outcomes
        heads = [(self._head_of(own, self.late_), own.patients)]
        subjects = {subject.patient_id: subject for subject in cohort.subjects}
        for other in self._learnt_beside(cohort):
            known = [subjects[patient] for patient in other.patients]
            weighed = None if self.late_ is None else self.late_.weighed_for(known, other, seed=self.seed)
            heads.append((self._head_of(other, weighed), other.patients))
        return MultitaskHead(own.patients, heads) if len(heads) > 1 else heads[0][0]

    def _head_of(self, outcomes: Outcomes, covariates: CovariateBranch | None) -> Head:
        weights, edges = None if covariates is None else covariates.weights, self._edges(outcomes)
        return HazardHead(outcomes, edges, weights) if len(edges) else RiskHead(outcomes, weights)

    def _risk(self, cohort: Cohort) -> FloatArray:
        if not len(self.edges_):
            return ensemble_risk(self.networks_, self._seen(cohort), self, self.device)
        return np.asarray(mortality(self._logits(cohort)).mean(axis=0))

    def _curves(self, cohort: Cohort) -> tuple[FloatArray, FloatArray] | None:
        if not len(self.edges_):
            return None
        return self.edges_, np.asarray(survival_curves(self._logits(cohort)).mean(axis=0))

    def _logits(self, cohort: Cohort) -> FloatArray:
        """Of the hazards, shape (networks · views, n, intervals)."""
        return ensemble_outputs(self.networks_, self._seen(cohort), self, self.device)[..., : len(self.edges_)].numpy()

    def _seen(self, cohort: Cohort) -> list[ModelInput]:
        """What a prediction looks at."""
        return self._all_inputs(cohort, self.augmentations if self.test_time == "average" else 0)

    def _all_inputs(self, cohort: Cohort, augmentations: int) -> list[ModelInput]:
        inputs = self._inputs(cohort, augmentations)
        if self.late_ is not None:
            inputs.append(ModelInput(torch.from_numpy(self.late_.encode(cohort.subjects)), None))
        return inputs

    def _arrays(self) -> Arrays:
        learnt: dict[str, npt.NDArray[Any]] = dict(members_to_arrays(self.networks_))
        if self.late_ is not None:
            learnt |= self.late_.arrays()
        return {**learnt, EDGES: self.edges_} if len(self.edges_) else learnt

    def _notes(self) -> dict[str, Any]:
        beside = {"beside": self.beside_} if self.beside_ else {}
        return {"capacity": asdict(self.capacity_), **beside}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.capacity_ = NetworkSize(**notes["capacity"]) if "capacity" in notes else self._own_capacity()
        self.late_ = CovariateBranch.from_arrays(arrays) if self.covariates else None
        self.edges_ = np.asarray(arrays[EDGES]) if EDGES in arrays else np.zeros(0)
        self.beside_ = dict(notes.get("beside", {}))
        self.networks_ = [
            member_from_arrays(self._whole(training=False), arrays, member) for member in range(self.ensemble_size)
        ]
