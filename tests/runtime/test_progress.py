import re
import threading
import time
from typing import Any

import pytest
from rich.progress import Progress

from twobe3.dicom.series import find_series
from twobe3.runtime import progress
from twobe3.runtime.progress import bar, track


def test_every_item_is_gone_through_and_standard_output_stays_free(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(5), "Counting")) == [0, 1, 2, 3, 4]
    assert list(track(iter("ab"), "Spelling", total=2, shown=False)) == ["a", "b"]
    with bar("Moving", 10) as report:
        report(10, 10)
    written = capsys.readouterr()
    assert written.out == ""
    assert "Counting" in written.err
    assert "10/10" in written.err
    assert "Spelling" not in written.err


def test_the_search_for_series_shows_the_same_bar(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bench.save(bench.slices())
    find_series([folder])
    assert capsys.readouterr().err == ""
    find_series([folder], progress=True)
    n = len(list(folder.iterdir()))
    assert f"{n}/{n}" in capsys.readouterr().err


def test_a_name_in_a_bar_is_shown_as_it_is_and_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1], "[red]\x1b[2J[/nothing]")) == [1]
    with bar("[bold]\x1b[2J", 1) as report:
        report(1, 1)
    written = capsys.readouterr().err
    assert "[red][2J[/nothing]" in written
    assert "[bold][2J" in written
    assert "\x1b[2J" not in written


def test_without_a_terminal_lines_say_what_is_done_how_far_and_how_long_yet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SAID_EVERY_S", 0.05)
    items = track(range(4), "[slow] work")
    assert next(items) == 0
    time.sleep(0.3)  # a single item that takes long
    assert next(items) == 1
    time.sleep(0.3)
    assert list(items) == [2, 3]
    lines = [line for line in capsys.readouterr().err.splitlines() if "done in" in line]
    assert "[slow] work: 0 of 4 done in 0:00:00" in lines
    assert any(re.fullmatch(r"\[slow\] work: 1 of 4 done in \S+, about 0:00:0\d left", line) for line in lines)
    assert not any(thread.name.endswith("(_say_regularly)") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("done", "elapsed_s", "said"),
    [
        (0, 30, "features: 0 of 2800 done in 0:00:30"),
        (700, 3600, "features: 700 of 2800 done in 1:00:00, about 3:00:00 left"),
        (2800, 7200, "features: 2800 of 2800 done in 2:00:00, about 0:00:00 left"),
        (1, 90061, "features: 1 of 2800 done in 1 day, 1:01:01, about 2917 days, 14:25:39 left"),
    ],
)
def test_the_time_left_is_that_of_the_pace_up_to_now(done: int, elapsed_s: float, said: str) -> None:
    shown = Progress(disable=True)
    task = shown.add_task("features", total=2800, completed=done)
    assert progress._say(shown.tasks[task], elapsed_s) == said


def test_what_has_no_known_number_is_counted() -> None:
    shown = Progress(disable=True)
    task = shown.add_task("files", total=None, completed=12_345_678)
    assert progress._say(shown.tasks[task], 61) == "files: 12345678 done in 0:01:01"
