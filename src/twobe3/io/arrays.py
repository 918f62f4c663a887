"""Arrays as the bytes of a safetensors file: the same ones for the same content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

_LENGTH_BYTES = 8


def to_safetensors(arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file with its metadata in the order of their names.

    The library writes metadata in another order each time. Its header is JSON, preceded by its length in 8 bytes, the
    lowest first, and filled up with blanks to a multiple of 8 (safetensors, "Format").

    Parameters
    ----------
    arrays : mapping
        Arrays by name, of any layout.
    metadata : mapping
        Texts by name.
    """
    content = save({name: np.asarray(array, order="C") for name, array in arrays.items()}, dict(metadata))
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES:end])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return b"".join((len(text).to_bytes(_LENGTH_BYTES, "little"), text, memoryview(content)[end:]))
