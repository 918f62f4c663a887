"""What the record of a run answers of reporting guidelines: the cohort, its images, the outcome, openness.

An answer is a function of the study folder. It says no more than the artefacts prove; what only an author knows is
left to the author. Answers about models are in :mod:`twobe3.report.checklist_models`, those about validation and
results in :mod:`twobe3.report.checklist_results`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from twobe3.core.counts import format_count
from twobe3.evaluation.provenance import ModelProvenance
from twobe3.report.cohort_facts import cohort_facts
from twobe3.report.scan_quality import scan_quality
from twobe3.report.study_folder import StudyFolder
from twobe3.report.wording import enumeration, extent, metric_label, model_label

Status = Literal["answered", "partly", "not done", "not applicable", "for the author"]

# Where it stands: sections of the report, and files beside it.
WHO, HOW_WELL, AGAINST = "report, Who was in", "report, How well", "report, Against what"
PATIENTS, SUBGROUPS, MADE = "report, Patients", "report, Subgroups", "report, How it was made"
COHORT_TABLE, SCANS_TABLE, PARAMETERS_TABLE = "tables/cohort", "tables/scans", "tables/parameters"

NETWORKS = frozenset({"2be3-net", "cnn2d", "cnn3d"})


@dataclass(frozen=True)
class Answer:
    """What the record says of one item: how far, what, and where it stands."""

    status: Status
    text: str = ""
    where: str = ""


AnswerFunction = Callable[[StudyFolder], Answer]
AUTHOR = Answer("for the author")


def setting_of(folder: StudyFolder, *keys: str) -> Any:
    """A value of the configuration; None where it has none."""
    value: Any = folder.run.configuration
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def parts_of(entry: ModelProvenance) -> list[dict[str, Any]]:
    """Kind and parameters of a model, and of the members of a fusion."""
    own = {"kind": entry.kind, **entry.parameters}
    return [own, *(member for member in entry.parameters.get("of") or () if isinstance(member, dict))]


def model_parts(folder: StudyFolder) -> list[dict[str, Any]]:
    """Kind and parameters of every model and of every member."""
    return [part for entry in folder.run.models for part in parts_of(entry)]


def list_centres(folder: StudyFolder) -> list[str]:
    """The centres that are known."""
    return sorted({subject.centre for subject in folder.cohort.subjects if subject.centre})


def data_sources(folder: StudyFolder) -> Answer:
    """Scans, patients, and the public collection where it was one."""
    patients = len({subject.patient for subject in folder.cohort.subjects})
    text = f"{format_count(folder.cohort.used, 'scan')} of {format_count(patients, 'patient')}"
    collection = setting_of(folder, "cohort", "collection")
    text += f" of the collection {collection}" if collection else ""
    return Answer(
        "partly", f"{text}; whom they represent, and why these, is not in the record", f"{WHO}; {COHORT_TABLE}"
    )


def setting(folder: StudyFolder) -> Answer:
    """The centres, as far as they are known."""
    centres = list_centres(folder)
    if not centres:
        return AUTHOR
    return Answer("partly", f"{format_count(len(centres), 'centre')}; kind and place are not in the record", WHO)


def multi_centre(folder: StudyFolder) -> Answer:
    """Whether there is more than one centre; nothing where none is named."""
    centres = list_centres(folder)
    if not centres:
        return AUTHOR
    if len(centres) == 1:
        return Answer("not done", "one centre", WHO)
    return Answer("answered", f"{len(centres)} centres", f"{WHO}; {COHORT_TABLE}")


def eligibility(folder: StudyFolder) -> Answer:
    """The exclusions by code; clinical criteria are nobody's but the author's."""
    return Answer(
        "partly", f"{_flow(folder)}; clinical criteria are not in the record", f"{WHO}; tables/flow; tables/exclusions"
    )


def flow(folder: StudyFolder) -> Answer:
    """Scans found, used and excluded; patients with an outcome, and events."""
    known = [
        f"{one.name}: known for {format_count(one.n, 'patient')}"
        + (f", {format_count(one.events, 'event')}" if one.kind != "continuous" else "")
        for one in folder.cohort.endpoints
    ]
    text = "; ".join([_flow(folder), *known])
    if any(one.kind == "time-to-event" for one in folder.cohort.endpoints):
        return Answer("partly", f"{text}; of the follow-up the numbers at risk alone", f"{WHO}; {HOW_WELL}")
    return Answer("answered", text, f"{WHO}; tables/flow")


def _flow(folder: StudyFolder) -> str:
    cohort = folder.cohort
    codes = Counter(exclusion.code for exclusion in cohort.exclusions)
    why = ", ".join(f"{code} {n}" for code, n in sorted(codes.items()))
    counts = f"{format_count(cohort.found, 'scan')} found, {cohort.used} used, {cohort.excluded} excluded"
    return f"{counts}{f' ({why})' if why else ''}"


def characteristics(folder: StudyFolder) -> Answer:
    """Age, sex, scanners and so on; what is clinical beside them is in the clinical table."""
    terms = [_in_sentence(fact.term) for fact in cohort_facts(folder.cohort)]
    text = f"{enumeration(terms)}, of all; treatments and the stage are not in the record"
    return Answer("partly", text, f"{WHO}; {COHORT_TABLE}") if terms else AUTHOR


def acquisition(folder: StudyFolder) -> Answer:
    """Scanners, reconstructions, uptake time and dose as the headers have them; the protocol is the author's."""
    quality = scan_quality(folder.cohort)
    said = [f"{scanner}, reconstruction {how}: {count}" for scanner, how, count in quality.scanners]
    said += [f"{one.label.lower()} {one.low:.4g} to {one.high:.4g} {one.unit}" for one in quality.quantities if one.n]
    text = f"{'; '.join(said)}; the protocol is not in the record"
    return Answer("partly", text, f"{WHO}; tables/scanners; tables/scan-quality; {SCANS_TABLE}") if said else AUTHOR


def _in_sentence(term: str) -> str:
    return term if term[:2].isupper() else term[0].lower() + term[1:]


def preprocessing(folder: StudyFolder) -> Answer:
    """SUV by named rules, one grid for all."""
    rules = sorted({subject.calibration.rule for subject in folder.cohort.subjects})
    grid = folder.cohort.grid
    text = (
        f"SUV by rule ({', '.join(rules)}), resampled to {extent(grid.spacing_mm)}, the same for all; "
        "what cannot become SUV is refused under a code"
    )
    return Answer("answered", text, f"{MADE}; {SCANS_TABLE}")


def image_subset(folder: StudyFolder) -> Answer:
    """The field of view, and the region that models measure."""
    region = setting_of(folder, "region")
    text = f"cropped or padded to {extent(folder.cohort.grid.field_of_view_mm)}"
    text += "; the region is set for all models" if region else "; the region of each model is among its parameters"
    return Answer("partly", text, f"{MADE}; {PARAMETERS_TABLE}")


def deidentification(folder: StudyFolder) -> Answer:
    """Pseudonyms in the artefacts; of the images before that nothing is known."""
    text = "artefacts name patients by keyed pseudonyms; how the images were de-identified is not in the record"
    return Answer("partly", text, "run.json; cohort.json")


def outcome(folder: StudyFolder) -> Answer:
    """The endpoints, and which value is the event."""
    said = [
        f"{one.name} ({one.kind}{f', in {one.unit}s' if one.unit else ''}"
        f"{f', event: {one.event_definition}' if one.event_definition else ''})"
        for one in folder.cohort.endpoints
    ]
    return Answer("partly", f"{'; '.join(said)}; how and when it was assessed is not in the record", HOW_WELL)


def missing_data(folder: StudyFolder) -> Answer:
    """What is not known of how many, and what was filled in inside the folds."""
    lacking = [f"{row.what} {row.missing} of {row.n}" for row in folder.evaluation.missing if row.missing]
    imputed = sorted({what for entry in folder.run.models for what in entry.imputed})
    left_out = len(folder.evaluation.exclusions)
    said = [f"not known: {', '.join(lacking)}" if lacking else "nothing that was counted is missing"]
    said += [f"filled in from the training patients of each fold: {', '.join(imputed)}"] if imputed else []
    said += [f"left out by single models: {format_count(left_out, 'scan or feature', 'scans or features')}"]
    tables = "tables/missing-data; tables/left-out" if left_out else "tables/missing-data"
    return Answer("answered", "; ".join(said), f"{WHO}; {tables}") if folder.evaluation.missing else AUTHOR


def input_quality(folder: StudyFolder) -> Answer:
    """The refusals; use in practice is the author's."""
    refused = format_count(folder.cohort.excluded, "scan")
    text = f"scans that cannot become SUV are refused under a code with a remedy; here {refused}"
    return Answer("partly", text, f"{WHO}; cohort.json")


def has_segmentation(folder: StudyFolder) -> Answer:
    """Whether scans have a contour or models a region."""
    contours = sum(subject.contour for subject in folder.cohort.subjects)
    if contours or any("region" in part for part in model_parts(folder)):
        scans = format_count(len(folder.cohort.subjects), "scan")
        return Answer("answered", f"yes; {contours} of {scans} have a contour", f"{WHO}; {SCANS_TABLE}")
    return Answer("answered", "no", WHO)


def segmentation(folder: StudyFolder) -> Answer:
    """The regions that models measure; who drew contours is not known."""
    regions = sorted({str(part["region"]) for part in model_parts(folder) if part.get("region")})
    if not regions:
        return (
            Answer("not applicable", "no model measures a region") if has_segmentation(folder).text == "no" else AUTHOR
        )
    text = f"regions of the models: {', '.join(regions)}; who drew the contours, and how, is not in the record"
    return Answer("partly", text, f"{MADE}; {PARAMETERS_TABLE}")


def automatic_segmentation(folder: StudyFolder) -> Answer:
    """Regions by a threshold are automatic; of contours nobody knows."""
    automatic = [
        model_label(entry.name)
        for entry in folder.run.models
        if any(part.get("region") in ("threshold", "percist") for part in parts_of(entry))
    ]
    if not automatic:
        return AUTHOR
    text = f"by a threshold of SUV in {enumeration(automatic)}; whether contours are automatic is not in the record"
    return Answer("partly", text, f"{MADE}; {PARAMETERS_TABLE}")


def one_modality(folder: StudyFolder) -> Answer:
    """PET alone."""
    return Answer("answered", "one kind of image, PET in SUV; no other enters a model", MADE)


def sample_size(folder: StudyFolder) -> Answer:
    """What the cohort is enough for; how its size came about is the author's."""
    said = [
        f"{size.endpoint}: {format_count(size.n, 'patient')}, {format_count(size.events, 'event')}, enough for "
        f"{format_count(size.parameters, 'candidate parameter')} of an unpenalised model (Riley et al. 2020)"
        for size in folder.evaluation.sample_sizes
    ]
    text = f"{'; '.join(said)}; how the size was arrived at is not in the record"
    return Answer("partly", text, f"{SUBGROUPS}; tables/*-sample-size") if said else AUTHOR


def limitations(folder: StudyFolder) -> Answer:
    """The caveats of the study."""
    notes = folder.run.notes
    return Answer("partly", f"{format_count(len(notes), 'caveat')} of the run", f"{MADE}, Caveats") if notes else AUTHOR


def software(folder: StudyFolder) -> Answer:
    """Versions and digests."""
    platform = folder.run.platform
    text = (
        f"twobe3 {folder.run.package_version}, Python {platform.python}, PyTorch {platform.torch}, NumPy "
        f"{platform.numpy}; digests of configuration and cohort"
    )
    return Answer("answered", text, f"{MADE}; run.json")


def technical_details(folder: StudyFolder) -> Answer:
    """The configuration; a protocol is the author's."""
    text = f"the whole configuration, digest {folder.run.configuration_digest[:12]}; a protocol is not in the record"
    return Answer("partly", text, f"{MADE}; run.json")


def data_availability(folder: StudyFolder) -> Answer:
    """A public collection is available; nothing is known of other data."""
    collection = setting_of(folder, "cohort", "collection")
    if not collection:
        return AUTHOR
    return Answer(
        "partly", f"clinical data of the collection {collection}; its terms are not in the record", "run.json"
    )


def code_availability(folder: StudyFolder) -> Answer:
    """The version that made it; where the author's own code is, nobody knows."""
    text = f"made by twobe3 {folder.run.package_version} (Apache-2.0); the author's own code is not in the record"
    return Answer("partly", text, f"{MADE}; run.json")


def model_files(folder: StudyFolder) -> Answer:
    """Every model fitted on all patients, where they are there."""
    files = list((folder.path / "models").glob("*.safetensors"))
    if not files:
        return AUTHOR
    count = format_count(len(files), "model")
    text = f"{count} fitted on all patients, for `twobe3 predict`; whether they are shared is not in the record"
    return Answer("partly", text, "models/")


def checklists_made(folder: StudyFolder) -> Answer:
    """These tables."""
    return Answer("partly", "these tables, to be completed by the author", "tables/checklist-*")


def names_of_metrics(folder: StudyFolder) -> list[str]:
    """Every metric that is given, in words."""
    names = dict.fromkeys(metric.name.partition("@")[0] for one in folder.evaluation.models for metric in one.metrics)
    return [metric_label(name) for name in names]
