import inspect
import pickle
import re
from pathlib import Path

import pytest

import twobe3
from twobe3.core import errors
from twobe3.core.codes import Code
from twobe3.core.errors import (
    ConfigurationError,
    EmptyInputError,
    EnvironmentFailure,
    Exclusion,
    TwoBe3Error,
    UnusableScanError,
)

KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, TwoBe3Error)]


def test_no_two_codes_are_one() -> None:
    # Members of an enumeration that have one value are silently the same member.
    assert len(Code) == len(Code.__members__)


@pytest.mark.parametrize("code", Code, ids=lambda code: code.name)
def test_a_code_says_what_happened_and_what_to_do(code: Code) -> None:
    assert re.fullmatch(r"[A-Z][A-Z0-9_]+", code.name)
    for line in (code.summary, code.remedy):
        assert line
        assert line == line.strip()
        assert "\n" not in line


@pytest.mark.parametrize("code", Code, ids=lambda code: code.name)
def test_every_code_is_raised_somewhere(code: Code) -> None:
    folder = Path(twobe3.__file__).parent
    users = [path for path in folder.rglob("*.py") if path.name != "errors.py"]
    assert any(re.search(rf"\bCode\.{code.name}\b", path.read_text()) for path in users)


@pytest.mark.parametrize(
    ("kind", "status"),
    [(TwoBe3Error, 1), (EnvironmentFailure, 1), (ConfigurationError, 2), (EmptyInputError, 3), (UnusableScanError, 3)],
)
def test_exit_status(kind: type[TwoBe3Error], status: int) -> None:
    assert kind(Code.NO_PET, "nothing there").exit_status == status


def test_the_message_is_code_reason_and_remedy() -> None:
    assert str(UnusableScanError(Code.WEIGHT_MISSING, "PatientWeight is 0")) == (
        "WEIGHT_MISSING: PatientWeight is 0 (complete PatientWeight (0010,1030))"
    )
    assert str(ConfigurationError(Code.UNKNOWN_NAME, "no model 'x'", remedy="take 'y'")) == (
        "UNKNOWN_NAME: no model 'x' (take 'y')"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_crosses_a_process_border_whole(kind: type[TwoBe3Error]) -> None:
    error = kind(Code.SLICE_GAP, "after slice 3", remedy="export again, all of it")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.code, copy.reason, copy.remedy, str(copy)) == (error.code, error.reason, error.remedy, str(error))


def test_an_error_becomes_an_exclusion() -> None:
    error = UnusableScanError(Code.DOSE_MISSING, "dose 0")
    assert Exclusion.of(error, patient="pa-1", series="se-2") == Exclusion(
        "pa-1", "se-2", "DOSE_MISSING", "dose 0", "complete RadionuclideTotalDose (0018,1074)"
    )


def test_neither_reason_nor_remedy_commands_a_terminal() -> None:
    """Both may name files of foreign folders."""
    error = ConfigurationError(Code.MODEL_INVALID, "no \x9b31m.safetensors", remedy="give \x1b[2J.safetensors")
    assert str(error) == "MODEL_INVALID: no  31m.safetensors (give  [2J.safetensors)"
