"""Scans and maps as a study folder holds them, on the study's grid; faces are left out unless they are asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.core.volume import AIR_HU
from twobe3.evaluation.explanations import EXPLANATIONS
from twobe3.io.cache import is_whole
from twobe3.report.faces import hide_face

_REMEDY = "run the study again: `twobe3 run` makes again what is missing or damaged, and nothing else"


@dataclass(frozen=True)
class StoredScan:
    """A scan on the study's grid.

    Attributes
    ----------
    suv : ndarray of float32, shape (slices, rows, columns)
        Slices increase towards the head, rows towards the back, columns towards the patient's left.
    spacing_mm : tuple of float
        Along slices, rows, columns.
    contour : ndarray of bool, same shape, or None
        What was drawn; None where nothing was, or nothing that can be used.
    hu : ndarray of float32, same shape, or None
        The CT, where models see it.
    """

    suv: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    contour: npt.NDArray[np.bool_] | None
    hu: npt.NDArray[np.float32] | None = None

    def without_face(self) -> StoredScan:
        """No uptake and no tissue in the face, see :mod:`twobe3.report.faces`; what was drawn stays."""
        suv = hide_face(self.suv, self.spacing_mm, keep=self.contour)
        hu = None if self.hu is None else np.where(suv == self.suv, self.hu, np.float32(AIR_HU))
        return replace(self, suv=suv, hu=hu)


@dataclass(frozen=True, eq=False)
class StoredMap:
    """What each voxel adds to a risk.

    Attributes
    ----------
    of_pet : ndarray of float32, shape (slices, rows, columns)
    of_ct : ndarray of float32, same shape, or None
        None for a model that does not see the CT.
    """

    of_pet: npt.NDArray[np.float32]
    of_ct: npt.NDArray[np.float32] | None = None

    def within(self, seen: npt.NDArray[np.bool_]) -> StoredMap:
        """Nothing but where something is to be seen: a map may show what the scan does not."""
        nothing = np.float32(0)
        of_ct = None if self.of_ct is None else np.where(seen, self.of_ct, nothing)
        return StoredMap(np.where(seen, self.of_pet, nothing), of_ct)


def read_scan(folder: Path, name: str, *, ct: str = "", show_faces: bool = False) -> StoredScan:
    """Read a scan of a study folder, and its contour.

    Parameters
    ----------
    folder : Path
        With ``volumes/`` and ``contours/``.
    name : str
        Of the file, in both.
    ct : str
        Of the file of its CT in ``volumes/``; empty where there is none.
    show_faces : bool
        Whether the face stays, see :mod:`twobe3.report.faces`.

    Raises
    ------
    ConfigurationError
        ``ARTEFACT_MISSING``: the volume is not in the folder.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``: volume or contour cannot be read, or its checksum does not hold.
    """
    name = Path(name).name
    suv, spacing_mm = _read_tensor(folder, f"volumes/{name}", "suv")
    contour = None
    if (folder / "contours" / name).exists():
        contour = _read_tensor(folder, f"contours/{name}", "contour")[0] > 0
        _require_shape(f"contours/{name}", contour, suv.shape)
    contour = contour if contour is not None and contour.any() else None
    hu = None
    if ct:
        file = f"volumes/{Path(ct).name}"
        hu = _read_entry(folder, file, "ct")[0]["ct"].astype(np.float32)
        _require_shape(file, hu, suv.shape)
    scan = StoredScan(suv, spacing_mm, contour, hu)
    return scan if show_faces else scan.without_face()


def read_map(folder: Path, name: str, shape: tuple[int, ...]) -> StoredMap:
    """Read what each voxel adds to a risk, from ``explanations/`` of a study folder.

    Raises
    ------
    ConfigurationError
        ``ARTEFACT_MISSING``.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``: the file cannot be read, its checksum does not hold, or the map has another shape than the
        volume.
    """
    name = f"{EXPLANATIONS}/{Path(name).name}"
    arrays, _ = _read_entry(folder, name, "map")
    for relevance in arrays.values():
        _require_shape(name, relevance, shape)
    return StoredMap(arrays["map"], arrays.get("map_ct"))


def _require_shape(name: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise EnvironmentFailure(Code.ARTEFACT_DAMAGED, f"{name} has shape {array.shape}, the volume {shape}")


def _read_tensor(folder: Path, name: str, key: str) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    arrays, metadata = _read_entry(folder, name, key)
    try:
        slice_mm, row_mm, column_mm = json.loads(metadata["spacing_mm"])
        return arrays[key], (float(slice_mm), float(row_mm), float(column_mm))
    except (KeyError, TypeError, ValueError) as error:
        raise _error_of_damage(f"{name} cannot be read: {type(error).__name__}") from error


def _read_entry(folder: Path, name: str, key: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """The arrays of a stored entry, ``key`` among them, and what is said; one of another version can't be checked."""
    try:
        with safe_open(folder / name, framework="numpy") as stream:
            arrays = {one: stream.get_tensor(one) for one in stream.keys()}  # noqa: SIM118  not a mapping
            metadata: dict[str, str] = stream.metadata() or {}
        if is_whole(folder / name, arrays, metadata) is False:
            raise _error_of_damage(f"the checksum of {name} does not hold")
        if key not in arrays:
            raise KeyError(key)
        return arrays, metadata
    except FileNotFoundError:
        reason = f"{name} is not in the study folder"
        raise ConfigurationError(Code.ARTEFACT_MISSING, reason, remedy=_REMEDY) from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _error_of_damage(f"{name} cannot be read: {type(error).__name__}") from error


def _error_of_damage(reason: str) -> EnvironmentFailure:
    return EnvironmentFailure(Code.ARTEFACT_DAMAGED, reason, remedy=_REMEDY)
