"""What was injected: dose, nuclide, half-life, and several injections for one scan (rules 15, 16 and 24)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.dicom.attributes import Injection, Repair, SeriesAttributes, WithRepairs
from twobe3.dicom.clock import parse_datetime, parse_time, parse_zone

HALF_LIVES_S = {
    **dict.fromkeys(("C-111A1", "77004003"), 6586.0),  # F-18
    **dict.fromkeys(("C-131A3", "35337001"), 4057.0),  # Ga-68
    **dict.fromkeys(("C-105A1", "40565003"), 1223.0),  # C-11
    **dict.fromkeys(("C-107A1", "21576001"), 598.0),  # N-13
}
"""Nuclide, by its SNOMED RT and SNOMED CT code (DICOM PS3.16 CID 4020) → half-life in seconds."""

LONGEST_HALF_LIFE_S = 1e8
"""Three years, as long as that of Na-22; nothing that lasts longer is injected for PET."""

SMALLEST_DOSE_BQ = 1e4
"""Nobody injects less: a smaller number is in MBq."""

SAME_HALF_LIFE = 0.02
"""By what share two half-lives of one nuclide may differ: vendors round them, and Sc-43 is 2.1 % off Sc-44."""

SMALLEST_USUAL_BQ = 1e6
"""Less is too little for a person, whatever the tracer."""

OTHER_UNITS_BQ = {"kBq": 1e3, "µCi": 3.7e4, "mCi": 3.7e7, "GBq": 1e9, "Ci": 3.7e10}
"""Units besides becquerel and megabecquerel in which a dose may have been typed."""


@dataclass(frozen=True)
class UsualDose:
    """What is injected of a nuclide: least and most for each kg of body weight, and most of all."""

    nuclide: str
    half_life_s: float
    least_mbq_per_kg: float
    most_mbq_per_kg: float
    most_mbq: float


USUAL_DOSES = (
    UsualDose("F-18", 6586.2, 0.7, 20, 1000),
    UsualDose("Ga-68", 4062.0, 0.5, 10, 600),
    UsualDose("C-11", 1223.0, 1.0, 40, 2000),
    UsualDose("N-13", 597.9, 1.0, 40, 2000),
    UsualDose("O-15", 122.2, 2.0, 60, 3500),
    UsualDose("Rb-82", 75.5, 2.0, 60, 4000),
    UsualDose("Sc-44", 14400.0, 0.3, 6, 350),
    UsualDose("Cu-64", 45720.0, 0.5, 12, 700),
    UsualDose("Zr-89", 282240.0, 0.1, 5, 300),
    UsualDose("I-124", 360806.0, 0.1, 6, 240),
)
"""Bounds that we chose: wide enough for children and for research, and too narrow for a tenfold error.

What they were chosen around: for adults the United States' labels recommend 185 to 370 MBq of FDG, 111 to 259 MBq of
Ga-68 PSMA-11, 148 MBq of Cu-64 dotatate, 368 to 736 MBq of N-13 ammonia and 1110 to 2220 MBq of Rb-82; for children of
3 kg the EANM's dosage card has come from 14 or 26 MBq of FDG (Lassmann 2008, doi:10.1007/s00259-008-0799-9) to 11 MBq
(doi:10.1007/s00259-021-05635-2). Those of C-11, O-15, Sc-44, Zr-89 and I-124 rest on no recommendation.
"""

LONG_SCANNERS = ("explorer", "quadra", "panorama")
"""Parts of the model names of scanners that see the whole trunk at once: uEXPLORER, PennPET, Quadra, uMI Panorama.

A tenth of the usual least is usual, a bound of ours: of a whole body they see 10 to 40 times as much as others
(*State of the art in total body PET*, EJNMMI Phys 2020, doi:10.1186/s40658-020-00290-2).
"""


def physical_half_life_s(attributes: SeriesAttributes) -> WithRepairs[float]:
    """Rule 15: RadionuclideHalfLife (0018,1075), else by the nuclide's code (DICOM PS3.16 CID 4020)."""
    if attributes.half_life_s is not None and 0 < attributes.half_life_s <= LONGEST_HALF_LIFE_S:
        return WithRepairs(attributes.half_life_s)
    known = HALF_LIVES_S.get(attributes.nuclide)
    if known is None:
        shown = "absent" if attributes.half_life_s is None else f"{attributes.half_life_s:g}"
        reason = f"(0018,1075) is {shown}, the nuclide's code is {attributes.nuclide!r}"
        raise UnusableScanError(Code.HALF_LIFE_MISSING, reason)
    repair = Repair(Code.HALF_LIFE_MISSING, f"{known:g} s is taken for nuclide {attributes.nuclide}")
    return WithRepairs(known, (repair,))


def injected_dose_bq(stated: float | None) -> WithRepairs[float]:
    """Rule 16: RadionuclideTotalDose (0018,1074) is in Bq; below 10⁴ it can only be MBq (DICOM PS3.3 C.8.9.2)."""
    if stated is None or not (math.isfinite(stated) and stated > 0):
        shown = "absent" if stated is None else f"{stated:g}"
        raise UnusableScanError(Code.DOSE_MISSING, f"RadionuclideTotalDose (0018,1074) is {shown}")
    if stated < SMALLEST_DOSE_BQ:
        repair = Repair(Code.DOSE_IMPLAUSIBLE, f"RadionuclideTotalDose {stated:g} taken as MBq")
        return WithRepairs(stated * 1e6, (repair,))
    return WithRepairs(stated)


def check_dose(attributes: SeriesAttributes, dose_bq: float, weight_kg: float) -> tuple[Repair, ...]:
    """Say that a dose is far from what is injected of its nuclide (rule 16), see :data:`USUAL_DOSES`.

    Raises ``DOSE_IMPLAUSIBLE``: the number is too small in its unit, or too large in MBq for anybody, and would be
    usual in another unit; or even a thousandth of it would be usual.
    """
    half_life_s = attributes.half_life_s or HALF_LIVES_S.get(attributes.nuclide, 0.0)
    usual = next((one for one in USUAL_DOSES if _is_one_half_life(one.half_life_s, half_life_s)), None)
    if usual is None:
        return ()
    long = any(name in attributes.model.lower() for name in LONG_SCANNERS)
    least = usual.least_mbq_per_kg * (0.1 if long else 1.0)
    mbq, per_kg = dose_bq / 1e6, dose_bq / 1e6 / weight_kg
    text = f"{mbq:.4g} MBq, {per_kg:.3g} MBq/kg, of {usual.nuclide}"
    stated = attributes.dose or 0.0
    unit, unit_bq = ("MBq", 1e6) if stated < SMALLEST_DOSE_BQ else ("Bq", 1.0)
    if (per_kg < least and stated < SMALLEST_USUAL_BQ) or (unit == "MBq" and mbq > usual.most_mbq):
        for other, other_bq in OTHER_UNITS_BQ.items():
            if least <= per_kg * other_bq / unit_bq <= usual.most_mbq_per_kg:
                reason = f"RadionuclideTotalDose (0018,1074) {stated:g} may be in {unit} or in {other}"
                raise UnusableScanError(Code.DOSE_IMPLAUSIBLE, reason)
    if per_kg / 1000 >= usual.least_mbq_per_kg:
        reason = f"RadionuclideTotalDose (0018,1074) {stated:g} is {text}: a thousandth of it would be usual"
        raise UnusableScanError(Code.DOSE_IMPLAUSIBLE, reason)
    if per_kg < least:
        return (_doubt_dose(f"{text} is less than the {least:g} MBq/kg that are usual at least"),)
    if mbq > usual.most_mbq or per_kg > usual.most_mbq_per_kg:
        most = f"{usual.most_mbq:g} MBq or {usual.most_mbq_per_kg:g} MBq/kg"
        return (_doubt_dose(f"{text} is more than the {most} that are usual at most"),)
    return ()


def unite_injections(attributes: SeriesAttributes) -> WithRepairs[SeriesAttributes]:
    """Rule 24: the injections of one nuclide, each once (DICOM PS3.3 C.8.9.2).

    Items that say nothing are left out. Two of one dose and one start are one injection that is written twice: no
    second syringe holds the same becquerel at the same second. Raises ``SEVERAL_INJECTIONS``: the items name several
    nuclides, and the counts do not say whose they are.
    """
    listed = [Injection(**{name: getattr(attributes, name) for name in vars(Injection())}), *attributes.further]
    said = [one for one in listed if one != Injection()]
    if len(listed) == 1 or not said:
        return WithRepairs(replace(attributes, further=()))
    _require_one_nuclide(said)
    kept: list[Injection] = []
    for one in said:
        if not any(_is_one_injection(one, other, attributes.zone) for other in kept):
            kept.append(one)
    repairs = []
    if len(said) < len(listed):
        repairs.append(_several(f"{len(listed) - len(said)} of {len(listed)} items of (0054,0016) are empty"))
    if len(kept) < len(said):
        text = f"{len(said)} items of (0054,0016) are {len(kept)} by dose and start; each is taken once"
        repairs.append(_several(text))
    if len(kept) > 1:
        doses = " + ".join("?" if one.dose is None else f"{one.dose:g}" for one in kept)
        text = f"{len(kept)} injections of one nuclide, {doses} Bq: their activities at the reference time are added"
        repairs.append(Repair(Code.SEVERAL_INJECTIONS, text, changes_value=False))
    first, *further = kept
    nuclide = next((one.nuclide for one in said if one.nuclide), "")
    half_life_s = next((one.half_life_s for one in said if one.half_life_s), None)
    united = replace(attributes, **{**vars(first), "nuclide": nuclide, "half_life_s": half_life_s})
    return WithRepairs(replace(united, further=tuple(further)), tuple(repairs))


def require_one_start(attributes: SeriesAttributes) -> None:
    """Refuse what is decay-corrected to the injection where there were several: ``TIMES_INCONSISTENT``."""
    zone = parse_zone(attributes.zone)
    starts = {
        (parse_datetime(one.start_datetime, zone), parse_time(one.start_time, zone)) for one in attributes.injections
    }
    if attributes.further and (len(starts) > 1 or (None, None) in starts):
        reason = f"the activity is decay-corrected to the injection, and there were {len(attributes.injections)}"
        raise UnusableScanError(Code.TIMES_INCONSISTENT, reason)


def _require_one_nuclide(injections: Sequence[Injection]) -> None:
    first = injections[0]
    for one, other in ((one, other) for one in injections for other in injections):
        half_lives = one.half_life_s, other.half_life_s
        differ = all(half_lives) and not _is_one_half_life(half_lives[0] or 0.0, half_lives[1] or 0.0)
        if differ or not _is_one_nuclide(one.nuclide, other.nuclide):
            shown = "; ".join(f"{i.nuclide or 'no code'}, {i.half_life_s or 0:g} s" for i in (first, *injections[1:]))
            reason = f"the items of (0054,0016) are of several nuclides: {shown}"
            raise UnusableScanError(Code.SEVERAL_INJECTIONS, reason)


def _is_one_nuclide(one: str, other: str) -> bool:
    """Whether two codes name one nuclide, be they of SNOMED RT or CT; what is not told contradicts nothing."""
    if not one or not other or one == other:
        return True
    from pydicom.sr.coding import Code as DicomCode  # all codes of DICOM: slow to import, and rarely needed

    first, second = (DicomCode(nuclide, "SCT" if nuclide.isdigit() else "SRT", "") for nuclide in (one, other))
    return bool(first == second)


def _is_one_half_life(one_s: float, other_s: float) -> bool:
    return abs(one_s - other_s) <= SAME_HALF_LIFE * max(one_s, other_s)


def _is_one_injection(one: Injection, other: Injection, zone_text: str) -> bool:
    if one == other:
        return True
    zone = parse_zone(zone_text)
    dates = [parse_datetime(item.start_datetime, zone) for item in (one, other)]
    clocks = [
        date.timetz() if date else parse_time(item.start_time, zone)
        for item, date in zip((one, other), dates, strict=True)
    ]
    one_date = dates[0] == dates[1] or None in dates
    return (
        one.dose is not None and one.dose == other.dose and None not in clocks and clocks[0] == clocks[1] and one_date
    )


def _several(text: str) -> Repair:
    return Repair(Code.SEVERAL_INJECTIONS, text)


def _doubt_dose(text: str) -> Repair:
    return Repair(Code.DOSE_IMPLAUSIBLE, text, changes_value=False)
