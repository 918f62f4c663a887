"""What the tables of one endpoint hold beside its models: paired differences, parts of the cohort."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

from twobe3.evaluation.results import Comparison, Evaluation, ModelExclusion, Subgroup
from twobe3.report import charts
from twobe3.report.wording import HORIZON, TEST_LABELS, swap


@dataclass(frozen=True)
class ComparisonTable:
    """Paired differences of one metric, the clearest first, with their forest plot.

    The first ``n_first`` rows are those of one model, ``against``: the best baseline, which is subtracted from the
    others, or, where nothing was compared with a baseline, the best model, less the others. ``tests`` names the
    further tests that some pair has; ``needed`` is the median number of patients with whom a difference of 0.05 would
    be seen, None where no pair tells.
    """

    metric: str
    against: str
    n_first: int
    rows: tuple[Comparison, ...]
    forest: charts.Forest
    tests: tuple[str, ...]
    needed: float | None

    @property
    def differ_in_n(self) -> bool:
        """Whether some pairs are compared on fewer patients than others."""
        return len({row.n for row in self.rows}) > 1


@dataclass(frozen=True)
class SubgroupTable:
    """The primary metric in parts of the cohort: of one model with its forest plot, of all models as a matrix.

    ``matrix`` has a row for each part, the subgroups of ``models`` in their order.
    """

    model: str
    rows: tuple[Subgroup, ...]
    forest: charts.Forest
    models: tuple[str, ...]
    matrix: tuple[tuple[Subgroup, ...], ...]


@dataclass(frozen=True)
class LeftOutCount:
    """How many scans, or features, a model leaves out for one reason; ``example`` is the first of them."""

    model: str
    what: str
    count: int
    example: ModelExclusion


def count_left_out(left_out: Sequence[ModelExclusion]) -> tuple[LeftOutCount, ...]:
    """What each model leaves out, counted by code, in the order of the models."""
    groups: dict[tuple[str, str], list[ModelExclusion]] = {}
    for one in left_out:
        groups.setdefault((one.model, one.code), []).append(one)
    return tuple(
        LeftOutCount(model, "scans" if rows[0].patient else "features", len(rows), rows[0])
        for (model, _), rows in groups.items()
    )


def comparison_tables(
    comparisons: Sequence[Comparison], primary: str, ranked: Sequence[str] = (), baselines: Collection[str] = ()
) -> tuple[ComparisonTable, ...]:
    """A table for each metric that was compared, the primary one first.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Of one endpoint.
    primary : str
        The metric by which models are compared.
    ranked : sequence of str
        The models, the best first.
    baselines : collection of str
        Those of them that are trivial explanations.
    """
    metrics = sorted({comparison.metric for comparison in comparisons}, key=lambda metric: (metric != primary, metric))
    ranked = sorted(ranked, key=lambda model: model not in baselines)  # stable: the best baseline, else the best model
    tables = []
    for metric in metrics:
        of_metric = [c for c in comparisons if c.metric == metric]
        compared = {model for c in of_metric for model in (c.model_a, c.model_b)}
        against = next((model for model in ranked if model in compared), "")
        second = "model_b" if against in baselines else "model_a"
        own = [c for c in of_metric if against in (c.model_a, c.model_b)]
        first = [c if getattr(c, second) == against else swap(c) for c in own]
        rest = [_higher_minus_lower(c) for c in of_metric if against not in (c.model_a, c.model_b)]
        rows = [*sorted(first, key=_clearest_first), *sorted(rest, key=_clearest_first)]
        there = {test.name for row in rows for test in row.tests}
        needed = [row.patients_needed for row in rows if row.patients_needed is not None]
        tables.append(
            ComparisonTable(
                metric,
                against,
                len(first),
                tuple(rows),
                charts.forest([(c.difference, c.low, c.high) for c in rows], 0.0),
                tuple(name for name in TEST_LABELS if name in there),
                median(needed) if needed else None,
            )
        )
    return tuple(tables)


MetricTable = tuple[str, tuple[str, ...]]
"""Caption, and names of the metrics that are its columns."""
METRIC_GROUPS = {
    "At the threshold that each fold chose": ("balanced_accuracy", "sensitivity", "specificity"),
    "Calibration": (
        "calibration_slope", "calibration_intercept", "recalibration_intercept", "observed_expected", "d_calibration",
    ),
}  # fmt: skip
OTHER_METRICS = "Order and error"


def metric_tables(results: Sequence[Evaluation], shown: Collection[str], unit: str) -> tuple[MetricTable, ...]:
    """Tables of the metrics that are not shown yet: by what they say, and for each horizon; few columns each."""
    names = dict.fromkeys(m.name for result in results for m in result.metrics if m.name not in shown)
    captions = {name: caption for caption, group in METRIC_GROUPS.items() for name in group}
    tables: dict[str, list[str]] = {}
    for name in names:
        _, at, horizon = name.partition(HORIZON)
        caption = (
            f"At {horizon} {unit}s" if at and unit else f"At {horizon}" if at else captions.get(name, OTHER_METRICS)
        )
        tables.setdefault(caption, []).append(name)
    return tuple((caption, tuple(of_table)) for caption, of_table in tables.items())


def subgroup_table(subgroups: Sequence[Subgroup], models: Sequence[str], neutral: float) -> SubgroupTable | None:
    """Parts of the cohort of one endpoint; None where the cohort was not divided.

    The first of the models, in the order to show, gets the forest plot, with the value of chance as ``neutral``.
    """
    of_model = {model: tuple(s for s in subgroups if s.model == model) for model in models}
    of_model = {model: rows for model, rows in of_model.items() if rows}
    if not of_model:
        return None
    first, rows = next(iter(of_model.items()))
    of_part = {model: {(s.factor, s.level): s for s in parts} for model, parts in of_model.items()}
    shared = [part for part in of_part[first] if all(part in parts for parts in of_part.values())]
    return SubgroupTable(
        first,
        rows,
        charts.forest([(s.value, s.low, s.high) for s in rows], neutral),
        tuple(of_model),
        tuple(tuple(parts[part] for parts in of_part.values()) for part in shared),
    )


def _higher_minus_lower(comparison: Comparison) -> Comparison:
    return swap(comparison) if (comparison.difference or 0.0) < 0 else comparison


def _clearest_first(comparison: Comparison) -> tuple[bool, float, float]:
    p, p_holm = comparison.p, comparison.p_holm
    return p is None, 1.0 if p is None else p, 1.0 if p_holm is None else p_holm
