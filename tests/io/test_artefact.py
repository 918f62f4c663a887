"""Artefacts are read whole, or refused with the file and the key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.io.artefact import read_artefact
from twobe3.io.files import write_artefact


@dataclass(frozen=True)
class Note:
    text: str
    numbers: tuple[float, ...] = ()


SCHEMA = TypeAdapter(Note)


def test_what_was_written_is_read_and_other_keys_are_passed_over(tmp_path: Path) -> None:
    write_artefact(tmp_path / "note.json", {"text": "a", "numbers": [0.1, 2], "more": None})
    assert read_artefact(tmp_path / "note.json", SCHEMA) == Note("a", (0.1, 2.0))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"note\.json is not in the study folder") as caught:
        read_artefact(tmp_path / "note.json", SCHEMA)
    assert caught.value.code is Code.ARTEFACT_MISSING


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema": 1', "note.json: "),
        ('{"schema": 1, "text": "a", "numbers": [NaN]}', "note.json: "),
        ('{"text": "a"}', "note.json: schema: "),
        ("[1]", "note.json: schema: "),
        ('{"schema": 1, "numbers": []}', "note.json: text: Field required"),
        ('{"schema": 1, "text": "a", "numbers": [1, "b"]}', "note.json: numbers.1: "),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "note.json").write_text(content)
    with pytest.raises(EnvironmentFailure, match=said) as caught:
        read_artefact(tmp_path / "note.json", SCHEMA)
    assert caught.value.code is Code.ARTEFACT_DAMAGED
    assert str(tmp_path) not in str(caught.value)
