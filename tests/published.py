"""The tables of Head-Neck-PET-CT as they are published, written by the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from openpyxl import Workbook

CENTRES = ("HGJ", "CHUS", "HMR", "CHUM")
CLINICAL, CONTOURS = "INFOclinical_HN_Version2_30may2018.xlsx", "INFO_GTVcontours_HN.xlsx"
COLUMNS = (
    "Patient #", "Sex", "Age", "Primary Site", "T-stage", "N-stage", "M-stage", "TNM group stage", "HPV status",
    "Time - diagnosis to diagnosis (days)", "Time - diagnosis to PET (days)", "Time - diagnosis to CT sim (days)",
    "Time - diagnosis to start treatment (days)", "Time - diagnosis to end treatment (days)", "Therapy", "Surgery",
    "Time - diagnosis to last follow-up (days)", "Locoregional", "Distant", "Death",
    "Time - diagnosis to LR (days)", "Time - diagnosis to DM (days)", "Time - diagnosis to Death (days)",
)  # fmt: skip
# One hospital's sheet spells this column without a blank.
OTHER_SPELLING = {"CHUM": {"Time - diagnosis to last follow-up (days)": "Time - diagnosis to last follow-up(days)"}}

Cells = Mapping[str, object]


def patient(
    patient_id: str, *, lr: int | None = None, dm: int | None = None, death: int | None = None, follow_up: int = 1500,
    hpv: str = "N/A", sex: str = "M", age: float = 61,
) -> Cells:  # fmt: skip
    """A row of the clinical workbook: days from diagnosis to each event, None where it did not happen."""
    days = {"Locoregional": lr, "Distant": dm, "Death": death}
    times = {"LR": lr, "DM": dm, "Death": death}
    return {
        "Patient #": patient_id, "Sex": sex, "Age": age, "Primary Site": "Oropharynx", "T-stage": "T2",
        "N-stage": "N2b", "M-stage": "M0", "TNM group stage": "Stage IV", "HPV status": hpv,
        "Time - diagnosis to diagnosis (days)": 0, "Time - diagnosis to PET (days)": 17, "Therapy": "chemo radiation",
        "Time - diagnosis to last follow-up (days)": follow_up,
        **{name: int(day is not None) for name, day in days.items()},
        **{f"Time - diagnosis to {name} (days)": day for name, day in times.items()},
    }  # fmt: skip


def write_workbook(path: Path, sheets: Mapping[str, Sequence[Sequence[object]]]) -> Path:
    """Write rows of cells as the sheets of a workbook."""
    book = Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


def write_clinical(folder: Path, rows: Sequence[Cells], *, without: str = "") -> Path:
    """Write the clinical workbook: a sheet for each hospital with notes below it, and one of excluded patients."""
    sheets: dict[str, list[list[object]]] = {}
    for centre in CENTRES:
        columns = [column for column in COLUMNS if column != without]
        spelt = [OTHER_SPELLING.get(centre, {}).get(column, column) for column in columns]
        own = [row for row in rows if f"-{centre}-" in str(row["Patient #"])]
        cells = [[row.get(column) for column in columns] for row in own]
        sheets[centre] = [spelt, *cells, [], ["Locoregional: 1 for a recurrence"], ["N/A: not available"]]
    excluded = patient("HN-HMR-099", death=3)
    sheets["Excluded"] = [list(COLUMNS), [excluded.get(column) for column in COLUMNS]]
    return write_workbook(folder / CLINICAL, sheets)


def write_contours(folder: Path, names: Mapping[str, tuple[str, str]]) -> Path:
    """Write the workbook of contours: for each patient the primary tumour's and the lymph nodes' names."""
    header = ["Patient", "Name GTV Primary", "Name GTV Lymph"]
    sheets = {
        centre: [header, *([one, *cells] for one, cells in names.items() if f"-{centre}-" in one)] for centre in CENTRES
    }
    return write_workbook(folder / CONTOURS, sheets)
