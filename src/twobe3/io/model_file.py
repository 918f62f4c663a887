"""Files of arrays with a JSON header under one seal: nothing in them is executed, and a changed one is found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.arrays import to_safetensors
from twobe3.io.cache import Arrays, checksum
from twobe3.io.files import SCHEMA_VERSION, digest, set_aside, write_atomic

GIVE = "give a .safetensors file of a study's folder models/, or one that a model was saved to"


@dataclass(frozen=True, eq=False)
class ArrayFields:
    """Base of dataclasses whose fields are arrays and numbers: a part of a model file."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields as arrays, of at least one dimension."""
        return {item.name: np.atleast_1d(np.asarray(getattr(self, item.name))) for item in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The object that :meth:`arrays` described; other arrays among them are not looked at."""
        values = {item.name: (arrays[item.name], item.type) for item in fields(cls)}
        return cls(**{name: array.item() if kind == "float" else array for name, (array, kind) in values.items()})


def nest(prefix: str, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a part, their names under a prefix."""
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def unnest(prefix: str, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the part under a prefix, as :func:`nest` was given them."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


SAVED_AS = "saved_as"


class Sealed(NamedTuple):
    """What a sealed file holds: header, arrays, and the digest of both."""

    header: dict[str, Any]
    arrays: Arrays
    digest: str


def write_sealed(path: Path, header: Mapping[str, Any], arrays: Arrays) -> str:
    """Write a safetensors file with a JSON header, atomically; gives the digest of both.

    The header is preceded by the schema and the version of the package.
    """
    text = json.dumps({"schema": SCHEMA_VERSION, "package_version": __version__, **header})
    sealed = digest([text, checksum(arrays)])
    write_atomic(path, to_safetensors(arrays, {"twobe3": text, "digest": sealed, SAVED_AS: _sign_name(path)}))
    return sealed


def read_header(path: Path) -> dict[str, Any] | None:
    """The header of a sealed file, without its arrays and unchecked; None where a file is none."""
    try:
        with safe_open(path, framework="numpy") as stored:
            return dict(json.loads(stored.metadata()["twobe3"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return None


def _sign_name(path: Path) -> str:
    """What a sealed file holds to be known under the name by which it was saved, which may say everything of it."""
    return digest([path.name])[:16]


def is_there(path: Path) -> bool:
    """Whether a sealed file is there, whole, and the one that was saved under its name.

    Another one, exchanged or damaged, is set aside, so that it is made again.
    """
    if not path.exists():
        return False
    try:
        _, saved_as = _read_with_name(path)
    except ConfigurationError:
        saved_as = ""
    if saved_as == _sign_name(path):
        return True
    set_aside(path)
    return False


def read_sealed(path: Path) -> Sealed:
    """Read what :func:`write_sealed` wrote.

    Raises ConfigurationError ``MODEL_INVALID``: not such a file, or changed since it was written.
    """
    return _read_with_name(path)[0]


def _read_with_name(path: Path) -> tuple[Sealed, str]:
    """What :func:`read_sealed` gives, and what stands for the name by which it was saved."""
    try:
        with safe_open(path, framework="numpy") as stored:
            metadata = stored.metadata()
            text, sealed = (metadata[key] for key in ("twobe3", "digest"))
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a mapping
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        reason = f"{path.name!r} is not a model file of twobe3"
        raise ConfigurationError(Code.MODEL_INVALID, reason, remedy=GIVE) from None
    if digest([text, checksum(arrays)]) != sealed:
        reason = f"{path.name!r} was changed since it was written: its digest differs"
        raise ConfigurationError(Code.MODEL_INVALID, reason)
    try:
        return Sealed(dict(json.loads(text)), arrays, sealed), metadata.get(SAVED_AS, "")
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError(Code.MODEL_INVALID, f"the header of {path.name!r} is not what twobe3 writes") from None
