"""What is counted stands in the singular or the plural."""

import pytest

from twobe3.core.counts import format_count


@pytest.mark.parametrize(
    ("n", "nouns", "said"),
    [
        (0, ("patient",), "0 patients"),
        (1, ("patient",), "1 patient"),
        (2, ("patient",), "2 patients"),
        (1, ("series", "series"), "1 series"),
        (3, ("series", "series"), "3 series"),
        (2, ("copy", "copies"), "2 copies"),
    ],
)
def test_what_is_counted_is_singular_or_plural(n: int, nouns: tuple[str, ...], said: str) -> None:
    assert format_count(n, *nouns) == said
