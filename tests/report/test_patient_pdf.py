"""The page of a patient to print."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np

from twobe3.report.patient_page import PatientPage
from twobe3.report.patient_pdf import write_patient_pdf
from twobe3.report.stored_scans import StoredMap, StoredScan

SHAPE = (20, 12, 12)


def make_page(relevance: bool = True, rows: int = 10) -> PatientPage:
    suv = np.full(SHAPE, 0.5, np.float32)
    suv[8:11, 4:7, 4:7] = 9.0
    values = np.where(suv > 1, np.float32(0.1), np.float32(0))
    return PatientPage(
        "pa-1", "a model", "relapse", [("probability", "0.31 (0.20 to 0.40)")],
        [("SCAN_CONSTANT", "every voxel is alike " * 12)], [("UNUSUAL_SCAN", "far away")],
        [("What it is", [("kind", "pooled"), *((f"row {i}", "long " * 60) for i in range(rows))])],
        StoredScan(suv, (8.0, 8.0, 8.0), suv > 1), StoredMap(values) if relevance else None, show_faces=True,
    )  # fmt: skip


def n_pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", pdf))


def test_a_pdf_has_its_fonts_no_date_and_the_same_bytes(tmp_path: Path) -> None:
    pdf = write_patient_pdf(make_page(), tmp_path / "a.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"Date" not in pdf
    assert pdf == write_patient_pdf(make_page(), tmp_path / "b.pdf").read_bytes()


def test_pictures_are_in_it_and_a_long_card_goes_on_on_the_next_page(tmp_path: Path) -> None:
    """Two projections as images, with a map four and the two of the map."""
    found = {}
    for name, page in (("short", make_page(relevance=False)), ("map", make_page()), ("long", make_page(rows=40))):
        pdf = write_patient_pdf(page, tmp_path / f"{name}.pdf").read_bytes()
        streams = [zlib.decompress(one) for one in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
                   if one.startswith(b"x")]  # fmt: skip
        found[name] = n_pages(pdf), sum(len(re.findall(rb"/I\d+ Do", one)) for one in streams)
    assert found["short"] == (2, 2)
    assert found["map"] == (2, 6)
    assert found["long"][0] > 3
