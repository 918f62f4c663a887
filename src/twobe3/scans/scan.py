"""Scans that are read when they are needed, whatever their format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import CTVolume, Mask, SUVVolume
from twobe3.dicom.attributes import Policy
from twobe3.dicom.ct import read_ct, require_plausible
from twobe3.dicom.ct_series import CTSeries
from twobe3.dicom.series import PETSeries
from twobe3.dicom.volume import read_suv
from twobe3.io.files import digest, digest_file
from twobe3.io.nifti import read_nifti
from twobe3.scans.masks import contour_mask, read_nifti_mask
from twobe3.scans.sidecar import NiftiSeries, read_nifti_scan


class Scan(Protocol):
    """A PET scan that is read when it is needed."""

    @property
    def digest(self) -> str:
        """Digest of the content; two scans of one content share it."""

    def suv(self) -> SUVVolume:
        """The scan in SUV, on its own grid; an :class:`~twobe3.core.errors.UnusableScanError` when it cannot be."""

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The region that someone drew, on the grid of ``suv()``; None where nobody did.

        ``roi`` names the regions to merge; all by default.
        """

    @property
    def ct_digest(self) -> str:
        """Digest of the content of the CT beside it; empty without one."""

    def ct(self) -> CTVolume:
        """The CT beside it in HU, on its own grid; an UnusableScanError, ``CT_MISSING`` without one."""


@dataclass(frozen=True)
class DicomScan:
    """A scan in DICOM files.

    Parameters
    ----------
    series : PETSeries
        The series and its contours.
    policy, repair_dates
        As for :func:`~twobe3.dicom.volume.read_suv`.
    """

    series: PETSeries
    policy: Policy = "lenient"
    repair_dates: bool = False

    @cached_property
    def digest(self) -> str:
        """Digest of the series' files and contours, and of the policy with the repairs asked for."""
        asked = ["repair_dates"] if self.repair_dates else []
        return digest([self.series.content_digest, *map(digest_file, self.series.contours), self.policy, *asked])

    def suv(self) -> SUVVolume:
        """As :func:`~twobe3.dicom.volume.read_suv`."""
        return read_suv(self.series, policy=self.policy, repair_dates=self.repair_dates)

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The regions of the RTSTRUCT and SEG files that belong to the series; None without one."""
        return contour_mask(self.series, volume, roi=roi)

    @cached_property
    def ct_digest(self) -> str:
        """Digest of the CT's files and the policy; empty without one."""
        return digest([self.series.ct.content_digest, self.policy]) if isinstance(self.series.ct, CTSeries) else ""

    def ct(self) -> CTVolume:
        """As :func:`~twobe3.dicom.ct.read_ct`; why the CT beside the series was not chosen is raised."""
        beside = self.series.ct
        if isinstance(beside, CTSeries):
            return read_ct(beside, policy=self.policy)
        if beside is None:
            raise refuse_missing_ct()
        raise UnusableScanError(Code[beside.code], beside.reason, remedy=beside.remedy)


@dataclass(frozen=True)
class NiftiScan:
    """A scan in a NIfTI file that is SUV already, with what the JSON beside it says."""

    series: NiftiSeries

    @property
    def digest(self) -> str:
        """Digest of the voxels' and the mask's files."""
        return self.series.digest

    def suv(self) -> SUVVolume:
        """As :func:`~twobe3.scans.sidecar.read_nifti_scan`."""
        return read_nifti_scan(self.series)

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The region of the NIfTI mask, whose labels are the names; None without one."""
        masks = self.series.contours
        if not masks:
            return None
        mask = read_nifti_mask(masks[0], volume.geometry, roi=roi or None)
        return replace(mask, notes=self.series.sidecar.mask_notes)

    @property
    def ct_digest(self) -> str:
        """Digest of the CT's file; empty without one."""
        return "" if self.series.ct is None else digest(["nifti ct", digest_file(self.series.ct)])

    def ct(self) -> CTVolume:
        """The NIfTI file of HU that the JSON names."""
        if self.series.ct is None:
            raise refuse_missing_ct()
        array, geometry = read_nifti(self.series.ct)
        require_plausible(array)
        return CTVolume(array, geometry, self.series.series, ("read as HU",))


@dataclass(frozen=True)
class TumourScan:
    """A scan of which somebody knows which of the drawn regions are the tumour.

    Parameters
    ----------
    scan : Scan
        The images and all that was drawn on them, organs included.
    tumour : tuple of str
        Names of the regions that are the tumour; with none the scan counts as one without a contour.
    """

    scan: Scan
    tumour: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """Digest of the scan's content and of the names."""
        return digest(["tumour", self.scan.digest, *self.tumour])

    def suv(self) -> SUVVolume:
        """The scan in SUV."""
        return self.scan.suv()

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The regions that ``roi`` names, else the tumour; None without either."""
        wanted = tuple(roi) or self.tumour
        return self.scan.contour(volume, roi=wanted) if wanted else None

    @property
    def ct_digest(self) -> str:
        """Digest of the content of the CT."""
        return self.scan.ct_digest

    def ct(self) -> CTVolume:
        """The CT beside it."""
        return self.scan.ct()


@dataclass(frozen=True, eq=False)
class LoadedScan:
    """A scan whose volume was read already, so that whoever asks again does not read its files again."""

    scan: Scan
    volume: SUVVolume

    @property
    def digest(self) -> str:
        """Digest of the scan's content."""
        return self.scan.digest

    def suv(self) -> SUVVolume:
        """The volume."""
        return self.volume

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The region that someone drew."""
        return self.scan.contour(volume, roi=roi)

    @property
    def ct_digest(self) -> str:
        """Digest of the content of the CT."""
        return self.scan.ct_digest

    def ct(self) -> CTVolume:
        """The CT beside it."""
        return self.scan.ct()


@dataclass(frozen=True, eq=False)
class ArrayScan:
    """A scan that is already in memory, for phantoms and for those who bring their own reader.

    The region, where there is one, lies on the grid of the volume; the CT has its own.
    """

    volume: SUVVolume
    region: Mask | None = None
    beside: CTVolume | None = None

    @cached_property  # every fold of every model asks, and the volume is large
    def digest(self) -> str:
        """Digest of the values and their place."""
        geometry = self.volume.geometry
        region = b"" if self.region is None else self.region.array.tobytes()
        return digest([self.volume.array.tobytes(), geometry.affine.tobytes(), str(geometry.shape), region])

    def suv(self) -> SUVVolume:
        """The volume."""
        return self.volume

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The region; a :class:`~twobe3.core.errors.UnusableScanError` when it is not what ``roi`` names."""
        if roi and self.region is not None and set(roi) != set(self.region.name.split(" + ")):
            reason = f"the region is {self.region.name!r}, not {' + '.join(roi)!r}"
            raise UnusableScanError(Code.CONTOUR_UNUSABLE, reason)
        return self.region

    @cached_property
    def ct_digest(self) -> str:
        """Digest of the CT's values and their place; empty without one."""
        if self.beside is None:
            return ""
        return digest(["ct", self.beside.array.tobytes(), self.beside.geometry.affine.tobytes()])

    def ct(self) -> CTVolume:
        """The CT."""
        if self.beside is None:
            raise refuse_missing_ct()
        return self.beside


def refuse_missing_ct() -> UnusableScanError:
    """The error of a scan without anything like a CT: ``CT_MISSING``."""
    return UnusableScanError(Code.CT_MISSING, "no CT of the patient lies beside the PET")
