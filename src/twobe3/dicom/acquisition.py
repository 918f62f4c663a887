"""How a scan was made, as far as its quality depends on it: reconstruction, uptake time, dose."""

from __future__ import annotations

from dataclasses import replace

import pydicom

from twobe3.core.errors import UnusableScanError
from twobe3.core.printable import keep_printable
from twobe3.core.volume import Acquisition
from twobe3.dicom.attributes import SeriesAttributes
from twobe3.dicom.clock import is_comparable
from twobe3.dicom.dose import injected_dose_bq, physical_half_life_s, unite_injections
from twobe3.dicom.reader import text
from twobe3.dicom.reference import acquisition_times
from twobe3.dicom.timing import determine_timing, replace_missing_dates


def read_acquisition(first: pydicom.Dataset, attributes: SeriesAttributes) -> Acquisition:
    """What the headers tell of the acquisition; what they lack, or contradict themselves in, is None.

    Unlike the calibration it refuses nothing: a scan whose scanner stored SUV needs neither dose nor times.

    Parameters
    ----------
    first : pydicom.Dataset
        The whole header of one slice, for ReconstructionMethod (0054,1103).
    attributes : SeriesAttributes
        Of the series.
    """
    reconstruction = keep_printable(text(first, "ReconstructionMethod"))
    try:
        attributes = unite_injections(attributes).value
    except UnusableScanError:
        return Acquisition(reconstruction)
    return Acquisition(reconstruction, _read_uptake_min(attributes), _read_dose_bq(attributes))


def _read_dose_bq(attributes: SeriesAttributes) -> float | None:
    """The dose of all injections by rule 16."""
    try:
        return sum(injected_dose_bq(one.dose).value for one in attributes.injections)
    except UnusableScanError:
        return None


def _read_uptake_min(attributes: SeriesAttributes) -> float | None:
    """Minutes from the first injection to the beginning of the first frame.

    Both as the SUV rules read them. None where that needs a repair which the user has to ask for.
    """
    undated = replace_missing_dates(attributes)
    attributes = replace(undated.value if undated else attributes, further=())
    try:
        timing = determine_timing(attributes, physical_half_life_s(attributes).value)
    except UnusableScanError:
        return None
    began = [one for one in acquisition_times(attributes) if one is not None]
    if not began or any(repair.on_request for repair in timing.repairs):
        return None
    injected = timing.value.injected
    if not all(is_comparable(one, injected) for one in began):
        return None
    return round((min(began) - injected).total_seconds() / 60, 1)
