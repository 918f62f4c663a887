from typing import Any

import pytest

from twobe3.dicom.series import find_series
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
