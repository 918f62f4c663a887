"""What a fitted model remembers of its training patients: its card, and what new patients are compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from twobe3.cohort.cohort import Cohort
from twobe3.core.outcomes import Endpoint, FloatArray
from twobe3.features.descriptors import extract_descriptors
from twobe3.io.cache import Arrays
from twobe3.io.files import digest
from twobe3.io.model_file import nest, read_sealed, unnest, write_sealed
from twobe3.models.card import INTENDED_USE, LICENCE, LIMITS, ModelCard, Performance, find_versions
from twobe3.models.domain import describe_domain
from twobe3.models.known_scans import KnownScans, take_fingerprint
from twobe3.models.novelty import Novelty

CARD, PREFIX = "card", "training."  # of the header, and of the names of the arrays
CALIBRATIONS = f"{PREFIX}calibrations"


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """What a model file holds of the training patients beside what the model learnt.

    Attributes
    ----------
    card : ModelCard
    risks : ndarray, shape (n,)
        Among which a percentile is told, increasing; whose they are, the card says.
    novelty : Novelty
        How far a scan is from those of the training.
    scans : KnownScans
        By what the training scans are known again.
    """

    card: ModelCard
    risks: FloatArray
    novelty: Novelty
    scans: KnownScans

    def __post_init__(self) -> None:
        if self.risks.ndim != 1 or not len(self.risks):
            raise ValueError("there is no risk of a training patient")

    def percentile(self, risk: float) -> float:
        """Share in % of the training patients with a lower risk; of those with the same risk half count."""
        below, same = (self.risks < risk).mean(), (self.risks == risk).mean()
        return float(100.0 * (below + 0.5 * same))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What of it are arrays, for a model file."""
        parts = {**nest("novelty.", self.novelty.arrays()), **nest("scans.", self.scans.arrays())}
        return nest(PREFIX, {"risks": self.risks, **parts})

    @classmethod
    def restore(cls, header: Any, arrays: Arrays) -> Self:
        """The record of a model file; ValueError or KeyError where it is none."""
        own = unnest(PREFIX, arrays)
        return cls(
            ModelCard.from_json(header),
            np.asarray(own["risks"], dtype=np.float64),
            Novelty.from_arrays(unnest("novelty.", own)),
            KnownScans.from_arrays(unnest("scans.", own)),
        )


def make_record(cohort: Cohort, risk: FloatArray, *, name: str, kind: str, cache_key: str) -> TrainingRecord:
    """The record of a model that was fitted on a cohort and gives its patients these risks, shape (n,).

    Raises
    ------
    UnusableScanError
        A scan cannot become SUV.
    """
    domain, endpoint = describe_domain(cohort), cohort.endpoint
    novelty = Novelty.fit(np.stack([extract_descriptors(cohort, subject) for subject in cohort.subjects]))
    scans = KnownScans.of([take_fingerprint(cohort, subject) for subject in cohort.subjects])
    card = ModelCard(
        name=name,
        kind=kind,
        endpoint=_describe_endpoint(endpoint),
        event_definition=endpoint.event_definition,
        trained_on=domain,
        performance=None,
        distance_threshold=float(novelty.threshold[0]) if len(novelty.threshold) else None,
        percentile_of="training",
        intended_use=INTENDED_USE,
        limits=LIMITS,
        licence=LICENCE,
        versions=find_versions(),
        digests={"model": digest([cache_key]), "scans": domain.digest},
    )
    return TrainingRecord(card, np.sort(np.asarray(risk, dtype=np.float64)), novelty, scans)


def add_performance(path: Path, performance: Performance, risks: FloatArray | None) -> None:
    """Write into a model file how well such models predicted patients left out.

    Nothing is written where the file says the same already.

    Parameters
    ----------
    path : Path
        The model file.
    performance : Performance
        What the study found.
    risks : ndarray, shape (n,), or None
        Out-of-fold risks, which take the place of the training risks for percentiles; None where those stay.

    Raises
    ------
    ConfigurationError
        ``MODEL_INVALID``.
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    header, arrays, _ = read_sealed(path)
    before = TrainingRecord.restore(header[CARD], arrays)
    after = replace(before, card=replace(before.card, performance=performance))
    if risks is not None:
        after = replace(after, card=replace(after.card, percentile_of="out-of-fold"), risks=np.sort(risks))
    if after.card != before.card or not np.array_equal(after.risks, before.risks):
        write_sealed(path, {**header, CARD: after.card.to_json()}, {**arrays, **after.arrays()})


def _describe_endpoint(endpoint: Endpoint) -> str:
    """Name and kind of an endpoint, with the unit of its values and from when a time counts."""
    unit, time_zero = (getattr(endpoint, name, "") for name in ("unit", "time_zero"))
    more = [endpoint.kind, *([f"in {unit}s" if endpoint.has_times else unit] if unit else [])]
    more += [f"from {time_zero}"] if endpoint.has_times and time_zero else []
    return f"{endpoint.name} ({', '.join(more)})"
