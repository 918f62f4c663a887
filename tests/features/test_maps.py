"""Feature maps: those of the 2D network slice by slice, computed once, under a key that says everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from twobe3.cohort.cohort import Cohort
from twobe3.core.grid import Grid
from twobe3.features.backbones import Backbone, build_backbone, load_backbone
from twobe3.features.maps import MapExtractor
from twobe3.features.slices import Plane, SliceSpec, apply_windows, cut
from twobe3.io.cache import Cache
from twobe3.scans.scan import ArrayScan

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("resnet18", "random")


@pytest.fixture(scope="module")
def cohort(make_cohort: Callable[..., Cohort]) -> Cohort:
    """Two patients, a third of whose slices are padding."""
    made = make_cohort(2)
    subjects = []
    for subject in made.subjects:
        volume = subject.scan.suv()
        array = volume.array.copy()
        array[:5] = array[:, 12:] = 0.0
        subjects.append(replace(subject, scan=ArrayScan(replace(volume, array=array))))
    return replace(made, subjects=tuple(subjects))


def extractor(backbone: Backbone, **changed: Any) -> MapExtractor:
    return MapExtractor(**{"backbone": backbone, "layer": 1, "slices": SliceSpec(size=32)} | changed)


@pytest.mark.parametrize("plane", PLANES)
def test_maps_are_those_of_each_slice_by_itself_padding_included(
    backbone: Backbone, cohort: Cohort, plane: Plane
) -> None:
    subject = cohort.subjects[0]
    got = extractor(backbone, planes=(plane,)).extract(cohort, subject)[plane]
    slices = cut(cohort.volume(subject), plane)
    assert got.shape == (64, 16, 8, 8)
    assert got.dtype == np.float16
    for number, picture in enumerate(slices):
        channels = apply_windows(torch.from_numpy(np.ascontiguousarray(picture[None])), (5.0, 10.0, 25.0))
        resized = functional.interpolate(channels, (32, 32), mode="bilinear", antialias=True)
        expected = backbone.maps(resized, 1)[0].half().numpy()
        np.testing.assert_allclose(got[:, number], expected, rtol=2e-3, atol=2e-3)


def test_one_window_is_shown_as_grey(backbone: Backbone, cohort: Cohort) -> None:
    grey, equal = (
        extractor(backbone, slices=SliceSpec(windows, 32)).extract(cohort, cohort.subjects[0])["axial"]
        for windows in ((5.0,), (5.0, 5.0, 5.0))
    )
    np.testing.assert_array_equal(grey, equal)


def test_planes_come_in_the_order_asked_for(backbone: Backbone, cohort: Cohort) -> None:
    order: tuple[Plane, ...] = ("sagittal", "axial")
    assert tuple(extractor(backbone, planes=order).extract(cohort, cohort.subjects[0])) == order


def test_the_key_changes_with_everything_that_the_maps_depend_on(backbone: Backbone, cohort: Cohort) -> None:
    subject, other = cohort.subjects

    def key(
        network: Backbone = backbone, cohort: Cohort = cohort, subject: Any = subject, plane: Plane = "axial", **of: Any
    ) -> str:
        return extractor(network, **of).key(cohort, subject, plane)

    state = backbone.network.state_dict()
    touched = {**state, "conv1.weight": state["conv1.weight"] + 1e-6}
    moments = {"mean": backbone.mean, "std": backbone.std, "weights": "file"}
    volume = subject.scan.suv()
    moved = replace(subject, scan=ArrayScan(replace(volume, array=volume.array + np.float32(1e-3))))
    keys = [
        key(),
        key(subject=other),
        key(subject=moved),
        key(cohort=replace(cohort, grid=Grid((8.0,) * 3, (128.0, 128.0, 120.0)))),
        key(plane="coronal"),
        key(layer=2),
        key(slices=SliceSpec((5.0, 10.0, 20.0), 32)),
        key(slices=SliceSpec(size=64)),
        key(build_backbone("resnet18", touched, **moments)),
        key(build_backbone("resnet18", state, **{**moments, "mean": (0.5, 0.5, 0.5)})),
        key(build_backbone("resnet18", state, **{**moments, "std": (0.5, 0.5, 0.5)})),
        key(load_backbone("resnet34", "random")),
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_change_with_the_name_of_the_weights_file_or_the_other_planes(
    backbone: Backbone, cohort: Cohort
) -> None:
    same = build_backbone(
        "resnet18", backbone.network.state_dict(), mean=backbone.mean, std=backbone.std, weights="elsewhere"
    )
    subject = cohort.subjects[0]
    assert extractor(same, planes=PLANES).key(cohort, subject, "axial") == extractor(backbone).key(
        cohort, subject, "axial"
    )


def test_nothing_is_computed_twice(
    backbone: Backbone, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Cache(tmp_path)
    for subject in cohort.subjects:
        extractor(backbone, planes=PLANES, cache=first).extract(cohort, subject)
        extractor(backbone, planes=PLANES, cache=first).extract_pooled(cohort, subject)
    assert (first.computed, first.reused) == (12, 0)

    def computes(*_: Any) -> None:
        raise AssertionError("the 2D network ran again")

    monkeypatch.setattr(Backbone, "maps", computes)
    second = Cache(tmp_path)
    for subject in cohort.subjects:
        extractor(backbone, planes=PLANES, cache=second).extract(cohort, subject)
        extractor(backbone, planes=PLANES, cache=second).extract_pooled(cohort, subject)
    assert (second.computed, second.reused) == (0, 12)


def test_pooled_maps_are_mean_maximum_and_deviation_of_each_channel_of_each_plane(
    backbone: Backbone, cohort: Cohort
) -> None:
    made = extractor(backbone, planes=("sagittal", "axial"))
    subject = cohort.subjects[0]
    without_maps = made.extract_pooled(cohort, subject)
    assert len(made.cache._memory) == 2  # the maps themselves were not kept
    maps = made.extract(cohort, subject)["axial"].astype(float).reshape(64, -1)
    np.testing.assert_allclose(without_maps[192:256], maps.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(without_maps[256:320], maps.max(axis=1))
    np.testing.assert_allclose(without_maps[320:], maps.std(axis=1), rtol=1e-9)
    with_maps = extractor(backbone, planes=("axial",))
    with_maps.extract(cohort, subject)
    np.testing.assert_array_equal(with_maps.extract_pooled(cohort, subject), without_maps[192:])


def test_stored_maps_are_the_computed_ones(backbone: Backbone, cohort: Cohort, tmp_path: Path) -> None:
    subject = cohort.subjects[1]
    made = extractor(backbone, cache=Cache(tmp_path)).extract(cohort, subject)["axial"]
    found = extractor(backbone, cache=Cache(tmp_path)).extract(cohort, subject)["axial"]
    np.testing.assert_array_equal(made, found)
    assert not any(subject.patient_id in path.name for path in tmp_path.iterdir())
