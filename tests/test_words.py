"""One word for one thing: the glossary is true, and words that were given up stay away."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import twobe3

ROOT = Path(twobe3.__file__).parent
PROJECT = Path(__file__).parents[1]
GLOSSARY = (PROJECT / "docs" / "explanation" / "glossary.md").read_text()


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PLACES = sorted(set(re.findall(r"\| `([a-z_0-9.]+)\.([A-Z]\w+)` \|", GLOSSARY)))

# Classes, parameters and attributes that were given up for the field's terms of docs/explanation/glossary.md.
GIVEN_UP = words(
    """
    Study VolumeSpec NamedSplit SavedFolds ConvertedSeries Found FoundScans FoundConverted ArrayStore FeatureStore
    SeriesFacts SliceFacts Note Noted Factors Instants Person Refusal NothingUsable UsageError ToolError
    Control PooledFeatures Radiomics NetworkModel Start Engine Stack LateCovariates JointHead LowRank Capacity
    Fits Fit Deciding Judgement Background Basis Aligned MetricRow LeftOut Result
    without_part fewest learns_beside cautions views_of inner_risks compute_features joined_later identifying_parameters
    """
)
IN_TEXT = re.compile(
    r"\b(UsageError|NothingUsable|ToolError|FeatureStore|ArrayStore|VolumeSpec|NamedSplit|SavedFolds|PooledFeatures)\b"
    r'|\btb\.(Control|Radiomics|Study|Engine|Result|Refusal)\b|kind = "control"'
)

# A function is named for what it does, not by a participle that reads like its result. Participles that are adjectives
# of the field ("weighted mean") stand beside.
IRREGULAR = words(
    """
    begun bent bought brought built chosen dealt done drawn fallen felt found given gone grown held kept known laid
    learnt left lost made meant met paid said seen sent shown spelt spoken stood taken taught thrown told understood
    written
    """
)
ADJECTIVES = words(
    """
    balanced embed expected explained injected installed integrated masked named need nested observed pooled required
    seed shared squared stored stratified unassigned unused weighted
    """
)


def defined(tree: ast.AST) -> Iterator[str]:
    """Every name that a module defines: classes, functions, arguments, attributes of classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def functions(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            marks = {ast.unparse(mark).split(".")[-1].split("(")[0] for mark in node.decorator_list}
            if not marks & {"property", "cached_property", "setter"}:
                yield node.name


def is_participle(word: str) -> bool:
    return word in IRREGULAR or (word.endswith("ed") and len(word) > 4 and word not in ADJECTIVES)


MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize(("module", "name"), PLACES, ids=[".".join(place) for place in PLACES])
def test_a_term_of_the_glossary_is_where_it_says(module: str, name: str) -> None:
    assert getattr(importlib.import_module(f"twobe3.{module}"), name).__doc__


def test_the_glossary_has_the_nouns() -> None:
    assert len(PLACES) > 35


@pytest.mark.parametrize("module", MODULES)
def test_no_name_that_was_given_up_comes_back(module: str) -> None:
    assert set(defined(ast.parse((ROOT / module).read_text()))) & GIVEN_UP == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_function_is_named_by_a_participle(module: str) -> None:
    names = {
        name
        for name in functions(ast.parse((ROOT / module).read_text()))
        if is_participle(name.strip("_").split("_")[0])
    }
    assert names == set()


@pytest.mark.parametrize(
    "path", [*sorted(PROJECT.glob("docs/**/*.md")), PROJECT / "README.md"], ids=lambda path: path.name
)
def test_no_word_that_was_given_up_stands_in_the_documentation(path: Path) -> None:
    assert IN_TEXT.findall(path.read_text()) == []
