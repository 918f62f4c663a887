#!/usr/bin/env bash
# A DICOM Segmentation that leaves out its empty frames is read closed up, without a word.
#
# dcm2niix 1.0.20260724 and SimpleITK 2.5.7 on a binary SEG by highdicom 0.28.2, whose default leaves out frames without a
# voxel, as DICOM PS3.3 C.8.20.2 allows. One lesion in slices 3 and 4, one in slices 9 and 10, 3 mm apart. dcm2niix stacks
# the four frames at 6, 9, 12 and 15 mm, so that the second lesion lies 12 mm too low, and warns of the bit depth alone;
# SimpleITK gives four slices with a spacing of 1 × 1 × 1 mm. With every frame written both place both lesions rightly.
# Whoever passes a SEG on writes all frames, or has it read by a program that goes by each frame's position.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
    highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6 nibabel==5.4.2 SimpleITK==2.5.7 dcm2niix==1.0.20260724
cd "$folder"
cat >make.py <<'END'
import sys

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, generate_uid

same = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()}
empty = (
    "PatientBirthDate PatientSex StudyID StudyDate StudyTime AccessionNumber ReferringPhysicianName "
    "PositionReferenceIndicator"
).split()
slices = []
for number in range(12):
    one = Dataset()
    for keyword in empty:
        setattr(one, keyword, "")
    for keyword, value in same.items():
        setattr(one, keyword, value)
    one.SOPClassUID, one.SOPInstanceUID, one.Modality = CTImageStorage, generate_uid(), "CT"
    one.PatientID, one.PatientName = "phantom", "Phantom^One"
    one.PatientPosition = "HFS"
    one.Rows = one.Columns = 16
    one.PixelSpacing, one.SliceThickness = [2.0, 2.0], 3.0
    one.ImagePositionPatient, one.ImageOrientationPatient = [0.0, 0.0, 3.0 * number], [1, 0, 0, 0, 1, 0]
    slices.append(one)
mask = np.zeros((12, 16, 16), np.uint8)
mask[2:4, 4:8, 4:8] = mask[8:10, 10:13, 10:13] = 1
algorithm = hd.AlgorithmIdentificationSequence("phantom", codes.cid7162.ArtificialIntelligence, "1")
segment = hd.seg.SegmentDescription(1, "lesion", codes.SCT.Tissue, codes.SCT.Tissue, "AUTOMATIC", algorithm)
hd.seg.Segmentation(
    slices, mask, "BINARY", [segment], generate_uid(), 1, generate_uid(), 1, "m", "m", "1", "1",
    omit_empty_frames=sys.argv[1] == "omitted",
).save_as(f"{sys.argv[1]}/seg.dcm")
END
cat >look.py <<'END'
import sys

import nibabel
import numpy as np
import SimpleITK

kind = sys.argv[1]
image = nibabel.load(f"{kind}/read.nii")
voxels = np.argwhere(image.get_fdata() > 0)
heights = np.unique((np.c_[voxels, np.ones(len(voxels))] @ image.affine.T)[:, 2].round(2)).tolist()
print(f"{kind}: dcm2niix places the mask at z = {heights} mm")
spacing = SimpleITK.ReadImage(f"{kind}/seg.dcm").GetSpacing()
print(f"{kind}: SimpleITK has a spacing of {spacing} mm")
wanted = {"omitted": ([6, 9, 12, 15], (1, 1, 1)), "written": ([6, 9, 24, 27], (2, 2, 3))}[kind]
sys.exit(0 if (heights, spacing) == wanted else "this has changed")
END
for kind in omitted written; do
    mkdir "$kind"
    venv/bin/python make.py "$kind"
    venv/bin/dcm2niix -f read -z n -o "$kind" "$kind" | grep -i warning
    venv/bin/python look.py "$kind"
done
