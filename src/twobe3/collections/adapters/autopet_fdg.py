"""FDG-PET-CT-Lesions (autoPET, TCIA): 1014 whole-body scans of 900 patients of Tübingen.

Layout: ``fdg_metadata.csv``, the series list of the download with three columns more: one row a series,
``Subject ID`` (``PETCT_`` and ten digits), ``Study Date``, ``diagnosis`` (``MELANOMA``, ``LUNG_CANCER``, ``LYMPHOMA``,
``NEGATIVE``), ``age`` (``056Y``), ``sex``. Columns after the file list of the data set at FDAT, doi
10.57754/FDAT.6gjsg-zcg93, and its readers on GitHub.

Some patients were scanned several times with different diagnoses. Which scan is used is not known here, so what
differs between the studies of a patient is left empty.

Collection: Gatidis et al., Sci Data 9:601, 2022, doi 10.7937/gkr0-xv29.
"""

from __future__ import annotations

from collections.abc import Sequence

from twobe3.collections.adapters._adapter import Adapter, Rows, numbers
from twobe3.collections.adapters._sheets import Sheet, require_tables
from twobe3.core.endpoints import Binary, Continuous

COLUMNS = ("Subject ID", "diagnosis", "age", "sex")
DIAGNOSES = ("melanoma", "lung_cancer", "lymphoma")


def _rows(sheets: Sequence[Sheet]) -> Rows:
    said: dict[str, list[tuple[str, str, str]]] = {}
    for sheet in require_tables(sheets, COLUMNS, "FDG-PET-CT-Lesions"):
        for record in sheet.records:
            cells = record["diagnosis"].lower(), numbers(record["age"]), record["sex"]
            said.setdefault(record["Subject ID"], []).append(cells)
    return {patient: _row(*map(_consensus, zip(*rows, strict=True))) for patient, rows in said.items()}


def _consensus(cells: Sequence[str]) -> str:
    (first, *others) = dict.fromkeys(cells)
    return "" if others else first


def _row(diagnosis: str, age_years: str, sex: str) -> dict[str, str]:
    flags = {name: str(int(diagnosis == name)) if diagnosis else "" for name in DIAGNOSES}
    lesion = str(int(diagnosis != "negative")) if diagnosis else ""
    return {"diagnosis": diagnosis, "lesion": lesion, **flags, "age_years": age_years, "sex": sex}


ADAPTER = Adapter(
    name="autopet-fdg",
    title="FDG-PET-CT-Lesions (autoPET)",
    files=("fdg_metadata.csv",),
    endpoints=(
        Binary("lesion", "lesion"),
        *(Binary(name.replace("_", " "), name) for name in DIAGNOSES),
        Continuous("age", "age_years", "year"),
        Binary("sex", "sex", "M"),
    ),
    covariates=("sex", "age_years"),
    rows=_rows,
)
