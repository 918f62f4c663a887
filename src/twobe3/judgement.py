"""Anybody's predictions, judged by a clinical table: no image, no model and no torch is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twobe3.errors import Code, UsageError
from twobe3.evaluation.evaluate import compare, evaluate
from twobe3.evaluation.results import Comparison, Evaluation, to_json
from twobe3.evaluation.table import read_predictions
from twobe3.outcome import Endpoint
from twobe3.prediction import Prediction
from twobe3.table import read_table


@dataclass(frozen=True)
class Judgement:
    """What a file of predictions is worth.

    Attributes
    ----------
    evaluations : tuple of Evaluation
        Of each model.
    comparisons : tuple of Comparison
        Of each pair of models.
    """

    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of ``twobe3 evaluate --json``."""
        return to_json(self.evaluations, self.comparisons)


def judge(
    predictions: Path | str,
    *,
    clinical: Path | str,
    endpoint: Endpoint,
    patient: str = "patient_id",
    only: str | None = None,
) -> Judgement:
    """Judge every model of a file of predictions, and compare them in pairs on the patients that both predicted.

    Parameters
    ----------
    predictions : path
        A CSV file, see :func:`~twobe3.evaluation.table.read_predictions`.
    clinical : path
        The clinical table, see :func:`~twobe3.table.read_table`.
    endpoint : Endpoint
        Which columns of the table hold the outcome.
    patient : str
        The table's column with the patient id.
    only : str, optional
        Which endpoint's predictions to judge; needed where the file holds several.

    Raises
    ------
    UsageError
        ``PREDICTION_INVALID``; ``UNKNOWN_NAME`` for an endpoint that is not predicted; whatever is wrong with the
        table.
    """
    of_endpoint = _of_one_endpoint(read_predictions(Path(predictions)), only)
    named = replace(endpoint, name=of_endpoint[0].endpoint or endpoint.name)
    outcomes = named.outcomes(read_table(clinical, patient=patient))
    evaluations = tuple(evaluate(prediction, outcomes) for prediction in of_endpoint)
    return Judgement(evaluations, compare(of_endpoint, outcomes))


def _of_one_endpoint(predictions: Sequence[Prediction], only: str | None) -> list[Prediction]:
    names = list(dict.fromkeys(prediction.endpoint for prediction in predictions))
    remedy = f"choose one of {', '.join(map(repr, names))} with --endpoint"
    if only is None and len(names) > 1:
        raise UsageError(Code.PREDICTION_INVALID, f"the file predicts {len(names)} endpoints", remedy=remedy)
    if only is not None and only not in names:
        raise UsageError(Code.UNKNOWN_NAME, f"the file does not predict {only!r}", remedy=remedy)
    return [prediction for prediction in predictions if prediction.endpoint == (names[0] if only is None else only)]
