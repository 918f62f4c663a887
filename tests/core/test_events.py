from collections.abc import Sequence
from typing import Any

import pytest

from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.table import NumberedTable


def table(events: Sequence[str]) -> NumberedTable:
    """A table of a file whose patients stand from line 2 on; everybody has a time."""
    rows = {f"XYZZY{i}": {"id": f"XYZZY{i}", "t": str(300 + i), "e": event} for i, event in enumerate(events)}
    return NumberedTable(rows, {patient: i for i, patient in enumerate(rows, start=2)})


@pytest.mark.parametrize(
    ("values", "events", "named"),
    [
        (("1", "0", "1"), [1, 0, 1], "1"),
        (("1.0", "0.0", " 1 "), [1, 0, 1], "1.0"),
        (("TRUE", "False", "true"), [1, 0, 1], "TRUE"),
        (("True", "0", "1"), [1, 0, 1], "True or 1"),
    ],
)
def test_ones_and_truths_are_events_without_a_word(values: Sequence[str], events: list[int], named: str) -> None:
    """Acceptance row 68."""
    binary = Binary("relapse", "e").outcomes(table(values))
    timed = TimeToEvent("relapse", "t", "e").outcomes(table(values))
    assert binary.event.tolist() == timed.event.tolist() == [bool(event) for event in events]
    assert binary.endpoint.event_definition == timed.endpoint.event_definition == f"e = {named}"


@pytest.mark.parametrize(
    ("values", "says", "lines"),
    [
        (("1", "2", "2"), "'2' (2); '1' (1)", 'positive = "1"` or `positive = "2"'),
        (("yes", "no", "yes"), "'yes' (2); 'no' (1)", 'positive = "no"` or `positive = "yes"'),
        (("0", "2", "0"), "'0' (2); '2' (1)", 'positive = "0"` or `positive = "2"'),
        (("WAHR", "FALSCH", "WAHR"), "'WAHR' (2); 'FALSCH' (1)", 'positive = "FALSCH"` or `positive = "WAHR"'),
        (("Yes", "yes", "YES"), "'Yes' (3)", 'positive = "Yes"'),
    ],
)
def test_other_values_must_be_named_and_the_line_to_write_is_said(values: Sequence[str], says: str, lines: str) -> None:
    """Acceptance row 68."""
    for endpoint in (Binary("y", "e"), TimeToEvent("y", "t", "e")):
        with pytest.raises(ConfigurationError) as refused:
            endpoint.outcomes(table(values))
        assert str(refused.value) == (
            f"OUTCOME_INVALID: column 'e' has the values {says}, and which of them is the event is not obvious"
            f" (write the line `{lines}` in [endpoint])"
        )


@pytest.mark.parametrize(
    ("values", "positive", "events", "named"),
    [
        (("1", "2", "2"), "2", [0, 1, 1], "2"),  # as `lung` of R's package survival: 1 is censored, 2 is dead
        (("1", "2.0", "2"), "1.0", [1, 0, 0], "1"),
        (("Yes", "no", "yes "), "YES", [1, 0, 1], "Yes"),
        (("relapse", "death", "alive"), ("relapse", "Death", "lost"), [1, 1, 0], "relapse or death or lost"),
        (("1", "0", "0"), "0", [0, 1, 1], "0"),
    ],
)
def test_the_event_is_what_is_named(values: Sequence[str], positive: Any, events: list[int], named: str) -> None:
    """Acceptance row 68; results show it as the data spell it."""
    for endpoint in (Binary("y", "e", positive), TimeToEvent("y", "t", "e", positive=positive)):
        outcomes = endpoint.outcomes(table(values))
        assert outcomes.event.tolist() == [bool(event) for event in events]
        assert outcomes.endpoint.event_definition == f"e = {named}"


def test_a_competing_event_may_be_a_text_where_the_event_is_named() -> None:
    endpoint = TimeToEvent("relapse", "t", "e", competing="death", positive="relapse")
    outcomes = endpoint.outcomes(table(["Relapse", "alive", "DEATH"]))
    assert outcomes.event.tolist() == [True, False, False]
    assert outcomes.competing.tolist() == [False, False, True]
    assert outcomes.endpoint.event_definition == "e = Relapse, competing = DEATH"


def test_values_of_which_more_than_two_are_left_are_refused_with_their_rows() -> None:
    cases: list[tuple[Any, Sequence[str], str]] = [
        (Binary("y", "e", "yes"), ("yes", "no", "perhaps"), "more than two values: 'yes' (1); 'no' (1); 'perhaps' in"),
        (TimeToEvent("y", "t", "e", positive="2"), ("2", "1", "3"), "'2' (1); '1' (1); '3' in row 4"),
        (TimeToEvent("y", "t", "e"), ("0", "1", "yes"), "must hold 0 or 1; row 4 ('yes')"),
        (TimeToEvent("y", "t", "e", competing="2"), ("0", "1", "3"), "must hold 0 or 1 or 2; row 4 ('3')"),
        (Binary("y", "e", "maybe"), ("yes", "no", "no"), "['no', 'yes'], not the positive class 'maybe'"),
        (TimeToEvent("y", "t", "e", positive="maybe"), ("yes", "no", "no"), "not the positive class 'maybe'"),
    ]
    for endpoint, values, says in cases:
        with pytest.raises(ConfigurationError) as refused:
            endpoint.outcomes(table(values))
        assert says in str(refused.value)
        assert "XYZZY" not in str(refused.value)


def test_nobody_with_the_event_is_no_typing_error() -> None:
    with pytest.raises(ConfigurationError, match="ONE_CLASS: endpoint 'y': 0 of 2 patients"):
        TimeToEvent("y", "t", "e", positive="2").outcomes(table(["1", "1"]))


@pytest.mark.parametrize("endpoint", [Binary("y", "id"), TimeToEvent("y", "t", "id"), TimeToEvent("y", "id", "e")])
def test_a_column_of_patient_ids_is_refused_without_any(endpoint: Any) -> None:
    for n in (2, 9):
        with pytest.raises(ConfigurationError) as refused:
            endpoint.outcomes(table(["0", "1"] + ["1"] * (n - 2)))
        assert "XYZZY" not in str(refused.value)
        assert "a patient id" in str(refused.value)
