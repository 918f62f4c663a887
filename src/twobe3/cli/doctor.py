"""What works here, and what to install for the rest."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from twobe3 import __version__


@dataclass(frozen=True)
class Check:
    """Whether one part works, with its version or what to install."""

    name: str
    works: bool
    detail: str


OPTIONAL = {
    "python-gdcm": ("JPEG lossless", "codecs"),
    "pylibjpeg-openjpeg": ("JPEG 2000", "codecs"),
    "pyjpegls": ("JPEG-LS", "codecs"),
    "timm": ("any timm backbone", "timm"),
    "mirp": ("radiomic features", "radiomics"),
    "scikit-survival": ("random survival forests, under the GPL", "survival-forest"),
    "onnxruntime": ("export to ONNX", "export"),
    "pynetdicom": ("DICOM node", "node"),
    "requests": ("DICOMweb", "node"),
    "fastapi": ("page in the browser", "serve"),
    "dask-jobqueue": ("workers of a cluster", "cluster"),
    "idc-index-data": ("index of public collections", "collections"),
}
CORE = ("numpy", "scipy", "pydicom", "torch", "lightning-fabric", "monai", "scikit-learn", "statsmodels")


def diagnose() -> tuple[Check, ...]:
    """Check versions, devices, codecs and optional parts."""
    return (
        Check("twobe3", True, __version__),
        Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *(_check(package, package, "missing: install twobe3 again") for package in CORE),
        *(
            _check(package, f"{package} ({use})", f"optional: pip install 'twobe3[{extra}]'")
            for package, (use, extra) in OPTIONAL.items()
        ),
        _try("timm imports", _timm_imports),
        _try("devices", _devices),
        _try("networks", _networks),
    )


def _check(package: str, name: str, remedy: str) -> Check:
    try:
        return Check(name, True, version(package))
    except PackageNotFoundError:
        return Check(name, False, remedy)


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except (ImportError, RuntimeError) as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def _timm_imports() -> str:
    from twobe3.features._torchvision import import_timm

    return f"{len(import_timm().list_models())} models"


def _devices() -> str:
    torch = importlib.import_module("torch")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(["cpu", *names])


def _networks() -> str:
    from twobe3.runtime.device import Device

    device = Device()
    precision = {"32": "single precision", "bf16": "mixed precision, bfloat16 being native"}[device.bits]
    return f"on {device.kind}, trained in {precision}; maps of 2D networks by {device.describe()['maps']}"
