"""A folder of arrays under content keys, each entry whole, checked, and computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from twobe3.io.arrays import to_safetensors
from twobe3.io.claims import claim
from twobe3.io.files import digest, set_aside, write_atomic

# Raise it when the same key stands for other content than before: entries of another version are made again.
CACHE_VERSION = 5

SMALL_BYTES, MOST_SMALL_BYTES = 1 << 14, 1 << 26
"""Entries of no more than the first, measurements for instance, are read once, as long as all of them are no more than
the second: every fit asks for them again."""

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass
class Cache:
    """Arrays by key, in a folder of safetensors files; in memory where no folder is given.

    The key must say everything that the content depends on, so an entry never grows stale. An entry written under
    another :data:`CACHE_VERSION` counts as absent; so does one whose checksum does not hold, or that was stored under
    another key, which is set aside with the ending ``.damaged``.

    Parameters
    ----------
    folder : path, optional
        Where the entries lie; made on first use.

    Attributes
    ----------
    computed, reused : int
        How many entries were made and how many were found since this object exists.
    """

    folder: Path | None = None
    computed: int = field(default=0, init=False)
    reused: int = field(default=0, init=False)
    _memory: dict[str, Arrays] = field(default_factory=dict, init=False, repr=False)
    _small: dict[str, Arrays] = field(default_factory=dict, init=False, repr=False, compare=False)
    _small_bytes: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.folder is not None:
            self.folder = Path(self.folder)

    def path(self, key: str) -> Path | None:
        """Where the entry of a key lies; None in memory."""
        return None if self.folder is None else self.folder / f"{key}.safetensors"

    def get_or_compute(
        self, key: str, compute: Callable[[], Arrays], *, metadata: Mapping[str, str] | None = None
    ) -> Arrays:
        """The entry of a key, a hexadecimal digest, computed and stored where it is absent.

        ``compute`` gives the arrays by name; ``metadata`` is written into the file for other tools.
        """
        arrays = self.get(key)
        if arrays is None:
            with self.claim(key):
                arrays = self.get(key)  # another run may have made it meanwhile
                if arrays is None:
                    arrays = compute()
                    self.computed += 1
                    self.put(key, arrays, metadata=metadata)
                    return arrays
        self.reused += 1
        return arrays

    def claim(self, *keys: str) -> AbstractContextManager[None]:
        """Keep other runs from computing these entries meanwhile, see :func:`~twobe3.io.claims.claim`."""
        return claim(*filter(None, map(self.path, keys)))

    def get(self, key: str) -> Arrays | None:
        """The arrays of a key, or None where it is absent or damaged."""
        path = self.path(key)
        if path is None:
            return self._memory.get(key)
        if key in self._small:
            return self._small[key]
        if not path.exists():
            return None
        arrays, whole = _read(path)
        if whole is False:
            set_aside(path)
        if not whole:
            return None
        self._keep(key, arrays)
        return arrays

    def _keep(self, key: str, arrays: Arrays) -> None:
        """Remember a small entry of a folder."""
        size = sum(array.nbytes for array in arrays.values())
        if size <= SMALL_BYTES and self._small_bytes + size <= MOST_SMALL_BYTES:
            self._small[key] = arrays
            self._small_bytes += size

    def has(self, key: str) -> bool:
        """Whether there is an entry of a key; it is not read."""
        path = self.path(key)
        return key in self._memory or (path is not None and path.exists())

    def forget(self) -> None:
        """Drop what is kept in memory; the entries of a folder stay."""
        self._memory.clear()
        self._small.clear()
        self._small_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which reads what it needs itself."""
        return {**self.__dict__, "_small": {}, "_small_bytes": 0}

    def put(self, key: str, arrays: Arrays, *, metadata: Mapping[str, str] | None = None) -> None:
        """Store the arrays of a key."""
        path = self.path(key)
        if path is None:
            self._memory[key] = arrays
            return
        described = {**(metadata or {}), "checksum": f"{CACHE_VERSION} {_seal(path, arrays)}"}
        write_atomic(path, to_safetensors(arrays, described))


@dataclass
class ReadOnlyCache(Cache):
    """The entries of a folder as they are: nothing is written there, claimed, or set aside.

    Parameters
    ----------
    keep : bool
        Whether what is computed is kept in memory; otherwise it is computed whenever it is asked for.
    """

    keep: bool = True

    def claim(self, *keys: str) -> AbstractContextManager[None]:
        """Nothing: others may compute what they like."""
        return nullcontext()

    def get(self, key: str) -> Arrays | None:
        """The arrays of a key, from memory or from the folder; None where it is absent or damaged."""
        path, kept = self.path(key), self._memory.get(key)
        if kept is not None or path is None or not path.exists():
            return kept
        arrays, whole = _read(path)
        return arrays if whole else None

    def put(self, key: str, arrays: Arrays, *, metadata: Mapping[str, str] | None = None) -> None:
        """Keep the arrays of a key in memory, or let them go."""
        if self.keep:
            self._memory[key] = arrays

    def size_bytes(self) -> int:
        """Size of what is kept in memory."""
        return sum(array.nbytes for arrays in self._memory.values() for array in arrays.values())


def _read(path: Path) -> tuple[Arrays, bool | None]:
    """The arrays of an entry, and whether they are whole, see :func:`is_whole`."""
    try:
        with safe_open(path, framework="numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a mapping
            return arrays, is_whole(path, arrays, stored.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return {}, False


def is_whole(path: Path, arrays: Arrays, metadata: Mapping[str, str]) -> bool | None:
    """Whether an entry is the one that was stored under its name; None where another version stored it."""
    version, _, written = metadata.get("checksum", "").partition(" ")
    if version.isdigit() and version != str(CACHE_VERSION):
        return None
    return (version, written) == (str(CACHE_VERSION), _seal(path, arrays))


def _seal(path: Path, arrays: Arrays) -> str:
    """Digest of key and content: an entry under the name of another one is noticed."""
    return digest([path.stem, checksum(arrays)])


def checksum(arrays: Arrays) -> str:
    """Digest of the arrays: their names, types, shapes and values."""
    parts: list[bytes | str] = []
    for name in sorted(arrays):
        array = arrays[name]
        parts += [name, str(array.dtype), str(array.shape), array.tobytes()]
    return digest(parts)
