"""NSCLC Radiogenomics (TCIA): 211 patients with non-small-cell lung cancer, of Stanford and of the VA in Palo Alto.

Layout: ``NSCLCR01Radiogenomic_DATA_LABELS_2018-05-22_1500-shifted.csv``, one row a patient (``Case ID``, for instance
``AMC-001`` or ``R01-001``), dates as month/day/year, shifted by the same days within a patient. Columns after
``nsclc_radiogenomics_clinical`` of the Imaging Data Commons and the readers of that file on GitHub.

Time counts from ``PET Date``: a patient without one, or with an event on that day or before, has no time. A death
without recurrence competes with recurrence.
The segmentations of the collection were drawn on CT.

Collection: Bakr et al., Sci Data 5:180202, 2018, doi 10.7937/K9/TCIA.2017.7hs46erv.
"""

from __future__ import annotations

from collections.abc import Sequence

from twobe3.collections.adapters._adapter import CENTRE, Adapter, Rows, add_row, flag
from twobe3.collections.adapters._sheets import Record, Sheet, days_between, require_tables
from twobe3.core.endpoints import Binary, TimeToEvent

COVARIATES = {
    "sex": "Gender", "age_years": "Age at Histological Diagnosis", "smoking": "Smoking status",
    "pack_years": "Pack Years", "histology": "Histology", "t_stage": "Pathological T stage",
    "n_stage": "Pathological N stage", "m_stage": "Pathological M stage", "grade": "Histopathological Grade",
}  # fmt: skip
MUTATIONS = {"egfr": "EGFR mutation status", "kras": "KRAS mutation status", "alk": "ALK translocation status"}
OUTCOME = (
    "Recurrence",
    "Date of Recurrence",
    "Date of Last Known Alive",
    "Survival Status",
    "Date of Death",
    "PET Date",
)
COLUMNS = ("Case ID", "Patient affiliation", *COVARIATES.values(), *MUTATIONS.values(), *OUTCOME)
_MUTATED = {"mutant": "1", "wildtype": "0", "translocated": "1"}
_YES = {"yes": "1", "no": "0"}
_DEAD = {"dead": "1", "alive": "0"}
_UNKNOWN = frozenset({"not collected", "not recorded in database", "unknown", "n/a"})


def _rows(sheets: Sequence[Sheet]) -> Rows:
    (table, *_) = require_tables(sheets, COLUMNS, "NSCLC Radiogenomics")
    rows: Rows = {}
    for record in table.records:
        row = {name: _blank_if_unknown(record[column]) for name, column in COVARIATES.items()}
        row |= {name: flag(record[column], _MUTATED) for name, column in MUTATIONS.items()}
        row |= {CENTRE: record["Patient affiliation"], **_outcomes(record)}
        add_row(rows, record["Case ID"], row, table, record)
    return rows


def _blank_if_unknown(text: str) -> str:
    return "" if text.casefold() in _UNKNOWN else text


def _outcomes(record: Record) -> dict[str, str]:
    death, recurrence = flag(record["Survival Status"], _DEAD), flag(record["Recurrence"], _YES)
    seen_until = record["Date of Death" if death == "1" else "Date of Last Known Alive"]
    start, end = record["PET Date"], record["Date of Recurrence"] if recurrence == "1" else seen_until
    return {
        "death": death,
        "death_days": days_between(start, seen_until),
        "recurrence": "2" if (recurrence, death) == ("0", "1") else recurrence,
        "recurrence_days": days_between(start, end),
    }


ADAPTER = Adapter(
    name="nsclc-radiogenomics",
    title="NSCLC Radiogenomics",
    files=("NSCLCR01Radiogenomic_DATA_LABELS_2018-05-22_1500-shifted.csv",),
    endpoints=(
        TimeToEvent("overall survival", "death_days", "death", time_zero="the PET scan"),
        TimeToEvent("recurrence", "recurrence_days", "recurrence", competing="2", time_zero="the PET scan"),
        *(Binary(name.upper(), name) for name in MUTATIONS),
    ),
    covariates=tuple(COVARIATES),
    rows=_rows,
)
