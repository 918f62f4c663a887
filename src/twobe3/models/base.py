"""What every model does, the registry of models, and the one safe file that a fitted model becomes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from twobe3 import __version__
from twobe3.artefact import SCHEMA_VERSION, digest, write_atomic
from twobe3.cohort import Cohort
from twobe3.errors import Code, UsageError
from twobe3.features.maps import FeatureStore
from twobe3.models.linear import FloatArray, probability
from twobe3.outcome import Binary, Continuous, Endpoint, TimeToEvent
from twobe3.prediction import Prediction
from twobe3.resample import VolumeSpec
from twobe3.store import Arrays, checksum

CONFIG: ConfigDict = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
MODEL_FILE = "model.safetensors"
ENDPOINT_KINDS: dict[str, type[Endpoint]] = {item.kind: item for item in (Binary, TimeToEvent, Continuous)}


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
    store : FeatureStore, optional
        Where features are kept; share one between models.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]
    version: ClassVar[int] = 1  # raise it when the same parameters and patients give another fitted model

    name: str = ""
    seed: Annotated[int, Field(ge=0)] = 0  # with a Field as default pydantic would forget that it is keyword-only
    store: FeatureStore = field(default_factory=FeatureStore, repr=False)

    def __post_init__(self) -> None:
        self.name = self.name or self.default_name()
        self.endpoint_: Endpoint | None = None
        self.spec_: VolumeSpec | None = None

    def default_name(self) -> str:
        """The name in tables where the user gave none."""
        return self.kind

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = [item.name for item in fields(self) if item.init and item.name != "store"]
        return {name: getattr(self, name) for name in names}

    def public_parameters(self) -> dict[str, Any]:
        """The parameters as they may leave this machine: without its folders."""
        return self.parameters()

    def identity(self) -> str:
        """Text that differs whenever the fitted model may differ on the same patients; part of cache keys."""
        return f"{self.kind} {self.version} {json.dumps(self.parameters(), sort_keys=True, default=str)}"

    def prepare(self, cohort: Cohort) -> None:  # noqa: B027  a model on the volumes has nothing to prepare
        """Compute whatever of the scans the store lacks. Learns nothing."""

    def candidate_parameters(self, cohort: Cohort) -> int | None:
        """How many coefficients the fit may choose from, before any selection; None for a network."""
        return None

    def fit(self, cohort: Cohort) -> Self:
        """Learn from a cohort with one endpoint.

        Parameters
        ----------
        cohort : Cohort
            Training patients.

        Returns
        -------
        Self
            The model, fitted.
        """
        self._fit(cohort)
        self.endpoint_, self.spec_ = cohort.endpoint, cohort.spec
        return self

    def predict(self, cohort: Cohort) -> Prediction:
        """Risk, and for a binary endpoint the probability, of each patient; outcomes are not looked at.

        Raises
        ------
        ValueError
            The model is not fitted, or the cohort lies on another grid than the training patients.
        """
        if self.endpoint_ is None:
            raise ValueError(f"model {self.name!r} is not fitted")
        if cohort.spec != self.spec_:
            raise ValueError(f"the model was fitted on {self.spec_}, the cohort lies on {cohort.spec}")
        risk = self._risk(cohort)
        chance = probability(self.endpoint_.kind, risk)
        return Prediction(self.name, self.endpoint_.name, cohort.patients, risk, chance)

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
        if self.endpoint_ is None or self.spec_ is None:
            raise ValueError(f"model {self.name!r} is not fitted")
        path = Path(path)
        path = path if path.suffix == ".safetensors" else path / MODEL_FILE
        arrays = {name: np.asarray(array, order="C") for name, array in self._arrays().items()}
        header = json.dumps(
            {
                "schema": SCHEMA_VERSION,
                "package_version": __version__,
                "kind": self.kind,
                "parameters": self.public_parameters(),
                "endpoint": {"kind": self.endpoint_.kind, **asdict(self.endpoint_)},
                "volume_spec": asdict(self.spec_),
                "notes": self._notes(),
            }
        )
        write_atomic(path, save(arrays, metadata={"twobe3": header, "digest": _digest_of(header, arrays)}))
        return path

    @abstractmethod
    def _fit(self, cohort: Cohort) -> None: ...

    @abstractmethod
    def _risk(self, cohort: Cohort) -> FloatArray: ...

    @abstractmethod
    def _arrays(self) -> Arrays:
        """What was learnt, as arrays."""

    @abstractmethod
    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        """Take back what :meth:`_arrays` and :meth:`_notes` gave."""

    def _notes(self) -> dict[str, Any]:
        """What was learnt and is no array."""
        return {}


MODELS: dict[str, type[Model]] = {}
T = TypeVar("T")


def register(model: type[T]) -> type[T]:
    """Class decorator: make a model known by its kind to study files, the command line and the test suite."""
    if not issubclass(model, Model):
        raise TypeError(f"{model.__name__} is not a Model")
    MODELS[model.kind] = model
    return model


def load_model(path: Path | str, *, store: FeatureStore | None = None) -> Model:
    """Read a fitted model; nothing in the file is executed.

    Parameters
    ----------
    path : path
        The file, or the folder that holds ``model.safetensors``.
    store : FeatureStore, optional
        Where features of new scans are kept.

    Raises
    ------
    UsageError
        ``MODEL_INVALID``: not a model file of twobe3, of an unknown kind, or changed since it was written.
    """
    path = Path(path)
    path = path / MODEL_FILE if path.is_dir() else path
    try:
        with safe_open(path, framework="numpy") as stored:
            header, sealed = (stored.metadata()[key] for key in ("twobe3", "digest"))
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        raise UsageError(Code.MODEL_INVALID, f"{path.name!r} is not a model file of twobe3") from None
    if _digest_of(header, arrays) != sealed:
        raise UsageError(Code.MODEL_INVALID, f"{path.name!r} was changed since it was written: its digest differs")
    try:
        model = _restored(json.loads(header), arrays)
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise UsageError(
            Code.MODEL_INVALID, f"{path.name!r} holds a model that twobe3 {__version__} does not know"
        ) from None
    model.store = store or model.store
    return model


def _restored(header: Mapping[str, Any], arrays: Arrays) -> Model:
    model = MODELS[header["kind"]](**header["parameters"])
    endpoint = dict(header["endpoint"])
    kind = endpoint.pop("kind")
    model.endpoint_ = ENDPOINT_KINDS[kind](**endpoint)
    model.spec_ = VolumeSpec(**{name: tuple(values) for name, values in header["volume_spec"].items()})
    model._restore(arrays, header["notes"])
    return model


def _digest_of(header: str, arrays: Arrays) -> str:
    return digest([header, checksum(arrays)])
