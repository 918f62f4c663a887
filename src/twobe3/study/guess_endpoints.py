"""Which columns of a clinical table are outcomes, with their times: guessed from names and values, and said so."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from twobe3.core.dates import parse_dates
from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.errors import TwoBe3Error
from twobe3.core.events import is_obvious
from twobe3.core.outcomes import Endpoint, Outcomes
from twobe3.core.table import Table, is_missing, number_rows, parse_number

_EVENT = re.compile(
    r"event|status|dead|death|died|deceas|relapse|recur|progress|metast|censor|fail|outcome|respon|surviv|remission"
    r"|alive|ereignis|tod|verstorben|rezidiv|überleb"
)
_NOT_EVENT = re.compile(r"baseline|performance|ecog|karnofsky|before|prior|site|date|datum")
_OPPOSITE = re.compile(r"censor|alive|surviv(ed|or)|free|living|lebt")  # of who did not have the event
_TIME = re.compile(
    r"time|day|week|month|year|follow|surviv|duration|zeit|tage|monat|jahr|woche|\bt\b|\b(os|pfs|dfs|efs|rfs|dmfs|lrfs|ttp)\b"
)
Unit = Literal["day", "week", "month", "year"]
_UNITS: dict[Unit, str] = {
    "day": r"days?|d|tagen?",
    "week": r"weeks?|wks?|w|wochen?",
    "month": r"months?|mos?|m|monaten?",
    "year": r"years?|yrs?|y|jahren?",
}
_YES = re.compile(
    r"y|yes|ja|j|true|dead|died|deceased|death|event|relapse.*|recurrence|progress.*|positive|pos|\+|1(\.0)?"
)
_START = re.compile(r"scan|pet|diagnos|start|baseline|inclu|enrol|imag|treat|surg")
_END = re.compile(r"letzt|tod|last|follow|death|dead|died|event|end|censor|seen|contact|relapse|recur|progress")
_AGE = re.compile(r"\bage\b|birth|\bdob\b|\balter\b|geburt")
MOST_STATES = 5


@dataclass(frozen=True)
class Guess:
    """An endpoint as a study file has it, with the outcomes that it gives, and what is not sure of it."""

    outcomes: Outcomes
    unsure: tuple[str, ...]


def name_apart(guesses: Iterable[Guess]) -> list[Guess]:
    """The guesses, of which no two have one name."""
    found: dict[str, Guess] = {}
    for guess in guesses:
        endpoint = guess.outcomes.endpoint
        names = (f"{endpoint.name} {n}" if n > 1 else endpoint.name for n in itertools.count(1))
        name = next(one for one in names if one not in found)
        found[name] = replace(guess, outcomes=replace(guess.outcomes, endpoint=replace(endpoint, name=name)))
    return [*found.values()]


def join_names(names: Iterable[str]) -> str:
    """Names of columns for people."""
    return ", ".join(map(repr, names))


def list_columns(table: Table) -> list[str]:
    """The columns that have a name."""
    return [name for name in next(iter(table.values())) if name]


def list_values(table: Table, column: str) -> list[str]:
    """The cells of a column that are filled."""
    return [row[column] for row in table.values() if not is_missing(row[column])]


def find_endpoints(table: Table, values: Mapping[str, list[str]], columns: Sequence[str]) -> Iterator[Guess]:
    """What the table may hold, each event with its times; what was asked for alone, where something was."""
    known = {column: values[column] for column in columns} if columns else values
    times = [column for column in known if _is_time(column, known[column], named=bool(columns))]
    binary = [column for column in known if len({value.lower() for value in known[column]}) == 2]
    events = [column for column in binary if columns or sounds_like_event(column)]
    dates = _find_dates(table, known)
    timed = set()
    for event in events:
        pairs = sorted(times, key=lambda time: -_similarity(time, event))
        related = bool(pairs) and _similarity(pairs[0], event) > 0
        if pairs and (columns or related or len(times) == 1):
            guess = _guess_survival(table, {"time": pairs[0]}, event, sure=bool(columns) or related)
        elif dates:
            guess = _guess_survival(table, dates, event, sure=bool(columns))
        else:
            continue
        if guess:
            timed.add(event)
            yield guess
    unused = [column for column in known if looks_like_time(table, column) and column not in events]
    for event in events:
        if event not in timed:
            yield from filter(None, [_guess_binary(table, event, [] if timed else unused)])


def sounds_like_event(column: str) -> bool:
    """Whether a column is called like an outcome."""
    return bool(_EVENT.search(to_words(column))) and not _NOT_EVENT.search(to_words(column))


def looks_like_time(table: Table, column: str) -> bool:
    """Whether a column holds times or dates, perhaps such as cannot be read."""
    words, cells = to_words(column), list_values(table, column)
    if _AGE.search(words) or len(set(cells)) < 3:
        return False
    dated = all(re.search(r"\d[-/.]\d+[-/.]\d", cell) for cell in cells)
    return dated or (bool(_TIME.search(words)) and all(parse_number(cell) is not None for cell in cells))


def to_words(column: str) -> str:
    """The name of a column in words: ``deathDays_OS`` becomes ``death days os``."""
    parted = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", column)
    return " ".join(re.findall(r"[^\W_]+", parted)).lower() or column


def _similarity(one: str, other: str) -> int:
    """How many words two names share, besides those that say time or event."""
    first, second = (set(to_words(name).split()) for name in (one, other))
    return len(first & second)


def _is_time(column: str, cells: Sequence[str], *, named: bool) -> bool:
    found = [parse_number(cell) for cell in cells]
    if len(set(found)) < 3 or not all(number is not None and number > 0 for number in found):
        return False
    return named or bool(_TIME.search(to_words(column)) and not _AGE.search(to_words(column)))


def _guess_positive(table: Table, column: str) -> tuple[str, tuple[str, ...]]:
    """Which of two values is the event, empty where that is obvious, and how it was guessed."""
    counts = Counter(list_values(table, column))
    yes = [value for value in counts if _YES.fullmatch(value.strip().lower())]
    if _OPPOSITE.search(to_words(column)) and len(yes) == 1:
        (other,) = counts.keys() - set(yes)
        return other, (f"column {column!r} says who had no event: {other!r} is taken for the event",)
    if all(is_obvious(str(value).lower().removesuffix(".0")) for value in counts):
        return "", ()
    if set(counts) == {"1", "2"}:
        return "2", (f"column {column!r}: '2' is taken for the event, as R's survival does",)
    if len(yes) == 1:
        return yes[0], (f"column {column!r}: {yes[0]!r} is taken for the event",)
    rarer = min(counts, key=lambda value: (counts[value], value))
    return rarer, (f"column {column!r}: the rarer value {rarer!r} is taken for the event",)


def _guess_binary(table: Table, column: str, times: Sequence[str]) -> Guess | None:
    positive, unsure = _guess_positive(table, column)
    if times:
        unsure = (
            *unsure,
            f"{column!r} is taken without times, and {join_names(times)} look like some: name them by --column",
        )
    return _try(table, Binary(to_words(column), column, positive), unsure)


def _find_dates(table: Table, columns: Iterable[str]) -> dict[str, str]:
    """The column of time zero and that of the last that is known, where there is one of each."""
    found = [column for column in columns if list_values(table, column) and _are_dates(table, column)]
    starts = [column for column in found if _START.search(to_words(column)) and not _END.search(to_words(column))]
    ends = [column for column in found if _END.search(to_words(column))]
    return {"start": starts[0], "end": ends[0]} if len(starts) == len(ends) == 1 else {}


def _are_dates(table: Table, column: str) -> bool:
    cells = {patient: row[column] for patient, row in table.items() if not is_missing(row[column])}
    with suppress(TwoBe3Error):
        return bool(parse_dates(cells, number_rows(table), column))
    return False


def _guess_survival(table: Table, times: Mapping[str, str], event: str, *, sure: bool) -> Guess | None:
    """An endpoint whose times are in a column ``time``, or between the dates of ``start`` and ``end``."""
    positive, unsure = _guess_positive(table, event)
    if not sure:
        unsure = (*unsure, f"the times of {event!r} are taken from {' and '.join(map(repr, times.values()))}")
    unit: Unit = "day"
    if "time" in times:
        named = [one for one, names in _UNITS.items() if re.search(rf"\b({names})\b", to_words(times["time"]))]
        if len(named) == 1:
            unit = named[0]
        else:
            longest = max(
                number for cell in list_values(table, times["time"]) if (number := parse_number(cell)) is not None
            )
            unit = "day" if longest > 400 else "month" if longest > 25 else "year"
            unsure = (*unsure, f"column {times['time']!r} is taken for {unit}s: its longest is {longest:g}")
    endpoint = TimeToEvent(
        to_words(event), times.get("time", ""), event, unit, positive=positive,
        start=times.get("start", ""), end=times.get("end", ""),
    )  # fmt: skip
    return _try(table, endpoint, unsure)


def _try(table: Table, endpoint: Endpoint, unsure: tuple[str, ...]) -> Guess | None:
    """The endpoint with what is odd about it, if the table gives outcomes for it."""
    with suppress(TwoBe3Error):
        outcomes = endpoint.outcomes(table)
        if len(outcomes) < len(table):
            unsure = (
                *unsure,
                f"{endpoint.name}: {len(table) - len(outcomes)} of {len(table)} patients have no outcome",
            )
        return Guess(outcomes, (*unsure, *(f"{endpoint.name}: {odd}" for odd in endpoint.warn(outcomes, table))))
    return None
