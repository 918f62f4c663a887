"""Which tracer a text of a header names, by the words of tracers."""

from __future__ import annotations

import re

import pydicom

from twobe3.dicom.reader import first_item, text

# In the words of a description, set in spaces; the first that fits. FDG comes last, since descriptions of studies of
# other tracers sometimes name it too.
TRACER_WORDS = {
    "PSMA": "psma|pylarify|illuccix|piflufolastat",
    "NaF": " naf |fluoride",
    "FLT": " flt |fluorothymidine",
    "FES": " fes |cerianna",
    "DOTATATE": "dotat|dotanoc|netspot|detectnet",
    "choline": " chl |choline",
    "Galligas": "galligas",
    "FDG": "fdg",
}
_IN_HEADERS = {**TRACER_WORDS, "FDG": "fdg|deoxyglucose|deoxy d glucose"}
_SAYS_NOTHING = {"", "solution", "liquid", "other", "unknown", "none", "not known", "fluorine", "f 18", "18f", "f18"}


def name_tracer(told: str) -> str:
    """The tracer that a text names: the usual short name, else its words; empty where it names none.

    Some scanners write the form of the drug ("Solution") or the nuclide where its name belongs, which tells no tracer.
    """
    words = re.sub(r"[^a-z0-9]+", " ", told.lower()).strip()
    if words in _SAYS_NOTHING:
        return ""
    return next((name for name, pattern in _IN_HEADERS.items() if re.search(pattern, f" {words} ")), words)


def read_tracer(injection: pydicom.Dataset) -> str:
    """What an item of RadiopharmaceuticalInformationSequence (0054,0016) says of the tracer.

    Radiopharmaceutical (0018,0031); where that names none, the meaning of RadiopharmaceuticalCodeSequence (0054,0304),
    and both where they name two.
    """
    told = text(injection, "Radiopharmaceutical")
    meant = text(first_item(injection, "RadiopharmaceuticalCodeSequence"), "CodeMeaning")
    if not name_tracer(told):
        return meant or told
    return told if name_tracer(meant) in ("", name_tracer(told)) else f"{told}; {meant}"
