from typing import Any

import numpy as np
import pytest

from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.core.table import is_missing, require_columns

MISSING_WORDS = ["", " ", "NA", "n/a", "NaN", "none", "NULL", "?", "-"]


def table(column: dict[str, str], name: str = "y") -> dict[str, dict[str, str]]:
    return {patient: {name: value} for patient, value in column.items()}


def times(rows: dict[str, tuple[str, str]]) -> dict[str, dict[str, str]]:
    return {patient: {"t": time, "e": event} for patient, (time, event) in rows.items()}


def test_a_binary_endpoint() -> None:
    outcomes = Binary("y", "y").outcomes(table({"a": "1", "b": "0", "c": " 1.0 ", "d": "NA", "e": "0.0"}))
    assert outcomes.patients == ("a", "b", "c", "e")
    assert outcomes.value.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert outcomes.event.tolist() == [True, False, True, False]
    assert (len(outcomes), outcomes.n_events) == (4, 2)


@pytest.mark.parametrize(
    ("positive", "values"),
    [("yes", ("yes", "no")), ("20230102", ("20230102", "20230101")), ("0.1", ("0.10", "0.2")), ("-1", ("-1.0", "1"))],
)
def test_the_positive_class_is_found_by_its_value(positive: str, values: tuple[str, str]) -> None:
    outcomes = Binary("y", "y", positive).outcomes(table({"a": values[0], "b": values[1]}))
    assert outcomes.event.tolist() == [True, False]


@pytest.mark.parametrize("word", MISSING_WORDS)
def test_a_cell_can_say_that_nothing_is_known(word: str) -> None:
    assert is_missing(word)
    assert Binary("y", "y").outcomes(table({"a": "1", "b": word, "c": "0"})).patients == ("a", "c")


def test_no_number_and_no_cell() -> None:
    assert is_missing(None)
    assert not is_missing("0")


@pytest.mark.parametrize(
    ("values", "positive", "says"),
    [
        (("0", "1", "2"), "1", "has more than two values: '0' \\(1\\); '1' \\(1\\); '2' in row 3"),
        (("m", "f", "m"), "1", r"OUTCOME_INVALID.*\['f', 'm'\], not the positive class '1' \(set `positive`"),
        (("1", "1", "1.0"), "1", "ONE_CLASS: endpoint 'y': 3 of 3 patients"),
        (("0", "0", "NA"), "1", "ONE_CLASS: endpoint 'y': 0 of 2 patients"),
        (("", "?", "NA"), "1", "ONE_CLASS: endpoint 'y': 0 of 0 patients"),
    ],
)
def test_a_binary_column_that_is_none(values: tuple[str, ...], positive: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Binary("y", "y", positive).outcomes(table(dict(zip("abc", values, strict=True))))


def test_a_time_to_an_event() -> None:
    rows = times({"a": ("10", "1"), "b": ("2.5", "0"), "c": ("", "1"), "d": ("7", "NA"), "e": ("1e2", "1.0")})
    outcomes = TimeToEvent("os", "t", "e", "month").outcomes(rows)
    assert outcomes.patients == ("a", "b", "e")
    assert outcomes.value.tolist() == [10.0, 2.5, 100.0]
    assert outcomes.event.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (("0", "1"), r"column 't' must hold a time above 0; row 2 \('0'\)"),
        (("-3", "1"), r"row 2 \('-3'\)"),
        (("inf", "1"), r"row 2 \('inf'\)"),
        (("soon", "1"), r"row 2 \('soon'\)"),
        (("5", "2"), r"column 'e' must hold 0 or 1; row 2 \('2'\)"),
        (("5", "yes"), r"row 2 \('yes'\)"),
    ],
)
def test_a_row_that_is_no_time_to_an_event_is_named(bad: tuple[str, str], says: str) -> None:
    rows = times({"p1": ("4", "1"), "p2": bad, "p3": ("5", "0")})
    with pytest.raises(ConfigurationError, match=f"OUTCOME_INVALID: .*{says}"):
        TimeToEvent("os", "t", "e").outcomes(rows)


def test_five_rows_are_named_and_the_rest_counted() -> None:
    rows = table({f"p{i}": "x" for i in range(8)})
    with pytest.raises(ConfigurationError, match=r"rows 1 \('x'\), .*5 \('x'\) and 3 more \("):
        Continuous("age", "y").outcomes(rows)


def test_nobody_has_the_event() -> None:
    with pytest.raises(ConfigurationError, match="ONE_CLASS: endpoint 'os': 0 of 2 patients have it"):
        TimeToEvent("os", "t", "e").outcomes(times({"a": ("1", "0"), "b": ("2", "0")}))


def test_everybody_has_the_event() -> None:
    assert TimeToEvent("os", "t", "e").outcomes(times({"a": ("1", "1"), "b": ("2", "1")})).n_events == 2


def test_a_continuous_endpoint() -> None:
    outcomes = Continuous("age", "y", "year").outcomes(table({"a": "61.5", "b": "", "c": "-2"}))
    assert outcomes.patients == ("a", "c")
    assert outcomes.value.tolist() == [61.5, -2.0]
    assert outcomes.event.all()


@pytest.mark.parametrize("endpoint", [Binary("y", "no"), TimeToEvent("y", "y", "no"), Continuous("y", "no")])
def test_a_column_that_is_not_there(endpoint: Any) -> None:
    with pytest.raises(ConfigurationError, match="COLUMN_MISSING: the clinical table has no column 'no'; it has y, z"):
        endpoint.outcomes({"a": {"y": "1", "z": "0"}})


def test_an_empty_table_has_no_column() -> None:
    with pytest.raises(ConfigurationError, match="COLUMN_MISSING"):
        require_columns({}, ["y"])


def test_outcomes_of_some_patients() -> None:
    outcomes = Outcomes(Binary("y", "y"), ("a", "b", "c"), np.array([1.0, 0.0, 1.0]), np.array([True, False, True]))
    for some in (outcomes.subset([2, 1]), outcomes.of(["c", "b"])):
        assert some.patients == ("c", "b")
        assert some.value.tolist() == [1.0, 0.0]
        assert some.event.tolist() == [True, False]
    with pytest.raises(KeyError):
        outcomes.of(["a", "x"])
    with pytest.raises(ValueError, match="one length"):
        Outcomes(outcomes.endpoint, ("a",), outcomes.value, outcomes.event)


def prediction(patients: str, risk: list[float], **more: Any) -> Prediction:
    return Prediction("m", "y", tuple(patients), np.array(risk), **more)


def test_folds_are_joined() -> None:
    parts = [
        prediction("ab", [1.0, 2.0], probability=np.array([0.1, 0.2])).in_fold(0, 0),
        prediction("c", [3.0], probability=np.array([0.3])).in_fold(0, 1),
        prediction("abc", [4.0, 5.0, 6.0], probability=np.array([0.4, 0.5, 0.6])).in_fold(1, 0),
    ]
    joined = Prediction.concatenate(parts)
    assert joined.patients == tuple("abcabc")
    assert joined.risk.tolist() == [1, 2, 3, 4, 5, 6]
    assert joined.probability is not None
    assert joined.probability.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert joined.repeat is not None
    assert joined.repeat.tolist() == [0, 0, 0, 1, 1, 1]
    assert joined.fold is not None
    assert joined.fold.tolist() == [0, 0, 1, 0, 0, 0]


def test_a_probability_that_some_folds_lack_is_lost() -> None:
    parts = [prediction("a", [1.0], probability=np.array([0.1])), prediction("b", [2.0])]
    assert Prediction.concatenate(parts).probability is None


def test_predictions_of_two_models_are_not_joined() -> None:
    other = Prediction("other", "y", ("b",), np.array([1.0]))
    for parts in ([prediction("a", [1.0]), other], []):
        with pytest.raises(ValueError, match="one model and endpoint"):
            Prediction.concatenate(parts)


def test_a_risk_that_is_no_number_names_its_row_and_no_patient() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(ConfigurationError, match="PREDICTION_INVALID: model 'm': the risk of row 2 of 2 is"):
            prediction("ab", [1.0, bad])


@pytest.mark.parametrize("field", ["probability", "repeat", "fold"])
def test_columns_of_another_length_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=rf"{field} must have shape \(2,\)"):
        prediction("ab", [1.0, 2.0], **{field: np.zeros(3)})


def test_a_competing_event_is_told_from_a_censoring() -> None:
    endpoint = TimeToEvent("relapse", "time", "status", competing="2")
    rows = {name: {"time": "3", "status": status} for name, status in (("a", "0"), ("b", "1"), ("c", "2"))}
    outcomes = endpoint.outcomes(rows)
    assert outcomes.event.tolist() == [False, True, False]
    assert outcomes.competing.tolist() == [False, False, True]
    assert outcomes.subset([2, 1]).competing.tolist() == [True, False]


@pytest.mark.parametrize(
    ("competing", "positive"), [("1", ""), ("0", ""), ("true", ""), ("2", "2"), ("Death", ("relapse", "death"))]
)
def test_a_competing_event_needs_a_value_of_its_own(competing: str, positive: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TimeToEvent("relapse", "time", "status", competing=competing, positive=positive)
    assert caught.value.code == Code.OUTCOME_INVALID


def test_what_a_fold_decides_is_kept_when_folds_are_joined() -> None:
    times = np.array([1.0, 2.0])
    parts = [
        Prediction("m", "e", (p,), np.zeros(1), threshold=np.array([t]), survival=np.array([[0.9, t]]), times=times)
        for p, t in (("a", 0.3), ("b", 0.4))
    ]
    joined = Prediction.concatenate(parts)
    assert joined.threshold is not None
    assert joined.survival is not None
    assert joined.threshold.tolist() == [0.3, 0.4]
    assert joined.survival.tolist() == [[0.9, 0.3], [0.9, 0.4]]
    assert joined.cutoff is None
    with pytest.raises(ValueError, match="times"):
        Prediction.concatenate([parts[0], Prediction("m", "e", ("c",), np.zeros(1))])


def outcomes_of(endpoint: Any, n: int, events: int) -> Outcomes:
    event = np.arange(n) < events
    value = event.astype(float) if endpoint.has_classes else np.arange(n) + 1.0
    return Outcomes(endpoint, tuple(map(str, range(n))), value, event | (not endpoint.has_events))


BINARY, TIME, NUMBER = Binary("y", "y"), TimeToEvent("t", "t", "e"), Continuous("x", "x")


@pytest.mark.parametrize(
    ("endpoint", "n", "events", "size", "terms", "contrast"),
    [
        (BINARY, 100, 30, 30, 100, True),
        (BINARY, 100, 90, 10, 100, True),
        (BINARY, 9, 9, 0, 9, False),
        (TIME, 50, 40, 40, 40, True),
        (TIME, 50, 50, 50, 50, True),
        (TIME, 50, 0, 0, 0, False),
        (NUMBER, 50, 0, 50, 50, True),
        (NUMBER, 1, 0, 1, 1, False),
    ],
)
def test_an_endpoint_says_how_much_outcomes_tell(
    endpoint: Any, n: int, events: int, size: int, terms: int, contrast: bool
) -> None:
    outcomes = outcomes_of(endpoint, n, events)
    assert endpoint.effective_sample_size(outcomes) == size
    assert endpoint.loss_terms(outcomes) == terms
    assert endpoint.has_contrast(outcomes) == contrast
    if not contrast and endpoint.has_events:
        with pytest.raises(ConfigurationError, match="nothing can be learnt"):
            endpoint.check(outcomes)
    else:
        endpoint.check(outcomes)


def test_the_constant_risk_is_the_log_odds_nothing_or_the_mean() -> None:
    assert BINARY.constant_risk(outcomes_of(BINARY, 8, 2)) == pytest.approx(np.log(2 / 6))
    assert BINARY.constant_risk(outcomes_of(BINARY, 8, 8)) == pytest.approx(np.log(7.5 / 0.5))
    assert TIME.constant_risk(outcomes_of(TIME, 8, 2)) == 0.0
    assert NUMBER.constant_risk(outcomes_of(NUMBER, 8, 0)) == 4.5


def test_only_risks_of_times_are_counted_from_their_mean() -> None:
    risk = np.array([1.0, 2.0, 6.0])
    assert [endpoint.origin(risk) for endpoint in (BINARY, TIME, NUMBER)] == [0.0, 3.0, 0.0]


def test_outcomes_keep_the_person_of_each_patient() -> None:
    outcomes = outcomes_of(NUMBER, 4, 0)
    assert outcomes.groups == outcomes.patients
    twins = Outcomes(NUMBER, outcomes.patients, outcomes.value, outcomes.event, groups=("a", "a", "b", "c"))
    assert twins.subset([3, 1]).groups == ("c", "a")
    assert twins.of(["2", "0"]).groups == ("b", "a")
    with pytest.raises(ValueError, match="one length"):
        Outcomes(NUMBER, outcomes.patients, outcomes.value, outcomes.event, groups=("a",))


@pytest.mark.parametrize(
    ("unit", "times", "says"),
    [
        (
            "day",
            (0.3, 2.1, 5.5),
            "the 3 times are 0.3 to 5.5, so that nobody was followed up for half a year if they are",
        ),
        ("day", (1, 72, 60), "the 3 times are 1 to 72"),
        ("month", (0.3, 2.1, 5.5), "if they are in months; check the unit"),
        (
            "year",
            (700, 2000, 30),
            "2 of 3 times are over 50 years if they are in years: rows 1, 2 of the clinical table",
        ),
        ("month", (700, 20, 30), "1 of 3 times are over 50 years if they are in months: row 1 of"),
        ("day", (5, 310, 1022), None),
        ("month", (1.5, 240, 7), None),
        ("year", (0.3, 2.1, 5.5), None),
    ],
)
def test_times_that_do_not_fit_their_unit_are_told(unit: Any, times: tuple[float, ...], says: str | None) -> None:
    """Acceptance row 68."""
    rows = {f"XYZZY{i}": {"t": str(time), "e": str(i % 2)} for i, time in enumerate(times)}
    endpoint = TimeToEvent("os", "t", "e", unit)
    said = endpoint.warn(endpoint.outcomes(rows), rows)
    assert len(said) == (says is not None)
    assert says is None or says in said[0]
    assert "XYZZY" not in "".join(said)
