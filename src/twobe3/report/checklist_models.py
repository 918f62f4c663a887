"""What the record of a run answers of reporting guidelines: models, their features, their training."""

from __future__ import annotations

from twobe3.core.counts import format_count
from twobe3.report.checklist_answers import (
    AUTHOR,
    HOW_WELL,
    MADE,
    NETWORKS,
    PARAMETERS_TABLE,
    Answer,
    model_parts,
    parts_of,
)
from twobe3.report.study_folder import StudyFolder
from twobe3.report.wording import enumeration, model_label, number, parameter, scheme


def predictors(folder: StudyFolder) -> Answer:
    """Images and covariates of the models; why these is the author's."""
    covariates = sorted({str(name) for part in model_parts(folder) for name in part.get("covariates") or ()})
    text = "the PET scan" + (f", and {enumeration(covariates)}" if covariates else "")
    return Answer("partly", f"{text}; why these is not in the record", f"{MADE}; {PARAMETERS_TABLE}")


def predictor_handling(folder: StudyFolder) -> Answer:
    """Parameters of the models; when and how covariates were measured is the author's."""
    text = "by the parameters of each model, fitted on training patients alone; when measured is not in the record"
    return Answer("partly", text, f"{MADE}; {PARAMETERS_TABLE}")


def model_building(folder: StudyFolder) -> Answer:
    """Kinds of models, and where their settings are chosen."""
    kinds = dict.fromkeys("baseline" if entry.is_baseline else entry.kind for entry in folder.run.models)
    text = f"{format_count(len(folder.run.models), 'model')} ({enumeration(list(kinds))})"
    inner = folder.run.validation.inner_folds
    text += f"; settings are chosen in {inner} inner folds of the training patients" if inner else ""
    return Answer("answered", text, f"{MADE}; {PARAMETERS_TABLE}")


def training(folder: StudyFolder) -> Answer:
    """Parameters and times."""
    return Answer("answered", "parameters and times of every model", f"{MADE}; {PARAMETERS_TABLE}; run.json")


def model_selection(folder: StudyFolder) -> Answer:
    """All models are reported; settings are chosen inside the training part."""
    text = (
        "settings are chosen inside the training patients; every model is reported, and none is chosen by those tested"
    )
    return Answer("answered", text, f"{MADE}; {HOW_WELL}")


def initialisation(folder: StudyFolder) -> Answer:
    """Weights and seeds."""
    weights = sorted({parameter(part["weights"]) for part in model_parts(folder) if _has_weights(part)})
    seeds = sorted({part["seed"] for part in model_parts(folder) if isinstance(part.get("seed"), int)})
    said = [f"weights: {', '.join(weights)}"] if weights else []
    said += [f"seeds: {', '.join(map(str, seeds))}"] if seeds else []
    return Answer("answered", "; ".join(said), f"{MADE}; {PARAMETERS_TABLE}") if said else AUTHOR


def _has_weights(part: dict[str, object]) -> bool:
    """Whether a model starts from weights of a network; those of a fusion are of its members."""
    return bool(part.get("weights")) and part["kind"] != "fusion"


def ensembles(folder: StudyFolder) -> Answer:
    """Fusions, and models of several members."""
    joined = [model_label(entry.name) for entry in folder.run.models if any(map(_is_ensemble, parts_of(entry)))]
    if not joined:
        return Answer("not done", "no model is a fusion or an ensemble", MADE)
    return Answer("answered", enumeration(joined), f"{MADE}; {PARAMETERS_TABLE}")


def _is_ensemble(part: dict[str, object]) -> bool:
    several = isinstance(size := part.get("ensemble_size"), int) and size > 1
    trees = part.get("learner") in ("random-forest", "random-survival-forest", "gradient-boosting")
    return part["kind"] == "fusion" or several or trees or part.get("weighing") == "cross-fitted"


def has_handcrafted_features(folder: StudyFolder) -> Answer:
    """Radiomics and measured baselines."""
    there = [model_label(entry.name) for entry in folder.run.models if any(_measures(part) for part in parts_of(entry))]
    return Answer("answered", f"yes: {enumeration(there)}" if there else "no", f"{MADE}; {PARAMETERS_TABLE}")


def has_tabular_data(folder: StudyFolder) -> Answer:
    """Features and covariates as tables."""
    is_there = any(part["kind"] not in NETWORKS | {"fusion"} or part.get("covariates") for part in model_parts(folder))
    return Answer("answered", "yes" if is_there else "no", MADE)


def has_deep_learning(folder: StudyFolder) -> Answer:
    """Networks that are trained on the scans of the study."""
    there = sorted({part["kind"] for part in model_parts(folder)} & NETWORKS)
    return Answer("answered", f"yes: {enumeration(there)}" if there else "no", MADE)


def deep_robustness(folder: StudyFolder) -> Answer:
    """Networks are fitted anew in every fold of every repeat."""
    if has_deep_learning(folder).text == "no":
        return Answer("not applicable", "no network is trained on the scans", MADE)
    count, what = scheme(folder.run.validation)
    return Answer("partly", f"networks are trained anew in {count} {what}; no further test is in the record", HOW_WELL)


def _measures(part: dict[str, object]) -> bool:
    measured = ("suvmax", "tumour_volume", "tlg")
    return part["kind"] == "radiomics" or (part["kind"] == "baseline" and part.get("variable") in measured)


def _radiomics(folder: StudyFolder) -> list[dict[str, object]]:
    return [part for part in model_parts(folder) if part["kind"] == "radiomics"]


def feature_software(folder: StudyFolder) -> Answer:
    """IBSI features."""
    if not _radiomics(folder):
        return Answer("not applicable", "no model of hand-crafted features", MADE)
    text = "features of the Image Biomarker Standardisation Initiative (IBSI), by MIRP, and features of PET"
    return Answer("answered", text, f"{MADE}; {PARAMETERS_TABLE}")


def feature_parameters(folder: StudyFolder) -> Answer:
    """Spacing, width of bins, filters."""
    if not _radiomics(folder):
        return Answer("not applicable", "no model of hand-crafted features", MADE)
    return Answer("answered", "spacing, width of bins, filters and region of every model", PARAMETERS_TABLE)


def feature_robustness(folder: StudyFolder) -> Answer:
    """Features that another contour changes, where they were left out."""
    if not _radiomics(folder):
        return Answer("not applicable", "no model of hand-crafted features", MADE)
    if all(part.get("stability") is None for part in _radiomics(folder)):
        return Answer("not done", "no feature was left out for want of robustness", PARAMETERS_TABLE)
    text = "features that a contour smaller or larger by a layer of voxels changes are left out, inside each fold"
    return Answer("answered", text, PARAMETERS_TABLE)


def feature_redundancy(folder: StudyFolder) -> Answer:
    """Features that rank patients alike, and how many are kept."""
    if not _radiomics(folder):
        return Answer("not applicable", "no model of hand-crafted features", MADE)
    limits = sorted({number(float(str(part["redundancy"]))) for part in _radiomics(folder) if "redundancy" in part})
    kept = sorted({str(part["max_features"]) for part in _radiomics(folder) if "max_features" in part})
    text = f"rank correlation up to {', '.join(limits)}, at most {', '.join(kept)} features, chosen inside each fold"
    return Answer("answered", text, PARAMETERS_TABLE) if limits and kept else AUTHOR


def harmonisation(folder: StudyFolder) -> Answer:
    """One grid for all; ComBat where asked for."""
    if any(part.get("harmonise") == "combat" for part in model_parts(folder)):
        return Answer(
            "answered", "features by ComBat, fitted inside each fold; one grid for all scans", PARAMETERS_TABLE
        )
    return Answer("partly", "one grid for all scans; features were not harmonised", f"{MADE}; {PARAMETERS_TABLE}")


def combination(folder: StudyFolder) -> Answer:
    """A fusion of hand-crafted features and a network."""
    both = [
        model_label(entry.name)
        for entry in folder.run.models
        if (kinds := {part["kind"] for part in parts_of(entry)}) & NETWORKS and "radiomics" in kinds
    ]
    if not both:
        return Answer("not done", "no model combines them", MADE)
    return Answer("answered", enumeration(both), f"{HOW_WELL}; {PARAMETERS_TABLE}")


def other_variables(folder: StudyFolder) -> Answer:
    """Clinical covariates in a model of images."""
    there = [
        model_label(entry.name)
        for entry in folder.run.models
        if entry.kind != "baseline"
        and any(part.get("covariates") or part.get("variable") == "clinical" for part in parts_of(entry))
    ]
    if not there:
        return Answer("not done", "no model of images has clinical covariates", MADE)
    return Answer("answered", enumeration(there), f"{HOW_WELL}; {PARAMETERS_TABLE}")
