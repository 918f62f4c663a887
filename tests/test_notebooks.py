"""The notebooks: run as the site runs them, each with the answer that is known of its phantoms, and committed clean."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat import NotebookNode
from sklearn.metrics import roc_auc_score

from twobe3.phantom import draw_phantom_subject

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))
PHANTOM_ID = r"PHANTOM-\d|\bP\d{3}\b"


@cache
def module() -> ModuleType:
    """`docs/notebooks.py`, which the site is built with."""
    spec = importlib.util.spec_from_file_location("notebooks", DOCS / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@cache
def executed(name: str) -> NotebookNode:
    return module().execute(DOCS / "tutorials" / f"{name}.ipynb")


def values(notebook: NotebookNode, kind: str) -> Iterator[str]:
    """What cells show of their values as one MIME type."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "execute_result" and kind in output.data:
                yield output.data[kind]


def printed(notebook: NotebookNode) -> str:
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def table(html: str, caption: str) -> list[list[str]]:
    """The rows of the HTML table under a caption."""
    (body,) = re.findall(rf"<caption>{re.escape(caption)}</caption>.*?<tbody>(.*?)</tbody>", html)
    return [re.findall(r"<t[dh]>(.*?)</t[dh]>", row) for row in re.findall("<tr>(.*?)</tr>", body)]


def figure_of(text: str) -> tuple[float, float, float]:
    """Value and limits, of a cell such as ``0.8 (0.7 to 0.9)``."""
    value, low, high = map(float, re.findall(r"-?[\d.]+", text))
    return value, low, high


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_places(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not cell.metadata
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not re.search(r"/home/|/tmp/|/Users/|/work/|[A-Z]:\\\\", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_no_patient_id_and_no_place(path: Path) -> None:
    notebook = executed(path.stem)
    shown = [*values(notebook, "text/html"), *values(notebook, "image/svg+xml"), printed(notebook)]
    shown += [text for text in values(notebook, "text/plain") if len(text) < 100]  # of those without another form
    text = re.sub('base64,[^"]+"', "", "".join(shown))
    assert text
    assert not re.search(PHANTOM_ID, text)
    assert str(Path.home()) not in text
    assert not [line for line in text.splitlines() if "Warning" in line]


def test_the_study_finds_what_the_outcome_was_drawn_from() -> None:
    notebook = executed("study_in_python")
    (cohort,) = (html for html in values(notebook, "text/html") if "<caption>Cohort" in html)
    assert ["subjects", "24"] in table(cohort, "Cohort")
    assert cohort.count("<img") == 4
    (ranking,) = (html for html in values(notebook, "text/html") if "Differences between models" in html)
    rows = {row[1]: figure_of(row[3]) for row in table(ranking, "Models, the best of each endpoint first")}
    assert next(iter(rows)) == "tlg (contour)"
    _, low, high = rows["tlg (contour)"]
    assert 0.5 < low < 0.80 < high  # what the true burden gives, see twobe3.phantom.patient
    assert "tlg (contour)" in printed(notebook)
    drawn = list(values(notebook, "image/svg+xml"))
    assert len(drawn) == 3
    assert all("TLG in the contour" in svg for svg in drawn)


def test_the_evaluation_of_another_tool_is_what_scikit_learn_gives() -> None:
    notebook = executed("judging_a_tool")
    labels, scores = simulate()
    first, _, timed = (html for html in values(notebook, "text/html"))
    for _, tool, metric, value, n, events in table(first, "Models, the best first"):
        assert metric == "auc"
        assert figure_of(value)[0] == pytest.approx(roc_auc_score(labels, scores[tool]), abs=0.0015)  # of three digits
        assert (int(n), int(events)) == (len(labels), sum(labels))
    (difference,) = table(first, "Paired differences")
    gap = roc_auc_score(labels, scores["tool A"]) - roc_auc_score(labels, scores["tool B"])
    assert figure_of(difference[4])[0] == pytest.approx(gap, abs=0.0015)
    (slope,) = (text for text in values(notebook, "text/plain") if re.fullmatch(r"'[\d.]+ \([\d.]+ to [\d.]+\)'", text))
    assert figure_of(slope)[1] < 0.5 < figure_of(slope)[2]  # tool A's log-odds were doubled
    assert {row[2] for row in table(timed, "Models, the best first")} == {"harrell_c"}
    assert len(list(values(notebook, "image/svg+xml"))) == 6


def simulate() -> tuple[list[int], dict[str, list[float]]]:
    """The outcomes and scores that the notebook writes, by its own first cell."""
    source = nbformat.read(DOCS / "tutorials" / "judging_a_tool.ipynb", as_version=4).cells[1].source
    names: dict[str, object] = {}
    exec(source.split("for name, rows in")[0], names)  # without writing them
    rows = names["scores"][1:]
    labels = [int(draw_phantom_subject(number).outcome.metastasis) for number in range(len(rows) // 2)]
    return labels, {tool: [float(row[2]) for row in rows if row[1] == tool] for tool in ("tool A", "tool B")}


def test_the_map_of_the_case_points_at_the_planted_lesion() -> None:
    notebook = executed("explaining_a_case")
    assert "is in the lesion" in printed(notebook)
    raised, of_voxels = map(float, re.search(r"(\d+)% of what raises the risk, ([\d.]+)%", printed(notebook)).groups())
    assert raised > 100 * of_voxels
    (explained,) = (html for html in values(notebook, "text/html") if "checks of the maps" in html)
    verdicts = {row[2]: row[5] for row in table(explained, "checks of the maps")}
    for check in ("correlation with an untrained model", "deletion, fall of the risk", "insertion, rise of the risk"):
        assert verdicts[check] == "passed"
    assert len(table(explained, "parts of the risk")) == 3
    assert explained.count("<img") == 1


def test_a_page_of_a_notebook_has_its_text_its_code_and_its_values() -> None:
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell(
            "1 + 1",
            outputs=[
                nbformat.v4.new_output("stream", name="stderr", text="progress"),
                nbformat.v4.new_output("stream", name="stdout", text="printed\n"),
                nbformat.v4.new_output("execute_result", {"text/plain": "2"}),
                nbformat.v4.new_output("display_data", {"text/plain": "a bar"}),
                nbformat.v4.new_output("execute_result", {"text/plain": "x", "text/html": "<b>x</b>"}),
            ],
        ),
    ]
    page = module().to_markdown(nbformat.v4.new_notebook(cells=cells))
    assert page.split("\n\n") == [
        "# Title",
        "````python\n1 + 1\n````",
        "````text\nprinted\n````",
        "````text\n2\n````",
        '````{raw} html\n<div class="output"><b>x</b></div>\n````\n',
    ]
