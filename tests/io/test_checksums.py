"""Files of a finished study are as it wrote them, or told with a code; every other file may be what it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.io.checksums import FINISHED, digest_outputs, read_checksums, require_as_written
from twobe3.io.files import write_artefact

NAMES = ("cohort.json", "run.json", "models/a.safetensors", "external/explanations/explanations.json", "features/a")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    out = tmp_path / "study"
    for name in NAMES:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    write_artefact(out / FINISHED, {"outputs": digest_outputs(out)})
    return out


def test_what_is_as_it_was_is_accepted(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        require_as_written(study / name)
    monkeypatch.chdir(study / "models")
    require_as_written(Path("a.safetensors"))
    assert set(read_checksums(study)) == {*NAMES} - {"features/a"}


def exchange(study: Path) -> None:
    (study / "cohort.json").rename(study / "aside")
    (study / "run.json").rename(study / "cohort.json")
    (study / "aside").rename(study / "run.json")


@pytest.mark.parametrize(
    ("change", "name", "code", "told"),
    [
        (lambda study: (study / "run.json").write_text("run.jsom"), "run.json", Code.ARTEFACT_DAMAGED, "run.json"),
        (
            lambda study: os.truncate(study / "models/a.safetensors", 3),
            "models/a.safetensors",
            Code.ARTEFACT_DAMAGED,
            "models/a.safetensors",
        ),
        (exchange, "cohort.json", Code.ARTEFACT_DAMAGED, "cohort.json"),
        (exchange, "run.json", Code.ARTEFACT_DAMAGED, "run.json"),
        (lambda study: (study / NAMES[3]).write_text(""), NAMES[3], Code.ARTEFACT_DAMAGED, NAMES[3]),
        (lambda study: (study / "cohort.json").unlink(), "cohort.json", Code.ARTEFACT_MISSING, "cohort.json"),
        (lambda study: (study / FINISHED).write_text("[]"), "cohort.json", Code.ARTEFACT_DAMAGED, FINISHED),
        (lambda study: (study / FINISHED).write_bytes(b"\xff"), "cohort.json", Code.ARTEFACT_DAMAGED, FINISHED),
        (lambda study: (study / FINISHED).write_text('{"outputs": 1}'), "cohort.json", Code.ARTEFACT_DAMAGED, FINISHED),
    ],
)
def test_what_is_not_is_told_with_its_name_and_a_remedy(
    study: Path, change: Callable[[Path], object], name: str, code: Code, told: str
) -> None:
    change(study)
    with pytest.raises((ConfigurationError, EnvironmentFailure)) as caught:
        require_as_written(study / name)
    assert caught.value.code is code
    assert told in caught.value.reason
    assert "twobe3 run" in caught.value.remedy
    assert str(study) not in str(caught.value)


def test_files_that_the_study_did_not_write_or_that_lie_elsewhere_are_accepted(study: Path, tmp_path: Path) -> None:
    (study / "own.csv").write_text("a")
    require_as_written(study / "own.csv")
    require_as_written(study / "absent.csv")
    (tmp_path / "cohort.json").write_text("another")
    require_as_written(tmp_path / "cohort.json")


def test_without_the_mark_nothing_is_known(study: Path) -> None:
    (study / FINISHED).unlink()
    (study / "run.json").write_text("changed")
    require_as_written(study / "run.json")
    assert read_checksums(study) == {}
