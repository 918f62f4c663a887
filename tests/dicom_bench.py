"""A tiny PET series, written with pydicom, that each test bends in one way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

from twobe3.core.volume import SUVVolume
from twobe3.dicom.attributes import Policy
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv


def pet_slices(
    stored: np.ndarray | None = None,
    *,
    patient: str = "P1",
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    origin: Sequence[float] = (-10, -20, 100),
    step: Sequence[float] = (0, 0, 3),
    slopes: Sequence[float] | None = None,
) -> list[Dataset]:
    """Slices of 370 MBq FDG in 70 kg, scanned an hour after injection, decay-corrected to the scan's start."""
    if stored is None:
        stored = np.arange(4 * 6 * 5, dtype=np.uint16).reshape(4, 6, 5)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    slices = []
    for i, pixels in enumerate(stored):
        dataset = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
        dataset.SOPClassUID = PositronEmissionTomographyImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PatientID, dataset.PatientName, dataset.PatientSex = patient, "Doe^Jane", "F"
        dataset.PatientWeight, dataset.PatientSize, dataset.PatientAge = 70, 1.75, "036M"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.Modality, dataset.Manufacturer, dataset.Units = "PT", "Test", "BQML"
        dataset.SeriesType, dataset.DecayCorrection = ["STATIC", "IMAGE"], "START"
        dataset.CorrectedImage = ["ATTN", "DECY"]
        dataset.SeriesDate = dataset.AcquisitionDate = "20240301"
        dataset.SeriesTime = dataset.AcquisitionTime = "110000"
        dataset.ActualFrameDuration, dataset.FrameReferenceTime = 120000, 60000
        tracer = Dataset()
        tracer.Radiopharmaceutical = "FDG"
        tracer.RadiopharmaceuticalStartDateTime = "20240301100000"
        tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = 370e6, 6586.2
        dataset.RadiopharmaceuticalInformationSequence = Items([tracer])
        dataset.RescaleSlope, dataset.RescaleIntercept = (slopes[i] if slopes else 100.0), 0
        dataset.InstanceNumber = i + 1
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelSpacing, dataset.SliceThickness = [2.0, 4.0], 3.0
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ImagePositionPatient = [float(o + i * s) for o, s in zip(origin, step, strict=True)]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
        slices.append(dataset)
    return slices


class Bench:
    """Makes tiny series, writes them, and reads them as a user would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    slices = staticmethod(pet_slices)

    def save(self, slices: Sequence[Dataset], name: str = "PET", files: Sequence[str] | None = None) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, dataset in enumerate(slices):
            pydicom.dcmwrite(folder / (files[i] if files else f"{i:03}.dcm"), dataset, enforce_file_format=True)
        return folder

    def read(self, slices: Sequence[Dataset], *, policy: Policy = "lenient") -> SUVVolume:
        """Write to a folder of its own, find the one series, and convert it."""
        (series,) = find_series([self.save(slices, generate_uid())]).series
        return read_suv(series, policy=policy)
