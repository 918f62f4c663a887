"""What the record of a run answers of reporting guidelines: validation and results."""

from __future__ import annotations

from twobe3.core.counts import format_count
from twobe3.evaluation.explanations import EXPLANATIONS
from twobe3.evaluation.metrics import find_metric
from twobe3.evaluation.results import Evaluation
from twobe3.report.checklist_answers import (
    AGAINST,
    AUTHOR,
    HOW_WELL,
    MADE,
    PATIENTS,
    SUBGROUPS,
    WHO,
    Answer,
    model_parts,
    names_of_metrics,
)
from twobe3.report.study_folder import StudyFolder
from twobe3.report.wording import enumeration, measure, metric_label, model_label, scheme

EXTERNAL, BY_CENTRE = "external cohort", "leave-one-centre-out"
CALIBRATION = ("calibration_slope", "calibration_intercept", "observed_expected", "d_calibration")


def partition(folder: StudyFolder) -> Answer:
    """The scheme."""
    validation = folder.run.validation
    count, what = scheme(validation)
    return Answer("answered", f"{validation.scheme}: {count} {what}, seed {validation.seed}", f"{MADE}; folds.json")


def disjoint_patients(folder: StudyFolder) -> Answer:
    """The patient; what the audit found, where there was one."""
    text = "by patient: all scans of one, and of ids that are one by their scans, are in one fold"
    audit = folder.run.audit
    if audit is not None:
        text += f"; audit: {len(audit.shared)} of {format_count(audit.folds, 'fold')} with a patient on both sides"
        if not audit.passed:
            return Answer("partly", f"{text}; the audit failed", MADE)
    return Answer("answered", text, f"{MADE}; folds.json")


def train_and_test(folder: StudyFolder) -> Answer:
    """One cohort on both sides of a fold, unless another was tested."""
    if folder.run.external is not None or folder.run.validation.scheme == EXTERNAL:
        return Answer("partly", "another cohort was tested; its table stands beside this one", f"{WHO}; tables/cohort")
    if folder.run.validation.scheme == BY_CENTRE:
        return Answer("partly", "tested patients are of a centre that the models did not see", f"{WHO}; {SUBGROUPS}")
    return Answer("answered", "training and tested patients are of one cohort", MADE)


def internal_testing(folder: StudyFolder) -> Answer:
    """Out of fold."""
    if folder.run.validation.scheme == EXTERNAL:
        return Answer("not applicable", "these are the results of an external cohort", MADE)
    count, what = scheme(folder.run.validation)
    return Answer("answered", f"{folder.run.validation.scheme}: {count} {what}", f"{HOW_WELL}; tables/*-models")


def same_institute(folder: StudyFolder) -> Answer:
    """Patients left out are of the same cohort; a further set of the same institute is something else."""
    tested = internal_testing(folder)
    if tested.status == "not applicable":
        return tested
    return Answer("partly", f"{tested.text}; no further data of the same institute", tested.where)


def external_testing(folder: StudyFolder) -> Answer:
    """A second cohort; centres in turn are half of it."""
    if folder.run.external is not None:
        return Answer("answered", f"{folder.run.external.get('used')} scans of another cohort", "external/report.html")
    if folder.run.validation.scheme == EXTERNAL:
        return Answer("answered", "these are the results of an external cohort", HOW_WELL)
    if folder.run.validation.scheme == BY_CENTRE:
        return Answer("partly", "each centre in turn by models that did not see it; no other cohort", HOW_WELL)
    return Answer("not done", "no other cohort was tested", HOW_WELL)


def measures(folder: StudyFolder) -> Answer:
    """All metrics, curves and tests."""
    names = names_of_metrics(folder)
    if not names:
        return AUTHOR
    pairs = format_count(len(folder.evaluation.comparisons), "paired comparison")
    return Answer("answered", f"{'; '.join(names)}; {pairs}", f"{HOW_WELL}; {AGAINST}; figures/; tables/estimators")


def uncertainty(folder: StudyFolder) -> Answer:
    """Intervals and adjusted p-values."""
    with_interval = [m for one in folder.evaluation.models for m in one.metrics if m.low is not None]
    if not with_interval:
        return AUTHOR
    text = f"95 % intervals of {format_count(len(with_interval), 'figure')}"
    text += "; differences with p, adjusted for all pairs (Holm)" if folder.evaluation.comparisons else ""
    return Answer("answered", text, f"{HOW_WELL}; {AGAINST}; tables/estimators")


def calibration(folder: StudyFolder) -> Answer:
    """Slope, intercept, curves."""
    names = [name for name in CALIBRATION if any(one.get(name) for one in folder.evaluation.models)]
    curves = any(c.name == "calibration" for one in folder.evaluation.models for c in one.curves)
    if not names and not curves:
        return Answer("not done", "no model gives a probability whose calibration was evaluated", HOW_WELL)
    said = [metric_label(name) for name in names] + (["calibration curves"] if curves else [])
    return Answer("answered", enumeration(said), f"{HOW_WELL}; figures/*-calibration; tables/*-metrics")


def clinical_utility(folder: StudyFolder) -> Answer:
    """Decision curves; what to do with them is the author's."""
    if not any(curve.name == "net_benefit" for one in folder.evaluation.models for curve in one.curves):
        return AUTHOR
    text = "decision curves; the clinical use is not in the record"
    return Answer("partly", text, f"{HOW_WELL}; figures/*-decision-curves")


def performance(folder: StudyFolder) -> Answer:
    """The best model of each endpoint; of the others the table has as much."""
    said = [
        f"{endpoint}: {model_label(best.model)}, {metric_label(best.primary_metric.metric)} "
        f"{measure(best.headline)}, n {best.n}"
        for endpoint, best in _best(folder).items()
    ]
    return Answer("answered", "; ".join(said), f"{HOW_WELL}; {SUBGROUPS}; tables/*-models") if said else AUTHOR


def diagnostic_accuracy(folder: StudyFolder) -> Answer:
    """Sensitivity and specificity of the best model at the thresholds of the folds."""
    said = [
        f"{endpoint}: {model_label(best.model)}, sensitivity {measure(best.get('sensitivity'))}, "
        f"specificity {measure(best.get('specificity'))}"
        for endpoint, best in _best(folder).items()
        if best.get("sensitivity") and best.get("specificity")
    ]
    if not said:
        return Answer("not applicable", "no endpoint is decided by a threshold", HOW_WELL)
    return Answer("answered", "; ".join(said), f"{HOW_WELL}; tables/*-metrics")


def _best(folder: StudyFolder) -> dict[str, Evaluation]:
    """The model with the best primary metric of each endpoint."""
    ranked: dict[str, list[tuple[float, Evaluation]]] = {}
    for one in folder.evaluation.models:
        metric = one.headline
        if metric is not None and metric.value is not None:
            sign = -1 if find_metric(metric.name, one.kind).higher_is_better is False else 1
            ranked.setdefault(one.endpoint, []).append((sign * metric.value, one))
    return {endpoint: max(models, key=lambda pair: pair[0])[1] for endpoint, models in ranked.items()}


def numbers_analysed(folder: StudyFolder) -> Answer:
    """Patients and events of every model."""
    said = []
    for endpoint in dict.fromkeys(one.endpoint for one in folder.evaluation.models):
        counts = sorted({one.n for one in folder.evaluation.models if one.endpoint == endpoint})
        said.append(
            f"{endpoint}: {' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} patients a model"
        )
    return Answer("answered", "; ".join(said), f"{HOW_WELL}; tables/*-models") if said else AUTHOR


def output(folder: StudyFolder) -> Answer:
    """Risk, probability, and thresholds chosen with training patients."""
    probabilities = any(one.probability is not None for one in folder.predictions)
    text = "a risk" + (", and a probability of the event" if probabilities else "")
    if not (folder.path / "decisions.csv").is_file():
        return Answer("partly", text, "predictions.csv")
    return Answer("answered", f"{text}; thresholds are chosen with the training patients of each fold", "decisions.csv")


def recalibration(folder: StudyFolder) -> Answer:
    """Whether predictions were recalibrated."""
    if not folder.run.validation.recalibrate:
        return Answer("not done", "no model was recalibrated or updated", MADE)
    return Answer("answered", "recalibrated in every fold by its training patients", f"{MADE}; {HOW_WELL}")


def heterogeneity(folder: StudyFolder) -> Answer:
    """Results by centre."""
    parts = {part.level for part in folder.evaluation.subgroups if part.factor == "centre"}
    if not parts:
        return Answer("not done", "no results by centre", SUBGROUPS)
    return Answer("answered", f"results in {format_count(len(parts), 'centre')}", f"{SUBGROUPS}; tables/*-subgroups")


def fairness(folder: StudyFolder) -> Answer:
    """Results by sex and age; what follows from them is the author's."""
    factors = dict.fromkeys(part.factor for part in folder.evaluation.subgroups)
    if not factors:
        return Answer("not done", "no results in parts of the cohort", SUBGROUPS)
    text = f"results by {enumeration(list(factors))}; no correction is in the record"
    return Answer("partly", text, f"{SUBGROUPS}; tables/*-subgroups")


def robustness(folder: StudyFolder) -> Answer:
    """Permuted outcomes, shuffled voxels, features under other contours."""
    audit = folder.run.audit
    said = ["outcomes were permuted"] if audit is not None and audit.permuted else []
    said += ["voxels were shuffled"] if any(part.get("voxels") == "shuffled" for part in model_parts(folder)) else []
    said += ["other contours"] if any(part.get("stability") is not None for part in model_parts(folder)) else []
    if not said:
        return Answer("not done", "no analysis of robustness", HOW_WELL)
    return Answer("partly", enumeration(said), f"{MADE}; {HOW_WELL}")


def explainability(folder: StudyFolder) -> Answer:
    """Maps and contributions, where the study made them."""
    if folder.explanations.maps:
        return Answer("answered", _describe_maps(folder), f"{PATIENTS}; {EXPLANATIONS}/")
    if any(entry.parts for entry in folder.run.models):
        return Answer("partly", "shares of the parts of a model in its risk", f"{MADE}; run.json")
    return Answer("not done", "no explanation was made", MADE)


def explanation_checks(folder: StudyFolder) -> Answer:
    """Sanity checks beside every map."""
    if any(one.checks for one in folder.explanations.maps):
        return Answer("answered", _describe_maps(folder), f"{PATIENTS}; {EXPLANATIONS}/{EXPLANATIONS}.json")
    return Answer("not done", "no explanation was checked", MADE)


def _describe_maps(folder: StudyFolder) -> str:
    maps = folder.explanations.maps
    methods, checked = sorted({one.method for one in maps}), [one for one in maps if one.checks]
    passed = sum(one.passed for one in checked)
    text = f"{format_count(len(maps), 'map')} of where the risk comes from ({', '.join(methods)})"
    return f"{text}; {passed} of {len(checked)} passed their sanity checks" if checked else text


def failures(folder: StudyFolder) -> Answer:
    """Every patient's risk; why a model fails is the author's."""
    text = "the risk of every patient, out of fold; why predictions fail is not in the record"
    return Answer("partly", text, f"{PATIENTS}; predictions.csv")


def dimensionality(folder: StudyFolder) -> Answer:
    """Candidate parameters beside events; whether that is appropriate is for a reader to say."""
    said = [
        f"{size.endpoint}: {min(ratios)} to {max(ratios)} events for each candidate parameter"
        for size in folder.evaluation.sample_sizes
        if (ratios := [round(model.events_per_parameter, 3) for model in size.models])
    ]
    return Answer("partly", "; ".join(said), f"{SUBGROUPS}; tables/*-sample-size") if said else AUTHOR


def confounders(folder: StudyFolder) -> Answer:
    """Trivial explanations as models of their own."""
    names = [model_label(entry.name) for entry in folder.run.models if entry.is_baseline]
    if not names:
        return Answer("not done", "no baseline was tested", HOW_WELL)
    return Answer("partly", f"baselines: {enumeration(names)}", f"{AGAINST}; tables/*-differences-*")


def simple_models(folder: StudyFolder) -> Answer:
    """The baselines."""
    names = [model_label(entry.name) for entry in folder.run.models if entry.kind == "baseline"]
    if not names:
        return Answer("not done", "no baseline was tested", HOW_WELL)
    return Answer("answered", f"baselines: {enumeration(names)}", f"{AGAINST}; tables/*-differences-*")


def other_approaches(folder: StudyFolder) -> Answer:
    """Clinical baselines."""
    clinical = ("clinical", "age", "sex", "weight")
    names = [model_label(entry.name) for entry in folder.run.models if entry.parameters.get("variable") in clinical]
    if not names:
        return Answer("not done", "no clinical baseline was tested", HOW_WELL)
    return Answer("answered", f"clinical baselines: {enumeration(names)}", f"{AGAINST}; tables/*-differences-*")
