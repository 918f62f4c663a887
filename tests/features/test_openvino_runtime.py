"""Maps by OpenVINO against those of torch, whatever the network, and nothing said to anybody about it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.features.test_fold_norms import draw_statistics
from torch import nn

from twobe3.features.backbones import BACKBONES, intermediates, load_backbone, normalise
from twobe3.features.maps import show
from twobe3.features.openvino_runtime import compile_network
from twobe3.features.slices import SliceSpec
from twobe3.runtime.device import Device, MapsBy

SLICES = SliceSpec(size=48)
PICTURES = torch.rand(11, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def device(by: MapsBy, precision: str = "32") -> Device:
    return Device("cpu", precision, maps=by)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*sorted(BACKBONES), "efficientnet_lite0", "convnext_atto"])
def test_maps_are_those_of_torch(name: str, caplog: pytest.LogCaptureFixture) -> None:
    backbone = load_backbone(name, "pretrained" if name == "pet-lesions" else "random")
    draw_statistics(backbone.network)
    suv = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 1.5, (11, 48, 40)).astype(np.float32))
    pictures = show(backbone.network, suv, SLICES)
    for layer in (1, backbone.layers - 1):
        seen = normalise(pictures, backbone.mean, backbone.std)
        (expected,) = intermediates(backbone.network, seen, [layer])
        scale = expected.abs().max()
        single, half = (backbone.maps(pictures, layer, device("openvino", bits)) for bits in ("32", "bf16"))
        assert (single - expected).abs().max() <= 1e-5 * scale
        assert (half - expected).abs().max() <= 0.1 * scale
        by_torch = backbone.maps(pictures, layer, device("torch", "bf16"))
        assert 0 < (by_torch - expected).abs().max() <= 0.1 * scale
        assert by_torch.dtype == torch.float32
        alone = torch.cat([backbone.maps(one, layer, device("openvino")) for one in pictures.split(1)])
        torch.testing.assert_close(alone, single, rtol=0, atol=0)  # whoever the neighbours are
    assert not caplog.records


def test_a_network_that_openvino_does_not_take_is_left_to_torch(caplog: pytest.LogCaptureFixture) -> None:
    class Rare(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.modified_bessel_i0(x)

    assert compile_network(Rare().eval(), PICTURES.shape[1:], "32", "the rare one") is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("OpenVINO does not take the rare one (")
    assert record.getMessage().endswith("); torch computes it")


def test_a_network_whose_numbers_are_others_is_left_to_torch(caplog: pytest.LogCaptureFixture) -> None:
    class Restless(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    assert compile_network(Restless().eval(), PICTURES.shape[1:], "32", "the restless one") is None
    assert "the restless one gives other numbers" in caplog.text


def test_with_more_threads_the_maps_are_the_same() -> None:
    backbone, before = load_backbone("phantom-resnet10"), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(backbone.maps(PICTURES, 2, device("openvino")))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5 * float(found[0].abs().max()))


def test_nobody_is_told(tmp_path: Path) -> None:
    """Importing OpenVINO by itself numbers this computer, in the home folder, and reports to its makers."""
    program = """
import socket, torch
def refuse(*arguments, **named): raise AssertionError(arguments)
socket.socket.connect = socket.getaddrinfo = refuse
from twobe3.features.backbones import load_backbone
from twobe3.runtime.device import Device
load_backbone("phantom-resnet10").maps(torch.rand(1, 3, 32, 32), 1, Device("cpu", maps="openvino"))
import sys
assert "openvino" in sys.modules
"""
    asked = {"CI", "TF_BUILD", "JENKINS_URL"}  # where it is silent anyhow
    environment = {**{name: value for name, value in os.environ.items() if name not in asked}, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, env=environment)
    assert not (tmp_path / "intel").exists()
