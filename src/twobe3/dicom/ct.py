"""One CT series from its files to Hounsfield units: the HU rules.

1. A slice has RescaleSlope and RescaleIntercept, finite, the slope above 0 (DICOM PS3.3 C.8.2.1.1.5); there is no
   default: a stored value whose intercept is lost looks like another tissue.
2. RescaleType (0028,1054) is HU, or absent, which stands for HU (PS3.3 C.8.2.1.1.5); any other unit is refused.
3. Stored values that PixelPaddingValue (0028,0120), up to PixelPaddingRangeLimit (0028,0121), marks as outside the
   reconstructed circle become air (PS3.3 C.7.5.1.1.2); so does what lies below -1024 HU, which no tissue has.
4. Some voxel is below -20 HU and some above -300: fat, lung or air, and flesh. Where the intercept was lost, none is
   below 0.
5. Slices lie as those of a PET must: gaps, unequal steps, two slices at one place, mixed orientations and a tilted
   gantry, whose slices drift sideways, are refused by the codes that PET has for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import AIR_HU, CTVolume
from twobe3.dicom.attributes import Policy, apply_policy
from twobe3.dicom.ct_series import CTSeries
from twobe3.dicom.reader import number, quietly, read_dataset, text
from twobe3.dicom.slices import Slice
from twobe3.dicom.stack import allocate, read_stack

LOWEST_HU = -1024.0
FAT_HU, FLESH_HU = -20.0, -300.0


def read_ct(series: CTSeries, *, policy: Policy = "lenient") -> CTVolume:
    """Read a CT series in Hounsfield units.

    Parameters
    ----------
    series : CTSeries
        The ``ct`` of one of ``find_series(...).series``.
    policy : {"lenient", "strict"}
        Whether plausible repairs of the geometry are made and recorded in ``warnings``, or refused.

    Returns
    -------
    CTVolume
        Geometry in LPS; ``source`` is the series' pseudonym.

    Raises
    ------
    UnusableScanError
        ``HU_MISSING``, ``HU_IMPLAUSIBLE``, or what :func:`~twobe3.dicom.stack.read_stack` raises, ``SHEARED`` of a
        tilted gantry.
    """
    with quietly():
        try:
            stack = read_stack(series.files, series.copies)
        except UnusableScanError as error:
            raise _name_tilt(series, error) from None
        scales = _read_scales(stack.slices)
        array = allocate(stack.space.shape)
        for slice_, (slope, intercept), hu in zip(stack.slices, scales, array, strict=True):
            stored = slice_.stored
            np.multiply(stored, slope, out=hu, dtype=np.float64, casting="unsafe")
            hu += np.float32(intercept)
            _fill_padding(hu, stored, slice_.dataset)
        warnings = apply_policy(stack.repairs, policy)
    require_plausible(array)
    return CTVolume(array, stack.space, series.series, (f"read {len(array)} slices as HU",), warnings)


def require_plausible(hu: npt.NDArray[np.float32]) -> None:
    """Rule 4: refuse numbers that are no HU of a body, ``HU_IMPLAUSIBLE``."""
    lowest, highest = float(hu.min()), float(hu.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)) or lowest > FAT_HU or highest < FLESH_HU:
        raise UnusableScanError(Code.HU_IMPLAUSIBLE, f"its voxels lie between {lowest:g} and {highest:g} HU")


def _read_scales(slices: Sequence[Slice]) -> list[tuple[float, float]]:
    """Slope and intercept of each slice. Raises ``HU_MISSING``."""
    scales = []
    for one in slices:
        slope, intercept = number(one.dataset, "RescaleSlope"), number(one.dataset, "RescaleIntercept")
        if slope is None or intercept is None or slope <= 0:
            what = "RescaleIntercept (0028,1052)" if slope and slope > 0 else "RescaleSlope (0028,1053)"
            raise UnusableScanError(Code.HU_MISSING, f"{what} of the CT is absent or not valid")
        unit = text(one.dataset, "RescaleType") or "HU"
        if unit != "HU":
            raise UnusableScanError(Code.HU_MISSING, f"RescaleType (0028,1054) of the CT is {unit!r}, not HU")
        scales.append((slope, intercept))
    return scales


def _fill_padding(hu: npt.NDArray[np.float32], stored: npt.NDArray[Any], header: pydicom.Dataset) -> None:
    """Make air of what is no tissue."""
    first = number(header, "PixelPaddingValue")
    if first is not None:
        last = number(header, "PixelPaddingRangeLimit")
        low, high = sorted((first, first if last is None else last))
        hu[(stored >= low) & (stored <= high)] = AIR_HU
    hu[hu < LOWEST_HU] = AIR_HU


def _name_tilt(series: CTSeries, error: UnusableScanError) -> UnusableScanError:
    """Of slices that drift sideways, what the header says of the gantry."""
    if error.code is not Code.SHEARED:
        return error
    try:
        dataset = read_dataset(series.files[0])
    except UnusableScanError:
        return error
    tilt = number(dataset, "GantryDetectorTilt")
    if not tilt:
        return error
    reason = f"the gantry was tilted by {tilt:g}°: {error.reason}"
    return UnusableScanError(Code.SHEARED, reason, remedy="reconstruct the CT without tilt, or correct it for the tilt")
