"""Faults at the writes of a study: nothing is lost, nothing half is read, and the next run gives the same bytes.

A few writes of each kind of fault, others with another ``TWOBE3_FAULTS_OFFSET``; ``benchmarks/faults.py`` tries all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.faults import DENIALS, Fault, FaultyCommands
from tests.sweeps import DAMAGES, MARKER, OWNER_FILES, PLACES, Sweep, list_partials, read_contents

import twobe3
from twobe3.io.claims import CLAIM
from twobe3.io.pseudonym import KEY_VARIABLE

OFFSET = int(os.environ.get("TWOBE3_FAULTS_OFFSET", "0"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    folder = tmp_path_factory.mktemp("sweep")
    made = Sweep(folder, **{KEY_VARIABLE: str(folder / "pseudonym.key")})
    with made.commands:
        yield made


def choose(n: int, tries: int) -> list[int]:
    """Some of n places, evenly spread."""
    return sorted({(OFFSET + i * n // tries) % n for i in range(tries)})


def find_write(sweep: Sweep, kind: str, name: str) -> int:
    """The number of the first write of a kind to a file or folder."""
    return sweep.first.writes.index((kind, name))


def without_claims(writes: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Writes of content: a claim is an empty file beside it."""
    return tuple((kind, name) for kind, name in writes if not name.endswith(CLAIM))


def test_every_file_of_a_study_is_written_aside_and_renamed(sweep: Sweep) -> None:
    """So that what is said of writes holds for all of them, whatever library makes the content."""
    writes = without_claims(sweep.first.writes)
    opened = [name for kind, name in writes if kind == "open"]
    assert all(name.startswith(".partial-") for name in opened)
    renamed = {name for kind, name in writes if kind == "os.rename"}
    assert {Path(name).name for name in sweep.contents} == renamed
    kinds = [kind for kind, _ in writes]
    assert kinds.count("open") == kinds.count("write") == kinds.count("os.rename") == kinds.count("fsync") / 2
    stores = {"volumes", "contours", "features", "folds", "models", "explanations", "figures", "tables"}
    assert {name.partition("/")[0] for name in sweep.contents} > stores


def test_the_mark_of_a_finished_study_is_written_last(sweep: Sweep) -> None:
    assert without_claims(sweep.first.writes)[-2:] == (("os.rename", "finished.json"), ("fsync", "whole"))


def test_a_kill_at_any_write_loses_nothing(sweep: Sweep) -> None:
    """Acceptance row 45."""
    problems = {n: sweep.try_new(Fault(n, "SIGKILL")) for n in choose(len(sweep.first.writes), 6)}
    assert not {n: found for n, found in problems.items() if found}


def test_a_write_that_is_denied_is_one_line_and_the_old_file_stays(sweep: Sweep) -> None:
    """Acceptance row 46."""
    places = choose(len(sweep.first.writes), 6)
    problems = {n: sweep.try_new(Fault(n, DENIALS[i % 3])) for i, n in enumerate(places)}
    updated = sweep.outs / "second"
    shutil.copytree(sweep.whole, updated)
    second = sweep.run(updated, second=True)
    contents = read_contents(updated)
    for i, n in enumerate(choose(len(second.writes), 6)):
        problems[-n] = sweep.try_update(Fault(n, DENIALS[i % 3]), contents)
    assert not {n: found for n, found in problems.items() if found}


@pytest.mark.parametrize("most_bytes", [4_000, 100_000])
def test_a_limit_of_the_system_is_one_line_whoever_writes(sweep: Sweep, most_bytes: int) -> None:
    sizes = [len(content) for content in sweep.contents.values()]
    assert min(sizes) < most_bytes < max(sizes)
    assert sweep.try_new(Fault(most_bytes, "EFBIG")) == []


def test_a_damaged_file_of_any_kind_is_made_again(sweep: Sweep) -> None:
    """Acceptance row 47."""
    problems = {n: sweep.try_damage(n) for n in choose(len(DAMAGES) * PLACES, 8)}
    assert not {n: found for n, found in problems.items() if found}


def test_a_report_of_damaged_files_is_refused_or_made_but_no_internal_error(sweep: Sweep) -> None:
    problems = {n: sweep.try_report(n) for n in choose(len(DAMAGES) * PLACES, 12)}
    assert not {n: found for n, found in problems.items() if found}


def test_a_report_that_was_killed_is_made_again(sweep: Sweep) -> None:
    out = sweep.outs / "reported"
    shutil.copytree(sweep.whole, out)
    writes = sweep.commands("report", out).writes
    assert read_contents(out) == sweep.contents
    for n in choose(len(writes), 6):
        assert sweep.commands("report", out, fault=Fault(n, "SIGKILL")).status == -9
        if n % 2:
            shutil.rmtree(out / "tables", ignore_errors=True)
    assert sweep.commands("report", out).status == 0
    assert read_contents(out) == sweep.contents
    assert not list_partials(out)


def test_a_worker_that_is_killed_at_a_write_costs_nothing(sweep: Sweep) -> None:
    """Acceptance row 49."""
    out = sweep.outs / "killed"
    ended = sweep.run(out, Fault(OFFSET % 10, "SIGKILL", in_worker=True), workers=2)
    assert (ended.status, ended.left) == (0, 0)
    assert ended.err.count("SIGKILL; it is tried once more") == 1
    assert read_contents(out) == sweep.contents
    assert not list_partials(out)


@pytest.mark.parametrize(("action", "workers"), [("SIGINT", 1), ("SIGTERM", 1), ("SIGTERM", 2)])
def test_an_interruption_at_any_write_is_resumed_and_leaves_no_process(sweep: Sweep, action: str, workers: int) -> None:
    """Acceptance row 50."""
    n = find_write(sweep, "os.mkdir", "models") if workers > 1 else len(sweep.first.writes)
    problems = {at: sweep.try_new(Fault(at, action), workers=workers) for at in choose(n, 4 if workers == 1 else 1)}
    assert not {at: found for at, found in problems.items() if found}


def test_a_clock_that_was_set_back_a_day_changes_nothing(sweep: Sweep) -> None:
    """Acceptance row 52."""
    earlier, resumed = sweep.outs / "earlier", sweep.outs / "resumed"
    assert sweep.run(earlier, days=-1.0).status == 0
    expected = read_contents(earlier)
    dated = {name for name, content in expected.items() if content != sweep.contents[name]}
    assert dated == {"run.json", "report.html", "finished.json"}
    cut = sweep.run(resumed, Fault(find_write(sweep, "os.mkdir", "models"), "SIGKILL"))
    assert cut.status == -9
    assert sweep.run(resumed, days=-1.0).status == 0
    assert read_contents(resumed) == expected
    again = sweep.run(resumed, days=-2.0)
    assert (again.status, again.writes) == (0, ())
    assert "finished: " in again.err


def test_what_is_missing_when_a_study_goes_on_is_said_or_refused(sweep: Sweep) -> None:
    """Acceptance row 53."""
    out = sweep.outs / "less"
    assert sweep.run(out, Fault(find_write(sweep, "os.mkdir", "models"), "SIGKILL")).status == -9
    min((out / "folds").iterdir()).unlink()
    resumed = sweep.run(out)
    assert "3 of 4 folds were there from an earlier run" in resumed.err
    assert read_contents(out) == sweep.contents

    weights = sweep.study.with_name("weights.safetensors")
    shutil.copy(Path(twobe3.__file__).parent / "features" / "data" / "phantom_resnet10.safetensors", weights)
    model = f'[[model]]\nkind = "pooled"\nbackbone = "phantom-resnet10"\nweights = "{weights.name}"\nslice_size = 16\n'
    study, out = sweep.study.with_name("third.toml"), sweep.outs / "third"
    study.write_text(sweep.study.read_text() + model)
    command = ("run", study, "--out", out, "--workers", 1)
    assert sweep.commands(*command, fault=Fault(150, "SIGKILL")).status == -9
    weights.unlink()
    before = read_contents(out)
    refused = sweep.commands(*command)
    assert refused.status in (1, 2)
    assert refused.err.startswith("twobe3: WEIGHTS_MISSING: ")
    assert {name: content for name, content in before.items() if ".partial" not in name} == read_contents(out)


def test_a_write_that_is_denied_to_a_worker_is_one_line(sweep: Sweep) -> None:
    """Acceptance row 54."""
    assert sweep.try_new(Fault(OFFSET % 5, "EIO", in_worker=True), workers=2) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_equal_runs_give_equal_bytes(sweep: Sweep, workers: int) -> None:
    """Acceptance row 55: in other folders and processes, with other seeds of Python's hashes."""
    out, key = sweep.outs / f"equal-{workers}", {KEY_VARIABLE: str(sweep.study.with_name("pseudonym.key"))}
    with FaultyCommands(sweep.outs, PYTHONHASHSEED=str(workers), **key) as commands:
        assert commands("run", sweep.study, "--out", out, "--workers", workers).status == 0
    assert read_contents(out) == sweep.contents


def test_no_file_but_the_owners_tells_a_patient(sweep: Sweep) -> None:
    telling = {name for name, content in sweep.contents.items() if MARKER.encode() in content or MARKER in name}
    assert telling <= {*OWNER_FILES}
    assert not any(MARKER in name for _, name in sweep.first.writes)
