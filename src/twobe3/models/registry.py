"""The registry of models, open to other distributions, and reading a fitted model back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.core.endpoints import KINDS
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.core.nearest import find_nearest
from twobe3.core.plugins import PluginRegistry
from twobe3.io.cache import Arrays, Cache
from twobe3.io.checksums import require_as_written
from twobe3.io.model_file import GIVE, read_header, read_sealed
from twobe3.models.card import ModelCard
from twobe3.models.model import MODEL_FILE, Model
from twobe3.models.record import CALIBRATIONS, CARD, PREFIX, TrainingRecord
from twobe3.runtime.device import Device

ENTRY_POINTS = "twobe3.models"
MODELS_NAMED = 10


class Registry(PluginRegistry[type[Model]]):
    """Models by their kind, see :class:`~twobe3.core.plugins.PluginRegistry`; the group is :data:`ENTRY_POINTS`."""

    def __init__(self) -> None:
        super().__init__(ENTRY_POINTS, "model", _require_model)

    def add(self, model: type) -> None:
        """Make a model known by its kind.

        Raises TypeError for what is no concrete subclass of :class:`~twobe3.models.model.Model`, ValueError where
        another model has its kind.
        """
        found = _require_model(getattr(model, "kind", None), model)
        if self._entries.setdefault(found.kind, found) is not found:
            raise ValueError(f"there is a model {found.kind!r} already")


def _require_model(kind: str | None, model: object) -> type[Model]:
    own = getattr(model, "kind", None)
    if own != kind:
        raise ValueError(f"its kind is {own!r}")
    if not (isinstance(model, type) and issubclass(model, Model)) or inspect.isabstract(model):
        raise TypeError(f"{getattr(model, '__name__', model)!r} is not a Model that can be fitted")
    return model


MODELS = Registry()
T = TypeVar("T")


def register(model: type[T]) -> type[T]:
    """Class decorator: make a model of twobe3 known, see :meth:`Registry.add`."""
    MODELS.add(model)
    return model


def load_model(path: Path | str, *, cache: Cache | None = None, device: Device | None = None) -> Model:
    """Read a fitted model; nothing in the file is executed.

    Parameters
    ----------
    path : path
        The file, or the folder that holds ``model.safetensors``.
    cache, device : optional
        Where features of new scans are kept, and where networks compute.

    Raises
    ------
    ConfigurationError
        ``MODEL_INVALID``: not a model file of twobe3, of an unknown kind, without a card, or changed since it was
        written; a learnt number is not finite, or the grid has more voxels than any scan.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``: it lies in the folder of a finished study, which wrote another file of this name.
    """
    path = find_model(Path(path))
    header, arrays, sealed = read_sealed(path)
    require_as_written(path)
    record = _read_record(path, header, arrays)
    calibrations = arrays.get(CALIBRATIONS)
    if calibrations is not None and calibrations.shape[1:] != (2,):
        raise ConfigurationError(Code.MODEL_INVALID, f"the calibrations of {path.name!r} are no slopes and intercepts")
    arrays = {name: array for name, array in arrays.items() if not name.startswith(PREFIX)}
    try:
        model = MODELS[header["kind"]](**header["parameters"], cache=cache or Cache(), device=device or Device())
        endpoint = dict(header["endpoint"])
        model.endpoint_ = KINDS[endpoint.pop("kind")](**endpoint)
        model.grid_ = Grid(**{name: tuple(values) for name, values in header["grid"].items()})
        model._restore(arrays, header["notes"])
        if "recalibration" in header:
            slope, intercept = header["recalibration"]
            model.recalibration_ = float(slope), float(intercept)
            model.calibrations_ = calibrations
        model.record_, model.file_digest_ = record, sealed
        if not (model.name + model.endpoint_.name).isprintable():
            raise ValueError("a name holds control characters")
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError):
        raise ConfigurationError(
            Code.MODEL_INVALID, f"{path.name!r} holds a model that twobe3 {__version__} does not know"
        ) from None
    return model


def read_card(path: Path | str) -> tuple[ModelCard, str]:
    """The card of a model file, and the digest of the file; the model is not put together.

    Parameters
    ----------
    path : path
        The file, or the folder that holds ``model.safetensors``.

    Raises
    ------
    ConfigurationError
        ``MODEL_INVALID``.
    """
    path = find_model(Path(path))
    header, arrays, sealed = read_sealed(path)
    require_as_written(path)
    return _read_record(path, header, arrays).card, sealed


def _read_record(path: Path, header: Mapping[str, Any], arrays: Arrays) -> TrainingRecord:
    """What a file holds of the training patients; ``MODEL_INVALID`` where it is no fitted model with a card."""
    if "endpoint" not in header:
        reason = f"{path.name!r} holds what `twobe3 pretrain` wrote, and no fitted model"
        raise ConfigurationError(Code.MODEL_INVALID, reason, remedy="let `init` of a study's [[model]] name it")
    if CARD not in header:
        reason = f"{path.name!r} has no card: it was saved by an earlier version"
        raise ConfigurationError(Code.MODEL_INVALID, reason, remedy="fit the model again with this version")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ConfigurationError(Code.MODEL_INVALID, f"{path.name!r}: a number of {name!r} is not finite")
    try:
        return TrainingRecord.restore(header[CARD], arrays)
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError(Code.MODEL_INVALID, f"the card of {path.name!r} is not what twobe3 writes") from None


def list_models(folder: Path) -> list[Path]:
    """The fitted models in a folder; in a study folder they lie in ``models/``."""
    found = [file for where in ("*", "models/*", "*/models/*") for file in sorted(folder.glob(f"{where}.safetensors"))]
    return [file for file in found if "endpoint" in (read_header(file) or {})]


def find_model(path: Path) -> Path:
    """The file, or that of the folder; else ``MODEL_INVALID``, naming the models that are there or in the folder."""
    if path.is_file():
        return path
    if (path / MODEL_FILE).is_file():
        return path / MODEL_FILE
    folder = path if path.is_dir() else path.parent
    models = [file.relative_to(folder).as_posix() for file in list_models(folder)]
    if path.is_dir():
        reason, which = f"{path.resolve().name!r} is a folder, and a model file is needed", "in it"
    else:
        reason, which = f"there is no {path.name!r}", "in that folder"
        near = find_nearest(path.name, models)
        models = models if near is None else [near]
    more = f" and {len(models) - MODELS_NAMED} more" if len(models) > MODELS_NAMED else ""
    named = f"give {'one of ' * (len(models) > 1)}{', '.join(models[:MODELS_NAMED])}{more} {which}"
    raise ConfigurationError(Code.MODEL_INVALID, reason, remedy=named if models else GIVE)
