"""Numbers of items are those that the guidelines were published with."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined
from tests.report.conftest import HOSTILE, PATIENTS

from twobe3.report.checklist_answers import Answer, Status
from twobe3.report.checklists import GUIDELINES, Checklist, answer_functions, fill_in, read_items
from twobe3.report.study_folder import StudyFolder

ITEMS = {guideline.file: [row["item"] for row in read_items(guideline)] for guideline in GUIDELINES}


def rewrite(study: Path, name: str, **changes: Any) -> None:
    document = json.loads((study / name).read_text())
    (study / name).write_text(json.dumps(document | changes))


def filled_in(study: Path) -> dict[str, Checklist]:
    return {checklist.guideline.file: checklist for checklist in fill_in(StudyFolder.read(study))}


def answer(study: Path, guideline: str, number: str) -> Answer:
    return next(item.answer for item in filled_in(study)[guideline].items if item.number == number)


def test_tripod_ai_has_27_items_in_52_parts() -> None:
    numbers = ITEMS["tripod-ai"]
    assert len(numbers) == len(set(numbers)) == 52
    assert list(dict.fromkeys(re.sub("[a-g]", "", number) for number in numbers)) == [str(i) for i in range(1, 28)]
    letters = {base: "".join(n[-1] for n in numbers if n[:-1] == base) for base in ("3", "12", "18", "20", "27")}
    assert letters == {"3": "abc", "12": "abcdefg", "18": "abcdef", "20": "abc", "27": "abc"}


def test_claim_2024_has_44_items() -> None:
    assert ITEMS["claim-2024"] == [str(i) for i in range(1, 45)]


def test_metrics_has_30_items_and_5_conditions() -> None:
    conditions = [number for number in ITEMS["metrics"] if number.startswith("Condition ")]
    assert conditions == [f"Condition {i}" for i in range(1, 6)]
    assert [number for number in ITEMS["metrics"] if number not in conditions] == [str(i) for i in range(1, 31)]


def test_rqs_2_has_42_items_in_nine_levels() -> None:
    assert ITEMS["rqs-2"] == [str(i) for i in range(1, 43)]
    (rqs,) = (guideline for guideline in GUIDELINES if guideline.file == "rqs-2")
    levels = [row["section"] for row in read_items(rqs)]
    assert list(dict.fromkeys(levels)) == [f"RRL {i}" for i in range(1, 10)]


@pytest.mark.parametrize("name", sorted(answer_functions()))
def test_every_answer_says_how_far_what_and_where(name: str, study: Path) -> None:
    given = answer_functions()[name](StudyFolder.read(study))
    assert given.status in get_args(Status)
    if given.status == "for the author":
        assert (given.text, given.where) == ("", "")
    else:
        assert given.text
        assert given.where or given.status == "not applicable"


def test_ethics_funding_registration_and_discussion_are_the_authors(study: Path) -> None:
    of_tripod = {item.number: item.answer.status for item in filled_in(study)["tripod-ai"].items}
    for number in ("1", "2", "4", "5b", "8c", "17", "18a", "18b", "18c", "18d", "19", "25", "27b", "27c"):
        assert of_tripod[number] == "for the author"


def test_answers_are_what_the_artefacts_have(study: Path) -> None:
    assert answer(study, "tripod-ai", "20a").text == (
        "12 scans found, 10 used, 2 excluded (NOT_ATTN 1, WEIGHT_MISSING 1); "
        "metastasis: known for 10 patients, 4 events; "
        "survival: known for 10 patients, 4 events; of the follow-up the numbers at risk alone"
    )
    assert "metastasis: radiomics, AUC 0.80 (0.70–0.90), n 10" in answer(study, "tripod-ai", "23a").text
    assert "survival: tumour volume, Harrell’s C 0.65 (0.55–0.75), n 10" in answer(study, "claim-2024", "37").text
    assert answer(study, "tripod-ai", "12a").text == "cross-validation: 2 × 5 folds, seed 7"
    assert answer(study, "tripod-ai", "11").text.startswith("not known: PET scan 3 of 12")
    assert answer(study, "metrics", "4") == Answer("answered", "2 centres", "report, Who was in; tables/cohort")
    assert answer(study, "metrics", "Condition 5").text == "yes: 2be3-net"
    assert answer(study, "claim-2024", "23").text.startswith("twobe3 0.1.0, Python 3.11, PyTorch 2.10, NumPy 2.0")


def test_what_was_not_done_is_said(study: Path) -> None:
    for guideline, number in (("tripod-ai", "12f"), ("claim-2024", "33"), ("claim-2024", "31"), ("rqs-2", "25")):
        assert answer(study, guideline, number).status == "not done"


def test_a_second_cohort_recalibration_and_explanations_are_found(study: Path) -> None:
    validation = {"folds": 5, "repeats": 2, "recalibrate": True}
    rewrite(study, "run.json", external={"used": 33}, configuration={"validation": validation})
    (study / "explanations").mkdir()
    check = {"name": "deletion", "value": 0.1, "threshold": 0.2, "passed": False}
    record = {
        "endpoint": "metastasis",
        "model": "2be3-net",
        "patient": "pa-x",
        "method": "occlusion",
        "file": "a.safetensors",
    }
    maps = [record | {"risk": 0.5, "checks": [check | {"passed": passed}]} for passed in (True, False)]
    document = {"schema": 1, "package_version": "0.1.0", "maps": maps, "contributions": []}
    (study / "explanations" / "explanations.json").write_text(json.dumps(document))
    assert answer(study, "claim-2024", "33") == Answer("answered", "33 scans of another cohort", "external/report.html")
    assert answer(study, "tripod-ai", "12f").status == "answered"
    assert answer(study, "claim-2024", "31").text == (
        "2 maps of where the risk comes from (occlusion); 1 of 2 passed their sanity checks"
    )
    assert answer(study, "rqs-2", "26").status == "answered"


def test_centres_in_turn_are_no_external_cohort(study: Path) -> None:
    rewrite(study, "run.json", configuration={"validation": {"folds": 2, "scheme": "leave-one-centre-out"}})
    assert answer(study, "claim-2024", "33").status == "partly"


def test_a_failed_audit_is_no_answer(study: Path) -> None:
    audit = {"folds": 20, "shared": ["fold 3"], "joined": 0, "seeing": [], "permuted": [], "site": None}
    rewrite(study, "run.json", audit=audit)
    given = answer(study, "claim-2024", "20")
    assert given.status == "partly"
    assert given.text.endswith("audit: 1 of 20 folds with a patient on both sides; the audit failed")


def test_parameters_of_members_of_a_fusion_count(study: Path) -> None:
    run = json.loads((study / "run.json").read_text())
    members = [
        {"kind": "radiomics", "voxels": "shuffled"},
        {"kind": "cnn3d"},
        {"kind": "baseline", "variable": "clinical"},
    ]
    run["models"][0] |= {"kind": "fusion", "parameters": {"of": members}}
    rewrite(study, "run.json", models=run["models"])
    name = run["models"][0]["name"]
    assert answer(study, "rqs-2", "13") == Answer("answered", name, "report, How well; tables/parameters")
    assert answer(study, "rqs-2", "14").text == name
    assert answer(study, "claim-2024", "27").text == name
    assert answer(study, "claim-2024", "30").text == "voxels were shuffled"


def test_nothing_is_scored_and_nobody_named(study: Path) -> None:
    for checklist in filled_in(study).values():
        content = checklist.table().csv().decode()
        assert not any(patient in content for patient in PATIENTS)
        assert "pa-0" not in content
        assert sum(checklist.counts.values()) == len(checklist.items)


def test_the_folded_tables_are_escaped(study: Path) -> None:
    cohort = json.loads((study / "cohort.json").read_text())
    cohort["endpoints"][0]["event_definition"] = HOSTILE
    rewrite(study, "cohort.json", endpoints=cohort["endpoints"])
    environment = Environment(loader=PackageLoader("twobe3.report"), autoescape=True, undefined=StrictUndefined)
    template = '{% import "checklists.html.jinja" as guidelines %}{{ guidelines.folded(checklists) }}'
    html = environment.from_string(template).render(checklists=fill_in(StudyFolder.read(study)))
    assert "<script" not in html
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert tag in tags

    Reader().feed(html)
    assert tags.count("details") == len(GUIDELINES)
    assert tags.count("tr") == sum(len(items) + 1 for items in ITEMS.values())
