import pytest

from twobe3.core.nearest import find_nearest, name_nearest

VARIABLES = ("suvmax", "tumour_volume", "tlg", "image_extent", "age")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("suvmx", "suvmax"),
        ("SUVmax", "suvmax"),
        ("SUV max", "suvmax"),
        ("tumor volume", "tumour_volume"),
        ("tumour-volume", "tumour_volume"),
        ("extent", "image_extent"),
        ("TLG", "tlg"),
        ("suv", "suvmax"),
        ("grade", None),
        ("heterogeneity of texture", None),
        ("", None),
    ],
)
def test_the_nearest_is_found_whatever_its_capitals_and_separators(written: str, meant: str | None) -> None:
    assert find_nearest(written, VARIABLES) == meant


def test_where_none_is_near_all_are_named() -> None:
    assert name_nearest("suv-max", VARIABLES) == "the nearest is 'suvmax'"
    assert name_nearest("zzz", iter(["a", "b"])) == "there are 'a', 'b'"
