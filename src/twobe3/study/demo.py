"""The demonstration: a cohort of phantoms written as DICOM, and a whole study on it."""

from __future__ import annotations

from pathlib import Path

from twobe3 import phantom
from twobe3.io.files import require_folder, write_atomic
from twobe3.runtime.process import available_cores

# Metastasis depends on where along the body the four lesions of a patient lie, which no measure of how much disease
# there is tells; recurrence on how much there is, which such measures tell well.
SPEC = phantom.PhantomSpec(lesions=4, outcomes="separate")
SEED = 10

STUDY = """\
# A study on phantoms: what the models find here says nothing about patients.
name = "Demonstration on {patients} phantoms"
notes = [
    "Every scan, lesion and outcome is simulated: the figures show that the road works, nothing about patients.",
    "Metastasis depends on where along the body the lesions lie, recurrence on their uptake and volume.",
    "To be done in three minutes, cnn2d and cnn3d train for fewer epochs than usual: how they compare is no result.",
    "The 2D network was taught on slices of other phantoms of the same kind, among others.",
]

[cohort]
images = "cohort/dicom"
clinical = "cohort/clinical.csv"
centre = "centre"

[[endpoint]]
name = "recurrence"
kind = "time-to-event"
time = "recurrence_days"
event = "recurrence"

[[endpoint]]
name = "metastasis"
kind = "binary"
column = "metastasis"

[volume]
spacing_mm = 8.0
field_of_view_mm = [1024, 512, 512]

[[model]]
kind = "2be3-net"
inner_folds = 3

[[model]]
kind = "cnn2d"
epochs = 15
ensemble_size = 1

[[model]]
kind = "cnn3d"
epochs = 4
width = 8

[[model]]
kind = "pooled"

# Volume, SUVmax, TLG, image extent, age and sex, and the centre are compared with these models without being named.

[validation]
folds = 3
repeats = 1
seed = {seed}
"""


def write_demo(out: Path, *, patients: int = 48, seed: int = SEED) -> Path:
    """Write a cohort of phantoms as DICOM, unless it is there, with a study file beside it.

    Parameters
    ----------
    out : Path
        ``cohort/`` and ``study.toml`` are written here.
    patients, seed : int
        Size of the cohort, and of every random choice.

    Returns
    -------
    Path
        The study file.
    """
    require_folder(out)
    study = out / "study.toml"
    text = STUDY.format(patients=patients, seed=seed)
    written = out / "cohort" / "clinical.csv"
    if not (written.exists() and study.exists() and study.read_text() == text):
        phantom.write_cohort(out / "cohort", patients=patients, seed=seed, spec=SPEC, workers=available_cores())
        write_atomic(study, text.encode())
    return study
