"""Weights of 2D and 3D networks: out of a file, the package or the Hugging Face hub, and into a network key by key."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure

State = dict[str, torch.Tensor]
SourceKind = Literal["none", "pretrained", "random", "package", "hub", "file"]
HUB_FILE = "model.safetensors"
HUB_TIMEOUT_S = 10.0
_NAMES: dict[str, SourceKind] = {"": "none", "pretrained": "pretrained", "random": "random"}
_SCHEMES: dict[str, SourceKind] = {"package": "package", "hf": "hub"}
_FILE = re.compile(r"\.{0,2}[/\\].*|[A-Za-z]:[/\\].*|[^:]*\.(safetensors|pt|pth|ckpt|bin|tar)")


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights of a network come from; ``str`` gives the text that :meth:`parse` takes.

    Attributes
    ----------
    kind : {"none", "pretrained", "random", "package", "hub", "file"}
        ``pretrained`` stands for the weights that the network's row names, ``none`` for training from scratch.
    location : str
        File in this package, repository of the Hugging Face hub, or path; empty for the other kinds.
    """

    kind: SourceKind
    location: str = ""

    @classmethod
    def parse(cls, text: str) -> WeightsSource:
        """Read ``""``, ``"pretrained"``, ``"random"``, ``"package:file"``, ``"hf:owner/repository"`` or a path.

        A path has the suffix of a weights file, or begins with ``/``, ``./`` or ``../``.

        Raises
        ------
        ConfigurationError
            ``WEIGHTS_MISSING``: the text is none of these, or may be several.
        """
        if text in _NAMES:
            return cls(_NAMES[text])
        scheme, _, location = text.partition(":")
        if scheme in _SCHEMES and location:
            return cls(_SCHEMES[scheme], location)
        if _FILE.fullmatch(text):
            return cls("file", text)
        raise ConfigurationError(
            Code.WEIGHTS_MISSING,
            f"weights {text!r} name neither a file nor a known source",
            remedy="give 'pretrained', 'random', 'hf:owner/repository', or a file, with its suffix or as './name'",
        )

    def __str__(self) -> str:
        schemes = {kind: f"{scheme}:" for scheme, kind in _SCHEMES.items()}
        return "" if self.kind == "none" else schemes.get(self.kind, "") + (self.location or self.kind)

    @property
    def is_file(self) -> bool:
        """Whether the weights are a local file."""
        return self.kind == "file"

    @property
    def label(self) -> str:
        """The source without the folders of this machine: a file by its name alone."""
        return _as_file(Path(self.location).name) if self.is_file else str(self)

    def relative_to(self, folder: Path) -> WeightsSource:
        """The same source, a relative path starting from ``folder``, such as that of a study file."""
        if not self.is_file:
            return self
        return replace(self, location=_as_file(str(folder / self.location)))

    def read(self, name: str) -> tuple[State, Mapping[str, str]]:
        """Read the parameters, and the metadata of a safetensors file; ``name`` is that of the network, for messages.

        Raises
        ------
        ConfigurationError
            ``WEIGHTS_MISSING``: the file does not exist, or the source names none. ``WEIGHTS_MISMATCH``: it is neither
            a safetensors file nor a checkpoint of torch that holds nothing but arrays.
        EnvironmentFailure
            ``WEIGHTS_MISSING``: the hub cannot be reached.
        """
        match self.kind:
            case "file":
                return _read_file(Path(self.location), name)
            case "hub":
                return _read_file(_download(self.location), name)
            case "package":
                with as_file(files("twobe3.features") / "data" / self.location) as packaged:
                    return _read_file(packaged, name)
        raise ConfigurationError(Code.WEIGHTS_MISSING, f"{name!r} has no pre-trained weights of its own")


def _as_file(path: str) -> str:
    """A path as :meth:`WeightsSource.parse` takes it for one."""
    return path if _FILE.fullmatch(path) else f"./{path}"


def load_strictly(network: nn.Module, state: State, name: str, *, what: str = "backbone") -> None:
    """Fill a network with weights that must fit key by key; counters of batches may be absent.

    Raises ConfigurationError ``WEIGHTS_MISMATCH`` with the keys that do not fit.
    """
    wanted = network.state_dict()
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    absent = sorted(wanted.keys() - state.keys() - counters)
    surplus = sorted(state.keys() - wanted.keys())
    misshapen = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    if absent or surplus or misshapen:
        kinds = {"missing": absent, "unexpected": surplus, "of another shape": misshapen}
        differences = "; ".join(
            f"{len(keys)} {kind} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
            for kind, keys in kinds.items()
            if keys
        )
        raise ConfigurationError(Code.WEIGHTS_MISMATCH, f"the weights do not fit {what} {name!r}: {differences}")
    network.load_state_dict({**{key: wanted[key] for key in counters}, **state})


def _read_file(path: Path, name: str) -> tuple[State, Mapping[str, str]]:
    """Parameters of a safetensors file with its metadata, or of a checkpoint; nothing in the file is executed."""
    if not path.is_file():
        raise ConfigurationError(Code.WEIGHTS_MISSING, f"the weights file {path.name!r} of {name!r} does not exist")
    notes: Mapping[str, str] = {}
    try:
        with safe_open(path, framework="pt") as opened:
            notes = opened.metadata() or {}
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  not a mapping
    except SafetensorError:
        state = _read_checkpoint(path)
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, notes


def _read_checkpoint(path: Path) -> State:
    """A checkpoint of torch: its dictionary may lie under ``state_dict``, its keys may begin with ``module.``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the age of the format
            found = torch.load(path, "cpu", weights_only=True)
        arrays = found.get("state_dict", found).items()
    except Exception:  # of a file that is something else, torch's reader raises what it likes
        reason = f"{path.name!r} is neither a safetensors file nor a checkpoint that holds nothing but arrays"
        raise ConfigurationError(Code.WEIGHTS_MISMATCH, reason) from None
    return {str(key).removeprefix("module."): value for key, value in arrays if isinstance(value, torch.Tensor)}


def _download(repository: str) -> Path:
    """The file of a repository in the hub's local cache, fetched on first use."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # slow to import, and rarely needed
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, HUB_FILE, local_files_only=True))
    except HFValidationError:
        raise ConfigurationError(
            Code.WEIGHTS_MISSING, f"hf:{repository} does not name a repository of the Hugging Face hub"
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
            remedy="connect once, give `weights` a local .safetensors file, or take backbone 'phantom-resnet10',"
            " whose weights are in the package",
        ) from None
