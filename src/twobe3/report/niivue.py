"""The JavaScript of NiiVue as the package ipyniivue carries it; that package is found, not imported."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from gzip import compress
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote

PACKAGE, WIDGET, LICENCE = "ipyniivue", "ipyniivue/static/widget.js", "LICENSE"
# The widget holds NiiVue as an ES module in a string that is encoded for addresses, for the pages that it saves.
_EXPORTS = "%3Bexport%7B"
# An inline module exports to nobody, so it hands itself over in an event.
_HAND_OVER = '\ndispatchEvent(new CustomEvent("niivue", { detail: { Niivue, NVImage } }));\n'


@dataclass(frozen=True)
class NiiVue:
    """NiiVue's code as the text of an inline module, and under which licence it is handed on.

    Parameters
    ----------
    version : str
        Of the package ipyniivue.
    module : str
        JavaScript; when it has run, the window gets an event ``niivue`` whose detail has the classes.
    licence : str
        The text that has to go wherever the code goes.
    """

    version: str
    module: str
    licence: str

    @property
    def script_hash(self) -> str:
        """Digest of the module as a content security policy names it (W3C CSP Level 3, section 2.3.1)."""
        return hash_script(self.module)

    @property
    def packed(self) -> str:
        """The module compressed by gzip, in base64; the same bytes each time."""
        return b64encode(compress(self.module.encode(), mtime=0)).decode("ascii")


def hash_script(text: str) -> str:
    """The digest under which a content security policy allows an inline script or style."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}"


def find_niivue() -> NiiVue | None:
    """NiiVue where ipyniivue is installed and holds it in the place that is known, else nothing."""
    try:
        installed = distribution(PACKAGE)
    except PackageNotFoundError:
        return None
    widget, licence = _read(installed, WIDGET), _read(installed, LICENCE)
    at = widget.find(_EXPORTS)
    if at < 0 or not licence:
        return None
    module = unquote(widget[widget.rindex('"', 0, at) + 1 : widget.index('"', at)])
    return NiiVue(installed.version, module + _HAND_OVER, licence)


def _read(installed: Distribution, name: str) -> str:
    """The text of the first file of a distribution whose path ends in a name; empty where there is none."""
    found = [file for file in installed.files or () if Path(file).match(name)]
    return found[0].read_text(encoding="utf-8") if found else ""
