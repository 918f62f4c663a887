"""The card of a model: what it was trained on, how well it predicted, what it is for. No identity is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from twobe3 import __version__
from twobe3.core.printable import keep_printable
from twobe3.models.domain import STRICT, Range, Spread, TrainingDomain

INTENDED_USE = "Research use only: it is no medical device, and no decision about a patient may rest on it."
LICENCE = "Not stated: whoever passes the file on states it, as the scans and the starting weights allow."
LIMITS = (
    "It knows patients like those it was trained on; scans unlike theirs are refused or flagged, as far as a few plain "
    "numbers of a scan tell.",
    "The file holds thirteen such numbers, a digest and a coarse fingerprint of each training scan, in an order that "
    "tells nothing: whoever has one of these scans can tell that it was among them.",
)
LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch")
AXES = ("along the body", "front to back", "right to left")
RiskSource = Literal["training", "out-of-fold"]


@dataclass(frozen=True, config=STRICT)
class Performance:
    """How well models of this kind predicted patients whom they were not fitted on.

    Attributes
    ----------
    metric : str
        The primary metric.
    value, low, high : float or None
        Its value and 95 % interval; None where it cannot be estimated.
    n, events : int
        Patients evaluated, and how many of them have the event.
    validation : str
        How they were left out.
    estimator : str
        How value and interval were made.
    horizons : tuple of float
        For a time to an event: the times at which the study evaluated it, in the endpoint's unit.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    events: int
    validation: str
    estimator: str
    horizons: tuple[float, ...] = ()


@dataclass(frozen=True, config=STRICT)
class ModelCard:
    """What a model file says of itself.

    Attributes
    ----------
    name, kind : str
        Of the model.
    endpoint : str
        What it predicts, with the kind of endpoint and the unit of its times.
    event_definition : str
        Which value of which column is the event; empty where none was read.
    trained_on : TrainingDomain
    performance : Performance or None
        Out of fold, where a study validated the model; None for a model that was only fitted.
    distance_threshold : float or None
        Distance from the training scans from which on a scan is flagged as unusual, see
        :class:`~twobe3.models.novelty.Novelty`; None with too few training scans to tell.
    percentile_of : {"training", "out-of-fold"}
        Whose risks a percentile refers to: the training patients' by the model itself, which has seen them, or by
        models of the study that had not.
    intended_use, licence : str
    limits : tuple of str
    versions : mapping
        Of the package and of what it computes with.
    digests : mapping
        Of the parameters (``model``), and of the contents of the training scans (``scans``).
    """

    name: str
    kind: str
    endpoint: str
    event_definition: str
    trained_on: TrainingDomain
    performance: Performance | None
    distance_threshold: float | None
    percentile_of: RiskSource
    intended_use: str
    limits: tuple[str, ...]
    licence: str
    versions: dict[str, str]
    digests: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """The card in JSON types."""
        document: dict[str, Any] = _SCHEMA.dump_python(self, mode="json")
        return document

    @classmethod
    def from_json(cls, document: Any) -> ModelCard:
        """The card that :meth:`to_json` gave; a ValueError for anything else."""
        return _SCHEMA.validate_python(document)

    def text(self, digest: str = "") -> str:
        """The card as aligned lines; ``digest`` is the file's."""
        lines = [f"{self.name}: {self.endpoint}"]
        for title, rows in describe_card(self, digest):
            width = max(len(name) for name, _ in rows)
            lines += ["", title, *(f"  {name:<{width}}  {value}" for name, value in rows)]
        return "\n".join(map(keep_printable, lines))

    def markdown(self, digest: str = "") -> str:
        """The card as Markdown, a table for each part."""
        parts = [f"# {self.name}: {self.endpoint}"]
        for title, rows in describe_card(self, digest):
            cells = [" | ".join(cell.replace("|", "/").replace("\n", " ") for cell in row) for row in rows]
            parts += [f"## {title}", "\n".join(["| | |", "|---|---|", *(f"| {row} |" for row in cells)])]
        return "\n\n".join("\n".join(map(keep_printable, part.split("\n"))) for part in parts)


_SCHEMA = TypeAdapter(ModelCard)


def find_versions() -> dict[str, str]:
    """Versions of the package and of the libraries that are installed."""
    versions = {"twobe3": __version__}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def describe_card(card: ModelCard, digest: str = "") -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The parts of a card, each with its rows of a name and a text."""
    yield (
        "What it is",
        [
            ("kind", card.kind),
            ("endpoint", card.endpoint),
            *([("event", card.event_definition)] if card.event_definition else []),
            ("intended use", card.intended_use),
        ],
    )
    yield "What it was trained on", list(_domain_rows(card.trained_on))
    yield "How well it predicted patients left out", list(_performance_rows(card.performance))
    yield (
        "Limits and origin",
        [
            *(("limit", limit) for limit in card.limits),
            ("unusual scans", _threshold(card.distance_threshold)),
            ("percentiles", f"among the {card.percentile_of} risks of the training patients"),
            ("licence", card.licence),
            ("versions", ", ".join(f"{name} {number}" for name, number in card.versions.items())),
            *((f"digest, {name}", one[:16]) for name, one in (*card.digests.items(), ("file", digest)) if one),
        ],
    )


def _domain_rows(domain: TrainingDomain) -> Iterator[tuple[str, str]]:
    events = "" if domain.events is None else f", {domain.events} with the event"
    yield "patients", f"{domain.n}{events}"
    counts = ("centres", domain.centres), ("scanners", domain.scanners), ("tracers", domain.tracers)
    yield from ((name, _counts(found)) for name, found in counts if found)
    for name, ranges in (("voxels", domain.spacing_mm), ("field of view", domain.field_of_view_mm)):
        yield from ((f"{name} {axis}", _range(one, "mm")) for axis, one in zip(AXES, ranges, strict=True))
    yield "age", _spread(domain.age_years, "years", domain.n)
    yield "uptake time", _range(domain.uptake_min, "min", domain.n)
    yield "SUV, hottest voxel", _range(domain.suv_max)
    yield "SUV, median of the body", _range(domain.suv_median)


def _performance_rows(performance: Performance | None) -> Iterator[tuple[str, str]]:
    if performance is None:
        yield "performance", "not known: the model was fitted and not validated"
        return
    value = "not estimable" if performance.value is None else f"{performance.value:.3f}"
    if performance.low is not None and performance.high is not None:
        value += f" ({performance.low:.3f} to {performance.high:.3f}, 95 %)"
    yield performance.metric, value
    yield "patients", f"{performance.n}, {performance.events} with the event"
    yield "validated by", performance.validation
    yield "estimated as", performance.estimator
    if performance.horizons:
        yield "horizons", ", ".join(f"{time:g}" for time in performance.horizons)


def _threshold(distance: float | None) -> str:
    if distance is None:
        return "not flagged by their distance: there are fewer than 19 training scans"
    return f"flagged from a distance of {distance:.3g} on, which at most 5 % of scans like those of the training exceed"


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in found.items())


def _range(one: Range | None, unit: str = "", n: int | None = None) -> str:
    if one is None:
        return "not known"
    span = f"{one.low:.4g}" if one.low == one.high else f"{one.low:.4g} to {one.high:.4g}"
    return f"{span} {unit}".strip() + _coverage(one.known, n)


def _spread(one: Spread | None, unit: str, n: int) -> str:
    if one is None:
        return "not told: known of fewer than 20 patients"
    return f"median {one.median:g} {unit}, 5th to 95th percentile {one.low:g} to {one.high:g}" + _coverage(one.known, n)


def _coverage(known: int, n: int | None) -> str:
    return "" if n is None or known == n else f" (known of {known} of {n})"
