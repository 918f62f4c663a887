"""Soft-tissue-Sarcoma (TCIA): 51 patients of one hospital, lung metastasis during follow-up.

Layout: ``INFOclinical_STS.xlsx``; its first sheet has a row for each patient (``Patient ID``, for instance
``STS_001``) with notes below, its second the column ``LungMets`` (0 or 1). Columns after pwoznicki/RadiomicsHub, the
readers of that file on GitHub, and ``soft_tissue_sarcoma_clinical`` of the Imaging Data Commons. Without the second
sheet, whoever has ``lung`` in ``Outcome (recurrence, mets)`` is taken as having lung metastases.

The structure sets hold edema and research contours beside the mass, which is ``GTV_Mass``.

Collection: Vallières et al., doi 10.7937/K9/TCIA.2015.7GO2GSKS; Vallières et al., Phys Med Biol 60:5471, 2015.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from twobe3.collections.adapters._adapter import ROI, Adapter, Rows, add_row
from twobe3.collections.adapters._sheets import Record, Sheet, require_tables
from twobe3.core.endpoints import Binary, TimeToEvent

COVARIATES = {
    "sex": "Sex", "age_years": "Age", "histology": "Histological type", "mskcc_type": "MSKCC type",
    "site": "Site of primary STS", "grade": "Grade", "treatment": "Treatment",
}  # fmt: skip
OUTCOME, STATUS = "Outcome (recurrence, mets)", "Status (NED, AWD, D)"
FOLLOW_UP = "Time - diagnosis to last follow-up (days)"
COLUMNS = ("Patient ID", *COVARIATES.values(), OUTCOME, STATUS, FOLLOW_UP)
_ID = re.compile(r"STS_\d+")


def _rows(sheets: Sequence[Sheet]) -> Rows:
    (table, *_) = require_tables(sheets, COLUMNS, "Soft-tissue-Sarcoma")
    known = {
        record["Patient ID"]: record["LungMets"]
        for sheet in sheets
        if not sheet.lacks(["Patient ID", "LungMets"])
        for record in sheet.records
    }
    rows: Rows = {}
    for record in table.records:
        patient = record["Patient ID"]
        if _ID.fullmatch(patient):
            metastasis = known.get(patient, str(int("lung" in record[OUTCOME].casefold())))
            row = _row(record) | {"lung_metastasis": metastasis, ROI: "GTV_Mass"}
            add_row(rows, patient, row, table, record)
    return rows


def _row(record: Record) -> dict[str, str]:
    status = record[STATUS].upper()
    return {
        **{name: record[column] for name, column in COVARIATES.items()},
        "death": {"D": "1", "NED": "0", "AWD": "0"}.get(status, ""),
        "follow_up_days": record[FOLLOW_UP],
    }


ADAPTER = Adapter(
    name="soft-tissue-sarcoma",
    title="Soft-tissue-Sarcoma",
    files=("INFOclinical_STS.xlsx",),
    endpoints=(
        Binary("lung metastasis", "lung_metastasis"),
        TimeToEvent("overall survival", "follow_up_days", "death", time_zero="diagnosis"),
    ),
    covariates=tuple(COVARIATES),
    rows=_rows,
)
