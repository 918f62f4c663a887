"""The models that `spatial.py` and `outcomes.py` compare, by the names that their tables give them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import twobe3 as tb

Make = Callable[[], tb.models.Model]


def candidates(weights: str, cache: tb.Cache, *, threshold_suv: float, **pictures: Any) -> dict[str, Make]:
    """The models at their defaults, then those on request, which take the default apart.

    ``2be3-net`` is the default; ``2be3-net-maps`` is the paper's, on the maps of an ImageNet network alone, which
    ``cnn2d`` and ``pooled`` see too. ``weights`` are those of MobileNetV2; ``pictures`` go to all models with a 2D
    network.
    """
    with_maps: dict[str, Any] = {"cache": cache, **pictures}
    imagenet: dict[str, Any] = {"backbone": "mobilenetv2_100.tf", "weights": weights, "layer": 3, **with_maps}
    phantom: dict[str, Any] = {"backbone": "phantom-resnet10", "layer": 3, **with_maps}
    of_maps, of_image = ("map-coronal", "map-sagittal"), ("image-coronal", "image-sagittal")
    net, flat, registry = tb.models.TwoBe3Net, tb.models.CNN2D, tb.models.MODELS
    return {
        "2be3-net": partial(net, **with_maps),
        "2be3-net-maps": partial(net, **imagenet, inputs=("maps",)),
        "cnn2d": partial(flat, **imagenet),
        "cnn3d": partial(tb.models.CNN3D, cache=cache),
        "pooled": partial(tb.models.PooledModel, **imagenet, planes=("axial",)),
        "radiomics": partial(tb.models.RadiomicsModel, region="threshold", threshold_suv=threshold_suv, cache=cache),
        **{kind: partial(registry[kind], cache=cache) for kind in ("spatial",) if kind in registry},
        # On request: a large 3D network; the default on other 2D networks and without one; parts of it.
        "cnn3d-resnet18": partial(tb.models.CNN3D, network="resnet18", cache=cache),
        "2be3-net-joint": partial(net, **with_maps, weighing="joint"),
        "2be3-net-imagenet": partial(net, **imagenet),
        "2be3-net-phantom": partial(net, **phantom),
        "2be3-net-random": partial(net, **with_maps, weights="random"),
        "2be3-net-image": partial(net, **with_maps, inputs=("image", "profile")),
        "2be3-net-wavelets": partial(net, **with_maps, inputs=("wavelets",)),
        "2be3-net-projections": partial(net, **with_maps, inputs=(*of_maps, *of_image)),
        "2be3-net-wavelets-image": partial(net, **with_maps, inputs=(*of_image, "wavelets")),
        "2be3-net-wavelets-all": partial(net, **with_maps, inputs=(*of_maps, *of_image, "wavelets")),
        "2be3-net-maps-image": partial(net, **imagenet, inputs=("maps", "image", "profile")),
        "2be3-net-maps-phantom": partial(net, **phantom, inputs=("maps",)),
        "2be3-net-maps-default": partial(net, **with_maps, inputs=("maps",)),
        "2be3-net-layer-2": partial(net, **{**imagenet, "layer": 2}, inputs=("maps",)),
        "cnn2d-phantom": partial(flat, **phantom),
        "cnn2d-default": partial(flat, **with_maps),
    }


NAMES = tuple(candidates("", tb.Cache(), threshold_suv=1.0))
DEFAULT = NAMES[: NAMES.index("cnn3d-resnet18")]
