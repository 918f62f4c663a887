"""What a paper needs of a study: every figure of the page as SVG and PDF, every table as CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from twobe3.io.files import write_atomic
from twobe3.report.charts import Chart, forest
from twobe3.report.checklists import fill_in
from twobe3.report.drawings import Drawing, ForestLabel, draw_cases, draw_charts, draw_forest, draw_strips
from twobe3.report.latex import render_latex
from twobe3.report.paper_tables import Section, endpoint_tables, study_tables
from twobe3.report.scan_quality import scan_quality
from twobe3.report.study_folder import StudyFolder
from twobe3.report.table import Estimate, Table, file_name
from twobe3.report.wording import level_label, metric_label, model_label

FIGURES, TABLES = "figures", "tables"


def write_paper(folder: StudyFolder, sections: Sequence[Section], out: Path) -> None:
    """Write ``figures/*.svg``, ``figures/*.pdf``, ``tables/*.csv`` and ``tables/*.tex``.

    They are made from the objects that the page shows. The same artefacts give the same bytes, as long as matplotlib is
    the same; nothing identifies a patient. Files of these names are written anew, others are left alone.

    Parameters
    ----------
    folder : StudyFolder
        The artefacts of a study.
    sections : sequence
        What the page shows of each endpoint.
    out : Path
        The folder in which ``figures`` and ``tables`` are made.

    Raises
    ------
    ConfigurationError, EnvironmentFailure
        As :func:`~twobe3.report.write_report`.
    """
    slugs = _slugs(section["endpoint"].name for section in sections)
    for name, drawing in _drawings(folder, sections, slugs):
        write_atomic(out / FIGURES / f"{name}.svg", drawing.svg)
        write_atomic(out / FIGURES / f"{name}.pdf", drawing.pdf)
    for table in _tables(folder, sections, slugs):
        write_atomic(out / TABLES / f"{table.name}.csv", table.csv())
        write_atomic(out / TABLES / f"{table.name}.tex", render_latex(table).encode())


def _tables(folder: StudyFolder, sections: Sequence[Section], slugs: Sequence[str]) -> Iterator[Table]:
    entries = {entry.name: entry for entry in folder.run.models}
    for section, slug in zip(sections, slugs, strict=True):
        yield from endpoint_tables(section, slug, entries)
    yield from study_tables(folder)
    for checklist in fill_in(folder):
        yield checklist.table()


def _drawings(folder: StudyFolder, sections: Sequence[Section], slugs: Sequence[str]) -> Iterator[tuple[str, Drawing]]:
    """Every figure with the name of its files."""
    baselines = {entry.name for entry in folder.run.models if entry.is_baseline}
    for section, slug in zip(sections, slugs, strict=True):
        for name, drawing in endpoint_drawings(section, baselines):
            yield f"{slug}-{name}", drawing
    if (audit := folder.run.audit) is not None and audit.permuted:
        means = [Estimate(row.mean, row.low, row.high) for row in audit.permuted]
        labels = [
            ForestLabel(model_label(row.model), mean.text()) for row, mean in zip(audit.permuted, means, strict=True)
        ]
        rows = forest([(one.value, one.low, one.high) for one in means], 0.5)
        yield "permuted-outcomes", draw_forest("Permuted outcomes, mean with 95 % interval", rows, labels)
    if quantities := [one for one in scan_quality(folder.cohort).quantities if one.strip is not None]:
        strips = [(f"{one.label} ({one.unit})", one.strip) for one in quantities if one.strip is not None]
        yield "scan-quality", draw_strips("Quality of the scans", strips)


def endpoint_drawings(section: Section, baselines: set[str]) -> Iterator[tuple[str, Drawing]]:
    """Every figure of one endpoint with the name of its files."""
    title = f"{metric_label(section['primary'])}, 95 % interval"
    labels = [
        ForestLabel(model_label(one.model), _text(one.headline), one.model in baselines) for one in section["results"]
    ]
    yield "models", draw_forest(title, section["forest"], labels)
    for table in section["comparisons"]:
        labels = [
            ForestLabel(
                f"{model_label(row.model_a)} minus {model_label(row.model_b)}",
                Estimate(row.difference, row.low, row.high).text(),
            )
            for row in table.rows
        ]
        title = f"Difference in {metric_label(table.metric)}, 95 % interval"
        yield f"differences-{file_name(table.metric)}", draw_forest(title, table.forest, labels)
    drawn = {choice["index"] for choice in section["choices"] if choice["drawn"]}
    for figure in section["overlays"]:
        some = [_of_models(chart, drawn) for chart in figure.charts]
        yield file_name(figure.heading), draw_charts(figure.heading, some)
        if len(drawn) < len(section["choices"]):
            every = [_without_bands(chart) for chart in figure.charts]
            yield f"{file_name(figure.heading)}-of-all-models", draw_charts(figure.heading, every)
    for first, others in section["curves"]:
        yield file_name(first.heading), draw_charts(first.heading, [*first.charts, *others.charts])
    if section["case_groups"]:
        yield "patients", draw_cases("Patients, SUV 0 to 7", section["case_groups"])
    if (parts := section["subgroups"]) is not None:
        labels = [
            ForestLabel(f"{row.factor}: {level_label(row.level, row.factor)}", _text(row), bool(row.warning))
            for row in parts.rows
        ]
        title = f"{metric_label(section['primary'])} of {model_label(parts.model)}, 95 % interval"
        yield "subgroups", draw_forest(title, parts.forest, labels)


def _of_models(chart: Chart, series: Collection[int]) -> Chart:
    """An overlay with the curves of some models, and those that belong to none."""
    return replace(chart, lines=tuple(line for line in chart.lines if line.series is None or line.series in series))


def _without_bands(chart: Chart) -> Chart:
    """An overlay of many models: their curves alone; points, where there is nothing else."""
    curves = tuple(replace(line, band="") for line in chart.lines if line.path)
    return replace(chart, lines=curves or chart.lines)


def _text(metric: object) -> str:
    return Estimate(*(getattr(metric, name, None) for name in ("value", "low", "high"))).text()


def _slugs(names: Iterable[str]) -> list[str]:
    """A name for files of each endpoint; one that says nothing, or has been given, gets its number."""
    slugs: list[str] = []
    for i, name in enumerate(names, start=1):
        slug = file_name(name)
        slugs.append(slug if slug and slug not in slugs else f"endpoint-{i}")
    return slugs
