"""One PET series from its files to SUV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import SUVVolume
from twobe3.dicom import enhanced, header
from twobe3.dicom.acquisition import read_acquisition
from twobe3.dicom.attributes import Policy, apply_policy
from twobe3.dicom.frames import require_choice
from twobe3.dicom.reader import quietly, text
from twobe3.dicom.series import PETSeries
from twobe3.dicom.slices import Slice
from twobe3.dicom.stack import allocate, read_stack
from twobe3.dicom.suv import calibrate


def read_suv(series: PETSeries, *, policy: Policy = "lenient", repair_dates: bool = False) -> SUVVolume:
    """Read a series and convert it to SUV by body weight.

    Slices are ordered by increasing position along the normal of the image plane, which for an axial scan is
    from the feet to the head; each is decoded with its own rescale slope.

    Parameters
    ----------
    series : PETSeries
        One of ``find_series(...).series``, or a frame of one by ``choose_frame``.
    policy : {"lenient", "strict"}
        Whether plausible repairs are made and recorded in the calibration's ``warnings``, or refused.
    repair_dates : bool
        Whether, under the lenient policy, an injection whose date contradicts the scan's is taken at its time of day.

    Returns
    -------
    SUVVolume
        Geometry in LPS; ``source`` is the series' pseudonym.

    Raises
    ------
    UnusableScanError
        ``CORRUPT_FILE``, ``MULTI_FRAME``, ``TOO_LARGE``, ``GEOMETRY_MIXED``, ``SLICE_GAP``, ``SLICE_DUPLICATE``,
        ``INSTANCE_CONFLICT``, ``SHEARED``, ``NOT_STATIC``, ``CODEC_MISSING``, or the code of the SUV rule that fails.
    """
    require_choice(series)
    chosen = series.chosen
    with quietly():
        stack = read_stack(series.files, series.copies, chosen.slices if chosen else None)
        slices, space = stack.slices, stack.space
        first = slices[0]
        datasets = [first.read_whole_header(), *(slice_.dataset for slice_ in slices[1:])]
        attributes = header.read_series_attributes(datasets)
        if chosen:
            attributes = replace(attributes, series_type=(), whole_series=chosen.ends)
        _require_one_unit(slices)
        factors = calibrate(attributes, policy=policy, repair_dates=repair_dates)
        warnings, acquisition = apply_policy(stack.repairs, policy), read_acquisition(datasets[0], attributes)
        array = allocate(space.shape)
        scales = factors.per_slice * np.array([one.slope for one in attributes.slices], dtype=np.float64)
        for i, (slice_, scale) in enumerate(zip(slices, scales, strict=True)):
            stored = slice_.stored
            enhanced.require_mapped(slice_.dataset, stored)
            np.multiply(stored, scale, out=array[i], dtype=np.float64, casting="unsafe")  # rounded once, at the end
    calibration = replace(factors.calibration, warnings=warnings + factors.calibration.warnings)
    history = (f"read {len(slices)} slices as {calibration.rule}", *((chosen.text,) if chosen else ()))
    try:
        return SUVVolume(array, space, calibration, series.series, history, acquisition)
    except ValueError:  # not finite
        reason = "stored value × slope × factor exceeds what a float32 holds"
        raise UnusableScanError(Code.RESCALE_INVALID, reason) from None


def _require_one_unit(slices: Sequence[Slice]) -> None:
    for keyword in ("Units", "DecayCorrection", "SUVType"):
        values = {text(slice_.dataset, keyword) for slice_ in slices}
        if len(values) > 1:
            reason = f"{keyword} differs within the series: {', '.join(sorted(values))}"
            raise UnusableScanError(Code.UNITS_UNSUPPORTED, reason)
