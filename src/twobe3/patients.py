"""What is known of the patients of a cohort, as plain mappings: the evaluation doesn't know cohorts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from twobe3.cohort import Cohort, Study
from twobe3.errors import Code

Known = tuple[Mapping[str, Collection[str]], Collection[str]]

_COVARIATES = {"sex": "sex", "age": "age_years", "weight": "weight_kg", "height": "height_m"}


def factors(cohort: Cohort) -> dict[str, dict[str, float | str | None]]:
    """What may divide the cohort: from a factor to its value in each patient, None where it is not known.

    Sex, age, centre, scanner, and the columns of the clinical table that were asked for.
    """
    values = {name: {study.patient_id: of(study) or None for study in cohort.studies} for name, of in _FACTORS.items()}
    return values | {
        column: {study.patient_id: study.groups.get(column) for study in cohort.studies} for column in _columns(cohort)
    }


def known(cohort: Cohort) -> tuple[Known, ...]:
    """Of whom a scan, an outcome and each covariate are known.

    Returns
    -------
    tuple of (mapping, collection)
        From what to the patients of whom it is known, and of whom it should be: all patients, those scanned, those
        used. The first two hold pseudonyms, since of an excluded patient nothing else is kept.
    """
    used = {study.patient for study in cohort.studies}
    excluded: defaultdict[str, set[str]] = defaultdict(set)
    for exclusion in cohort.exclusions:
        excluded[exclusion.code].add(exclusion.patient)
    everybody = used.union(*excluded.values()) - excluded[Code.PATIENT_NOT_IN_TABLE.name] - {""}
    scanned = everybody - excluded[Code.PATIENT_NOT_SCANNED.name]
    without_outcome = excluded[Code.OUTCOME_MISSING.name]
    of_scanned = {"usable PET scan": used | without_outcome, "any outcome": scanned - without_outcome}

    of_used: dict[str, Collection[str]] = {o.endpoint.name: o.patients for o in cohort.endpoints}
    for name, covariate in _COVARIATES.items():
        of_used[name] = [s.patient_id for s in cohort.studies if s.covariates.get(covariate) is not None]
    of_used["centre"] = [study.patient_id for study in cohort.studies if study.centre]
    for name in sorted({name for study in cohort.studies for name in study.covariates} - {*_COVARIATES.values()}):
        of_used[name] = [study.patient_id for study in cohort.studies if name in study.covariates]
    for column in _columns(cohort):
        of_used[column] = [study.patient_id for study in cohort.studies if study.groups.get(column)]
    return ({"PET scan": scanned}, everybody), (of_scanned, scanned), (of_used, cohort.patients)


def _columns(cohort: Cohort) -> list[str]:
    return list(dict.fromkeys(column for study in cohort.studies for column in study.groups))


def _scanner(study: Study) -> str:
    """Manufacturer and model, as far as the headers tell them."""
    parts = (str(study.description.get(key) or "") for key in ("manufacturer", "model"))
    return " ".join(part for part in parts if part)


_FACTORS: dict[str, Callable[[Study], float | str | None]] = {
    "sex": lambda study: study.covariates.get("sex"),
    "age": lambda study: study.covariates.get("age_years"),
    "centre": lambda study: study.centre,
    "scanner": _scanner,
}
