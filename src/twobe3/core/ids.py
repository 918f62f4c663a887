"""Patient ids that nearly match: what two spellings of what may be one id differ by."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

_INVISIBLE = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]+")
_STEPS: Mapping[str, Callable[[str], str]] = {
    "spaces": lambda text: _INVISIBLE.sub("", text),
    "case": str.casefold,
    "a decimal point": lambda text: re.sub(r"(?<=\d)\.0+$", "", text),
    "leading zeros": lambda text: re.sub(r"(?<!\d)0+(?=\d)", "", text),
    "the form of their characters": lambda text: unicodedata.normalize("NFKC", text),
    "punctuation": lambda text: re.sub(r"[^\w]|_", "", text),
}


def match_nearly(ids: Iterable[str], others: Collection[str]) -> dict[str, tuple[str, str]]:
    """Of ids that are not among others: which of the others nearly is the same, and what the two differ by.

    The differences are those that spreadsheets and people make: spaces, case, ``12.0`` for ``12``, leading zeros, forms
    of Unicode, punctuation. Nearly the same is no proof of one patient, so nobody takes it for one.

    Returns
    -------
    dict
        From the id to the other id and the difference, for instance ``"leading zeros"``; ids without any are not in it.
    """
    forms: dict[str, str] = {}
    for other in others:
        forms.setdefault(_reduce(other), other)
    near = ((one, forms.get(_reduce(one))) for one in ids if one not in others)
    return {one: (other, _name_difference(one, other)) for one, other in near if other is not None}


def count_differences(near: Mapping[str, tuple[str, str]], what: str, others: str) -> tuple[str, ...]:
    """A sentence for each difference of :func:`match_nearly`, with how many ids have it; no id."""
    counts = Counter(difference for _, difference in near.values())
    return tuple(
        (f"1 of the {what} differs from an id" if n == 1 else f"{n} {what} differ from ids")
        + f" of {others} by {difference} alone"
        for difference, n in counts.most_common()
    )


def _reduce(text: str) -> str:
    # Characters first: what they are decides what is a space, a letter or a digit.
    for name in ("the form of their characters", "spaces", "case", "a decimal point", "punctuation", "leading zeros"):
        text = _STEPS[name](text)
    return text


def _name_difference(one: str, other: str) -> str:
    """The one step that makes two ids equal, or the steps that it takes together."""
    for name, step in _STEPS.items():
        if step(one) == step(other):
            return name
    taken: list[str] = []
    for name, step in _STEPS.items():
        if (step(one), step(other)) != (one, other):
            taken.append(name)
        one, other = step(one), step(other)
        if one == other:
            break
    return " and ".join(taken)
