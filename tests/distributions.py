"""Other distributions, installed into a folder, and commands in a process that finds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import twobe3

PLUGIN = Path(__file__).parent / "plugin"
PROJECT: dict[str, Any] = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]

SCRIPT = """
import json, sys
from twobe3.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        assert not end.code, arguments
"""


def install(folder: Path, name: str, groups: Mapping[str, Mapping[str, str]]) -> None:
    """Write what an installer writes of a distribution with these entry points."""
    info = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [line for group, points in groups.items() for line in (f"[{group}]", *map(" = ".join, points.items()))]
    (info / "entry_points.txt").write_text("\n".join([*lines, ""]))


def call_with(site: Path, commands: Sequence[Sequence[str]]) -> subprocess.CompletedProcess[str]:
    """Commands one after the other, none of which fails, in a process that finds what is installed in a folder."""
    paths = os.pathsep.join([str(site), str(Path(twobe3.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done
