"""2D networks: the maps of their originals, weights from a file or the hub, and never random ones unasked."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure, TwoBe3Error
from twobe3.features import backbones
from twobe3.features._torchvision import import_timm
from twobe3.features.backbones import BACKBONES, Backbone, build_backbone, load_backbone
from twobe3.features.maps import show
from twobe3.features.slices import SliceSpec

PLAIN: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "weights": "test"}


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    try:
        return import_timm()
    except ImportError:
        pytest.skip("timm is not installed: pip install 'twobe3[timm]'")


@pytest.fixture(scope="module")
def resnet18() -> Backbone:
    return load_backbone("resnet18", "random")


@pytest.fixture
def weights(resnet18: Backbone, tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file(resnet18.network.state_dict(), path)
    return path


def refusal(name: str, weights: str) -> TwoBe3Error:
    with pytest.raises(TwoBe3Error) as caught:
        load_backbone(name, weights)
    assert "\n" not in str(caught.value)
    return caught.value


def test_mobilenet_with_the_shared_weights_gives_the_published_moments(real_data: Path, timm: ModuleType) -> None:
    file = real_data / "weights/mobilenetv2_100_imagenet_fp16.safetensors"
    backbone = load_backbone("mobilenetv2_100.tf", str(file))
    pictures = (torch.linspace(-1, 1, 3 * 128 * 128).reshape(1, 3, 128, 128) + 1) / 2  # it takes [0, 1] to [-1, 1]
    maps = [backbone.maps(pictures, layer) for layer in range(5)]
    assert [one.shape[-1] for one in maps] == [64, 32, 16, 8, 4]
    # From the README of the shared data.
    means, deviations = (0.04336, -0.28336, 0.64464, -0.0998, 0.14903), (1.84764, 2.8755, 3.79981, 3.35159, 1.78724)
    assert [one.mean().item() for one in maps] == pytest.approx(means, abs=1e-4)
    assert [one.std().item() for one in maps] == pytest.approx(deviations, abs=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100"])
def test_a_network_travels_to_a_process_that_has_not_imported_timm(name: str, timm: ModuleType, tmp_path: Path) -> None:
    backbone, pictures = load_backbone(name, "random"), torch.rand(2, 3, 32, 32)
    (tmp_path / "sent").write_bytes(pickle.dumps((backbone, pictures, backbone.maps(pictures, 2))))
    receive = (
        "import pickle, sys, torch; backbone, pictures, maps = pickle.load(open(sys.argv[1], 'rb'));"
        "torch.testing.assert_close(backbone.maps(pictures, 2), maps, rtol=0, atol=1e-6);"
        "print(backbone.weights_digest)"
    )
    done = subprocess.run([sys.executable, "-c", receive, tmp_path / "sent"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, backbone.weights_digest), done.stderr


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_monai_resnets_give_the_maps_of_timm_at_every_layer(name: str, timm: ModuleType) -> None:
    torch.manual_seed(0)
    original = timm.create_model(name, num_classes=5).eval()
    for module in original.modules():
        if isinstance(module, nn.BatchNorm2d):  # fresh ones do nothing
            module.running_mean.normal_(0.0, 0.1)  # type: ignore[union-attr,operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr,operator]
    backbone = build_backbone(name, original.state_dict(), **PLAIN)
    pictures = torch.rand(2, 3, 64, 64)
    for layer in range(5):
        with torch.inference_mode():
            (expected,) = original.forward_intermediates(pictures, indices=[layer], intermediates_only=True)
        assert expected.shape[-1] == 64 // 2 ** (layer + 1)
        torch.testing.assert_close(backbone.maps(pictures, layer), expected, rtol=1e-5, atol=1e-6)


def test_a_timm_network_without_a_row_gives_its_own_maps(timm: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = timm.create_model("mobilenetv3_small_050", num_classes=7).eval()
    path = tmp_path / "weights.safetensors"
    save_file(original.state_dict(), path)
    backbone = load_backbone("mobilenetv3_small_050", str(path))
    pictures = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (backbone.mean, backbone.std))
    assert backbone.mean == tuple(original.default_cfg["mean"])
    with torch.inference_mode():
        (expected,) = original.forward_intermediates((pictures - mean) / std, indices=[2], intermediates_only=True)
    torch.testing.assert_close(backbone.maps(pictures, 2), expected)


@pytest.mark.parametrize("layer", [-1, 5])
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100.tf"])
def test_a_layer_out_of_range_is_refused(name: str, layer: int, timm: ModuleType) -> None:
    with pytest.raises(ConfigurationError, match="layers 0 to 4") as caught:
        load_backbone(name, "random").maps(torch.rand(1, 3, 32, 32), layer)
    assert caught.value.code is Code.LAYER_OUT_OF_RANGE


def test_pictures_are_normalised_as_the_weights_expect(resnet18: Backbone) -> None:
    state, pictures = resnet18.network.state_dict(), torch.rand(1, 3, 32, 32)
    shifted = build_backbone("resnet18", state, mean=(0.5,) * 3, std=(0.25,) * 3, weights="test")
    plain = build_backbone("resnet18", state, **PLAIN)
    torch.testing.assert_close(shifted.maps(pictures, 2), plain.maps((pictures - 0.5) / 0.25, 2))


def test_a_network_is_frozen_and_its_digest_is_that_of_its_weights(resnet18: Backbone) -> None:
    assert not resnet18.network.training
    assert not any(parameter.requires_grad for parameter in resnet18.network.parameters())
    state = resnet18.network.state_dict()
    assert build_backbone("resnet18", state, **PLAIN).weights_digest == resnet18.weights_digest
    touched = {**state, "layer4.1.bn2.running_var": state["layer4.1.bn2.running_var"] + 1e-6}
    assert build_backbone("resnet18", touched, **PLAIN).weights_digest != resnet18.weights_digest


def test_random_weights_are_the_same_every_time_and_leave_the_callers_random_numbers_alone(
    resnet18: Backbone,
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    again = load_backbone("resnet18", "random")
    assert (torch.rand(2) == expected).all()
    assert again.weights_digest == resnet18.weights_digest


def test_a_local_file_in_half_precision_and_its_metadata_are_read(resnet18: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in resnet18.network.state_dict().items()
    }
    save_file(state, path, metadata={"mean": json.dumps([0.1, 0.2, 0.3]), "std": json.dumps([0.4, 0.5, 0.6])})
    backbone = load_backbone("resnet18", str(path))
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    for key, value in backbone.network.state_dict().items():
        torch.testing.assert_close(value, state[key].to(value.dtype))


def test_weights_without_a_classifier_load_into_a_network_without_one(resnet18: Backbone) -> None:
    state = {key: value for key, value in resnet18.network.state_dict().items() if not key.startswith("fc.")}
    bare, pictures = build_backbone("resnet18", state, **PLAIN), torch.rand(1, 3, 32, 32)
    whole = build_backbone("resnet18", resnet18.network.state_dict(), **PLAIN)
    assert (bare.maps(pictures, 4) == whole.maps(pictures, 4)).all()


def test_a_file_that_is_not_there_is_an_error_by_its_name_alone(tmp_path: Path) -> None:
    error = refusal("resnet18", str(tmp_path / "absent.safetensors"))
    assert isinstance(error, ConfigurationError)
    assert error.code is Code.WEIGHTS_MISSING
    assert "absent.safetensors" in error.reason
    assert str(tmp_path) not in str(error)


def test_keys_that_do_not_fit_are_named(resnet18: Backbone, tmp_path: Path) -> None:
    state = dict(resnet18.network.state_dict())
    state["stem.weight"] = state.pop("conv1.weight")
    state["bn1.bias"] = state["bn1.bias"][:5].clone()
    save_file(state, tmp_path / "odd.safetensors")
    error = refusal("resnet18", str(tmp_path / "odd.safetensors"))
    assert error.code is Code.WEIGHTS_MISMATCH
    for told in ("1 missing (conv1.weight)", "1 unexpected (stem.weight)", "1 of another shape (bn1.bias)"):
        assert told in error.reason


def test_weights_of_another_network_are_refused(weights: Path) -> None:
    error = refusal("resnet50", str(weights))
    assert error.code is Code.WEIGHTS_MISMATCH
    assert "missing" in error.reason


def test_a_file_of_another_format_is_refused_and_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"conv1.weight": Trap()}, path)
    assert refusal("resnet18", str(path)).code is Code.WEIGHTS_MISMATCH
    assert not (tmp_path / "executed").exists()


def test_an_unknown_name_is_refused_with_the_nearest(timm: ModuleType) -> None:
    error = refusal("resnet81", "random")
    assert error.code is Code.UNKNOWN_NAME
    assert "resnet18" in error.reason


def test_without_timm_the_nearest_of_our_own_names_and_the_extra_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> ModuleType:
        raise ImportError("timm")

    monkeypatch.setattr(backbones, "import_timm", absent)
    error = refusal("resnet81", "random")
    assert isinstance(error, EnvironmentFailure)
    assert error.code is Code.EXTRA_MISSING
    assert "did you mean 'resnet18'" in error.reason
    assert "twobe3[timm]" in error.remedy


def test_a_network_without_published_weights_has_no_pretrained_ones(timm: ModuleType) -> None:
    error = refusal("mobilenetv2_100.tf", "pretrained")
    assert error.code is Code.WEIGHTS_MISSING
    assert "no pre-trained weights" in error.reason


@pytest.mark.parametrize("name", [name for name, row in BACKBONES.items() if row.pretrained.startswith("package:")])
def test_weights_in_the_package_load_and_say_where_they_come_from(name: str) -> None:
    backbone = load_backbone(name)
    assert backbone.maps(show(backbone.network, torch.rand(1, 64, 64), SliceSpec()), 3).isfinite().all()
    assert backbone.weights_digest != load_backbone(name, "random").weights_digest
    packaged = Path(backbones.__file__).parent / "data" / BACKBONES[name].pretrained.removeprefix("package:")
    assert packaged.stat().st_size <= 2 * 2**20


@pytest.mark.parametrize("weights", ["hf:", "hf:a/b/c", "hf:../../etc/passwd"])
def test_what_names_no_repository_is_refused_without_asking_the_hub(weights: str) -> None:
    error = refusal("resnet18", weights)
    assert isinstance(error, ConfigurationError)
    assert error.code is Code.WEIGHTS_MISSING


class Hub:
    """As much of the Hugging Face hub as a download needs, on the loopback."""

    def __init__(self, content: bytes) -> None:
        requests = self.requests = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(whole=False)

            def do_GET(self) -> None:
                self._answer(whole=True)

            def _answer(self, *, whole: bool) -> None:
                requests.append(f"{self.command} {self.path}")
                there = self.path == "/somebody/weights/resolve/main/model.safetensors"
                self.send_response(200 if there else 404)
                if there:
                    self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                else:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Content-Length", str(len(content) if there else 0))
                self.end_headers()
                if there and whole:
                    self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hub(weights: Path) -> Iterator[Hub]:
    made = Hub(weights.read_bytes())
    yield made
    made.server.shutdown()
    made.server.server_close()


LOAD = """
import sys
from twobe3.core.errors import TwoBe3Error
from twobe3.features.backbones import load_backbone
for weights in sys.argv[1:]:
    try:
        print(load_backbone("resnet18", weights).weights_digest)
    except TwoBe3Error as error:
        print(type(error).__name__, error)
"""


def load_elsewhere(address: str, home: Path, *weights: str) -> list[str]:
    """Load ResNet-18 with these weights in a process whose hub is at the address; a line for each."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *weights], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert "Retrying" not in done.stderr  # the hub's own client would go on asking for half a minute and more
    return done.stdout.splitlines()


def test_weights_are_fetched_from_the_hub_once_and_serve_without_a_network_ever_after(
    hub: Hub, resnet18: Backbone, tmp_path: Path
) -> None:
    digest, missing = load_elsewhere(hub.address, tmp_path / "home", "hf:somebody/weights", "hf:nobody/nothing")
    assert digest == resnet18.weights_digest
    assert missing.startswith("EnvironmentFailure WEIGHTS_MISSING: the weights 'nobody/nothing' could not be fetched")
    asked = [request for request in hub.requests if "somebody" in request]
    assert sum(request.startswith("GET") for request in asked) == 1
    hub.server.shutdown()
    hub.server.server_close()
    kept, missing = load_elsewhere(hub.address, tmp_path / "home", "hf:somebody/weights", "pretrained")
    assert kept == resnet18.weights_digest
    assert missing.startswith(
        "EnvironmentFailure WEIGHTS_MISSING: the weights 'timm/resnet18.a1_in1k' could not be fetched"
    )
    assert "local .safetensors file" in missing
