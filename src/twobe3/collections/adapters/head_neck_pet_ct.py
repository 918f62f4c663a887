"""Head-Neck-PET-CT (TCIA): 298 patients of four hospitals in Québec.

Layout: ``INFOclinical_HN_Version2_30may2018.xlsx`` has a sheet for each hospital, HGJ, CHUS, HMR and CHUM, and one of
excluded patients; notes stand below each table. ``INFO_GTVcontours_HN.xlsx`` names, in sheets of the same names, the
regions of each patient's RTSTRUCT that are the gross tumour volume: column ``Name GTV Primary``, names separated by
commas; any other column whose name begins with ``Name GTV`` is read too, as that of the lymph nodes. Columns after
MaastrichtU-CDS/hn_cnn, pwoznicki/RadiomicsHub and dhaberl/PET-Head-and-Neck-Standardization on GitHub, and the table
``idc_current_clinical.head_neck_pet_ct_clinical`` of the Imaging Data Commons, which shows that one column is spelt
``last follow-up (days)`` and ``last follow-up(days)``.

Collection: Vallières et al., doi 10.7937/K9/TCIA.2017.8oje5q00. Split: Vallières et al., Sci Rep 7:10117, 2017.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from twobe3.collections.adapters._adapter import CENTRE, ROI, Adapter, Rows, add_row, flag
from twobe3.collections.adapters._sheets import Record, Sheet, require_tables
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.table import is_missing

SPLIT = {"HGJ": "train", "CHUS": "train", "HMR": "test", "CHUM": "test"}
FOLLOW_UP = "Time - diagnosis to last follow-up (days)"
# Published flag, published time, and what the adapted table calls the event.
EVENTS = (
    ("Locoregional", "Time - diagnosis to LR (days)", "lr"),
    ("Distant", "Time - diagnosis to DM (days)", "dm"),
    ("Death", "Time - diagnosis to Death (days)", "death"),
)
COVARIATES = {
    "sex": "Sex", "age_years": "Age", "primary_site": "Primary Site", "t_stage": "T-stage", "n_stage": "N-stage",
    "m_stage": "M-stage", "tnm_group": "TNM group stage", "hpv": "HPV status", "therapy": "Therapy",
}  # fmt: skip
COLUMNS = ("Patient #", *COVARIATES.values(), FOLLOW_UP, *(name for event in EVENTS for name in event[:2]))
CONTOURS = ("Patient", "Name GTV Primary")
_ID = re.compile(r"HN-(HGJ|CHUS|HMR|CHUM)-\d+")
_HPV = {"+": "positive", "positive": "positive", "-": "negative", "negative": "negative"}  # a bare "-" reads as empty


def _rows(sheets: Sequence[Sheet]) -> Rows:
    included = [sheet for sheet in sheets if sheet.name in ("", *SPLIT)]
    tables = require_tables(included or sheets, COLUMNS, "Head-Neck-PET-CT")
    _require_hospitals(tables)
    tumours = _tumours(sheets)
    rows: Rows = {}
    for sheet in tables:
        for record in sheet.records:
            found = _ID.fullmatch(record["Patient #"])
            if found is not None:
                row = {CENTRE: found[1], **_row(record), ROI: tumours.get(found[0], "")}
                add_row(rows, found[0], row, sheet, record)
            elif all(record[name] for name, _, _ in EVENTS):  # no note: a note has one cell
                reason = f"{sheet.label}: line {record.line} has outcomes, but no patient id in 'Patient #'"
                raise ConfigurationError(Code.TABLE_UNREADABLE, reason, remedy="write it as HN-HGJ-001")
    return rows


def _require_hospitals(tables: Sequence[Sheet]) -> None:
    """A workbook must have a sheet for each hospital."""
    for file in {sheet.file for sheet in tables if sheet.name}:
        there = {sheet.name for sheet in tables if sheet.file == file}
        if lacking := [centre for centre in SPLIT if centre not in there]:
            reason = f"{file} has no sheet {lacking[0]!r} with the published columns; it has {', '.join(sorted(there))}"
            raise ConfigurationError(Code.TABLE_UNREADABLE, reason, remedy="download it again")


def _row(record: Record) -> dict[str, str]:
    row = {name: record[column] for name, column in COVARIATES.items()}
    row["hpv"] = flag(row["hpv"], _HPV)
    follow_up = record[FOLLOW_UP]
    for event, time, name in EVENTS:
        happened = record[event]
        row[name] = happened
        row[f"{name}_days"] = record[time] if happened == "1" else follow_up
    return row


def _tumours(sheets: Sequence[Sheet]) -> dict[str, str]:
    """For each patient the names of the regions that are the tumour, separated by semicolons."""
    found: dict[str, str] = {}
    for sheet in sheets:
        if sheet.lacks(CONTOURS):
            continue
        columns = [column for column in sheet.columns if column.casefold().startswith("name gtv")]
        for record in sheet.records:
            cells = (record[column] for column in columns if not is_missing(record[column]))
            names = (name.strip() for cell in cells for name in cell.split(","))
            found[record["Patient"]] = ";".join(dict.fromkeys(name for name in names if name))
    return found


ADAPTER = Adapter(
    name="head-neck-pet-ct",
    title="Head-Neck-PET-CT",
    files=("INFOclinical_HN_Version2_30may2018.xlsx", "INFO_GTVcontours_HN.xlsx"),
    endpoints=(
        Binary("locoregional recurrence", "lr"),
        Binary("distant metastasis", "dm"),
        Binary("death", "death"),
        TimeToEvent("time to locoregional recurrence", "lr_days", "lr", time_zero="diagnosis"),
        TimeToEvent("time to distant metastasis", "dm_days", "dm", time_zero="diagnosis"),
        TimeToEvent("overall survival", "death_days", "death", time_zero="diagnosis"),
    ),
    covariates=tuple(COVARIATES),
    rows=_rows,
    split=SPLIT,
)
