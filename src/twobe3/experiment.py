"""The study as a whole: every model on the same folds, judged and compared; resumable at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from twobe3.artefact import write_atomic
from twobe3.cohort import Cohort
from twobe3.compute import available_cores
from twobe3.config import StudyConfig, read_study
from twobe3.errors import Code, UsageError
from twobe3.evaluation.evaluate import compare, evaluate
from twobe3.evaluation.results import Comparison, Evaluation
from twobe3.features.maps import FeatureStore
from twobe3.fitting import Fits, compute_features, fit_final, joined, out_of_fold
from twobe3.intake import read_cohort
from twobe3.models.base import Model
from twobe3.prediction import Prediction
from twobe3.progress import track
from twobe3.record import Stopwatch, run_record
from twobe3.report import write_report
from twobe3.result import Result
from twobe3.store import ArrayStore

OWNER = "study.sha256"


def cross_validate(
    models: Sequence[Model],
    cohort: Cohort,
    *,
    folds: int = 5,
    repeats: int = 5,
    seed: int = 0,
    resamples: int = 2000,
    checkpoints: ArrayStore | None = None,
    workers: int = 1,
) -> Result:
    """Predict every patient out of fold with every model, on the same folds, and judge the predictions.

    Parameters
    ----------
    models : sequence of Model
        Unfitted, of different names.
    cohort : Cohort
        With one endpoint or several; patients without an endpoint's outcome are left out for that endpoint.
    folds, repeats, seed : int
        See :meth:`twobe3.cohort.Cohort.folds`.
    resamples : int
        Bootstrap samples for the intervals.
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
        ``ONE_CLASS``, ``FEWER_PATIENTS_THAN_FOLDS``, ``FEWER_EVENTS_THAN_FOLDS``.
    ValueError
        Two models of one name.
    """
    watch, checkpoints = Stopwatch(), checkpoints or ArrayStore()
    # Refuse what cannot be split before any feature is computed.
    fits = Fits.of(models, cohort, folds=folds, repeats=repeats, seed=seed)
    with watch.step("features"):
        compute_features(fits, workers)
    with watch.step("cross-validation"):
        made = out_of_fold(fits, checkpoints, workers)
    predictions = [joined(fits, made, endpoint, n) for endpoint in fits.cohorts for n in range(len(models))]
    seconds = {model.name: 0.0 for model in models}
    for (_, number, _), arrays in made.items():
        seconds[models[number].name] += float(arrays["seconds"][0])
    with watch.step("evaluation"):
        evaluations, comparisons = _judge(predictions, cohort, resamples, seed)
    validation = {"folds": folds, "repeats": repeats, "seed": seed, "resamples": resamples}
    record = run_record(models, seconds, watch, {"validation": validation})
    return Result(cohort, tuple(models), tuple(predictions), evaluations, comparisons, record)


def run(study_file: Path | str, out: Path | str, *, update: bool = False, workers: int | None = None) -> Result:
    """Run a whole study: cohort, features, models, evaluation, report, and the models fitted on all patients.

    What stands in the output folder from an interrupted run is not computed again.

    Parameters
    ----------
    study_file : path
        The study file, see ``examples/sts.toml``.
    out : path
        Output folder.
    update : bool
        Allow a folder that holds another study: what both share is reused, the artefacts are replaced.
    workers : int, optional
        Processes; one for each core by default.

    Raises
    ------
    TwoBe3Error
        Whatever is wrong with the study file, the table or the scans.
    """
    study_file, out = Path(study_file), Path(out)
    study = read_study(study_file)
    _require_own(out, study, update)
    store, watch = FeatureStore(out / "features"), Stopwatch()
    models = study.models(study_file.parent, store)
    for model in models:
        model.identity()  # loads the weights: what is wrong with them is better known before the scans are read
    with watch.step("cohort"):
        cohort = read_cohort(
            study_file.parent / study.cohort.images,
            clinical=study_file.parent / study.cohort.clinical,
            endpoints=[section.endpoint() for section in study.endpoint],
            patient=study.cohort.patient,
            centre=study.cohort.centre,
            spec=study.volume.spec(),
            volumes=out / "volumes",
            policy=study.cohort.policy,
        )
    workers = workers or available_cores()
    validation = study.validation
    scheme = {"folds": validation.folds, "repeats": validation.repeats, "seed": validation.seed}
    checkpoints = ArrayStore(out / "folds")
    result = cross_validate(
        models, cohort, **scheme, resamples=validation.resamples, checkpoints=checkpoints, workers=workers
    )
    with watch.step("final models"):
        fit_final(Fits.of(models, cohort, **scheme), out / "models", workers)
    timed = watch.timings()
    before, after = timed["timings"]
    record = {
        **result.record,
        **timed,
        "study": study.name,
        "configuration": study.document(),
        "configuration_digest": study.identity(),
        "timings": [before, *result.record["timings"], after],
        "notes": list(study.notes),
    }
    result = replace(result, record=record)
    # From here on the folder is this study's: what was stored before fits every study.
    write_atomic(out / OWNER, f"{study.identity()}\n".encode())
    result.write(out)
    write_report(out)
    return result


def _judge(
    predictions: Sequence[Prediction], cohort: Cohort, resamples: int, seed: int
) -> tuple[tuple[Evaluation, ...], tuple[Comparison, ...]]:
    evaluations: list[Evaluation] = []
    comparisons: list[Comparison] = []
    for outcomes in cohort.endpoints:
        of_endpoint = [item for item in predictions if item.endpoint == outcomes.endpoint.name]
        for prediction in track(of_endpoint, f"intervals: {outcomes.endpoint.name}"):
            evaluations.append(evaluate(prediction, outcomes, resamples=resamples, seed=seed))
        comparisons += compare(of_endpoint, outcomes, resamples=resamples, seed=seed)
    return tuple(evaluations), tuple(comparisons)


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
