"""The tables of acceptance tests in docs/ name tests that exist, and the rules of SUV name functions that exist."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "suv.md").read_text()
ROWS = [
    row
    for page in (PAGE, (ROOT / "docs" / "explanation" / "evaluation.md").read_text())
    for row in re.findall(r"^\| (\d+) \|.*\| `(tests/[\w/]+\.py)::(test_\w+)` \|$", page, re.MULTILINE)
]
FUNCTIONS = sorted(set(re.findall(r"`((?:dicom|scans)\.\w+\.[a-z]\w*)`", PAGE)))


def test_every_row_has_one_test() -> None:
    assert sorted(int(number) for number, _, _ in ROWS) == list(range(1, 70))


@pytest.mark.parametrize(("number", "file", "name"), ROWS, ids=[f"row-{row[0]}" for row in ROWS])
def test_the_test_named_exists_and_asserts(number: str, file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    (test,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert re.search(rf"Acceptance rows? (\d+, )*(\d+ and )?{number}\b", ast.get_docstring(test) or "")
    assert any(
        isinstance(node, ast.Assert) or (isinstance(node, ast.Attribute) and node.attr in ("raises", "testing"))
        for node in ast.walk(test)
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_function_named_exists_and_says_its_source(function: str) -> None:
    module, name = function.rsplit(".", 1)
    assert getattr(importlib.import_module(f"twobe3.{module}"), name).__doc__


def test_every_rule_has_a_function() -> None:
    rules = re.findall(r"^\| (\d+) \|.*\| `\w+\.\w+\.\w+` \|", PAGE, re.MULTILINE)
    assert sorted({int(rule) for rule in rules}) == list(range(1, 25))
