#!/usr/bin/env bash
# MONAI's Resize moves a mask against the image that is resized with it, and gives both the same affine.
#
# monai 1.6.1 with torch 2.13.0. An image is brought to a third of its size with the mode "area" or "trilinear", its mask with
# "nearest", so that labels stay labels. A ramp that holds each voxel's own position in mm shows where a value comes from:
# with the first two it is where the affine of the result says, with "nearest" 4 mm short of it at voxels of 4 mm, along
# every axis, as torch takes the first voxel of three and not the middle one. A lesion of 3 x 3 x 3 voxels with an SUV of 10
# has 0.37 under its own mask after that, and 2.96 with "nearest-exact", a mode that MONAI takes as well. Zoom does the
# same. torch says of "nearest" that it keeps an old error (pytorch's issue 34808), and for an array without a position
# that is a matter of taste; the affine that MONAI computes, and writes to NIfTI, is that of the middle voxel for every
# mode. Whoever resizes masks by it says "nearest-exact"; at even factors that too is half a voxel off, to the other side.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet monai==1.6.1 torch==2.13.0 numpy==2.4.6
cd "$folder"
cat >resize.py <<'END'
import sys

import torch
from monai.data import MetaTensor
from monai.transforms import Resize, Zoom

affine = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0]))
position_mm = 4 * torch.arange(24.0)
ramp = MetaTensor(position_mm[None, :, None, None].expand(1, 24, 24, 24).clone(), affine=affine)
mask = MetaTensor(torch.zeros(1, 24, 24, 24), affine=affine)
mask[:, 10:13, 10:13, 10:13] = 1


def ways(mode):
    return {"Resize": Resize((8, 8, 8), mode=mode), "Zoom": Zoom(1 / 3, mode=mode, keep_size=False)}


def shift_mm(resized):
    said_mm = resized.affine[0, 0] * torch.arange(8) + resized.affine[0, 3]
    return round((resized.as_tensor()[0, :, 4, 4] - said_mm).mean().item(), 2)


shifts, suv = {}, {}
for mode in ("area", "trilinear", "nearest", "nearest-exact"):
    for name, transform in ways(mode).items():
        shifts[name, mode] = shift_mm(transform(ramp))
        print(f"{name}, {mode}: values come from {shifts[name, mode]} mm beside where the affine places them")
for mode in ("nearest", "nearest-exact"):
    for name, transform in ways(mode).items():
        uptake = ways("area")[name](10 * mask)
        suv[name, mode] = round(uptake[transform(mask) > 0].mean().item(), 2)
        print(f"{name}, {mode}: a lesion with an SUV of 10 has {suv[name, mode]} under its mask")
wanted_shifts = {key: -4.0 if key[1] == "nearest" else 0.0 for key in shifts}
wanted_suv = {key: 0.37 if key[1] == "nearest" else 2.96 for key in suv}
sys.exit(0 if (shifts, suv) == (wanted_shifts, wanted_suv) else "this has changed")
END
"$folder/venv/bin/python" -W ignore resize.py
