"""HECKTOR 2021, 2022 and 2025: the challenges on head and neck tumours in PET/CT.

Layout, one row a patient, key ``PatientID``: the letters with which it begins are the centre (``CHUM-001``;
``CHGJ007`` in 2021).

* 2021: ``hecktor2021_patient_endpoint_training.csv`` (``Progression``, ``Progression free survival`` in days) and
  ``hecktor2021_patient_info_training.csv``; columns after numanai/BioMedIA-Hecktor2021 and LangDaniel/HECKTOR2021.
* 2022: ``hecktor2022_endpoint_training.csv`` (``Relapse``, ``RFS`` in days) and
  ``hecktor2022_clinical_info_training.csv``; columns after the notebook of Lrebaud/ICARE for that challenge.
* 2025: ``HECKTOR_2025_Training_Task_2.csv`` (RFS) and, for HPV, ``HECKTOR_2025_Training_Task_3.csv``, or sheet
  ``Data`` of ``HECKTOR_2025_Training_EHR_with_Data_Dictionary.xlsx``, which has both; columns after the organisers'
  BioMedIA-MBZUAI/HECKTOR2025. Gender: 0 female, 1 male.

The masks of 2022 and 2025 have the label 1 for primary tumours and 2 for lymph nodes, and those of 2021 the label 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

from twobe3.collections.adapters._adapter import CENTRE, Adapter, Rows, flag, require_new
from twobe3.collections.adapters._sheets import Record, Sheet, require_tables
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Endpoint

_ID = re.compile(r"([A-Z]+)-?\d+")
_SEX = {"m": "M", "male": "M", "1": "M", "f": "F", "female": "F", "0": "F"}


def _rows(sheets: Sequence[Sheet], *, edition: str, outcome: Mapping[str, str], clinical: Mapping[str, str]) -> Rows:
    """Join the tables of an edition by patient; a column that only one of them has is filled from that one."""
    columns = {**outcome, **clinical}
    needed = ["PatientID", *(column for name, column in outcome.items() if name != "hpv")]
    require_tables(sheets, needed, edition)
    require_tables(sheets, ["PatientID", clinical["age_years"]], edition)
    names = [name for name, column in columns.items() if any(not sheet.lacks([column]) for sheet in sheets)]
    rows: Rows = {}
    for sheet in sheets:
        if sheet.lacks(["PatientID"]):
            continue  # a data dictionary
        seen: set[str] = set()
        for record in sheet.records:
            patient = record["PatientID"]
            require_new(patient, seen, sheet, record)
            seen.add(patient)
            row = rows.setdefault(patient, {CENTRE: _centre(patient, sheet, record), **dict.fromkeys(names, "")})
            for name in names:
                row[name] = row[name] or record[columns[name]]
    for row in rows.values():
        row["sex"] = flag(row["sex"], _SEX)
    return rows


def _centre(patient: str, sheet: Sheet, record: Record) -> str:
    found = _ID.fullmatch(patient)
    if found is None:
        reason = f"{sheet.label}: line {record.line} has no patient id in 'PatientID'"
        raise ConfigurationError(
            Code.TABLE_UNREADABLE, reason, remedy="write it as in the challenge, for instance CHUM-001"
        )
    return found[1]


def _adapter(
    edition: str,
    files: tuple[str, ...],
    outcome: dict[str, str],
    clinical: dict[str, str],
    endpoints: Sequence[Endpoint],
) -> Adapter:
    title = f"HECKTOR {edition}"
    rows = partial(_rows, edition=title, outcome=outcome, clinical=clinical)
    return Adapter(f"hecktor-{edition}", title, files, tuple(endpoints), tuple(clinical), rows)


HECKTOR_2021 = _adapter(
    "2021",
    ("hecktor2021_patient_endpoint_training.csv", "hecktor2021_patient_info_training.csv"),
    {"progression": "Progression", "pfs_days": "Progression free survival"},
    {
        "sex": "Gender (1=M,0=F)", "age_years": "Age", "tobacco": "Tobacco", "alcohol": "Alcohol",
        "performance_status": "Performance status", "t_stage": "T-stage", "n_stage": "N-stage", "m_stage": "M-stage",
        "tnm_group": "TNM group", "tnm_edition": "TNM edition", "hpv": "HPV status (0=-, 1=+)",
        "chemotherapy": "Chemotherapy",
    },
    [TimeToEvent("progression-free survival", "pfs_days", "progression", time_zero="time zero of the challenge")],
)  # fmt: skip
HECKTOR_2022 = _adapter(
    "2022",
    ("hecktor2022_endpoint_training.csv", "hecktor2022_clinical_info_training.csv"),
    {"relapse": "Relapse", "rfs_days": "RFS"},
    {
        "sex": "Gender", "age_years": "Age", "weight_kg": "Weight", "tobacco": "Tobacco", "alcohol": "Alcohol",
        "performance_status": "Performance status", "hpv": "HPV status (0=-, 1=+)", "surgery": "Surgery",
        "chemotherapy": "Chemotherapy",
    },
    [TimeToEvent("recurrence-free survival", "rfs_days", "relapse", time_zero="time zero of the challenge")],
)  # fmt: skip
HECKTOR_2025 = _adapter(
    "2025",
    ("HECKTOR_2025_Training_Task_2.csv", "HECKTOR_2025_Training_Task_3.csv"),
    {"relapse": "Relapse", "rfs_days": "RFS", "hpv": "HPV Status"},
    {
        "sex": "Gender", "age_years": "Age", "tobacco": "Tobacco Consumption", "alcohol": "Alcohol Consumption",
        "performance_status": "Performance Status", "t_stage": "T-stage", "n_stage": "N-stage", "m_stage": "M-stage",
        "treatment": "Treatment",
    },
    [
        TimeToEvent("recurrence-free survival", "rfs_days", "relapse", time_zero="time zero of the challenge"),
        Binary("HPV", "hpv"),
    ],
)  # fmt: skip
