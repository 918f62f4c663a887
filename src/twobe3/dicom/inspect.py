"""What is in a folder, what can become SUV, and if not why; and the conversion itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twobe3 import __version__
from twobe3.artefact import SCHEMA_VERSION, write_json
from twobe3.dicom.facts import Policy
from twobe3.dicom.read import read_suv
from twobe3.dicom.series import PETSeries, Unused, find_series
from twobe3.dicom.suvtype import SUVType, person_of, to_suv_type
from twobe3.errors import Exclusion, Refusal
from twobe3.nifti import write_nifti
from twobe3.volume import SUVCalibration, SUVVolume


@dataclass(frozen=True)
class SUVSummary:
    """A converted series in numbers; minimum, median and maximum are over the voxels of the volume."""

    calibration: SUVCalibration
    max: float
    median: float
    min: float

    @classmethod
    def of(cls, volume: SUVVolume) -> SUVSummary:
        """Summarise a volume."""
        array = volume.array
        return cls(volume.calibration, float(array.max()), float(np.median(array)), float(array.min()))

    def to_json(self) -> dict[str, Any]:
        """The ``suv`` object of ``twobe3 inspect --json``."""
        calibration = self.calibration
        return {
            "type": calibration.type,
            "rule": calibration.rule,
            "factor_min": calibration.factor_min,
            "factor_max": calibration.factor_max,
            "max": self.max,
            "median": self.median,
            "min": self.min,
        }


@dataclass(frozen=True)
class Inspected:
    """One series, or one corrupt file.

    Attributes
    ----------
    path : str
        Its folder, relative to the path that was given.
    patient, series : str
        Pseudonymous ids; empty for a corrupt file.
    modality : str
        Empty for a corrupt file.
    slices : int
        Number of its files.
    suv : SUVSummary or None
        Of a usable series.
    exclusion : Exclusion or None
        Why it is not usable.
    output : str or None
        The NIfTI file that was written.
    """

    path: str
    patient: str
    series: str
    modality: str
    slices: int
    suv: SUVSummary | None = None
    exclusion: Exclusion | None = None
    output: str | None = None

    @property
    def usable(self) -> bool:
        """Whether it became SUV."""
        return self.suv is not None

    def to_json(self) -> dict[str, Any]:
        """One entry of ``series`` in ``twobe3 inspect --json``."""
        why = self.exclusion
        entry = {
            "path": self.path,
            "patient": self.patient,
            "series_uid": self.series,
            "modality": self.modality,
            "slices": self.slices,
            "usable": self.usable,
            "code": why and why.code,
            "reason": why and why.reason,
            "remedy": why and why.remedy,
            "suv": self.suv and self.suv.to_json(),
        }
        return entry if self.output is None else {**entry, "output": self.output}


@dataclass(frozen=True)
class Inspection:
    """Everything that was found; ``found = usable + excluded``, always."""

    series: tuple[Inspected, ...]

    @property
    def found(self) -> int:
        """Series of every modality, and corrupt files."""
        return len(self.series)

    @property
    def usable(self) -> int:
        """Series that became SUV."""
        return sum(one.usable for one in self.series)

    @property
    def excluded(self) -> int:
        """The others."""
        return self.found - self.usable

    def to_json(self) -> dict[str, Any]:
        """The document of ``twobe3 inspect --json`` and ``twobe3 convert --json``."""
        return {
            "series": [one.to_json() for one in self.series],
            "found": self.found,
            "usable": self.usable,
            "excluded": self.excluded,
        }


def inspect(paths: Sequence[Path], *, policy: Policy = "lenient", progress: bool = False) -> Inspection:
    """Say of every series found whether it can become SUV, and if not, why and what to do.

    Parameters
    ----------
    paths : sequence of Path
        Folders or files.
    policy : {"lenient", "strict"}
        Whether plausible repairs are made.
    progress : bool
        Whether a progress bar is shown on standard error.

    Raises
    ------
    UsageError
        A path does not exist.
    """
    return _each_series(paths, policy, progress, lambda volume: None)


def convert(
    paths: Sequence[Path],
    out: Path,
    *,
    policy: Policy = "lenient",
    suv_type: SUVType = "bw",
    progress: bool = False,
) -> Inspection:
    """Write every usable series as NIfTI, with a JSON beside it.

    The files are named by the series' pseudonym. The JSON holds the calibration with its rule and repairs, the
    history, the geometry in LPS mm, and the version of twobe3; nothing that identifies the patient.

    Parameters
    ----------
    paths : sequence of Path
        Folders or files.
    out : Path
        The folder to write to; made if need be.
    policy : {"lenient", "strict"}
        Whether plausible repairs are made.
    suv_type : {"bw", "lbm-james", "lbm-morgan", "lbm-janma", "ibw", "bsa"}
        What the SUV are normalised by; a series whose header lacks what that needs is refused.
    progress : bool
        Whether a progress bar is shown on standard error.

    Raises
    ------
    UsageError
        A path does not exist.
    ToolError
        ``WRITE_FAILED``.
    """

    def write(volume: SUVVolume) -> str:
        target = out / f"{volume.source}.nii.gz"
        write_nifti(target, volume)
        write_json(out / f"{volume.source}.json", describe(volume))
        return str(target)

    return _each_series(paths, policy, progress, write, suv_type)


def describe(volume: SUVVolume) -> dict[str, Any]:
    """What the JSON beside a converted volume says."""
    geometry = volume.geometry
    return {
        "schema": SCHEMA_VERSION,
        "twobe3": __version__,
        "series": volume.source,
        "calibration": volume.calibration.document(),
        "history": list(volume.history),
        "geometry": {
            "shape": list(geometry.shape),
            "affine_lps_mm": geometry.affine.tolist(),
            "spacing_mm": list(geometry.spacing_mm),
        },
    }


def _each_series(
    paths: Sequence[Path],
    policy: Policy,
    progress: bool,
    write: Callable[[SUVVolume], str | None],
    suv_type: SUVType = "bw",
) -> Inspection:
    found = find_series(paths, progress=progress)
    roots = [path.resolve() for path in paths]
    usable = [_inspect_one(series, _folder(series.files, roots), policy, write, suv_type) for series in found.series]
    return Inspection((*usable, *(_inspect_unused(unused, roots) for unused in found.unused)))


def _inspect_one(
    series: PETSeries, path: str, policy: Policy, write: Callable[[SUVVolume], str | None], suv_type: SUVType
) -> Inspected:
    try:
        volume = read_suv(series, policy=policy)
        if suv_type != "bw":
            volume = to_suv_type(volume, suv_type, person_of(series), policy=policy)
    except Refusal as refusal:
        exclusion = Exclusion.of(refusal, patient=series.patient, series=series.series)
        return Inspected(path, series.patient, series.series, "PT", series.slices, exclusion=exclusion)
    return Inspected(
        path, series.patient, series.series, "PT", series.slices, SUVSummary.of(volume), output=write(volume)
    )


def _inspect_unused(unused: Unused, roots: Sequence[Path]) -> Inspected:
    why = unused.exclusion
    path = _folder(unused.files, roots)
    return Inspected(path, why.patient, why.series, unused.modality, len(unused.files), exclusion=why)


def _folder(files: Sequence[Path], roots: Sequence[Path]) -> str:
    """The folder that holds all the files, relative to the path given that they lie in."""
    folder = Path(os.path.commonpath([file.parent for file in files]))
    for root in roots:
        if folder.is_relative_to(root):
            return folder.relative_to(root).as_posix()
    return "."
