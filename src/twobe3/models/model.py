"""The protocol of models: parameters, fit, prediction, and the one safe file that a fitted model becomes."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy.special import expit

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.ct import find_ct_exclusions
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Endpoint, FloatArray, IntArray
from twobe3.core.prediction import Prediction
from twobe3.features.weights import WeightsSource
from twobe3.io.cache import Arrays, Cache
from twobe3.io.model_file import write_sealed
from twobe3.models.fit_report import FitReport
from twobe3.models.inner_cv import Risk
from twobe3.models.record import CALIBRATIONS, CARD, TrainingRecord, make_record
from twobe3.runtime.device import Device

CONFIG: ConfigDict = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
MODEL_FILE = "model.safetensors"
SURROUNDINGS = ("cache", "device")  # constructor arguments that are no parameters: no result depends on them


@dataclass(kw_only=True, config=CONFIG)
class Model(ABC):
    """A model of one endpoint: fitted on a cohort, it predicts the patients of another.

    Parameters are constructor arguments, and the constructor does nothing but check them. Whatever is learnt, chosen or
    scaled is learnt in :meth:`fit` from the patients it is given, and hangs on attributes with a trailing underscore.
    A subclass is a pydantic dataclass with ``kind`` and ``summary`` that defines ``_fit``, ``_risk``, ``_arrays`` and
    ``_restore``.

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
    min_patients: ClassVar[int] = 1  # training patients below which nothing is learnt
    has_network: ClassVar[bool] = False  # whether a network computes, of weights that the parameter `weights` names

    name: str = ""
    seed: Annotated[int, Field(ge=0)] = 0  # with a Field as default pydantic would forget that it is keyword-only
    cache: Cache = field(default_factory=Cache, repr=False)
    device: Device = field(default_factory=Device, repr=False)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in cls.__dict__:  # or the decorator would write one that shows everything
            cls.__repr__ = Model.__repr__  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        self.name = self.name or self.default_name
        self.endpoint_: Endpoint | None = None
        # Slope and intercept of the logit of the probability on the risk, where an inner cross-validation chose them.
        self.recalibration_: tuple[float, float] | None = None
        self.calibrations_: FloatArray | None = None  # the same of bootstrap samples, shape (samples, 2)
        self.training_: Cohort | None = None  # whom it was fitted on, until a record is made of them
        self.record_: TrainingRecord | None = None
        self.file_digest_ = ""  # of the file that it was read from, as its card shows it
        self.grid_: Grid | None = None

    def __repr__(self) -> str:
        defaults = {name: one.default for name, one in inspect.signature(type(self)).parameters.items()}
        public = self.public_parameters()
        changed = {name: value for name, value in self.get_params(deep=False).items() if value != defaults[name]}
        shown = {name: public[name] if isinstance(value, str) else value for name, value in changed.items()}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def default_name(self) -> str:
        """The name in tables where the user gave none."""
        return self.kind

    @property
    def is_baseline(self) -> bool:
        """Whether it is a trivial explanation, which others must beat, rather than a candidate."""
        return False

    @property
    def sees_ct(self) -> bool:
        """Whether it needs the CT beside a scan; scans without one are none that it can use."""
        return "ct" in getattr(self, "modalities", ())

    @property
    def multitask(self) -> bool:
        """Whether it also learns from the outcomes of other endpoints, which a cohort keeps beside its own."""
        return False

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters as the constructor takes them; neither cache nor device.

        Parameters
        ----------
        deep : bool
            Whether those of models that are parameters are among them, see :class:`~twobe3.models.fusion.Fusion`.
        """
        name = "" if self.name == self.default_name else self.name
        return {**{one: getattr(self, one) for one in parameter_names(type(self))}, "name": name}

    def set_params(self, **params: Any) -> Self:
        """Change parameters; the model is unfitted then.

        Raises
        ------
        ValueError
            An unknown parameter, with the names of all that there are; pydantic's ``ValidationError``, which is one,
            for a wrong value. The model stays as it was.
        """
        known = self.get_params()
        unknown = ", ".join(repr(name) for name in params if name not in known)
        if unknown:
            raise ValueError(f"{type(self).__name__} has no parameter {unknown}; it has {', '.join(known)}")
        if params:
            self.__dict__ = self._rebuild(params).__dict__
        return self

    def clone(self, *, cache: Cache | None = None, device: Device | None = None) -> Self:
        """An unfitted model of the same parameters, with the same cache and device unless others are given."""
        return self._rebuild({}, cache=cache, device=device)

    __sklearn_clone__ = clone

    def _rebuild(self, params: Mapping[str, Any], cache: Cache | None = None, device: Device | None = None) -> Self:
        given = {**self.get_params(deep=False), **params}
        return type(self)(**given, cache=cache or self.cache, device=device or self.device)

    def public_parameters(self) -> dict[str, Any]:
        """Parameters as JSON types that may leave this machine: of a weights file the name alone."""
        public = {**self.get_params(deep=False), "name": self.name}
        return public | ({"weights": WeightsSource.parse(public["weights"]).label} if self.has_network else {})

    def cache_key(self) -> str:
        """Text that differs whenever the fitted model may differ on the same patients; part of cache keys.

        The device of a network is in it unless it is the CPU.
        """
        parameters = {**self.get_params(deep=False), "name": self.name, **self._content_of_files()}
        device = self.device.cache_key() if self.has_network else ""
        return f"{self.kind} {json.dumps(parameters, sort_keys=True, default=str)}{device}"

    def _content_of_files(self) -> dict[str, Any]:
        """For parameters that name files or models, what differs whenever their content does."""
        return {}

    def precompute(self, cohort: Cohort) -> None:  # noqa: B027  a model on the volumes has nothing to compute
        """Compute what the cache lacks of a cohort's scans. Learns nothing."""

    def report(self, cohort: Cohort) -> FitReport:
        """What the model cannot use of a cohort, what it fills in, and how large it is.

        Parameters
        ----------
        cohort : Cohort
            With one endpoint, several or none.
        """
        return FitReport(exclusions=self._exclusions(cohort))

    def fit(self, cohort: Cohort) -> Self:
        """Learn from a cohort with one endpoint.

        Parameters
        ----------
        cohort : Cohort
            Training patients; scans that the model cannot use, see :class:`FitReport`, are left out.

        Returns
        -------
        Self
            The model, fitted.

        Raises
        ------
        ConfigurationError
            See :func:`check_training`.
        """
        usable = drop_unusable(self, cohort)
        check_training(self, usable, len(cohort))
        self._fit_among(usable, cohort)
        self.recalibration_ = self.calibrations_ = None
        self.endpoint_, self.grid_ = cohort.endpoint, cohort.grid
        self.training_, self.record_ = usable, None
        return self

    def predict(self, cohort: Cohort) -> Prediction:
        """Risk, for a binary endpoint the probability, and survival where the model has curves of its own.

        Outcomes are not looked at. Scans that the model cannot use have no row.

        Raises
        ------
        ValueError
            The model is not fitted, or the cohort lies on another grid than the training patients.
        """
        if self.endpoint_ is None:
            raise ValueError(f"model {self.name!r} is not fitted")
        if cohort.grid != self.grid_:
            raise ValueError(f"the model was fitted on {self.grid_}, the cohort lies on {cohort.grid}")
        cohort = drop_unusable(self, cohort)
        risk = self._risk(cohort) if len(cohort) else np.zeros(0)
        chance = self.endpoint_.probability(risk)
        if self.recalibration_ is not None:
            slope, intercept = self.recalibration_
            chance = expit(slope * risk + intercept)
        times, survival = (self._curves(cohort) if len(cohort) else None) or (None, None)
        return Prediction(self.name, self.endpoint_.name, cohort.patients, risk, chance, survival=survival, times=times)

    def contributions(self, cohort: Cohort) -> dict[str, FloatArray]:
        """What each part of the fitted model adds to the risk of each patient; empty where it is no sum of parts.

        Parameters
        ----------
        cohort : Cohort
            Patients whose scans the model can use; outcomes are not looked at.

        Returns
        -------
        dict
            Name of the part to an array of shape (n,). Their sum and the risk differ by a constant.
        """
        return {}

    def save(self, path: Path | str) -> Path:
        """Write the fitted model with its card as one safetensors file, in which nothing is executable.

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
        record = training_record(self)
        header: dict[str, Any] = {
            "kind": self.kind,
            "parameters": self.public_parameters(),
            "endpoint": {"kind": self.endpoint_.kind, **asdict(self.endpoint_)},
            "grid": asdict(self.grid_),
            "notes": self._notes(),
            **({} if self.recalibration_ is None else {"recalibration": self.recalibration_}),
            CARD: record.card.to_json(),
        }
        calibrations = {} if self.calibrations_ is None else {CALIBRATIONS: self.calibrations_}
        write_sealed(path, header, {**self._arrays(), **record.arrays(), **calibrations})
        return path

    def _exclusions(self, cohort: Cohort) -> tuple[Exclusion, ...]:
        """The scans that the model cannot use, and why; one exclusion a scan, in the order of the cohort."""
        return find_ct_exclusions(cohort) if self.sees_ct else ()

    def _fit_among(self, usable: Cohort, everyone: Cohort) -> None:
        """Learn from the patients whose scans the model can use, or its parts from all that they can use."""
        self._fit(usable)

    @abstractmethod
    def _fit(self, cohort: Cohort) -> None: ...

    @abstractmethod
    def _risk(self, cohort: Cohort) -> FloatArray: ...

    def _curves(self, cohort: Cohort) -> tuple[FloatArray, FloatArray] | None:
        """Times, and each patient's survival at them, where the model gives more than a risk."""
        return None

    def _member_risks(self, cohort: Cohort) -> FloatArray | None:
        """The risks of each member of an ensemble, shape (members, n); None where the model has one member alone."""
        return None

    @abstractmethod
    def _arrays(self) -> Arrays:
        """What was learnt, as arrays."""

    def _notes(self) -> dict[str, Any]:
        """What was learnt and is no array."""
        return {}

    @abstractmethod
    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        """Take back what :meth:`_arrays` and :meth:`_notes` gave."""


def training_record(model: Model) -> TrainingRecord:
    """What a fitted model remembers of its training patients; their scans are looked at when it is first asked for.

    Raises ValueError where the model is not fitted.
    """
    if model.record_ is None:
        if model.training_ is None:
            raise ValueError(f"model {model.name!r} is not fitted")
        risk = model.predict(model.training_.without_outcomes()).risk
        model.record_ = make_record(
            model.training_, risk, name=model.name, kind=model.kind, cache_key=model.cache_key()
        )
        model.training_ = None
    return model.record_


def parameter_names(model: type[Model]) -> list[str]:
    """Names of a model's parameters: its constructor's arguments without cache and device."""
    return [name for name in inspect.signature(model).parameters if name not in SURROUNDINGS]


def drop_unusable(model: Model, cohort: Cohort) -> Cohort:
    """The cohort without the scans that the model cannot use."""
    excluded = {exclusion.patient for exclusion in model._exclusions(cohort)}
    if not excluded:
        return cohort
    return cohort.subset([i for i, subject in enumerate(cohort.subjects) if subject.patient not in excluded])


def check_training(model: Model, usable: Cohort, n: int, where: str = "") -> None:
    """Refuse training patients who are too few without the scans that the model cannot use.

    ``usable`` are those who are left of ``n``; ``where`` says of which fold they are, for the message. Whether all n
    are of both classes is not this model's question.

    Raises
    ------
    ConfigurationError
        ``NOTHING_USABLE``: fewer than the model's ``min_patients``. ``ONE_CLASS``: nobody, or for a binary endpoint
        everybody, has the event.
    """
    said = f"model {model.name!r}: {len(usable)} of {n} training patients{where} have a scan that it can use"
    remedy = "name another `region`, or leave the model out"
    if len(usable) < model.min_patients:
        raise ConfigurationError(Code.NOTHING_USABLE, f"{said}, {model.min_patients} are needed", remedy=remedy)
    outcomes = usable.outcomes
    endpoint = outcomes.endpoint
    if len(usable) < n and endpoint.has_events and not endpoint.has_contrast(outcomes):
        raise ConfigurationError(Code.ONE_CLASS, f"{said}, {outcomes.n_events} of them with the event", remedy=remedy)


def risk_of_fitted(
    model: Model, training: Cohort, keep: Callable[[Model, Cohort], None] | None = None
) -> Callable[[IntArray], Risk]:
    """For :func:`~twobe3.models.inner_cv.cross_val_predict`: fits the model on some of the training patients.

    ``keep`` is called with the fitted model and these patients.
    """

    def fit(train: IntArray) -> Risk:
        part = training.subset(train)
        model.fit(part)
        if keep is not None:
            keep(model, part)
        return lambda index: model.predict(training.subset(index).without_outcomes()).risk

    return fit
