import json
from collections.abc import Callable
from pathlib import Path

import pytest

from twobe3.collections.adapters import ADAPTERS
from twobe3.collections.known import ELSEWHERE, IDC, CollectionRow
from twobe3.collections.list import list_collections

MakeIndex = Callable[..., Path]


@pytest.fixture(scope="module")
def listed() -> dict[str, CollectionRow]:
    """The collections of the installed index, and those outside it."""
    return {row.name: row for row in list_collections()}


def test_every_collection_with_pet_is_listed(listed: dict[str, CollectionRow]) -> None:
    held = [row for row in listed.values() if not row.steps]
    assert len(held) == 42
    assert sum(row.series for row in held) == 5929
    assert sum(row.patients for row in held) == 2587
    assert sum(row.size_gb for row in held) == pytest.approx(209.908, abs=0.02)


def test_published_numbers_of_a_collection(listed: dict[str, CollectionRow]) -> None:
    row = listed["fdg_pet_ct_lesions"]
    assert (row.patients, row.studies, row.contours, row.contours_note) == (900, 1014, 1014, "SEG")
    assert (row.license, row.tracer) == ("CC BY 4.0", "FDG")
    assert row.citation.startswith("Gatidis, S., & Kuestner, T. (2022).")
    assert "10.7937/gkr0-xv29" in row.citation.lower()


def test_every_row_can_be_cited_and_has_a_licence(listed: dict[str, CollectionRow]) -> None:
    for row in listed.values():
        assert "10." in row.citation or "arXiv" in row.citation, row.name
        assert "<" not in row.citation
        assert "\n" not in row.citation
        assert row.license
        assert row.patients > 0


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_collection_outside_the_index_has_steps(name: str, listed: dict[str, CollectionRow]) -> None:
    assert listed[name].steps
    assert listed[name].series == 0


def test_facts_are_of_collections_that_the_index_holds(listed: dict[str, CollectionRow]) -> None:
    assert set(IDC) <= {name for name, row in listed.items() if not row.steps}


def test_every_adapter_belongs_to_a_collection(listed: dict[str, CollectionRow]) -> None:
    assert {adapter for row in listed.values() for adapter in row.adapters} == set(ADAPTERS)


def test_what_the_index_does_not_know_is_said(make_index: MakeIndex) -> None:
    index = make_index({}, {"collection_id": "new", "license_short_name": None, "source_DOI": "10.1/other"})
    rows = {row.name: row for row in list_collections(index=index)}
    assert (rows["lung"].tracer, rows["lung"].citation) == ("unknown", "Doe & Roe. lung 10.1/lung")
    assert (rows["new"].title, rows["new"].license) == ("new", "")
    assert rows["new"].citation == "https://doi.org/10.1/other"


def test_the_command_lists_for_people_and_for_programs(
    make_index: MakeIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    from twobe3.cli.main import app

    arguments = ["collections", "list", "--index", str(make_index({}))]
    app(arguments, standalone_mode=False)
    text = capsys.readouterr().out
    assert "lung" in text
    assert "Sign the end-user agreement" in text
    app([*arguments, "--json"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)["collections"]
    assert {"name", "patients", "series", "size_gb", "license", "tracer", "contours", "outcomes", "citation"} <= set(
        rows[0]
    )
