"""What the index does not say: tracers, outcome tables, adapters, and the collections that are not in it.

A fact stands here only where the collection's own page or its data descriptor states it.
"""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN = "unknown"

# In the words of a series' or its study's description; the first that fits. FDG comes last, since the descriptions of
# other tracers' studies sometimes name it too.
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
TRACERS = (*TRACER_WORDS, UNKNOWN)


@dataclass(frozen=True)
class Held:
    """Of a collection that is in the index.

    Attributes
    ----------
    tracer : str
        Of its PET series where their descriptions say nothing.
    outcomes : str
        The outcome tables published with it; empty where none is known.
    adapter : str
        What reads them into a clinical table, empty where nothing does.
    """

    tracer: str = UNKNOWN
    outcomes: str = ""
    adapter: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """A collection that its users must get themselves.

    Attributes
    ----------
    title : str
        Its name.
    patients : int
        With PET, as published.
    license : str
        Its licence or agreement.
    contours, outcomes : str
        What is published with the images.
    citation : str
        How to cite it.
    steps : tuple of str
        How to get it.
    adapters : tuple of str
        What reads its tables.
    tracer : str
        Of all its PET series.
    """

    title: str
    patients: int
    license: str
    contours: str
    outcomes: str
    citation: str
    steps: tuple[str, ...]
    adapters: tuple[str, ...] = ()
    tracer: str = "FDG"


_CLINICAL_GDC = "survival and recurrence, from the Genomic Data Commons (portal.gdc.cancer.gov)"
_CLINICAL_PDC = "survival, from the Proteomic Data Commons (pdc.cancer.gov)"

IDC = {
    "fdg_pet_ct_lesions": Held("FDG", "diagnosis, sex, age (no outcome)", "autopet-fdg"),
    "psma_pet_ct_lesions": Held("PSMA"),
    "acrin_nsclc_fdg_pet": Held("FDG", "overall survival (ACRIN 6668 case report forms)", "acrin-nsclc-fdg-pet"),
    "nsclc_radiogenomics": Held("FDG", "recurrence, survival", "nsclc-radiogenomics"),
    "lung_pet_ct_dx": Held("FDG", "histology, in the patient id (A, B, E, G)"),
    "rider_lung_pet_ct": Held("FDG"),
    "acrin_flt_breast": Held("FLT", "pathological response to chemotherapy (ACRIN 6688)"),
    "soft_tissue_sarcoma": Held("FDG", "lung metastasis, with time", "soft-tissue-sarcoma"),
    "qin_breast": Held("FDG", "pathological response to chemotherapy"),
    "anti_pd_1_lung": Held("FDG"),
    "cc_tumor_heterogeneity": Held("FDG"),
    "ct_vs_pet_ventilation_imaging": Held("Galligas"),
    "naf_prostate": Held("NaF"),
    "uw_cirp_mouse_pet_ct_nsclc": Held("FDG"),
    **{f"tcga_{site}": Held(outcomes=_CLINICAL_GDC)
       for site in ("lusc", "luad", "blca", "ucec", "prad", "kirp", "lihc", "thca")},
    **{f"cptac_{site}": Held(outcomes=_CLINICAL_PDC) for site in ("luad", "lscc", "ucec", "pda")},
}  # fmt: skip

_TCIA = (
    "Make an account at www.cancerimagingarchive.net and sign the restricted licence that the collection's page names",
    "Download the PET, CT and RTSTRUCT series with NBIA Data Retriever, logged in, and the clinical table beside them",
)
_READ = "`twobe3 collections table` makes the clinical table; the image folder is `cohort.images` of a study file"

ELSEWHERE = {
    "head_neck_pet_ct": Elsewhere(
        "Head-Neck-PET-CT", 298, "TCIA restricted", "RTSTRUCT of the gross tumour",
        "loco-regional recurrence, distant metastasis, death, with times",
        "Vallières et al., Data from Head-Neck-PET-CT, doi 10.7937/K9/TCIA.2017.8oje5q00; Sci Rep 7:10117, 2017",
        (*_TCIA, _READ), ("head-neck-pet-ct",),
    ),
    "hnscc": Elsewhere(
        "HNSCC", 627, "TCIA restricted", "RTSTRUCT, for part of the patients",
        "recurrence, metastasis, survival; patients counted with any image, many without PET",
        "Grossberg et al., HNSCC, doi 10.7937/k9/tcia.2020.a8sh-7363; Sci Data 5:180173, 2018",
        (*_TCIA, "The clinical table is read as it is: `cohort.clinical` of a study file"),
    ),
    "head_neck_radiomics_hn1": Elsewhere(
        "Head-Neck-Radiomics-HN1", 137, "TCIA restricted, non-commercial", "RTSTRUCT of the primary tumour",
        "recurrence, metastasis, survival; patients counted with any image, PET for part of them",
        "Wee and Dekker, Data from HEAD-NECK-RADIOMICS-HN1, doi 10.7937/tcia.2019.8kap372n",
        (*_TCIA, "The clinical table is read as it is: `cohort.clinical` of a study file"),
    ),
    "hecktor": Elsewhere(
        "HECKTOR 2021, 2022, 2025", 1123, "the challenge's end-user agreement", "masks of tumour and nodes, NIfTI",
        "recurrence-free survival, with times; HPV status",
        "Saeed et al., arXiv 2509.00367, 2025 (1123 studies, 10 centres); Andrearczyk et al., HECKTOR 2022, LNCS 13626",
        ("Join the challenge at hecktor.grand-challenge.org (2022) or hecktor25.grand-challenge.org (2025)",
         "Sign the end-user agreement, send it as the page says, and wait for the link", "Download and unpack it",
         "Scans are NIfTI in SUV: write a JSON beside each (docs/reference.md)", _READ),
        ("hecktor-2021", "hecktor-2022", "hecktor-2025"),
    ),
    "autopet": Elsewhere(
        "autoPET (NIfTI)", 1278, "see the page of the download; the DICOM in IDC is CC BY 4.0", "lesion masks, NIfTI",
        "diagnosis, sex, age (no outcome)",
        "Gatidis et al., Sci Data 9:601, 2022, doi 10.7937/gkr0-xv29; Jeblick et al., doi 10.7937/r7ep-3x37",
        ("Nothing is needed where DICOM will do: IDC has it as fdg_pet_ct_lesions and psma_pet_ct_lesions",
         "The NIfTI of the challenge are at fdat.uni-tuebingen.de; do not use both, they are the same scans"),
        ("autopet-fdg",), "FDG, PSMA",
    ),
}  # fmt: skip
