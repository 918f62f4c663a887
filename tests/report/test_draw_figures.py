"""The report's figures for a notebook: of the same numbers, by the names of a study's files, large enough to read."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import twobe3 as tb
from twobe3.evaluation.evaluate_csv import EvaluationReport
from twobe3.report import draw_figures
from twobe3.report.drawings import POINTS

LABELS = np.arange(60) % 3 == 0
RISKS = {name: np.random.default_rng(seed).normal(size=60) + LABELS for seed, name in enumerate("ab")}


@pytest.fixture
def judged(tmp_path: Path) -> EvaluationReport:
    rows = [
        f"P{i},{name},{risk!r},{1 / (1 + np.exp(-risk)):.6f}"
        for name, risks in RISKS.items()
        for i, risk in enumerate(risks.tolist())
    ]
    (tmp_path / "risks.csv").write_text("\n".join(["patient_id,model,risk,probability", *rows]))
    outcomes = [f"P{i},{int(label)}" for i, label in enumerate(LABELS)]
    (tmp_path / "clinical.csv").write_text("\n".join(["patient_id,y", *outcomes]))
    endpoint = tb.Binary("y", "y")
    return tb.evaluate_csv(tmp_path / "risks.csv", clinical=tmp_path / "clinical.csv", endpoint=endpoint, resamples=200)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_figures_are_those_of_the_page_and_show_the_numbers(judged: EvaluationReport) -> None:
    figures = draw_figures(judged.evaluations, judged.comparisons)
    assert list(figures) == ["models", "differences-auc", "roc-curves", "calibration", "decision-curves"]
    shown = texts(figures["models"]._repr_svg_())
    for name, risk in RISKS.items():
        assert name in shown
        assert any(text.startswith(f"{roc_auc_score(LABELS, risk):.2f} (") for text in shown)
    assert "act on all" in texts(figures["decision-curves"]._repr_svg_())


def test_in_a_notebook_a_unit_is_a_point_and_nothing_else_changes(judged: EvaluationReport) -> None:
    drawing = draw_figures(judged.evaluations)["models"]
    kept, shown = (ElementTree.fromstring(svg).attrib for svg in (drawing.svg, drawing._repr_svg_()))
    for side in ("width", "height"):
        assert float(shown[side][:-2]) == pytest.approx(float(kept[side][:-2]) / POINTS, abs=0.06)
    assert shown["viewBox"] == kept["viewBox"]
    size = re.compile(r'(width|height)="[\d.]+pt"')
    assert size.sub("", drawing._repr_svg_()) == size.sub("", drawing.svg.decode())
    assert repr(drawing) == "Drawing()"


def test_baselines_are_hollow(judged: EvaluationReport) -> None:
    plain, marked = (
        draw_figures(judged.evaluations, baselines=names)["models"].svg.decode().count("fill: #ffffff; stroke")
        for names in ((), ("b",))
    )
    assert marked == plain + 1


def test_several_endpoints_are_not_drawn_together(judged: EvaluationReport) -> None:
    other = replace(judged.evaluations[1], endpoint="other")
    for evaluations in ((), (judged.evaluations[0], other)):
        with pytest.raises(ValueError, match="exactly one endpoint"):
            draw_figures(evaluations)
