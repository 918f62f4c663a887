"""Tests of the names of tracers: what headers write, and what tells nothing."""

from __future__ import annotations

import pydicom
import pytest

from twobe3.dicom.tracer import name_tracer, read_tracer
from twobe3.phantom.dicom_writer import make_item


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("FDG -- fluorodeoxyglucose", "FDG"),  # of TCIA
        ("Fluorodeoxyglucose F^18^", "FDG"),  # DICOM PS3.16 CID 4021
        ("F-18 FDG", "FDG"),
        ("68Ga-PSMA-11", "PSMA"),
        ("Sodium fluoride F^18^", "NaF"),
        ("Ga-68 DOTATOC", "DOTATATE"),
        ("Fluciclovine F^18^", "fluciclovine f 18"),
        ("Solution", ""),
        ("18F", ""),
        ("", ""),
    ],
)
def test_a_tracer_has_one_short_name(told: str, name: str) -> None:
    assert name_tracer(told) == name


def injection(told: str, meant: str) -> pydicom.Dataset:
    return make_item(Radiopharmaceutical=told, RadiopharmaceuticalCodeSequence=[make_item(CodeMeaning=meant)])


def test_the_code_speaks_where_the_text_says_nothing_and_both_where_they_differ() -> None:
    assert read_tracer(injection("Solution", "Fluorodeoxyglucose F^18^")) == "Fluorodeoxyglucose F^18^"
    assert read_tracer(injection("FDG", "Fluorodeoxyglucose F^18^")) == "FDG"
    assert name_tracer(read_tracer(injection("FDG", "Gallium-68 PSMA-11"))) == "PSMA"
    assert read_tracer(pydicom.Dataset()) == ""
