"""What a terminal is shown of texts that somebody else wrote."""

from __future__ import annotations

import json
import logging

import pytest

from twobe3.cli.output import PrintableFormatter, print_document

# ESC and its one-byte twin CSI, a bell, a tab, and a mark that turns the order of the letters round.
HOSTILE = "PT\x1b[2J\x9b31m\x07\t\u202e\U000e0001é→"


@pytest.mark.parametrize("as_json", [True, False])
def test_no_document_commands_a_terminal(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    print_document({"modality": HOSTILE}, as_json, lambda document: [document["modality"], "two\nlines"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 if as_json else 3
    assert all(line.isprintable() for line in lines)
    assert "é→" in lines[0]
    if as_json:
        assert json.loads(lines[0]) == {"modality": HOSTILE}


def test_no_message_commands_a_terminal() -> None:
    record = logging.LogRecord("twobe3", logging.WARNING, "x.py", 1, "model %s\nand more", (HOSTILE,), None)
    lines = PrintableFormatter("%(message)s").format(record).split("\n")
    assert lines[1:] == ["and more"]
    assert lines[0].isprintable()
