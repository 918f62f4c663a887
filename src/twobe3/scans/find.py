"""One scan of each patient, out of what lies in a folder: DICOM, and NIfTI that are SUV already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import TypeAlias

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion, UnusableScanError
from twobe3.core.volume import SUVVolume
from twobe3.dicom.attributes import Policy
from twobe3.dicom.series import PETSeries, SearchResult, Unused, choose_series, find_obstacle, find_series, require_pet
from twobe3.scans.scan import DicomScan, NiftiScan, Scan
from twobe3.scans.sidecar import NiftiSeries, find_nifti_series

Series: TypeAlias = PETSeries | NiftiSeries


def find_scans(paths: Sequence[Path]) -> SearchResult[Series]:
    """Find the scans at or below some paths, one of each patient.

    A DICOM series goes before a NIfTI file, which may be its own conversion; among DICOM series
    :func:`~twobe3.dicom.series.choose_series` chooses, among NIfTI files the longest, then the finest, wins. Raises
    EmptyInputError ``NO_PET``: neither a PET series nor a NIfTI file; ConfigurationError: a path does not exist.
    """
    dicom, nifti = _find_both(paths, progress=True)
    chosen, excluded = choose_series(dicom.series)
    others, more_excluded = _choose_nifti(nifti.series, {one.patient for one in chosen})
    everything: tuple[Series, ...] = (*dicom.series, *nifti.series)
    known = {one.series: one for one in everything}
    return SearchResult(
        (*chosen, *others),
        (*dicom.unused, *nifti.unused, *(_not_chosen(known[one.series], one) for one in (*excluded, *more_excluded))),
        dicom.n_series + nifti.n_series,
        dicom.patients | nifti.patients,
        dicom.n_files,
        dicom.n_other_files,
    )


def read_suv(source: Series | Path | str, *, policy: Policy = "lenient", repair_dates: bool = False) -> SUVVolume:
    """Read one scan in SUV by body weight.

    Parameters
    ----------
    source : PETSeries, NiftiSeries or path
        A series of :func:`~twobe3.dicom.series.find_series`, or a folder, zip file or file. It holds one PET series
        that can become a volume, or one NIfTI file with its JSON; series of other modalities and series that are
        dynamic, gated or not attenuation corrected may lie beside it.
    policy, repair_dates
        As for :func:`twobe3.dicom.volume.read_suv`.

    Raises
    ------
    EmptyInputError
        ``NO_PET``: neither a PET series nor a NIfTI file.
    ConfigurationError
        ``NO_PET``: the path does not exist. ``NOT_CHOSEN``: there are several scans.
    UnusableScanError
        Whatever :func:`twobe3.dicom.volume.read_suv` or :func:`~twobe3.scans.sidecar.read_nifti_scan` raises.
    """
    series = source if isinstance(source, PETSeries | NiftiSeries) else _find_one(Path(source))
    return scan_of(series, policy=policy, repair_dates=repair_dates).suv()


def _find_one(path: Path) -> Series:
    """The only usable series below a path."""
    dicom, nifti = _find_both([path])
    series: tuple[Series, ...] = (*dicom.series, *nifti.series)
    usable = [one for one in series if isinstance(one, NiftiSeries) or find_obstacle(one) is None] or series
    if len(usable) > 1:
        names = ", ".join(one.series for one in usable)
        raise ConfigurationError(
            Code.NOT_CHOSEN,
            f"{path.name!r} holds {len(usable)} scans: {names}",
            remedy="find them with find_series, and give read_suv one of them",
        )
    if not usable:
        why = (*dicom.unused, *nifti.unused)[-1].exclusion
        raise UnusableScanError(Code[why.code], why.reason, remedy=why.remedy)
    return usable[0]


def scan_of(series: Series, *, policy: Policy = "lenient", repair_dates: bool = False) -> Scan:
    """The scan of a series, unread; the SUV rules ask only DICOM series for a policy."""
    if isinstance(series, NiftiSeries):
        return NiftiScan(series)
    return DicomScan(series, policy, repair_dates)


def _not_chosen(series: Series, why: Exclusion) -> Unused:
    files = (series.path,) if isinstance(series, NiftiSeries) else series.files
    return Unused(why, "PT", files, series.patient_id)


def _find_both(
    paths: Sequence[Path], *, progress: bool = False
) -> tuple[SearchResult[PETSeries], SearchResult[NiftiSeries]]:
    dicom = find_series(paths, progress=progress)
    nifti = find_nifti_series(paths, among_dicom=dicom.n_series > 0)
    if not nifti.n_series:
        require_pet(dicom)
    return dicom, nifti


def _choose_nifti(
    series: Iterable[NiftiSeries], taken: Set[str]
) -> tuple[tuple[NiftiSeries, ...], tuple[Exclusion, ...]]:
    ranked = sorted(series, key=lambda one: (round(one.coverage_mm / 10), one.slices, one.digest), reverse=True)
    best: dict[str, NiftiSeries] = {}
    excluded = []
    for one in ranked:
        if one.patient in taken:
            why = "a DICOM series of the same patient was chosen"
        elif one.patient in best:
            why = "another NIfTI file of the same patient was chosen"
        else:
            best[one.patient] = one
            continue
        excluded.append(Exclusion.of(UnusableScanError(Code.NOT_CHOSEN, why), patient=one.patient, series=one.series))
    return tuple(best[patient] for patient in sorted(best)), tuple(excluded)
