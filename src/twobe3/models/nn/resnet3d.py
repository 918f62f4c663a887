"""The 3D networks of ``cnn3d``: MONAI's own, a compact one, and the weights that a user may start them from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from twobe3.features.weights import State, WeightsSource, load_strictly

RESNET_LAYERS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2)}


@dataclass(frozen=True)
class VolumeRow:
    """One of MONAI's 3D networks."""

    build: Callable[[int], nn.Module]  # without its classifier, for a number of channels
    features: int
    smallest: int  # voxels that a volume needs along each axis
    heads: tuple[str, ...]  # beginnings of the keys, in foreign weights, of classifiers and segmentation heads


def compact_resnet(channels: int, *, depth: int, width: int) -> nn.Module:
    """A ResNet of few channels whose stem is a 3×3×3 convolution of stride 2, followed by pooling.

    At full resolution a 7×7×7 stem, MONAI's default, costs more than the rest of the network. The stem is normalised
    in groups, the stages in batches: MONAI passes the kind of normalisation on to the stem alone. Channels double with
    every stage from ``width`` on.
    """
    widths = [width * 2**stage for stage in range(4)]
    norm = ("group", {"num_groups": 4})
    return _resnet(depth, channels, widths, conv1_t_size=3, num_classes=widths[-1], norm=norm)


def read_weights(source: WeightsSource, name: str, network: nn.Module) -> State:
    """Weights for one of MONAI's networks, for instance those of MedicalNet, see :meth:`WeightsSource.read`.

    They must fit key by key; classifiers and segmentation heads among them are left aside.

    Raises
    ------
    ConfigurationError
        ``WEIGHTS_MISSING``; ``WEIGHTS_MISMATCH`` with the keys that do not fit.
    """
    found, _ = source.read(name)
    state = {key: value for key, value in found.items() if not key.startswith(NETWORKS[name].heads)}
    load_strictly(network, state, name, what="network")
    return network.state_dict()


def _resnet(depth: int, channels: int, widths: list[int], **options: Any) -> nn.Module:
    from monai.networks.nets.resnet import ResNet  # here and below: two seconds, which other models do not need

    network: nn.Module = ResNet(
        block="basic",
        layers=list(RESNET_LAYERS[depth]),
        block_inplanes=widths,
        spatial_dims=3,
        n_input_channels=channels,
        conv1_t_stride=2,  # as in MedicalNet; MONAI's default of 1 costs eight times as much
        **options,
    )
    return network


def _medicalnet(depth: int, channels: int) -> nn.Module:
    from monai.networks.nets.resnet import get_medicalnet_pretrained_resnet_args

    bias, shortcut = get_medicalnet_pretrained_resnet_args(depth)
    widths = [64, 128, 256, 512]
    return _resnet(depth, channels, widths, shortcut_type=shortcut, bias_downsample=bias, feed_forward=False)


def _densenet121(channels: int) -> nn.Module:
    from monai.networks.nets.densenet import DenseNet121

    network: nn.Module = DenseNet121(spatial_dims=3, in_channels=channels, out_channels=1)
    network.class_layers.out = nn.Identity()  # type: ignore[union-attr]
    return network


NETWORKS = {
    "resnet10": VolumeRow(partial(_medicalnet, 10), 512, 8, ("fc.", "conv_seg.")),
    "resnet18": VolumeRow(partial(_medicalnet, 18), 512, 8, ("fc.", "conv_seg.")),
    "densenet121": VolumeRow(_densenet121, 1024, 32, ("class_layers.out.",)),
}
