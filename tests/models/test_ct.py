"""Models that see the CT: what one image alone does not tell, scans without a CT, and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tests.models.ct_cohorts import make_cohort

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.ct import read_hu
from twobe3.core.errors import ConfigurationError
from twobe3.core.volume import Mask
from twobe3.deploy.exportable import Exportable
from twobe3.io.cache import Cache
from twobe3.models import MODELS, Model, load_model
from twobe3.scans.scan import ArrayScan
from twobe3.study.config import read_study

N, TRAIN = 60, 36
MUTE = 0  # who has no CT: the first, at whom models look for the shapes
BOTH = ("pet", "ct")
QUICK: dict[str, dict[str, Any]] = {
    "2be3-net": {"epochs": 2, "inner_folds": 2},
    "cnn2d": {"epochs": 2, "ensemble_size": 1, "components": 4},
    "cnn3d": {"epochs": 1, "width": 4},
    "pooled": {},
    "radiomics": {"region": "threshold", "spacing_mm": 24.0, "max_features": 2},
}
IMAGENET = {"ct_backbone": "resnet18", "ct_weights": "random", "ct_layer": 2, "slice_size": 32}


def make(kind: str, cache: Cache, **parameters: Any) -> Model:
    of_maps = IMAGENET if kind in ("cnn2d", "pooled") else {}
    return MODELS[kind](**{**QUICK[kind], **of_maps, **parameters}, cache=cache)


def auc(model: Model, cohort: Cohort) -> float:
    tested = cohort[TRAIN:]
    model.fit(cohort[:TRAIN])
    return float(roc_auc_score(tested.outcomes.event, model.predict(tested.without_outcomes()).risk))


@pytest.fixture(scope="module")
def in_ct() -> Cohort:
    return make_cohort(N, "ct", cache=Cache())


@pytest.fixture(scope="module")
def in_pair() -> Cohort:
    return make_cohort(N, "pair", cache=Cache())


@pytest.fixture(scope="module")
def cache() -> Cache:
    return Cache()


@pytest.mark.parametrize("label", ["ct", "pair"])
def test_2be3_net_finds_with_both_what_the_pet_does_not_tell(
    in_ct: Cohort, in_pair: Cohort, cache: Cache, label: str
) -> None:
    cohort = in_ct if label == "ct" else in_pair
    alone = MODELS["2be3-net"](cache=cache)
    assert abs(auc(alone, cohort) - 0.5) < 0.25
    both = MODELS["2be3-net"](modalities=BOTH, cache=cache)
    assert auc(both, cohort) > 0.9
    weights: dict[str, float] = both.stack_weights_  # type: ignore[attr-defined]
    heaviest = max(weights, key=lambda name: weights[name])
    assert heaviest in (("ct-wavelets", "ct-coronal") if label == "ct" else ("fused-coronal",))


def test_pooled_maps_of_the_ct_find_what_the_ct_tells(in_ct: Cohort, cache: Cache) -> None:
    assert abs(auc(make("pooled", cache), in_ct) - 0.5) < 0.25
    assert auc(make("pooled", cache, modalities=BOTH), in_ct) > 0.9


@pytest.fixture(scope="module")
def few(in_ct: Cohort) -> Cohort:
    """Sixteen patients, of whom one has no CT."""
    cohort = in_ct[:16]
    pet = cohort[MUTE].scan.suv()
    mute = replace(cohort[MUTE], scan=ArrayScan(pet))
    return replace(cohort, subjects=(*cohort.subjects[:MUTE], mute, *cohort.subjects[MUTE + 1 :]))


@pytest.mark.parametrize("modalities", [("ct",), BOTH])
@pytest.mark.parametrize("kind", QUICK)
def test_a_scan_without_a_ct_is_left_out_and_files_keep_the_model(
    few: Cohort, cache: Cache, tmp_path: Path, kind: str, modalities: Any
) -> None:
    if kind == "radiomics":
        pytest.importorskip("mirp")
    model = make(kind, cache, modalities=modalities)
    model.precompute(few)
    model.fit(few)
    (why,) = model.report(few).exclusions
    assert (why.code, why.patient) == ("CT_MISSING", few[MUTE].patient)
    predicted = model.predict(few.without_outcomes())
    assert few.patients[MUTE] not in predicted.patients
    assert len(predicted) == len(few) - 1
    saved = model.save(tmp_path)
    again = load_model(saved)
    np.testing.assert_array_equal(again.predict(few.without_outcomes()).risk, predicted.risk)
    with pytest.raises(ConfigurationError, match="NOT_EXPORTABLE"):
        Exportable.read(saved)
    alone = make(kind, cache).fit(few)
    assert alone.report(few).exclusions == ()
    assert len(alone.predict(few.without_outcomes())) == len(few)


def test_radiomics_have_the_hounsfield_units_of_the_region(in_ct: Cohort, cache: Cache) -> None:
    """A region of one tissue has that tissue's HU; the PET's features are there beside them."""
    pytest.importorskip("mirp")
    subject = in_ct[0]
    volume, ct = subject.scan.suv(), subject.scan.ct()
    inside = np.zeros(volume.array.shape, np.bool_)
    hu = read_hu(in_ct, subject)
    dense = np.argwhere((hu > -900) & (hu < -750))
    centre = dense[len(dense) // 2]
    inside[tuple(slice(c - 1, c + 2) for c in centre)] = True
    scan = ArrayScan(volume, Mask(inside, volume.geometry, "lung"), ct)
    model = make("radiomics", cache, modalities=BOTH, region="contour", spacing_mm=12.0)
    features = model._features(replace(subject, scan=scan))  # type: ignore[attr-defined]
    expected = hu[inside].mean()
    assert features["ct_stat_mean"] == pytest.approx(expected, abs=60.0)
    assert features["stat_mean"] == pytest.approx(volume.array[inside].mean(), rel=0.3)


STUDY = """
[cohort]
images = "dicom"
clinical = "clinical.csv"
[endpoint]
name = "metastasis"
kind = "binary"
column = "metastasis"
[volume]
{volume}
[[model]]
kind = "2be3-net"
[[model]]
kind = "radiomics"
modalities = {radiomics}
[[model]]
kind = "baseline"
variable = "suvmax"
"""


def test_the_study_file_says_what_models_see(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"

    def models(volume: str, radiomics: str) -> list[Model]:
        path.write_text(STUDY.format(volume=volume, radiomics=radiomics))
        return read_study(path).models(tmp_path, Cache())

    both = models('modalities = ["pet", "ct"]', '["pet"]')
    assert [model.sees_ct for model in both] == [True, False, False]
    assert [model.sees_ct for model in models("spacing_mm = 4.0", '["pet"]')] == [False, False, False]
    with pytest.raises(ConfigurationError, match=r"STUDY_FILE_INVALID.*it sees CT"):
        models("spacing_mm = 4.0", '["pet", "ct"]')


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("2be3-net", {"modalities": ("ct", "ct")}, "may stand once"),
        ("2be3-net", {"modalities": BOTH, "finetune": "all"}, "finetune"),
        ("2be3-net", {"windows_hu": ((100.0, 0.0),)}, "must rise"),
        ("pooled", {"modalities": BOTH, "ct_backbone": "pet-lesions"}, "knows SUV alone"),
        ("cnn3d", {"modalities": ("ct", "pet")}, "in this order"),
        ("radiomics", {"modalities": BOTH, "stability": 0.8}, "stability"),
    ],
)
def test_what_does_not_fit_together_is_refused(kind: str, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MODELS[kind](**parameters)
