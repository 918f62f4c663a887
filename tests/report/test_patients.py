from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.report.conftest import HOSTILE
from tests.report.test_viewer import array, records

from twobe3.core.map_check import MapCheck
from twobe3.evaluation.explanations import Explanations, MapRecord
from twobe3.evaluation.patients import PatientRecord
from twobe3.io.cache import Cache
from twobe3.io.files import write_artefact
from twobe3.phantom.patient import make_patient
from twobe3.report import write_report
from twobe3.report.faces import hide_face
from twobe3.report.patients import CaseGroup, case_groups, observe, viewer_cases
from twobe3.report.study_folder import EndpointRecord, StudyFolder
from twobe3.report.viewer import viewer

ORDER = ("radiomics", "tumour volume", "2be3-net")


def groups(study: Path, *models: str) -> dict[str, CaseGroup]:
    folder = StudyFolder.read(study)
    return {group.name: group for group in case_groups(folder, folder.cohort.endpoints[0], models or ORDER)}


def patients(group: CaseGroup) -> list[int]:
    return [int(case.patient.removeprefix("pa-"), 16) for case in group.cases]


def test_the_first_model_chooses_best_typical_and_worst(study: Path) -> None:
    """Patient i has i of 10 pairs right by the network; the median of 0 to 0.9 is 0.45."""
    found = groups(study, "2be3-net")
    assert {name: patients(group) for name, group in found.items()} == {
        "Best": [9, 8, 7],
        "Typical": [4, 5, 3],
        "Worst": [0, 1, 2],
    }


def test_among_equals_the_clearest_risk_comes_first(study: Path) -> None:
    assert patients(groups(study)["Best"]) == [0, 9, 1]  # all pairs right; ranks 0, 1, then 1/9


def test_a_case_says_what_happened_and_what_was_predicted(study: Path) -> None:
    case = groups(study, "2be3-net", "radiomics")["Best"].cases[0]
    assert case.lines == (
        "with the event",
        "2be3-net: risk above that of 0\N{NO-BREAK SPACE}% of the patients, probability 0.00; "
        "90\N{NO-BREAK SPACE}% of pairs ordered rightly",
        "radiomics: risk above that of 100\N{NO-BREAK SPACE}% of the patients, probability 1.00; "
        "100\N{NO-BREAK SPACE}% of pairs ordered rightly",
    )
    assert [picture.view for picture in case.pictures] == ["front", "side"]


def test_whom_a_model_cannot_use_is_shown_with_the_reason_and_nowhere_else(study: Path) -> None:
    evaluation = json.loads((study / "evaluation.json").read_text())
    one = {"series": "", "code": "CONTOUR_EMPTY", "reason": "it holds no voxel", "remedy": "draw one"}
    evaluation["exclusions"] = [
        {**one, "patient": "pa-000000000009", "model": "suvmax (contour)"},
        {**one, "patient": "pa-00000000000f", "model": "radiomics"},  # not in the cohort
        {**one, "patient": "", "model": "radiomics"},  # a feature
    ]
    (study / "evaluation.json").write_text(json.dumps(evaluation))
    found = groups(study, "2be3-net")
    assert patients(found["Failed"]) == [9]
    assert found["Failed"].cases[0].lines[-1] == "SUVmax in the contour: CONTOUR_EMPTY, it holds no voxel"
    assert patients(found["Best"]) == [8, 7, 6]


def test_a_model_that_predicted_nobody_shows_nobody(study: Path) -> None:
    assert groups(study, "tumour volume") == {}


@pytest.mark.parametrize(
    ("kind", "unit", "outcome", "said"),
    [
        ("binary", None, {"value": 1.0, "event": True}, "with the event"),
        ("binary", None, {"value": 0.0, "event": False}, "without the event"),
        ("time-to-event", "day", {"value": 310.0, "event": True}, "event after 310 days"),
        ("time-to-event", "month", {"value": 1.0, "event": False}, "no event until 1 month"),
        ("time-to-event", "day", {"value": 2.0, "event": False, "competing": True}, "another event after 2 days"),
        ("continuous", "year", {"value": 61.5, "event": True}, "observed 61.5 years"),
    ],
)
def test_outcomes_in_words(kind: Any, unit: str | None, outcome: dict[str, Any], said: str) -> None:
    record = PatientRecord("e", "pa-1", **{"competing": False, **outcome}, risks=())
    assert observe(record, EndpointRecord("e", kind, unit, 10, 4)) == said


def test_the_viewer_leaves_faces_out_once(study: Path) -> None:
    """Left out twice, the outline of what is left would lose as much again."""
    volume = make_patient(1).volume
    for subject in StudyFolder.read(study).cohort.subjects:
        name, metadata = Path(subject.volume).stem, {"spacing_mm": "[5.0, 4.0, 4.0]"}
        Cache(study / "volumes").put(name, {"suv": volume.array}, metadata=metadata)
        (study / "contours" / subject.volume).unlink(missing_ok=True)
    folder = StudyFolder.read(study)
    shown = [("metastasis", case_groups(folder, folder.cohort.endpoints[0], ORDER), ORDER)]
    page = viewer(viewer_cases(folder, shown))
    once = hide_face(volume.array, (5.0, 4.0, 4.0)).clip(0)
    assert (once != volume.array.clip(0)).any()
    for record in records(page):
        np.testing.assert_allclose(array(record["pet"]), once, atol=0.051)


def explain(study: Path, *maps: MapRecord) -> None:
    (study / "explanations").mkdir()
    for one in maps:
        Cache(study / "explanations").put(Path(one.file).stem, {"map": np.ones((6, 5, 4), np.float32)})
    write_artefact(study / "explanations" / "explanations.json", Explanations(maps).to_json())


def test_maps_of_a_patient_stand_beside_the_pictures_with_their_checks(study: Path) -> None:
    passed = MapCheck("model_randomisation", 0.123, 0.5, True)
    failed = MapCheck("agreement", None, 0.5, False)
    of_patient = MapRecord("metastasis", "2be3-net", f"pa-{9:012x}", "grad-cam", "a.safetensors", 1.0, (passed,))
    explain(
        study,
        replace(of_patient, model="radiomics", method="occlusion", checks=(passed, failed), file="b.safetensors"),
        of_patient,
        replace(of_patient, endpoint="survival", file="c.safetensors"),
    )
    first, second = groups(study, "2be3-net", "radiomics")["Best"].cases[0].maps
    assert (first.title, first.passed) == ("2be3-net by Grad-CAM", True)
    assert first.checks == ("model randomisation 0.12 against 0.50, passed",)
    assert (second.title, second.passed) == ("radiomics by occlusion", False)
    assert second.checks[1] == "agreement not estimable against 0.50, failed"
    assert all(picture.map_uri.startswith("data:image/png;base64,") for picture in first.pictures)


def test_a_failed_map_says_so_and_markup_in_it_is_text(study: Path) -> None:
    bad = MapCheck(HOSTILE, 0.0, None, False)
    explain(study, MapRecord("metastasis", "radiomics", f"pa-{9:012x}", HOSTILE, "a.safetensors", 1.0, (bad,)))
    html = write_report(study).read_text()
    start = html.index('<section id="viewer"')  # whose scripts are its own
    html = html[:start] + html[html.index("</section>", start) :]
    assert "<script" not in html
    assert "Failed its checks, don’t trust it:" in html
    assert "blue away from it" in html
