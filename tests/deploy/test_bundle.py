"""MONAI's own command gives the number that twobe3 gives; the bundle's transforms are twobe3's grid."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.command_line import Call
from tests.conftest import MakeCohort

import twobe3 as tb
from twobe3.core.errors import ConfigurationError
from twobe3.core.volume import Geometry, SUVCalibration, SUVVolume
from twobe3.io.nifti import write_nifti
from twobe3.models import CNN3D, TwoBe3Net

SHAPE, SPACING_MM = (50, 44, 47), (3.0, 2.5, 2.5)  # on a grid of 8 mm they are smoothed
# Axes of the array along which slices, rows and columns run, as columns: as usual, turned and mirrored, and oblique.
ANGLE = np.deg2rad(20.0)
ORIENTATIONS = {
    "usual": np.fliplr(np.eye(3)),
    "sagittal, head first": np.array([[-1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
    "oblique": np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
    @ np.fliplr(np.eye(3)),
}


@pytest.fixture(scope="module")
def model_file(make_cohort: MakeCohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = TwoBe3Net(epochs=2, inner_folds=2).fit(make_cohort(16))
    model.recalibration_ = (0.7, -0.4)
    return model.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def bundle(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tb.deploy.export_bundle(model_file, tmp_path_factory.mktemp("bundle") / "bundle").path


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """Noise with a hot block near a corner, a volume for each orientation, and a real scan; with a mask beside it."""
    folder = tmp_path_factory.mktemp("scans")
    for number, (name, axes) in enumerate(ORIENTATIONS.items()):
        rng = np.random.default_rng(number)
        array = rng.gamma(4.0, 0.25, SHAPE).astype(np.float32)
        array[2:9, 30:40, 5:12] += 9.0
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = axes * SPACING_MM, (-31.0, 17.0, 402.5)
        volume = SUVVolume(array, Geometry(SHAPE, affine), SUVCalibration("bw", "TEST", 1.0, 1.0))
        write_nifti(folder / f"{name}.nii.gz", volume)
        (folder / f"{name}.json").write_text(json.dumps({"calibration": {"type": "bw"}, "patient_id": name}))
    (inspected,) = tb.convert([real_data / "sts" / "dicom" / "STS_001"], folder).series
    assert inspected.output is not None
    (folder / "usual.mask.nii.gz").write_bytes((folder / "usual.nii.gz").read_bytes())
    return folder


def run_monai(bundle: Path, scans: Path, out: Path, *arguments: str, folder: Path) -> dict[str, list[float]]:
    """What MONAI's command writes, by the file of the scan; twobe3 cannot be imported there."""
    blocked = out.parent / "blocked" / "twobe3.py"
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("raise ImportError('twobe3 is not needed')\n")
    command = [sys.executable, "-m", "monai.bundle", "run", *arguments]
    command += ["--dataset_dir", str(scans), "--output_dir", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(blocked.parent)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with (out / "predictions.csv").open(newline="") as rows:
        table = csv.reader(rows)
        assert next(table) == ["file", "risk", "probability"]
        return {Path(name).name: list(map(float, numbers)) for name, *numbers in table}


def test_the_command_of_monai_gives_what_twobe3_predicts(
    bundle: Path, scans: Path, model_file: Path, tmp_path: Path
) -> None:
    found = run_monai(bundle, scans, tmp_path / "out", "--config_file", "configs/inference.json", folder=bundle)
    predictions = [one for one in tb.predict(model_file, [scans], force=True).predictions if one.risk is not None]
    own = {Path(one.path).name: [one.risk, one.probability] for one in predictions}
    assert set(found) == set(own)
    assert len(own) == len(ORIENTATIONS) + 1
    for name, numbers in own.items():
        assert found[name] == pytest.approx(numbers, abs=1e-3), name
    assert np.ptp([risk for risk, _ in own.values()]) > 1e-2, "scans that the model tells apart"


def test_it_runs_from_another_folder(bundle: Path, scans: Path, tmp_path: Path) -> None:
    alone = tmp_path / "one"
    alone.mkdir()
    (alone / "scan.nii.gz").write_bytes((scans / "oblique.nii.gz").read_bytes())
    root = ("--config_file", str(bundle / "configs" / "inference.json"), "--bundle_root", str(bundle))
    assert list(run_monai(bundle, alone, tmp_path / "out", *root, folder=tmp_path)) == ["scan.nii.gz"]


PLACE = """
import sys
import numpy as np
from monai.bundle import ConfigParser
parser = ConfigParser()
parser.read_config("configs/inference.json")
transforms = parser.get_parsed_content("preprocessing")
for scan, out in zip(sys.argv[1::2], sys.argv[2::2]):
    np.save(out, np.asarray(transforms(scan))[0])
"""


def test_its_transforms_are_the_grid_of_twobe3(
    bundle: Path, scans: Path, make_cohort: MakeCohort, tmp_path: Path
) -> None:
    files = [path for path in sorted(scans.glob("*.nii.gz")) if ".mask." not in path.name]
    outputs = [tmp_path / f"{number}.npy" for number in range(len(files))]
    pairs: Sequence[Any] = [one for pair in zip(files, outputs, strict=True) for one in pair]
    subprocess.run([sys.executable, "-c", PLACE, *pairs], cwd=bundle, check=True, capture_output=True)
    grid = make_cohort(1).grid
    for file, output in zip(files, outputs, strict=True):
        own = tb.core.resample(tb.read_suv(file), grid).array
        np.testing.assert_allclose(np.load(output), own, atol=1e-4 * own.max(), err_msg=file.name)


def test_the_folder_is_a_bundle_that_says_what_it_is(bundle: Path) -> None:
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert files == {
        "LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.pt2",
    }  # fmt: skip
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    assert image["spatial_shape"] == metadata["twobe3"]["suv"]["shape"] == [16, 16, 16]
    readme = (bundle / "docs" / "README.md").read_text()
    assert "16 × 16 × 16 voxels of 8 × 8 × 8 mm" in readme
    assert "$" not in readme
    for path in files:
        content = (bundle / path).read_bytes()
        for trace in (b'.py"', b"site-packages", str(Path(tb.__file__).parent).encode(), bytes(bundle)):
            assert trace not in content, path


def test_a_bundle_of_twobe3_is_replaced_and_nothing_else(model_file: Path, tmp_path: Path, twobe3: Call) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("notes")
    (tmp_path / "file").write_text("notes")
    for name in ("full", "file"):
        done = twobe3("export", model_file, "--to", "monai-bundle", "--out", tmp_path / name)
        assert (done.status, done.refusal().split(":")[0]) == (2, "OUTPUT_EXISTS")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    for _ in range(2):
        document = twobe3("export", model_file, "--to", "monai-bundle", "--out", tmp_path / "b", "--json").json()
    files = [path for path in (tmp_path / "b").rglob("*") if path.is_file()]
    assert document["size_bytes"] == sum(path.stat().st_size for path in files)


def test_covariates_are_left_to_onnx(make_cohort: MakeCohort, tmp_path: Path) -> None:
    model = CNN3D(epochs=1, covariates=("age_years",)).fit(make_cohort(16))
    model.save(tmp_path)
    with pytest.raises(ConfigurationError, match=r"NOT_EXPORTABLE.*onnx"):
        tb.deploy.export_bundle(tmp_path, tmp_path / "bundle")
