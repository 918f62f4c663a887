"""What is in a folder, what can become SUV, and if not why; and the conversion itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.core.printable import keep_printable
from twobe3.core.volume import CTVolume, Mask, SUVCalibration, SUVVolume
from twobe3.dicom.archive import find_container
from twobe3.dicom.attributes import Policy
from twobe3.dicom.frames import choose_frame
from twobe3.dicom.reader import quietly, read_dataset, text
from twobe3.dicom.series import PETSeries, find_series
from twobe3.dicom.suv_types import SUVType, read_body_measurements, to_suv_type
from twobe3.dicom.volume import read_suv
from twobe3.io.files import require_folder
from twobe3.runtime.progress import track
from twobe3.scans.ct_summary import CTSummary, describe_beside, read_beside
from twobe3.scans.scan import DicomScan, NiftiScan
from twobe3.scans.sidecar import NiftiSeries, find_nifti_series, read_nifti_scan, write_nifti_scan

log = logging.getLogger("twobe3")
Series = TypeVar("Series", PETSeries, NiftiSeries)


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
        names = ("type", "rule", "factor_min", "factor_max")
        calibration = {name: getattr(self.calibration, name) for name in names}
        summary = {"max": self.max, "median": self.median, "min": self.min}
        return {**calibration, **summary, "warnings": list(self.calibration.warnings)}


@dataclass(frozen=True)
class ContourSummary:
    """What was drawn on a series, in a few words: its regions, or why they cannot be used.

    Attributes
    ----------
    regions : str
        Their names.
    volume_ml : float or None
        Of all of them together.
    notes : tuple of str
        See :class:`~twobe3.core.volume.Mask`.
    code, reason : str or None
        Why no region can be used.
    """

    regions: str = ""
    volume_ml: float | None = None
    notes: tuple[str, ...] = ()
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class InspectedSeries:
    """One series, or one corrupt file.

    Attributes
    ----------
    path : str
        Its folder or zip file, or the NIfTI file itself, relative to the folder that was given, or to that of the
        file that was given.
    patient, series, modality : str
        Pseudonymous ids and modality; empty for a corrupt file.
    slices : int
        Number of its files.
    suv, exclusion : SUVSummary or None, Exclusion or None
        Of a usable series; why it is not usable.
    output : str or None
        The NIfTI file that was written.
    contour : ContourSummary or None
        Of a usable series on which somebody drew.
    manufacturer, model, tracer : str
        As the headers say; empty where they say nothing.
    spacing_mm : tuple of float, or None
        Of the volume, along the slices, rows and columns; None where it could not be read.
    dates : mapping, or None
        Where asked for, since dates identify a patient: ISO date of study, series and acquisition, None where absent.
    ct : CTSummary or None
        Of a usable series beside which there is a CT, or something in its place.
    """

    path: str = field(repr=False)
    patient: str
    series: str
    modality: str
    slices: int
    suv: SUVSummary | None = None
    exclusion: Exclusion | None = None
    output: str | None = None
    contour: ContourSummary | None = None
    manufacturer: str = ""
    model: str = ""
    tracer: str = ""
    spacing_mm: tuple[float, ...] | None = None
    dates: Mapping[str, str | None] | None = None
    ct: CTSummary | None = None

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
            "contour": self.contour and asdict(self.contour),
            "tracer": self.tracer,
            "manufacturer": self.manufacturer,
            "model": self.model,
            "spacing_mm": self.spacing_mm and list(self.spacing_mm),
        }
        asked = {"dates": self.dates, "ct": self.ct and self.ct.to_json(), "output": self.output}
        return entry | {key: value for key, value in asked.items() if value is not None}


@dataclass(frozen=True)
class Inspection:
    """Everything that was found; ``found = usable + excluded``, always.

    Attributes
    ----------
    series : tuple of InspectedSeries
        Series of every modality, and corrupt files.
    lost : Exclusion or None
        ``LINK_BROKEN``: how many symbolic links lead nowhere, behind which no series can be counted.
    """

    series: tuple[InspectedSeries, ...]
    lost: Exclusion | None = None

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
        } | ({"lost": {"code": why.code, "reason": why.reason, "remedy": why.remedy}} if (why := self.lost) else {})


_Read: TypeAlias = tuple[SUVVolume, ContourSummary | None, CTSummary | None, str | None]
"""A converted series, what was drawn on it, the CT beside it, and the file that was written."""


def inspect(
    paths: Sequence[Path],
    *,
    policy: Policy = "lenient",
    repair_dates: bool = False,
    dates: bool = False,
    progress: bool = False,
) -> Inspection:
    """Say of every series found whether it can become SUV, and if not, why and what to do.

    Parameters
    ----------
    paths : sequence of Path
        Folders or files.
    policy, repair_dates
        As for :func:`~twobe3.dicom.volume.read_suv`.
    dates : bool
        Whether the dates of each DICOM series are told, which identify a patient.
    progress : bool
        Whether a progress bar is shown on standard error.

    Raises
    ------
    ConfigurationError
        A path does not exist.
    """

    def read(series: PETSeries) -> _Read:
        volume = read_suv(series, policy=policy, repair_dates=repair_dates)
        return volume, _read_contour(series, volume)[1], _read_ct(series, volume, policy)[1], None

    def read_nifti(series: NiftiSeries) -> _Read:
        volume = read_nifti_scan(series)
        return volume, _read_contour(series, volume)[1], _read_ct(series, volume, policy)[1], None

    dicom, nifti = _inspect_dicom(paths, read, progress, dates=dates), []
    found, roots = find_nifti_series(paths, among_dicom=bool(dicom.series)), _find_roots(paths)
    for series in found.series:
        nifti.append(_inspect_series(series, _relative_to(series.path, roots), read_nifti))
    for unused in found.unused:
        why, path = unused.exclusion, _relative_to(unused.files[0], roots)
        nifti.append(InspectedSeries(path, why.patient, why.series, "", 0, exclusion=why))
    return replace(dicom, series=(*dicom.series, *nifti))


def convert(
    paths: Sequence[Path],
    out: Path,
    *,
    policy: Policy = "lenient",
    repair_dates: bool = False,
    suv_type: SUVType = "bw",
    frame: int | None = None,
    progress: bool = False,
) -> Inspection:
    """Write every usable DICOM series as NIfTI, with a JSON and, where there is one, a mask and the CT in HU beside it.

    The files are named by the series' pseudonym. The JSON holds the patient's pseudonym, age, sex, weight and height,
    the calibration with its rule and repairs, the history, the geometry in LPS mm, and the version of twobe3; nothing
    that identifies the patient. NIfTI files among the input are converted already and not looked at.

    Parameters
    ----------
    paths : sequence of Path
        Folders or files.
    out : Path
        The folder to write to; made if need be.
    policy, repair_dates
        As for :func:`~twobe3.dicom.volume.read_suv`.
    suv_type : {"bw", "lbm-james", "lbm-morgan", "lbm-janma", "ibw", "bsa"}
        What the SUV are normalised by; a series whose header lacks what that needs is refused.
    frame : int, optional
        Which frame of a dynamic or gated series is taken, from 1; without it such a series is refused. Static series
        are converted whole.
    progress : bool
        Whether a progress bar is shown on standard error.

    Raises
    ------
    ConfigurationError
        A path does not exist; ``OUTPUT_EXISTS``: the folder is a file.
    EnvironmentFailure
        ``WRITE_FAILED``.
    """

    require_folder(out)

    def read(series: PETSeries) -> _Read:
        if frame is not None and series.frames in ("dynamic", "gated"):
            series = choose_frame(series, frame)
        volume = read_suv(series, policy=policy, repair_dates=repair_dates)
        if suv_type != "bw":
            volume = to_suv_type(volume, suv_type, read_body_measurements(series), policy=policy)
        mask, contour = _read_contour(series, volume)
        for line in contour.notes if contour else ():
            log.warning("%s: %s", series.series, line)
        if contour and contour.code:
            log.warning("%s: written without its contour: %s: %s", series.series, contour.code, contour.reason)
        ct, summary = _read_ct(series, volume, policy)
        if summary and summary.code:
            log.warning("%s: written without a CT: %s: %s", series.series, summary.code, summary.reason)
        return volume, contour, summary, str(write_nifti_scan(out, volume, series, mask, ct))

    return _inspect_dicom(paths, read, progress)


def _read_contour(series: PETSeries | NiftiSeries, volume: SUVVolume) -> tuple[Mask | None, ContourSummary | None]:
    """The region that was drawn, and its summary; both None where nobody drew one."""
    scan = DicomScan(series) if isinstance(series, PETSeries) else NiftiScan(series)
    try:
        mask = scan.contour(volume)
    except UnusableScanError as error:
        return None, ContourSummary(code=error.code.name, reason=error.reason)
    return mask, None if mask is None else ContourSummary(mask.name, mask.volume_ml, mask.notes)


def _read_ct(
    series: PETSeries | NiftiSeries, volume: SUVVolume, policy: Policy
) -> tuple[CTVolume | None, CTSummary | None]:
    """The CT beside a series, and its summary; both None where there is nothing like one."""
    if series.ct is None:
        return None, None
    if isinstance(series, NiftiSeries):
        return read_beside(NiftiScan(series), volume)
    return read_beside(DicomScan(series, policy), volume, describe_beside(series.ct))


def _inspect_dicom(
    paths: Sequence[Path], read: Callable[[PETSeries], _Read], progress: bool, *, dates: bool = False
) -> Inspection:
    found, roots = find_series(paths, progress=progress), _find_roots(paths)
    running = track(found.series, "scans to SUV", shown=progress)
    inspected = [_inspect_series(series, _find_folder(series.files, roots), read) for series in running]
    if dates:
        pairs = zip(inspected, found.series, strict=True)
        inspected = [replace(one, dates=_read_dates(series.files[0])) for one, series in pairs]
    lost = None
    for unused in found.unused:
        why, path = unused.exclusion, _find_folder(unused.files, roots)
        if why.code == Code.LINK_BROKEN.name:
            lost = why
            continue
        inspected.append(
            InspectedSeries(path, why.patient, why.series, unused.modality, len(unused.files), exclusion=why)
        )
    return Inspection(tuple(inspected), lost)


def _inspect_series(series: Series, path: str, read: Callable[[Series], _Read]) -> InspectedSeries:
    entry = InspectedSeries(
        path, series.patient, series.series, "PT", series.slices, tracer=keep_printable(series.tracer),
        manufacturer=keep_printable(series.manufacturer), model=keep_printable(series.model),
    )  # fmt: skip
    try:
        volume, contour, ct, output = read(series)
    except UnusableScanError as error:
        return replace(entry, exclusion=Exclusion.of(error, patient=series.patient, series=series.series))
    spacing_mm = tuple(round(length, 4) for length in volume.geometry.spacing_mm)
    return replace(entry, suv=SUVSummary.of(volume), output=output, spacing_mm=spacing_mm, contour=contour, ct=ct)


def _read_dates(path: Path) -> dict[str, str | None]:
    """The dates of a slice's header in ISO format; None where one is absent, or is no date (DICOM PS3.5 6.2, DA)."""
    with quietly():
        dataset = read_dataset(path)
        found = {kind: text(dataset, f"{kind.capitalize()}Date") for kind in ("study", "series", "acquisition")}
    return {kind: _to_iso(date) for kind, date in found.items()}


def _to_iso(date: str) -> str | None:
    try:
        return datetime.strptime(date, "%Y%m%d").date().isoformat()
    except ValueError:
        return None


def _find_roots(paths: Sequence[Path]) -> list[Path]:
    """The folders given, and those of the files given."""
    return [path.parent.resolve() if path.is_file() else path.resolve() for path in paths]


def _find_folder(files: Sequence[Path], roots: Sequence[Path]) -> str:
    """The folder or zip file that holds all the files, relative to the root that it lies in."""
    return _relative_to(Path(os.path.commonpath({find_container(file) for file in files})), roots)


def _relative_to(path: Path, roots: Sequence[Path]) -> str:
    for root in roots:
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return "."
