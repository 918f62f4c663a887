"""The snippets of the overview run, study files are valid, names exist; `test_pages.py` follows whole pages."""

from __future__ import annotations

import re
import runpy
from operator import attrgetter
from pathlib import Path

import pytest

import twobe3 as tb
from twobe3.io.cache import Cache
from twobe3.phantom import write_cohort
from twobe3.pretraining.config import read_recipe
from twobe3.runtime.device import CPU
from twobe3.study.config import read_study

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
OVERVIEW = ROOT / "docs" / "reference" / "overview.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def snippets(language: str, pages: list[Path]) -> list[pytest.ParameterSet]:
    found = []
    for page in pages:
        blocks = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        found += [pytest.param(block, id=f"{page.name}-{number}") for number, block in enumerate(blocks)]
    assert found, f"no {language} snippet in the documentation"
    return found


@pytest.mark.parametrize("text", snippets("toml", PAGES))
def test_study_file_is_valid(text: str, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(text)
    if "[pretrain]" in text:
        assert read_recipe(study).model(tmp_path, Cache(), CPU)
    else:
        assert read_study(study).models(tmp_path, Cache())


@pytest.mark.parametrize("code", snippets("python", [OVERVIEW]))
def test_python_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path, patients=14, seed=10)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "snippet", "exec"), {})
    assert "recurrence: harrell_c_within_folds, 14 patients" in capsys.readouterr().out
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, *OTHERS]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            drawn = "_generated/" in target  # when the site is built, where `test_site.py` looks for it
            assert drawn or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_names_of_the_interface_exist() -> None:
    for page in PAGES:
        text = page.read_text()
        for name in re.findall(r"\btb((?:\.[A-Za-z_]\w*)+)", text):
            assert attrgetter(name[1:])(tb) is not None, f"{page.name} names tb{name}"
    rooms = re.findall(
        r"^\| `tb\.(\w+)` \| (.*) \|$",
        (ROOT / "docs" / "reference" / "api.md").read_text().split("## In the rooms")[1],
        re.MULTILINE,
    )
    for room, text in rooms:
        for name in re.findall(r"`([A-Za-z]\w*)`", text):
            assert hasattr(getattr(tb, room), name), f"api.md names tb.{room}.{name}"
    assert len(rooms) > 5


def test_the_figures_of_the_shipped_network_are_those_of_its_file() -> None:
    describe = runpy.run_path(str(ROOT / "scripts" / "describe_pet_lesions.py"))["describe"]
    text = (ROOT / "docs" / "howto" / "pretraining.md").read_text()
    assert f"<!-- describe_pet_lesions -->\n{describe()}\n<!-- end -->" in text, (
        "scripts/describe_pet_lesions.py --write"
    )
