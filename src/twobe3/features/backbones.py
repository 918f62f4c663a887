"""The 2D networks: pre-trained elsewhere, frozen here, and asked for the maps of one of their layers.

One row a network in :data:`BACKBONES`, which other distributions add to by the entry point group ``twobe3.backbones``;
any other name is looked up in timm. Layers are numbered from 0, the stem, at strides 2, 4, 8, 16 and 32 in the networks
of the table; those of the network that knows PET are told where it is.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.core.nearest import find_nearest
from twobe3.core.plugins import PluginRegistry, require_instance
from twobe3.features._torchvision import import_timm
from twobe3.features.fold_norms import fold_norms
from twobe3.features.openvino_runtime import CompiledNetwork, compile_network
from twobe3.features.pet_lesions import PETLesionNetwork
from twobe3.features.weights import State, WeightsSource, load_strictly
from twobe3.io.files import digest
from twobe3.runtime.device import Device

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SYMMETRIC = (0.5, 0.5, 0.5)  # mean and standard deviation that take [0, 1] to [-1, 1]
HERE = torch.device("cpu")
PLAIN = Device("cpu", "32", maps="torch")
MOST_COMPILED = 8  # networks, layers and sizes of pictures that a process keeps compiled
_compiled: dict[tuple[object, ...], CompiledNetwork | None] = {}
RESNET_STAGES = 5  # the stem and MONAI's four stages


@dataclass(frozen=True)
class BackboneRow:
    """A 2D network that study files can name.

    Attributes
    ----------
    description : str
        One line for ``twobe3 list backbones``.
    build : callable
        Makes the network that a state dictionary fits.
    pretrained : str
        Source of the ``"pretrained"`` weights, see :class:`~twobe3.features.weights.WeightsSource`; may be empty.
    mean, std : tuple of float
        Input normalisation of these weights, for pictures in [0, 1].
    """

    description: str
    build: Callable[[State], nn.Module]
    pretrained: str
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen 2D network in evaluation mode.

    ``name`` and ``weights`` are as given to :func:`load_backbone`, ``mean`` and ``std`` the normalisation of its input;
    ``weights_digest`` is that of every parameter and buffer.
    """

    name: str
    weights: str
    weights_digest: str
    network: nn.Module = field(repr=False)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    _folded: dict[tuple[torch.device, tuple[int, ...]], nn.Module] = field(default_factory=dict, init=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # Networks of timm travel to worker processes as their parameters: unpickling one there would import timm
        # without what `import_timm` does first.
        rebuild = partial(build_backbone, mean=self.mean, std=self.std, weights=self.weights)
        return rebuild, (self.name, self.network.state_dict())

    @property
    def layers(self) -> int:
        """How many layers can be asked for their maps."""
        if isinstance(self.network, PETLesionNetwork):
            return self.network.n_layers
        return len(self.network.feature_info) if is_from_timm(self.network) else RESNET_STAGES  # type: ignore[arg-type]

    def require_layer(self, layer: int) -> None:
        """Raise ``LAYER_OUT_OF_RANGE`` where there is no such layer."""
        if not 0 <= layer < self.layers:
            raise ConfigurationError(
                Code.LAYER_OUT_OF_RANGE, f"{self.name} has the layers 0 to {self.layers - 1}, not {layer}"
            )

    def maps(self, pictures: torch.Tensor, layer: int, device: Device = PLAIN) -> torch.Tensor:
        """Compute the maps of a layer, on the device of the pictures.

        From what the network is shown, see :func:`~twobe3.features.maps.show`, to (n, channels, rows, columns); layer 0
        is the stem. ``device`` says what computes them and in which precision; they are given in single precision.
        Raises ConfigurationError ``LAYER_OUT_OF_RANGE``.
        """
        self.require_layer(layer)
        with torch.inference_mode():
            if device.maps_by == "openvino" and (compiled := self._compile(pictures.shape[1:], layer, device)):
                return compiled(pictures)
            seen = normalise(pictures, self.mean, self.std)
            folded = self.fold(seen.shape[1:], (layer,), seen.device)
            with torch.autocast("cpu", torch.bfloat16, enabled=device.maps_bits == "bf16"):
                (maps,) = intermediates(folded, seen, [layer])
        return maps.float()

    def _compile(self, picture: torch.Size, layer: int, device: Device) -> CompiledNetwork | None:
        """The network up to a layer by OpenVINO, made once in a process; None where it does not take it."""
        bits = device.maps_bits
        made_by = (self.name, self.weights_digest, self.mean, self.std)
        key = (*made_by, picture, layer, bits, torch.get_num_threads())
        if key not in _compiled:
            if len(_compiled) == MOST_COMPILED:
                del _compiled[next(iter(_compiled))]
            with torch.inference_mode(False):
                _compiled[key] = compile_network(_UpTo(self, layer), picture, bits, self.name)
        return _compiled[key]

    def fold(self, shape: Sequence[int], layers: tuple[int, ...], device: torch.device = HERE) -> nn.Module:
        """A copy of the network on a device that makes the maps of some layers faster, see :func:`fold_norms`.

        Made once, and checked on a picture of noise of ``shape``, (channels, height, width). The network itself stays
        what is saved and sent to other processes.
        """
        if (device, layers) not in self._folded:
            noise = 4 * torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
            with torch.inference_mode(False):
                folded = fold_norms(self.network, lambda network: intermediates(network, noise, layers))
            self._folded[device, layers] = folded.to(device)
        return self._folded[device, layers]


class _UpTo(nn.Module):
    """From pictures to the maps of one layer."""

    def __init__(self, backbone: Backbone, layer: int) -> None:
        super().__init__()
        self.network, self.layer, self.norm = backbone.network, layer, (backbone.mean, backbone.std)
        self.eval()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return intermediates(self.network, normalise(pictures, *self.norm), [self.layer])[0]


def load_backbone(name: str, weights: str = "pretrained") -> Backbone:
    """Load a 2D network with its weights, ready to extract.

    Parameters
    ----------
    name : str
        A row of :data:`BACKBONES`, or any model of timm (extra ``[timm]``).
    weights : str
        See :meth:`WeightsSource.parse`. Random weights are never a fallback.

    Raises
    ------
    ConfigurationError
        ``UNKNOWN_NAME`` with the nearest names; ``WEIGHTS_MISMATCH`` with the keys that do not fit;
        ``WEIGHTS_MISSING`` when the file is not there.
    EnvironmentFailure
        ``WEIGHTS_MISSING`` when the hub cannot be reached; ``EXTRA_MISSING`` without timm.
    """
    row, source = _find_row(name), WeightsSource.parse(weights)
    if source.kind == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _freeze(name, weights, row.build({}), row.mean, row.std)
    state, notes = (WeightsSource.parse(row.pretrained) if source.kind == "pretrained" else source).read(name)
    mean = tuple(json.loads(notes["mean"])) if "mean" in notes else row.mean
    std = tuple(json.loads(notes["std"])) if "std" in notes else row.std
    return build_backbone(name, state, mean=mean, std=std, weights=weights)


def build_backbone(
    name: str, state: State, *, mean: tuple[float, ...], std: tuple[float, ...], weights: str
) -> Backbone:
    """Build a 2D network with these parameters, for instance out of a model file.

    Raises ConfigurationError ``UNKNOWN_NAME``, or ``WEIGHTS_MISMATCH`` with the keys that do not fit.
    """
    network = _find_row(name).build(state)
    load_strictly(network, state, name)
    return _freeze(name, weights, network, mean, std)


def normalise(pictures: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Standardise pictures, shape (n, channels, height, width), by the channel means and deviations of a network."""
    centre, scale = (torch.tensor(values, device=pictures.device).view(1, -1, 1, 1) for values in (mean, std))
    return (pictures - centre) / scale


def intermediates(network: nn.Module, x: torch.Tensor, layers: Sequence[int]) -> list[torch.Tensor]:
    """Compute maps of some layers by one pass that ends at the deepest of them.

    ``network`` is that of a :class:`Backbone`, ``x`` normalised pictures, (n, channels, height, width); the maps, each
    (n, channels, rows, columns), are returned in the order of the layers.
    """
    if isinstance(network, PETLesionNetwork):
        return network.maps(x, layers)
    if is_from_timm(network):
        order = sorted(layers)
        found = network.forward_intermediates(x, indices=order, intermediates_only=True, stop_early=True)  # type: ignore[operator]
        return [torch.as_tensor(found[order.index(layer)]) for layer in layers]
    return _resnet_maps(network, x, layers)


def _resnet_maps(network: Any, x: torch.Tensor, layers: Sequence[int]) -> list[torch.Tensor]:
    """The same of MONAI's ResNet."""
    maps = [network.act(network.bn1(network.conv1(x)))]
    stages = (nn.Sequential(network.maxpool, network.layer1), network.layer2, network.layer3, network.layer4)
    for stage in stages[: max(layers)]:
        maps.append(stage(maps[-1]))
    return [maps[layer] for layer in layers]


def is_from_timm(network: nn.Module) -> bool:
    """Whether a network is one of timm's, which tell of their layers."""
    return hasattr(network, "feature_info")


def _freeze(name: str, weights: str, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> Backbone:
    network.eval().requires_grad_(False)
    return Backbone(name, weights, _digest_parameters(network), network, mean, std)


def _digest_parameters(network: nn.Module) -> str:
    parts: list[bytes | str] = []
    for key, value in sorted(network.state_dict().items()):
        parts += [key, str(tuple(value.shape)), value.contiguous().numpy().tobytes()]
    return digest(parts)


def _build_resnet(
    state: State, *, layers: Sequence[int], widths: Sequence[int] = (64, 128, 256, 512), block: str = "basic"
) -> nn.Module:
    from monai.networks.nets.resnet import ResNet  # two seconds, which other networks do not need

    classes = state["fc.weight"].shape[0] if "fc.weight" in state else None
    # With MONAI's own defaults (stride 1 in the stem, biases in the shortcuts) ImageNet weights load into
    # another network without a word; these two settings make it the one that they were trained in.
    network: nn.Module = ResNet(
        block=block,
        layers=list(layers),
        block_inplanes=list(widths),
        spatial_dims=2,
        conv1_t_stride=2,
        bias_downsample=False,
        num_classes=classes or 1,
        feed_forward=classes is not None or not state,
    )
    return network


def _build_timm(state: State, *, name: str, **arguments: Any) -> nn.Module:
    timm = _require_timm()
    classifier = timm.get_pretrained_cfg_value(name, "classifier") or "classifier"
    head = state.get(f"{classifier if isinstance(classifier, str) else classifier[0]}.weight")
    classes = 0 if head is None else head.shape[0]
    network: nn.Module = timm.create_model(name, num_classes=classes, **arguments)
    return network


def _find_row(name: str) -> BackboneRow:
    if name in BACKBONES:
        return BACKBONES[name]
    timm = _require_timm(name)
    known = timm.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, dict.fromkeys([*BACKBONES, *known]), n=3, cutoff=0.5)
        raise ConfigurationError(
            Code.UNKNOWN_NAME,
            f"there is no backbone {name!r}; the nearest are {', '.join(near) or ', '.join(BACKBONES)}",
        )
    configuration = timm.get_pretrained_cfg(name).to_dict()
    hub = configuration.get("hf_hub_id")
    return BackboneRow(
        f"timm {name}",
        partial(_build_timm, name=name),
        f"hf:{hub}" if hub else "",
        tuple(configuration.get("mean", IMAGENET_MEAN)),
        tuple(configuration.get("std", IMAGENET_STD)),
    )


def _require_timm(name: str = "") -> Any:
    try:
        return import_timm()
    except ImportError:
        near = find_nearest(name, BACKBONES)
        hint = f" (did you mean {near!r}?)" if near else ""
        raise EnvironmentFailure(
            Code.EXTRA_MISSING,
            f"backbone {name!r} is not one of {', '.join(BACKBONES)}{hint}; others need timm, which is not installed",
            remedy="pip install 'twobe3[timm]'",
        ) from None


_ROWS: dict[str, BackboneRow] = {
    **{
        f"resnet{depth}": BackboneRow(
            f"MONAI ResNet-{depth}, ImageNet weights from the hub",
            partial(_build_resnet, layers=layers, block=block),
            f"hf:timm/resnet{depth}.a1_in1k",
        )
        for depth, layers, block in (
            (18, (2, 2, 2, 2), "basic"),
            (34, (3, 4, 6, 3), "basic"),
            (50, (3, 4, 6, 3), "bottleneck"),
        )
    },
    "pet-lesions": BackboneRow(
        "taught by this project to see lesions, on simulated PET slices; slices are seen on their own voxels; packaged",
        lambda state: PETLesionNetwork(),
        "package:pet_lesions.safetensors",
        (0.0,),
        (1.0,),
    ),
    "phantom-resnet10": BackboneRow(
        "a ResNet-10 of a quarter the width, trained by this project on slices of its own phantoms; in the package",
        partial(_build_resnet, layers=(1, 1, 1, 1), widths=(16, 32, 64, 128)),
        "package:phantom_resnet10.safetensors",
        SYMMETRIC,
        SYMMETRIC,
    ),
    "mobilenetv2_100.tf": BackboneRow(
        "timm MobileNetV2 as TensorFlow pads it, for weights converted from there; give a local file",
        partial(_build_timm, name="mobilenetv2_100", pad_type="same"),
        "",
        SYMMETRIC,
        SYMMETRIC,
    ),
}
BACKBONES = PluginRegistry("twobe3.backbones", "backbone", require_instance(BackboneRow, named=False), _ROWS)
