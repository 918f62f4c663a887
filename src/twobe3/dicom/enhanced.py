"""Enhanced (multi-frame) PET: each frame as the single-frame header that says the same (rule 21).

An enhanced object keeps position, spacing, scale and times in functional groups, shared or per frame (DICOM PS3.3
C.7.6.16); a legacy converted one keeps its old elements there too. Translated, the frames meet the same checks and
rules as the slices of any series. Use within :func:`~twobe3.dicom.reader.quietly`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import pydicom
from pydicom.uid import EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.dicom.clock import parse_datetime, parse_zone
from twobe3.dicom.reader import first_item, items, number, refuse_errors, text, texts

MAX_FRAMES = 20_000
"""Of one object; a dynamic brain scan has some thousands."""

CLASSES = {EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage}
_LARGE = ("PixelData", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence")
_SUV_TYPES = {
    "SUVbw": "BW",
    "SUVlbm": "LBM",
    "SUVlbm(James128)": "LBMJAMES128",
    "SUVlbm(Janma)": "LBMJANMA",
    "SUVibw": "IBW",
    "SUVbsa": "BSA",
}
_UNITS = {"bq/ml": "BQML", "g/ml": "GML", "cm2/ml": "CM2ML"}
_PREFERRED = ("BQML", "GML", "CM2ML")


def is_multi_frame(dataset: pydicom.Dataset) -> bool:
    """Whether a file is an enhanced (or legacy converted enhanced) PET object: several slices in one."""
    return text(dataset, "SOPClassUID") in CLASSES or (number(dataset, "NumberOfFrames") or 1) > 1


class _Groups:
    """Functional groups of one frame: its own before the shared ones."""

    def __init__(self, shared: pydicom.Dataset, own: pydicom.Dataset) -> None:
        self.shared, self.own = shared, own

    def __getitem__(self, keyword: str) -> pydicom.Dataset:
        found = self.all(keyword)
        return found[0] if found else pydicom.Dataset()

    def all(self, keyword: str) -> tuple[pydicom.Dataset, ...]:
        return items(self.own, keyword) or items(self.shared, keyword)


def split_frames(dataset: pydicom.Dataset) -> tuple[pydicom.Dataset, ...]:
    """Headers of the frames of an enhanced PET object (DICOM PS3.3 A.56, A.72), each as that of a single-frame image.

    They hold no pixels. An object of one frame that is not enhanced is its own header.

    Raises
    ------
    UnusableScanError
        ``MULTI_FRAME``: the object lacks its functional groups. ``CORRUPT_FILE``: their number is not
        NumberOfFrames, or they cannot be read. ``TOO_LARGE``; ``UNITS_UNSUPPORTED``; ``TIMES_INCONSISTENT``: of
        the injection and the decay correction, one has a time zone.
    """
    if not is_multi_frame(dataset):
        return (dataset,)
    frames = int(number(dataset, "NumberOfFrames") or 1)
    own = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not own:
        raise UnusableScanError(Code.MULTI_FRAME, f"a file holds {frames} frames without functional groups of each")
    if len(own) != frames:
        reason = f"NumberOfFrames (0028,0008) is {frames}, functional groups are {len(own)}"
        raise UnusableScanError(Code.CORRUPT_FILE, reason)
    if frames > MAX_FRAMES:
        raise UnusableScanError(Code.TOO_LARGE, f"one file holds {frames} frames")
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    groups = [_Groups(shared, one) for one in own]
    with refuse_errors("the functional groups of a file cannot be read"):
        series_type = _find_series_type(dataset, groups)
        agents = {_list_agents(one) for one in groups}
        if len(agents) > 1:
            reason = "the frames of a file show different radiopharmaceuticals (0018,9729)"
            raise UnusableScanError(Code.SEVERAL_INJECTIONS, reason)
        return tuple(_translate_frame(dataset, one, series_type) for one in groups)


def require_mapped(frame: pydicom.Dataset, stored: npt.NDArray[Any]) -> None:
    """Refuse stored values outside the range that the real-world value mapping holds for (DICOM PS3.3 C.7.6.16.2.11).

    Raises ``RESCALE_INVALID``.
    """
    first = number(frame, "RealWorldValueFirstValueMapped")
    last = number(frame, "RealWorldValueLastValueMapped")
    if first is None and last is None:
        return
    smallest, largest = float(stored.min()), float(stored.max())
    if (first is not None and smallest < first) or (last is not None and largest > last):
        raise UnusableScanError(
            Code.RESCALE_INVALID,
            f"stored values run from {smallest:g} to {largest:g}; the mapping holds from {first} to {last}",
        )


def _translate_frame(dataset: pydicom.Dataset, groups: _Groups, series_type: str) -> pydicom.Dataset:
    """One frame; what the old elements of a legacy converted object say stays where the new ones say nothing."""
    frame = pydicom.Dataset()
    frame.update({tag: dataset.get_item(tag) for tag in dataset.keys()})  # noqa: SIM118  values stay unread
    for keyword in _LARGE:
        if keyword in frame:
            del frame[keyword]
    for keyword in ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence"):
        frame.update(groups[keyword])
    _copy(groups["PixelMeasuresSequence"], frame, "PixelSpacing", "SliceThickness")
    _copy(groups["PlanePositionSequence"], frame, "ImagePositionPatient")
    _copy(groups["PlaneOrientationSequence"], frame, "ImageOrientationPatient")
    frame.SeriesType = [series_type, "IMAGE"]
    _choose_injections(frame, groups)
    _set_order(frame, groups)
    _set_scale(frame, groups)
    _set_decay(frame, dataset, groups)
    return frame


def _copy(source: pydicom.Dataset, frame: pydicom.Dataset, *keywords: str) -> None:
    for keyword in keywords:
        if keyword in source:
            frame[keyword] = source[keyword]


def _find_series_type(dataset: pydicom.Dataset, groups: Sequence[_Groups]) -> str:
    """SeriesType (0054,1000) as a single-frame image has it, by the flavour and what differs between the frames.

    Value 3 of ImageType and FrameType: DICOM PS3.3 C.8.16.1.3; frames at several temporal positions or triggers
    belong to several volumes whatever the flavour says.
    """
    flavours = {*texts(dataset, "ImageType")[2:3], *texts(dataset, "SeriesType")[:1]}
    for one in groups:
        flavours.update(texts(one["PETFrameTypeSequence"], "FrameType")[2:3])
        flavours.update(texts(one["UnassignedSharedConvertedAttributesSequence"], "SeriesType")[:1])
    if any("GATED" in flavour for flavour in flavours):
        return "GATED"
    for sequence, keyword, kind in (
        ("FrameContentSequence", "TemporalPositionIndex", "DYNAMIC"),
        ("TemporalPositionSequence", "TemporalPositionTimeOffset", "DYNAMIC"),
        ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "GATED"),
        ("RespiratorySynchronizationSequence", "NominalRespiratoryTriggerDelayTime", "GATED"),
    ):
        if len({text(one[sequence], keyword) for one in groups}) > 1:
            return kind
    return "DYNAMIC" if "DYNAMIC" in flavours else "STATIC"


def _list_agents(groups: _Groups) -> tuple[float | None, ...]:
    """Numbers of the radiopharmaceuticals that a frame shows; none where it does not say (DICOM PS3.3 C.8.22.5.2)."""
    return tuple(
        number(one, "RadiopharmaceuticalAgentNumber") for one in groups.all("RadiopharmaceuticalUsageSequence")
    )


def _choose_injections(frame: pydicom.Dataset, groups: _Groups) -> None:
    """Leave the injections whose radiopharmaceutical the frame shows."""
    agents = _list_agents(groups)
    given = items(frame, "RadiopharmaceuticalInformationSequence")
    shown = [one for one in given if number(one, "RadiopharmaceuticalAgentNumber") in agents]
    if None not in agents and 0 < len(shown) < len(given):
        frame.RadiopharmaceuticalInformationSequence = pydicom.Sequence(shown)


def _set_order(frame: pydicom.Dataset, groups: _Groups) -> None:
    """Which of several volumes a frame belongs to, in single-frame elements (DICOM PS3.3 C.7.6.16.2.2, .7 and .17)."""
    for keyword, sequence, source in (
        ("TemporalPositionIdentifier", "FrameContentSequence", "TemporalPositionIndex"),
        ("TriggerTime", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
        ("TriggerTime", "RespiratorySynchronizationSequence", "NominalRespiratoryTriggerDelayTime"),
    ):
        value = number(groups[sequence], source)
        if value is not None:
            frame.add_new(keyword, "FD", value)


def _set_scale(frame: pydicom.Dataset, groups: _Groups) -> None:
    """Units, SUVType and slope: by a real-world value mapping in a unit that we know, else by the rescale slope.

    Units are UCUM codes (DICOM PS3.16 CID 84 and 85). Activity goes before SUV, which the rules then compute.
    """
    known: dict[str, tuple[pydicom.Dataset, str]] = {}
    mappings = groups.all("RealWorldValueMappingSequence")
    for mapping in mappings:
        code = "".join(text(unit, "CodeValue") for unit in items(mapping, "MeasurementUnitsCodeSequence")[:1])
        units = _UNITS.get(re.sub(r"\{[^}]*\}|\s", "", code).lower(), "")
        kind = re.search(r"\{(.*)\}", code)
        known.setdefault(units, (mapping, "" if kind is None else _SUV_TYPES.get(kind[1], kind[1])))
    for units in _PREFERRED:
        if units in known:
            mapping, frame.SUVType = known[units]
            frame.Units = units
            frame.RescaleSlope = number(mapping, "RealWorldValueSlope")
            frame.RescaleIntercept = number(mapping, "RealWorldValueIntercept") or 0.0
            for name in ("RealWorldValueFirstValueMapped", "RealWorldValueLastValueMapped"):
                value = number(mapping, f"DoubleFloat{name}")
                value = number(mapping, name) if value is None else value
                if value is not None:
                    frame.add_new(name, "FD", value)
            return
    if not text(frame, "Units"):
        there = "no real-world value mapping" if not mappings else "no real-world value mapping in Bq/ml or SUV"
        raise UnusableScanError(Code.UNITS_UNSUPPORTED, f"the multi-frame object has {there} (0040,9096), and no Units")
    _copy(groups["PixelValueTransformationSequence"], frame, "RescaleSlope", "RescaleIntercept")


def _set_decay(frame: pydicom.Dataset, dataset: pydicom.Dataset, groups: _Groups) -> None:
    """Corrections and times (rule 21); nothing where a legacy converted object says it in the old elements.

    Decay-corrected to DecayCorrectionDateTime (0018,9701): as a series that starts then, whose frames are acquired at
    FrameAcquisitionDateTime (0018,9074) for FrameAcquisitionDuration (0018,9220). Not decay-corrected: the
    mean over a frame is the activity at its FrameReferenceDateTime (0018,9151, DICOM PS3.3 C.7.6.16.2.2), as of a
    frame of no duration that is acquired then.
    """
    corrected = text(dataset, "DecayCorrected")
    if not corrected and text(frame, "DecayCorrection"):
        return
    content = groups["FrameContentSequence"]
    applied = {"ATTN": text(dataset, "AttenuationCorrected"), "DECY": corrected}
    frame.CorrectedImage = [name for name, value in applied.items() if value == "YES"]
    for keyword in ("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "DecayFactor"):
        if keyword in frame:
            del frame[keyword]
    match corrected:
        case "YES":
            frame.DecayCorrection = "START"
            _set_start(frame, text(dataset, "DecayCorrectionDateTime"))
            _set_acquisition(frame, content)
            _copy(groups["PETFrameCorrectionFactorsSequence"], frame, "DecayFactor")
        case "NO":
            frame.DecayCorrection = "NONE"
            frame.AcquisitionDateTime = text(content, "FrameReferenceDateTime")
            frame.ActualFrameDuration = 0
        case _:
            frame.DecayCorrection = ""


def _set_start(frame: pydicom.Dataset, stated: str) -> None:
    own_zone = parse_zone(text(frame, "TimezoneOffsetFromUTC"))
    start = parse_datetime(stated, own_zone)
    if start is None:
        frame.SeriesDate = frame.SeriesTime = ""
        return
    if start.tzinfo and own_zone:
        start = start.astimezone(own_zone)
    elif start.tzinfo:
        tracer = first_item(frame, "RadiopharmaceuticalInformationSequence")
        injected = parse_datetime(text(tracer, "RadiopharmaceuticalStartDateTime"))
        if injected is not None and injected.tzinfo is None:
            reason = "DecayCorrectionDateTime (0018,9701) has a time zone, the injection (0018,1078) has none"
            raise UnusableScanError(Code.TIMES_INCONSISTENT, reason)
        frame.TimezoneOffsetFromUTC = f"{start:%z}"
    frame.SeriesDate = frame.AcquisitionDate = f"{start:%Y%m%d}"
    frame.SeriesTime = frame.AcquisitionTime = f"{start:%H%M%S.%f}"


def _set_acquisition(frame: pydicom.Dataset, content: pydicom.Dataset) -> None:
    began = text(content, "FrameAcquisitionDateTime") or text(content, "FrameReferenceDateTime")
    zone = parse_zone(text(frame, "TimezoneOffsetFromUTC"))
    instant = parse_datetime(began, zone)
    if instant is None or (instant.tzinfo is None) != (zone is None):  # the other times then stand without a zone
        return
    frame.AcquisitionDate = frame.AcquisitionTime = ""
    frame.AcquisitionDateTime = began
    duration_ms = number(content, "FrameAcquisitionDuration") if "FrameAcquisitionDateTime" in content else 0.0
    if duration_ms is not None:
        frame.ActualFrameDuration = round(duration_ms)
