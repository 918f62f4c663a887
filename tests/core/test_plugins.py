"""Another distribution offers a model, a 2D network, a metric and a collection, and all are used by their names."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
from tests.conftest import TinyCohort
from tests.distributions import PLUGIN, PROJECT, call_with, install

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.core.plugins import PluginRegistry, require_instance


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder in which the plug-in is installed."""
    folder = tmp_path / "site"
    install(folder, PROJECT["name"], PROJECT["entry-points"])
    for module in PLUGIN.glob("*.py"):
        shutil.copy(module, folder)
    return folder


def test_one_distribution_may_offer_one_of_each(site: Path, tiny_cohort: TinyCohort, tmp_path: Path) -> None:
    of_network = "[[model]]\nkind = 'pooled'\nbackbone = 'heart-network'\nweights = 'random'\nlayer = 1\n"
    of_network += "planes = ['axial']\nslice_size = 32\n[[model]]\nkind = 'heart'\n"
    study, out = tiny_cohort.patients(8).study(extra=of_network), tmp_path / "out"
    (tmp_path / "followup.csv").write_text("Case;Last status\nP1;DEAD\nP2;ALIVE\n")
    commands = [
        ["list", "backbones", "--json"],
        ["list", "metrics", "--json"],
        ["list", "models", "--json"],
        ["collections", "table", "heart-collection", str(tmp_path / "followup.csv"), "--out", str(tmp_path / "t.csv")],
        ["run", str(study), "--out", str(out), "--workers", "2"],  # other processes know them too
    ]
    done = call_with(site, commands)
    assert "PLUGIN_INVALID" not in done.stderr
    for line, name in zip(done.stdout.splitlines(), ("heart-network", "mean_distance", "heart"), strict=False):
        (rows,) = json.loads(line).values()
        assert name in {row["name"] for row in rows}
    assert (tmp_path / "t.csv").read_text().split() == ["patient_id,death", "P1,1", "P2,0"]
    evaluated = (out / "evaluation.json").read_text()
    assert '"mean_distance"' in evaluated
    record = json.loads((out / "run.json").read_text())
    assert {"heart", "pooled"} <= {one["kind"] for one in record["models"]}
    assert "heart-network" in json.dumps(record["models"])


@pytest.mark.parametrize(
    ("point", "says"),
    [("seven = 'json:loads'", "TypeError: it is no int"), ("one = 'sys:maxsize'", "ValueError: there is a number")],
)
def test_what_is_none_or_has_a_taken_name_is_refused(
    point: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name, _, value = point.replace("'", "").partition(" = ")
    install(tmp_path, "numbers-of-others", {"twobe3.numbers": {name: value, "most": "sys:maxsize"}})
    monkeypatch.syspath_prepend(tmp_path)
    registry = PluginRegistry("twobe3.numbers", "number", require_instance(int, named=False), {"one": 1})
    with caplog.at_level(logging.WARNING, logger="twobe3"):
        assert dict(registry) == {"one": 1, "most": sys.maxsize}
    (line,) = caplog.messages
    assert line.startswith(f"PLUGIN_INVALID: the number {name!r} of the distribution 'numbers-of-others': {says}")
    if name != "one":
        with pytest.raises(EnvironmentFailure) as caught:
            registry[name]
        assert caught.value.code is Code.PLUGIN_INVALID
    registry["two"] = 2
    del registry["one"]
    assert list(registry) == ["most", "two"]


def test_a_name_must_be_its_own(tmp_path: Path) -> None:
    class Thing:
        name = "thing"

    require, thing = require_instance(Thing, named=True), Thing()
    assert require("thing", thing) is thing
    with pytest.raises(ValueError, match="its name is 'thing'"):
        require("other", thing)
