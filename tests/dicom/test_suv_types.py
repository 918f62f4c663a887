"""SUV by lean body mass, ideal body weight and body surface."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import nibabel
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from twobe3.cli import main as cli
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry, SUVCalibration, SUVVolume
from twobe3.dicom.series import find_series
from twobe3.dicom.suv_types import SUV_TYPES, BodyMeasurements, SUVType, norm_per_weight, to_suv_type
from twobe3.dicom.volume import read_suv
from twobe3.io.nifti import read_nifti
from twobe3.scans.inspect import convert

FACTOR = 70e3 / 370e6 * 2 ** (3600 / 6586.2)
MAN = BodyMeasurements(70.0, 1.75, "M")
ARRAY = np.linspace(0, 12, 60, dtype=np.float32).reshape(3, 4, 5)
VOLUME = SUVVolume(ARRAY, Geometry((3, 4, 5), np.eye(4)), SUVCalibration("bw", "GML_BW", 1, 1))


@pytest.mark.parametrize(
    ("suv_type", "factor"),
    [
        ("bw", 1.0),
        ("lbm-james", (1.10 * 70 - 128 * 0.16) / 70),  # by hand: weight / height = 0.4, squared 0.16
        ("lbm-morgan", (1.10 * 70 - 120 * 0.16) / 70),
        ("lbm-janma", 9270 / (6680 + 216 * 70 / 1.75**2)),
        ("ibw", (48 + 1.06 * 23) / 70),
        ("bsa", 10 * 1.8481 / 70),  # Du Bois' surface of 70 kg and 175 cm
    ],
)
def test_factor_of_each_type(suv_type: SUVType, factor: float) -> None:
    assert norm_per_weight(suv_type, MAN).value == pytest.approx(factor, rel=1e-4)
    converted = to_suv_type(VOLUME, suv_type, MAN)
    np.testing.assert_allclose(converted.array, ARRAY * factor, rtol=1e-4)
    assert converted.calibration.type == suv_type


def test_the_calibration_records_type_inputs_and_repairs() -> None:
    converted = to_suv_type(VOLUME, "lbm-janma", BodyMeasurements(70_000.0, 175.0, "M"))
    right = to_suv_type(VOLUME, "lbm-janma", MAN)
    np.testing.assert_array_equal(converted.array, right.array)
    said = converted.calibration
    assert (said.weight_kg, said.height_m, said.sex, said.rule) == (70.0, 1.75, "M", "GML_BW")
    assert [warning.split(":")[0] for warning in said.warnings] == ["WEIGHT_IMPLAUSIBLE", "HEIGHT_IMPLAUSIBLE"]
    assert converted.history[-1].endswith("SUV lbm-janma")
    assert right.calibration.warnings == ()


@pytest.mark.parametrize(
    ("suv_type", "body", "code"),
    [
        ("ibw", replace(MAN, weight=None), "WEIGHT_MISSING"),
        ("bsa", replace(MAN, height=None), "HEIGHT_MISSING"),
        ("bsa", replace(MAN, height=0.0), "HEIGHT_MISSING"),
        ("lbm-james", replace(MAN, sex=""), "SEX_MISSING"),
        ("lbm-james", BodyMeasurements(250.0, 1.2, "F"), "WEIGHT_IMPLAUSIBLE"),
    ],
)
def test_what_is_missing_is_refused(suv_type: SUVType, body: BodyMeasurements, code: str) -> None:
    with pytest.raises(UnusableScanError, match=code):
        to_suv_type(VOLUME, suv_type, body)


def test_height_in_centimetres_is_taken_or_refused() -> None:
    """Acceptance row 5."""
    body = BodyMeasurements(72_000.0, 175.0, "F")
    lenient = to_suv_type(VOLUME, "bsa", body)
    np.testing.assert_array_equal(lenient.array, to_suv_type(VOLUME, "bsa", BodyMeasurements(72.0, 1.75, "F")).array)
    assert len(lenient.calibration.warnings) == 2
    with pytest.raises(UnusableScanError, match="WEIGHT_IMPLAUSIBLE"):
        to_suv_type(VOLUME, "bsa", body, policy="strict")
    with pytest.raises(UnusableScanError, match="HEIGHT_IMPLAUSIBLE"):
        to_suv_type(VOLUME, "bsa", BodyMeasurements(72.0, 175.0, "F"), policy="strict")


def test_a_volume_of_another_type_is_not_converted_twice() -> None:
    with pytest.raises(UnusableScanError, match="SUV_TYPE_UNSUPPORTED"):
        to_suv_type(to_suv_type(VOLUME, "bsa", MAN), "ibw", MAN)


STORED_AS = {"LBM": "lbm-morgan", "LBMJAMES128": "lbm-james", "LBMJANMA": "lbm-janma", "IBW": "ibw", "BSA": "bsa"}


@pytest.mark.parametrize("stored", list(STORED_AS))
def test_a_series_in_another_type_comes_back_as_it_was_stored(bench: Any, stored: str) -> None:
    slices = bench.slices(slopes=[1e-3] * 4)
    for dataset in slices:
        dataset.Units, dataset.SUVType = "CM2ML" if stored == "BSA" else "GML", stored
    pixels = np.arange(120, dtype=np.float32).reshape(4, 6, 5) * 1e-3
    (entry,) = convert([bench.save(slices)], bench.folder / "out", suv_type=STORED_AS[stored]).series
    assert entry.suv is not None
    assert entry.output is not None
    assert entry.suv.calibration.type == STORED_AS[stored]
    np.testing.assert_allclose(read_nifti(Path(entry.output))[0], pixels, rtol=1e-5)
    said = json.loads(Path(entry.output.replace(".nii.gz", ".json")).read_text())["calibration"]
    assert (said["type"], said["weight_kg"], said["height_m"]) == (STORED_AS[stored], 70.0, 1.75)


def test_a_reference_object_in_body_surface_units(real_data: Path, tmp_path: Path) -> None:
    """Acceptance row 1: the published tolerance of CM2ML is 0.02; the object is the default one, rewritten."""
    folder = real_data / "suv_dro" / "DRO_0_0"
    surface_m2 = 0.007184 * 175**0.725 * 70**0.425
    for series in find_series([folder]).series:
        suv = read_suv(series)
        for path in series.files:
            dataset = pydicom.dcmread(path)
            dataset.Units, dataset.SUVType = "CM2ML", "BSA"
            del dataset.RadiopharmaceuticalInformationSequence
            # in 16 bits and hundredths of cm²/ml, as a scanner would store it
            cm2_per_ml = dataset.pixel_array * suv.calibration.factor_min * surface_m2 * 10 / 70
            dataset.PixelData = np.rint(cm2_per_ml * 100).astype("<i2").tobytes()
            dataset.RescaleSlope = "0.01"
            dataset.save_as(tmp_path / path.name)
    (series,) = find_series([tmp_path]).series
    volume = read_suv(series)
    assert volume.calibration.rule == "CM2ML"
    mask = nibabel.load(folder / "mask" / "DRO_mask.nii.gz").get_fdata().transpose(2, 1, 0) > 0
    inside = volume.array[mask]
    assert (inside.max(), np.median(inside), inside.min()) == pytest.approx((4.00, 1.00, 0.20), abs=0.02)


def test_the_command_line_knows_every_type(bench: Any) -> None:
    assert get_args(cli.SUVType) == SUV_TYPES
    folder, out = bench.save(bench.slices()), bench.folder / "out"
    arguments = ["convert", str(folder), "--out", str(out), "--suv-type", "bsa", "--json"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0
    (entry,) = json.loads(done.stdout)["series"]
    surface_m2 = 0.007184 * 175**0.725 * 70**0.425
    assert entry["suv"]["type"] == "bsa"
    assert entry["suv"]["max"] == pytest.approx(119 * 100 * FACTOR * 10 * surface_m2 / 70, rel=1e-5)
