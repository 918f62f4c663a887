"""Registries of things that can be named, open to other distributions by entry points."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib.metadata import entry_points
from typing import TypeVar

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure

T = TypeVar("T")
log = logging.getLogger("twobe3")


class PluginRegistry(MutableMapping[str, T]):
    """Things by their names: those of twobe3, and those of other distributions, loaded when it is first asked.

    Another distribution has an entry point in the group for each thing, under its name. One that cannot be loaded, or
    has a name that is taken, is refused with a warning and leaves the others as they are; asking for it raises why.

    Parameters
    ----------
    group : str
        Of the entry points.
    what : str
        What the things are, for messages.
    require : callable
        Takes the name and the object of an entry point, and gives the thing. Raises TypeError for what is none,
        ValueError for one of another name.
    entries : mapping, optional
        Those of twobe3.
    """

    def __init__(
        self, group: str, what: str, require: Callable[[str, object], T], entries: Mapping[str, T] | None = None
    ) -> None:
        self.group, self.what = group, what
        self._require, self._entries = require, dict(entries or {})
        self._refused: dict[str, EnvironmentFailure] | None = None

    def __getitem__(self, name: str) -> T:
        entries = self._load_all()
        if name not in entries and self._refused and name in self._refused:
            raise self._refused[name]
        return entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._load_all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._load_all())

    def __len__(self) -> int:
        return len(self._load_all())

    def __setitem__(self, name: str, entry: T) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def _load_all(self) -> dict[str, T]:
        """All entries, after those of other distributions were looked for, once."""
        if self._refused is not None:
            return self._entries
        self._refused = {}
        found = entry_points(group=self.group)
        for point in sorted(found, key=lambda one: (one.name, one.dist.name if one.dist else "")):
            try:
                entry = self._require(point.name, point.load())
                if self._entries.setdefault(point.name, entry) is not entry:
                    raise ValueError(f"there is a {self.what} {point.name!r} already")
            except Exception as error:  # whatever a stranger's module raises
                whose = point.dist.name if point.dist else point.value
                failure = EnvironmentFailure(
                    Code.PLUGIN_INVALID,
                    f"the {self.what} {point.name!r} of the distribution {whose!r}: {type(error).__name__}: {error}",
                )
                self._refused[point.name] = failure
                log.warning("%s", failure)
        return self._entries


def require_instance(kind: type[T], *, named: bool) -> Callable[[str, object], T]:
    """For a registry of instances of a class; where they are named, ``name`` must be that of the entry point."""

    def require(name: str, entry: object) -> T:
        if not isinstance(entry, kind):
            raise TypeError(f"it is no {kind.__name__}")
        own = getattr(entry, "name", None)
        if named and own != name:
            raise ValueError(f"its name is {own!r}")
        return entry

    return require
