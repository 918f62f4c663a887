"""Tests of the registry: models of other distributions are known, broken ones are told and harm nothing."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.conftest import TinyCohort
from tests.distributions import PLUGIN, PROJECT, call_with, install

from twobe3.cohort.cohort import Cohort
from twobe3.core import plugins
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.io.model_file import read_sealed, write_sealed
from twobe3.models import MODELS, Baseline, Model, load_model
from twobe3.models import registry as module
from twobe3.models.registry import ENTRY_POINTS, Registry


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed distributions: the plug-in, one that cannot be imported, and one with a taken kind."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, PROJECT["name"], {ENTRY_POINTS: PROJECT["entry-points"][ENTRY_POINTS]})
    shutil.copy(PLUGIN / "twobe3_heart.py", folder)
    install(folder, "twobe3-broken", {ENTRY_POINTS: {"broken": "twobe3_broken:BrokenModel"}})
    (folder / "twobe3_broken.py").write_text("import a_module_that_is_not_there\n")
    install(folder, "twobe3-clash", {ENTRY_POINTS: {"baseline": "twobe3_heart:HeartModel"}})
    return folder


@pytest.fixture
def known(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry of the baseline and what is installed in the folder."""
    assert "heart" not in MODELS  # which has looked for entry points then
    monkeypatch.syspath_prepend(site)
    registry = Registry()
    registry.add(Baseline)
    yield registry
    sys.modules.pop("twobe3_heart", None)


def test_a_model_of_another_distribution_is_listed_validated_and_read_back(
    site: Path, tiny_cohort: TinyCohort, tmp_path: Path
) -> None:
    study = tiny_cohort.patients(8).study(extra="[[model]]\nkind = 'heart'\npenalty = 2.0\n")
    out = tmp_path / "out"
    commands = [["list", "models", "--json"], ["run", str(study), "--out", str(out), "--workers", "1", "--json"]]
    done = call_with(site, commands)
    assert "Traceback" not in done.stderr
    listed = {row["name"]: row["description"] for row in json.loads(done.stdout.splitlines()[0])["models"]}
    assert listed["heart"] == "the largest SUV of the image, from another distribution"
    assert {*MODELS} < {*listed}
    assert "broken" not in listed
    told = [line for line in done.stderr.splitlines() if line.startswith("PLUGIN_INVALID")]
    assert len(told) == 2
    assert "'baseline' of the distribution 'twobe3-clash'" in told[0]
    assert "'broken' of the distribution 'twobe3-broken': ModuleNotFoundError" in told[1]

    record = json.loads((out / "run.json").read_text())
    (entry,) = [one for one in record["models"] if one["kind"] == "heart"]
    assert entry["parameters"] == {"name": "heart", "seed": 0, "penalty": 2.0}
    (path,) = (out / "models").glob("outcome.heart.*.safetensors")
    assert read_sealed(path)[0]["kind"] == "heart"


def test_its_file_is_read_back_where_it_is_installed(
    known: Registry, make_cohort: Callable[..., Cohort], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = make_cohort(8, ("binary",))
    model = known["heart"]().fit(cohort)
    path = model.save(tmp_path)
    with pytest.raises(ConfigurationError, match="does not know"):
        load_model(path)
    monkeypatch.setattr(module, "MODELS", known)
    assert (load_model(path).predict(cohort).risk == model.predict(cohort).risk).all()


def test_nothing_is_loaded_before_the_registry_is_asked(known: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def spy(*, group: str) -> Any:
        asked.append(group)
        return metadata.entry_points(group=group)

    monkeypatch.setattr(plugins, "entry_points", spy)
    assert asked == []
    assert known["heart"].kind == "heart"
    assert (len(known), list(known), "heart" in known, "lung" in known) == (2, ["baseline", "heart"], True, False)
    assert asked == [ENTRY_POINTS]  # once


def test_a_broken_one_is_one_error_that_names_its_distribution(
    known: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="twobe3"):
        assert "heart" in known
    assert len(caplog.messages) == 2
    with pytest.raises(EnvironmentFailure, match="'broken' of the distribution 'twobe3-broken'") as caught:
        known["broken"]
    assert caught.value.code is Code.PLUGIN_INVALID
    assert caught.value.exit_status == 1


def test_a_kind_that_twobe3_has_stays_its_own(known: Registry) -> None:
    assert known["baseline"] is Baseline


class Other(Baseline):
    kind: ClassVar[str] = "baseline"


class Abstract(Model):
    kind: ClassVar[str] = "abstract"


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [(Other, ValueError, "'baseline' already"), (Abstract, TypeError, "Abstract"), (dict, TypeError, "dict")],
)
def test_what_is_no_model_or_has_a_taken_kind_is_refused(
    model: type, error: type[Exception], says: str, known: Registry
) -> None:
    with pytest.raises(error, match=says):
        known.add(model)
    known.add(Baseline)  # the same once more is no clash


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ({"lung": "twobe3_heart:HeartModel"}, "ValueError: its kind is 'heart'"),
        ({"lung": "twobe3_heart:np"}, "its kind is None"),
        ({"lung": "twobe3_heart:Nothing"}, "AttributeError"),
    ],
)
def test_an_entry_point_must_name_a_model_by_its_kind(
    points: dict[str, str], says: str, known: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "twobe3-lung", {ENTRY_POINTS: points})
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvironmentFailure, match=f"'lung' of the distribution 'twobe3-lung': .*{says}"):
        known["lung"]


def test_two_distributions_cannot_both_have_a_kind(
    known: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "twobe3_second.py").write_text("from twobe3_heart import HeartModel\nclass Second(HeartModel): pass\n")
    install(tmp_path, "twobe3-second", {ENTRY_POINTS: {"heart": "twobe3_second:Second"}})
    monkeypatch.syspath_prepend(tmp_path)
    assert known["heart"].__name__ == "HeartModel"
    assert "'heart' of the distribution 'twobe3-second'" in caplog.text


def test_the_registry_of_twobe3_holds_its_own_models() -> None:
    assert {"2be3-net", "baseline", "cnn2d", "cnn3d", "fusion", "pooled", "radiomics"} <= {*MODELS}


# -- what is given in place of a model file


@pytest.fixture
def folder(make_cohort: Callable[..., Cohort], tmp_path: Path) -> Path:
    """A study folder with two models in ``models/``, and safetensors files that are none."""
    cohort = make_cohort(8, ("binary",))
    for variable in ("age", "sex"):
        Baseline(variable).fit(cohort).save(tmp_path / "results" / "models" / f"relapse.{variable}.safetensors")
    write_sealed(tmp_path / "results" / "models" / "pretrained.safetensors", {"kind": "pretrained"}, {})
    (tmp_path / "results" / "weights.safetensors").write_bytes(b"junk")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("results", "'results' is a folder, and .* one of models/relapse.age.safetensors, models/relapse.sex.safeten"),
        (
            "results/models",
            r"'models' is a folder, .*\(give one of relapse.age.safetensors, relapse.sex.safetensors in",
        ),
        (".", r"is a folder, .*\(give one of results/models/relapse.age.safetensors, results/models/relapse.sex.saf"),
        ("results/models/relapse.aeg.safetensors", r"no 'relapse.aeg.safe.*\(give relapse.age.safetensors in that fol"),
        ("results/models/zzz", r"no 'zzz' \(give one of relapse.age.safetensors, relapse.sex.safetensors in that"),
        ("results/weights.safetensors", r"'weights.safetensors' is not a model file of twobe3 \(give .* models/"),
        ("results/models/pretrained.safetensors", r"pretrain` wrote, and no fitted model \(let `init` of"),
        ("absent/deep", r"there is no 'deep' \(give a .safetensors file of a study's folder models/"),
    ],
)
def test_what_is_no_model_file_says_what_to_give(folder: Path, given: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"MODEL_INVALID: .*{says}") as caught:
        load_model(folder / given)
    assert str(folder) not in str(caught.value)


def test_of_many_models_the_first_are_named(folder: Path) -> None:
    first = folder / "results" / "models" / "relapse.age.safetensors"
    for i in range(10):
        shutil.copy(first, first.with_name(f"z{i}.safetensors"))
    with pytest.raises(ConfigurationError, match=r"z0.safetensors.*z7.safetensors and 2 more in it\)"):
        load_model(folder / "results")


def test_the_only_model_of_a_folder_is_named(folder: Path) -> None:
    (folder / "results" / "models" / "relapse.sex.safetensors").unlink()
    with pytest.raises(ConfigurationError, match=r"\(give models/relapse.age.safetensors in it\)"):
        load_model(folder / "results")
