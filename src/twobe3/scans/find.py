"""One scan of each patient, out of what lies in a folder: DICOM, and NIfTI that are SUV already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from twobe3.core.codes import Code
from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.dicom.attributes import Policy
from twobe3.dicom.series import PETSeries, choose_series, find_series, require_pet
from twobe3.scans.scan import DicomScan, NiftiScan, Scan
from twobe3.scans.sidecar import NiftiSeries, find_nifti_series

Series: TypeAlias = PETSeries | NiftiSeries


@dataclass(frozen=True)
class ScanSearchResult:
    """What :func:`find_scans` found.

    Attributes
    ----------
    chosen : tuple of PETSeries and NiftiSeries
        One of each patient.
    exclusions : tuple of Exclusion
        Everything else, and why.
    patients : frozenset of str
        Pseudonyms of everybody of whom there is a series, usable or not.
    n_series : int
        Series found.
    """

    chosen: tuple[Series, ...]
    exclusions: tuple[Exclusion, ...]
    patients: frozenset[str]
    n_series: int


def find_scans(paths: Sequence[Path]) -> ScanSearchResult:
    """Find the scans at or below some paths, one of each patient.

    A DICOM series goes before a NIfTI file, which may be its own conversion; among DICOM series
    :func:`~twobe3.dicom.series.choose_series` chooses, among NIfTI files the longest, then the finest, wins.

    Raises
    ------
    EmptyInputError
        ``NO_PET``: neither a PET series nor a NIfTI file.
    ConfigurationError
        A path does not exist.
    """
    dicom = find_series(paths, progress=True)
    nifti = find_nifti_series(paths, among_dicom=dicom.n_series > 0)
    if not nifti.n_series:
        require_pet(dicom)
    chosen, losers = choose_series(dicom.series)
    others, more_losers = _choose_nifti(nifti.series, {one.patient for one in chosen})
    patients = {one.patient for one in dicom.series} | {one.patient for one in nifti.series}
    return ScanSearchResult(
        (*chosen, *others),
        (*dicom.exclusions, *nifti.exclusions, *losers, *more_losers),
        frozenset(patients | {one.patient for one in nifti.exclusions}),
        dicom.n_series + nifti.n_series,
    )


def scan_of(series: Series, *, policy: Policy = "lenient", repair_dates: bool = False) -> Scan:
    """The scan of a series, unread; the SUV rules ask only DICOM series for a policy."""
    if isinstance(series, NiftiSeries):
        return NiftiScan(series)
    return DicomScan(series, policy, repair_dates)


def _choose_nifti(
    series: Iterable[NiftiSeries], taken: Set[str]
) -> tuple[tuple[NiftiSeries, ...], tuple[Exclusion, ...]]:
    ranked = sorted(series, key=lambda one: (round(one.coverage_mm / 10), one.slices, one.digest), reverse=True)
    best: dict[str, NiftiSeries] = {}
    losers = []
    for one in ranked:
        if one.patient in taken:
            why = "a DICOM series of the same patient was chosen"
        elif one.patient in best:
            why = "another NIfTI file of the same patient was chosen"
        else:
            best[one.patient] = one
            continue
        losers.append(Exclusion.of(UnusableScanError(Code.NOT_CHOSEN, why), patient=one.patient, series=one.series))
    return tuple(best[patient] for patient in sorted(best)), tuple(losers)
