"""The recipe of the container: what it copies is enough to build from, and its command predicts without a network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import TinyCohort

import twobe3 as tb

ROOT = Path(__file__).parents[1]
RECIPE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
READ_ONLY = """
root=$1
mount --rbind / "$root"
mount -o remount,bind,ro "$root"
for folder in "$2" "$3"; do mount --bind "$folder" "$root$folder"; done
shift 3
if touch "$root/written" 2>/dev/null; then exit 99; fi
exec chroot "$root" "$@"
"""
"""In a mount namespace of its own: everything is read-only but two folders."""
GRID = tb.Grid(16.0, (192, 160, 160))


def instructions(keyword: str) -> list[str]:
    return re.findall(rf"^{keyword} (.+)$", RECIPE, re.MULTILINE)


def copied() -> list[str]:
    return [name for line in instructions("COPY") for name in line.split()[:-1]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install` makes of the copied files alone; what they depend on is here already."""
    folder, target = tmp_path_factory.mktemp("context"), tmp_path_factory.mktemp("site")
    for name in copied():
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*command, "--target", str(target), str(folder)], check=True, timeout=300)
    return target


def test_the_extras_are_those_of_the_distribution() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (extras,) = (line.removeprefix("EXTRAS=") for line in instructions("ARG") if line.startswith("EXTRAS="))
    assert set(extras.split(",")) <= set(known)


def test_what_is_copied_is_what_is_not_ignored() -> None:
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(allowed) == sorted(copied())


def test_it_does_not_run_as_root() -> None:
    (user,) = instructions("USER")
    assert f"useradd --uid 10001 --create-home {user}" in RECIPE
    assert RECIPE.index("USER ") < RECIPE.index("ENTRYPOINT ")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_the_command_predicts_what_is_in_the_input(installed: Path, tmp_path: Path) -> None:
    cohort = TinyCohort(tmp_path / "cohort").patients(8)
    endpoint = tb.Binary("outcome", "outcome")
    training = tb.read_cohort(cohort.images, clinical=cohort.clinical, endpoint=endpoint, grid=GRID)
    places = {f"/{name}": tmp_path / name for name in ("model", "input", "output", "tmp")}
    for place in places.values():
        place.mkdir()
    model = tb.models.TwoBe3Net(inputs=("image", "profile"), weighing="joint", epochs=2).fit(training)
    model.save(places["/model"] / "model.safetensors")
    shutil.copytree(cohort.images / "scan-P03", places["/input"] / "scan")
    entry, arguments = (json.loads(instructions(word)[0]) for word in ("ENTRYPOINT", "CMD"))
    assert entry == ["twobe3"]
    command = [str(places.get(one, one)).replace("/output/", f"{places['/output']}/") for one in arguments]
    settings = dict(one.split("=") for one in instructions("ENV")[0].split())
    settings = {name: value.replace("/tmp/", f"{places['/tmp']}/") for name, value in settings.items()}
    settings |= {"PYTHONPATH": str(installed), "HOME": "/nonexistent", "TMPDIR": str(places["/tmp"])}
    (tmp_path / "root").mkdir()
    run = ["unshare", "-rmn", "sh", "-euc", READ_ONLY, "sh", tmp_path / "root", places["/output"], places["/tmp"]]
    python = [sys.executable, "-m", "twobe3", *command]
    done = subprocess.run([*run, *python], env=settings, cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (said,) = json.loads((places["/output"] / "predictions.json").read_text())["predictions"]
    (number,) = (i for i, subject in enumerate(training.subjects) if subject.patient_id == "P03")
    (expected,) = model.predict(training.subset([number]).without_outcomes()).risk
    np.testing.assert_allclose(said["risk"], expected, rtol=1e-5)
    assert [path.name for path in places["/output"].iterdir()] == ["predictions.json"]
