"""The study as a whole: every model on the same folds, judged and compared; resumable at every step."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twobe3.artefact import write_artefact, write_atomic
from twobe3.audit import audit as audit_validation
from twobe3.cohort import Cohort
from twobe3.compute import available_cores
from twobe3.config import StudyConfig, read_study
from twobe3.decisions import Deciding
from twobe3.default_controls import those_that_fit, with_default_controls
from twobe3.duplicates import with_duplicates_joined
from twobe3.errors import Code, UsageError
from twobe3.evaluation.horizons import check_horizons
from twobe3.external import independent, predict_external
from twobe3.features.maps import FeatureStore
from twobe3.fitting import Fit, Fits, compute_features, fit_final, joined, out_of_fold, require_enough
from twobe3.intake import read_cohort
from twobe3.models import Model
from twobe3.models.engine import Device, Precision
from twobe3.record import Stopwatch, found_left_out, run_record, told_cautions, told_few_events
from twobe3.report import write_report
from twobe3.result import Result, judged
from twobe3.sections import CohortSection, ExternalSection
from twobe3.splits import CrossValidation, Scheme, check_patients_for, without_part
from twobe3.store import Arrays, ArrayStore

OWNER = "study.sha256"
log = logging.getLogger("twobe3")


def cross_validate(
    models: Sequence[Model],
    cohort: Cohort,
    *,
    folds: int = 5,
    repeats: int = 5,
    seed: int = 0,
    scheme: Scheme | None = None,
    recalibrate: bool = False,
    inner_folds: int = 4,
    resamples: int = 2000,
    horizons: Mapping[str, Sequence[float]] | None = None,
    checkpoints: ArrayStore | None = None,
    workers: int = 1,
) -> Result:
    """Predict every patient out of fold with every model, on the same folds, and judge the predictions.

    Scans with the same content, or nearly the same picture, under different patient ids are warned about and stay in
    one fold, see :mod:`twobe3.duplicates`.

    Parameters
    ----------
    models : sequence of Model
        Unfitted, of different names.
    cohort : Cohort
        With one endpoint or several; patients without an endpoint's outcome are left out for that endpoint.
    folds, repeats, seed : int
        See :class:`twobe3.splits.CrossValidation`.
    scheme : CrossValidation, LeaveOneCentreOut, NamedSplit or SavedFolds, optional
        Instead of that.
    recalibrate : bool
        Whether an inner cross-validation in each training part recalibrates the predictions and chooses thresholds,
        see :func:`twobe3.decisions.predicted`.
    inner_folds : int
        Of that one.
    resamples : int
        Bootstrap samples for the intervals.
    horizons : mapping, optional
        From the name of a time-to-event endpoint to the times at which it is judged, in its unit; the quartiles of
        its event times where it names none.
    checkpoints : ArrayStore, optional
        Where the predictions of each fold are kept, so that an interrupted run goes on where it stopped.
    workers : int
        Processes that fit side by side; the results are the same bits for any number. See
        :func:`twobe3.compute.run_tasks` for what a script must do that asks for more than one.

    Returns
    -------
    Result
        With the table, the comparisons, and the report.

    Raises
    ------
    UsageError
        ``ONE_CLASS``, ``FEWER_PATIENTS_THAN_FOLDS``, ``FEWER_EVENTS_THAN_FOLDS``, ``TOO_FEW_CENTRES``,
        ``SPLIT_INVALID``, ``FOLDS_MISMATCH``, ``HORIZON_INVALID``.
    ValueError
        Two models of one name.
    """
    for outcomes in cohort.endpoints:
        check_horizons(outcomes, (horizons or {}).get(outcomes.endpoint.name, ()))
    scheme = scheme or CrossValidation(folds, repeats, seed)
    # Refuse what cannot be split before any feature is computed.
    fits = Fits.of(models, with_duplicates_joined(cohort), scheme, Deciding(recalibrate, inner_folds, seed))
    validation = {
        "scheme": scheme.name, **fits.counts(), "seed": seed, "resamples": resamples, "recalibrate": recalibrate,
    }  # fmt: skip
    result, _ = _validated(fits, {"validation": validation}, checkpoints or ArrayStore(), workers, horizons or {})
    notes = [*_without_part(fits, scheme), *result.record["notes"]]
    return replace(result, record={**result.record, "notes": notes})


def _validated(
    fits: Fits,
    configuration: dict[str, Any],
    checkpoints: ArrayStore,
    workers: int,
    horizons: Mapping[str, Sequence[float]],
) -> tuple[Result, dict[Fit, Arrays]]:
    """Predict out of fold and judge; gives what every fold predicted too."""
    watch, models, cohort = Stopwatch(), fits.models, fits.cohort
    with watch.step("features"):
        compute_features(fits, workers)
        left_out = found_left_out(models, cohort)
        require_enough(fits)
    notes = [*told_few_events(models, cohort), *told_cautions(models, cohort)]
    with watch.step("cross-validation"):
        made = out_of_fold(fits, checkpoints, workers)
    predictions = [joined(fits, made, endpoint, n) for endpoint in fits.cohorts for n in range(len(models))]
    seconds = {model.name: 0.0 for model in models}
    for (_, number, _), arrays in made.items():
        seconds[models[number].name] += float(arrays["seconds"][0])
    resamples, seed = (configuration["validation"][key] for key in ("resamples", "seed"))
    with watch.step("evaluation"):
        evaluations, comparisons, behind = judged(
            predictions, models, cohort, fits.tested(), horizons, resamples, seed
        )  # fmt: skip
    record = run_record(models, cohort, seconds, watch, configuration, notes)
    result = Result(cohort, models, tuple(predictions), evaluations, comparisons, record, behind, fits.splits, left_out)
    return result, made


def _without_part(fits: Fits, scheme: Scheme) -> list[str]:
    """Who takes no part in the validation, a sentence for each endpoint with such patients; told in the log too."""
    said = [without_part(split, fits.cohorts[endpoint].sample, scheme) for endpoint, split in fits.splits.items()]
    for sentence in filter(None, said):
        log.warning("%s", sentence)
    return [sentence for sentence in said if sentence]


def run(
    study_file: Path | str,
    out: Path | str,
    *,
    update: bool = False,
    audit: bool = False,
    workers: int | None = None,
    device: Device | None = None,
    precision: Precision | None = None,
) -> Result:
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
        Audit the validation for leakage, as ``[validation] audit = true`` does, see :mod:`twobe3.audit`.
    workers : int, optional
        Processes; by default one for each core, or on GPUs as many as their memory has room for.
    device, precision : str, optional
        Instead of what ``[compute]`` says, see :class:`~twobe3.models.engine.Engine`.

    Raises
    ------
    TwoBe3Error
        Whatever is wrong with the study file, the table or the scans.
    """
    study_file, out = Path(study_file), Path(out)
    folder, study = study_file.parent, read_study(study_file)
    _require_own(out, study, update)
    store, watch = FeatureStore(out / "features"), Stopwatch()
    engine = study.compute.engine(device, precision)
    models = study.models(folder, store, engine)
    for model in models:
        model.identity()  # loads the weights: what is wrong with them is better known before the scans are read
    scheme = _scheme(study, folder)
    with watch.step("cohort"):
        cohort = with_duplicates_joined(_read(study, study.cohort, folder, out / "volumes"))
    workers = workers or engine.workers(available_cores())
    checkpoints, validation = ArrayStore(out / "folds"), study.validation
    notes = list(study.notes)
    if validation.controls:
        with watch.step("controls"):
            controls, left_out = _controls(study, models, cohort, scheme, workers)
        models, notes = [*models, *controls], [*notes, *left_out]
    fits = Fits.of(models, cohort, scheme, validation.deciding())
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
        "configuration_digest": study.identity(),
        "timings": [*steps[:begun], *result.record["timings"], *steps[begun:]],
        "notes": [*notes, *result.record["notes"]],
        **found,
    }
    result = replace(result, record=record)
    # From here on the folder is this study's: what was stored before fits every study.
    write_atomic(out / OWNER, f"{study.identity()}\n".encode())
    result.write(out)
    if "audit" in found:
        write_artefact(out / "audit.json", {"configuration_digest": study.identity(), **found["audit"]})
    if study.external is not None:
        _write_external(replace(external, record={**record, **external.record}), out / "external")
    write_report(out)
    return result


def _external(
    study: StudyConfig,
    section: ExternalSection,
    folder: Path,
    out: Path,
    fits: Fits,
    models: Mapping[tuple[str, int], Path],
    workers: int,
) -> Result:
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
    return Result(cohort, fits.models, tuple(predictions), evaluations, comparisons, record, behind, left_out=left_out)


def _write_external(result: Result, folder: Path) -> None:
    configuration = result.record["configuration"]
    told = {**configuration["validation"], "scheme": "external cohort", "folds": 1, "repeats": 1}
    record = {**result.record, "configuration": {**configuration, "validation": told}}
    for key in ("audit", "external"):
        record.pop(key, None)
    replace(result, record=record).write(folder)
    write_report(folder)


def _controls(
    study: StudyConfig, models: Sequence[Model], cohort: Cohort, scheme: Scheme, workers: int
) -> tuple[list[Model], list[str]]:
    """The controls that the study file doesn't name, and why some are left out."""
    region, validation = study.region.region() if study.region else None, study.validation
    every = with_default_controls(models, cohort, scheme=scheme, region=region, inner_folds=validation.inner_folds)
    return those_that_fit(every[len(models) :], cohort, scheme, validation.deciding(), workers)


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
        spec=study.volume.spec(),
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
    if there not in (None, study.identity()) and not update:
        raise UsageError(
            Code.OUTPUT_EXISTS,
            "the output folder holds the results of another study file, or of an earlier state of this one",
            remedy="choose another folder, or add --update to replace them and reuse what both share",
        )
