"""The registry of models, and reading a fitted model back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Endpoint
from twobe3.io.cache import Arrays, Cache
from twobe3.io.model_file import read_sealed
from twobe3.models.model import MODEL_FILE, Model
from twobe3.runtime.device import Device

ENDPOINT_KINDS: dict[str, type[Endpoint]] = {item.kind: item for item in (Binary, TimeToEvent, Continuous)}


MODELS: dict[str, type[Model]] = {}
T = TypeVar("T")


def register(model: type[T]) -> type[T]:
    """Class decorator: make a model known by its kind to study files, the command line and the test suite."""
    if not issubclass(model, Model):
        raise TypeError(f"{model.__name__} is not a Model")
    MODELS[model.kind] = model
    return model


def load_model(path: Path | str, *, cache: Cache | None = None, device: Device | None = None) -> Model:
    """Read a fitted model; nothing in the file is executed.

    Parameters
    ----------
    path : path
        The file, or the folder that holds ``model.safetensors``.
    cache : Cache, optional
        Where features of new scans are kept.
    device : Device, optional
        Where networks compute.

    Raises
    ------
    ConfigurationError
        ``MODEL_INVALID``: not a model file of twobe3, of an unknown kind, or changed since it was written.
    """
    path = Path(path)
    path = path / MODEL_FILE if path.is_dir() else path
    header, arrays, _ = read_sealed(path)
    try:
        return _restored(header, arrays, cache or Cache(), device or Device())
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise ConfigurationError(
            Code.MODEL_INVALID, f"{path.name!r} holds a model that twobe3 {__version__} does not know"
        ) from None


def _restored(header: Mapping[str, Any], arrays: Arrays, cache: Cache, device: Device) -> Model:
    kind_of_model = MODELS[header["kind"]]
    model = kind_of_model(**kind_of_model.completed(header["parameters"]), cache=cache, device=device)
    endpoint = dict(header["endpoint"])
    kind = endpoint.pop("kind")
    model.endpoint_ = ENDPOINT_KINDS[kind](**endpoint)
    model.grid_ = Grid(**{name: tuple(values) for name, values in header["grid"].items()})
    model._restore(arrays, header["notes"])
    if "recalibration" in header:
        slope, intercept = header["recalibration"]
        model.recalibration_ = float(slope), float(intercept)
    return model
