"""Runs of one study on one folder at the same time: all are right, and the work is done once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import twobe3 as tb

MODELS = """
[[model]]
kind = "pooled"
backbone = "phantom-resnet10"
slice_size = 16
"""
STORES = ("volumes", "contours", "features")
TABLES = ("predictions.csv", "exclusions.csv", "results.txt", "study.sha256")


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_runs_at_once_compute_everything_once(tmp_path: Path, new_tiny_cohort: Callable[[Path], Any]) -> None:
    """Acceptance row 48."""
    file = new_tiny_cohort(tmp_path).patients(8).study(extra=MODELS)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    tb.run(file, alone, workers=1)
    command = [sys.executable, "-m", "twobe3", "run", str(file), "--out", str(shared), "--workers", "1"]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    expected, found = read_files(alone), read_files(shared)
    assert expected.keys() == found.keys()
    same = [name for name in expected if name.startswith(STORES) or name in TABLES]
    assert {name for name in same if expected[name] != found[name]} == set()
    computed = [int(re.search(r"(\d+) computed", text)[1]) for text in said]  # type: ignore[index]
    assert sum(computed) == sum(name.startswith("features/") for name in expected), said
