"""What is made of a prediction: objects in the patient's study, and a page without identity."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import pixel_array
from tests.command_line import Call
from tests.conftest import TinyCohort

import twobe3 as tb

GRID = tb.Grid(16.0, (192, 160, 160))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], TinyCohort]) -> TinyCohort:
    return new_tiny_cohort(tmp_path_factory.mktemp("cohort")).patients(12)


@pytest.fixture(scope="module")
def new_patient(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], TinyCohort]) -> Path:
    other = new_tiny_cohort(tmp_path_factory.mktemp("new"))
    return other.scan("NEW-PATIENT", suv=5.5, PatientName="Doe^Jane", InstitutionName="MAR-KER")


def fit(cohort: TinyCohort, model: tb.models.Model, folder: Path) -> Path:
    endpoint = tb.Binary("outcome", "outcome")
    read = tb.read_cohort(cohort.images, clinical=cohort.clinical, endpoint=endpoint, grid=GRID)
    return model.fit(read).save(folder / "m.safetensors")


@pytest.fixture(scope="module")
def network(cohort: TinyCohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tb.models.TwoBe3Net(inputs=("image", "profile"), weighing="joint", epochs=5, ensemble_size=2)
    return fit(cohort, model, tmp_path_factory.mktemp("network"))


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def numbers(report: pydicom.Dataset) -> dict[str, float]:
    """Every number of a report by its name, wherever it stands."""
    found = {}
    for item in report.iterall():
        if item.keyword == "ContentSequence":
            for one in item.value:
                if one.ValueType == "NUM":
                    value = one.MeasuredValueSequence[0].NumericValue
                    found[one.ConceptNameCodeSequence[0].CodeMeaning] = float(value)
    return found


def test_every_file_of_a_network(new_patient: Path, network: Path, tmp_path: Path, twobe3: Call) -> None:
    folders = {name: tmp_path / name for name in ("sr", "seg", "pm", "html")}
    options = [text for name, folder in folders.items() for text in (f"--{name}", str(folder))]
    result = twobe3("predict", str(network), str(new_patient), *options, "--json")
    assert result.status == 0, result.err
    (said,) = result.json()["predictions"]
    source = pydicom.dcmread(next(new_patient.iterdir()))
    objects = {name: pydicom.dcmread(only(folders[name])) for name in ("sr", "seg", "pm")}
    for one in objects.values():
        assert (one.PatientID, one.PatientName, one.StudyInstanceUID) == (
            "NEW-PATIENT",
            "Doe^Jane",
            source.StudyInstanceUID,
        )
        assert "research use only" in one.SeriesDescription
        assert one.DeviceSerialNumber == tb.models.read_card(network)[1]
    found = numbers(objects["sr"])
    assert found["Risk"] == pytest.approx(said["risk"])
    assert found["Probability"] == pytest.approx(said["probability"])
    assert found["Percentile among the training patients"] == pytest.approx(said["percentile"])
    region = pixel_array(objects["seg"]) > 0
    assert found["Volume"] == pytest.approx(region.sum() * TinyCohort.SPACING_MM**3 / 1000)
    assert objects["pm"].FrameOfReferenceUID == source.FrameOfReferenceUID
    referenced = {item.value for item in objects["sr"].iterall() if item.keyword == "ReferencedSOPInstanceUID"}
    assert objects["seg"].SOPInstanceUID in referenced
    for folder in folders.values():
        assert "NEW-PATIENT" not in only(folder).name
    page = only(folders["html"]).read_text()
    assert not re.search("NEW-PATIENT|Doe^Jane|MAR-KER", page)
    assert said["patient"] in page
    assert "research use only" in page.lower()


def test_a_radiomics_model_has_a_region_and_no_map(
    cohort: TinyCohort, new_patient: Path, tmp_path: Path, twobe3: Call, caplog: pytest.LogCaptureFixture
) -> None:
    how = {"region": "threshold", "threshold_suv": 0.4, "spacing_mm": 8.0}
    model = fit(cohort, tb.models.RadiomicsModel(**how, otherwise="none"), tmp_path)
    folders = {name: tmp_path / name for name in ("sr", "seg", "pm")}
    options = [text for name, folder in folders.items() for text in (f"--{name}", str(folder))]
    assert twobe3("predict", str(model), str(new_patient), *options).status == 0
    assert not folders["pm"].exists()
    assert "NO_PATHWAY: no pm file" in caplog.text
    segmentation = pydicom.dcmread(only(folders["seg"]))
    assert int((pixel_array(segmentation) > 0).sum()) == np.prod(TinyCohort.SHAPE)  # SUV 0.5 and above: all
    assert numbers(pydicom.dcmread(only(folders["sr"])))["SUVbw"] == pytest.approx(5.5, abs=0.01)


def test_a_scan_in_nifti_has_a_page_and_no_study(
    network: Path, new_patient: Path, tmp_path: Path, twobe3: Call, caplog: pytest.LogCaptureFixture
) -> None:
    assert twobe3("convert", str(new_patient), "--out", str(tmp_path / "nifti")).status == 0
    where = ("--sr", str(tmp_path / "sr"), "--html", str(tmp_path / "html"))
    result = twobe3("predict", str(network), str(tmp_path / "nifti"), *where)
    assert result.status == 0, result.err
    assert "NO_DICOM_SOURCE" in caplog.text
    assert not (tmp_path / "sr").exists()
    assert only(tmp_path / "html").suffix == ".html"


def test_what_is_refused_has_no_files(
    network: Path, tmp_path: Path, twobe3: Call, new_tiny_cohort: Callable[[Path], TinyCohort]
) -> None:
    scan = new_tiny_cohort(tmp_path).scan("N02", suv=0.5)  # constant
    result = twobe3("predict", str(network), str(scan), "--html", str(tmp_path / "html"))
    assert result.status == 3
    assert not (tmp_path / "html").exists()
    forced = twobe3("predict", str(network), str(scan), "--html", str(tmp_path / "html"), "--force")
    assert forced.status == 0, forced.err
    assert "Predicted by force, in spite of <code>SCAN_CONSTANT</code>" in only(tmp_path / "html").read_text()


def test_a_later_scan_of_the_patient_has_files_of_its_own(
    network: Path, new_patient: Path, tmp_path: Path, twobe3: Call, new_tiny_cohort: Callable[[Path], TinyCohort]
) -> None:
    follow_up = new_tiny_cohort(tmp_path).scan("NEW-PATIENT", folder="later", suv=4.0)
    for scan in (new_patient, follow_up):
        assert twobe3("predict", str(network), str(scan), "--sr", str(tmp_path / "sr")).status == 0
    assert len(list((tmp_path / "sr").iterdir())) == 2


def test_one_scan_without_a_uid_spoils_no_other(
    network: Path, new_patient: Path, tmp_path: Path, twobe3: Call, new_tiny_cohort: Callable[[Path], TinyCohort],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    bare = new_tiny_cohort(tmp_path).scan("P77", suv=4.0)
    for path in bare.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.SOPInstanceUID
        dataset.save_as(path)
    where = ("--sr", str(tmp_path / "sr"), "--out", str(tmp_path / "new.csv"))
    result = twobe3("predict", str(network), str(bare), str(new_patient), *where)
    assert result.status == 0, result.err
    assert "NO_DICOM_SOURCE" in caplog.text
    assert pydicom.dcmread(only(tmp_path / "sr")).PatientID == "NEW-PATIENT"
    assert len((tmp_path / "new.csv").read_text().splitlines()) == 3


def test_a_file_where_a_folder_is_asked_for(network: Path, new_patient: Path, tmp_path: Path, twobe3: Call) -> None:
    (tmp_path / "sr").write_text("x")
    result = twobe3("predict", str(network), str(new_patient), "--sr", str(tmp_path / "sr"))
    assert result.status == 2
    assert "OUTPUT_EXISTS" in result.err


def test_the_page_opens_without_a_request(network: Path, new_patient: Path, tmp_path: Path) -> None:
    tb.predict(network, [new_patient], each=tb.deploy.ResultFiles(html=tmp_path / "html"))
    page = only(tmp_path / "html").read_text()
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    np.testing.assert_equal(page.count("<h1>"), 1)
