"""Which values of a column are the event: named where that is not obvious."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import BoolArray
from twobe3.core.table import Table, name_rows, number_rows, quote_cell

Value: TypeAlias = str | tuple[str, ...]
"""A value of a column, or several; empty where none is named."""

_OBVIOUS = {"1": True, "true": True, "0": False, "false": False}
_LISTED = 7


def to_values(value: Value) -> frozenset[str]:
    """The values as they compare: ``"1"``, ``"1.0"`` and ``" 1 "`` are one, and so are ``"Yes"`` and ``"yes"``."""
    return frozenset(_canonical(one) for one in ((value,) if isinstance(value, str) else value) if one)


def join_values(value: Value) -> str:
    """The values for people."""
    return value if isinstance(value, str) else " or ".join(value)


def is_obvious(value: str) -> bool:
    """Whether a value says by itself whether it is the event."""
    return value in _OBVIOUS


def spell_as_in(cells: Mapping[str, str], value: Value) -> Value:
    """A value, or several, as the cells of a column spell it first; one that they do not hold as it is."""
    spelt: dict[str, str] = {}
    for cell in cells.values():
        spelt.setdefault(_canonical(cell), cell.strip())
    if isinstance(value, str):
        return spelt.get(_canonical(value), value)
    return tuple(spelt.get(_canonical(one), one) for one in value)


def find_events(
    cells: Mapping[str, str],
    table: Table,
    column: str,
    positive: Value,
    competing: Value = "",
    *,
    censored: bool = False,
) -> tuple[BoolArray, BoolArray, Value]:
    """Tell the event from its absence and from competing events.

    Parameters
    ----------
    cells : mapping
        From the patient to the cell, which is filled.
    table : mapping
        The table of the cells, whose rows refusals name.
    column : str
        The column, as refusals call it.
    positive, competing : str or tuple of str
        The values of the event, and of competing events. Without ``positive``, 1 and true are the event, 0 and false
        are none.
    censored : bool
        Whether the absence of the event is a censoring, which nobody needs to have.

    Returns
    -------
    event, competing : ndarray of bool, shape (n,)
    positive : str or tuple of str
        What the event is in this column, as it is spelt there; a value that is not there as it was named.

    Raises
    ------
    ConfigurationError
        ``OUTCOME_INVALID``: the event is not named and not obvious, or is not in the column, or more than one other
        value is there.
    """
    keys = {patient: _canonical(cell) for patient, cell in cells.items()}
    spelt = _spell(cells, keys)
    rivals = to_values(competing)
    values = spelt.keys() - rivals
    events = to_values(positive)
    if not events:
        if odd := values - _OBVIOUS.keys():
            raise _refuse_unnamed(cells, keys, odd, table, column, rivals, censored=censored)
        events = frozenset(value for value, is_event in _OBVIOUS.items() if is_event)
        positive = tuple(spelt[value] for value in spelt if value in events) or "1"
        positive = positive[0] if len(positive) == 1 else positive
    elif len(values) > 1 and not events & values:
        named = repr(positive) if isinstance(positive, str) else " or ".join(map(repr, positive))
        listed = _list_values(cells, keys, table) if len(values) > 2 else sorted(spelt[value] for value in values)
        raise ConfigurationError(
            Code.OUTCOME_INVALID,
            f"column {column!r} has the values {listed}, not the positive class {named}",
            remedy="set `positive` to one of them",
        )
    if len(values - events) > 1:
        raise _refuse_several(cells, keys, table, column)
    found = np.array([key in events for key in keys.values()], dtype=np.bool_)
    return found, np.array([key in rivals for key in keys.values()], dtype=np.bool_), spell_as_in(cells, positive)


def _refuse_unnamed(
    cells: Mapping[str, str],
    keys: Mapping[str, str],
    odd: set[str],
    table: Table,
    column: str,
    rivals: frozenset[str],
    *,
    censored: bool,
) -> ConfigurationError:
    """Why the event can't be found in a column: it is not named, or some rows hold what it can't be."""
    values = set(keys.values()) - rivals
    if len(values) <= 2:
        spelt = [one for key, one in _spell(cells, keys).items() if key in values and one not in table] or ["..."]
        lines = (f"positive = {json.dumps(value, ensure_ascii=False)}" for value in sorted(spelt))
        return ConfigurationError(
            Code.OUTCOME_INVALID,
            f"column {column!r} has the values {_list_values(cells, keys, table)}, and which of them is the event is "
            "not obvious",
            remedy=f"write the line `{'` or `'.join(lines)}` in [endpoint]",
        )
    if not censored or not values & _OBVIOUS.keys():
        return _refuse_several(cells, keys, table, column)
    numbers = number_rows(table)
    rows = [f"{numbers[p]} ({quote_cell(cells[p].strip(), table)})" for p, key in keys.items() if key in odd]
    allowed = " or ".join(("0", "1", *sorted(rivals)))
    return ConfigurationError(
        Code.OUTCOME_INVALID,
        f"column {column!r} must hold {allowed}; {name_rows(rows)}",
        remedy="correct them, or name the values of the event in `positive` and of a competing one in `competing`",
    )


def _refuse_several(cells: Mapping[str, str], keys: Mapping[str, str], table: Table, column: str) -> ConfigurationError:
    return ConfigurationError(
        Code.OUTCOME_INVALID,
        f"column {column!r} has more than two values: {_list_values(cells, keys, table)}",
        remedy="correct the rows named, or list all values of the event: `positive = [..., ...]`",
    )


def _spell(cells: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    """From each value to how the column spells it first."""
    spelt: dict[str, str] = {}
    for patient, key in keys.items():
        spelt.setdefault(key, cells[patient].strip())
    return spelt


def _list_values(cells: Mapping[str, str], keys: Mapping[str, str], table: Table) -> str:
    """The values with how many rows have them, the most frequent first, and of the rare ones the rows."""
    numbers = number_rows(table)
    rows: dict[str, list[int]] = {}
    for patient, key in keys.items():
        rows.setdefault(key, []).append(numbers[patient])
    spelt = {key: quote_cell(one, table) for key, one in _spell(cells, keys).items()}
    ranked = sorted(rows.items(), key=lambda item: -len(item[1]))
    said = [f"{spelt[key]} ({len(of_value)})" for key, of_value in ranked[:2]]
    said += [f"{spelt[key]} in {name_rows(of_value)}" for key, of_value in ranked[2:_LISTED]]
    return "; ".join(said) + (f"; and {len(ranked) - _LISTED} more values" if len(ranked) > _LISTED else "")


def _canonical(text: str) -> str:
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        return text.casefold()
    return str(int(number)) if number.is_integer() else str(number)
