"""Make timm importable beside a CPU build of torch.

timm imports torchvision. The wheel of torchvision on the package registry is built for the CUDA build of torch;
beside the CPU build its compiled operators do not load, and ``import torchvision`` fails because it registers a
Python kernel for an operator that nobody declared: ``operator torchvision::nms does not exist``. Declaring the
two operators is enough: calling them still raises, and nothing here calls them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # the declarations live as long as this object


def import_timm() -> ModuleType:
    """Import timm, declaring torchvision's operators first where its own cannot be loaded. Raises ImportError."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _declared.append(library)
    return importlib.import_module("timm")
