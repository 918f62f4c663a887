"""What the index does not say: tracers, outcome tables, adapters, and the collections that are not in it.

A fact stands here only where the collection's own page or its data descriptor states it.
"""

from __future__ import annotations

from dataclasses import dataclass

from twobe3.dicom.tracer import TRACER_WORDS

UNKNOWN = "unknown"
TRACERS = (*TRACER_WORDS, UNKNOWN)


@dataclass(frozen=True)
class IndexFacts:
    """What is known of a collection of the index; empty where there is none."""

    tracer: str = UNKNOWN  # of the PET series whose descriptions do not name one
    outcomes: str = ""  # the published outcome tables
    adapter: str = ""  # that reads them


@dataclass(frozen=True, kw_only=True)
class CollectionRow:
    """A collection; studies, series, size and contours are not known where the images are not in the index."""

    name: str  # what `--collection` takes
    title: str
    patients: int  # with PET, before any rule, as studies and series
    studies: int = 0
    series: int = 0
    size_gb: float = 0.0  # of the PET series, in 10⁹ bytes
    license: str  # several are separated by commas, as tracers
    tracer: str = "FDG"
    contours: int | None = None  # SEG and RTSTRUCT series in studies with PET
    contours_note: str  # their kind
    outcomes: str  # published ones
    adapters: tuple[str, ...] = ()  # that read its tables
    citation: str  # with the DOI
    steps: tuple[str, ...] = ()  # how to get what `twobe3 collections fetch` cannot download


_CLINICAL_GDC = "survival and recurrence, from the Genomic Data Commons (portal.gdc.cancer.gov)"
_CLINICAL_PDC = "survival, from the Proteomic Data Commons (pdc.cancer.gov)"

IDC = {
    "fdg_pet_ct_lesions": IndexFacts("FDG", "diagnosis, sex, age (no outcome)", "autopet-fdg"),
    "psma_pet_ct_lesions": IndexFacts("PSMA"),
    "acrin_nsclc_fdg_pet": IndexFacts("FDG", "overall survival (ACRIN 6668 case report forms)", "acrin-nsclc-fdg-pet"),
    "nsclc_radiogenomics": IndexFacts("FDG", "recurrence, survival", "nsclc-radiogenomics"),
    "lung_pet_ct_dx": IndexFacts("FDG", "histology, in the patient id (A, B, E, G)"),
    "rider_lung_pet_ct": IndexFacts("FDG"),
    "acrin_flt_breast": IndexFacts("FLT", "pathological response to chemotherapy (ACRIN 6688)"),
    "soft_tissue_sarcoma": IndexFacts("FDG", "lung metastasis, with time", "soft-tissue-sarcoma"),
    "qin_breast": IndexFacts("FDG", "pathological response to chemotherapy"),
    "anti_pd_1_lung": IndexFacts("FDG"),
    "cc_tumor_heterogeneity": IndexFacts("FDG"),
    "ct_vs_pet_ventilation_imaging": IndexFacts("Galligas"),
    "naf_prostate": IndexFacts("NaF"),
    "uw_cirp_mouse_pet_ct_nsclc": IndexFacts("FDG"),
    **{f"tcga_{site}": IndexFacts(outcomes=_CLINICAL_GDC)
       for site in ("lusc", "luad", "blca", "ucec", "prad", "kirp", "lihc", "thca")},
    **{f"cptac_{site}": IndexFacts(outcomes=_CLINICAL_PDC) for site in ("luad", "lscc", "ucec", "pda")},
}  # fmt: skip

_TCIA = (
    "Make an account at www.cancerimagingarchive.net and sign the restricted licence that the collection's page names",
    "Download the PET, CT and RTSTRUCT series with NBIA Data Retriever, logged in, and the clinical table beside them",
)
_ADAPTER = "`twobe3 collections table` makes the clinical table; the image folder is `cohort.images` of a study file"
_TABLE = "The clinical table is read as it is: `cohort.clinical` of a study file"

ELSEWHERE = {row.name: row for row in (
    CollectionRow(
        name="head_neck_pet_ct", title="Head-Neck-PET-CT", patients=298, license="TCIA restricted",
        contours_note="RTSTRUCT of the gross tumour",
        outcomes="loco-regional recurrence, distant metastasis, death, with times",
        citation="Vallières et al., Data from Head-Neck-PET-CT, doi 10.7937/K9/TCIA.2017.8oje5q00; "
        "Sci Rep 7:10117, 2017",
        steps=(*_TCIA, _ADAPTER), adapters=("head-neck-pet-ct",),
    ),
    CollectionRow(
        name="hnscc", title="HNSCC", patients=627, license="TCIA restricted",
        contours_note="RTSTRUCT, for part of the patients",
        outcomes="recurrence, metastasis, survival; patients counted with any image, many without PET",
        citation="Grossberg et al., HNSCC, doi 10.7937/k9/tcia.2020.a8sh-7363; Sci Data 5:180173, 2018",
        steps=(*_TCIA, _TABLE),
    ),
    CollectionRow(
        name="head_neck_radiomics_hn1", title="Head-Neck-Radiomics-HN1", patients=137,
        license="TCIA restricted, non-commercial", contours_note="RTSTRUCT of the primary tumour",
        outcomes="recurrence, metastasis, survival; patients counted with any image, PET for part of them",
        citation="Wee and Dekker, Data from HEAD-NECK-RADIOMICS-HN1, doi 10.7937/tcia.2019.8kap372n",
        steps=(*_TCIA, _TABLE),
    ),
    CollectionRow(
        name="hecktor", title="HECKTOR 2021, 2022, 2025", patients=1123, license="the challenge's end-user agreement",
        contours_note="masks of tumour and nodes, NIfTI",
        outcomes="recurrence-free survival, with times; HPV status",
        citation="Saeed et al., arXiv 2509.00367, 2025 (1123 studies, 10 centres); Andrearczyk et al., HECKTOR 2022, "
        "LNCS 13626",
        steps=(
            "Join the challenge at hecktor.grand-challenge.org (2022) or hecktor25.grand-challenge.org (2025)",
            "Sign the end-user agreement, send it as the page says, and wait for the link", "Download and unpack it",
            "Scans are NIfTI in SUV: write a JSON beside each (docs/reference/input.md)", _ADAPTER,
        ),
        adapters=("hecktor-2021", "hecktor-2022", "hecktor-2025"),
    ),
    CollectionRow(
        name="autopet", title="autoPET (NIfTI)", patients=1278, tracer="FDG, PSMA",
        license="see the page of the download; the DICOM in IDC is CC BY 4.0", contours_note="lesion masks, NIfTI",
        outcomes="diagnosis, sex, age (no outcome)",
        citation="Gatidis et al., Sci Data 9:601, 2022, doi 10.7937/gkr0-xv29; Jeblick et al., doi 10.7937/r7ep-3x37",
        steps=(
            "Nothing is needed where DICOM will do: IDC has it as fdg_pet_ct_lesions and psma_pet_ct_lesions",
            "The NIfTI of the challenge are at fdat.uni-tuebingen.de; do not use both, they are the same scans",
        ),
        adapters=("autopet-fdg",),
    ),
)}  # fmt: skip
