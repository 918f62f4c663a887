"""A whole cohort of phantom patients on disk, as a hospital would hand it over: DICOM and a clinical table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from twobe3.io.csv import to_csv
from twobe3.io.files import write_atomic
from twobe3.phantom.ct_writer import write_ct_series
from twobe3.phantom.dicom_writer import PETHeader, Vendor, derive_uid, write_pet_series
from twobe3.phantom.patient import PhantomPatient, PhantomSpec, PhantomSubject, make_patient
from twobe3.phantom.rtstruct_writer import write_rtstruct
from twobe3.phantom.scanner import SCANNERS
from twobe3.runtime.parallel import run_tasks

COLUMNS = ("patient_id", "centre", "age", "sex", "recurrence_days", "recurrence", "metastasis")
_FIRST_DAY = datetime(2019, 1, 7)


class _Style(NamedTuple):
    """How a scanner stores its images, and how often a centre uses it."""

    share: float
    vendor: Vendor
    units: Literal["BQML", "CNTS"] = "BQML"
    decay_correction: Literal["START", "ADMIN"] = "START"


STYLES: dict[str, tuple[_Style, ...]] = {
    "north": (_Style(0.75, "siemens"), _Style(0.25, "ge")),
    "south": (
        _Style(0.35, "ge", decay_correction="ADMIN"),
        _Style(0.40, "philips", units="CNTS"),
        _Style(0.25, "philips"),
    ),
}


@dataclass(frozen=True, eq=False)
class Case:
    """A patient of a cohort, with the centre of the scan and the DICOM header that it is stored with."""

    centre: str
    patient: PhantomPatient
    header: PETHeader

    @property
    def row(self) -> tuple[str | int, ...]:
        """Its row of the clinical table, in the order of ``COLUMNS``."""
        subject, outcome = self.patient.subject, self.patient.subject.outcome
        return (
            self.header.patient_id, self.centre, subject.age_years, subject.sex,
            outcome.recurrence_days, int(outcome.recurrence), int(outcome.metastasis),
        )  # fmt: skip


def draw_case(seed: int, number: int, spec: PhantomSpec | None = None) -> Case:
    """Draw patient ``number``, from 1, of the cohort of a seed; the scanner is drawn, whatever ``spec`` says."""
    rng = np.random.default_rng([seed, number])
    scanner = SCANNERS[str(rng.choice(list(SCANNERS)))]
    patient_id = f"PHANTOM-{number:03d}"
    frame = derive_uid(f"{seed}/{patient_id}/frame of reference")
    patient = make_patient(rng, spec=replace(spec or PhantomSpec(), scanner=scanner), frame_of_reference=frame)
    return Case(scanner.centre, patient, _draw_header(patient.subject, patient_id, scanner.centre, seed, rng))


def write_cohort(
    folder: Path | str,
    *,
    patients: int = 48,
    seed: int = 0,
    spec: PhantomSpec | None = None,
    workers: int = 1,
) -> Path:
    """Write patients of two centres as DICOM, with their contours and their outcomes.

    Parameters
    ----------
    folder : path
        Gets ``dicom/scan_001/PET/*.dcm``, ``dicom/scan_001/RTSTRUCT/RS.dcm`` (not for patients without lesions) and
        ``clinical.csv``, which is written last.
    patients : int
        How many; the first n of a larger cohort of the same seed are the same.
    seed : int
        Equal seeds give equal files, byte by byte.
    spec : PhantomSpec, optional
        What is fixed about the patients, but for the scanner, which each centre has its own of. With ``ct`` the CT of
        each patient is written too, as ``dicom/scan_001/CT/*.dcm``; the PET are the same.
    workers : int
        Processes that write patients side by side. A script that asks for more than one must guard its start with
        ``if __name__ == "__main__"``, since they import it.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``, ``WORKER_DIED``.
    """
    folder = Path(folder)
    numbers = range(1, patients + 1)
    write = partial(_write_case, seed=seed, spec=spec)
    rows = dict(run_tasks(write, numbers, shared=folder / "dicom", workers=workers, description="phantoms to DICOM"))
    write_atomic(folder / "clinical.csv", to_csv([COLUMNS, *(rows[number] for number in numbers)]))
    return folder


def _write_case(folder: Path, number: int, *, seed: int, spec: PhantomSpec | None) -> tuple[str | int, ...]:
    """Write a patient's files; gives the row of the clinical table."""
    case = draw_case(seed, number, spec)
    scan = folder / f"scan_{number:03d}"
    write_pet_series(case.patient.volume, scan / "PET", header=case.header)
    if case.patient.ct is not None:
        write_ct_series(case.patient.ct, scan / "CT", header=case.header)
    if case.patient.lesions:
        write_rtstruct(case.patient.mask, scan / "RTSTRUCT" / "RS.dcm", header=case.header)
    return case.row


def _draw_header(
    subject: PhantomSubject, patient_id: str, centre: str, seed: int, rng: np.random.Generator
) -> PETHeader:
    """Injection, times and scanner as they are usual in a centre."""
    styles = STYLES[centre]
    style = styles[rng.choice(len(styles), p=[style.share for style in styles])]
    injected = _FIRST_DAY + timedelta(
        days=int(rng.integers(0, 1400)), hours=int(rng.integers(8, 16)), seconds=int(rng.integers(0, 3600))
    )
    return PETHeader(
        patient_id=patient_id,
        sex=subject.sex,
        age_years=subject.age_years,
        weight_kg=subject.weight_kg,
        height_m=subject.height_m,
        injected_dose_bq=float(round(subject.weight_kg * rng.uniform(3.0, 4.2), 1)) * 1e6,
        injected=injected,
        started=injected + timedelta(seconds=int(rng.normal(3700, 300))),
        vendor=style.vendor,
        units=style.units,
        decay_correction=style.decay_correction,
        frame_duration_s=float(rng.choice([90.0, 120.0, 150.0, 180.0])),
        slices_per_bed=35,
        uid_seed=str(seed),
    )
