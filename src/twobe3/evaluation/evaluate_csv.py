"""Anybody's predictions, evaluated by a clinical table: no image, no model and no torch is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.endpoints import TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.ids import count_differences, match_nearly
from twobe3.core.outcomes import Endpoint, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.core.table import NumberedTable, is_missing, name_rows, require_columns
from twobe3.evaluation.bootstrap import RESAMPLES
from twobe3.evaluation.cohort_summary import summarize_cohort
from twobe3.evaluation.compare import compare
from twobe3.evaluation.csv import (
    Numbered,
    keys,
    read_decisions,
    read_numbered_predictions,
    read_survival,
    refuse_problems,
)
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.format import comparison_rows, primary_rows, render_html, results_lines
from twobe3.evaluation.primary_metric import choose_primary_metric
from twobe3.evaluation.results import CohortSummary, Comparison, Evaluation, EvaluationResults
from twobe3.io.checksums import require_as_written
from twobe3.io.clinical_table import read_table
from twobe3.io.files import write_artefact
from twobe3.io.pseudonym import pseudonym

Lines = Mapping[str, tuple[int, ...]]
LINES_NAMED = 10


@dataclass(frozen=True)
class Unmatched:
    """Patients who are in no figure, and the lines on which they stand.

    Attributes
    ----------
    not_in_table, without_outcome : mapping
        From a patient predicted whom the clinical table doesn't have, or whose outcome is empty in it, to the lines of
        the predictions.
    without_prediction : mapping
        From a patient with an outcome whom no model predicted to the line of the table.
    """

    not_in_table: Lines = field(repr=False)
    without_outcome: Lines = field(repr=False)
    without_prediction: Lines = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """How many there are, and their lines; no patient id."""
        return {
            name: {"n": len(lines), "lines": [line for of_patient in lines.values() for line in of_patient]}
            for name, lines in vars(self).items()
        }

    def text(self) -> list[str]:
        """How many patients there are, and the first line of each; no patient id."""
        groups = (
            (self.not_in_table, "predicted, and not in the clinical table: {} of the predictions"),
            (self.without_outcome, "predicted, and without an outcome in the clinical table: {} of the predictions"),
            (self.without_prediction, "in the clinical table, and predicted by no model: {} of the clinical table"),
        )
        return [
            f"{len(lines)} {said.format(name_rows([at[0] for at in lines.values()], what='line', named=LINES_NAMED))}"
            for lines, said in groups
            if lines
        ]

    @property
    def near(self) -> dict[str, tuple[str, str]]:
        """Predicted patients whose id nearly is that of a patient of the table whom nobody predicted."""
        return match_nearly(self.not_in_table, self.without_prediction)


@dataclass(frozen=True)
class EvaluationReport:
    """What a file of predictions is worth: each model evaluated, and the models compared in pairs.

    Attributes
    ----------
    endpoint : Endpoint
        What was predicted.
    evaluations, comparisons : tuple
        Of each model, and of each pair of models.
    unmatched : Unmatched
        Who is in no figure.
    warnings : tuple of str
        What is odd about the input; no patient id.
    summary : CohortSummary
        Parts of the cohort, what is missing, and its size.
    predictions : tuple of Prediction
        What was evaluated; with patient ids.
    """

    endpoint: Endpoint
    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...]
    unmatched: Unmatched
    warnings: tuple[str, ...]
    summary: CohortSummary
    predictions: tuple[Prediction, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """The document of ``twobe3 evaluate --json``."""
        results = EvaluationResults(self.evaluations, self.comparisons, **vars(self.summary))
        return {**results.to_json(), "unmatched": self.unmatched.to_json(), "warnings": list(self.warnings)}

    def write(self, folder: Path) -> None:
        """Write ``evaluation.json``; ``WRITE_FAILED`` where that is impossible."""
        write_artefact(folder / "evaluation.json", self.to_json())

    def text(self) -> str:
        """Who was evaluated, every metric with its interval, the differences, and how the figures were made."""
        lines = [*self.unmatched.text(), *(f"warning: {warning}" for warning in self.warnings)]
        if isinstance(self.endpoint, TimeToEvent):
            lines.append(f"times count from {self.endpoint.time_zero}, in {self.endpoint.unit}s")
        return "\n".join([*lines, *results_lines(self.evaluations, self.comparisons, self.summary)])

    def _repr_html_(self) -> str:
        models = render_html(primary_rows(self.evaluations), "Models, the best first")
        return models + render_html(comparison_rows(self.comparisons), "Paired differences")


def evaluate_csv(
    predictions: Path | str,
    *,
    clinical: Path | str,
    endpoint: Endpoint,
    patient: str = "patient_id",
    sheet: str = "",
    encoding: str = "",
    columns: Mapping[str, str] | None = None,
    predictions_sheet: str = "",
    only: str | None = None,
    survival: Path | str | None = None,
    decisions: Path | str | None = None,
    folds: Path | str | None = None,
    horizons: Sequence[float] | None = None,
    metric: str | None = None,
    reference: str | None = None,
    subgroups: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> EvaluationReport:
    """Evaluate every model of a file of predictions, and compare them in pairs on the patients that both predicted.

    Patients who stand in one of the two files only, or without an outcome, are in no figure; they are listed.

    Parameters
    ----------
    predictions : path
        A table, see :func:`~twobe3.evaluation.csv.read_predictions`.
    clinical : path
        The clinical table, see :func:`~twobe3.io.clinical_table.read_table`.
    endpoint : Endpoint
        Which columns of the table hold the outcome.
    patient : str
        The table's column with the patient id.
    sheet, encoding : str
        Of the table, see :func:`~twobe3.io.rows.read_rows`.
    columns : mapping, optional
        What the predictions call their columns, see :func:`~twobe3.evaluation.csv.read_predictions`.
    predictions_sheet : str
        Which sheet of a workbook holds the predictions; not needed where only one shows anything.
    only : str, optional
        Which endpoint's predictions to evaluate; needed where the file holds several.
    survival, decisions : path, optional
        Tables beside the predictions, see :mod:`twobe3.evaluation.csv`.
    folds : path, optional
        The ``folds.json`` of a study, whose folds the predictions must have.
    horizons, resamples, seed
        See :func:`~twobe3.evaluation.evaluate.evaluate`.
    metric, reference : str, optional
        What is compared, and with which model alone, see :func:`~twobe3.evaluation.compare.compare`.
    subgroups : sequence of str
        Columns of the table by whose values the primary metric is also given.

    Raises
    ------
    ConfigurationError
        ``PREDICTION_INVALID``, ``FOLDS_MISMATCH``, ``HORIZON_INVALID``; ``UNKNOWN_NAME`` for an endpoint that is not
        predicted, a metric or a model; ``NO_PATIENT_MATCHES`` when no patient of a model has an outcome; whatever is
        wrong with the table.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``: a file lies in the folder of a finished study, and is not as the study wrote it.
    """
    for file in (predictions, survival, decisions, folds):
        if file is not None:
            require_as_written(Path(file))
    numbered = read_numbered_predictions(Path(predictions), columns=columns, sheet=predictions_sheet)
    of_endpoint = _of_one_endpoint(_read_beside(numbered, survival, decisions), only)
    table = read_table(clinical, patient=patient, sheet=sheet, encoding=encoding)
    require_columns(table, subgroups)
    named = replace(endpoint, name=of_endpoint[0].prediction.endpoint or endpoint.name)
    outcomes = named.outcomes(table)
    if folds is not None:
        _check_folds(Path(folds), Path(predictions), of_endpoint)
    unmatched = _find_unmatched(of_endpoint, table, outcomes)
    near = count_differences(unmatched.near, "predicted ids", "the clinical table")
    predicted = [_with_outcome(numbered.prediction, outcomes, Path(clinical).name, near) for numbered in of_endpoint]
    primary = choose_primary_metric(predicted, outcomes, metric)
    evaluations = tuple(
        evaluate(one, outcomes, horizons=horizons, primary_metric=primary, resamples=resamples, seed=seed)
        for one in predicted
    )
    comparisons = compare(
        predicted, outcomes, metric=metric, reference=reference, horizons=horizons, resamples=resamples, seed=seed
    )
    filled = {
        column: {patient: "" if is_missing(row[column]) else row[column].strip() for patient, row in table.items()}
        for column in subgroups
    }
    there = {column: [patient for patient, text in values.items() if text] for column, values in filled.items()}
    summary = summarize_cohort(
        [replace(one, endpoint=named.name) for one in predicted],
        [outcomes],
        factors=filled,
        known=[({named.name: outcomes.patients, **there}, table)],
        resamples=resamples,
        seed=seed,
    )
    warnings = (*table.notes, *near, *outcomes.endpoint.warn(outcomes, table))
    return EvaluationReport(outcomes.endpoint, evaluations, comparisons, unmatched, warnings, summary, tuple(predicted))


def _read_beside(
    predictions: list[Numbered], survival: Path | str | None, decisions: Path | str | None
) -> list[Numbered]:
    """The predictions with what the tables beside them say."""
    if survival is not None:
        predictions = read_survival(Path(survival), predictions)
    if decisions is not None:
        predictions = read_decisions(Path(decisions), predictions)
    return [replace(one, prediction=_strip_ids(one.prediction)) for one in predictions]


def _strip_ids(prediction: Prediction) -> Prediction:
    """Take the blanks around patient ids away, as in the clinical table."""
    return replace(prediction, patients=tuple(patient.strip() for patient in prediction.patients))


def _of_one_endpoint(predictions: Sequence[Numbered], only: str | None) -> list[Numbered]:
    names = list(dict.fromkeys(one.prediction.endpoint for one in predictions))
    remedy = f"choose one of {', '.join(map(repr, names))} with --endpoint"
    if only is None and len(names) > 1:
        raise ConfigurationError(Code.PREDICTION_INVALID, f"the file predicts {len(names)} endpoints", remedy=remedy)
    if only is not None and only not in names:
        raise ConfigurationError(Code.UNKNOWN_NAME, f"the file does not predict {only!r}", remedy=remedy)
    return [one for one in predictions if one.prediction.endpoint == (names[0] if only is None else only)]


def _with_outcome(prediction: Prediction, outcomes: Outcomes, clinical: str, near: Sequence[str]) -> Prediction:
    known = set(outcomes.patients)
    kept = np.array([patient in known for patient in prediction.patients], dtype=np.bool_)
    if not kept.any():
        raise ConfigurationError(
            Code.NO_PATIENT_MATCHES,
            f"none of {format_count(len(set(prediction.patients)), 'patient')} that model {prediction.model!r} predicts"
            f" has an outcome in {clinical}{''.join(f'; {text}' for text in near)}",
            remedy="compare the ids; spreadsheets take away leading zeros",
        )
    return prediction.rows(kept)


def _find_unmatched(predictions: Sequence[Numbered], table: NumberedTable, outcomes: Outcomes) -> Unmatched:
    lines: dict[str, list[int]] = {}
    for one in predictions:
        for patient, line in zip(one.prediction.patients, one.lines, strict=True):
            lines.setdefault(patient, []).append(line)
    known = set(outcomes.patients)
    return Unmatched(
        {patient: tuple(at) for patient, at in lines.items() if patient not in table},
        {patient: tuple(at) for patient, at in lines.items() if patient in table and patient not in known},
        {patient: (table.numbers[patient],) for patient in outcomes.patients if patient not in lines},
    )


def _check_folds(path: Path, predictions_path: Path, predictions: Sequence[Numbered]) -> None:
    """Refuse predictions whose folds are not the saved ones, which name patients by pseudonyms."""
    saved = _read_folds(path, predictions[0].prediction.endpoint)
    problems = []
    for numbered in predictions:
        for line, (patient, _, _, repeat, fold) in zip(numbered.lines, keys(numbered.prediction), strict=True):
            expected = saved.get((repeat, pseudonym("patient", patient)))
            if expected is None:
                problems.append(f"line {line} predicts a patient who is not in repeat {repeat} of the saved folds")
            elif expected != fold:
                problems.append(f"line {line} has fold {fold}, saved was {expected}")
    if len(problems) == sum(len(one.lines) for one in predictions) and all("not in" in one for one in problems):
        raise ConfigurationError(
            Code.FOLDS_MISMATCH,
            f"no patient of {predictions_path.name} is in {path.name}, whose patients have pseudonyms",
            remedy="use the pseudonym key that the study was run with",
        )
    refuse_problems(predictions_path, problems, Code.FOLDS_MISMATCH)


def _read_folds(path: Path, endpoint: str) -> dict[tuple[int, str], int]:
    """The fold of each repeat and pseudonym."""
    try:
        endpoints = json.loads(path.read_bytes())["endpoints"]
        of_endpoint = [one for one in endpoints if one["endpoint"] == endpoint] or endpoints
        return {(part["repeat"], patient): part["fold"] for part in of_endpoint[0]["folds"] for patient in part["test"]}
    except OSError as error:
        raise ConfigurationError(Code.FOLDS_MISMATCH, f"{path.name} can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError):
        raise ConfigurationError(Code.FOLDS_MISMATCH, f"{path.name} is not the folds.json of a study") from None
