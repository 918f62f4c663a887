"""MONAI's 3D networks: as MONAI makes them, and started from a user's weights key by key, or not at all."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.resnet import resnet10
from safetensors.torch import save_file
from torch import nn

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.features.weights import WeightsSource
from twobe3.models import CNN3D
from twobe3.models.nn.resnet3d import NETWORKS, read_weights


@pytest.fixture(scope="module")
def medicalnet() -> nn.Module:
    """What MONAI takes for MedicalNet's ResNet-10, with weights of its own."""
    torch.manual_seed(0)
    network: nn.Module = resnet10(
        spatial_dims=3, n_input_channels=1, feed_forward=False, shortcut_type="B", bias_downsample=False,
        conv1_t_stride=2,
    )  # fmt: skip
    return network.eval()


def checkpoint(network: nn.Module, path: Path, **more: torch.Tensor) -> Path:
    """As MedicalNet's files are: parallel training left a prefix, and there may be a segmentation head."""
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state | more}, path)
    return path


def refusal(path: Path, name: str = "resnet10", channels: int = 1) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read_weights(WeightsSource.parse(str(path)), name, NETWORKS[name].build(channels))
    assert str(path.parent) not in str(caught.value)
    return caught.value


def test_a_checkpoint_of_medicalnet_gives_the_features_of_monais_network(medicalnet: nn.Module, tmp_path: Path) -> None:
    path = checkpoint(medicalnet, tmp_path / "resnet_10.pth", **{"module.conv_seg.0.weight": torch.zeros(2)})
    network = NETWORKS["resnet10"].build(1)
    network.load_state_dict(read_weights(WeightsSource.parse(str(path)), "resnet10", network))
    volume = torch.rand(2, 1, 16, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(volume), medicalnet(volume))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_as_many_features_as_its_row_says_on_its_smallest_volume(name: str) -> None:
    row = NETWORKS[name]
    with torch.inference_mode():
        assert row.build(2).eval()(torch.rand(1, 2, *[row.smallest] * 3)).shape == (1, row.features)


def test_densenet_is_monais_without_its_classifier(tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = DenseNet121(spatial_dims=3, in_channels=1, out_channels=3).eval()
    save_file(original.state_dict(), tmp_path / "weights.safetensors")
    network = NETWORKS["densenet121"].build(1)
    source = WeightsSource.parse(str(tmp_path / "weights.safetensors"))
    network.load_state_dict(read_weights(source, "densenet121", network))
    volume = torch.rand(1, 1, 32, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(original.class_layers.out(network.eval()(volume)), original(volume))


def test_keys_that_do_not_match_are_named(medicalnet: nn.Module, tmp_path: Path) -> None:
    state = dict(medicalnet.state_dict())
    state["layer9.weight"] = state.pop("layer4.0.conv2.weight")
    save_file(state, tmp_path / "weights.safetensors")
    error = refusal(tmp_path / "weights.safetensors")
    assert error.code is Code.WEIGHTS_MISMATCH
    assert "1 missing (layer4.0.conv2.weight)" in error.reason
    assert "1 unexpected (layer9.weight)" in error.reason
    three = refusal(checkpoint(medicalnet, tmp_path / "one_channel.pth"), channels=3)
    assert "1 of another shape (conv1.weight)" in three.reason


def test_a_checkpoint_with_more_than_arrays_is_never_executed(tmp_path: Path) -> None:
    """Acceptance row 32."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "weights.pth"
    for write in (lambda: torch.save({"x": Trap()}, path), lambda: path.write_bytes(pickle.dumps(Trap()))):
        write()
        assert refusal(path).code is Code.WEIGHTS_MISMATCH
    assert not (tmp_path / "executed").exists()


def test_no_file_another_file_and_a_checkpoint_of_nothing_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.pth").code is Code.WEIGHTS_MISSING
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("text.safetensors", "text.pth", "list.pth"):
        assert refusal(tmp_path / name).code is Code.WEIGHTS_MISMATCH


def test_weights_are_part_of_the_identity_by_their_content_and_told_by_their_name(
    medicalnet: nn.Module, tmp_path: Path
) -> None:
    first = checkpoint(medicalnet, tmp_path / "a.pth")
    second = tmp_path / "b.safetensors"
    save_file(medicalnet.state_dict(), second)
    models = [CNN3D(network="resnet10", weights=str(path), windows_suv=(10.0,)) for path in (first, second)]
    assert models[0].cache_key() == models[1].cache_key()
    assert models[0].public_parameters()["weights"] == "a.pth"
    touched = {key: value + 1e-3 if key == "conv1.weight" else value for key, value in medicalnet.state_dict().items()}
    save_file(touched, second)
    other = CNN3D(network="resnet10", weights=str(second), windows_suv=(10.0,))
    assert other.cache_key() != models[0].cache_key()
    assert CNN3D(network="resnet10", windows_suv=(10.0,)).cache_key() != models[0].cache_key()


def test_weights_for_the_compact_network_are_refused() -> None:
    with pytest.raises(ValueError, match="not for the compact one"):
        CNN3D(weights="weights.pth")
