"""The command line in the process of a test: what it wrote, and how it ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from twobe3.cli.main import main


class Done(NamedTuple):
    """A command that has ended: its exit status, its standard output and its standard error."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """The one document on standard output."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    def refusal(self) -> str:
        """The one line that a refused command ends with; nothing on standard output, no traceback."""
        assert self.out == ""
        assert "Traceback" not in self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("twobe3: ")]
        assert self.err.rstrip().endswith(line)
        return line.removeprefix("twobe3: ")


Call = Callable[..., Done]


def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object) -> Done:
    """Call ``twobe3`` with arguments."""
    monkeypatch.setattr(sys, "argv", ["twobe3", *map(str, arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        main()
    status = end.value.code or 0
    assert isinstance(status, int)
    return Done(status, *capfd.readouterr())
