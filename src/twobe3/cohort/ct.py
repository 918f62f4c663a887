"""The CT of a cohort's subjects, on the grid on which the models see the PET."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.codes import Code
from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.core.grid import place_grid, resample_array
from twobe3.core.volume import AIR_HU, SUVVolume
from twobe3.io.cache import Arrays
from twobe3.io.files import digest
from twobe3.scans.ct_summary import CTSummary, describe_beside, read_beside
from twobe3.scans.find import Series
from twobe3.scans.registration import STEP_MM
from twobe3.scans.sidecar import NiftiSeries

_MADE_BY = f"ct int16 registered at {STEP_MM} mm"


def describe_series(series: Series) -> dict[str, Any]:
    """What ``cohort.json`` says of the CT beside a series, by headers alone; nothing where there is none."""
    if isinstance(series, NiftiSeries):
        return {"ct": CTSummary().to_json()} if series.ct else {}
    summary = describe_beside(series.ct)
    return {"ct": summary.to_json()} if summary else {}


def ct_key(cohort: Cohort, subject: Subject) -> str:
    """Key of a subject's resampled CT, here and in everything derived from it."""
    return digest([_MADE_BY, cohort.volume_key(subject), subject.scan.ct_digest])


def name_ct_file(cohort: Cohort, subject: Subject) -> str:
    """The file of a subject's resampled CT among the volumes; empty where none was read that can be used."""
    said = subject.description.get("ct") or {}
    usable = said.get("dice") is not None and not said.get("code")
    return f"{ct_key(cohort, subject)}.safetensors" if usable else ""


def load_ct(cohort: Cohort, subject: Subject, read: Callable[[], SUVVolume] | None = None) -> Arrays:
    """HU as ``ct``, whole numbers, where the CT can be used, and as ``facts`` what is said of it; read once.

    ``read`` gives the PET on its own grid, where it may be read already.
    """

    def compute() -> Arrays:
        volume = (read or subject.scan.suv)()
        ct, summary = read_beside(subject.scan, volume, CTSummary(**_list_known(subject)))
        facts = np.frombuffer(json.dumps(summary.to_json()).encode(), np.uint8)
        if ct is None:
            return {"facts": facts}
        target = place_grid(volume.geometry, cohort.grid)
        hu = resample_array(ct.array, ct.geometry, target, outside=AIR_HU)
        return {"facts": facts, "ct": np.rint(hu).astype(np.int16)}

    if not subject.scan.ct_digest:  # nothing that a key could name
        return compute()
    return cohort.volumes.get_or_compute(ct_key(cohort, subject), compute, metadata=cohort.notes())


def read_facts(arrays: Arrays) -> dict[str, Any]:
    """What :func:`load_ct` says of a CT."""
    facts: dict[str, Any] = json.loads(arrays["facts"].tobytes())
    return facts


def read_hu(cohort: Cohort, subject: Subject) -> npt.NDArray[np.float32]:
    """A subject's CT on the cohort's grid: HU, shape ``grid.shape``, air (-1000 HU) beyond the CT.

    Raises
    ------
    UnusableScanError
        There is none, it cannot be read, or it does not lie over the PET.
    """
    arrays = load_ct(cohort, subject)
    if "ct" not in arrays:
        facts = read_facts(arrays)
        raise UnusableScanError(Code[facts["code"]], facts["reason"], remedy=facts["remedy"])
    return np.asarray(arrays["ct"], dtype=np.float32)


def _list_known(subject: Subject) -> dict[str, Any]:
    """What the headers said of the CT, as the cohort's description has it."""
    said = subject.description.get("ct") or {}
    names = ("series", "slices", "kernel", "contrast")
    return {**{name: said[name] for name in names if name in said}, "notes": tuple(said.get("notes", ()))}


def find_ct_exclusions(cohort: Cohort) -> tuple[Exclusion, ...]:
    """The scans without a usable CT, and why, in the order of the cohort; no CT is read whose fate is known."""
    found = []
    for subject in cohort.subjects:
        facts = subject.description.get("ct") or {}
        if facts.get("dice") is None and not facts.get("code"):
            facts = read_facts(load_ct(cohort, subject))
        if facts["code"]:
            error = UnusableScanError(Code[facts["code"]], facts["reason"], remedy=facts["remedy"])
            found.append(Exclusion.of(error, patient=subject.patient))
    return tuple(found)
