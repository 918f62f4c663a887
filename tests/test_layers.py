"""Imports point one way only; the drawing is in docs/architecture.md."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import twobe3

ROOT = Path(twobe3.__file__).parent

# From the ground up: a module imports modules of its own layer or of lower ones.
LAYERS = (
    ("errors",),
    ("artefact", "delimited", "volume", "outcome", "prediction", "progress", "worker"),
    ("store", "pseudonym", "nifti", "resample", "landmarks", "table"),
    ("dicom", "converted"),
    ("cohort", "duplicates", "regions", "splits"),
    ("scans", "patients", "covariates"),
    ("header_labels",),
    ("intake",),
    ("collections",),
    ("features",),
    ("models",),
    ("explain",),
    ("config", "decisions", "inference", "naming", "doctor", "compute", "sections"),
    ("fitting",),
    ("default_controls", "pretraining"),
    ("audit", "external", "experiment", "result", "record"),
    ("demo",),
    ("cli_output",),
    ("cli_collections",),
    ("cli",),
    ("__main__",),
)
# Beside that tower: what each of them may import, and nothing else.
ASIDE = {
    "evaluation": {"errors", "artefact", "delimited", "outcome", "prediction"},
    "judgement": {"errors", "artefact", "outcome", "prediction", "pseudonym", "table", "evaluation"},
    "report": {"errors", "artefact", "outcome", "prediction", "volume", "evaluation", "explain"},
    "phantom": {"errors", "artefact", "volume", "dicom"},
}
# The towers meet on top.
MAY_USE_ASIDE = {
    "evaluation": {
        "judgement",
        "report",
        "audit",
        "experiment",
        "external",
        "result",
        "record",
        "naming",
        "pretraining",
    },
    "report": {"experiment", "external", "result", "record"},
    "phantom": {"demo"},
    "judgement": set[str](),
}


def part(module: str) -> str:
    return module.split(".")[0]


def third_parties(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {part(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(part(node.module))
    return names


def imports() -> dict[str, set[str]]:
    """Every module of the package and those it imports, wherever in the file; the package itself is ""."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    paths = {name.removesuffix("__init__").removesuffix("."): path for name, path in paths.items()}
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name} imports relatively"
                if part(node.module or "") == "twobe3":
                    module = (node.module or "").removeprefix("twobe3").removeprefix(".")
                    inner = [f"{module}.{alias.name}".removeprefix(".") for alias in node.names]
                    found |= {one if one in paths else module for one in inner}
            elif isinstance(node, ast.Import):
                found |= {alias.name.removeprefix("twobe3").removeprefix(".") for alias in node.names
                          if part(alias.name) == "twobe3"}  # fmt: skip
        graph[name] = found
    return graph


GRAPH = imports()


def everything_below(module: str) -> set[str]:
    seen, front = {module}, {module}
    while front:
        front = {below for one in front for below in GRAPH[one]} - seen
        seen |= front
    return seen - {module}


def test_the_reader_of_imports_sees_them() -> None:
    assert GRAPH["volume"] == set()
    assert {"errors", "outcome", "evaluation.metrics"} <= GRAPH["evaluation.aligned"]
    assert "dicom.series" in everything_below("cohort")
    assert "torch" in third_parties(ROOT / "models" / "training.py")


def test_every_module_has_its_place() -> None:
    placed = {name for layer in LAYERS for name in layer} | set(ASIDE)
    assert {part(module) for module in GRAPH} - {""} <= placed


def test_there_is_no_circle() -> None:
    # `from twobe3 import __version__` needs nothing but the first lines of the package.
    graph = {module: below - {""} for module, below in GRAPH.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(GRAPH)


def test_nothing_is_imported_with_the_package() -> None:
    assert GRAPH[""] == set()


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_a_module_imports_what_lies_below_it(module: str) -> None:
    height = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    own = part(module)
    for below in {part(one) for one in GRAPH[module]} - {"", own}:
        if own in ASIDE:
            assert below in ASIDE[own]
        elif below in ASIDE:
            assert own in MAY_USE_ASIDE[below]
        else:
            assert height[below] <= height[own]


@pytest.mark.parametrize("module", sorted(name for name in GRAPH if part(name) in ("evaluation", "judgement", "table")))
def test_judging_needs_neither_torch_nor_monai_nor_models(module: str) -> None:
    for one in {module, *everything_below(module)}:
        assert part(one) not in ("models", "features", "cohort", "dicom", "experiment")
        path = ROOT / f"{one.replace('.', '/')}.py"
        path = path if path.exists() else ROOT / one.replace(".", "/") / "__init__.py"
        assert not third_parties(path) & {"torch", "monai", "timm", "pydicom", "SimpleITK"}
