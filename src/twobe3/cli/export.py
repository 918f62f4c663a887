"""``twobe3 export``: a fitted model as a file of another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import twobe3 as tb
from twobe3.cli.output import Document, Json, print_document

Runtime = Literal["onnx", "monai-bundle"]  # as of `twobe3.deploy.exportable`, which is too slow to import for `--help`


def export(
    model: Annotated[Path, typer.Argument(help="A model file of twobe3, or the folder that holds one.")],
    to: Annotated[Runtime, typer.Option(help="onnx: one file; monai-bundle: a folder that MONAI runs.")],
    out: Annotated[Path, typer.Option(help="The file, or the folder of the bundle.")],
    as_json: Json = False,
) -> None:
    """Write a fitted network for another runtime, checked against twobe3's own prediction."""
    write = tb.deploy.export_onnx if to == "onnx" else tb.deploy.export_bundle
    print_document(write(model, out).to_json(), as_json, _lines)


def _lines(document: Document) -> list[str]:
    metadata = document["metadata"]
    inputs = [f"suv {' × '.join(map(str, metadata['suv']['shape']))}", *(one["name"] for one in metadata["covariates"])]
    return [
        f"{metadata['model']['name']}  {metadata['endpoint']['name']}",
        f"from {', '.join(inputs)} to {' and '.join(metadata['outputs'])}",
        f"differs from twobe3 by {document['difference']:.1e} on an example scan",
        f"written: {document['path']}  {document['size_bytes'] / 1e6:.1f} MB",
    ]
