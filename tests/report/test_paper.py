from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.report.conftest import EVALUATION, HOSTILE, MODELS, write_study

from twobe3.report import write_report


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def rewrite(study: Path, name: str, **changes: Any) -> None:
    document = json.loads((study / name).read_text())
    (study / name).write_text(json.dumps(document | changes))


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with its figures and tables, which no test changes."""
    folder = write_study(tmp_path_factory.mktemp("paper"))
    write_report(folder)
    return folder


def names(folder: Path, ending: str) -> set[str]:
    return {path.name.removesuffix(ending) for path in folder.glob(f"*{ending}")}


def test_every_figure_of_the_page_is_there_in_both_formats(paper: Path) -> None:
    figures = names(paper / "figures", ".svg")
    assert figures == names(paper / "figures", ".pdf")
    assert figures == {
        "metastasis-models",
        "metastasis-differences-auc",
        "metastasis-roc-curves",
        "metastasis-calibration",
        "metastasis-decision-curves",
        "metastasis-subgroups",
        "survival-models",
        "survival-differences-harrell-c",
        "survival-kaplan-meier-curves-by-predicted-risk",
        "metastasis-patients",
        "survival-patients",
        "scan-quality",
    }


def test_every_table_of_the_page_is_there_in_both_formats(paper: Path) -> None:
    tables = {name for name in names(paper / "tables", ".csv") if not name.startswith("checklist")}
    assert names(paper / "tables", ".csv") == names(paper / "tables", ".tex")
    kinds = ("models", "metrics-order-and-error", "agreement")
    of_both = {f"{endpoint}-{kind}" for endpoint in ("metastasis", "survival") for kind in kinds}
    assert tables == of_both | {
        "metastasis-differences-auc",
        "metastasis-subgroups",
        "metastasis-subgroups-of-all-models",
        "metastasis-sample-size",
        "survival-differences-harrell-c",
        "cohort",
        "configuration",
        "flow",
        "scan-quality",
        "scanners",
        "missing-data",
        "exclusions",
        "scans",
        "parameters",
        "estimators",
    }


def test_the_figures_of_evaluation_json_stand_in_the_table(paper: Path) -> None:
    rows = {row["Model"]: row for row in read(paper / "tables" / "metastasis-models.csv")}
    for one in EVALUATION["models"][:3]:
        metric, row = one["metrics"][0], rows[one["model"]]
        for column, key in (("AUC", "value"), ("AUC, 95 % low", "low"), ("AUC, 95 % high", "high")):
            assert row[column] == ("" if metric[key] is None else repr(metric[key]))
        assert (row["n"], row["Events"]) == ("10", "4")
    assert list(rows) == ["radiomics", "2be3-net", "tumour volume"]  # the best first, not estimable last
    assert rows["tumour volume"]["Kind"] == "baseline"


def test_a_difference_is_the_first_minus_the_second(paper: Path) -> None:
    (row,) = read(paper / "tables" / "metastasis-differences-auc.csv")
    assert (row["First"], row["Second"], float(row["Difference"])) == ("radiomics", "2be3-net", 0.1)
    assert (float(row["p, bootstrap"]), float(row["p, bootstrap, Holm"])) == (0.2, 0.4)
    assert (float(row["p, across folds"]), float(row["p, across folds, Holm"])) == (0.21, 0.63)
    assert row["Patients for 0.05"] == "1234"


def test_agreement_is_symmetric_with_ones_on_the_diagonal(paper: Path) -> None:
    rows = read(paper / "tables" / "survival-agreement.csv")
    models = [row["Model"] for row in rows]
    assert sorted(models) == sorted(MODELS)
    for i, a in enumerate(models):
        assert float(rows[i][a]) == pytest.approx(1.0)
        for j, b in enumerate(models):
            assert rows[i][b] == rows[j][a]


def test_nothing_identifies_a_patient_or_a_machine(paper: Path) -> None:
    for path in [*(paper / "tables").iterdir(), *(paper / "figures").iterdir()]:
        content = path.read_bytes()
        assert b"HOSPITAL" not in content, path.name
        assert b"/home/someone" not in content, path.name
        assert b"2026-01-02" not in content, path.name


def test_markup_is_text_in_every_svg(paper: Path) -> None:
    for path in (paper / "figures").glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert not [element for element in root.iter() if element.tag.endswith("}script")]
        for element in root.iter():
            for name, value in element.attrib.items():
                if name.endswith("href"):
                    assert value.startswith(("#", "data:image/png;base64,")), path.name


def test_what_was_excluded_is_a_table_whatever_its_reason(paper: Path) -> None:
    assert read(paper / "tables" / "exclusions.csv")[0]["Reason"] == HOSTILE
    assert r"\textless{}script\textgreater{}" in (paper / "tables" / "exclusions.tex").read_text()


def test_the_same_artefacts_give_the_same_bytes(paper: Path) -> None:
    def digests() -> dict[str, str]:
        written = [*(paper / "tables").iterdir(), *(paper / "figures").iterdir()]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written}

    first = digests()
    write_report(paper)
    assert digests() == first


def test_endpoints_whose_names_make_one_file_name_stay_apart(study: Path) -> None:
    cohort = json.loads((study / "cohort.json").read_text())
    evaluation = json.loads((study / "evaluation.json").read_text())
    text = json.dumps(evaluation).replace('"metastasis"', '"転移"').replace('"survival"', '"../転移"')
    for endpoint, name in zip(cohort["endpoints"], ("転移", "../転移"), strict=True):
        endpoint["name"] = name
    rewrite(study, "cohort.json", endpoints=cohort["endpoints"])
    (study / "evaluation.json").write_text(text)
    write_report(study)
    assert {"endpoint-1-models", "endpoint-2-models"} <= names(study / "tables", ".csv")


def test_permuted_outcomes_are_a_figure_and_a_table(study: Path) -> None:
    row = {"endpoint": "metastasis", "model": "radiomics", "metric": "auc", "permutations": 20}
    row |= {"mean": 0.51, "low": 0.47, "high": 0.55}
    audit = {"folds": 5, "shared": [], "joined": 0, "seeing": [], "permuted": [row], "site": None}
    rewrite(study, "run.json", audit=audit)
    write_report(study)
    assert "permuted-outcomes" in names(study / "figures", ".pdf")
    (written,) = read(study / "tables" / "permuted-outcomes.csv")
    assert [float(written[name]) for name in ("Mean", "Mean, 95 % low", "Mean, 95 % high")] == [0.51, 0.47, 0.55]
