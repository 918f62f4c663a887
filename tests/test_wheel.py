"""What is published works without the repository: the sdist makes the wheel, and the wheel alone runs a study."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import twobe3

ROOT = Path(__file__).parents[1]


class Built(NamedTuple):
    sdist: Path
    wheel: Path


def run(*command: object, cwd: Path) -> str:
    """Run a program that does not see the repository; give what it wrote on standard output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, out: Path, *targets: str) -> None:
    arguments = [argument for target in targets for argument in ("--target", target)]
    hatchling = [sys.executable, "-m", "hatchling", "build", "--directory", str(out), *arguments]
    done = subprocess.run(hatchling, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    out = tmp_path_factory.mktemp("dist")
    build(ROOT, out, "sdist", "wheel")
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def programs(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel, and with what it needs from this one."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder)
    found = {"base": str(folder), "platbase": str(folder)}
    scheme = sysconfig.get_preferred_scheme("prefix")
    site, scripts = (Path(sysconfig.get_path(name, scheme, found)) for name in ("purelib", "scripts"))
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", built.wheel, cwd=folder)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_package_and_its_types(built: Built) -> None:
    package = ROOT / "src" / "twobe3"
    files = {f"twobe3/{path.relative_to(package).as_posix()}" for path in package.rglob("*") if path.is_file()}
    expected = {name for name in files if "__pycache__" not in name}
    there = {name for name in names(built.wheel) if ".dist-info/" not in name}
    assert there == expected
    assert "twobe3/py.typed" in there


def test_the_sdist_makes_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    build(source, tmp_path / "dist", "wheel")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert names(wheel) == names(built.wheel)


def test_the_wheel_runs_a_study_without_the_repository(
    programs: Path, tmp_path: Path, new_tiny_cohort: Callable[[Path], Any]
) -> None:
    program = programs / "twobe3"
    assert run(program, "--version", cwd=tmp_path) == f"twobe3 {twobe3.__version__}\n"
    where = run(programs / "python", "-c", "import twobe3; print(twobe3.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(programs.parent)
    model = '[[model]]\nkind = "pooled"\nbackbone = "phantom-resnet10"\nslice_size = 16\n'
    study = new_tiny_cohort(tmp_path).patients(8).study(extra=model)
    said = run(program, "run", study, "--out", tmp_path / "out", "--workers", 1, cwd=tmp_path)
    assert "outcome: auc_within_folds, 8 patients" in said
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
