"""The rules by which a public PET series is left out of a plan, in the order in which they are asked.

A rule is one condition in SQL on a row of the index; a series is counted under the first that it meets. The index
holds no image type and no list of corrections, so most rules read SeriesDescription. They see it as ``words``: lower
case, everything but letters and digits a space, a space at both ends. The patterns are regular expressions of RE2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

License = Literal["permissive", "any"]
ScansPerPatient = Literal["one", "all"]
# One bed position of a scanner is 15 cm: 35 slices of 4.25 mm to 47 of 3.27 mm. Fewer show no region whole.
MIN_SLICES = 40
# The longest static series of the index has 963 slices, the shortest gated one of a whole bed more than that.
MAX_SLICES = 1000
PERMISSIVE = r"(cc0|cc by|public domain)( \d\.\d)?( (universal|international|unported))?"
# Collections whose images are copies of other collections' images, under invented identities.
COPIES = ("pseudo_phi_dicom_data",)
# Collections from whose series single slices were taken before publication: of the studies that have a corrected and an
# uncorrected series of one acquisition, 31 of 34 and 18 of 18 have unequal numbers of slices.
GAPPED = ("eay131", "varepop_apollo")

WORDS = "' ' || trim(regexp_replace(lower(coalesce({}, '')), '[^a-z0-9]+', ' ', 'g')) || ' '"


@dataclass(frozen=True)
class Rule:
    """Why a series is left out: a name, the reason in words, and a condition in SQL that is true of such a series."""

    name: str
    reason: str
    condition: str


def _like(*patterns: str, column: str = "words") -> str:
    return f"regexp_matches({column}, '{'|'.join(patterns)}')"


def _names(values: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{value}'" for value in values) + ")"


UNCORRECTED = _like(r"nac\d?x* ", r" no ?ac ", r" non ac ", r" nc ", "uncorr", "no ?att", "without att", r" no ?ctac")
CORRECTED = _like(r"[^n ]acx* ", r" ac ", r"ctac", r" corr", "corrected", r" attn ", "attn corr", "atten(uation)? corr")
# Phantoms scanned under a patient's name, in RIDER Lung PET-CT: water spheres, rods, lines, cylinders, count rates.
_PHANTOM_WORDS = (
    "phantom", "nema", "cold ?rod", "hot ?line", "hot sph", "flood", "pin ?source", "line source", "uniform ?test",
    "linearity", "cnt ?rates", "align ?test", "lnoback",
)  # fmt: skip

RULES = (
    Rule("not-pet", "no PET image object: CT or a screen capture that calls itself PET", "sop_class NOT IN "
         + _names(["1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.128.1", "1.2.840.10008.5.1.4.1.1.130"])),
    Rule("animal", "the collection is of animals", "species NOT ILIKE '%human%'"),
    Rule("phantom", "a phantom, by collection, body part or description; in RIDER Lung PET-CT also every series "
         "without a patient's sex", "cancer_types ILIKE '%phantom%' OR body_part ILIKE '%phantom%' OR "
         + _like(*_PHANTOM_WORDS) + " OR " + _like(*_PHANTOM_WORDS, column="study_words")
         + " OR (collection = 'rider_lung_pet_ct' AND sex IS NULL)"),
    Rule("copy", "images of other collections under invented identities", f"collection IN {_names(COPIES)}"),
    Rule("incomplete", "of a collection from whose series single slices were taken before publication",
         f"collection IN {_names(GAPPED)}"),
    Rule("attenuation-map", "a CT, a transmission scan or an attenuation map",
         _like("transmission", "topogram", " scout ", " mu ?map ", " umap ", " ac ?map ", "seg tran", "[a-z]trans ",
               "low dose ct", "^ (wb )?ct (wb|att)", r"^ (atten )?\dafov ")),
    Rule("projection", "a maximum-intensity projection, a film, a fusion, a report page or another capture",
         _like("mip ", " mip", " projections? ", " proj ", "movie", "cine (?:m|$)", "rotating", "statistics", "results",
               "screen ?(cap|save|shot)", "fus(ion|ed)", "preview", " report ") + " OR photometric = 'RGB'"),
    Rule("reformat", "coronal or sagittal slices, or slices that a viewer resampled and saved",
         _like(" cor ", " cor(onal|onals|s) ", "coronal", " sag ", "sagittal", "reformat", " mpr ", " resamp ",
               "transformed", " tr ") + " OR photometric = 'MONOCHROME1'"),
    Rule("not-attenuation-corrected", "the description says that attenuation was not corrected", UNCORRECTED),
    Rule("dynamic-or-gated", f"frames, gates or phases, by description or by more than {MAX_SLICES} slices",
         f"slices > {MAX_SLICES} OR " + _like("gate", r" \d* ?bin ?\d* ", " [rs]?dyn", "phase", r"\d+ms ",
                                              " rstatic", " sstatic", " resp ", "cardiac", "list ?mode")),
    Rule("too-few-slices", f"fewer than {MIN_SLICES} slices", f"slices < {MIN_SLICES}"),
    Rule("undescribed", "the description is empty or was blanked, so that corrected and uncorrected can't be told "
         "apart", "words IN ('  ', ' ', ' pet ct series ')"),
)  # fmt: skip

LICENCE = Rule(
    "licence",
    "the licence is not among the permissive ones (public domain, CC0, CC BY)",
    f"NOT regexp_full_match(trim(regexp_replace(lower(coalesce(license, '')), '[^a-z0-9.]+', ' ', 'g')), "
    f"'{PERMISSIVE}')",
)
DUPLICATE = Rule("duplicate", "the same series twice: one UID, or one study, description, size and slices", "")
INDISTINCT = Rule(
    "indistinct",
    "several series of a study have one description and as many slices, and none says that attenuation was corrected",
    "",
)
OTHER_RECONSTRUCTION = Rule("other-reconstruction", "another series of the same study was chosen", "")
OTHER_STUDY = Rule("other-study", "a later study of a patient of whom one scan was asked for", "")

# Which series of a study stands for it: the first, when sorted by these.
PREFERENCE = (
    f"{CORRECTED} DESC",  # says that attenuation was corrected
    _like(" legs? ", " ped ", " ext(er)? ", "brain", "delay", "head", " h n "),  # the main acquisition first
    "slices DESC",  # the longest
    _like("psf", "truex", " hd ", "q ?clear", "sharp", " tof", "tof "),  # conventional first: comparable over scanners
    "series_number",
    "series_uid",
)

# A CT that may be the one beside a PET: axial slices. Of several, headers decide when they are read; a description that
# names the attenuation correction decides here, and saves the others' download.
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
CANDIDATE_CT = f"slices >= {MIN_SLICES} AND NOT " + _like(
    " cor ", "coronal", " sag ", "sagittal", " mpr ", "mip ", " mip", "topogram", " scout ", "locali[sz]er",
    "screen ?(cap|save|shot)", "dose ?report",
)  # fmt: skip
CORRECTING_CT = _like("ctac", " ac for pet ", r" ac ", "att?en", "low ?dose", " ld ct ")


def tracer_rule(tracer: str) -> Rule:
    """The rule for a plan of one tracer."""
    return Rule("tracer", f"the tracer is another one than {tracer}, or is not known", f"tracer <> '{tracer}'")
