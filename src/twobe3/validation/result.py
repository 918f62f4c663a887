"""What a cross-validation gave, evaluated: its table, its artefacts, its report."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from twobe3.cohort import completeness as patients
from twobe3.cohort.cohort import Cohort
from twobe3.cohort.exclusions import write_exclusions
from twobe3.cohort.read import cohort_document
from twobe3.cohort.splits import folds_document
from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import EnvironmentFailure
from twobe3.core.prediction import Prediction
from twobe3.evaluation.cohort_summary import summarize_cohort
from twobe3.evaluation.compare import compare
from twobe3.evaluation.csv import write_decisions, write_predictions, write_survival
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.format import comparison_rows, evaluation_rows, primary_rows, ranking_lines, render_html
from twobe3.evaluation.patients import summarize_patients
from twobe3.evaluation.primary_metric import choose_primary_metric
from twobe3.evaluation.provenance import Provenance
from twobe3.evaluation.results import CohortSummary, Comparison, Evaluation, EvaluationResults
from twobe3.io.cache import Arrays, Cache
from twobe3.io.files import write_artefact, write_atomic
from twobe3.models.model import Model
from twobe3.report.page import render
from twobe3.report.study_folder import StudyFolder
from twobe3.runtime.progress import track
from twobe3.validation.plan import CVPlan, FoldTask
from twobe3.validation.provenance import ModelExclusions, exclusions_document

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class CVResult:
    """What a cross-validation gave.

    Attributes
    ----------
    plan : CVPlan
        The cohort, the models, and the folds.
    predictions : tuple of Prediction
        Of every model and endpoint, out of fold.
    evaluations, comparisons : tuple
        Their metrics and paired differences, with intervals.
    provenance : Provenance
        How it was made: configuration, times, platform, notes.
    summary : CohortSummary
        Parts of the cohort, what is missing, and its size.
    exclusions : tuple of ModelExclusions
        What each model could not use of the cohort, and why.
    folds : mapping
        From each fit to what it gave, see :func:`~twobe3.validation.cross_validate.fit_fold`.
    """

    plan: CVPlan
    predictions: tuple[Prediction, ...]
    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...]
    provenance: Provenance
    summary: CohortSummary = field(default_factory=CohortSummary)
    exclusions: tuple[ModelExclusions, ...] = ()
    folds: Mapping[FoldTask, Arrays] = field(default_factory=dict)

    @property
    def cohort(self) -> Cohort:
        """On which."""
        return self.plan.cohort

    @property
    def models(self) -> tuple[Model, ...]:
        """The models, unfitted."""
        return self.plan.models

    def table(self) -> str:
        """Every model with the metric by which models are compared, its interval and patients, best first; text.

        Where that is a metric within folds, the one of all pairs stands beside it. Below it why this metric was taken,
        the patients a comparison takes, and what models could not use, counted by code.
        """
        baselines = {model.name for model in self.models if model.is_baseline}
        lines = [
            line
            for outcomes in self.cohort.endpoints
            for line in ranking_lines(outcomes, self.evaluations, self.comparisons, baselines)
        ]
        return "\n".join([*lines, *(text for one in self.exclusions if (text := one.text()))])

    def to_frame(self, what: Literal["evaluations", "comparisons"] = "evaluations") -> pandas.DataFrame:
        """A pandas table of the metrics of all models, or of the differences of pairs of models.

        Raises
        ------
        EnvironmentFailure
            ``EXTRA_MISSING``: pandas is not installed.
        """
        rows = evaluation_rows(self.evaluations) if what == "evaluations" else comparison_rows(self.comparisons)
        try:
            import pandas
        except ImportError:
            remedy = "pip install 'twobe3[notebook]'"
            raise EnvironmentFailure(Code.EXTRA_MISSING, "pandas is not installed", remedy=remedy) from None
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        names = ", ".join(model.name for model in self.models)
        return f"CVResult({format_count(len(self.models), 'model')}: {names}; {self.cohort!r})"

    def _repr_html_(self) -> str:
        compared = render_html(comparison_rows(self.comparisons), "Differences between models")
        return render_html(primary_rows(self.evaluations), "Models, the best of each endpoint first") + compared

    def write(self, folder: Path) -> None:
        """Write the artefacts.

        ``cohort.json``, ``folds.json``, ``predictions.csv``, ``patients.json``, ``exclusions.csv``,
        ``evaluation.json``, ``run.json``; ``decisions.csv`` and ``survival.csv`` as far as the models gave any.
        """
        cohort = cohort_document(self.cohort)
        inputs = {"configuration_digest": self.provenance.configuration_digest, "cohort_digest": cohort["digest"]}
        write_artefact(folder / "cohort.json", cohort)
        patients = {name: self.cohort.for_endpoint(name).patients for name in self.plan.splits}
        write_artefact(folder / "folds.json", {**inputs, "endpoints": folds_document(self.plan.splits, patients)})
        write_predictions(folder / "predictions.csv", self.predictions)
        pseudonyms = {subject.patient_id: subject.patient for subject in self.cohort.subjects}
        of_patients = summarize_patients(self.predictions, self.cohort.endpoints, pseudonyms)
        write_artefact(folder / "patients.json", {**inputs, **of_patients.to_json()})
        write_decisions(folder / "decisions.csv", self.predictions)
        write_survival(folder / "survival.csv", self.predictions)
        of_models = [(one.model, scan) for one in self.exclusions for scan in one.scans]
        write_exclusions(folder / "exclusions.csv", self.cohort.exclusions, self.cohort.names, of_models)
        results = EvaluationResults(self.evaluations, self.comparisons, **vars(self.summary)).to_json()
        results |= exclusions_document(self.exclusions)
        write_artefact(folder / "evaluation.json", {**inputs, **results})
        write_artefact(folder / "run.json", {**inputs, **self.provenance.document()})

    def write_report(self, path: Path | str) -> Path:
        """Write the report as one offline HTML file, without leaving the artefacts beside it."""
        path = Path(path)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            volumes, contours = Cache(folder / "volumes"), Cache(folder / "contours")
            for subject in self.cohort.subjects:
                key, contour = self.cohort.volume_key(subject), self.cohort.contour(subject)
                volumes.put(key, {"suv": self.cohort.volume(subject)}, metadata=self.cohort.notes())
                if contour is not None:
                    contours.put(key, {"contour": contour.astype(np.uint8)}, metadata=self.cohort.notes())
            self.write(folder)
            write_atomic(path, render(StudyFolder.read(folder)).encode())
        return path


def evaluate_models(
    predictions: Sequence[Prediction],
    models: Sequence[Model],
    cohort: Cohort,
    tested: Mapping[str, Collection[str]],
    horizons: Mapping[str, Sequence[float]],
    resamples: int,
    seed: int,
) -> tuple[tuple[Evaluation, ...], tuple[Comparison, ...], CohortSummary]:
    """Every model of every endpoint with its metrics, the models compared in pairs, and what is behind the figures.

    Pairs are compared on whom both predicted. A model that could use no tested scan is evaluated on 0 patients, without
    a metric. Baselines are compared with the other models, not with one another.
    """
    evaluations: list[Evaluation] = []
    comparisons: list[Comparison] = []
    for known in cohort.endpoints:
        of_endpoint = [item for item in predictions if item.endpoint == known.endpoint.name]
        name, kind = known.endpoint.name, known.endpoint.kind
        outcomes = known.subset([i for i, patient in enumerate(known.patients) if patient in tested[name]])
        primary = choose_primary_metric(of_endpoint, outcomes)
        for item in track(of_endpoint, f"intervals: {name}"):
            if len(item):
                evaluated = evaluate(
                    item, outcomes, horizons=horizons.get(name), primary_metric=primary, resamples=resamples, seed=seed
                )
            else:
                evaluated = Evaluation(
                    name, kind, item.model, 0, 0, len(outcomes), 0, primary, (), (),
                    event_definition=known.endpoint.event_definition,
                )  # fmt: skip
            evaluations.append(evaluated)
        comparisons += compare(
            [item for item in of_endpoint if len(item)], outcomes,
            baselines={model.name for model in models if model.is_baseline}, resamples=resamples, seed=seed,
        )  # fmt: skip
    counts = {one.name: one.report(cohort.without_outcomes()).n_parameters for one in models}
    behind = summarize_cohort(
        predictions,
        cohort.endpoints,
        factors=patients.factors(cohort),
        known=patients.list_known(cohort),
        parameters={name: n for name, n in counts.items() if n is not None},
        resamples=resamples,
        seed=seed,
    )
    return tuple(evaluations), tuple(comparisons), behind
