"""Nothing that identifies a patient leaves the reader: not printed, not logged, not written, not in an error."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydicom.config import disable_value_validation
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from twobe3.cli import main as cli
from twobe3.dicom.reader import quietly
from twobe3.io.pseudonym import key_file
from twobe3.scans import inspect as inspecting

NAME, BORN, ROOT = "XYZZY", "19010203", "1.2.826.0.1.424242"
NEEDED = {
    *("PatientSex", "PatientAge", "PatientWeight", "PatientSize", "SpecificCharacterSet", "SOPClassUID"),
    *("SeriesType", "Units", "DecayCorrection", "CorrectedImage", "Modality", "Manufacturer", "ImageType"),
    *("SeriesDate", "AcquisitionDate", "PhotometricInterpretation", "ManufacturerModelName"),
}  # fmt: skip
TEXTS = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT"}


def identifying() -> list[tuple[str, str, str]]:
    """Keyword, representation and value of every element of a name, number, text, date or UID in the usual groups."""
    found = []
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if tag >> 16 not in (0x0008, 0x0010, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040) or not keyword or retired:
            continue
        if keyword in NEEDED or "Radio" in keyword or "Code" in keyword:
            continue
        if vr in TEXTS:
            found.append((keyword, vr, f"{NAME}^{len(found)}" if vr == "PN" else f"{NAME} {len(found)}"))
        elif vr == "DA":
            found.append((keyword, vr, BORN))
        elif vr == "UI":
            found.append((keyword, vr, f"{ROOT}.{len(found)}"))
    return found


def marked(slices: list[Dataset], series: str) -> list[Dataset]:
    elements = [one for one in identifying() if one[0] not in ("SOPInstanceUID", "SeriesInstanceUID")]
    assert len(elements) > 300
    assert {"PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "InstitutionName", "StudyID",
            "ReferringPhysicianName", "StudyInstanceUID", "FrameOfReferenceUID", "OtherPatientNames"
            } <= {keyword for keyword, _, _ in elements}  # fmt: skip
    for number, one in enumerate(slices):
        for keyword, vr, value in elements:
            one.add_new(keyword, vr, value)
        one.SOPInstanceUID, one.SeriesInstanceUID = f"{ROOT}.{series}.{number}", f"{ROOT}.{series}"
        other = Dataset()
        other.PatientID, other.IssuerOfPatientID = NAME, NAME
        one.OtherPatientIDsSequence = Items([other])
        one.private_block(0x0011, NAME, create=True).add_new(0x01, "LO", f"{NAME}^Jane")
    return slices


@pytest.fixture
def folder(bench: Any) -> Path:
    """One good series, three that are refused, and damaged files; the files are named by the patient."""
    with disable_value_validation():
        names = [f"{NAME}_{i}.dcm" for i in range(4)]
        bench.save(marked(bench.slices(), "1"), "in/a", files=names)
        refused = {"2": {"RescaleSlope": -1}, "3": {"Units": "PROPCNTS"}, "4": {"Modality": "CT"}}
        for number, changes in refused.items():
            slices = marked(bench.slices(), number)
            for one in slices:
                for keyword, value in changes.items():
                    setattr(one, keyword, value)
            bench.save(slices, f"in/{number}", files=names)
        whole = (bench.folder / "in" / "a" / names[0]).read_bytes()
        (bench.folder / "in" / f"{NAME}.dcm").write_bytes(whole[: len(whole) // 2])
        (bench.folder / "in" / f"{NAME}2.dcm").write_bytes(whole.replace(b"DICM", b"DICX"))
    return Path(bench.folder / "in")


def assert_nobody(text: str) -> None:
    for mark in (NAME, BORN, ROOT, "1901-02-03"):
        at = text.find(mark)
        assert at < 0, text[max(0, at - 200) : at + 100]


def in_a_process(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "twobe3", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return done.stdout + done.stderr


def test_the_command_line_names_nobody(folder: Path, tmp_path: Path) -> None:
    """Acceptance row 34."""
    assert_nobody(in_a_process("--verbose", "inspect", str(folder)))
    assert_nobody(in_a_process("inspect", "--json", str(folder)))
    out = tmp_path / "out"
    document = in_a_process("--verbose", "convert", str(folder), "--json", "--out", str(out))
    assert_nobody(document)
    written = sorted(out.iterdir())
    assert len(written) == 2
    for path in written:
        assert_nobody(path.name + path.read_bytes().decode("latin-1"))
    assert_nobody(key_file().read_bytes().decode("latin-1"))


def test_a_series_that_is_refused_names_nobody(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Acceptance row 34."""
    with caplog.at_level(logging.DEBUG):
        inspection = inspecting.inspect([folder])
    assert (inspection.found, inspection.usable) == (6, 1)
    codes = {one.exclusion.code for one in inspection.series if one.exclusion}
    assert {"RESCALE_INVALID", "UNITS_UNSUPPORTED", "NOT_PET", "CORRUPT_FILE"} <= codes
    assert_nobody(json.dumps(inspection.to_json()) + repr(inspection) + caplog.text + "".join(capfd.readouterr()))


@pytest.mark.parametrize("error", [ValueError, OSError, KeyError, MemoryError])
def test_an_error_that_nobody_foresaw_tells_its_place_and_nothing_of_the_patient(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: type[Exception]
) -> None:
    """Acceptance row 34."""

    def fail(series: Any, **options: Any) -> None:
        patient = series.patient_id
        assert NAME in patient
        try:
            raise error(f"could not parse {patient!r}")
        except Exception as inner:
            raise error(2, patient, f"/home/{patient}") from inner

    monkeypatch.setattr(inspecting, "read_suv", fail)
    monkeypatch.setattr(sys, "argv", ["twobe3", "--verbose", "inspect", str(folder)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capfd.readouterr()
    assert end.value.code == 1
    kind = "FileNotFoundError (No such file or directory)" if error is OSError else error.__name__
    assert f"INTERNAL_ERROR: {kind}" in said.err
    assert "inspect.py:" in said.err
    assert "Traceback" not in said.err
    assert_nobody(said.out + said.err)


def test_a_reason_is_one_line_whatever_a_header_holds(bench: Any) -> None:
    slices = bench.slices()
    with quietly():
        for one in slices:
            one.CorrectedImage = ["DECY", "\x1b[31mred\nline"]
        (entry,) = inspecting.inspect([bench.save(slices)]).series
    assert entry.exclusion is not None
    assert entry.exclusion.reason.isprintable()
