"""ACRIN-NSCLC-FDG-PET (TCIA): ACRIN 6668, stage II and III lung cancer before and after chemoradiotherapy.

Layout: the clinical data are one CSV for each case report form, named after it. Needed are the follow-up form
``F1.csv``, several rows a patient, and, if at hand, the form of the end of study ``DS.csv``. ``cn`` is the case number;
``f1e2`` the vital status (1 alive, 2 dead, 9 dead at an unknown date); ``F1e1d`` and ``F1e3d`` the days from
registration to the last contact and to death; ``dse3`` the reason for leaving (2 death) and ``DSe2d`` its day. Case
differs between files and dictionary. Fields after the dictionary on the collection's page and two public re-analyses
of the trial.

Case number 7 is PatientID ``ACRIN-NSCLC-FDG-PET-007``. A death at an unknown date counts at the last contact. The
segmentations of the collection, made by a network, hold the lungs too, so they are no contours of the tumour.

Collection: Kinahan et al., doi 10.7937/tcia.2019.30ilqfcl; Machtay et al., J Clin Oncol 31:3823, 2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twobe3.collections.adapters._adapter import ROI, Adapter, Rows
from twobe3.collections.adapters._sheets import Record, Sheet, require_tables, whole
from twobe3.core.codes import Code
from twobe3.core.endpoints import TimeToEvent
from twobe3.core.errors import ConfigurationError

FOLLOW_UP = ("cn", "f1e2", "F1e1d", "F1e3d")
END_OF_STUDY = ("cn", "dse3", "DSe2d")
ALIVE, DEAD, DEAD_UNDATED = 1, 2, 9
DIED = 2


class _Contact(NamedTuple):
    """What one form says: the day, and whether the patient had died."""

    day: int
    dead: bool


def _rows(sheets: Sequence[Sheet]) -> Rows:
    require_tables(sheets, FOLLOW_UP, "ACRIN-NSCLC-FDG-PET")
    contacts: dict[int, list[_Contact]] = {}
    for sheet in sheets:
        for columns, read in ((FOLLOW_UP, _follow_up), (END_OF_STUDY, _end_of_study)):
            if not sheet.lacks(columns):
                for record in sheet.records:
                    form = read(record)
                    contacts.setdefault(_case(record, sheet), []).extend([form] if form else [])
    return {f"ACRIN-NSCLC-FDG-PET-{case:03d}": _row(forms) for case, forms in sorted(contacts.items())}


def _case(record: Record, sheet: Sheet) -> int:
    case = whole(record["cn"])
    if case is None:
        raise ConfigurationError(Code.TABLE_UNREADABLE, f"{sheet.label}: line {record.line} has no case number")
    return case


def _follow_up(record: Record) -> _Contact | None:
    status, contact, death = whole(record["f1e2"]), whole(record["F1e1d"]), whole(record["F1e3d"])
    if status in (DEAD, DEAD_UNDATED):
        contact = contact if death is None else death
    if status not in (ALIVE, DEAD, DEAD_UNDATED) or contact is None:
        return None
    return _Contact(contact, status != ALIVE)


def _end_of_study(record: Record) -> _Contact | None:
    day = whole(record["DSe2d"])
    return _Contact(day, True) if whole(record["dse3"]) == DIED and day is not None else None


def _row(forms: Sequence[_Contact]) -> dict[str, str]:
    """The death, or else the last day at which the patient was seen alive."""
    deaths = [form.day for form in forms if form.dead]
    days = min(deaths) if deaths else max((form.day for form in forms), default=0)
    known = {"death": str(int(bool(deaths))), "death_days": str(days)} if days > 0 else {}
    return {"death": "", "death_days": "", **known, ROI: ""}


ADAPTER = Adapter(
    name="acrin-nsclc-fdg-pet",
    title="ACRIN-NSCLC-FDG-PET",
    files=("F1.csv", "DS.csv"),
    endpoints=(TimeToEvent("overall survival", "death_days", "death", time_zero="registration"),),
    covariates=(),
    rows=_rows,
)
