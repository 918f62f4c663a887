"""What the header of a PET series says of the patient, beside what SUV need."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pydicom

from twobe3.core.errors import UnusableScanError
from twobe3.dicom import body_size, header
from twobe3.dicom.reader import number, read_dataset, text


def read_covariates(dataset: pydicom.Dataset) -> dict[str, float | str]:
    """What the header says of the patient, repaired as the SUV rules repair it."""
    found: dict[str, float | str] = {}
    if (age := header.read_age_years(dataset)) is not None:
        found["age_years"] = age
    if (sex := text(dataset, "PatientSex")) in ("M", "F", "O"):
        found["sex"] = sex
    with suppress(UnusableScanError):
        found["weight_kg"] = body_size.weight_kg(number(dataset, "PatientWeight")).value
    with suppress(UnusableScanError):
        found["height_m"] = body_size.height_m(number(dataset, "PatientSize")).value
    return found


def keep_agreed(covariates: dict[str, float | str], copies: Iterable[Path]) -> dict[str, float | str]:
    """What the file or a copy of it says, without what they contradict each other in."""
    said = [covariates]
    for path in copies:
        with suppress(UnusableScanError):
            said.append(read_covariates(read_dataset(path)))
    values = {name: {one[name] for one in said if name in one} for one in said for name in one}
    return {name: agreed.pop() for name, agreed in values.items() if len(agreed) == 1}
