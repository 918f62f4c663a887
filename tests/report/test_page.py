from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.report.conftest import HOSTILE

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.report import write_report

VOID = {"meta", "br", "img", "input"}


class Page(HTMLParser):
    """Collects what the tests ask for, and checks that every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.style = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text += " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text += data


@pytest.fixture(autouse=True)
def page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page without the figures and tables beside it, which take longer and are tested elsewhere."""
    monkeypatch.setattr("twobe3.report.page.write_paper", lambda *_: None)


@pytest.fixture
def html(study: Path) -> str:
    return write_report(study).read_text(encoding="utf-8")


@pytest.fixture
def page(html: str) -> Page:
    return Page(html)


def rewrite(study: Path, name: str, **changes: Any) -> None:
    document = json.loads((study / name).read_text())
    (study / name).write_text(json.dumps(document | changes))


def text_of(study: Path) -> str:
    return " ".join(Page(write_report(study).read_text(encoding="utf-8")).text.split())


def test_report_lies_in_the_study_folder(study: Path) -> None:
    assert write_report(study) == study / "report.html"


def test_every_element_is_closed(page: Page) -> None:
    assert page.open == []
    assert len(page.elements) > 300


def outside_viewer(html: str) -> str:
    """The page without the viewer, the only part with scripts, which `test_viewer.py` and a browser test."""
    start = html.index('<section id="viewer"')
    return html[:start] + html[html.index("</section>", start) + len("</section>") :]


def test_nothing_is_fetched_and_nothing_runs_but_the_viewer(html: str) -> None:
    html = outside_viewer(html)
    page = Page(html)
    without_digest = re.sub(r"'sha256-[^']+'", "", html)  # base64 may hold two slashes
    assert not re.search(r"(?:https?:)?//[a-z]", without_digest, re.IGNORECASE)
    assert "url(" not in page.style
    assert "@import" not in page.style
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "link", "base", "form"}
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))


def test_policy_allows_our_style_sheet_alone(page: Page) -> None:
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'")
    assert "unsafe" not in policy


def test_policy_allows_scripts_by_their_digest_alone(html: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    (sources,) = re.findall(r"script-src ([^;]+);", policy)
    running = [
        text for kind, text in re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL) if "type" not in kind
    ]
    digests = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running}
    assert len(running) == 1
    assert digests <= {source.removeprefix("'sha256-").removesuffix("'") for source in sources.split()}
    assert all(source.startswith("'sha256-") for source in sources.split())


def test_markup_in_an_artefact_is_shown_as_text(html: str, page: Page) -> None:
    """Acceptance row 30."""
    assert "<script" not in outside_viewer(html)
    assert page.text.count("<script>alert('PET')</script>") >= 4  # title, heading, scanner, exclusion


def test_a_name_cannot_break_out_of_an_attribute_or_a_drawing(study: Path) -> None:
    """The name of a model stands in tables, boxes, drawings and their descriptions."""
    hostile = '"><script>alert(1)</script><!--'
    for path in study.glob("*.json"):
        path.write_text(path.read_text().replace("2be3-net", json.dumps(hostile)[1:-1]))
    with (study / "predictions.csv").open() as stream:
        rows = [[cell.replace("2be3-net", hostile) for cell in row] for row in csv.reader(stream)]
    with (study / "predictions.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    html = outside_viewer(write_report(study).read_text())
    page = Page(html)
    assert "<script" not in html
    assert "<!--" not in html
    assert page.open == []
    assert any(hostile in (a.get("aria-label") or "") for tag, a in page.elements if tag == "svg")


def test_no_patient_key_and_no_path_is_shown(html: str) -> None:
    assert "HOSPITAL" not in html
    assert "someone" not in html
    assert "weights.safetensors" in html


def test_report_says(page: Page) -> None:
    text = " ".join(page.text.split())
    expected = (
        "2be3-net",
        "radiomics",
        "tumour volume",
        "NOT_ATTN",
        "use the corrected one",
        "WEIGHT_MISSING",
        "12 found, 10 used, 2 excluded",
        "one warning of the cohort",
        "DOSE_IMPLAUSIBLE: taken as MBq 3 scans",
        "0.80 (0.70–0.90)",
        "radiomics minus 2be3-net +0.10 (0.00–0.20)",
        "north: 5",
        "female: 5",
        "median 54.5 years, 50 to 59",
        "9 of 10 scans have one",
        "BQML_START, SUVbw: 10",
        "5-fold cross-validation, 2 times with different partitions (seed 7)",
        "how auc was estimated",
        "how differences were estimated",
        "about 1 200 patients like these would be needed (median over the pairs)",
        "0.20 (0.40) 0.21 (0.63) 1 200",
        "Divided at: cut-off of the training patients of each fold.",
        "log-rank p = 0.012",
        "At risk low 6 5 2 high 4 1 0",
        "low risk: 6 patients, 1 with the event",
        "sex female 0.70 5 4 only 4 with the event",
        "sex male not estimable 5 0 only 0 with the event",
        "PET scan 3 12 25 %",
        "10 patients, 4 of the rarer class.",
        "don’t bear a single candidate parameter",
        "tumour volume 1 4.0 370",
        "The images are crops around the contour.",
        "decade",
        "c0ffee",
        "1 min 15 s",
    )
    assert [part for part in expected if part not in text] == []


def test_what_cannot_be_estimated_is_not_a_number(study: Path) -> None:
    text = text_of(study)
    assert "tumour volume baseline not estimable 10 4" in text
    assert text.index("radiomics 0.80") < text.index("tumour volume baseline not estimable")


def test_answer_says_whether_the_best_candidate_is_better_than_the_best_baseline(study: Path) -> None:
    text = text_of(study)
    assert (
        "radiomics had the best AUC for metastasis, 0.80 (95 % interval 0.70–0.90); that of no baseline was estimable, "
        "so it is not shown to be better than a trivial explanation." in text
    )
    assert (
        "radiomics is not better than tumour volume, the best baseline, for survival: Harrell’s C 0.60 (95 % interval "
        "0.50–0.70) against 0.65 (0.55–0.75); difference −0.05 (−0.15 to 0.05) on 10 patients, p = 0.60 by bootstrap "
        "and p = 0.63 across folds, after Holm’s correction." in text
    )


def test_every_picture_says_what_it_shows(page: Page) -> None:
    images = [a for tag, a in page.elements if tag == "svg" and a.get("role") == "img"]
    assert len(images) == 2 * 9 * 2 + 3 + 3  # patients from two sides, overlays, Kaplan–Meier
    assert all(a["aria-label"] for a in images)
    assert all(a.get("role") == "img" or a.get("aria-hidden") for tag, a in page.elements if tag == "svg")


def test_models_are_chosen_without_a_script(html: str) -> None:
    """A box for each model of an overlay; a rule of the style sheet draws what is ticked, at first three at most."""
    page = Page(outside_viewer(html))
    boxes = [a for tag, a in page.elements if tag == "input"]
    assert [(a["type"], a["class"], "checked" in a) for a in boxes] == [
        ("checkbox", "pick-0", True),
        ("checkbox", "pick-1", True),
    ]
    for i in (0, 1):
        assert f".overlays:has(.pick-{i}:checked) .model-{i} {{ display: inline; }}" in page.style
        assert sum(f"model-{i}" in (a.get("class") or "").split() for _, a in page.elements) == 4  # two in calibration


def test_the_order_is_that_of_the_questions(page: Page) -> None:
    text = " ".join(page.text.split()).partition("Reporting guidelines")[0]  # which name the sections, too
    headings = ("Who was in", "How well: metastasis", "Against what: metastasis", "Patients: metastasis",
                "Subgroups: metastasis", "How well: survival", "How it was made")  # fmt: skip
    places = [text.rindex(heading) for heading in headings]
    assert places == sorted(places)


def test_the_best_baseline_is_subtracted_first_and_other_pairs_are_folded(study: Path) -> None:
    evaluation = json.loads((study / "evaluation.json").read_text())
    one = {**evaluation["comparisons"][1], "model_a": "tumour volume", "model_b": "2be3-net", "difference": 0.1}
    other = {**evaluation["comparisons"][2], "model_a": "2be3-net", "model_b": "radiomics", "difference": -0.05}
    rewrite(study, "evaluation.json", comparisons=[other, one])
    html = write_report(study).read_text()
    text = " ".join(Page(html).text.split())
    assert "Paired differences in Harrell’s C to the best baseline, tumour volume" in text
    first, folded = text.index("2be3-net minus tumour volume −0.10"), text.index("radiomics minus 2be3-net +0.05")
    assert first < text.index("The other 1 pair") < folded


def test_scan_quality_marks_outliers(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "Uptake time min 64 (58–240)" in text
    assert "9 of 10" in text
    assert "pa-000000000002 240" in text
    assert "240 outlier" in text


def test_the_flow_counts_by_code(page: Page) -> None:
    text = " ".join(page.text.split())
    assert "12 series found 1 NOT_ATTN" in text
    assert "10 scans used 10 with a known outcome: metastasis, 4 with the event" in text
    assert "1 WEIGHT_MISSING it is 0" in text


def test_configuration_seed_and_digests_are_told_and_folders_are_not(study: Path) -> None:
    configuration = {
        "cohort": {"images": "/home/someone/dicom", "covariates": ["age", "stage"]},
        "model": [{"kind": "pooled"}, {"kind": HOSTILE}],
        "validation": {"folds": 5, "seed": 7},
    }
    rewrite(study, "run.json", configuration=configuration)
    text = text_of(study)
    assert "cohort.images dicom cohort.covariates age, stage model[1].kind pooled" in text
    assert f"model[2].kind {HOSTILE} validation.folds 5 validation.seed 7" in text
    assert "of the folds 7" in text
    assert "someone" not in text


def test_every_header_cell_has_a_scope(page: Page) -> None:
    assert {a.get("scope") for tag, a in page.elements if tag == "th"} == {"col", "row"}


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        (
            {"scheme": "leave-one-centre-out", "folds": 4},
            "were tested on each of 4 centres in turn, fitted on the others.",
        ),
        ({"scheme": "split", "folds": 1}, "test patients of one split, which was named in advance."),
        ({"scheme": "saved folds", "folds": 3, "repeats": 2}, "on the same 3 folds of an earlier run, 2 times"),
        ({"scheme": "external cohort", "folds": 1}, "fitted on all patients of another cohort and tested on this one"),
        ({"folds": 3, "recalibrate": True}, "an inner cross-validation of the training patients recalibrated"),
    ],
)
def test_the_methods_name_the_scheme(study: Path, validation: dict[str, Any], said: str) -> None:
    rewrite(study, "run.json", configuration={"validation": validation})
    assert said in text_of(study)


AUDIT: dict[str, Any] = {
    "passed": True,
    "folds": 20,
    "shared": [],
    "joined": 2,
    "seeing": [],
    "site": "centre",
    "permuted": [
        {"endpoint": "metastasis", "model": m, "metric": "auc_within_folds", "permutations": 20, "covers_half": covers}
        | {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}
        for m, mean, covers in (("2be3-net", 0.51, True), ("radiomics", 0.58, False))
    ],
}


def test_the_audit_is_shown_where_there_is_one(study: Path) -> None:
    assert "Leakage audit" not in text_of(study)
    rewrite(study, "run.json", audit=AUDIT)
    text = text_of(study)
    assert "Passed: nothing was learnt from the patients who are tested. 0 of 20 folds have a group on both" in text
    assert "the interval of 1 of 2 models covers 0.5" in text
    assert "radiomics AUC within folds metastasis 0.58 (0.53–0.63) 20" in text


def test_an_audit_that_failed_says_where(study: Path) -> None:
    failed = {
        "passed": False,
        "shared": ["metastasis: repeat 0, fold 3"],
        "seeing": ["spy (metastasis)"],
        "permuted": [],
    }
    rewrite(study, "run.json", audit=AUDIT | failed)
    text = text_of(study)
    assert "Failed: something was learnt" in text
    assert "1 of 20 folds have a group on both sides: metastasis: repeat 0, fold 3." in text
    assert "are changed: spy (metastasis)." in text


def test_an_evaluation_without_what_lies_behind_it_is_shown_as_well(study: Path) -> None:
    rewrite(study, "evaluation.json", subgroups=[], missing=[], sample_sizes=[])
    text = text_of(study)
    assert "Missing data" not in text
    assert "Parts of the cohort" not in text
    assert "large enough" not in text


def test_links_within_the_page_arrive(page: Page) -> None:
    anchors = {a["id"] for _, a in page.elements if "id" in a}
    assert {(a["href"] or "")[1:] for tag, a in page.elements if tag == "a"} <= anchors


def test_same_artefacts_give_the_same_bytes(study: Path) -> None:
    assert write_report(study).read_bytes() == write_report(study).read_bytes()


def test_study_without_exclusions_notes_or_comparisons(study: Path) -> None:
    rewrite(study, "cohort.json", exclusions=[], warnings=[])
    rewrite(study, "evaluation.json", comparisons=[])
    rewrite(study, "run.json", notes=[], timings=[])
    text = text_of(study)
    assert "Nothing was excluded." in text
    assert "radiomics could not be compared with tumour volume, the best baseline, for survival" in text
    assert "Caveats" not in text


def test_continuous_endpoint_has_no_events(study: Path) -> None:
    rewrite(
        study, "cohort.json", endpoints=[{"name": "age", "kind": "continuous", "unit": "year", "n": 10, "events": 10}]
    )
    evaluation = json.loads((study / "evaluation.json").read_text())["models"][0]
    metric = {**evaluation["metrics"][0], "name": "spearman", "value": 0.25, "low": -0.1, "high": 0.6}
    result = {**evaluation, "endpoint": "age", "kind": "continuous", "model": "radiomics", "metrics": [metric]}
    result |= {"basis": {"metric": "spearman", "reason": "the first one"}, "curves": []}
    rewrite(study, "evaluation.json", models=[result], comparisons=[])
    text = text_of(study)
    assert "age: continuous endpoint in years, known for 10 patients." in text
    assert "Model Spearman’s ρ (95 %) Interval n radiomics 0.25 (−0.10 to 0.60) 10" in text
    assert "Its interval includes 0, the value of chance." in text


@pytest.mark.parametrize("name", ["cohort.json", "evaluation.json", "run.json", "predictions.csv", "patients.json"])
def test_missing_artefact_is_named(study: Path, name: str) -> None:
    (study / name).unlink()
    with pytest.raises(ConfigurationError, match=name) as caught:
        write_report(study)
    assert caught.value.code is Code.ARTEFACT_MISSING
    assert not (study / "report.html").exists()


def test_missing_volume_is_named(study: Path) -> None:
    (study / "volumes" / "volume-4.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="volume-4") as caught:
        write_report(study)
    assert caught.value.code is Code.ARTEFACT_MISSING


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cohort.json", b'{"schema": 1', "cohort.json"),
        ("run.json", b'{"schema": 2}', "run.json: schema"),
        ("run.json", b'{"schema": 1}', "run.json: package_version: Field required"),
        ("evaluation.json", b"[]", "evaluation.json: schema"),
        ("evaluation.json", b'{"schema": 1, "models": [{"n": "x"}]}', "evaluation.json: models.0.endpoint"),
        ("evaluation.json", b'{"schema": 1, "models": NaN}', "evaluation.json"),
        ("volumes/volume-0.safetensors", b"not a tensor", "volumes/volume-0"),
        ("contours/volume-9.safetensors", b"not a tensor", "contours/volume-9"),
        ("patients.json", b'{"schema": 1, "patients": [{}]}', "patients.json: patients.0.endpoint"),
    ],
)
def test_damaged_artefact_is_named(study: Path, name: str, content: bytes, said: str) -> None:
    (study / name).write_bytes(content)
    with pytest.raises(EnvironmentFailure, match=said) as caught:
        write_report(study)
    assert caught.value.code is Code.ARTEFACT_DAMAGED
    assert str(study) not in str(caught.value)


def test_unusable_predictions_are_refused(study: Path) -> None:
    (study / "predictions.csv").write_text("patient_id,model\na,b\n")
    with pytest.raises(ConfigurationError, match="risk") as caught:
        write_report(study)
    assert caught.value.code is Code.PREDICTION_INVALID


def test_models_compared_within_folds_are_ranked_by_it_with_all_pairs_beside_it(study: Path) -> None:
    """The second model is ahead of all pairs, the first one within the folds."""
    evaluation = json.loads((study / "evaluation.json").read_text())
    models = [model for model in evaluation["models"] if model["endpoint"] == "metastasis"][:2]
    for model, within in zip(models, (0.9, 0.6), strict=True):
        metric = {**model["metrics"][0], "name": "auc_within_folds", "value": within, "low": 0.5, "high": 0.95}
        model["metrics"].append(metric)
        model["basis"] = {"metric": "auc_within_folds", "reason": "the reason why"}
    pairs = [{**evaluation["comparisons"][0], "metric": "auc_within_folds"}]
    rewrite(study, "evaluation.json", models=models, comparisons=pairs, subgroups=[])
    text = text_of(study)
    assert "2be3-net had the best AUC within folds for metastasis, 0.90 (95 % interval 0.50–0.95)" in text
    assert "Models are ranked and compared by AUC within folds: the reason why." in text
    assert "AUC, all pairs (95 %)" in text
    assert text.index("0.90 (0.50–0.95) 0.70 (0.60–0.80)") < text.index("0.60 (0.50–0.95) 0.80 (0.70–0.90)")
    assert "Paired differences in AUC within folds" in text
    assert "ROC curves. 2be3-net: AUC 0.70 (0.60–0.80)" in write_report(study).read_text()  # its area
