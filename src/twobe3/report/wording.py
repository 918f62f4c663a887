"""How the report says things: labels, numbers, the answer at its head, the methods."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from twobe3.core.counts import format_count
from twobe3.evaluation.compare import DIFFERENCE, POWER
from twobe3.evaluation.metrics import WITHIN_FOLDS, find_metric
from twobe3.evaluation.provenance import Audit
from twobe3.evaluation.results import NOT_ESTIMABLE, Comparison, Evaluation, EvaluationResults, MetricValue
from twobe3.report.study_folder import StudyFolder, ValidationRecord

SIGNIFICANCE = 0.05
HORIZON = "@"
TEST_LABELS = {"delong": "p, DeLong", "corrected_t": "p, across folds"}
METRIC_LABELS = {
    "auc": "AUC",
    "auc_within_folds": "AUC within folds",
    "harrell_c_within_folds": "Harrell’s C within folds",
    "cause_specific_c": "Cause-specific C",
    "cumulative_auc": "Cumulative AUC",
    "integrated_brier": "Integrated Brier score",
    "observed_expected": "Observed / expected",
    "calibration_intercept": "Calibration intercept, slope 1",
    "recalibration_intercept": "Intercept beside the slope",
    "d_calibration": "D-calibration, p",
    "average_precision": "Average precision",
    "brier": "Brier score",
    "harrell_c": "Harrell’s C",
    "uno_c": "Uno’s C",
    "mae": "Mean absolute error",
    "r2": "R²",
    "spearman": "Spearman’s ρ",
}


def metric_label(name: str) -> str:
    """A metric's name as the field writes it; ``brier@365`` is that at a horizon."""
    name, at, horizon = name.partition(HORIZON)
    label = METRIC_LABELS.get(name, name.replace("_", " ").capitalize())
    return f"{label} at {horizon}" if at else label


SEXES = {"F": "female", "M": "male", "O": "other"}
MEASURES = {"suvmax": "SUVmax", "tumour_volume": "tumour volume", "tlg": "TLG"}
MODEL_LABELS = {"image_extent": "image extent", "clinical": "clinical covariates", "weight": "body weight"}
_MEASURED = re.compile(rf"({'|'.join(MEASURES)}) \((.+)\)")
_RADIOMICS = re.compile(r"radiomics ([a-z-]+) \((.+?)(, shuffled voxels)?\)")
_CLINICAL = re.compile(r"clinical (\(.+\))")


def model_label(name: str) -> str:
    """A model's name in the words of the field, where it is one that the study gave: ``SUVmax in the contour``.

    Names that the user chose stay; two models never share a label, since nothing of a name is lost.
    """
    if found := _MEASURED.fullmatch(name):
        return f"{MEASURES[found[1]]} {_locate(found[2])}"
    if found := _RADIOMICS.fullmatch(name):
        regions = ", else ".join(_locate(region) for region in found[2].split(", else "))
        return f"radiomics {regions} ({found[1].replace('-', ' ')}{found[3] or ''})"
    if found := _CLINICAL.fullmatch(name):
        return f"{MODEL_LABELS['clinical']} {found[1]}"
    return MODEL_LABELS.get(name, name)


def level_label(level: str, factor: str) -> str:
    """A part of the cohort in words: ``F`` of the factor sex is ``female``."""
    return SEXES.get(level, level) if factor == "sex" else level


def _locate(region: str) -> str:
    """Where something is measured, from the label of a region."""
    if region == "PERCIST":
        return "above the PERCIST threshold"
    if region.startswith("SUV > "):
        return f"above SUV {region.removeprefix('SUV > ')}"
    return f"above {region}" if "% of SUVmax" in region else f"in the {region}"


def number(value: float | None, decimals: int = 2) -> str:
    """A number with a true minus sign; None is "not estimable"."""
    if value is None:
        return NOT_ESTIMABLE
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def with_sign(value: float | None) -> str:
    """A difference, with its sign."""
    text = number(value)
    return text if value is None or text.startswith("−") or float(text) == 0 else f"+{text}"


def interval(low: float | None, high: float | None) -> str:
    """An interval; "to" where a dash could be read as a minus sign."""
    if low is None or high is None:
        return NOT_ESTIMABLE
    first, last = number(low), number(high)
    return f"{first} to {last}" if "−" in first else f"{first}–{last}"


def measure(metric: MetricValue | None) -> str:
    """A metric's value with its interval."""
    if metric is None or metric.value is None or metric.low is None:
        return number(metric.value if metric else None)
    return f"{number(metric.value)} ({interval(metric.low, metric.high)})"


def p_value(p: float | None) -> str:
    """A p-value, not more precise than it is worth."""
    if p is None:
        return NOT_ESTIMABLE
    return "<\N{NO-BREAK SPACE}0.001" if p < 0.001 else number(p, 3 if p < 0.1 else 2)


def patients(count: float) -> str:
    """A number of patients that was estimated: two digits are what it is worth."""
    if count >= 100:
        count = float(f"{count:.1e}")
    return f"{round(count):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def share(part: int, whole: int) -> str:
    """A share in per cent."""
    return f"{100 * part / whole:.0f}\N{NO-BREAK SPACE}%" if whole else NOT_ESTIMABLE


def duration(seconds: float) -> str:
    """A duration in the unit that suits it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def extent(lengths: Sequence[float]) -> str:
    """Three lengths in millimetres; the number alone when they are equal."""
    texts = [f"{length:.4g}" for length in lengths]
    return f"{texts[0]} mm" if len(set(texts)) == 1 else " × ".join(texts) + " mm"


def enumeration(items: Sequence[str]) -> str:
    """Items as a sentence has them: "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def parameter(value: Any) -> str:
    """A model's parameter; of a file only its name, since a path tells who ran the study and where.

    Of a model that is part of another its name too: its own parameters have a row of their own.
    """
    if isinstance(value, dict) and "name" in value:
        return str(value["name"])
    if isinstance(value, list | tuple):
        return ", ".join(f"({parameter(i)})" if isinstance(i, list | tuple) else parameter(i) for i in value)
    if isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()):
        return PureWindowsPath(value).name
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return str(value)


def why_primary(result: Evaluation) -> str:
    """By which metric the models of an endpoint are compared, and why; empty where there is nothing to choose."""
    if result.endpoint_class.primary_metric not in WITHIN_FOLDS:
        return ""
    label, reason = metric_label(result.primary_metric.metric), result.primary_metric.reason
    return f"Models are ranked and compared by {label}: {reason}."


@dataclass(frozen=True)
class Answer:
    """What the study says of one endpoint; the template sets ``lead`` in bold before ``sentence``."""

    lead: str
    sentence: str
    remarks: tuple[str, ...]


def answer(
    endpoint: str, results: Sequence[Evaluation], comparisons: Sequence[Comparison], kinds: Mapping[str, str]
) -> Answer:
    """Say whether the best candidate is shown to be better than the best baseline.

    Whatever else the candidate lies above, this one pair is spoken of. Shown is what both the bootstrap and the
    corrected test across folds show, each adjusted for all pairs. ``results`` has one model at least, ``comparisons``
    the paired differences of the metric by which they are compared, ``kinds`` the kind of each model by name.
    """
    primary = results[0].primary_metric.metric
    label, sign = metric_label(primary), -1 if find_metric(primary, results[0].kind).higher_is_better is False else 1
    known = [(one, metric) for one in results if (metric := one.headline) is not None and metric.value is not None]
    known.sort(key=lambda pair: sign * (pair[1].value or 0.0), reverse=True)
    if not known:
        return Answer("No model", f"has an estimable {label} for {endpoint}.", ())
    baselines = [pair for pair in known if kinds.get(pair[0].model) == "baseline"]
    candidates = [pair for pair in known if pair not in baselines]
    best, metric = (candidates or baselines)[0]
    pair: Comparison | None = None
    within = "" if metric.low is None else f" (95 % interval {interval(metric.low, metric.high)})"
    value = f"{number(metric.value)}{within}"
    if candidates and baselines:
        control, its_metric = baselines[0]
        pair = next((c for c in comparisons if {c.model_a, c.model_b} == {best.model, control.model}), None)
        verdict, figures = _describe_difference(best.model, pair, sign)
        sentence = (
            f"{verdict} {model_label(control.model)}, the best baseline, for {endpoint}: {label} {value} against "
        )
        sentence += f"{measure(its_metric)}{figures}."
    else:
        found = "had the best" if len(known) > 1 else "is the only model with an estimable"
        sentence = f"{found} {label} for {endpoint}, {value}; {_describe_lack(results, kinds, bool(candidates))}."
    chance, pooled = best.endpoint_class.chance_level, best.endpoint_class.primary_metric
    remarks = []
    if metric.low is not None and metric.low <= chance and metric.name in (pooled, WITHIN_FOLDS.get(pooled)):
        remarks.append(f"Its interval includes {chance:g}, the value of chance.")
    if pair is not None and pair.patients_needed is not None and not is_resolved(pair):
        remarks.append(
            f"About {patients(pair.patients_needed)} patients like these would be needed to see a difference of "
            f"{DIFFERENCE:g} between the two with a power of {share(round(100 * POWER), 100)}."
        )
    return Answer(model_label(best.model), sentence, tuple(remarks))


def is_resolved(comparison: Comparison) -> bool:
    """Whether a difference excludes 0 after Holm’s correction: by the bootstrap and, where made, across folds."""
    across = _p_across_folds(comparison)
    return _is_small(comparison.p_holm) and (across is None or _is_small(across))


def swap(comparison: Comparison) -> Comparison:
    """The same pair, the second model first."""
    turned = [None if x is None else -x for x in (comparison.difference, comparison.high, comparison.low)]
    a, b = comparison.model_a, comparison.model_b
    return replace(comparison, model_a=b, model_b=a, difference=turned[0], low=turned[1], high=turned[2])


def _describe_difference(best: str, pair: Comparison | None, sign: int) -> tuple[str, str]:
    """How the best candidate compares with the best baseline: the verb of the sentence, and the figures at its end."""
    if pair is None or pair.difference is None:
        return "could not be compared with", "; no patient was predicted by both" if pair and not pair.n else ""
    if pair.model_a != best:
        pair = swap(pair)
    across = _p_across_folds(pair)
    p_values = [f"{_p_equals(pair.p_holm)} by bootstrap", f"{_p_equals(across)} across folds"]
    agree = _is_small(pair.p_holm) == _is_small(across)
    limits = "" if pair.low is None else f" ({interval(pair.low, pair.high)})"
    figures = (
        f"; difference {with_sign(pair.difference)}{limits} on {format_count(pair.n, 'patient')}, "
        f"{(' and ' if agree else ', but ').join(p_values)}, after Holm’s correction"
    )
    return _choose_verdict(sign * (pair.difference or 0.0), _is_small(pair.p_holm), across), figures


def _choose_verdict(gain: float, by_bootstrap: bool, across: float | None) -> str:
    if by_bootstrap and across is not None and _is_small(across):
        return f"is shown to be {'better' if gain > 0 else 'worse'} than"
    if gain <= 0:
        return "is not better than"
    if by_bootstrap and across is None:
        return "is by the bootstrap alone better than"
    return "is not shown to be better than"


def _describe_lack(results: Sequence[Evaluation], kinds: Mapping[str, str], by_candidate: bool) -> str:
    """Why the best model could not be compared: there are only candidates, or only baselines."""
    baselines = sum(kinds.get(one.model) == "baseline" for one in results)
    tested = baselines if by_candidate else len(results) - baselines
    lacking = "baseline" if by_candidate else "other model"
    lack = f"that of no {lacking} was estimable" if tested else f"no {lacking} was tested"
    if not by_candidate:
        return f"it is a baseline, and {lack}"
    return f"{lack}, so it is not shown to be better than a trivial explanation"


def _p_across_folds(comparison: Comparison) -> float | None:
    test = comparison.test("corrected_t")
    return None if test is None else test.p_holm


def _is_small(p: float | None) -> bool:
    return p is not None and p < SIGNIFICANCE


def _p_equals(p: float | None) -> str:
    text = p_value(p)
    return f"p {text}" if p is None or text.startswith("<") else f"p = {text}"


def methods(folder: StudyFolder) -> tuple[str, ...]:
    """The methods paragraph, a sentence to an item, generated from the artefacts."""
    cohort, run = folder.cohort, folder.run
    validation, grid = run.validation, cohort.grid
    patients = len({subject.patient for subject in cohort.subjects})
    sentences = [
        f"{format_count(cohort.used, 'PET scan')} of {format_count(patients, 'patient')} "
        f"{'was' if cohort.used == 1 else 'were'} converted to SUV, resampled to voxels of "
        f"{extent(grid.spacing_mm)} and cropped or padded to {extent(grid.field_of_view_mm)} "
        "(along the body, then rows, columns).",
        f"{enumeration([model_label(entry.name) for entry in run.models])} were {_scheme(validation)}",
    ]
    if validation.recalibrate:
        sentences.append(
            "In every fold an inner cross-validation of the training patients recalibrated the predictions and chose "
            "thresholds and cut-offs."
        )
    if validation.inner_folds:
        sentences.append(
            f"A model that selects settings does so in {validation.inner_folds} inner folds of its training patients, "
            "never on the patients it is tested on."
        )
    failed = sum(m.failed_resamples for r in folder.evaluation.models for m in r.metrics)
    if failed:
        resamples = format_count(failed, "resample")
        sentences.append(f"{resamples}, over all models and metrics, could not be evaluated, and left out.")
    return tuple(sentences)


def scheme(validation: ValidationRecord) -> tuple[str, str]:
    """How the patients were divided, as a number and a word for the head of the page: "2 × 5", "folds"."""
    if validation.scheme == "leave-one-centre-out":
        return str(validation.folds), "centres in turn"
    if validation.scheme == "split":
        return "1", "split named in advance"
    if validation.scheme == "external cohort":
        return "1", "cohort that no model had seen"
    return f"{validation.repeats} × {validation.folds}", "folds"


def _scheme(validation: ValidationRecord) -> str:
    """What was done with the models, as the end of a sentence."""
    times = "once" if validation.repeats == 1 else f"{validation.repeats} times with different partitions"
    told = {
        "external cohort": "fitted on all patients of another cohort and tested on this one, which none of them is in.",
        "leave-one-centre-out": f"tested on each of {validation.folds} centres in turn, fitted on the others.",
        "split": "fitted on the training and tested on the test patients of one split, which was named in advance.",
        "saved folds": f"fitted and tested on the same {validation.folds} folds of an earlier run, {times}, "
        "all scans of a patient in one fold.",
    }
    return told.get(
        validation.scheme,
        f"fitted and tested on the same folds: {validation.folds}-fold cross-validation, {times} "
        f"(seed {validation.seed}), all scans of a patient in one fold.",
    )


def audit_lines(audit: Audit) -> tuple[str, ...]:
    """What the leakage audit looked for, and found, a line each."""
    shared = f": {enumeration(audit.shared[:3])}" if audit.shared else ""
    seeing = f": {enumeration(audit.seeing)}" if audit.seeing else ""
    known = [row for row in audit.permuted if row.low is not None]
    lines = [
        f"{len(audit.shared)} of {format_count(audit.folds, 'fold')} have a group on both sides{shared}.",
        format_count(audit.joined, "patient id is a duplicate", "patient ids are duplicates")
        + " of another by the scans, and in its fold.",
        format_count(len(audit.seeing), "model predicts or decides", "models predict or decide")
        + f" otherwise when the outcomes of the patients they are tested on are changed{seeing}.",
        f"What the centre alone predicts is in the table ({model_label(audit.site)})."
        if audit.site
        else "What the centre alone predicts was not asked.",
    ]
    if known:
        covering = sum(row.covers_half for row in known)
        lines.append(
            f"With outcomes dealt out at random the interval of {covering} of {format_count(len(known), 'model')} "
            "covers 0.5; by chance 1 in 20 does not."
        )
    return tuple(lines)


def estimators(evaluation: EvaluationResults) -> tuple[tuple[str, str], ...]:
    """How each metric and each paired difference was estimated, as (what, how)."""
    metrics = ((metric_label(m.name), m.estimator) for r in evaluation.models for m in r.metrics)
    pairs = ((f"Difference in {metric_label(c.metric)}", c.estimator) for c in evaluation.comparisons)
    tests = ((TEST_LABELS.get(t.name, t.name), t.method) for c in evaluation.comparisons for t in c.tests)
    return tuple(dict.fromkeys((what, how) for what, how in (*metrics, *pairs, *tests) if how))
