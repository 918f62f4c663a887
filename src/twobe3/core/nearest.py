"""What a user may have meant by a name that there is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CUTOFF = 0.6
"""Share of equal letters from which on two names are near each other."""


def find_nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that begins with a name or is most like it, capitals and separators aside; None: none is near."""
    folded, candidates = _fold(name), {one: _fold(one) for one in known}
    begun = [one for one, candidate in candidates.items() if folded and candidate.startswith(folded)]
    near = difflib.get_close_matches(folded, candidates.values(), n=1, cutoff=CUTOFF)
    return next(iter([*begun, *(one for one, candidate in candidates.items() if candidate in near)]), None)


def name_nearest(name: str, known: Iterable[str]) -> str:
    """Half a sentence for an error: ``"the nearest is 'suvmax'"``, or which names there are."""
    known = list(known)
    near = find_nearest(name, known)
    return f"there are {', '.join(map(repr, known))}" if near is None else f"the nearest is {near!r}"


def _fold(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
