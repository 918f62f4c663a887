"""What dcmqi and dciodvfy find in a report, and whose it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.dicom.test_derived import only_series

from twobe3.core.codes import Code
from twobe3.dicom.derived import Source, make_segmentation, read_source
from twobe3.dicom.structured_report import SegmentedRegion, make_structured_report
from twobe3.dicom.volume import read_suv

MEASURED = {"Risk": -0.25, "Probability": 0.4375}
FLAGS = {"UPTAKE_TIME_OUTSIDE": "the uptake time is 45 min, the model knows 55 to 75 min"}


@pytest.fixture(scope="module")
def source(real_data: Path) -> Source:
    series = only_series(real_data / "sts" / "dicom" / "STS_001")
    return read_source(series, read_suv(series).geometry)


@pytest.fixture(scope="module")
def region(real_data: Path, source: Source) -> SegmentedRegion:
    volume = read_suv(only_series(real_data / "sts" / "dicom" / "STS_001"))
    segmentation = make_segmentation(source, volume.array > 4, label="m", region="hot")
    return SegmentedRegion(segmentation, 12.5, 9.75)


def report(source: Source, region: SegmentedRegion | None = None) -> bytes:
    return make_structured_report(
        source, label="2be3-net", endpoint="relapse", measured=MEASURED, flags=FLAGS, region=region, model_digest="d1"
    )


def comments(content: bytes) -> list[str]:
    """What a report says in words, by the standard's code for comments."""
    groups = [item.value for item in pydicom.dcmread(BytesIO(content)).iterall() if item.keyword == "ContentSequence"]
    items = [one for group in groups for one in group if one.ValueType == "TEXT"]
    return [one.TextValue for one in items if one.ConceptNameCodeSequence[0].CodeValue == "121106"]


def read_by_dcmqi(content: bytes, folder: Path) -> list[dict[str, Any]]:
    """The groups of measurements as dcmqi's ``tid1500reader`` gives them."""
    (folder / "sr.dcm").write_bytes(content)
    reader = Path(sys.executable).parent / "tid1500reader"
    command = [reader, "--inputDICOM", folder / "sr.dcm", "--outputMetadata", folder / "sr.json"]
    subprocess.run(command, check=True, capture_output=True)
    return list(json.loads((folder / "sr.json").read_text())["Measurements"])


def test_dcmqi_reads_the_numbers_and_flags(source: Source, tmp_path: Path) -> None:
    (group,) = read_by_dcmqi(report(source), tmp_path)
    assert group["TrackingIdentifier"] == "relapse"
    found = {item["quantity"]["CodeMeaning"]: float(item["value"]) for item in group["measurementItems"]}
    assert found == MEASURED
    (flag,) = (one for one in group["qualitativeEvaluations"] if one["conceptCode"]["CodeValue"] == "FLAG")
    assert flag["conceptValue"]["CodeValue"] == "UPTAKE_TIME_OUTSIDE"
    assert flag["conceptValue"]["CodeMeaning"] == Code.UPTAKE_TIME_OUTSIDE.summary  # what it always means
    assert comments(report(source)) == ["UPTAKE_TIME_OUTSIDE: the uptake time is 45 min, the model knows 55 to 75 min"]
    assert group["measurementAlgorithmIdentification"]["AlgorithmParameters"] == ["research use only"]


def test_dcmqi_reads_the_region(source: Source, region: SegmentedRegion, tmp_path: Path) -> None:
    _, group = read_by_dcmqi(report(source, region), tmp_path)
    assert group["ReferencedSegment"] == 1
    assert group["segmentationSOPInstanceUID"] == pydicom.dcmread(BytesIO(region.segmentation)).SOPInstanceUID
    values = {
        item["quantity"]["CodeMeaning"]: (item["value"], item["units"]["CodeValue"])
        for item in group["measurementItems"]
    }
    assert values == {"Volume": ("12.5", "ml"), "SUVbw": ("9.75", "g/ml{SUVbw}")}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed: apt-get install dicom3tools")
def test_dciodvfy_finds_no_error(source: Source, region: SegmentedRegion, tmp_path: Path) -> None:
    for content in (report(source), report(source, region)):
        (tmp_path / "sr.dcm").write_bytes(content)
        done = subprocess.run(["dciodvfy", tmp_path / "sr.dcm"], capture_output=True, text=True, check=False)
        assert "Comprehensive3DSR" in done.stdout + done.stderr
        assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def test_it_belongs_to_the_study_and_is_new_each_time(source: Source) -> None:
    first, second = (pydicom.dcmread(BytesIO(report(source))) for _ in range(2))
    image = source.images[0]
    assert (first.PatientID, first.StudyInstanceUID) == (image.PatientID, image.StudyInstanceUID)
    assert first.VerificationFlag == "UNVERIFIED"
    assert len({first.SOPInstanceUID, second.SOPInstanceUID, first.SeriesInstanceUID, second.SeriesInstanceUID}) == 4
    assert (
        len(first.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence) == 59
    )
