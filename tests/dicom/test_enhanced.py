"""Enhanced PET objects, rewritten from single-frame series, must give the SUV of those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    EnhancedPETImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedPETImageStorage,
    RLELossless,
    generate_uid,
)

from twobe3.core.errors import UnusableScanError
from twobe3.dicom.frames import choose_frame
from twobe3.dicom.series import choose_series, find_series
from twobe3.dicom.volume import read_suv

HALF_LIFE_S = 6586.2
_OF_THE_FRAME = ("AcquisitionDate", "AcquisitionTime", "ActualFrameDuration", "FrameReferenceTime")
_OLD = ("Units", "DecayCorrection", "CorrectedImage", "SeriesType")
_PATIENT = ("PatientID", "PatientName", "PatientSex", "PatientWeight", "PatientSize", "Modality", "Manufacturer")
_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "RadiopharmaceuticalInformationSequence")
_IMAGE = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
)  # fmt: skip


def item(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def copied(source: Dataset, *keywords: str) -> Dataset:
    return item(**{keyword: source[keyword].value for keyword in keywords if keyword in source})


def mapping(slope: float, unit: str = "Bq/ml", intercept: float = 0.0, *, last: int = 32767) -> Dataset:
    code = item(CodeValue=unit, CodingSchemeDesignator="UCUM", CodeMeaning=unit)
    return item(
        RealWorldValueFirstValueMapped=0,
        RealWorldValueLastValueMapped=last,
        RealWorldValueSlope=float(slope),
        RealWorldValueIntercept=intercept,
        MeasurementUnitsCodeSequence=Items([code]),
    )


def container(slices: Sequence[Dataset], sop_class: str, frames: Sequence[Dataset], shared: Dataset) -> Dataset:
    first = slices[0]
    dataset = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    dataset.update(copied(first, *_PATIENT, *_IDENTITY, *_IMAGE))
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.NumberOfFrames = len(slices)
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PixelData = b"".join(one.PixelData for one in slices)
    return dataset


def enhanced(slices: Sequence[Dataset], *, decay_corrected: bool = True, unit: str = "Bq/ml") -> Dataset:
    """An Enhanced PET object: position and mapping per frame, spacing and orientation shared."""
    frames = []
    for i, one in enumerate(slices):
        began = datetime.strptime(one.AcquisitionDate + str(one.AcquisitionTime)[:6], "%Y%m%d%H%M%S")
        reference = f"{began + timedelta(seconds=62):%Y%m%d%H%M%S}"
        content = item(FrameReferenceDateTime=reference, TemporalPositionIndex=1, StackID="1")
        content.InStackPositionNumber = i + 1
        frames.append(
            item(
                FrameContentSequence=Items([content]),
                PlanePositionSequence=Items([copied(one, "ImagePositionPatient")]),
                RealWorldValueMappingSequence=Items([mapping(one.RescaleSlope, unit)]),
                PixelValueTransformationSequence=Items([item(RescaleSlope=1, RescaleIntercept=0, RescaleType="US")]),
            )
        )
    first = slices[0]
    shared = item(
        PixelMeasuresSequence=Items([copied(first, "PixelSpacing", "SliceThickness")]),
        PlaneOrientationSequence=Items([copied(first, "ImageOrientationPatient")]),
        PETFrameTypeSequence=Items([item(FrameType=["ORIGINAL", "PRIMARY", "WHOLE_BODY", "NONE"])]),
    )
    dataset = container(slices, EnhancedPETImageStorage, frames, shared)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "WHOLE_BODY", "NONE"]
    dataset.AttenuationCorrected, dataset.DecayCorrected = "YES", "YES" if decay_corrected else "NO"
    dataset.SeriesDate, dataset.SeriesTime = "20240301", "114500"  # when the object was made: no reference
    if decay_corrected:
        dataset.DecayCorrectionDateTime = first.SeriesDate + first.SeriesTime
    return dataset


def legacy(slices: Sequence[Dataset]) -> Dataset:
    """A Legacy Converted Enhanced PET object: the old elements are kept in groups of their own."""
    frames = [
        item(
            PlanePositionSequence=Items([copied(one, "ImagePositionPatient")]),
            PixelValueTransformationSequence=Items([copied(one, "RescaleSlope", "RescaleIntercept")]),
            UnassignedPerFrameConvertedAttributesSequence=Items([copied(one, *_OF_THE_FRAME)]),
        )
        for one in slices
    ]
    first = slices[0]
    shared = item(
        PixelMeasuresSequence=Items([copied(first, "PixelSpacing", "SliceThickness")]),
        PlaneOrientationSequence=Items([copied(first, "ImageOrientationPatient")]),
        UnassignedSharedConvertedAttributesSequence=Items([copied(first, *_OLD)]),
    )
    dataset = container(slices, LegacyConvertedEnhancedPETImageStorage, frames, shared)
    dataset.update(copied(first, "SeriesDate", "SeriesTime"))
    return dataset


@pytest.mark.parametrize("make", [enhanced, legacy])
def test_an_enhanced_object_gives_the_suv_of_the_series_it_was_made_of(
    bench: Any, make: Callable[[Sequence[Dataset]], Dataset]
) -> None:
    slices = bench.slices(slopes=[1.5, 200.0, 3.25, 0.125])
    plain, rewritten = bench.read(slices), bench.read([make(slices[::-1])])
    np.testing.assert_allclose(rewritten.array, plain.array, rtol=1e-6)
    assert rewritten.geometry.same_as(plain.geometry)
    assert rewritten.calibration.rule == "BQML_START"


def test_a_whole_body_series_as_one_enhanced_object(bench: Any, real_data: Path) -> None:
    (series,) = find_series([real_data / "ge_whole_body"]).series
    folder = bench.save([enhanced([pydicom.dcmread(path) for path in series.files])])
    (rewritten,) = find_series([folder]).series
    assert (rewritten.slices, rewritten.frames, rewritten.units) == (267, "static", "BQML")
    assert rewritten.coverage_mm == pytest.approx(series.coverage_mm, abs=0.1)
    plain, volume = read_suv(series), read_suv(rewritten)
    np.testing.assert_allclose(volume.array, plain.array, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(volume.geometry.affine, plain.geometry.affine, atol=1e-6)


def test_an_uncorrected_object_refers_to_its_frame_reference(bench: Any) -> None:
    """Rule 21: the mean over a frame is the activity at FrameReferenceDateTime, so SUV = A·w / (D·2^(−Δt/T½))."""
    slices = bench.slices()
    volume = bench.read([enhanced(slices, decay_corrected=False)])
    elapsed_s = 3600 + 62  # injected at 10:00:00, frame reference at 11:01:02
    expected = np.arange(120).reshape(4, 6, 5) * 100.0 * 70e3 / (370e6 * 2 ** (-elapsed_s / HALF_LIFE_S))
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)
    assert volume.calibration.rule == "BQML_NONE"


@pytest.mark.parametrize(("zone", "stated"), [("+0100", "20240301120000+0200"), ("-0500", "20240301050000")])
def test_zones_are_converted_to_instants(bench: Any, zone: str, stated: str) -> None:
    slices = bench.slices()
    tracer = slices[0].RadiopharmaceuticalInformationSequence[0]
    tracer.RadiopharmaceuticalStartDateTime = "20240301090000+0000"
    dataset = enhanced(slices)
    dataset.TimezoneOffsetFromUTC, dataset.DecayCorrectionDateTime = zone, stated
    factor = 70e3 / (370e6 * 2 ** (-3600 / HALF_LIFE_S))
    assert bench.read([dataset]).array.max() == pytest.approx(119 * 100 * factor, rel=1e-6)


@pytest.mark.parametrize("unit", ["g/ml{SUVbw}", "{SUVbw}g/ml", "g/ml"])
def test_suv_by_its_mapping_needs_no_dose(bench: Any, unit: str) -> None:
    slices = bench.slices(slopes=[0.5] * 4)
    for one in slices:
        del one.RadiopharmaceuticalInformationSequence
    volume = bench.read([enhanced(slices, unit=unit)])
    np.testing.assert_allclose(volume.array, np.arange(120).reshape(4, 6, 5) * 0.5)


def test_compressed_frames_give_the_same_volume(bench: Any) -> None:
    slices = bench.slices(np.random.default_rng(0).integers(0, 30000, (4, 16, 16), dtype=np.uint16))
    plain, dataset = bench.read(slices), enhanced(slices)
    dataset.compress(RLELossless, generate_instance_uid=False)
    np.testing.assert_allclose(bench.read([dataset]).array, plain.array, rtol=1e-6)


def test_an_enhanced_series_can_be_chosen(bench: Any) -> None:
    found = find_series([bench.save([enhanced(bench.slices())])]).series
    assert choose_series(found) == (found, ())
    assert (found[0].slices, found[0].coverage_mm, found[0].corrections) == (4, 9.0, ("ATTN", "DECY"))


def per_frame(sequence: str, values: Sequence[Dataset]) -> Callable[[Dataset], None]:
    def bend(dataset: Dataset) -> None:
        for frame, value in zip(dataset.PerFrameFunctionalGroupsSequence, values, strict=True):
            setattr(frame, sequence, Items([value]))

    return bend


def change(**values: object) -> Callable[[Dataset], None]:
    def bend(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return bend


def without(keyword: str) -> Callable[[Dataset], None]:
    def bend(dataset: Dataset) -> None:
        for part in (dataset, *dataset.PerFrameFunctionalGroupsSequence, *dataset.SharedFunctionalGroupsSequence):
            if keyword in part:
                delattr(part, keyword)

    return bend


def at_z(*z_mm: float) -> list[Dataset]:
    return [item(ImagePositionPatient=[-10.0, -20.0, z]) for z in z_mm]


def temporal(*positions: int) -> list[Dataset]:
    return [item(TemporalPositionIndex=position) for position in positions]


def zoned(dataset: Dataset) -> None:
    dataset.DecayCorrectionDateTime += "+0100"


@pytest.mark.parametrize(
    ("bend", "code"),
    [
        (per_frame("PlanePositionSequence", at_z(100, 103, 106, 112)), "SLICE_GAP"),
        (per_frame("PlanePositionSequence", at_z(100, 104.4, 106, 109)), "GEOMETRY_MIXED"),
        (
            per_frame("PixelMeasuresSequence", [item(PixelSpacing=[2.0, 4.0 + 0.1 * (i == 2)]) for i in range(4)]),
            "GEOMETRY_MIXED",
        ),
        (per_frame("PlanePositionSequence", at_z(100, 100, 103, 103)), "NOT_STATIC"),
        (per_frame("FrameContentSequence", temporal(1, 1, 2, 2)), "NOT_STATIC"),
        (change(ImageType=["ORIGINAL", "PRIMARY", "DYNAMIC", "NONE"]), "NOT_STATIC"),
        (change(ImageType=["ORIGINAL", "PRIMARY", "CARDIAC_GATED", "NONE"]), "NOT_STATIC"),
        (without("PlanePositionSequence"), "CORRUPT_FILE"),
        (without("PixelMeasuresSequence"), "CORRUPT_FILE"),
        (without("PlaneOrientationSequence"), "CORRUPT_FILE"),
        (without("PerFrameFunctionalGroupsSequence"), "MULTI_FRAME"),
        (change(NumberOfFrames=3), "CORRUPT_FILE"),
        (change(PixelData=b"\0" * 100), "CORRUPT_FILE"),
        (change(AttenuationCorrected="NO"), "NOT_ATTN"),
        (change(DecayCorrected=""), "NOT_DECAY_CORRECTED"),
        (without("DecayCorrectionDateTime"), "TIMES_MISSING"),
        (zoned, "TIMES_INCONSISTENT"),
        (without("RealWorldValueMappingSequence"), "UNITS_UNSUPPORTED"),
        (per_frame("RealWorldValueMappingSequence", [mapping(1, "{counts}/s")] * 4), "UNITS_UNSUPPORTED"),
        (per_frame("RealWorldValueMappingSequence", [mapping(1, "g/ml{SUVother}")] * 4), "SUV_TYPE_UNSUPPORTED"),
        (per_frame("RealWorldValueMappingSequence", [mapping(1, intercept=-5)] * 4), "RESCALE_INVALID"),
        (per_frame("RealWorldValueMappingSequence", [mapping(0)] * 4), "RESCALE_INVALID"),
        (without("PatientWeight"), "WEIGHT_MISSING"),
    ],
)
def test_refusals(bench: Any, bend: Callable[[Dataset], None], code: str) -> None:
    """Acceptance row 21."""
    dataset = enhanced(bench.slices())
    bend(dataset)
    with pytest.raises(UnusableScanError) as refused:
        bench.read([dataset])
    assert refused.value.code.name == code


def triggers(*delays_ms: float) -> list[Dataset]:
    return [item(NominalCardiacTriggerDelayTime=float(delay)) for delay in delays_ms]


@pytest.mark.parametrize(
    "bend",
    [
        per_frame("FrameContentSequence", temporal(2, 1, 1, 2)),
        per_frame("CardiacSynchronizationSequence", triggers(300, 0, 0, 300)),
    ],
    ids=["temporal position", "trigger delay"],
)
def test_one_frame_of_a_dynamic_object_is_chosen(bench: Any, bend: Callable[[Dataset], None]) -> None:
    slices = bench.slices(slopes=[2.0, 3.0, 4.0, 5.0])
    stored, factor = np.arange(120).reshape(4, 6, 5), 70e3 / 370e6 * 2 ** (3600 / HALF_LIFE_S)
    dataset = enhanced(slices)
    per_frame("PlanePositionSequence", at_z(100, 100, 103, 103))(dataset)
    bend(dataset)
    (series,) = find_series([bench.save([dataset])]).series
    with pytest.raises(UnusableScanError, match=r"NOT_STATIC: .*2 frames of 2 slices"):
        read_suv(series)
    for frame, which in ((1, [1, 2]), (2, [0, 3])):
        volume = read_suv(choose_frame(series, frame))
        slopes = np.array([2.0, 3.0, 4.0, 5.0])[which, None, None]
        np.testing.assert_allclose(volume.array, stored[which] * slopes * factor, rtol=1e-6)


def test_a_stored_value_beyond_the_mapping_is_refused(bench: Any) -> None:
    dataset = enhanced(bench.slices())
    dataset.PerFrameFunctionalGroupsSequence[3].RealWorldValueMappingSequence[0].RealWorldValueLastValueMapped = 100
    with pytest.raises(UnusableScanError, match=r"RESCALE_INVALID: stored values run from 90 to 119"):
        bench.read([dataset])
