#!/usr/bin/env bash
# MONAI's CSVSaver writes file names with a comma unquoted, so that a reader takes a part of the name for the prediction.
#
# monai 1.6.1 with torch 2.13.0. Two scans whose folders are called as archives export them, family name first ("DOE, J"),
# get the predictions 0.25 and 0.75. Its file has rows of three cells where rows of two were meant, no header and no
# quotes: Python's csv module reads the second cell, " J/pet.nii.gz", where the prediction should stand. With the
# delimiter set to a tab, which names do not hold, both come back. Whoever collects predictions by it sets `delimiter`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet monai==1.6.1 torch==2.13.0 numpy==2.4.6
cd "$folder"
cat >save.py <<'END'
import csv
import sys
from pathlib import Path

import torch
from monai.data import CSVSaver

names, risks = ["DOE, J/pet.nii.gz", "ROE, R/pet.nii.gz"], [0.25, 0.75]
read = {}
for called, delimiter in (("comma", ","), ("tab", "\t")):
    saver = CSVSaver(".", f"{called}.csv", delimiter=delimiter)
    saver.save_batch(torch.tensor(risks), {"filename_or_obj": names})
    saver.finalize()
    print(f"{called}.csv: {Path(f'{called}.csv').read_text()!r}")
    with open(f"{called}.csv", newline="") as file:
        read[called] = [row[:2] for row in csv.reader(file, delimiter=delimiter)]
    print(f"{called}.csv as the csv module reads it: {read[called]}")
wanted = {
    "comma": [["DOE", " J/pet.nii.gz"], ["ROE", " R/pet.nii.gz"]],
    "tab": [["DOE, J/pet.nii.gz", "0.25"], ["ROE, R/pet.nii.gz", "0.75"]],
}
sys.exit(0 if read == wanted else "this has changed")
END
"$folder/venv/bin/python" -W ignore save.py
