"""One HTML page of the artefacts of a study, without network or other files; the viewer alone has scripts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from twobe3 import __version__
from twobe3.core.counts import format_count
from twobe3.core.prediction import Prediction
from twobe3.evaluation.evaluate_csv import EvaluationReport
from twobe3.evaluation.results import NOT_ESTIMABLE, Comparison, Evaluation, EvaluationResults
from twobe3.io.files import remove_partials, write_atomic
from twobe3.report import charts, wording
from twobe3.report.agreement import agreement
from twobe3.report.checklists import fill_in
from twobe3.report.cohort_facts import calibration_warnings, cohort_facts, flow
from twobe3.report.configuration import settings
from twobe3.report.drawings import Drawing
from twobe3.report.environment import make_environment
from twobe3.report.figures import Figure, figures, series_dash
from twobe3.report.paper import endpoint_drawings, write_paper
from twobe3.report.patients import case_groups, viewer_cases
from twobe3.report.scan_quality import LIMITS, scan_quality
from twobe3.report.study_folder import EndpointRecord, StudyFolder
from twobe3.report.tables import comparison_tables, count_left_out, metric_tables, subgroup_table
from twobe3.report.viewer import viewer

REPORT_NAME = "report.html"
DRAWN_AT_FIRST = 3
FILTERS = (
    "number", "with_sign", "metric_label", "model_label", "level_label", "p_value", "duration", "patients", "extent",
    "parameter",
)  # fmt: skip


def write_report(study_dir: Path, *, show_faces: bool = False) -> Path:
    """Write the report of a study from its artefacts alone: the page, and its figures and tables for a paper.

    The same artefacts give the same bytes. Nothing in the page identifies a patient: the pictures carry pseudonyms,
    and the keys of ``predictions.csv`` serve only to join the models' risks.

    Parameters
    ----------
    study_dir : Path
        A folder with ``cohort.json``, ``evaluation.json``, ``run.json``, ``predictions.csv``, ``patients.json``,
        ``volumes/`` and ``contours/``.
    show_faces : bool
        Whether pictures and viewer show the faces of patients; a report that is to be shared should not.

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
        ``ARTEFACT_DAMAGED``: a file is not as this version writes it, or as the study wrote it. ``WRITE_FAILED``.
    """
    folder, page = StudyFolder.read(study_dir, show_faces=show_faces), study_dir / REPORT_NAME
    sections = _sections(folder)
    remove_partials(study_dir)
    write_atomic(page, render(folder, sections).encode())
    write_paper(folder, sections, study_dir)
    return page


def render(folder: StudyFolder, sections: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page as text, of sections made before or now; raises what :func:`write_report` does for the volumes."""
    permuted = folder.run.audit.permuted if folder.run.audit else ()
    sections = sections or _sections(folder)
    shown = [(one["endpoint"].name, one["case_groups"], one["by_interest"]) for one in sections]
    return render_template(
        "page.html.jinja",
        viewer=viewer(viewer_cases(folder, shown), show_faces=folder.show_faces),
        title=folder.run.study,
        version=folder.run.package_version,
        cohort=folder.cohort,
        run=folder.run,
        entries={entry.name: entry for entry in folder.run.models},
        sections=sections,
        facts=cohort_facts(folder.cohort),
        flow=flow(folder.cohort, folder.evaluation.exclusions),
        scans=scan_quality(folder.cohort),
        calibration_warnings=calibration_warnings(folder.cohort),
        methods=wording.methods(folder),
        estimators=wording.estimators(folder.evaluation),
        settings=settings(folder.run.configuration),
        scheme=wording.scheme(folder.run.validation),
        missing=folder.evaluation.missing,
        left_out=folder.evaluation.exclusions,
        left_out_counts=count_left_out(folder.evaluation.exclusions),
        checklists=fill_in(folder),
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
    unmatched = report.unmatched.to_json()
    record = _record(report.evaluations, getattr(report.endpoint, "unit", None))
    text = render_template(
        "evaluation.html.jinja",
        title=record.name,
        version=__version__,
        entries={},
        sections=[_section("endpoint-1", record, results, report.predictions, {})],
        estimators=wording.estimators(results),
        n=record.n,
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


def draw_figures(
    evaluations: Sequence[Evaluation],
    comparisons: Sequence[Comparison] = (),
    *,
    unit: str = "",
    baselines: Collection[str] = (),
) -> dict[str, Drawing]:
    """Draw the figures that the page shows of one endpoint; each shows itself in a notebook.

    Parameters
    ----------
    evaluations, comparisons : sequence
        Of one endpoint, as :func:`~twobe3.validation.cross_validate.cross_validate` and
        :func:`~twobe3.evaluation.evaluate_csv.evaluate_csv` give them.
    unit : str
        Of times and values, for the axes.
    baselines : collection of str
        Models to draw hollow and dashed.

    Returns
    -------
    dict of str to Drawing
        By the names that the files have in ``figures/`` of a study: ``"models"``, ``"differences-auc"``,
        ``"roc-curves"``, ``"calibration"``, ``"decision-curves"``, ...

    Raises
    ------
    ValueError
        Evaluations of several endpoints, or none.
    """
    if len({one.endpoint for one in evaluations}) != 1:
        raise ValueError("evaluations of exactly one endpoint can be drawn together")
    results = EvaluationResults(tuple(evaluations), tuple(comparisons))
    kinds = dict.fromkeys(baselines, "baseline")
    return dict(endpoint_drawings(_section("", _record(evaluations, unit), results, (), kinds), set(baselines)))


def _record(evaluations: Sequence[Evaluation], unit: str | None) -> EndpointRecord:
    """The endpoint of evaluations, with the patients of the model that predicted most."""
    first, n, events = evaluations[0], (one.n for one in evaluations), (one.events for one in evaluations)
    return EndpointRecord(name=first.endpoint, kind=first.kind, unit=unit, n=max(n), events=max(events))


def render_template(template: str, sections: Sequence[Mapping[str, Any]], **shown: Any) -> str:
    """A page by a template of this package, with the style, the words and the charts that all of them have."""
    environment = make_environment()
    environment.filters |= {name: getattr(wording, name) for name in FILTERS} | {"format_count": format_count}
    templates = files("twobe3.report").joinpath("templates")
    css = "".join(templates.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "viewer.css"))
    css += _choice_css(max((len(section["results"]) for section in sections), default=0))
    return environment.get_template(template).render(
        css=Markup(css),  # our own file, the only text that is not escaped
        css_digest=b64encode(sha256(css.encode()).digest()).decode("ascii"),
        sections=sections,
        interval=wording.interval,
        is_resolved=wording.is_resolved,
        share=wording.share,
        audit_lines=wording.audit_lines,
        chart=charts,
        not_estimable=NOT_ESTIMABLE,
        tests=wording.TEST_LABELS,
        limits=LIMITS,
        **shown,
    )


def _choice_css(models: int) -> str:
    """Rules that draw a model in the overlays while its box is ticked: there is no script that could."""
    rules = (f".overlays:has(.pick-{i}:checked) .model-{i} {{ display: inline; }}\n" for i in range(models))
    return f"@supports selector(:has(*)) {{\n.model {{ display: none; }}\n{''.join(rules)}}}\n"


def _sections(folder: StudyFolder) -> list[dict[str, Any]]:
    """A section for each endpoint that has results."""
    evaluated = {result.endpoint for result in folder.evaluation.models}
    numbered = enumerate(folder.cohort.endpoints, start=1)
    kinds = {entry.name: "baseline" if entry.is_baseline else entry.kind for entry in folder.run.models}
    sections = []
    for i, one in numbered:
        if one.name in evaluated:
            section = _section(f"endpoint-{i}", one, folder.evaluation, folder.predictions, kinds)
            groups = case_groups(folder, one, section["by_interest"])
            sections.append(section | {"case_groups": groups})
    return sections


def _section(
    anchor: str,
    endpoint: EndpointRecord,
    evaluation: EvaluationResults,
    predicted: Iterable[Prediction],
    kinds: Mapping[str, str],
) -> dict[str, Any]:
    """What the template shows of one endpoint; of what kind a model is that no study knows, nobody can say."""
    results = sorted((one for one in evaluation.models if one.endpoint == endpoint.name), key=_descending)
    comparisons = [pair for pair in evaluation.comparisons if pair.endpoint == endpoint.name]
    primary, pooled = results[0].primary_metric.metric, results[0].endpoint_class.primary_metric
    chance = results[0].endpoint_class.chance_level
    ranked = [result.model for result in results]
    baselines = {name for name in ranked if kinds.get(name) == "baseline"}
    by_interest = _order_by_interest(ranked, baselines)
    predictions = {p.model: p for p in predicted if p.endpoint == endpoint.name}
    drawn = figures(results, endpoint.unit or "", baselines)
    overlays = [figure for figure in drawn if figure.charts[0].overlay]
    return {
        "anchor": anchor,
        "endpoint": endpoint,
        "answer": wording.answer(endpoint.name, results, [c for c in comparisons if c.metric == primary], kinds),
        "primary": primary,
        "pooled": None if pooled == primary else pooled,
        "why_primary": wording.why_primary(results[0]),
        "results": results,
        "by_interest": by_interest,
        "forest": charts.forest([_interval(result) for result in results], chance),
        "metric_tables": metric_tables(results, {primary, pooled}, endpoint.unit or ""),
        "comparisons": comparison_tables(comparisons, primary, ranked, baselines),
        "overlays": overlays,
        "choices": _choices(overlays, ranked, baselines, by_interest),
        "curves": [_divide(figure, by_interest) for figure in drawn if figure not in overlays],
        "case_groups": (),
        "subgroups": subgroup_table(
            [subgroup for subgroup in evaluation.subgroups if subgroup.endpoint == endpoint.name], by_interest, chance
        ),
        "sample_size": next((size for size in evaluation.sample_sizes if size.endpoint == endpoint.name), None),
        "agreement": agreement([predictions[result.model] for result in results if result.model in predictions]),
    }


def _order_by_interest(ranked: Sequence[str], baselines: Collection[str]) -> list[str]:
    """The best candidate, the best baseline, the other candidates, the other baselines."""
    candidates = [name for name in ranked if name not in baselines]
    trivial = [name for name in ranked if name in baselines]
    return [*candidates[:1], *trivial[:1], *candidates[1:], *trivial[1:]]


def _choices(
    overlays: Sequence[Figure], ranked: Sequence[str], baselines: Collection[str], by_interest: Sequence[str]
) -> list[dict[str, Any]]:
    """The models that can be chosen in the overlays; drawn at first are those of most interest."""
    there = {line.series for figure in overlays for chart in figure.charts for line in chart.lines}
    first = [name for name in by_interest if ranked.index(name) in there][:DRAWN_AT_FIRST]
    return [
        {"index": i, "name": name, "drawn": name in first, "dash": series_dash(i, name in baselines)}
        for i, name in enumerate(ranked)
        if i in there
    ]


def _divide(figure: Figure, by_interest: Sequence[str]) -> tuple[Figure, Figure]:
    """The charts of the two models of most interest, and the others."""
    first = [wording.model_label(name) for name in by_interest[:2]]
    shown = sorted((one for one in figure.charts if one.title in first), key=lambda one: first.index(one.title))
    return (
        replace(figure, charts=tuple(shown)),
        replace(figure, charts=tuple(one for one in figure.charts if one.title not in first)),
    )


def _interval(result: Evaluation) -> tuple[float | None, float | None, float | None]:
    """The metric by which the model is ranked, with its interval."""
    metric = result.headline
    return (None, None, None) if metric is None else (metric.value, metric.low, metric.high)


def _descending(result: Evaluation) -> tuple[bool, float]:
    value, _, _ = _interval(result)
    return value is None, -(value or 0.0)
