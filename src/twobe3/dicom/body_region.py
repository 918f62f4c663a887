"""Which part of the body a scan shows, as far as its length and its header tell it together."""

from __future__ import annotations

from typing import Literal

BodyRegion = Literal["whole-body", "trunk", "head", "head-and-neck", "chest", "abdomen", "pelvis", "extremity", ""]

# Of an adult whose height the header lacks. A child's can't be guessed.
ADULT_HEIGHT_M, ADULT_YEARS = 1.7, 18.0
# A scan from the skull's base to mid-thigh covers a good half of the height, one from the vertex to the feet all of it
# (EANM guideline for FDG, Boellaard et al., Eur J Nucl Med Mol Imaging 2015;42:328-354: torso and whole-body scans).
WHOLE, TRUNK, ONE_PART = 0.85, (0.4, 0.75), 0.25
# Terms of BodyPartExamined (0018,0015), DICOM PS3.16 Annex L.
_PARTS: dict[BodyRegion, tuple[str, ...]] = {
    "head": ("HEAD", "BRAIN", "SKULL"),
    "head-and-neck": ("HEADNECK", "NECK", "THYROID", "LARYNX", "PHARYNX"),
    "chest": ("CHEST", "THORAX", "LUNG", "BREAST", "HEART", "MEDIASTINUM"),
    "abdomen": ("ABDOMEN", "LIVER", "KIDNEY", "PANCREAS", "STOMACH"),
    "pelvis": ("PELVIS", "PROSTATE", "UTERUS", "BLADDER", "CERVIX", "OVARY", "RECTUM"),
    "extremity": ("EXTREMITY", "LEG", "THIGH", "CALF", "KNEE", "FOOT", "ARM", "HAND", "SHOULDER"),
}
_REGION_OF = {part: region for region, parts in _PARTS.items() for part in parts}


def body_region(
    coverage_mm: float, *, body_part: str = "", height_m: float | None = None, age_years: float | None = None
) -> BodyRegion:
    """The region that a scan shows; empty where it can't be told.

    BodyPartExamined often names where the disease is, not what was scanned, so it counts only for a scan too short to
    show more than one part. A longer one is classed by its length over the patient's height, for which a mean stands in
    where an adult's header lacks it; between the limits, and for a child without a height, the result is empty.
    ``coverage_mm`` is from the first to the last slice, ``body_part`` BodyPartExamined (0018,0015).
    """
    if height_m is None and age_years is not None and age_years >= ADULT_YEARS:
        height_m = ADULT_HEIGHT_M
    if not height_m or coverage_mm <= 0:
        return ""
    share = coverage_mm / 1000.0 / height_m
    if share >= WHOLE:
        return "whole-body"
    if TRUNK[0] <= share < TRUNK[1]:
        return "trunk"
    term = body_part.upper().replace(" ", "").replace("_", "").replace("&", "")
    return _REGION_OF.get(term, "") if share <= ONE_PART else ""
