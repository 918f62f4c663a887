"""What every model does, the registry of models, and the one safe file that a fitted model becomes."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy.special import expit

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Endpoint, FloatArray, IntArray
from twobe3.core.prediction import Prediction
from twobe3.io.cache import Arrays, Cache
from twobe3.io.model_file import write_sealed
from twobe3.models.inner_cv import Risk
from twobe3.runtime.device import Device

CONFIG: ConfigDict = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class UndefinedFeature:
    """A feature that is not defined in some of the scans that a model can use.

    Attributes
    ----------
    feature : str
        Its name.
    missing, n : int
        In how many of how many scans it is not defined.
    left_out : bool
        Whether a model that learns from all these scans leaves it out; otherwise the median stands in.
    """

    feature: str
    missing: int
    n: int
    left_out: bool

    @property
    def exclusion(self) -> Exclusion:
        """Why the feature was left out."""
        reason = f"feature {self.feature!r} is not defined in {self.missing} of {self.n} scans"
        return Exclusion.of(ConfigurationError(Code.FEATURE_UNDEFINED, reason))


@dataclass(kw_only=True, config=CONFIG)
class Model(ABC):
    """A model of one endpoint: fitted on a cohort, it predicts the patients of another.

    Whatever is learnt, chosen or scaled is learnt in :meth:`fit` from the patients it is given. Parameters are
    constructor arguments; what was learnt hangs on attributes with a trailing underscore.

    Parameters
    ----------
    name : str, optional
        How tables call the model; made from its parameters by default.
    seed : int
        Of every random choice.
    cache : Cache, optional
        Where features are kept; share one between models.
    device : Device, optional
        Where networks compute.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]
    version: ClassVar[int] = 1  # raise it when the same parameters and patients give another fitted model
    min_patients: ClassVar[int] = 1  # training patients below which nothing is learnt
    # Parameters that joined later, and the value at which the model is what it was before them.
    joined_later: ClassVar[Mapping[str, Any]] = {}

    name: str = ""
    seed: Annotated[int, Field(ge=0)] = 0  # with a Field as default pydantic would forget that it is keyword-only
    cache: Cache = field(default_factory=Cache, repr=False)
    device: Device = field(default_factory=Device, repr=False)

    def __post_init__(self) -> None:
        self.name = self.name or self.default_name()
        self.endpoint_: Endpoint | None = None
        # Slope and intercept of the logit of the probability on the risk, where an inner cross-validation chose them.
        self.recalibration_: tuple[float, float] | None = None
        self.grid_: Grid | None = None

    def default_name(self) -> str:
        """The name in tables where the user gave none."""
        return self.kind

    @property
    def is_baseline(self) -> bool:
        """Whether it is a trivial explanation, which others must beat, rather than a candidate."""
        return False

    @property
    def multitask(self) -> bool:
        """Whether it also learns from the outcomes of other endpoints, which a cohort keeps beside its own."""
        return False

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {name: getattr(self, name) for name in self.parameter_names()}

    @classmethod
    def parameter_names(cls) -> list[str]:
        """Their names; where features are kept and networks compute are none of the model's parameters."""
        return [item.name for item in fields(cls) if item.init and item.name not in ("cache", "device")]

    def on(self, device: Device) -> Self:
        """A copy whose networks compute elsewhere."""
        made = copy.copy(self)
        made.device = device
        return made

    @classmethod
    def completed(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a file: what joined later stands at the value at which the model is what it was then."""
        return {**cls.joined_later, **parameters}

    def public_parameters(self) -> dict[str, Any]:
        """The parameters as they may leave this machine: without its folders."""
        return self.parameters()

    def identifying_parameters(self) -> dict[str, Any]:
        """The parameters, without those that joined later and change nothing: earlier results keep their keys."""
        later = self.joined_later
        return {key: value for key, value in self.parameters().items() if key not in later or value != later[key]}

    def cache_key(self) -> str:
        """Text that differs whenever the fitted model may differ on the same patients; part of cache keys."""
        return f"{self.kind} {self.version} {json.dumps(self.identifying_parameters(), sort_keys=True, default=str)}"

    def prepare(self, cohort: Cohort) -> None:  # noqa: B027  a model on the volumes has nothing to prepare
        """Compute whatever of the scans the store lacks. Learns nothing."""

    def unusable(self, cohort: Cohort) -> tuple[Exclusion, ...]:
        """The scans of a cohort that this model cannot use, and why; :meth:`fit` and :meth:`predict` leave them out.

        One exclusion a scan, in the order of the cohort. A model without regions uses every scan.
        """
        return ()

    def usable(self, cohort: Cohort) -> Cohort:
        """The cohort without the scans of :meth:`unusable`."""
        left_out = {exclusion.patient for exclusion in self.unusable(cohort)}
        if not left_out:
            return cohort
        return cohort.subset([i for i, subject in enumerate(cohort.subjects) if subject.patient not in left_out])

    def undefined(self, cohort: Cohort) -> tuple[UndefinedFeature, ...]:
        """The features that are not defined in some of the usable scans, and in how many."""
        return ()

    def imputed(self, cohort: Cohort) -> dict[str, int]:
        """For how many patients, fitted on all of them, the model fills in what is not known of them, by what it is.

        What is undefined in a scan, see :meth:`undefined`, is told there.
        """
        return {}

    def warnings(self, cohort: Cohort) -> tuple[str, ...]:
        """What a reader of this model's results on a cohort should know, a sentence each; told in log and report."""
        return ()

    def candidate_parameters(self, cohort: Cohort) -> int | None:
        """How many coefficients the fit may choose from, before any selection; None for a network."""
        return None

    def size(self, cohort: Cohort) -> dict[str, Any]:
        """How large the model is, fitted on a cohort with one endpoint, where that is not among its parameters."""
        return {}

    def fit(self, cohort: Cohort) -> Self:
        """Learn from a cohort with one endpoint.

        Parameters
        ----------
        cohort : Cohort
            Training patients; the :meth:`unusable` scans among them are left out.

        Returns
        -------
        Self
            The model, fitted.

        Raises
        ------
        ConfigurationError
            ``NOTHING_USABLE``, ``ONE_CLASS``: the scans that are left are too few, or of one class.
        """
        usable = self.usable(cohort)
        self.require_enough(usable, len(cohort))
        self._fit(usable)
        self.recalibration_ = None
        self.endpoint_, self.grid_ = cohort.endpoint, cohort.grid
        return self

    def require_enough(self, usable: Cohort, n: int, where: str = "") -> None:
        """Refuse training patients who are too few once the :meth:`unusable` scans are left out.

        Parameters
        ----------
        usable : Cohort
            Those that are left, with one endpoint.
        n : int
            How many there were; whether they are of both classes is not this model's question.
        where : str
            Of which fold they are, for the message.

        Raises
        ------
        ConfigurationError
            ``NOTHING_USABLE``: fewer than :attr:`min_patients`. ``ONE_CLASS``: nobody, or for a binary endpoint
            everybody, has the event.
        """
        said = f"model {self.name!r}: {len(usable)} of {n} training patients{where} have a scan that it can use"
        remedy = "name another `region`, or leave the model out"
        if len(usable) < self.min_patients:
            raise ConfigurationError(Code.NOTHING_USABLE, f"{said}, {self.min_patients} are needed", remedy=remedy)
        outcomes = usable.outcomes
        endpoint = outcomes.endpoint
        if len(usable) < n and endpoint.has_events and not endpoint.has_contrast(outcomes):
            raise ConfigurationError(
                Code.ONE_CLASS, f"{said}, {outcomes.n_events} of them with the event", remedy=remedy
            )

    def predict(self, cohort: Cohort) -> Prediction:
        """Risk, for a binary endpoint the probability, and survival where the model has curves of its own.

        Outcomes are not looked at. The :meth:`unusable` scans have no row.

        Raises
        ------
        ValueError
            The model is not fitted, or the cohort lies on another grid than the training patients.
        """
        if self.endpoint_ is None:
            raise ValueError(f"model {self.name!r} is not fitted")
        if cohort.grid != self.grid_:
            raise ValueError(f"the model was fitted on {self.grid_}, the cohort lies on {cohort.grid}")
        cohort = self.usable(cohort)
        risk = self._risk(cohort) if len(cohort) else np.zeros(0)
        chance = self.endpoint_.probability(risk)
        if self.recalibration_ is not None:
            slope, intercept = self.recalibration_
            chance = expit(slope * risk + intercept)
        times, survival = (self._curves(cohort) if len(cohort) else None) or (None, None)
        return Prediction(self.name, self.endpoint_.name, cohort.patients, risk, chance, survival=survival, times=times)

    def save(self, path: Path | str) -> Path:
        """Write the fitted model as one safetensors file: arrays and a JSON header, nothing executable.

        Parameters
        ----------
        path : path
            A file ending in ``.safetensors``, or a folder in which ``model.safetensors`` is written.

        Returns
        -------
        Path
            The file.
        """
        if self.endpoint_ is None or self.grid_ is None:
            raise ValueError(f"model {self.name!r} is not fitted")
        path = Path(path)
        path = path if path.suffix == ".safetensors" else path / MODEL_FILE
        header: dict[str, Any] = {
            "kind": self.kind,
            "parameters": self.public_parameters(),
            "endpoint": {"kind": self.endpoint_.kind, **asdict(self.endpoint_)},
            "grid": asdict(self.grid_),
            "notes": self._notes(),
            **({} if self.recalibration_ is None else {"recalibration": self.recalibration_}),
        }
        write_sealed(path, header, self._arrays())
        return path

    @abstractmethod
    def _fit(self, cohort: Cohort) -> None: ...

    @abstractmethod
    def _risk(self, cohort: Cohort) -> FloatArray: ...

    def _curves(self, cohort: Cohort) -> tuple[FloatArray, FloatArray] | None:
        """Times, and each patient's survival at them, where the model gives more than a risk."""
        return None

    @abstractmethod
    def _arrays(self) -> Arrays:
        """What was learnt, as arrays."""

    @abstractmethod
    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        """Take back what :meth:`_arrays` and :meth:`_notes` gave."""

    def _notes(self) -> dict[str, Any]:
        """What was learnt and is no array."""
        return {}


def risk_of_fitted(model: Model, training: Cohort) -> Callable[[IntArray], Risk]:
    """For :func:`~twobe3.models.inner_cv.cross_val_predict`: fits the model on some of the training patients."""

    def fit(train: IntArray) -> Risk:
        model.fit(training.subset(train))
        return lambda index: model.predict(training.subset(index).without_outcomes()).risk

    return fit
