"""Every table of the page, for print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twobe3.core.counts import format_count
from twobe3.evaluation.provenance import Audit, ModelProvenance
from twobe3.evaluation.results import Evaluation, MetricValue, SampleSize, Subgroup
from twobe3.report.agreement import Agreement
from twobe3.report.cohort_facts import FlowStep, cohort_facts, flow
from twobe3.report.configuration import settings
from twobe3.report.scan_quality import LIMITS, ScanQuality, scan_quality
from twobe3.report.study_folder import StudyFolder
from twobe3.report.table import Cell, Column, Estimate, PValue, Table, file_name
from twobe3.report.tables import ComparisonTable, SubgroupTable, count_left_out
from twobe3.report.wording import (
    TEST_LABELS,
    duration,
    estimators,
    extent,
    level_label,
    metric_label,
    model_label,
    number,
    parameter,
    patients,
    share,
)

# What the page shows of one endpoint, by name: see :mod:`twobe3.report.page`.
Section = Mapping[str, Any]

NUMBER = Column("No.", "number")
MODEL = Column("Model", show=model_label)
PART = Column("Part of the cohort")
N = Column("n", "number")
EVENTS = Column("Events", "number")


def endpoint_tables(section: Section, slug: str, entries: Mapping[str, ModelProvenance]) -> Iterator[Table]:
    """The tables of one endpoint; their names begin with ``slug``."""
    endpoint, results = section["endpoint"].name, section["results"]
    yield _models(section, slug, entries)
    for caption, names in section["metric_tables"]:
        name = f"{slug}-metrics-{file_name(caption)}"
        columns = (MODEL, *(Column(metric_label(metric), "estimate") for metric in names))
        rows = tuple((one.model, *(_estimate(one.get(metric)) for metric in names)) for one in results)
        yield Table(name, f"{endpoint}: {caption[0].lower()}{caption[1:]}, with 95 % intervals.", columns, rows)
    for table in section["comparisons"]:
        yield _differences(table, f"{slug}-differences-{file_name(table.metric)}", endpoint)
    if section["subgroups"] is not None:
        yield from _subgroups(section["subgroups"], slug, section)
    if section["sample_size"] is not None and section["sample_size"].models:
        yield _sample_size(section["sample_size"], slug)
    if len(section["agreement"].models) > 1:
        yield _agreement(section["agreement"], slug, endpoint)


def study_tables(folder: StudyFolder) -> Iterator[Table]:
    """The tables of the cohort and of how the results were made; patients stand under their pseudonyms."""
    cohort, run, evaluation = folder.cohort, folder.run, folder.evaluation
    facts = tuple((fact.term, "; ".join(fact.items)) for fact in cohort_facts(cohort))
    yield Table("cohort", "The cohort.", (Column("What"), Column("Value", "sentence")), facts)
    steps = tuple(row for step in flow(cohort, evaluation.exclusions) for row in _step(step))
    columns = (Column("Number", "number"), Column("What", "sentence"), Column("Code"))
    yield Table("flow", "From the series found to the patients with an outcome.", columns, steps)
    if evaluation.missing:
        yield Table(
            "missing-data",
            "What is not known of how many patients.",
            (Column("What"), Column("Missing", "number"), Column("Of", "number"), Column("Share", "number")),
            tuple((row.what, row.missing, row.n, share(row.missing, row.n)) for row in evaluation.missing),
        )
    if cohort.exclusions:
        yield Table(
            "exclusions",
            "Scans that were found and not used.",
            (Column("Code"), Column("Patient"), Column("Series"), Column("Reason", "sentence")),
            tuple((one.code, one.patient, one.series, one.reason) for one in cohort.exclusions),
        )
    if evaluation.exclusions:
        yield Table(
            "left-out",
            "What single models cannot use.",
            (
                Column("Model", "sentence", model_label),
                Column("Left out"),
                Column("Code"),
                Column("First reason", "sentence"),
            ),
            tuple(
                (row.model, format_count(row.count, row.what[:-1]), row.example.code, row.example.reason)
                for row in count_left_out(evaluation.exclusions)
            ),
        )
    quality = scan_quality(cohort)
    yield from _quality(quality)
    yield _scans(folder, quality)
    yield Table(
        "parameters",
        "The models and their parameters.",
        (
            Column("Model", "sentence", model_label),
            Column("Kind"),
            Column("Parameters", "sentence"),
            Column("Time", "number", duration),
        ),
        tuple((entry.name, entry.kind, _parameters(entry), entry.seconds) for entry in run.models),
    )
    yield Table(
        "estimators",
        "How figures and differences were estimated.",
        (Column("What", "sentence"), Column("How it was estimated", "sentence")),
        estimators(evaluation),
    )
    yield Table(
        "configuration",
        "The configuration of the study.",
        (Column("Setting", "sentence"), Column("Value", "sentence")),
        settings(run.configuration),
    )
    if run.audit is not None and run.audit.permuted:
        yield _permutation_results(run.audit)


def _models(section: Section, slug: str, entries: Mapping[str, ModelProvenance]) -> Table:
    results: Sequence[Evaluation] = section["results"]
    primary, pooled = section["primary"], section["pooled"]
    has_events = results[0].endpoint_class.has_events
    columns = [MODEL, Column("Kind"), Column(metric_label(primary), "estimate")]
    columns += [Column(f"{metric_label(pooled)}, all pairs", "estimate")] if pooled else []
    columns += [N, EVENTS] if has_events else [N]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            one.model,
            _kind(entries.get(one.model)),
            _estimate(one.headline),
            *([_estimate(one.get(pooled))] if pooled else []),
            one.n,
            *([one.events] if has_events else []),
        )
        for one in results
    )
    caption = f"{section['endpoint'].name}: models, the best first, with 95 % intervals."
    return Table(f"{slug}-models", caption, tuple(columns), rows)


def _differences(table: ComparisonTable, name: str, endpoint: str) -> Table:
    columns = (
        NUMBER,
        Column("First", show=model_label),
        Column("Second", show=model_label),
        Column("Difference", "estimate"),
        Column("p, bootstrap", "p"),
        *(Column(TEST_LABELS[test], "p") for test in table.tests),
        N,
        *([Column("Patients for 0.05", "number", _patients)] if table.needed is not None else []),
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            i,
            row.model_a,
            row.model_b,
            Estimate(row.difference, row.low, row.high),
            PValue(row.p, row.p_holm),
            *(PValue(test.p, test.p_holm) if test else PValue(None, None) for test in map(row.test, table.tests)),
            row.n,
            *([row.patients_needed] if table.needed is not None else []),
        )
        for i, row in enumerate(table.rows, start=1)
    )
    caption = f"{endpoint}: paired differences in {metric_label(table.metric)}, the first minus the second."
    return Table(name, caption, columns, rows)


def _subgroups(table: SubgroupTable, slug: str, section: Section) -> Iterator[Table]:
    """Parts of the cohort, of the first model, and of all where there are several."""
    label, endpoint = metric_label(section["primary"]), section["endpoint"].name
    columns = (PART, Column(label, "estimate"), N, EVENTS, Column("Caution"))
    rows = tuple((_part(row), _estimate(row), row.n, row.events, row.warning) for row in table.rows)
    yield Table(
        f"{slug}-subgroups", f"{endpoint}: {label} of {model_label(table.model)} in parts of the cohort.", columns, rows
    )
    if len(table.models) > 1:
        yield Table(
            f"{slug}-subgroups-of-all-models",
            f"{endpoint}: {label} of all models in parts of the cohort.",
            (PART, *(Column(model, "estimate", short=model_label(model)) for model in table.models)),
            tuple((_part(row[0]), *map(_estimate, row)) for row in table.matrix),
        )


def _sample_size(size: SampleSize, slug: str) -> Table:
    columns = (
        MODEL,
        Column("Candidate parameters", "number"),
        Column("Events per parameter", "number", _ratio),
        Column("Patients needed", "number", _patients),
    )
    rows = tuple((one.model, one.parameters, one.events_per_parameter, one.patients_needed) for one in size.models)
    caption = (
        f"{size.endpoint}: parameters of the models beside {format_count(size.n, 'patient')} with {size.events} events "
        "(Riley et al., BMJ 2020, m441)."
    )
    return Table(f"{slug}-sample-size", caption, columns, rows)


def _agreement(agreement: Agreement, slug: str, endpoint: str) -> Table:
    numbered = enumerate(agreement.models, start=1)
    columns = (NUMBER, MODEL, *(Column(model, "number", number, str(i)) for i, model in numbered))
    rows = tuple((i, model, *agreement.rho[i - 1]) for i, model in enumerate(agreement.models, start=1))
    return Table(f"{slug}-agreement", f"{endpoint}: Spearman’s ρ between the models’ risks.", columns, rows)


def _scans(folder: StudyFolder, quality: ScanQuality) -> Table:
    names = ("Patient", "Series", "Centre", "Scanner", "Reconstruction", "Slices", "Spacing")
    columns = [Column(name, "number" if name == "Slices" else "text") for name in names]
    columns += [Column(f"{one.label} ({one.unit})", "number", _brief) for one in quality.quantities]
    columns += [Column("Outliers"), Column("Contour"), Column("Calibration")]
    rows = tuple(
        (
            one.patient,
            one.series,
            one.centre or "",
            " ".join(part for part in (one.manufacturer, one.model) if part),
            one.acquisition.reconstruction or "",
            one.slices,
            extent(one.spacing_mm),
            *(value for value, _ in values),
            ", ".join(q.label.lower() for q, (_, beyond) in zip(quality.quantities, values, strict=True) if beyond),
            "yes" if one.contour else "no",
            one.calibration.rule,
        )
        for one, values in zip(folder.cohort.subjects, quality.of_scan, strict=True)
    )
    return Table("scans", "Every scan that was used.", tuple(columns), rows)


def _quality(quality: ScanQuality) -> Iterator[Table]:
    """Quantities over the scans, and who made them."""
    if quality.quantities:
        names = ("Median", "Smallest", "Largest", "Lower limit", "Upper limit", "Outliers", "Known")
        columns = (Column("Quantity"), Column("Unit"), *(Column(name, "number", _brief) for name in names))
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (
                one.label,
                one.unit,
                one.median,
                one.low,
                one.high,
                *(one.limits or (None, None)),
                len(one.outliers),
                one.n,
            )
            for one in quality.quantities
        )
        yield Table("scan-quality", f"Quality of the scans. {LIMITS}", columns, rows)
    columns = (Column("Scanner"), Column("Reconstruction"), Column("Scans", "number"))
    yield Table("scanners", "Scanners and reconstructions.", columns, quality.scanners)


def _permutation_results(audit: Audit) -> Table:
    columns = (MODEL, Column("Endpoint"), Column("Metric"), Column("Mean", "estimate"), Column("n", "number"))
    rows = tuple(
        (row.model, row.endpoint, metric_label(row.metric), Estimate(row.mean, row.low, row.high), row.permutations)
        for row in audit.permuted
    )
    return Table("permuted-outcomes", "The whole validation on permuted outcomes, n times.", columns, rows)


def _step(step: FlowStep) -> Iterator[tuple[int, str, str]]:
    """What left before a step, and the step."""
    yield from ((count, reason, code) for count, code, reason in step.left)
    yield step.count, step.what, ""


def _brief(value: float | None) -> str:
    """Four digits, as the page has them."""
    return "" if value is None else f"{value:.4g}".replace("-", "−")


def _part(row: Subgroup) -> str:
    return f"{row.factor}: {level_label(row.level, row.factor)}"


def _estimate(metric: MetricValue | Subgroup | None) -> Estimate:
    return Estimate(None) if metric is None else Estimate(metric.value, metric.low, metric.high)


def _kind(entry: ModelProvenance | None) -> str:
    if entry is None:
        return ""
    return "baseline" if entry.is_baseline else entry.kind


def _parameters(entry: ModelProvenance) -> str:
    return "; ".join(f"{name} {parameter(value)}" for name, value in entry.parameters.items())


def _ratio(value: float) -> str:
    return number(value, 1 if value >= 1 else 3)


def _patients(count: float | None) -> str:
    return number(None) if count is None else patients(count)
