import ast
import importlib.metadata
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import twobe3
from twobe3.models import MODELS

HEAVY = ("torch", "lightning_fabric", "monai", "SimpleITK", "timm", "sklearn", "matplotlib", "duckdb", "pandas")


def stub_names() -> set[str]:
    tree = ast.parse((Path(twobe3.__file__).parent / "__init__.pyi").read_text())
    return {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_all_is_what_the_stub_says() -> None:
    assert set(twobe3.__all__) == stub_names()
    assert len(twobe3.__all__) == len(set(twobe3.__all__))


@pytest.mark.parametrize("name", sorted(stub_names()))
def test_a_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(twobe3, name)
    assert name in dir(twobe3)
    assert value.__doc__


def test_the_top_has_what_most_scripts_need_and_no_more() -> None:
    functions_and_classes = [name for name in twobe3.__all__ if not isinstance(getattr(twobe3, name), ModuleType)]
    assert len(functions_and_classes) <= 30


@pytest.mark.parametrize("package", ["core", "dicom", "scans", "collections", "models"])
def test_every_name_of_a_package_is_there_and_documented(package: str) -> None:
    module = getattr(twobe3, package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name).__doc__, name


def test_no_submodule_shadows_a_public_name() -> None:
    for package in (twobe3, twobe3.core, twobe3.dicom, twobe3.scans, twobe3.collections):
        submodules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        names = {name for name in package.__all__ if not isinstance(getattr(package, name), ModuleType)}
        assert not submodules & names


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = twobe3.nonsense  # type: ignore[attr-defined]


def test_the_version_is_the_distribution_s() -> None:
    assert twobe3.__version__ == importlib.metadata.version("twobe3")


def heavy_after(code: str, *arguments: str, among: Sequence[str] = HEAVY) -> list[str]:
    """Heavy packages in memory after running some code in a fresh interpreter."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    script += f"print([name for name in {among} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return list(ast.literal_eval(done.stderr.splitlines()[-1]))


def test_the_check_sees_what_is_imported() -> None:
    assert heavy_after("import SimpleITK") == ["SimpleITK"]


def test_the_package_is_imported_without_heavy_packages() -> None:
    assert heavy_after("import twobe3") == []


@pytest.mark.parametrize("kind", ["baseline", "radiomics"])
def test_to_load_a_model_scipy_s_larger_parts_are_not_needed(kind: str, make_cohort: Any, tmp_path: Path) -> None:
    parts = ("scipy.ndimage", "scipy.optimize", "scipy.spatial", "scipy.sparse", "scipy.fft", "skimage.measure")
    file = MODELS[kind]().fit(make_cohort()).save(tmp_path)
    load = "import sys, twobe3; assert twobe3.models.load_model(sys.argv[1]).kind == sys.argv[2]"
    assert heavy_after(load, str(file), kind, among=parts) == []
    assert heavy_after("import scipy; scipy.ndimage", among=parts) == ["scipy.ndimage"]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["list", "codes", "--help"], ["collections", "plan", "--help"]]
)
def test_help_needs_no_heavy_package(arguments: list[str]) -> None:
    assert heavy_after("from twobe3.cli.main import main; main()", *arguments) == []


def test_inspecting_needs_no_heavy_package(tiny_cohort: Any) -> None:
    folder = tiny_cohort.scan("P1")
    assert heavy_after("from twobe3.cli.main import main; main()", "inspect", str(folder), "--json") == []
