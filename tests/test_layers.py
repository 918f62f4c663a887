"""A package imports only packages to its left: the stair that docs/explanation/architecture.md prints."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import twobe3

ROOT = Path(twobe3.__file__).parent
ARCHITECTURE = Path(__file__).parent.parent / "docs" / "explanation" / "architecture.md"
LONGEST_MODULE = 400

# Rooms of one step don't import each other.
STAIR: tuple[tuple[str, ...], ...] = (
    ("core",), ("io", "runtime"), ("dicom",), ("scans",), ("cohort",), ("features",), ("models",), ("explain",),
    ("validation",), ("study",), ("pretraining", "deploy"), ("cli",),
)  # fmt: skip
# Beside the stair, and on what each of them stands; the stair uses them from `validation` on.
ASIDE = {
    "evaluation": ("core", "io", "runtime"),
    "report": ("core", "io", "runtime", "evaluation"),
    "phantom": ("core", "io", "runtime", "dicom"),
    "collections": ("core", "io", "runtime", "dicom", "scans", "cohort"),
}
USES_ASIDE = "validation"


def drawing() -> str:
    """The stair as docs/explanation/architecture.md prints it."""
    aside = [f"{room} (on {', '.join(below)})" for room, below in ASIDE.items()]
    return " → ".join(", ".join(step) for step in STAIR) + "\naside: " + "\n       ".join(aside)


def to_the_left(room: str) -> set[str]:
    """The rooms that a room may import."""
    if room in ASIDE:
        return set(ASIDE[room])
    step = next(number for number, rooms in enumerate(STAIR) if room in rooms)
    below = {one for rooms in STAIR[:step] for one in rooms}
    return below | set(ASIDE) if USES_ASIDE in below or room == USES_ASIDE else below


def room_of(module: str) -> str:
    return module.split(".")[0]


def third_parties(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {room_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(room_of(node.module))
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
                if room_of(node.module or "") == "twobe3":
                    module = (node.module or "").removeprefix("twobe3").removeprefix(".")
                    inner = [f"{module}.{alias.name}".removeprefix(".") for alias in node.names]
                    found |= {one if one in paths else module for one in inner}
            elif isinstance(node, ast.Import):
                found |= {alias.name.removeprefix("twobe3").removeprefix(".") for alias in node.names
                          if room_of(alias.name) == "twobe3"}  # fmt: skip
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
    assert {"core.errors", "core.outcomes", "evaluation.horizons"} <= GRAPH["evaluation.alignment"]
    assert "dicom.series" in everything_below("cohort.cohort")
    assert "torch" in third_parties(ROOT / "models" / "nn" / "training.py")


def test_at_the_top_there_are_rooms_only() -> None:
    there = {path.name for path in ROOT.iterdir() if path.name != "__pycache__"}
    assert {name for name in there if "." in name} == {"__init__.py", "__init__.pyi", "__main__.py", "py.typed"}
    rooms = {room for step in STAIR for room in step} | set(ASIDE)
    assert {name for name in there if "." not in name} == rooms


def test_the_architecture_page_prints_the_stair() -> None:
    assert drawing() in ARCHITECTURE.read_text()


def test_there_is_no_circle() -> None:
    # `from twobe3 import __version__` needs nothing but the first lines of the package.
    graph = {module: below - {""} for module, below in GRAPH.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(GRAPH)


def test_nothing_is_imported_with_the_package() -> None:
    assert GRAPH[""] == set()


@pytest.mark.parametrize("module", sorted(set(GRAPH) - {"", "__main__"}))
def test_a_package_imports_only_packages_to_its_left(module: str) -> None:
    room = room_of(module)
    assert {room_of(one) for one in GRAPH[module]} - {"", room} <= to_the_left(room)


def test_no_module_is_longer_than_one_sitting() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


@pytest.mark.parametrize("module", sorted(name for name in GRAPH if room_of(name) == "evaluation"))
def test_evaluation_needs_neither_torch_nor_monai_nor_models(module: str) -> None:
    for one in {module, *everything_below(module)} - {""}:
        path = ROOT / f"{one.replace('.', '/')}.py"
        path = path if path.exists() else ROOT / one.replace(".", "/") / "__init__.py"
        assert not third_parties(path) & {"torch", "monai", "timm", "pydicom", "SimpleITK"}, one


@pytest.mark.parametrize("module", sorted(name for name in GRAPH if room_of(name) == "models"))
def test_no_model_inherits_from_two_classes(module: str) -> None:
    """Networks are composed of inputs, an architecture and training: a diamond would hide which class says what."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    path = path if path.exists() else ROOT / module.replace(".", "/") / "__init__.py"
    classes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes if len(node.bases) > 1 and ast.unparse(node.bases[-1]) != "Generic"] == []
