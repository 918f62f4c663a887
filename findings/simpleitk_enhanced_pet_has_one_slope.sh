#!/usr/bin/env bash
# SimpleITK applies the slope of the first frame of an enhanced PET to all its frames.
#
# SimpleITK 2.5.7 on a Legacy Converted Enhanced PET by highdicom 0.28.2, made of four slices of 10 counts whose slopes are
# 0.5, 1.5, 2.25 and 1. Each frame keeps its slope in its own Pixel Value Transformation Sequence, as DICOM PS3.3
# C.7.6.16.2.9 has it. dcm2niix 1.0.20260724 and highdicom read 5, 15, 22.5 and 10 Bq/ml from it, and SimpleITK does from
# the four classic files; from the enhanced one it reads 10 in every frame, right for the first alone, with the right
# geometry and without a warning. One would expect the values or a refusal. GDCM beneath it reads the shared groups and
# those of the first frame (a remark in ITK's pull request 2010, there on positions). Whoever reads enhanced PET goes by each
# frame's slope, or has it read by one of the other two.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
    highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6 nibabel==5.4.2 SimpleITK==2.5.7 dcm2niix==1.0.20260724
cd "$folder"
mkdir classic enhanced
cat >make.py <<'END'
import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid

study, series, frame = (generate_uid() for _ in range(3))
slices = []
for number, slope in enumerate([0.5, 1.5, 2.25, 1]):
    one, one.file_meta = Dataset(), FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
    one.PatientID, one.PatientName, one.Modality, one.Units = "phantom", "Phantom^One", "PT", "BQML"
    one.PatientBirthDate = one.PatientSex = one.AccessionNumber = one.ReferringPhysicianName = ""
    one.StudyID, one.SeriesNumber, one.Manufacturer, one.PositionReferenceIndicator = "1", 1, "phantom", ""
    one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = "20260101"
    one.StudyTime = one.SeriesTime = one.AcquisitionTime = one.ContentTime = "120000"
    one.SeriesType, one.ImageType, one.CountsSource = ["WHOLE BODY", "IMAGE"], ["ORIGINAL", "PRIMARY"], "EMISSION"
    one.CorrectedImage, one.DecayCorrection, one.CollimatorType = ["DECY", "ATTN"], "START", "NONE"
    one.FrameReferenceTime, one.ActualFrameDuration, one.NumberOfSlices = 0, 120000, 4
    one.InstanceNumber = one.ImageIndex = number + 1
    one.Rows = one.Columns = 16
    one.PixelSpacing, one.SliceThickness, one.PatientPosition = [4, 4], 3, "HFS"
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 3 * number], [1, 0, 0, 0, 1, 0]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.RescaleSlope, one.RescaleIntercept = slope, 0
    one.PixelData = np.full((16, 16), 10, np.int16).tobytes()
    one.save_as(f"classic/{number}.dcm", enforce_file_format=True)
    slices.append(one)
hd.legacy.LegacyConvertedEnhancedPETImage(slices, generate_uid(), 2, generate_uid(), 1).save_as("enhanced/pet.dcm")
END
cat >look.py <<'END'
import sys

import highdicom
import nibabel
import SimpleITK as sitk

reader = sitk.ImageSeriesReader()
reader.SetFileNames(reader.GetGDCMSeriesFileNames("classic"))
enhanced = sitk.ReadImage("enhanced/pet.dcm")
by_position = highdicom.imread("enhanced/pet.dcm").get_volume().to_patient_orientation("HPR")  # from the feet up
found = {
    "SimpleITK, classic": sitk.GetArrayFromImage(reader.Execute())[:, 8, 8],
    "dcm2niix, enhanced": nibabel.load("enhanced/read.nii").get_fdata()[8, 8],
    "highdicom, enhanced": by_position.array[:, 8, 8],
    "SimpleITK, enhanced": sitk.GetArrayFromImage(enhanced)[:, 8, 8],
}
found = {name: values.round(6).tolist() for name, values in found.items()}
for name, values in found.items():
    print(f"{name}: {values} Bq/ml")
heights = [enhanced.TransformIndexToPhysicalPoint((0, 0, number))[2] for number in range(4)]
print(f"SimpleITK, enhanced: frames at z = {heights} mm")
wrong = found.pop("SimpleITK, enhanced")
right = all(values == [5, 15, 22.5, 10] for values in found.values())
sys.exit(0 if right and wrong == [10] * 4 else "this has changed")
END
venv/bin/python -W ignore make.py
venv/bin/dcm2niix -f read -z n -b n -o enhanced enhanced
venv/bin/python -W ignore look.py
