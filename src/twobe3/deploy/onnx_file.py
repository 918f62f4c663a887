"""A fitted model as one ONNX file."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.deploy.exportable import Arrays, Exportable, Exported, translating
from twobe3.deploy.pooling import translate_pooling
from twobe3.io.files import require_folder, write_atomic

OPSET = 20
PRODUCER = "twobe3"


def export_onnx(model: Path | str, out: Path | str) -> Exported:
    """Write a fitted model as one ONNX file, checked in onnxruntime against the model itself.

    Inputs are ``suv``, float32 of the shape of the model's grid (slices, rows, columns), and where the model has
    covariates ``covariates``, float32 of shape (n,). Outputs are ``risk`` and, for a binary endpoint, ``probability``,
    float32 of shape (). The metadata say how a scan comes onto the grid; values that are no text are JSON.

    Parameters
    ----------
    model : path
        A model file, or the folder that holds ``model.safetensors``.
    out : path
        The file; one that this function wrote before is replaced.

    Raises
    ------
    ConfigurationError
        ``MODEL_INVALID``; ``NOT_EXPORTABLE``, see :meth:`Exportable.read`; ``OUTPUT_EXISTS``: what is there is no file,
        or of another maker.
    EnvironmentFailure
        ``EXTRA_MISSING``: the extra ``[export]``; ``EXPORT_DIFFERS``; ``WRITE_FAILED``.
    """
    out = Path(out)
    extra = _import_extra()
    _require_output(out, extra.onnx)
    source = Exportable.read(model)
    with translating(source.model):
        converted = torch.onnx.export(
            source.network,
            source.example_inputs(),
            input_names=source.network.inputs,
            output_names=source.network.outputs,
            opset_version=OPSET,
            custom_translation_table=translate_pooling(extra.operators, extra.tensor),
            verbose=False,
        )
        assert converted is not None
        content = _finish(converted.model_proto, source).SerializeToString(deterministic=True)
        difference = source.compare(lambda inputs: _run(extra.runtime, content, inputs))
    write_atomic(out, content)
    return Exported(out, "onnx", len(content), difference, source.description)


class _Extra(NamedTuple):
    """What the extra ``[export]`` brings."""

    onnx: Any
    runtime: Any
    operators: Any
    tensor: Any


def _import_extra() -> _Extra:
    try:
        onnx, runtime, script, ir = map(importlib.import_module, ("onnx", "onnxruntime", "onnxscript", "onnx_ir"))
    except ImportError as error:
        raise EnvironmentFailure(
            Code.EXTRA_MISSING,
            f"ONNX files are written with onnx, onnxscript and onnxruntime; {error.name} is not installed",
            remedy="pip install 'twobe3[export]'",
        ) from None
    return _Extra(onnx, runtime, getattr(script, f"opset{OPSET}"), ir.tensor)


def _require_output(out: Path, onnx: Any) -> None:
    if out.is_dir():
        remedy = f"name a file in it, for instance {out.name or '.'}/model.onnx"
        raise ConfigurationError(Code.OUTPUT_EXISTS, f"{out.name or out} is a folder, not a file", remedy=remedy)
    require_folder(out.parent)
    if not out.exists():
        return
    try:
        ours = onnx.load(out, load_external_data=False).producer_name == PRODUCER
    except Exception:  # whatever the parser of a foreign file raises
        ours = False
    if not ours:
        reason = f"{out.name!r} is there and is no ONNX file of twobe3"
        raise ConfigurationError(Code.OUTPUT_EXISTS, reason, remedy="choose another file")


def _finish(proto: Any, source: Exportable) -> Any:
    """Say what the file is, and nothing of where it was made: nodes come with the paths of source files."""
    for graph in (proto.graph, *proto.functions):
        graph.ClearField("metadata_props")
        for item in (*graph.node, *graph.value_info):
            item.ClearField("metadata_props")
            item.ClearField("doc_string")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.ClearField("metadata_props")
    del proto.metadata_props[:]
    for key, value in source.description.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        proto.metadata_props.add(key=key, value=text)
    proto.producer_name, proto.producer_version = PRODUCER, __version__
    proto.graph.name = source.model.kind
    return proto


def _run(runtime: Any, content: bytes, inputs: Arrays) -> Sequence[float]:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return [float(one) for one in session.run(None, dict(zip(names, inputs, strict=True)))]
