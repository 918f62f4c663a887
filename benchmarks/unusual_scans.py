"""How often patients like those of the training are flagged, and what becomes of scans that are not.

    python benchmarks/unusual_scans.py DATA [--out FILE.json]

DATA is the folder of real PET that TWOBE3_DATA names. Of the 51 patients with soft-tissue sarcoma each fifth is left
out once: a `spatial` model is fitted on the others, saved, read back, and predicts those left out, as `twobe3 predict`
does. Then a model of all of them predicts odd scans: another tracer, CT numbers, a whole body, one value, a sphere,
crops, training patients again. The folds are those of seed 0; nothing was chosen on them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import twobe3 as tb
from twobe3.core.grid import resample
from twobe3.core.volume import Geometry, SUVVolume
from twobe3.io.nifti import write_nifti
from twobe3.models import SpatialModel
from twobe3.phantom.cohort import draw_case
from twobe3.runtime.progress import track
from twobe3.scans.fingerprint import Landmarks, coarsen_patches, compare_landmarks, expand_patches, find_landmarks

ENDPOINT = tb.Binary("lung metastasis", "lung_metastasis")
GRID = tb.Grid(4.0, (384.0, 320.0, 320.0))
PHANTOMS = 16
ODD = 5  # patients of whom each kind of odd scan is made
FDG = "Fluorodeoxyglucose"


def read_sarcomas(data: Path) -> tb.Cohort:
    """The 51 patients."""
    return tb.read_cohort(data / "sts" / "dicom", clinical=data / "sts" / "clinical.csv", endpoint=ENDPOINT, grid=GRID)


def folder_of(data: Path, patient_id: str) -> Path:
    """The scan of a patient."""
    return data / "sts" / "dicom" / patient_id / "PET"


def flag_left_out(cohort: tb.Cohort, data: Path, scratch: Path) -> dict[str, Any]:
    """Predict each patient by a model that has not seen the patient; counts of codes and flags."""
    codes: Counter[str] = Counter()
    distant = []
    for fold in track(tb.CrossValidation(5, 1, seed=0).split(cohort.sample), "folds"):
        path = SpatialModel().fit(cohort.subset(fold.train)).save(scratch / f"fold{fold.fold}.safetensors")
        left_out = cohort.subset(fold.test)
        found = tb.predict(path, [folder_of(data, one) for one in left_out.patients]).predictions
        codes.update(one.code or "predicted" for one in found)
        codes.update(flag.code for one in found for flag in one.flags)
        distant.append(sum(flag.code == "UNUSUAL_SCAN" for one in found for flag in one.flags))
    return {"patients": len(cohort), "codes": dict(codes), "flagged for distance in each fold": distant}


def write_scan(folder: Path, volume: SUVVolume, tracer: str = FDG) -> Path:
    """Write a scan as NIfTI under a new id."""
    folder.mkdir(parents=True)
    write_nifti(folder / "scan.nii.gz", volume)
    (folder / "scan.json").write_text(
        json.dumps({"calibration": {"type": "bw"}, "patient_id": folder.name, "tracer": tracer})
    )
    return folder


def make_odd(volume: SUVVolume, ct: SUVVolume) -> Iterator[tuple[str, SUVVolume, str]]:
    """Odd scans made of one patient's: what, its volume, its tracer."""
    suv, shape = volume.array, volume.array.shape
    inside = np.linalg.norm([n - (s - 1) / 2 for n, s in zip(np.indices(shape), shape, strict=True)], axis=0)
    yield "another tracer", volume, "68Ga-PSMA-11"
    yield "no tracer told", volume, ""
    yield "CT numbers", ct, FDG
    yield "one value", replace(volume, array=np.full(shape, 1.0, np.float32)), FDG
    yield "a sphere of SUV 10 in air", replace(volume, array=np.float32(10.0) * (inside < 8)), FDG
    yield "noise", replace(volume, array=np.random.default_rng(0).gamma(2.0, 1.0, shape).astype(np.float32)), FDG
    yield "SUV times 10", replace(volume, array=10 * suv), FDG
    yield "upside down and back to front", replace(volume, array=suv[::-1, ::-1]), FDG
    yield "ten slices", cut(volume, (10, *shape[1:])), FDG
    yield "half of every side", cut(volume, tuple(n // 2 for n in shape)), FDG
    yield "without three slices at each end", cut(volume, (shape[0] - 6, *shape[1:])), FDG


def cut(volume: SUVVolume, shape: tuple[int, ...]) -> SUVVolume:
    """The middle of a volume."""
    start = [(n - kept) // 2 for n, kept in zip(volume.array.shape, shape, strict=True)]
    part = tuple(slice(one, one + kept) for one, kept in zip(start, shape, strict=True))
    affine = volume.geometry.affine.copy()
    affine[:3, 3] = volume.geometry.to_mm(start)
    array = volume.array[part]
    return replace(volume, array=array, geometry=Geometry(array.shape, affine))


def predict_odd(cohort: tb.Cohort, data: Path, scratch: Path) -> dict[str, dict[str, int]]:
    """What a model of all patients says of odd scans of some of them: code or flags to their number."""
    path = SpatialModel().fit(cohort).save(scratch / "all.safetensors")
    said: dict[str, Counter[str]] = {}
    for number, patient in enumerate(cohort.patients[:ODD]):
        volume = tb.read_suv(folder_of(data, patient))
        for what, odd, tracer in make_odd(volume, read_ct(data, patient, volume)):
            place = scratch / f"{what} {number}".replace(" ", "-")
            said.setdefault(what, Counter())[describe(path, write_scan(place, odd, tracer))] += 1
    said["the whole body of a training patient"] = Counter([describe(path, data / "ge_whole_body" / "PET")])
    whole = [describe(path, folder_of(data, one)) for one in cohort.patients]
    said["a training patient again"] = Counter(whole)
    return {what: dict(counted) for what, counted in said.items()}


def read_ct(data: Path, patient: str, volume: SUVVolume) -> SUVVolume:
    """The CT of a patient as if it were PET: its Hounsfield units in the place of SUV."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(data / "sts_ct" / patient / "CT")))
    image = reader.Execute()
    array = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.array(image.GetDirection()).reshape(3, 3)) * image.GetSpacing()[::-1]
    affine[:3, 3] = image.GetOrigin()
    return replace(volume, array=array, geometry=Geometry(array.shape, affine))


def describe(model: Path, scan: Path) -> str:
    """The code of a refusal, else the flags of the prediction."""
    (one,) = (found for found in tb.predict(model, [scan]).predictions if found.code != "NOT_PET")
    return one.code or ", ".join(flag.code for flag in one.flags) or "predicted without a flag"


def recognise(cohort: tb.Cohort) -> dict[str, Any]:
    """Landmarks that scans of two patients share, and those that a scan shares with a changed copy of itself."""
    volumes = [cohort.volume(subject) for subject in cohort.subjects]
    marks = [coarsen(find_landmarks(volume, cohort.grid.spacing_mm)) for volume in volumes]
    changed = {
        "without three slices at each end": lambda suv: suv[3:-3],
        "shifted by half a voxel": lambda suv: np.asarray((suv[:-1] + suv[1:]) / 2, np.float32),
        "times 1.1": lambda suv: suv * np.float32(1.1),
    }
    own = {
        what: min(
            compare_landmarks([mark, coarsen(find_landmarks(change(suv), cohort.grid.spacing_mm))], 0, 1).shared
            for mark, suv in zip(marks, volumes, strict=True)
        )
        for what, change in changed.items()
    }
    phantoms = [resample(draw_case(0, number).patient.volume, tb.Grid()).array for number in range(1, PHANTOMS + 1)]
    others = [coarsen(find_landmarks(suv, tb.Grid().spacing_mm)) for suv in phantoms]
    return {
        "of two patients, at most": count_shared(marks),
        f"of two of {PHANTOMS} phantoms of one anatomy, at most": count_shared(others),
        **own,
    }


def count_shared(marks: Sequence[Landmarks]) -> int:
    """The most landmarks that two of these scans share."""
    return max(compare_landmarks(marks, i, j).shared for j in range(len(marks)) for i in range(j))


def coarsen(landmarks: Landmarks) -> Landmarks:
    """Landmarks as a model file holds them."""
    return Landmarks(landmarks.places_mm, expand_patches(coarsen_patches(landmarks.patches)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        cohort = read_sarcomas(arguments.data)
        found = {
            "left out": flag_left_out(cohort, arguments.data, scratch),
            "odd": predict_odd(cohort, arguments.data, scratch),
            "shared landmarks": recognise(cohort),
        }
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
