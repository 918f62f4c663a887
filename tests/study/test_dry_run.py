"""What a dry run says is what the run then does; and it leaves everything as it was."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from tests.command_line import Call

import twobe3 as tb
from twobe3.core.errors import TwoBe3Error
from twobe3.study.dry_run import DryRun, dry_run

POOLED = '[[model]]\nkind = "pooled"\nbackbone = "phantom-resnet10"\nslice_size = 16\n'
FUSION = '[[model]]\nkind = "fusion"\nof = ["pooled", "image_extent"]\n'
NETWORK = '[[model]]\nkind = "cnn3d"\nepochs = 2\nwidth = 4\n'


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], Any]) -> Path:
    """Eight patients, one scanned who is not in the table, and one in the table who was not scanned."""
    cohort = new_tiny_cohort(tmp_path_factory.mktemp("dry")).patients(8)
    cohort.scan("stranger")
    with cohort.clinical.open("a") as table:
        table.write("P77,1\n")
    path: Path = cohort.study(extra=POOLED + FUSION + NETWORK + "[report]\nexplain = true\n")
    path.write_text(path.read_text().replace("baselines = false", "baselines = true"))
    return path


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(one): (one.stat().st_size, one.stat().st_mtime_ns) for one in [folder, *folder.rglob("*")]}


@pytest.fixture(scope="module")
def said(study: Path) -> DryRun:
    before = state(study.parent)
    found = dry_run(study, study.parent / "out", workers=1)
    after = state(study.parent)
    # the root alone is probed for whether anything can be written there, by a file without a name
    before.pop(str(study.parent)), after.pop(str(study.parent))
    assert after == before
    return found


@pytest.fixture(scope="module")
def out(study: Path, said: object) -> Path:
    """The output folder of the run that follows."""
    tb.run(study, study.parent / "out", workers=1)
    return study.parent / "out"


def test_it_says_which_scans_a_run_uses(said: Any, out: Path) -> None:
    cohort = json.loads((out / "cohort.json").read_text())
    assert (said.cohort.found, said.cohort.used) == (cohort["found"], cohort["used"]) == (9, 8)
    with (out / "exclusions.csv").open() as file:
        codes = Counter(row["code"] for row in csv.DictReader(file))
    assert said.cohort.excluded == codes == {"PATIENT_NOT_IN_TABLE": 1, "PATIENT_NOT_SCANNED": 1}
    (endpoint,) = said.endpoints
    (there,) = cohort["endpoints"]
    assert (endpoint.name, endpoint.patients, endpoint.events) == (there["name"], there["n"], there["events"])


def test_it_says_what_a_run_fits_and_explains(said: Any, out: Path) -> None:
    models = [model["name"] for model in json.loads((out / "run.json").read_text())["models"]]
    assert list(said.models) == models
    maps = json.loads((out / "explanations" / "explanations.json").read_text())["maps"]
    assert said.tasks == {
        "scans on the grid": 8,
        "fits in folds": len(list((out / "folds").glob("*.safetensors"))),
        "explanations": len(maps),
        "models on all patients": len(list((out / "models").glob("*.safetensors"))),
    }
    assert set(said.there.values()) == {0}
    assert said.estimate.untimed == ()
    assert all(seconds > 0 for seconds in said.estimate.seconds.values())


def test_volumes_need_the_disk_that_it_says(said: Any, out: Path) -> None:
    subjects = json.loads((out / "cohort.json").read_text())["subjects"]
    size = 0
    for subject in subjects:
        with safe_open(out / "volumes" / subject["volume"], framework="numpy") as stored:
            size += stored.get_tensor("suv").nbytes
    assert said.estimate.disk_bytes["volumes"] == size


def test_what_is_there_is_not_done_again(study: Path, out: Path, twobe3: Call) -> None:
    before = state(study.parent)
    done = twobe3("run", study, "--out", out, "--dry-run", "--workers", 1, "--json").json()
    assert {path: one for path, one in state(study.parent).items() if path != str(out)} == {
        path: one for path, one in before.items() if path != str(out)
    }
    assert done["there"] == done["tasks"]
    assert [done["estimate"]["seconds"][step] for step in ("fits in folds", "models on all patients")] == [0, 0]
    assert sum(done["estimate"]["disk_bytes"].values()) == done["estimate"]["disk_bytes"]["features"] == 0
    assert done["finished"]


def test_it_says_that_it_estimates_and_from_what(study: Path, twobe3: Call, tmp_path: Path) -> None:
    done = twobe3("run", study, "--out", tmp_path / "new", "--dry-run", "--workers", 1)
    assert "scans: 9 series found, 8 usable, 1 PATIENT_NOT_IN_TABLE, 1 PATIENT_NOT_SCANNED\n" in done.out
    assert "endpoint outcome (binary): 8 patients, 4 events, 2 folds\n" in done.out
    assert "both are estimates: every scan was read; features of 3 of them" in done.out
    assert done.out.endswith("nothing was written\n")
    assert not (tmp_path / "new").exists()


def test_a_model_that_the_scans_are_none_for_is_named_as_not_timed(study: Path, tmp_path: Path) -> None:
    drawn = study.with_name("drawn.toml")
    drawn.write_text(study.read_text() + '\n[[model]]\nkind = "baseline"\nvariable = "tlg"\nregion = "contour"\n')
    assert dry_run(drawn, tmp_path / "out", workers=1).estimate.untimed == ("tlg (contour)",)


WRONG = {
    "a key that there is not": ("folds = 2", "fold = 2"),
    "a column that there is not": ('column = "outcome"', 'column = "outcom"'),
    "a model that there is not": ('kind = "pooled"', 'kind = "pool"'),
    "more folds than patients": ("folds = 2", "folds = 20"),
    "more folds than events": ("folds = 2", "folds = 5"),
    "a folder that there is not": ('images = "dicom"', 'images = "dicoms"'),
}


@pytest.mark.parametrize(("right", "wrong"), WRONG.values(), ids=WRONG)
def test_a_wrong_study_is_refused_as_by_a_run(
    study: Path, tmp_path: Path, twobe3: Call, right: str, wrong: str
) -> None:
    file = study.with_name("wrong.toml")
    file.write_text(study.read_text().replace(right, wrong))
    refused = [twobe3("run", file, "--out", tmp_path / "out", "--workers", 1, *dry) for dry in ([], ["--dry-run"])]
    assert refused[0].refusal() == refused[1].refusal()
    assert refused[0].status == refused[1].status != 0


def test_the_folder_of_another_study_is_refused_and_left_alone(study: Path, tmp_path: Path) -> None:
    mark = tmp_path / "study.sha256"
    for content in ("0" * 64, "damaged"):
        mark.write_text(content)
        with pytest.raises(TwoBe3Error):
            dry_run(study, tmp_path, workers=1)
        assert [one.name for one in tmp_path.iterdir()] == ["study.sha256"]
        assert mark.read_text() == content
