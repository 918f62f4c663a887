"""What a reader must know of the patients behind the figures: parts of the cohort, what is missing, its size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from twobe3.evaluation.intervals import RESAMPLES
from twobe3.evaluation.missing import Missing, count_missing
from twobe3.evaluation.sample_size import SampleSize, sample_size
from twobe3.evaluation.subgroups import Subgroup, evaluate_subgroups, levels
from twobe3.outcome import Outcomes
from twobe3.prediction import Prediction


@dataclass(frozen=True)
class Background:
    """Beside the evaluations of a study.

    Attributes
    ----------
    subgroups : tuple of Subgroup
        Of every model and endpoint.
    missing : tuple of Missing
        What is not known of how many patients.
    sample_sizes : tuple of SampleSize
        Of every endpoint for which the criteria are made.
    """

    subgroups: tuple[Subgroup, ...] = ()
    missing: tuple[Missing, ...] = ()
    sample_sizes: tuple[SampleSize, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON: ``{"subgroups": [...], "missing": [...], "sample_sizes": [...]}``."""
        return {
            "subgroups": [asdict(subgroup) for subgroup in self.subgroups],
            "missing": [asdict(missing) for missing in self.missing],
            "sample_sizes": [
                {**asdict(size), "models": [asdict(model) for model in size.models]} for size in self.sample_sizes
            ],
        }


def background(
    predictions: Sequence[Prediction],
    endpoints: Iterable[Outcomes],
    *,
    factors: Mapping[str, Mapping[str, float | str | None]],
    known: Iterable[tuple[Mapping[str, Collection[str]], Collection[str]]] = (),
    parameters: Mapping[str, int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Background:
    """Look at the patients of a study.

    Parameters
    ----------
    predictions : sequence of Prediction
        Of every model and endpoint.
    endpoints : iterable of Outcomes
        Of every endpoint.
    factors : mapping
        From a factor to its value in each patient, None where it is not known; see
        :func:`~twobe3.evaluation.subgroups.levels`.
    known : iterable of (mapping, collection)
        From what to the patients of whom it is known, and of whom it should be.
    parameters : mapping, optional
        Candidate parameters of the models whose number is known.
    resamples, seed : int
        Number of bootstrap samples, and the seed of their generator.
    """
    divided = {factor: levels(values) for factor, values in factors.items()}
    divided = {factor: level_of for factor, level_of in divided.items() if level_of}
    subgroups: list[Subgroup] = []
    sizes = []
    for outcomes in endpoints:
        of_endpoint = [item for item in predictions if item.endpoint == outcomes.endpoint.name]
        subgroups += evaluate_subgroups(of_endpoint, outcomes, divided, resamples=resamples, seed=seed)
        sizes.append(sample_size(outcomes, parameters or {}))
    missing = [row for what, patients in known for row in count_missing(what, patients)]
    return Background(tuple(subgroups), tuple(missing), tuple(size for size in sizes if size is not None))
