"""Headers of PET series read as attributes, whatever the vendor."""

from __future__ import annotations

from collections.abc import Sequence

import pydicom

from twobe3.dicom.attributes import Injection, SeriesAttributes, SliceAttributes
from twobe3.dicom.clock import parse_date
from twobe3.dicom.reader import first_item, items, number, plain_number, plain_text, private, text, texts, value_of

_PHILIPS = "Philips PET Private Group"
_GE = "GEMS_PETD_01"
_SIEMENS = "SIEMENS MED PT"


def read_series_attributes(datasets: Sequence[pydicom.Dataset]) -> SeriesAttributes:
    """Read the attributes of a series from the headers of its slices, in the order of the volume."""
    first = datasets[0]
    tracer, *further = [_read_injection(one) for one in items(first, "RadiopharmaceuticalInformationSequence")] or [
        Injection()
    ]
    return SeriesAttributes(
        units=text(first, "Units"),
        decay_correction=text(first, "DecayCorrection"),
        corrections=texts(first, "CorrectedImage"),
        slices=tuple(read_slice_attributes(dataset) for dataset in datasets),
        suv_type=text(first, "SUVType"),
        series_type=texts(first, "SeriesType"),
        weight=number(first, "PatientWeight"),
        height=number(first, "PatientSize"),
        sex=text(first, "PatientSex"),
        **vars(tracer),
        further=tuple(further),
        series_date=text(first, "SeriesDate"),
        series_time=text(first, "SeriesTime"),
        zone=text(first, "TimezoneOffsetFromUTC"),
        decay_correction_datetime=text(first, "DecayCorrectionDateTime"),
        ge_scan_datetime=plain_text(private(first, 0x0009, _GE, 0x0D)),
        ge_injection_datetime=plain_text(private(first, 0x0009, _GE, 0x3B)),
        siemens_decay_datetime=plain_text(private(first, 0x0071, _SIEMENS, 0x22)),
        philips_creator=not _lacks_philips_creator(first),
        model=text(first, "ManufacturerModelName"),
    )


def _read_injection(item: pydicom.Dataset) -> Injection:
    """Read an item of RadiopharmaceuticalInformationSequence (0054,0016)."""
    return Injection(
        dose=number(item, "RadionuclideTotalDose"),
        half_life_s=number(item, "RadionuclideHalfLife"),
        nuclide=text(first_item(item, "RadionuclideCodeSequence"), "CodeValue"),
        start_datetime=text(item, "RadiopharmaceuticalStartDateTime"),
        start_time=text(item, "RadiopharmaceuticalStartTime"),
    )


def read_slice_attributes(dataset: pydicom.Dataset) -> SliceAttributes:
    """Read the attributes of one slice."""
    intercept = number(dataset, "RescaleIntercept")
    is_philips = any(tag >> 16 == 0x7053 for tag in dataset.keys())  # noqa: SIM118  values stay unread
    return SliceAttributes(
        slope=number(dataset, "RescaleSlope"),
        intercept=0.0 if "RescaleIntercept" not in dataset else intercept,
        acquisition_date=text(dataset, "AcquisitionDate"),
        acquisition_time=text(dataset, "AcquisitionTime"),
        acquisition_datetime=text(dataset, "AcquisitionDateTime"),
        frame_reference_time_ms=number(dataset, "FrameReferenceTime"),
        frame_duration_ms=number(dataset, "ActualFrameDuration"),
        decay_factor=number(dataset, "DecayFactor"),
        philips_suv=_read_philips(dataset, 0x00) if is_philips else None,
        philips_activity=_read_philips(dataset, 0x09) if is_philips else None,
    )


def read_age_years(dataset: pydicom.Dataset) -> float | None:
    """PatientAge (0010,1010) as ``059Y``, ``036M``, ``010W``, ``003D``; else from birth and study date."""
    stated = text(dataset, "PatientAge").upper()
    per_year = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}.get(stated[-1:])
    if per_year and stated[:-1].isdigit():
        return int(stated[:-1]) / per_year
    born, studied = parse_date(text(dataset, "PatientBirthDate")), parse_date(text(dataset, "StudyDate"))
    if born is None or studied is None or studied < born:
        return None
    return round((studied - born).days / 365.25, 2)


def _read_philips(dataset: pydicom.Dataset, element: int) -> float | None:
    value = private(dataset, 0x7053, _PHILIPS, element)
    if value is None and _lacks_philips_creator(dataset):
        value = value_of(dataset, (0x7053, 0x1000 + element))
    return plain_number(value)


def _lacks_philips_creator(dataset: pydicom.Dataset) -> bool:
    """Whether a Philips image carries group 7053 without any private creator; another creator's tags are not ours."""
    elements = [tag.element for tag in dataset.keys() if tag.group == 0x7053]  # noqa: SIM118  values stay unread
    return bool(elements) and min(elements) > 0xFF and "philips" in text(dataset, "Manufacturer").lower()
