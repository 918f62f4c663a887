"""Maps of models that see the CT: the pathway is the model, each image has its own map, what decides holds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import binary_erosion
from tests.models.ct_cohorts import make_cohort

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.ct import read_hu
from twobe3.explain.attribution import attribute, integrated_gradients, occlude
from twobe3.explain.checks import block_edge, check_deletion
from twobe3.explain.explain import explain
from twobe3.explain.images import ImageLayers, make_baseline, read_images
from twobe3.explain.pathway import Pathway, build_pathway
from twobe3.explain.positions import Placement
from twobe3.features.stacks import ImageStacks, pool_ct, pool_fused
from twobe3.io.cache import Cache
from twobe3.models import MODELS, Model
from twobe3.scans.registration import find_body

BOTH, N = ("pet", "ct"), 16
IMAGENET: dict[str, Any] = {"ct_backbone": "resnet18", "ct_weights": "random", "ct_layer": 2, "slice_size": 32}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("2be3-net", {"epochs": 2, "weighing": "joint"}),
    "maps and profile": ("2be3-net", {"epochs": 2, "inputs": ("map-image", "ct-maps", "ct-profile"), **IMAGENET}),
    "cnn2d": ("cnn2d", {"epochs": 2, "ensemble_size": 1, "components": 4, **IMAGENET}),
    "cnn3d": ("cnn3d", {"epochs": 1, "width": 4}),
    "pooled": ("pooled", IMAGENET),
}
CACHE = Cache()


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return make_cohort(N, "ct", cache=CACHE)


def make(kind: str, modalities: tuple[str, ...] = BOTH) -> Model:
    name, parameters = KINDS[kind]
    return MODELS[name](modalities=modalities, **parameters, cache=CACHE)


@pytest.mark.parametrize(
    ("kind", "modalities"),
    [*((kind, BOTH) for kind in KINDS), *((kind, ("ct",)) for kind in KINDS if "maps" not in kind)],
)
def test_the_pathway_gives_the_risk_of_the_model(kind: str, modalities: tuple[str, ...], cohort: Cohort) -> None:
    model = make(kind, modalities).fit(cohort)
    risks = model.predict(cohort.without_outcomes()).risk
    for i in (1, 6):
        alone = cohort[[i]].without_outcomes()
        path = build_pathway(model, alone)
        images = read_images(alone, path.modalities)
        path.rounded = True
        with torch.no_grad():
            assert float(path(torch.from_numpy(images))) == pytest.approx(risks[i], abs=2e-3 * (1 + np.ptp(risks)))
        values = integrated_gradients(path, images)
        assert values.shape == (2, *cohort.grid.shape)
        assert values[0].any() == ("pet" in modalities)
        assert values[1].any()


def test_stacks_of_the_ct_and_of_both_are_those_that_models_learn_from(cohort: Cohort) -> None:
    names = ("image", "ct-profile", "ct-wavelets", "fused-coronal", "fused-sagittal")
    alone = cohort[[3]]
    suv, hu = alone.volume(alone[0]), read_hu(alone, alone[0])
    stacks = ImageStacks(names)
    layers = ImageLayers(stacks, alone)
    images = torch.from_numpy(read_images(alone, BOTH))
    found = dict(layers.stacks(layers.look(images)))
    assert tuple(found) == names
    expected = {
        "ct-profile": pool_ct(hu, "profile"),
        "ct-wavelets": pool_ct(hu, "wavelets"),
        "fused-coronal": pool_fused(suv, hu, "image-coronal", stacks.windows_suv),
        "fused-sagittal": pool_fused(suv, hu, "image-sagittal", stacks.windows_suv),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].numpy(), values.astype(np.float32), rtol=2e-3, atol=2e-3)
    assert [one.modalities for one in layers.place()] == [("pet",), ("ct",), ("pet",)]


def lungs_of(alone: Cohort) -> npt.NDArray[np.bool_]:
    """Thin tissue inside of what has uptake: at the skin a voxel is as thin as lung."""
    hu, suv = read_hu(alone, alone[0]), alone.volume(alone[0])
    return (hu > -960) & (hu < -500) & np.asarray(binary_erosion(find_body(suv > 0.15)))


def test_the_emphysema_that_decides_lies_in_the_lungs_of_the_ct() -> None:
    """Of patients whom the model does not know: what the CT adds tells them apart, and it is the lungs that add it."""
    model = MODELS["2be3-net"](modalities=BOTH, inner_folds=3, cache=CACHE).fit(make_cohort(30, "ct", cache=CACHE))
    unknown = make_cohort(8, "ct", seed=5).without_outcomes()
    added: dict[bool, list[float]] = {True: [], False: []}
    for i, event in enumerate([False, True] * 4):
        alone = unknown[[i]]
        found, lungs = explain(model, alone, checks=False), lungs_of(alone)
        assert found.of_ct is not None
        added[event].append(float(found.of_ct[lungs].sum()))
        if event:
            assert added[event][-1] > 0.7 * found.of_ct.sum()
            assert lungs.mean() < 0.1
        np.testing.assert_array_equal(found.total, found.values + found.of_ct)
    assert min(added[True]) > 2 * max(added[False])


INNER = (slice(10, 12),) * 3


class TwoPlaces(Pathway):
    """Of the first corner of the PET and a cube within the CT."""

    modalities = ("pet", "ct")

    def look(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images[:1], images[1:]]

    def place(self) -> list[Placement]:
        return [Placement.of_voxels((16, 16, 16)), Placement.of_voxels((16, 16, 16), "ct")]

    def judge(self, layers: list[torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
        return layers[0][0, :2, :2, :2].mean() + 0.01 * layers[1][0][INNER].mean()


def hot_and_thin() -> npt.NDArray[np.float32]:
    images = np.stack([np.ones((16, 16, 16), np.float32), np.full((16, 16, 16), 1000.0, np.float32)])
    images[0, :2, :2, :2], images[1][INNER] = 9.0, 300.0  # hot, and less dense than what is around
    return images


@pytest.mark.parametrize("method", ["grad-cam", "integrated-gradients"])
def test_each_image_has_its_own_map(method: Any) -> None:
    found = attribute(TwoPlaces(), hot_and_thin(), method, (8.0, 8.0, 8.0))
    place = [np.unravel_index(int(np.abs(one).argmax()), one.shape) for one in found]
    if method == "integrated-gradients":
        assert max(place[0]) <= 1
        assert set(place[1]) <= {10, 11}
        np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), [9.0, -7.0], rtol=1e-4)
    else:  # a mean over the layer knows no place: the layer itself, in its own image
        assert found[0].any()
        assert found[1].any()


def test_occlusion_fills_what_is_less_dense_and_lowers_what_is_hot() -> None:
    falls = occlude(TwoPlaces(), hot_and_thin(), (4.0, 4.0, 4.0), coarse_mm=32.0, fine_mm=8.0)
    assert falls[0, :2, :2, :2].sum() == pytest.approx(8.0, rel=1e-4)
    assert falls[1][INNER].sum() == pytest.approx(-7.0, rel=1e-4)  # denser: 300 to 1000, a rise of the risk
    assert np.count_nonzero(falls) == 16


def test_deletion_takes_blocks_of_each_image_away_by_themselves() -> None:
    images, edge = hot_and_thin(), (2, 2, 2)
    right = np.zeros_like(images)
    right[0, :2, :2, :2], right[1][INNER] = 8.0, -7.0
    fall, rise = check_deletion(TwoPlaces(), right, images, edge)
    assert fall.passed
    assert rise.passed
    assert fall.value == pytest.approx(8.0, rel=1e-4)


def test_the_baseline_is_a_body_of_one_tissue(cohort: Cohort) -> None:
    alone = cohort[[0]].without_outcomes()
    suv, above_air = make_baseline(read_images(alone, BOTH))
    assert not suv.any()
    changed = above_air != read_hu(alone, alone[0]) + 1000
    assert changed[lungs_of(alone)].mean() > 0.9
    assert -100 < np.unique(above_air[changed] - 1000).item() < 60  # between fat and muscle
    assert not make_baseline(np.zeros((2, 8, 8, 8), np.float32)).any()  # air stays air
    uptake_in_air = np.stack([np.ones((8, 8, 8), np.float32), np.zeros((8, 8, 8), np.float32)])
    assert not make_baseline(uptake_in_air).any()


def test_checks_are_of_both_maps(cohort: Cohort) -> None:
    model, alone = make("default").fit(cohort), cohort[[1]].without_outcomes()
    names = [check.name for check in explain(model, alone).checks]
    assert [name for name in names if name.endswith("(CT)")] == [
        "correlation with an untrained model (CT)",
        "correlation with grad-cam (CT)",
    ]
    assert len(names) == 6
    assert block_edge(cohort.grid.spacing_mm) == (2, 2, 2)
