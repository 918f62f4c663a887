"""Weights of 2D and 3D networks: out of a file, the package or the Hugging Face hub, and into a network key by key."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure

State = dict[str, torch.Tensor]
HUB_PREFIX = "hf:"
PACKAGE_PREFIX = "package:"
NAMED_WEIGHTS = ("pretrained", "random")
HUB_FILE = "model.safetensors"
HUB_TIMEOUT_S = 10.0


def is_weights_file(weights: str) -> bool:
    """Whether these weights are a local file, rather than had by a name."""
    return weights not in NAMED_WEIGHTS and not weights.startswith(HUB_PREFIX)


def read_weights(name: str, source: str) -> tuple[State, Mapping[str, str]]:
    """The parameters of a source, and what the file says of them.

    Parameters
    ----------
    name : str
        Of the network, for messages.
    source : str
        A local safetensors file, ``"hf:owner/repository"``, ``"package:file"``, or "" where there are none.

    Raises
    ------
    ConfigurationError
        ``WEIGHTS_MISSING``, ``WEIGHTS_MISMATCH``: the file is not there, or not a safetensors file.
    EnvironmentFailure
        ``WEIGHTS_MISSING`` when the hub cannot be reached.
    """
    if not source:
        raise ConfigurationError(Code.WEIGHTS_MISSING, f"backbone {name!r} has no pre-trained weights of its own")
    if source.startswith(HUB_PREFIX):
        return _read_file(_from_hub(source.removeprefix(HUB_PREFIX)), name)
    if source.startswith(PACKAGE_PREFIX):
        with as_file(files("twobe3.features") / "data" / source.removeprefix(PACKAGE_PREFIX)) as packaged:
            return _read_file(packaged, name)
    return _read_file(Path(source), name)


def load_strictly(network: nn.Module, state: State, name: str, *, what: str = "backbone") -> None:
    """Fill a network with weights that must fit key by key; counters of batches may be absent.

    Raises
    ------
    ConfigurationError
        ``WEIGHTS_MISMATCH`` with the keys that do not fit.
    """
    wanted = network.state_dict()
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    absent = sorted(wanted.keys() - state.keys() - counters)
    surplus = sorted(state.keys() - wanted.keys())
    misshapen = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    if absent or surplus or misshapen:
        kinds = {"missing": absent, "unexpected": surplus, "of another shape": misshapen}
        told = "; ".join(
            f"{len(keys)} {kind} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
            for kind, keys in kinds.items()
            if keys
        )
        raise ConfigurationError(Code.WEIGHTS_MISMATCH, f"the weights do not fit {what} {name!r}: {told}")
    network.load_state_dict({**{key: wanted[key] for key in counters}, **state})


def _read_file(path: Path, name: str) -> tuple[State, Mapping[str, str]]:
    if not path.is_file():
        raise ConfigurationError(
            Code.WEIGHTS_MISSING, f"the weights file {path.name!r} of backbone {name!r} does not exist"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            notes: Mapping[str, str] = opened.metadata() or {}
        state = load_file(path)
    except SafetensorError as error:
        raise ConfigurationError(Code.WEIGHTS_MISMATCH, f"{path.name!r} is not a safetensors file: {error}") from None
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, notes


def _from_hub(repository: str) -> Path:
    """The weights in the hub's local cache, fetched on first use."""
    try:
        return Path(hf_hub_download(repository, HUB_FILE, local_files_only=True))
    except HFValidationError:
        raise ConfigurationError(
            Code.WEIGHTS_MISSING, f"{HUB_PREFIX}{repository} does not name a repository of the Hugging Face hub"
        ) from None
    except LocalEntryNotFoundError:
        pass
    try:
        # A download retries for half a minute where there is no network; this one question tells at once.
        get_hf_file_metadata(hf_hub_url(repository, HUB_FILE), timeout=HUB_TIMEOUT_S)
        return Path(hf_hub_download(repository, HUB_FILE))
    except Exception as error:  # the hub's client passes on the errors of its HTTP library, which changes
        raise EnvironmentFailure(
            Code.WEIGHTS_MISSING,
            f"the weights {repository!r} could not be fetched from the Hugging Face hub ({type(error).__name__})",
            remedy="connect once, or give `weights` a local .safetensors file",
        ) from None
