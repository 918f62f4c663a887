"""A fitted model as a MONAI bundle, which MONAI runs without twobe3."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import torch

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.deploy.exportable import Arrays, Exportable, Exported, translating
from twobe3.io.files import require_folder, write_atomic, write_json

METADATA = Path("configs", "metadata.json")
MODEL = Path("models", "model.pt2")
TEMPLATES = files("twobe3.deploy") / "bundle_files"


def export_bundle(model: Path | str, out: Path | str) -> Exported:
    """Write a fitted model as a MONAI bundle: a folder that ``python -m monai.bundle run`` applies to NIfTI in SUV.

    Parameters
    ----------
    model : path
        A model file, or the folder that holds ``model.safetensors``.
    out : path
        The folder; a bundle that this function wrote before is replaced.

    Raises
    ------
    ConfigurationError
        ``MODEL_INVALID``; ``NOT_EXPORTABLE``, see :meth:`Exportable.read`, and where the model has covariates;
        ``OUTPUT_EXISTS``: there is a file, or a folder that holds something else.
    EnvironmentFailure
        ``EXPORT_DIFFERS``; ``WRITE_FAILED``.
    """
    out = Path(out)
    _require_output(out)
    source = Exportable.read(model)
    if source.network.covariates is not None:
        reason = f"model {source.model.name!r} has covariates, which `monai.bundle run` does not read"
        raise ConfigurationError(Code.NOT_EXPORTABLE, reason, remedy="export it to onnx, where they are an input")
    with translating(source.model):
        content = _trace(source)
        difference = source.compare(lambda inputs: _run(content, inputs))
    write_json(out / METADATA, _metadata(source))  # the first, for it says whose the folder is
    write_json(out / "configs" / "inference.json", _inference(source))
    write_atomic(out / MODEL, content)
    write_atomic(out / "docs" / "README.md", _readme(source).encode())
    write_atomic(out / "LICENSE", (TEMPLATES / "LICENSE").read_bytes())
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return Exported(out, "monai-bundle", size, difference, source.description)


def _require_output(out: Path) -> None:
    require_folder(out)
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        ours = "twobe3" in json.loads((out / METADATA).read_text())
    except (OSError, ValueError):
        ours = False
    if not ours:
        reason = f"{out.name!r} is there and holds no MONAI bundle of twobe3"
        raise ConfigurationError(Code.OUTPUT_EXISTS, reason, remedy="choose another folder")


def _trace(source: Exportable) -> bytes:
    """The network as a graph; nothing in it says where this package lies, and no scan is in it."""
    program = torch.export.export(source.network, source.example_inputs(), strict=False)
    for node in program.graph.nodes:
        for place in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn"):
            node.meta.pop(place, None)
    program.example_inputs = None
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _run(content: bytes, inputs: Arrays) -> Sequence[float]:
    network = torch.export.load(io.BytesIO(content)).module()
    return [float(one) for one in network(*map(torch.from_numpy, inputs))]


def _metadata(source: Exportable) -> dict[str, Any]:
    """What MONAI's schema asks for, and under ``twobe3`` what every export says."""
    suv = source.description["suv"]
    image = {
        "type": "image", "format": "SUV by body weight", "modality": "PT", "num_channels": 1, "dtype": "float32",
        "spatial_shape": suv["shape"], "value_range": [0, 100], "is_patch_data": False, "channel_def": {"0": "SUV"},
    }  # fmt: skip
    names = source.network.outputs
    outputs: dict[str, Any] = {
        "type": "probabilities" if "probability" in names else "regression", "format": "numbers", "dtype": "float32",
        "num_channels": len(names), "spatial_shape": [], "value_range": [], "is_patch_data": False,
        "channel_def": {str(number): name for number, name in enumerate(names)},
    }  # fmt: skip
    endpoint = source.description["endpoint"]
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "version": "0.0.1",
        "changelog": {"0.0.1": "exported by twobe3"},
        "monai_version": version("monai"),
        "pytorch_version": _plain(torch.__version__),
        "numpy_version": version("numpy"),
        "required_packages_version": {name: version(name) for name in ("nibabel", "scipy")},
        "name": source.model.name,
        "task": f"Prediction of {endpoint['name']} from PET",
        "description": f"A {source.model.kind} of twobe3, from SUV on its grid to a risk.",
        "authors": "whoever fitted the model",
        "copyright": "see LICENSE",
        "intended_use": "Research; no medical device.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": outputs}},
        "twobe3": source.description,
    }


def _inference(source: Exportable) -> dict[str, Any]:
    """The configuration that MONAI runs, for the grid of the model."""
    document: dict[str, Any] = json.loads((TEMPLATES / "inference.json").read_text())
    suv = source.description["suv"]
    columns = ["file", *source.network.outputs]
    return document | {"spatial_size": suv["shape"], "spacing_mm": suv["spacing_mm"], "columns": columns}


def _readme(source: Exportable) -> str:
    suv = source.description["suv"]
    return Template((TEMPLATES / "README.md").read_text()).substitute(
        name=source.model.name,
        kind=source.model.kind,
        version=source.description["twobe3"],
        endpoint=source.description["endpoint"]["name"],
        columns=", ".join(f"`{name}`" for name in ("file", *source.network.outputs)),
        shape=" × ".join(map(str, suv["shape"])),
        spacing=" × ".join(f"{length:g}" for length in suv["spacing_mm"]),
    )


def _plain(release: str) -> str:
    """A version without what names a build."""
    return release.split("+")[0]
