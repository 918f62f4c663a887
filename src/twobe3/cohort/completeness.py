"""What is known of the patients of a cohort, as plain mappings: the evaluation doesn't know cohorts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.codes import Code

Known = tuple[Mapping[str, Collection[str]], Collection[str]]

_COVARIATES = {"sex": "sex", "age": "age_years", "weight": "weight_kg", "height": "height_m"}


def factors(cohort: Cohort) -> dict[str, dict[str, float | str | None]]:
    """What may divide the cohort: from a factor to its value in each patient, None where it is not known.

    Sex, age, centre, scanner, and the columns of the clinical table that were asked for.
    """
    values = {
        name: {subject.patient_id: of(subject) or None for subject in cohort.subjects} for name, of in _FACTORS.items()
    }
    return values | {
        column: {subject.patient_id: subject.subgroups.get(column) for subject in cohort.subjects}
        for column in _columns(cohort)
    }


def list_known(cohort: Cohort) -> tuple[Known, ...]:
    """Of whom a scan, an outcome and each covariate are known.

    Returns
    -------
    tuple of (mapping, collection)
        From what to the patients of whom it is known, and of whom it should be: all patients, those scanned, those
        used. The first two hold pseudonyms, since of an excluded patient nothing else is kept.
    """
    used = {subject.patient for subject in cohort.subjects}
    excluded: defaultdict[str, set[str]] = defaultdict(set)
    for exclusion in cohort.exclusions:
        excluded[exclusion.code].add(exclusion.patient)
    everybody = used.union(*excluded.values()) - excluded[Code.PATIENT_NOT_IN_TABLE.name] - {""}
    scanned = everybody - excluded[Code.PATIENT_NOT_SCANNED.name]
    without_outcome = excluded[Code.OUTCOME_MISSING.name]
    of_scanned = {"usable PET scan": used | without_outcome, "any outcome": scanned - without_outcome}

    of_used: dict[str, Collection[str]] = {o.endpoint.name: o.patients for o in cohort.endpoints}
    for name, covariate in _COVARIATES.items():
        of_used[name] = [s.patient_id for s in cohort.subjects if s.covariates.get(covariate) is not None]
    of_used["centre"] = [subject.patient_id for subject in cohort.subjects if subject.centre]
    for name in sorted({name for subject in cohort.subjects for name in subject.covariates} - {*_COVARIATES.values()}):
        of_used[name] = [subject.patient_id for subject in cohort.subjects if name in subject.covariates]
    for column in _columns(cohort):
        of_used[column] = [subject.patient_id for subject in cohort.subjects if subject.subgroups.get(column)]
    return ({"PET scan": scanned}, everybody), (of_scanned, scanned), (of_used, cohort.patients)


def _columns(cohort: Cohort) -> list[str]:
    return list(dict.fromkeys(column for subject in cohort.subjects for column in subject.subgroups))


def _scanner(subject: Subject) -> str:
    """Manufacturer and model, as far as the headers tell them."""
    parts = (str(subject.description.get(key) or "") for key in ("manufacturer", "model"))
    return " ".join(part for part in parts if part)


_FACTORS: dict[str, Callable[[Subject], float | str | None]] = {
    "sex": lambda subject: subject.covariates.get("sex"),
    "age": lambda subject: subject.covariates.get("age_years"),
    "centre": lambda subject: subject.centre,
    "scanner": _scanner,
}
