"""The one schema of ``run.json``: how a result was made, as a validation writes it and the report reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from twobe3.core.counts import format_count


@dataclass(frozen=True)
class ModelProvenance:
    """What a run says of one of its models."""

    name: str
    kind: str
    description: str  # of the kind
    parameters: Mapping[str, Any]  # without folders of this machine
    seconds: float  # of fitting and predicting, in all folds
    imputed: Mapping[str, int]  # from what is not known to the number of patients for whom it is filled in
    size: Mapping[str, Any]  # by endpoint, beyond the parameters
    # By endpoint, from each part to its share of the risk's variance out of fold, where the risk is a sum of parts.
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def is_baseline(self) -> bool:
        """Whether it is a trivial explanation that the other models must beat."""
        return self.kind == "baseline" or self.parameters.get("voxels") == "shuffled"


@dataclass(frozen=True)
class Platform:
    """Versions and processor, and what the models' networks compute with.

    ``precision`` is that of training, ``maps`` what computes the maps of frozen 2D networks, and in which precision.
    """

    python: str
    torch: str
    numpy: str
    processor: str
    cores: int | None
    device: str
    precision: str
    maps: str = ""


@dataclass(frozen=True)
class Timing:
    """How long one step took."""

    step: str
    seconds: float


@dataclass(frozen=True)
class PermutationResult:
    """What a model predicts of outcomes that were permuted at random."""

    endpoint: str
    model: str
    metric: str  # counts pairs that were tested in one fold only, so that its expectation is ½
    permutations: int  # cross-validations, each on outcomes of its own, that could be evaluated
    mean: float | None  # of the metric over permutations; None for fewer than two, as its limits
    low: float | None  # 95 % interval, Student's t
    high: float | None

    @property
    def covers_half(self) -> bool:
        """Whether the interval covers ½, as it must unless something leaks; not where it isn't estimable."""
        return self.low is not None and self.high is not None and self.low <= 0.5 <= self.high


@dataclass(frozen=True)
class Audit:
    """What a leakage audit looked for, and found."""

    folds: int  # checked, of all endpoints
    shared: tuple[str, ...]  # folds in which a group both trains and is tested
    joined: int  # patient ids that are another patient's too: scans of the same content or nearly the same picture
    seeing: tuple[str, ...]  # models that change with the outcomes of the patients they are tested on
    permuted: tuple[PermutationResult, ...]  # for each model of each binary and time-to-event endpoint
    site: str | None  # the model that knows the centre alone; None where there is none

    @property
    def passed(self) -> bool:
        """Whether no test patient was seen; an interval that misses ½ is reported, but 1 in 20 does by chance."""
        return not (self.shared or self.seeing)

    def text(self) -> str:
        """One line for the report."""
        rows = [row for row in self.permuted if row.low is not None]
        covering = sum(row.covers_half for row in rows)
        said = [
            f"{len(self.shared)} of {format_count(self.folds, 'fold')} have a group on both sides",
            format_count(self.joined, "id is a duplicate", "ids are duplicates") + " of another, in one fold with it",
            format_count(len(self.seeing), "model changes", "models change")
            + " with the outcomes of the patients they are tested on",
        ]
        if rows:
            said.append(f"with permuted outcomes the interval of {covering} of {len(rows)} covers 0.5")
        said.append(
            "what the centre alone predicts is " + (f"in the table ({self.site})" if self.site else "not asked")
        )
        return f"Leakage audit {'passed' if self.passed else 'FAILED'}: {'; '.join(said)}."

    def document(self) -> dict[str, Any]:
        """As JSON types."""
        rows = [{**asdict(row), "covers_half": row.covers_half} for row in self.permuted]
        return {"passed": self.passed, "text": self.text(), **asdict(self), "permuted": rows}


@dataclass(frozen=True)
class Provenance:
    """How a result was made; the attributes are the keys of ``run.json``."""

    package_version: str
    study: str
    started: str  # ISO date-time, UTC
    seconds: float
    peak_memory_mib: float
    timings: tuple[Timing, ...]  # in the order in which the steps began
    configuration: Mapping[str, Any]  # the resolved study, or how a cross-validation was asked for
    configuration_digest: str
    platform: Platform
    models: tuple[ModelProvenance, ...]
    notes: tuple[str, ...]  # what a reader should know, a sentence each
    audit: Audit | None = None  # what the leakage audit found
    external: Mapping[str, Any] | None = None  # where the results of an external cohort are

    def document(self) -> dict[str, Any]:
        """The content of ``run.json``."""
        audit = None if self.audit is None else self.audit.document()
        return {key: value for key, value in (asdict(self) | {"audit": audit}).items() if value is not None}
