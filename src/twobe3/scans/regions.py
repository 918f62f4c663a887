"""Which part of a scan is measured: what somebody drew, or what a threshold on SUV finds."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError, name_nearest
from twobe3.core.volume import Mask, SUVVolume
from twobe3.scans.masks import relative_threshold_mask, threshold_mask
from twobe3.scans.percist import percist_mask
from twobe3.scans.scan import Scan

_KINDS = Literal["contour", "threshold", "relative", "percist"]


def _check_kind(kind: object) -> object:
    """Let a known kind pass; of any other, say which is the nearest."""
    known = get_args(_KINDS)
    if kind in known:
        return kind
    raise ValueError(f"there is no region {kind!r}; {name_nearest(str(kind), known)}")


def _to_tuple(names: object) -> object:
    return (names,) if isinstance(names, str) else names


RegionKind = Annotated[_KINDS, BeforeValidator(_check_kind)]
ROINames = Annotated[tuple[str, ...], BeforeValidator(_to_tuple)]
ThresholdSUV = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Region:
    """A region by choice.

    Parameters
    ----------
    kind : {"contour", "threshold", "relative", "percist"}
        ``"contour"``: what somebody drew. ``"threshold"``: every voxel of the scan above a fixed SUV.
        ``"relative"``: voxels of the contour from a share of its own SUVmax on; without a contour there is none,
        since SUVmax of a whole scan is that of the brain or the bladder. ``"percist"``: every voxel of the scan from
        the PERCIST threshold of the patient's own liver on. The second and the last hold physiological uptake too.
    roi : tuple of str
        For ``"contour"`` and ``"relative"``: names of the drawn regions, merged by union; all by default.
    threshold_suv : float
        For ``"threshold"``; 4.0 is the usual one for lymphoma, 2.5 the older one.
    fraction : float
        For ``"relative"``; 0.41 in the EANM guideline.

    Raises
    ------
    ValueError
        A kind that there is not, naming the nearest; a number out of range.
    """

    kind: RegionKind = "contour"
    roi: ROINames = ()
    threshold_suv: ThresholdSUV = 4.0
    fraction: Fraction = 0.41

    def parameters(self) -> dict[str, object]:
        """The same as the parameters of a model that measures a region."""
        return {"region": self.kind, "roi": self.roi, "threshold_suv": self.threshold_suv, "fraction": self.fraction}

    @property
    def label(self) -> str:
        """How tables and keys call it: different regions, different labels."""
        drawn = " + ".join(self.roi)
        match self.kind:
            case "contour":
                return f"contour {drawn}" if drawn else "contour"
            case "threshold":
                return f"SUV > {self.threshold_suv:g}"
            case "relative":
                return f"{100 * self.fraction:g} % of SUVmax" + (f" in {drawn}" if drawn else "")
            case "percist":
                return "PERCIST"

    def find(self, scan: Scan, volume: SUVVolume) -> Mask:
        """The region on a scan, which knows what was drawn on it, and its voxels.

        Raises
        ------
        UnusableScanError
            ``CONTOUR_MISSING``, ``LIVER_NOT_FOUND``; whatever else is wrong with the file that holds the contour, see
            :func:`~twobe3.scans.masks.read_regions`.
        """
        match self.kind:
            case "contour":
                return self._read_contour(scan, volume)
            case "threshold":
                return threshold_mask(volume, suv=self.threshold_suv)
            case "relative":
                return relative_threshold_mask(volume, fraction=self.fraction, within=self._read_contour(scan, volume))
            case "percist":
                return percist_mask(volume)

    def _read_contour(self, scan: Scan, volume: SUVVolume) -> Mask:
        mask = scan.contour(volume, roi=self.roi)
        if mask is None:
            raise UnusableScanError(Code.CONTOUR_MISSING, "the scan has no contour")
        if not mask.array.any():
            raise UnusableScanError(Code.CONTOUR_EMPTY, "the contour of the scan holds no voxel")
        return mask
