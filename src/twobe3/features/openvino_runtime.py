"""A frozen 2D network by OpenVINO, which computes it on a CPU in a third of torch's time (extra ``[fast]``)."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import nn
from torch.nn import functional

BATCH: Final = 8  # pictures at once: what they need on the way through a network stays in a processor's cache
CLOSE: Final = {"32": 1e-5, "bf16": 0.1}  # of the largest value, by which outputs may differ from torch's
PRECISION: Final = {"32": "f32", "bf16": "bf16"}
log = logging.getLogger("twobe3")


@dataclass(frozen=True, eq=False)
class CompiledNetwork:
    """A network for pictures of one shape, see :func:`compile_network`."""

    request: Any

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Outputs for pictures, (n, channels, height, width); those of a picture do not depend on the others."""
        outputs = []
        for part in torch.split(pictures, BATCH):
            whole = functional.pad(part, (*[0] * 7, BATCH - len(part))).contiguous()
            outputs.append(torch.from_numpy(self.request.infer([whole.numpy()])[0][: len(part)]))
        return torch.cat(outputs)


def compile_network(
    network: nn.Module, picture: torch.Size, bits: Literal["32", "bf16"], name: str
) -> CompiledNetwork | None:
    """Compile a network in evaluation mode for pictures of one shape, on as many threads as torch has.

    Parameters
    ----------
    network : Module
        From pictures, (n, channels, height, width), to one tensor whose first axis is theirs; stays as it is.
    picture : Size
        (channels, height, width).
    bits : {"32", "bf16"}
        Single precision, or bfloat16, which computes as fast as the processor has instructions for it.
    name : str
        What a warning calls it.

    Returns
    -------
    CompiledNetwork or None
        None, with a warning, where OpenVINO does not take the network, or its outputs for a picture of noise differ
        from torch's by more than 1e-5 of the largest, in bfloat16 a tenth.
    """
    noise = 2 * torch.rand(1, *picture, generator=torch.Generator().manual_seed(0))
    try:
        compiled = _compile(network, noise, bits)
        found = compiled(noise)
    except Exception as error:  # each part of OpenVINO has classes of its own
        log.warning("OpenVINO does not take %s (%s); torch computes it", name, str(error).strip().split("\n")[-1])
        return None
    with torch.no_grad():
        expected = network(noise)
    if found.shape == expected.shape and (found - expected).abs().max() <= CLOSE[bits] * expected.abs().max():
        return compiled
    log.warning("%s gives other numbers with OpenVINO than with torch, which therefore computes it", name)
    return None


def _compile(network: nn.Module, picture: torch.Tensor, bits: Literal["32", "bf16"]) -> CompiledNetwork:
    # Where it finds `openvino_telemetry`, importing OpenVINO numbers this computer, in the home folder, and reports to
    # its makers; where it does not, it does without.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        # Tracing is deprecated, and shapes become constants, which they are: the pictures have one shape.
        warnings.simplefilter("ignore")
        traced = torch.jit.freeze(torch.jit.trace(network, picture, check_trace=False))  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced, skip_freeze=True)  # has to outlive the conversion
        frontend = FrontEndManager().load_by_framework("pytorch")
        graph = frontend.load(decoder)
        (seen,) = graph.get_inputs()
        graph.set_element_type(seen, openvino.Type.f32)
        graph.set_partial_shape(seen, openvino.PartialShape([BATCH, *picture.shape[1:]]))
        model = frontend.convert(graph)
    how = {
        "INFERENCE_PRECISION_HINT": PRECISION[bits],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # processes side by side would all take the first core
    }
    return CompiledNetwork(openvino.Core().compile_model(model, "CPU", how).create_infer_request())
