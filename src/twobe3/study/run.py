"""The study as a whole: every model on the same folds, judged and compared; resumable at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.duplicates import with_duplicates_joined
from twobe3.cohort.read import read_cohort
from twobe3.cohort.splits import CrossValidation, Scheme, check_patients_for
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.evaluation.horizons import check_horizons
from twobe3.io.cache import Cache
from twobe3.io.files import write_artefact, write_atomic
from twobe3.models import Model
from twobe3.report import write_report
from twobe3.runtime.device import DeviceName, Precision
from twobe3.runtime.parallel import available_cores
from twobe3.study.config import StudyConfig, read_study
from twobe3.study.sections import CohortSection, ExternalSection
from twobe3.validation.baselines import those_that_fit, with_default_baselines
from twobe3.validation.cross_validate import CVPlan, _validated, _without_part, fit_final
from twobe3.validation.external import independent, predict_external
from twobe3.validation.leakage import audit as audit_validation
from twobe3.validation.provenance import Stopwatch, found_left_out, told_cautions
from twobe3.validation.result import CVResult, judged

OWNER = "study.sha256"


def run(
    study_file: Path | str,
    out: Path | str,
    *,
    update: bool = False,
    audit: bool = False,
    workers: int | None = None,
    device: DeviceName | None = None,
    precision: Precision | None = None,
) -> CVResult:
    """Run a whole study: cohort, features, models, evaluation, report, and the models fitted on all patients.

    What stands in the output folder from an interrupted run is not computed again. An external cohort gets a study
    folder of its own, ``external/``, with a report of its own; the study's report says what it gave.

    Parameters
    ----------
    study_file : path
        The study file, see ``examples/sts.toml``.
    out : path
        Output folder.
    update : bool
        Allow a folder that holds another study: what both share is reused, the artefacts are replaced.
    audit : bool
        Audit the validation for leakage, as ``[validation] audit = true`` does, see :mod:`twobe3.validation.leakage`.
    workers : int, optional
        Processes; by default one for each core, or on GPUs as many as their memory has room for.
    device, precision : str, optional
        Instead of what ``[compute]`` says, see :class:`~twobe3.runtime.device.Device`.

    Raises
    ------
    TwoBe3Error
        Whatever is wrong with the study file, the table or the scans.
    """
    study_file, out = Path(study_file), Path(out)
    folder, study = study_file.parent, read_study(study_file)
    _require_own(out, study, update)
    cache, watch = Cache(out / "features"), Stopwatch()
    target = study.compute.resolve(device, precision)
    models = study.models(folder, cache, target)
    for model in models:
        model.cache_key()  # loads the weights: what is wrong with them is better known before the scans are read
    scheme = _scheme(study, folder)
    with watch.step("cohort"):
        cohort = with_duplicates_joined(_read(study, study.cohort, folder, out / "volumes"))
    workers = workers or target.workers(available_cores())
    checkpoints, validation = Cache(out / "folds"), study.validation
    notes = list(study.notes)
    if validation.baselines:
        with watch.step("baselines"):
            baselines, left_out = _baselines(study, models, cohort, scheme, workers)
        models, notes = [*models, *baselines], [*notes, *left_out]
    fits = CVPlan.of(models, cohort, scheme, validation.deciding())
    notes += _without_part(fits, scheme)
    begun = len(watch.seconds)
    result, made = _validated(fits, study.document(), checkpoints, workers, study.horizons())
    with watch.step("final models"):
        final = fit_final(fits, out / "models", workers)
    found: dict[str, Any] = {}
    if audit or validation.audit:
        with watch.step("audit"):
            audited = audit_validation(
                fits, made, scheme, permutations=validation.permutations, seed=validation.seed,
                checkpoints=checkpoints, workers=workers,
            )  # fmt: skip
        found["audit"] = audited.document()
        notes.append(audited.text())
    if study.external is not None:
        with watch.step("external cohort"):
            external = _external(study, study.external, folder, out, fits, final, workers)
        found["external"] = {"folder": "external", "found": external.cohort.found, "used": len(external.cohort)}
        notes += [f"External cohort, {line.strip()}" for line in external.table().splitlines()]
        notes.append("The report of the external cohort is external/report.html.")
    timed, document = watch.timings(), study.document()
    steps = timed["timings"]
    record = {
        **result.record,
        **timed,
        "study": study.name,
        "configuration": {**document, "validation": {**document["validation"], "scheme": scheme.name, **fits.counts()}},
        "configuration_digest": study.cache_key(),
        "timings": [*steps[:begun], *result.record["timings"], *steps[begun:]],
        "notes": [*notes, *result.record["notes"]],
        **found,
    }
    result = replace(result, record=record)
    # From here on the folder is this study's: what was stored before fits every study.
    write_atomic(out / OWNER, f"{study.cache_key()}\n".encode())
    result.write(out)
    if "audit" in found:
        write_artefact(out / "audit.json", {"configuration_digest": study.cache_key(), **found["audit"]})
    if study.external is not None:
        _write_external(replace(external, record={**record, **external.record}), out / "external")
    write_report(out)
    return result


def _external(
    study: StudyConfig,
    section: ExternalSection,
    folder: Path,
    out: Path,
    fits: CVPlan,
    models: Mapping[tuple[str, int], Path],
    workers: int,
) -> CVResult:
    """Judge the models fitted on all patients on a second cohort; the record says what differs from the study's."""
    cohort = independent(_read(study, section, folder, out / "external" / "volumes"), fits.cohort)
    predictions = predict_external(fits, cohort, models, workers)
    resamples, seed = study.validation.resamples, study.validation.seed
    tested = {outcomes.endpoint.name: set(cohort.patients) for outcomes in cohort.endpoints}
    horizons = study.horizons()
    evaluations, comparisons, behind = judged(
        predictions, fits.models, cohort, tested, horizons, resamples, seed
    )  # fmt: skip
    record = {
        "study": f"{study.name}: external cohort",
        "notes": [
            f"Models fitted on all {len(fits.cohort)} patients of the study, judged on patients of a second cohort.",
            *told_cautions(fits.models, cohort),
        ],
    }
    left_out = found_left_out(fits.models, cohort)
    return CVResult(
        cohort, fits.models, tuple(predictions), evaluations, comparisons, record, behind, left_out=left_out
    )


def _write_external(result: CVResult, folder: Path) -> None:
    configuration = result.record["configuration"]
    told = {**configuration["validation"], "scheme": "external cohort", "folds": 1, "repeats": 1}
    record = {**result.record, "configuration": {**configuration, "validation": told}}
    for key in ("audit", "external"):
        record.pop(key, None)
    replace(result, record=record).write(folder)
    write_report(folder)


def _scheme(study: StudyConfig, folder: Path) -> Scheme:
    """The scheme; refuses what the clinical table alone shows to be impossible, before any scan is read."""
    table = study.cohort.read_clinical(folder).rows
    scheme = study.validation.chosen(folder, table)
    for section in study.endpoint:
        if section.source == "header":
            continue
        endpoint = section.endpoint()
        outcomes = endpoint.outcomes(table)
        check_horizons(outcomes, study.horizons().get(endpoint.name, ()))
        if isinstance(scheme, CrossValidation):
            check_patients_for(scheme.folds, outcomes.patients, endpoint)
    return scheme


def _read(study: StudyConfig, section: CohortSection | ExternalSection, folder: Path, volumes: Path) -> Cohort:
    """Read the cohort of a section, on the study's grid."""
    clinical = section.read_clinical(folder)
    return read_cohort(
        section.folders(folder),
        clinical=None if section.clinical is None else clinical.rows,
        endpoints=[one.endpoint() for one in study.endpoint if one.source == "table"],
        header_endpoints=[one.endpoint() for one in study.endpoint if one.source == "header"],
        patient=section.patient,
        centre=clinical.centre,
        roi=clinical.roi,
        covariates=study.cohort.covariates,
        grid=study.volume.grid(),
        volumes=volumes,
        policy=study.cohort.policy,
        repair_dates=study.cohort.repair_dates,
        subgroups=study.report.subgroups,
        region=study.region.region() if study.region else None,
    )


def _require_own(out: Path, study: StudyConfig, update: bool) -> None:
    """Refuse a folder that holds the results of another study."""
    marker = out / OWNER
    there = marker.read_text().strip() if marker.exists() else None
    if there not in (None, study.cache_key()) and not update:
        raise ConfigurationError(
            Code.OUTPUT_EXISTS,
            "the output folder holds the results of another study file, or of an earlier state of this one",
            remedy="choose another folder, or add --update to replace them and reuse what both share",
        )


def _baselines(
    study: StudyConfig, models: Sequence[Model], cohort: Cohort, scheme: Scheme, workers: int
) -> tuple[list[Model], list[str]]:
    """The baselines that the study file doesn't name, and why some are left out."""
    region, validation = study.region.region() if study.region else None, study.validation
    every = with_default_baselines(models, cohort, scheme=scheme, region=region, inner_folds=validation.inner_folds)
    return those_that_fit(every[len(models) :], cohort, scheme, validation.deciding(), workers)
