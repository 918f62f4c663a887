"""Scans that are read when they are needed, whatever their format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Mask, SUVVolume
from twobe3.dicom.attributes import Policy
from twobe3.dicom.series import PETSeries
from twobe3.dicom.volume import read_suv
from twobe3.io.files import digest, digest_file
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


@dataclass(frozen=True, eq=False)
class ArrayScan:
    """A scan that is already in memory, for phantoms and for those who bring their own reader.

    The region, where there is one, lies on the grid of the volume.
    """

    volume: SUVVolume
    region: Mask | None = None

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
