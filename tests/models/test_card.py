"""Tests of the card of a model: it says what the cohort is, names nobody, and a file without one is refused."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import twobe3 as tb
from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.model_file import read_sealed, write_sealed
from twobe3.models import CNN3D, Baseline, PooledModel, SpatialModel, load_model, read_card
from twobe3.models.card import ModelCard, Performance
from twobe3.models.model import training_record
from twobe3.models.record import add_performance

FOUND = Performance("auc", 0.7, 0.6, 0.8, 40, 11, "cross-validation, 5 folds", "Mann–Whitney")


@pytest.fixture(scope="module")
def cohort(make_cohort: Callable[..., Cohort]) -> Cohort:
    """24 patients of two centres, each with the header of a scanner, their ages 31 to 54."""
    made = make_cohort(24, ("binary",))
    subjects = tuple(
        replace(
            subject,
            covariates={**subject.covariates, "age_years": 31.0 + i},
            description={"manufacturer": "GE", "model": "Discovery", "tracer": "FDG -- fluorodeoxyglucose"},
        )
        for i, subject in enumerate(made.subjects)
    )
    return replace(made, subjects=subjects)


@pytest.fixture(scope="module")
def saved(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = Baseline("suvmax", region="threshold", threshold_suv=1.5).fit(cohort)
    return model.save(tmp_path_factory.mktemp("model"))


def test_a_card_counts_and_measures_the_training_patients(saved: Path, cohort: Cohort) -> None:
    card, digest = read_card(saved)
    domain = card.trained_on
    assert (domain.n, domain.events, domain.modality) == (24, cohort.outcomes.n_events, "PT")
    assert domain.centres == {"north": 12, "south": 12}
    assert domain.scanners == {"GE Discovery": 24}
    assert domain.tracers == {"FDG": 24}
    assert [(one.low, one.high) for one in domain.spacing_mm] == [(8.0, 8.0)] * 3
    assert [(one.low, one.high) for one in domain.field_of_view_mm] == [(128.0, 128.0)] * 3
    assert domain.age_years is not None
    ages = np.percentile(np.arange(31, 55), [5, 50, 95])
    assert (domain.age_years.low, domain.age_years.high) == (round(ages[0]), round(ages[2]))
    hottest = [float(subject.scan.suv().array.max()) for subject in cohort.subjects]
    assert domain.suv_max.low == pytest.approx(min(hottest), abs=1e-4)
    assert domain.suv_max.high == pytest.approx(max(hottest), abs=1e-4)
    assert domain.uptake_min is None
    assert (card.performance, card.percentile_of) == (None, "training")
    assert card.versions["twobe3"] == tb.__version__
    assert digest == read_sealed(saved).digest


def test_of_few_patients_no_age_is_told(cohort: Cohort) -> None:
    """With fewer than 20, the 5th percentile is the age of one of them."""
    record = training_record(Baseline("age").fit(cohort.subset(range(2, 20))))
    assert record.card.trained_on.age_years is None


def test_nothing_in_a_model_file_names_a_patient(saved: Path, cohort: Cohort) -> None:
    content = saved.read_bytes()
    assert not [one for one in cohort.patients if one.encode() in content]
    assert not [subject.patient for subject in cohort.subjects if subject.patient.encode() in content]


def test_a_card_survives_the_file_and_saving_again(saved: Path, tmp_path: Path) -> None:
    again = load_model(saved).save(tmp_path / "again.safetensors")
    assert read_sealed(again).digest == read_sealed(saved).digest
    card, _ = read_card(again)
    assert ModelCard.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_fitting_again_makes_another_card(cohort: Cohort, tmp_path: Path) -> None:
    model = Baseline("age").fit(cohort)
    model.save(tmp_path)
    model.fit(cohort.subset(range(20))).save(tmp_path)
    assert read_card(tmp_path)[0].trained_on.n == 20


def test_percentiles_are_those_of_the_definition(cohort: Cohort) -> None:
    record = replace(training_record(Baseline("age").fit(cohort)), risks=np.array([1.0, 2.0, 2.0, 5.0]))
    assert [record.percentile(risk) for risk in (0.0, 1.0, 2.0, 3.0, 9.0)] == [0.0, 12.5, 50.0, 75.0, 100.0]


def test_a_study_adds_what_it_found_and_writes_nothing_twice(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(saved.read_bytes())
    risk = load_model(path)
    add_performance(path, FOUND, np.array([3.0, 1.0, 2.0]))
    card, _ = read_card(path)
    assert (card.performance, card.percentile_of) == (FOUND, "out-of-fold")
    loaded = load_model(path)
    assert loaded.record_ is not None
    np.testing.assert_array_equal(loaded.record_.risks, [1.0, 2.0, 3.0])
    assert repr(loaded) == repr(risk)
    before = path.stat().st_mtime_ns
    add_performance(path, FOUND, np.array([3.0, 1.0, 2.0]))
    assert path.stat().st_mtime_ns == before


def test_text_and_markdown_say_the_same_and_print_no_control_character(saved: Path) -> None:
    card, digest = read_card(saved)
    hostile = replace(card, name="m\x1b[2J|", performance=FOUND)
    for text in (hostile.text(digest), hostile.markdown(digest)):
        assert "\x1b" not in text
        for part in ("0.700 (0.600 to 0.800, 95 %)", "FDG 24", "Research use only", digest[:16]):
            assert part in text


def reseal(path: Path, target: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """The same file with another content under a seal that holds, as whoever forges one writes it."""
    header, arrays, _ = read_sealed(path)
    header, arrays = json.loads(json.dumps(header)), dict(arrays)
    change(header, arrays)
    write_sealed(target, header, arrays)
    return target


def set_weights(header: dict[str, Any], arrays: dict[str, Any]) -> None:
    arrays["weights"] = np.full_like(arrays["weights"], np.nan)


FORGED: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], Any], str]] = {
    "no card": (lambda header, arrays: header.pop("card"), "has no card"),
    "a card of something else": (lambda header, arrays: header.update(card={"name": "x"}), "the card of"),
    "a count that is none": (lambda header, arrays: header["card"]["trained_on"].update(n="many"), "the card of"),
    "NaN in the card": (
        lambda header, arrays: header["card"]["trained_on"]["suv_max"].update(low=float("nan")),
        "the card of",
    ),
    "NaN weights": (set_weights, "'weights' is not finite"),
    "no risks": (lambda header, arrays: arrays.pop("training.risks"), "the card of"),
    "a grid of 10⁹ voxels": (
        lambda header, arrays: header["grid"].update(spacing_mm=[1.0] * 3, field_of_view_mm=[1000.0] * 3),
        "does not know",
    ),
    "a grid without end": (
        lambda header, arrays: header["grid"].update(field_of_view_mm=[float("inf")] * 3),
        "does not know",
    ),
    "an unknown kind": (lambda header, arrays: header.update(kind="oracle"), "does not know"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_file_is_refused_with_a_code(saved: Path, tmp_path: Path, what: str) -> None:
    change, says = FORGED[what]
    with pytest.raises(ConfigurationError, match=says) as caught:
        load_model(reseal(saved, tmp_path / "forged.safetensors", change))
    assert caught.value.code is Code.MODEL_INVALID


def test_a_changed_card_breaks_the_seal(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    changed = content.replace(b"Research use only", b"Diagnosis for use")
    assert changed != content
    path = tmp_path / "changed.safetensors"
    path.write_bytes(changed)
    for read in (read_card, load_model):
        with pytest.raises(ConfigurationError, match="was changed since it was written") as caught:
            read(path)
        assert caught.value.code is Code.MODEL_INVALID


def test_a_header_nested_without_end_is_refused(saved: Path, tmp_path: Path) -> None:
    with safe_open(saved, framework="numpy") as stored:
        assert set(stored.metadata()) == {"twobe3", "digest", "saved_as"}
    content = saved.read_bytes()
    path = tmp_path / "deep.safetensors"
    path.write_bytes(content[:200] + b"[" * 100_000 + content[200:])
    with pytest.raises(ConfigurationError) as caught:
        load_model(path)
    assert caught.value.code is Code.MODEL_INVALID


def test_a_model_without_a_region_has_a_card_too(cohort: Cohort, tmp_path: Path) -> None:
    path = SpatialModel().fit(cohort).save(tmp_path)
    assert read_card(path)[0].kind == "spatial"


def test_a_file_that_announces_more_than_it_holds_is_refused_unread(tmp_path: Path) -> None:
    tensor = {"weights": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    header = json.dumps({"__metadata__": {"twobe3": "{}", "digest": ""}, **tensor}).encode()
    path = tmp_path / "huge.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ConfigurationError, match="is not a model file") as caught:
        load_model(path)
    assert caught.value.code is Code.MODEL_INVALID


@pytest.fixture(scope="module")
def network(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = CNN3D(epochs=1, fewest_steps=1, width=4)
    return model.fit(cohort).save(tmp_path_factory.mktemp("network"))


@pytest.mark.parametrize(
    "change",
    [
        lambda header, arrays: header["notes"]["capacity"].update(width=256),
        lambda header, arrays: header["parameters"].update(windows_suv=[5.0] * 1_000_000),
        lambda header, arrays: arrays.update({"member0.more": np.zeros(3, np.float32)}),
        lambda header, arrays: arrays.update({next(n for n in arrays if n.startswith("member0.")): np.zeros(3)}),
    ],
)
def test_a_forged_network_is_refused_before_it_is_allocated(
    network: Path, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> None:
    """A width of 256 alone would take a gigabyte."""
    assert load_model(network).kind == "cnn3d"
    forged = reseal(network, tmp_path / "forged.safetensors", change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigurationError) as caught:
        load_model(forged)
    assert caught.value.code is Code.MODEL_INVALID
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


@pytest.mark.parametrize("change", [{"slice_size": 200_000}, {"projection": 10**9}])
def test_pictures_larger_than_any_scan_are_refused(cohort: Cohort, tmp_path: Path, change: dict[str, int]) -> None:
    model = PooledModel(backbone="phantom-resnet10", slice_size=16, planes=("axial",), penalties=(1.0,))
    saved = model.fit(cohort).save(tmp_path / "model.safetensors")
    forged = reseal(saved, tmp_path / "forged.safetensors", lambda header, _: header["parameters"].update(change))
    with pytest.raises(ConfigurationError) as caught:
        load_model(forged)
    assert caught.value.code is Code.MODEL_INVALID
