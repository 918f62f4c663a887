"""Regions are found by the names that a clinical table gives them, which people typed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry, Mask
from twobe3.dicom.rtstruct import read_rtstruct
from twobe3.phantom.dicom_writer import PETHeader
from twobe3.phantom.rtstruct_writer import write_rtstruct

GEOMETRY = Geometry((4, 12, 12), np.diag([3.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]], "1.2.3")
HEADER = PETHeader(
    patient_id="P", sex="F", age_years=60, weight_kg=70.0, height_m=1.7, injected_dose_bq=3e8,
    injected=datetime(2020, 1, 1, 9), started=datetime(2020, 1, 1, 10),
)  # fmt: skip


def structures(path: Path, *names: str) -> Path:
    """A structure set whose n-th region is a block of n voxels on slice n - 1."""
    merged = None
    for number, name in enumerate(names, start=1):
        inside = np.zeros(GEOMETRY.shape, np.bool_)
        inside[number - 1, 3, 2 : 2 + number] = True
        one = pydicom.dcmread(write_rtstruct(Mask(inside, GEOMETRY, name), path, header=HEADER))
        one.StructureSetROISequence[0].ROINumber = one.ROIContourSequence[0].ReferencedROINumber = number
        if merged is None:
            merged = one
            continue
        merged.StructureSetROISequence.append(one.StructureSetROISequence[0])
        merged.ROIContourSequence.append(one.ROIContourSequence[0])
    assert merged is not None
    merged.save_as(path)
    return path


@pytest.mark.parametrize(
    ("roi", "voxels"), [(["GTV 1"], 1), (["gtv1"], 1), (["  GTV  1 ", "Node"], 3), (["Brain", "brain"], 3)]
)
def test_case_and_blanks_of_a_name_do_not_matter(roi: list[str], voxels: int, tmp_path: Path) -> None:
    mask = read_rtstruct(structures(tmp_path / "RS.dcm", "GTV 1", "node", "Brain"), GEOMETRY, roi=roi)
    assert mask.array.sum() == voxels


def test_the_very_name_goes_before_one_that_differs_in_case(tmp_path: Path) -> None:
    path = structures(tmp_path / "RS.dcm", "gtv", "GTV")
    assert [read_rtstruct(path, GEOMETRY, roi=name).array.sum() for name in ("gtv", "GTV", "Gtv")] == [1, 2, 1]


def test_a_name_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = structures(tmp_path / "RS.dcm", "GTV 1", "Brain")
    with pytest.raises(
        UnusableScanError, match="CONTOUR_UNUSABLE: there is no region 'GTV 2'; there are: GTV 1, Brain"
    ):
        read_rtstruct(path, GEOMETRY, roi=["GTV 1", "GTV 2"])
