#!/usr/bin/env bash
# A PET series whose first slice has a slope of 1 is read by SimpleITK as 16-bit integers, and its uptake wraps below zero.
#
# SimpleITK 2.5.7. Every slice of a PET series has a Rescale Slope of its own (DICOM PS3.3 C.8.9.4), and nothing forbids 1,
# least of all in a first slice without counts. ImageSeriesReader applies each slice's slope, but takes the pixel type of
# the whole volume from the first slice and stores all results in that type: 45,000 Bq/ml come out as -20,536, 3.7 as 3, and
# nothing is said. The same series with a slope of 0.5 in that slice comes out as floats, and right. One would expect the
# type to fit all slices; that fractions are lost is known (SimpleITK's pull request 1640, issue 1636), the wrap-around is
# worse. Whoever reads PET by it calls SetOutputPixelType(sitk.sitkFloat64), which is right here too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6
cd "$folder"
cat >read.py <<'END'
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

stored = [0, 10, 11, 20000]


def write(folder, slopes):
    Path(folder).mkdir()
    study, series, frame = (generate_uid() for _ in range(3))
    for number, (slope, value) in enumerate(zip(slopes, stored, strict=True)):
        one, one.file_meta = Dataset(), FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.PatientID, one.PatientName, one.Modality, one.Units = "phantom", "Phantom^One", "PT", "BQML"
        one.StudyDate = one.SeriesDate = one.AcquisitionDate = "20260101"
        one.StudyTime = one.SeriesTime = one.AcquisitionTime = "120000"
        one.SeriesType, one.ImageType, one.CountsSource = ["WHOLE BODY", "IMAGE"], ["ORIGINAL", "PRIMARY"], "EMISSION"
        one.CorrectedImage, one.DecayCorrection, one.CollimatorType = ["DECY", "ATTN"], "START", "NONE"
        one.FrameReferenceTime, one.ActualFrameDuration, one.NumberOfSlices = 0, 120000, len(stored)
        one.InstanceNumber = one.ImageIndex = number + 1
        one.Rows = one.Columns = 8
        one.PixelSpacing, one.SliceThickness = [4, 4], 3
        one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 3 * number], [1, 0, 0, 0, 1, 0]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.RescaleSlope, one.RescaleIntercept = slope, 0
        one.PixelData = np.full((8, 8), value, np.int16).tobytes()
        one.save_as(f"{folder}/{number}.dcm", enforce_file_format=True)


def read(folder, pixel_type=None):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder))
    if pixel_type is not None:
        reader.SetOutputPixelType(pixel_type)
    image = reader.Execute()
    values = sitk.GetArrayFromImage(image)[:, 4, 4].round(6).tolist()
    print(f"{folder}: {image.GetPixelIDTypeAsString()}, a voxel of each slice: {values} Bq/ml")
    return values


later = [0.37, 0.5, 2.25]
write("slope_1_first", [1, *later])
write("slope_0.5_first", [0.5, *later])
right = [0, 3.7, 5.5, 45000]
print(f"stored value times slope: {right} Bq/ml")
found = [read("slope_1_first"), read("slope_0.5_first"), read("slope_1_first", sitk.sitkFloat64)]
sys.exit(0 if found == [[0, 3, 5, -20536], right, right] else "this has changed")
END
"$folder/venv/bin/python" read.py
