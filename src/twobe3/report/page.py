"""Put the artefacts of a study on one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twobe3 import __version__
from twobe3.core.counts import format_count
from twobe3.core.prediction import Prediction
from twobe3.evaluation.evaluate_csv import EvaluationReport
from twobe3.evaluation.format import NOT_ESTIMABLE
from twobe3.evaluation.provenance import ModelProvenance
from twobe3.evaluation.results import Evaluation, EvaluationResults
from twobe3.io.files import write_atomic
from twobe3.report import charts, wording
from twobe3.report.agreement import agreement
from twobe3.report.cohort_facts import calibration_warnings, cohort_facts
from twobe3.report.figures import figures
from twobe3.report.mips import coronal_mips
from twobe3.report.paper import write_paper
from twobe3.report.study_folder import EndpointRecord, StudyFolder
from twobe3.report.tables import comparison_tables, count_left_out, subgroup_table

REPORT_NAME = "report.html"
COMPARISONS_SHOWN = 8


def write_report(study_dir: Path) -> Path:
    """Write the report of a study from its artefacts alone: the page, and its figures and tables for a paper.

    The same artefacts give the same bytes. Nothing in the page identifies a patient: the pictures carry pseudonyms,
    and the keys of ``predictions.csv`` serve only to join the models' risks.

    Parameters
    ----------
    study_dir : Path
        A folder with ``cohort.json``, ``evaluation.json``, ``run.json``, ``predictions.csv`` and ``volumes/``.

    Returns
    -------
    Path
        ``study_dir / "report.html"``; beside it ``figures/`` and ``tables/``, see
        :func:`~twobe3.report.paper.write_paper`.

    Raises
    ------
    ConfigurationError
        ``ARTEFACT_MISSING``: the folder lacks one of the files. ``PREDICTION_INVALID``.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``: a file is not as this version writes it. ``WRITE_FAILED``.
    """
    folder, page = StudyFolder.read(study_dir), study_dir / REPORT_NAME
    write_atomic(page, render(folder).encode())
    write_paper(folder, _sections(folder), study_dir)
    return page


def render(folder: StudyFolder) -> str:
    """The page as text; raises what :func:`write_report` does for the volumes."""
    permuted = folder.run.audit.permuted if folder.run.audit else ()
    return _render(
        "page.html.jinja",
        title=folder.run.study,
        version=folder.run.package_version,
        cohort=folder.cohort,
        run=folder.run,
        entries={entry.name: entry for entry in folder.run.models},
        sections=_sections(folder),
        facts=cohort_facts(folder.cohort),
        calibration_warnings=calibration_warnings(folder.cohort),
        methods=wording.methods(folder),
        estimators=wording.estimators(folder.evaluation),
        pictures=coronal_mips(folder),
        scheme=wording.scheme(folder.run.validation),
        share=wording.share,
        missing=folder.evaluation.missing,
        left_out=folder.evaluation.exclusions,
        left_out_counts=count_left_out(folder.evaluation.exclusions),
        audit_lines=wording.audit_lines,
        audit_forest=charts.forest([(row.mean, row.low, row.high) for row in permuted], 0.5),
    )


def write_evaluation_report(report: EvaluationReport, path: Path) -> Path:
    """Write the page of a file of predictions, see :func:`~twobe3.evaluation.evaluate_csv.evaluate_csv`.

    It has no patient id, and tells how many patients are in no figure.

    Parameters
    ----------
    report : EvaluationReport
    path : Path
        The page.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    results = EvaluationResults(report.evaluations, report.comparisons, **vars(report.summary))
    first, unmatched = report.evaluations[0], report.unmatched.to_json()
    n = max(one.n for one in results.models)
    unit = getattr(report.endpoint, "unit", None)
    record = EndpointRecord(
        name=first.endpoint, kind=first.kind, unit=unit, n=n, events=max(one.events for one in results.models)
    )
    text = _render(
        "evaluation.html.jinja",
        title=first.endpoint,
        version=__version__,
        entries={},
        sections=[_section("endpoint-1", record, results, report.predictions, ())],
        estimators=wording.estimators(results),
        n=n,
        n_models=len(results.models),
        lines=[
            *(
                f"{format_count(rows['n'], 'patient is', 'patients are')} in no figure: {name.replace('_', ' ')}."
                for name, rows in unmatched.items()
            ),
            *report.warnings,
        ],
    )
    write_atomic(path, text.encode())
    return path


def _render(template: str, **shown: Any) -> str:
    environment = Environment(
        loader=PackageLoader("twobe3.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = ("number", "with_sign", "metric_label", "p_value", "duration", "patients", "extent", "parameter")
    environment.filters |= {name: getattr(wording, name) for name in filters} | {"format_count": format_count}
    css = files("twobe3.report").joinpath("templates", "page.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        css=Markup(css),  # our own file, the only text that is not escaped
        css_digest=b64encode(sha256(css.encode()).digest()).decode("ascii"),
        interval=wording.interval,
        is_resolved=wording.is_resolved,
        comparisons_shown=COMPARISONS_SHOWN,
        chart=charts,
        not_estimable=NOT_ESTIMABLE,
        tests=wording.TEST_LABELS,
        **shown,
    )


def _sections(folder: StudyFolder) -> list[dict[str, Any]]:
    """A section for each endpoint that has results."""
    evaluated = {result.endpoint for result in folder.evaluation.models}
    numbered = enumerate(folder.cohort.endpoints, start=1)
    return [
        _section(f"endpoint-{i}", one, folder.evaluation, folder.predictions, folder.run.models)
        for i, one in numbered
        if one.name in evaluated
    ]


def _section(
    anchor: str,
    endpoint: EndpointRecord,
    evaluation: EvaluationResults,
    predicted: Iterable[Prediction],
    models: Iterable[ModelProvenance],
) -> dict[str, Any]:
    """What the template shows of one endpoint; of what kind a model is that no study knows, nobody can say."""
    results = sorted((one for one in evaluation.models if one.endpoint == endpoint.name), key=_descending)
    comparisons = [pair for pair in evaluation.comparisons if pair.endpoint == endpoint.name]
    primary, pooled = results[0].primary_metric.metric, results[0].endpoint_class.primary_metric
    chance = results[0].endpoint_class.chance_level
    kinds = {entry.name: "baseline" if entry.is_baseline else entry.kind for entry in models}
    predictions = {p.model: p for p in predicted if p.endpoint == endpoint.name}
    return {
        "anchor": anchor,
        "endpoint": endpoint,
        "answer": wording.answer(endpoint.name, results, [c for c in comparisons if c.metric == primary], kinds),
        "primary": primary,
        "pooled": None if pooled == primary else pooled,
        "why_primary": wording.why_primary(results[0]),
        "results": results,
        "forest": charts.forest([_interval(result) for result in results], chance),
        "other_metrics": _other_metrics(results, {primary, pooled}, endpoint.unit or ""),
        "comparisons": comparison_tables(comparisons, primary),
        "figures": figures(results, endpoint.unit or ""),
        "subgroups": subgroup_table(
            [subgroup for subgroup in evaluation.subgroups if subgroup.endpoint == endpoint.name],
            [result.model for result in results],
            chance,
        ),
        "sample_size": next((size for size in evaluation.sample_sizes if size.endpoint == endpoint.name), None),
        "agreement": agreement([predictions[result.model] for result in results if result.model in predictions]),
    }


def _other_metrics(
    results: Sequence[Evaluation], shown: Collection[str], unit: str
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The tables of the other metrics, (caption, names): those of the whole follow-up, and those at horizons."""
    names = dict.fromkeys(m.name for result in results for m in result.metrics if m.name not in shown)
    tables = {
        "Other metrics, with 95 % intervals.": tuple(name for name in names if wording.HORIZON not in name),
        f"At chosen times in {unit}s, with 95 % intervals.": tuple(name for name in names if wording.HORIZON in name),
    }
    return tuple((caption, of_table) for caption, of_table in tables.items() if of_table)


def _interval(result: Evaluation) -> tuple[float | None, float | None, float | None]:
    """The metric by which the model is ranked, with its interval."""
    metric = result.headline
    return (None, None, None) if metric is None else (metric.value, metric.low, metric.high)


def _descending(result: Evaluation) -> tuple[bool, float]:
    value, _, _ = _interval(result)
    return value is None, -(value or 0.0)
