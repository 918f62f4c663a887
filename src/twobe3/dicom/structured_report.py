"""A prediction as DICOM Structured Report: TID 1500 in a Comprehensive 3D SR, in the patient's study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import highdicom as hd
import pydicom
from pydicom.sr.codedict import codes

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.dicom.derived import MAKER, REGION, RESEARCH, SCHEME, Source, about, encode, new_uid
from twobe3.dicom.reader import quietly

_LONGEST_MEANING = 64  # characters of LO, DICOM PS3.5 6.2
_ML = hd.sr.CodedConcept("ml", "UCUM", "milliliter")
_SUV_BW = hd.sr.CodedConcept("126401", "DCM", "SUVbw")
_SUV = hd.sr.CodedConcept("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight")


@dataclass(frozen=True)
class SegmentedRegion:
    """A region of the scan that a report tells of.

    Parameters
    ----------
    segmentation : bytes
        A file of :func:`~twobe3.dicom.derived.make_segmentation`.
    volume_ml, suv_max : float
    """

    segmentation: bytes
    volume_ml: float
    suv_max: float


def make_structured_report(
    source: Source,
    *,
    label: str,
    endpoint: str,
    measured: Mapping[str, float],
    flags: Mapping[str, str],
    region: SegmentedRegion | None = None,
    model_digest: str = "",
) -> bytes:
    """Make a DICOM report of what a model says of a scan.

    Parameters
    ----------
    source : Source
    label : str
        Of the series, for instance the model and its endpoint.
    endpoint : str
        What is predicted, by which the numbers are tracked.
    measured : mapping
        Name, in the field's words, to a number without unit: risk, probability and what belongs to them. Names, and
        codes of flags, are codes of the private scheme ``99TWOBE3``.
    flags : mapping
        Code to a sentence: what is unusual in the scan, or that a refusal was overridden. The sentence becomes a
        comment; the code means what it always means.
    region : SegmentedRegion, optional
        With its volume and SUVmax, which have the codes that the standard has for them.
    model_digest : str
        As for :func:`~twobe3.dicom.derived.make_parametric_map`.

    Returns
    -------
    bytes
        A DICOM file (PS3.3 A.35.13, PS3.16 TID 1500 and 1501, of a region TID 1411), not verified by anybody.
    """
    with quietly():
        device = hd.sr.DeviceObserverIdentifyingAttributes(
            new_uid(), MAKER, MAKER, MAKER, serial_number=model_digest[:64] or __version__
        )
        context = hd.sr.ObservationContext(observer_device_context=hd.sr.ObserverContext(codes.DCM.Device, device))
        algorithm = hd.sr.AlgorithmIdentification(f"{MAKER}: {label}"[:64], __version__, parameters=[RESEARCH])
        groups: list[Any] = [
            hd.sr.MeasurementsAndQualitativeEvaluations(
                hd.sr.TrackingIdentifier(new_uid(), endpoint),
                algorithm_id=algorithm,
                measurements=[
                    hd.sr.Measurement(_private(name), float(value), codes.UCUM.NoUnits)
                    for name, value in measured.items()
                ],
                qualitative_evaluations=[
                    hd.sr.QualitativeEvaluation(_private("Flag"), hd.sr.CodedConcept(code, SCHEME, _mean(code)))
                    for code in flags
                ],
            )
        ]
        groups[0][0].ContentSequence.extend(
            hd.sr.TextContentItem(codes.DCM.Comment, f"{code}: {said}", hd.sr.RelationshipTypeValues.CONTAINS)
            for code, said in flags.items()
        )
        evidence = list(source.images)
        if region is not None:
            segmentation = pydicom.dcmread(BytesIO(region.segmentation))
            evidence.append(segmentation)
            groups.append(_describe_region(region, segmentation, source, algorithm))
        report = hd.sr.MeasurementReport(
            context, codes.LN.PETUnspecifiedBodyRegion, groups, title=codes.DCM.ImagingMeasurementReport
        )
        return encode(hd.sr.Comprehensive3DSR(evidence, report, **about(label, 903, model_digest)))


def _describe_region(
    region: SegmentedRegion, segmentation: pydicom.Dataset, source: Source, algorithm: hd.sr.AlgorithmIdentification
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    segment = hd.sr.ReferencedSegment(
        segmentation.SOPClassUID, segmentation.SOPInstanceUID, 1,
        source_series=hd.sr.SourceSeriesForSegmentation(source.images[0].SeriesInstanceUID),
    )  # fmt: skip
    described = segmentation.SegmentSequence[0]
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        hd.sr.TrackingIdentifier(described.TrackingUID, described.TrackingID),
        referenced_segment=segment,
        finding_type=REGION,
        algorithm_id=algorithm,
        measurements=[
            hd.sr.Measurement(codes.SCT.Volume, float(region.volume_ml), _ML),
            hd.sr.Measurement(_SUV_BW, float(region.suv_max), _SUV, derivation=codes.SCT.Maximum),
        ],
    )


def _mean(code: str) -> str:
    """What a code of the package means, in as many characters as a meaning may have."""
    summary = Code[code].summary if code in Code.__members__ else code
    return summary if len(summary) <= _LONGEST_MEANING else f"{summary[: _LONGEST_MEANING - 1]}…"


def _private(name: str) -> hd.sr.CodedConcept:
    """A concept of this package: DICOM has no code for it."""
    return hd.sr.CodedConcept(name.upper().replace(" ", "_"), SCHEME, name)
