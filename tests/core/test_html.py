from __future__ import annotations

from html.parser import HTMLParser

from twobe3.core.html import html_picture, html_table

HOSTILE = "<script>alert('\"PET\"')</script>"


class Cells(HTMLParser):
    """The text of every cell, by its tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: list[tuple[str, str]] = []
        self.attributes: dict[str, str | None] = {}
        self.tag = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        self.attributes |= dict(attrs)

    def handle_data(self, data: str) -> None:
        self.cells.append((self.tag, data))


def test_every_text_is_escaped() -> None:
    html = html_table([[HOSTILE, HOSTILE]], head=[HOSTILE, "n"], caption=HOSTILE)
    assert "<script" not in html
    assert [text for _, text in Cells(html).cells] == [HOSTILE, HOSTILE, "n", HOSTILE, HOSTILE]
    assert Cells(html_picture(b"", 1.0, 1.0, HOSTILE)).attributes["alt"] == HOSTILE


def test_the_first_cell_of_a_row_is_its_heading_where_the_table_has_none() -> None:
    assert Cells(html_table([("a", "1"), ("b", "2")])).cells == [("th", "a"), ("td", "1"), ("th", "b"), ("td", "2")]
    assert Cells(html_table([("a", "1")], head=("x", "y"))).cells[2:] == [("td", "a"), ("td", "1")]


def test_nothing_of_it_can_change_the_page_around_it() -> None:
    html = html_table([("a", "b")], caption="c") + html_picture(b"\x89PNG", 100.0, 200.0, "text")
    attributes = Cells(html).attributes
    assert set(attributes) == {"src", "width", "height", "alt", "title"}
    assert "<style" not in html
    assert int(attributes["height"] or 0) == 2 * int(attributes["width"] or 0)
