from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.command_line import Call

import twobe3 as tb
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io import pseudonym
from twobe3.io.model_file import read_sealed
from twobe3.study import run as running
from twobe3.study.finished import FINISHED, TABLE, Options, digest_inputs, read_finished, write_finished

Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], Any]) -> Path:
    """A study file in a folder of its own; it is finished, in ``out``."""
    folder = tmp_path_factory.mktemp("study")
    weights = shutil.copy(Path(tb.__file__).parent / "features" / "data" / "phantom_resnet10.safetensors", folder)
    model = f'[[model]]\nkind = "pooled"\nbackbone = "phantom-resnet10"\nweights = "{Path(weights).name}"\n'
    file: Path = new_tiny_cohort(folder).patients(8).study(extra=model + "slice_size = 16")
    tb.run(file, folder / "out", workers=1)
    return file


@pytest.fixture
def copied(study: Path, tmp_path: Path) -> Path:
    """A copy of it, which is finished too."""
    copy, out = tmp_path / "copy" / study.name, tmp_path / "copy" / "out"
    shutil.copytree(study.parent, copy.parent)
    assert not is_finished(copy)
    named = json.loads((out / FINISHED).read_text())["inputs"]
    write_finished(out, named, digest_inputs(copy, out, named, Options()), (out / TABLE).read_text().strip())
    return copy


def is_finished(study: Path, options: Options = Options()) -> bool:  # noqa: B008  frozen
    return read_finished(study, study.parent / "out", options) is not None


def test_a_finished_study_is_not_computed_again(twobe3: Call, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = study.parent / "out"
    table = read_finished(study, out, Options())
    assert table is not None
    assert "suvmax (SUV > 1.5)" in table
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    monkeypatch.setattr(tb, "run", lambda *_, **__: pytest.fail("the study is run again"))
    done = twobe3("run", study, "--out", out)
    assert done.out == f"{table}\n\n{out / 'report.html'}\n"
    assert done.err == ""
    assert twobe3("run", study, "--out", out, "--json").json()["report"] == str(out / "report.html")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_the_table_is_that_of_the_first_run(twobe3: Call, tiny_cohort: Any, tmp_path: Path) -> None:
    command = ("run", tiny_cohort.patients(8).study(), "--out", tmp_path / "out", "--workers", 1)
    first = twobe3(*command)
    again = twobe3(*command)
    assert (first.status, again.status, again.out) == (0, 0, first.out)
    assert (tmp_path / "out" / "results.txt").read_text() == first.out.rpartition("\n\n")[0] + "\n"


def a_slice(folder: Path) -> Path:
    return min((folder / "dicom").rglob("*.dcm"))


def flip_a_byte(folder: Path) -> None:
    """Size and time of modification stay."""
    path = a_slice(folder)
    state, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def append(name: str, text: str) -> Edit:
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text)


@pytest.mark.parametrize(
    "edit",
    [
        flip_a_byte,
        lambda folder: a_slice(folder).unlink(),
        lambda folder: shutil.copy(a_slice(folder), folder / "dicom" / "another"),
        lambda folder: a_slice(folder).rename(folder / "dicom" / "renamed"),
        lambda folder: shutil.rmtree(folder / "dicom"),
        append("clinical.csv", "P99,1\n"),
        append("study.toml", "# a remark\n"),
        lambda folder: os.utime(folder / "phantom_resnet10.safetensors"),
        append("out/report.html", " "),
        append("out/run.json", " "),
        lambda folder: (folder / "out" / "predictions.csv").unlink(),
        lambda folder: (folder / "out" / "results.txt").unlink(),
        lambda folder: next((folder / "out" / "models").iterdir()).unlink(),
        lambda folder: (folder / "out" / "finished.json").unlink(),
        lambda folder: (folder / "out" / "finished.json").write_text("[]"),
    ],
)
def test_a_study_of_which_anything_has_changed_is_not_finished(copied: Path, edit: Edit) -> None:
    assert is_finished(copied)
    edit(copied.parent)
    assert not is_finished(copied)


def test_links_are_followed_into_folders_once_and_the_output_folder_is_no_input(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (slices := tmp_path / "study" / "dicom").mkdir(parents=True)
    (out := slices / "out").mkdir()
    (file := slices.parent / "study.toml").touch()
    (slices / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(slices)
    (slices / "itself").symlink_to(slices / "itself")

    def inputs() -> str:
        return digest_inputs(file, out, ["dicom"], Options())

    states = [inputs()]
    (out / "report.html").touch()
    assert inputs() == states[0]
    (elsewhere / "slice.dcm").touch()
    states.append(inputs())
    (slices / "itself").unlink()
    states.append(inputs())
    (elsewhere / "slice.dcm").rename(elsewhere / "other.dcm")
    states.append(inputs())
    assert len(set(states)) == 4
    with pytest.raises(ConfigurationError, match="does not exist"):
        digest_inputs(file, out, ["gone"], Options())


def test_what_only_saves_computing_may_go(copied: Path) -> None:
    for store in ("features", "folds", "volumes"):
        shutil.rmtree(copied.parent / "out" / store)
    assert is_finished(copied)


def test_other_options_or_another_pseudonym_key_are_another_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_finished(study)
    assert not is_finished(study, Options(audit=True))
    assert not is_finished(study, Options(device="cpu"))
    assert not is_finished(study, Options(precision="32"))
    monkeypatch.setenv(pseudonym.KEY_VARIABLE, str(study.parent / "another.key"))
    assert not is_finished(study)


def test_a_folder_without_a_study_is_not_finished(study: Path, tmp_path: Path) -> None:
    assert read_finished(study, tmp_path / "absent", Options()) is None


def edited(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def test_what_is_damaged_in_a_study_is_made_again(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = copied.parent / "out"
    first, second = sorted((out / "models").iterdir())[:2]
    whole = {path: read_sealed(path).arrays.keys() for path in (first, second)}
    edited(first, lambda content: content[: len(content) // 2])
    edited(second, lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    edited(out / "study.sha256", lambda _: b"\xff\xfe")
    tb.run(copied, out, workers=1)
    assert {path: read_sealed(path).arrays.keys() for path in whole} == whole
    assert {path.name for path in out.rglob("*.damaged")} == {
        *(path.with_suffix(".damaged").name for path in whole), "study.damaged",
    }  # fmt: skip
    told = [record.getMessage().split(" is ")[0] for record in caplog.records if "DAMAGED" in record.getMessage()]
    assert told == [f"ARTEFACT_DAMAGED: {name}" for name in ("study.sha256", first.name, second.name)]
    assert len((out / "study.sha256").read_text()) == 65
    assert is_finished(copied)


def test_a_folder_of_nobody_knows_whom_is_refused_under_a_code(twobe3: Call, copied: Path) -> None:
    out = copied.parent / "out"
    edited(out / "study.sha256", lambda content: content[:20])
    edited(out / "run.json", lambda content: content[:20])
    for _ in range(2):
        refused = twobe3("run", copied, "--out", out).refusal()
        assert refused.startswith("ARTEFACT_DAMAGED: whose results")
    assert "--update" in refused


def test_a_study_without_a_scan_that_ended_its_workers_is_not_finished(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more memory the same command tries that scan again."""

    def run(function: Any, tasks: Any, *, shared: Any, instead: Any, **_: Any) -> list[Any]:
        return [(task, instead(task) if task == 0 else function(shared, task)) for task in tasks]

    monkeypatch.setattr("twobe3.validation.plan.run_tasks", run)
    result = tb.run(copied, copied.parent / "out", workers=1)
    assert [one.code for one in result.cohort.exclusions] == ["WORKER_DIED"]
    assert "WORKER_DIED" in (copied.parent / "out" / "exclusions.csv").read_text()
    assert not is_finished(copied)


def swap(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def each(change: Callable[..., None], folder: Path, n: int) -> None:
    """Change all volumes that the report may show, so many at a time."""
    subjects = json.loads((folder / "out" / "cohort.json").read_text())["subjects"]
    paths = [folder / "out" / "volumes" / subject["volume"] for subject in subjects]
    for start in range(0, len(paths), n):
        change(*paths[start : start + n])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        *(
            (append(f"out/{name}", " "), f"ARTEFACT_DAMAGED: {name} is not as the study wrote it")
            for name in ("cohort.json", "evaluation.json", "run.json", "patients.json", "predictions.csv")
        ),
        (lambda folder: (folder / "out/patients.json").unlink(), "ARTEFACT_MISSING: patients.json"),
        (lambda folder: swap(folder / "out/run.json", folder / "out/cohort.json"), "ARTEFACT_DAMAGED: cohort.json"),
        (lambda folder: each(swap, folder, 2), "ARTEFACT_DAMAGED: the checksum of volumes/"),
        (lambda folder: each(cut, folder, 1), "ARTEFACT_DAMAGED: volumes/"),
        (append("out/finished.json", "}"), "ARTEFACT_DAMAGED: finished.json cannot be read"),
    ],
)
def test_a_report_of_what_was_edited_is_refused(twobe3: Call, copied: Path, change: Edit, told: str) -> None:
    change(copied.parent)
    refused = twobe3("report", copied.parent / "out").refusal()
    assert refused.startswith(told)
    assert "twobe3 run" in refused


def test_what_was_edited_is_made_again_by_the_study(twobe3: Call, copied: Path) -> None:
    out = copied.parent / "out"
    before = {path: path.read_bytes() for path in (*out.glob("*.csv"), *out.glob("*.json"), *out.glob("volumes/*"))}
    swap(out / "cohort.json", out / "evaluation.json")
    (out / "patients.json").unlink()
    edited(out / "predictions.csv", lambda content: content.replace(b"0.", b"1."))
    swap(*sorted(out.glob("volumes/*"))[:2])
    tb.run(copied, out, workers=1)
    assert {path.name for path, content in before.items() if path.read_bytes() != content} == {
        "run.json", "finished.json",
    }  # fmt: skip
    assert twobe3("report", out).status == 0


def test_the_report_of_a_finished_study_is_the_same_and_leaves_it_finished(twobe3: Call, copied: Path) -> None:
    out = copied.parent / "out"
    for _ in range(2):
        assert twobe3("report", out).status == 0
        assert is_finished(copied)


@pytest.mark.parametrize("name", ["predictions.csv", "decisions.csv", "folds.json"])
def test_what_is_evaluated_is_what_the_study_predicted(twobe3: Call, copied: Path, name: str) -> None:
    out, table = copied.parent / "out", copied.parent / "clinical.csv"
    given = ("--clinical", table, "--label", "outcome", "--resamples", "100", "--decisions", out / "decisions.csv")
    command = ("evaluate", out / "predictions.csv", *given, "--folds", out / "folds.json")
    assert twobe3(*command).status == 0
    (out / name).write_text((out / name).read_text().replace("0.5", "0.6") + "\n")
    refused = twobe3(*command).refusal()
    assert refused.startswith(f"ARTEFACT_DAMAGED: {name} is not as the study wrote it")
    shutil.copytree(out, copied.parent / "own", ignore=shutil.ignore_patterns("finished.json"))
    assert (
        twobe3(*[str(part).replace(f"{out}{os.sep}", f"{copied.parent / 'own'}{os.sep}") for part in command]).status
        == 0
    )


@pytest.mark.parametrize("verb", ["predict", "explain", "card"])
def test_a_model_of_a_study_is_the_one_that_it_fitted(twobe3: Call, copied: Path, verb: str) -> None:
    models = copied.parent / "out" / "models"
    (first,), (other,) = sorted(models.glob("*.pooled.*")), sorted(models.glob("*.suvmax*"))
    scans = [] if verb == "card" else [copied.parent / "dicom"]
    out = ["--out", copied.parent / "explained", "--no-checks"] if verb == "explain" else []
    which = copied.parent / "out" if verb == "explain" else first
    swap(first, other)
    refused = twobe3(verb, which, *scans, *out).refusal()
    assert refused.startswith("ARTEFACT_DAMAGED: models/")
    swap(first, other)
    assert twobe3(verb, which, *scans, *out).status == 0
    first.unlink()
    if verb == "explain":
        assert twobe3(verb, which, *scans, *out).refusal().startswith(f"ARTEFACT_MISSING: models/{first.name}")


def test_exchanged_models_are_made_again(copied: Path) -> None:
    out = copied.parent / "out"
    one, other = sorted((out / "models").iterdir())[:2]
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    tb.run(copied, out, workers=1)
    assert {one.read_bytes(), other.read_bytes()} == {*contents}
    assert one.read_bytes() == contents[0]


def test_a_study_that_ends_after_another_one_in_the_same_folder_is_refused(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied.parent / "new"
    ended = running.fit_final_models

    def meanwhile(*arguments: Any) -> Any:  # another study ends there
        out.mkdir(exist_ok=True)
        (out / running.OWNER).write_text("0" * 64)
        return ended(*arguments)

    monkeypatch.setattr(running, "fit_final_models", meanwhile)
    with pytest.raises(ConfigurationError) as refused:
        tb.run(copied, out, workers=1)
    assert refused.value.code is Code.OUTPUT_EXISTS
    assert not (out / "run.json").exists()
