"""Write SUV volumes as the PET series that Siemens, GE and Philips scanners export.

For test objects of known SUV: each vendor's style stores the same SUV by another of the rules that a reader must
know (units, decay reference, private elements), so that reading it back proves the reader.
"""

from __future__ import annotations

import io
import math
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage
from pydicom.valuerep import format_number_as_ds

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.core.volume import Geometry, SUVVolume

Vendor = Literal["siemens", "ge", "philips"]

LARGEST_STORED = 32767
F18_HALF_LIFE_S = 6586.2
GE_REBUILT_AFTER = timedelta(minutes=50)
_NAMESPACE = uuid.UUID("5b1f0a52-3f6c-5d58-9a55-1c7d20b3e0ab")
_SCANNERS: dict[Vendor, tuple[str, str]] = {
    "siemens": ("SIEMENS", "Biograph64"),
    "ge": ("GE MEDICAL SYSTEMS", "Discovery ST"),
    "philips": ("Philips Medical Systems", "Gemini TF"),
}
_POSITIVE = ("weight_kg", "height_m", "injected_dose_bq", "half_life_s", "frame_duration_s", "slices_per_bed")
_PHILIPS_COUNT_BQML = 3.2  # Bq/ml that one Philips count stands for; any positive number is as good


@dataclass(frozen=True, kw_only=True)
class PETHeader:
    """What a PET header says besides the image, in the style of a vendor.

    Siemens: decay reference in SeriesTime. GE: series rebuilt after the scan, so that SeriesTime is too late and the
    private (0009,xx0D) tells the start. Philips: injection time without a date, and where units are counts the private
    (7053,xx00) turns them into SUV.

    Raises
    ------
    ValueError
        A value is not positive, the scan starts before the injection, a time has a zone, or units or decay
        correction are not of this vendor.
    """

    patient_id: str
    sex: Literal["M", "F", "O"]
    age_years: int
    weight_kg: float
    height_m: float
    injected_dose_bq: float
    injected: datetime
    started: datetime  # of the first bed position
    vendor: Vendor = "siemens"
    units: Literal["BQML", "CNTS"] = "BQML"  # counts are Philips' alone
    decay_correction: Literal["START", "ADMIN"] = "START"  # to the start of the scan, or to the injection (GE alone)
    half_life_s: float = F18_HALF_LIFE_S
    frame_duration_s: float = 120.0  # of one bed position
    slices_per_bed: int = 40  # the first slices of the volume are scanned first
    uid_seed: str = ""  # all UIDs follow from it and the patient id: equal seeds, equal files

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.injected.tzinfo or self.started.tzinfo:
            raise ValueError("injected and started must be without a time zone")
        if self.started < self.injected:
            raise ValueError(f"the scan starts at {self.started}, before the injection at {self.injected}")
        if self.units == "CNTS" and self.vendor != "philips":
            raise ValueError(f"units CNTS are Philips' alone, got vendor {self.vendor!r}")
        if self.decay_correction == "ADMIN" and self.vendor != "ge":
            raise ValueError(f"decay correction ADMIN is GE's alone, got vendor {self.vendor!r}")

    def uid(self, what: str, number: int = 0) -> UID:
        """UID of the study, the series, a slice …: a name-based UUID under 2.25 (PS3.5 B.2)."""
        return derive_uid(f"{self.uid_seed}/{self.patient_id}/{what}/{number}")

    @property
    def decay_per_s(self) -> float:
        """Decay constant λ = ln 2 / half-life."""
        return math.log(2.0) / self.half_life_s

    @property
    def suv_per_bqml(self) -> float:
        """SUV by body weight of 1 Bq/ml as stored: w / (D·e^(−λ(t_ref − t_adm))), w in grams."""
        uptake_s = (self.started - self.injected).total_seconds() if self.decay_correction == "START" else 0.0
        return self.weight_kg * 1000.0 / (self.injected_dose_bq * math.exp(-self.decay_per_s * uptake_s))


def derive_uid(name: str) -> UID:
    """Make a valid UID that depends on the name alone."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, name).int}")


def write_pet_series(volume: SUVVolume, folder: Path, *, header: PETHeader) -> list[Path]:
    """Write a volume of SUV by body weight as a PET series; returns its files in the order of the slices.

    Values are stored in 16 bits with a slope for each slice; reading them back by the vendor's rule gives the SUV to
    half of (largest SUV of the slice / 32767). Negative SUV become 0. Files of the same names are replaced.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    dataset = _series_dataset(volume.geometry, header)
    suv_per_stored_unit = header.suv_per_bqml * (_PHILIPS_COUNT_BQML if header.units == "CNTS" else 1.0)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, suv in enumerate(volume.array):
            _set_slice(dataset, index, volume.geometry, header)
            _set_pixels(dataset, suv.astype(np.float64) / suv_per_stored_unit)
            paths.append(folder / f"{index + 1:04d}.dcm")
            paths[-1].write_bytes(encode(dataset))
    except OSError as error:
        raise EnvironmentFailure(Code.WRITE_FAILED, f"a PET slice could not be written: {error.strerror}") from error
    return paths


def make_dataset(sop_class: UID, sop_instance: UID, header: PETHeader) -> Dataset:
    """Make a data set with file meta information and the patient and study of a header."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = sop_instance
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.StudyDate, ds.StudyTime = format_date_time(header.started)
    ds.PatientName = ds.PatientID = header.patient_id
    ds.PatientSex = header.sex
    ds.PatientAge = f"{header.age_years:03d}Y"
    ds.StudyInstanceUID = header.uid("study")
    ds.StudyID = "1"
    ds.AccessionNumber = ds.ReferringPhysicianName = ds.PatientBirthDate = ds.PositionReferenceIndicator = ""
    return ds


def encode(ds: Dataset) -> bytes:
    """Encode a data set as a DICOM file."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def make_item(**attributes: Any) -> Dataset:
    """Make an item of a sequence."""
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def format_date_time(moment: datetime) -> tuple[str, str]:
    """Format a moment as DICOM date (DA) and time (TM, microseconds)."""
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")


def frame_of_reference_uid(geometry: Geometry, header: PETHeader) -> str:
    """The geometry's frame of reference; one derived from the header where it has none."""
    return geometry.frame_of_reference or header.uid("frame of reference")


def _series_dataset(geometry: Geometry, header: PETHeader) -> Dataset:
    """Everything that is equal in all slices."""
    ds = make_dataset(PositronEmissionTomographyImageStorage, header.uid("slice"), header)
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.Modality = "PT"
    set_scanner(ds, header)
    ds.StudyDescription = "PET whole body"
    ds.SeriesDescription = "PET AC"
    ds.BodyPartExamined = "WHOLEBODY"
    ds.PatientSize = format_number_as_ds(header.height_m)
    ds.PatientWeight = format_number_as_ds(header.weight_kg)
    ds.SeriesInstanceUID = header.uid("series")
    ds.SeriesNumber = 1
    series_start = header.started + (GE_REBUILT_AFTER if header.vendor == "ge" else timedelta())
    ds.SeriesDate, ds.SeriesTime = format_date_time(series_start)
    ds.FrameOfReferenceUID = frame_of_reference_uid(geometry, header)
    set_plane(ds, geometry)
    ds.NumberOfSlices = geometry.shape[0]
    ds.SeriesType = ["STATIC", "IMAGE"]
    ds.Units = header.units
    ds.DecayCorrection = header.decay_correction
    ds.CountsSource = "EMISSION"
    ds.CorrectedImage = ["DECY", "ATTN", "SCAT", "DTIM", "RAN", "NORM"]
    ds.RandomsCorrectionMethod = "DLYD"
    ds.AttenuationCorrectionMethod = "measured"
    ds.ScatterCorrectionMethod = "model-based"
    ds.ReconstructionMethod = "OSEM"
    ds.CollimatorType = "NONE"
    ds.ActualFrameDuration = round(header.frame_duration_s * 1000.0)
    ds.RadiopharmaceuticalInformationSequence = [_injection(header)]
    ds.PatientOrientationCodeSequence = [_code("F-10450", "recumbent")]
    ds.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = [_code("F-10340", "supine")]
    ds.PatientGantryRelationshipCodeSequence = [_code("F-10470", "headfirst")]
    _add_private(ds, header)
    return dcmread(io.BytesIO(encode(ds)))  # its values are bytes already, which are copied into every slice


def set_scanner(ds: Dataset, header: PETHeader) -> None:
    """Set the manufacturer and model of a header's vendor."""
    ds.Manufacturer, ds.ManufacturerModelName = _SCANNERS[header.vendor]


def set_plane(ds: Dataset, geometry: Geometry) -> None:
    """Set what all slices of a geometry share."""
    along, down, across = geometry.spacing_mm
    columns, rows = geometry.affine[:3, 2] / across, geometry.affine[:3, 1] / down
    ds.ImageOrientationPatient = [format_number_as_ds(float(v)) for v in (*columns, *rows)]
    ds.PixelSpacing = [format_number_as_ds(down), format_number_as_ds(across)]
    ds.SliceThickness = format_number_as_ds(along)
    _, ds.Rows, ds.Columns = geometry.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.RescaleIntercept = "0"


def _injection(header: PETHeader) -> Dataset:
    date, time = format_date_time(header.injected)
    item = make_item(
        Radiopharmaceutical="Fluorodeoxyglucose",
        RadiopharmaceuticalStartTime=time,
        RadionuclideTotalDose=format_number_as_ds(header.injected_dose_bq),
        RadionuclideHalfLife=format_number_as_ds(header.half_life_s),
        RadionuclidePositronFraction="0.967",
        RadionuclideCodeSequence=[_code("C-111A1", "^18^Fluorine")],
        RadiopharmaceuticalCodeSequence=[_code("C-B1031", "Fluorodeoxyglucose F^18^")],
    )
    if header.vendor != "philips":
        item.RadiopharmaceuticalStartDateTime = date + time
    return item


def _code(value: str, meaning: str) -> Dataset:
    return make_item(CodeValue=value, CodingSchemeDesignator="SRT", CodeMeaning=meaning)


def _add_private(ds: Dataset, header: PETHeader) -> None:
    start, injected = ("".join(format_date_time(moment)) for moment in (header.started, header.injected))
    ds.PixelRepresentation = int(header.vendor == "ge")
    if header.vendor == "siemens":
        ds.private_block(0x0071, "SIEMENS MED PT", create=True).add_new(0x22, "DT", start)
    elif header.vendor == "ge":
        block = ds.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "DT", start)
        block.add_new(0x3B, "DT", injected)
    elif header.units == "CNTS":
        block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", format_number_as_ds(header.suv_per_bqml * _PHILIPS_COUNT_BQML))
        block.add_new(0x09, "DS", format_number_as_ds(_PHILIPS_COUNT_BQML))


def _set_slice(ds: Dataset, index: int, geometry: Geometry, header: PETHeader) -> None:
    """Identity, position and times of one slice; its frame's mean time as PS3.3 C.8.9.4.1.5 defines it."""
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = header.uid("slice", index)
    ds.InstanceNumber = ds.ImageIndex = index + 1
    ds.ImagePositionPatient = [format_number_as_ds(float(v)) for v in geometry.to_mm((index, 0, 0))]
    ds.SliceLocation = format_number_as_ds(index * geometry.spacing_mm[0])
    bed_s = index // header.slices_per_bed * header.frame_duration_s
    ds.AcquisitionDate, ds.AcquisitionTime = format_date_time(header.started + timedelta(seconds=bed_s))
    ds.ContentDate, ds.ContentTime = ds.AcquisitionDate, ds.AcquisitionTime
    decay, frame = header.decay_per_s, header.decay_per_s * header.frame_duration_s
    mean_s = bed_s + math.log(frame / -math.expm1(-frame)) / decay
    ds.FrameReferenceTime = format_number_as_ds(mean_s * 1000.0)
    since_reference_s = mean_s
    if header.decay_correction == "ADMIN":
        since_reference_s += (header.started - header.injected).total_seconds()
    ds.DecayFactor = format_number_as_ds(math.exp(decay * since_reference_s))


def _set_pixels(ds: Dataset, values: npt.NDArray[np.float64]) -> None:
    largest = float(values.max())
    slope = format_number_as_ds(largest / LARGEST_STORED if largest > 0 else 1.0)
    stored = np.clip(np.rint(values / float(slope)), 0, LARGEST_STORED).astype("<i2")
    ds.RescaleSlope = slope
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
