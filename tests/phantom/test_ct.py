"""The CT of a phantom: known HU at known places, as DICOM that others read alike, beside a PET that stays the same."""

import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from twobe3.core.volume import AIR_HU
from twobe3.dicom.ct import read_ct
from twobe3.dicom.ct_series import CTSeries
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv
from twobe3.io.files import digest_file
from twobe3.phantom.cohort import write_cohort
from twobe3.phantom.ct import HU, Nodule, acquire_ct
from twobe3.phantom.patient import PhantomSpec, draw_phantom_subject, make_patient
from twobe3.scans.registration import register


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("phantoms"), patients=2, seed=5, spec=PhantomSpec(ct=True))


def test_every_organ_has_its_hounsfield_units() -> None:
    names = {organ.name for seed in range(6) for organ in draw_phantom_subject(seed).body.organs}
    assert names <= HU.keys()


def test_tissues_have_their_hu_where_the_anatomy_puts_them() -> None:
    spec = PhantomSpec(lesions=0, arms="down", ct=True)
    patient = make_patient(3, spec=spec)
    assert patient.ct is not None
    organs = {organ.name: organ.solid for organ in patient.subject.body.organs}
    for name in ("liver", "bladder", "femoral head", "left ventricle"):
        centre = organs[name].centre_mm  # type: ignore[attr-defined]
        z, y, x = np.rint(patient.ct.geometry.to_index(centre)).astype(int)
        around = patient.ct.array[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
        expected = HU["left cavity"] if name == "left ventricle" else HU[name]
        assert np.median(around) == pytest.approx(expected, abs=25)
    assert (patient.ct.array == AIR_HU).mean() < 0.2  # noise in the air, too
    assert np.median(patient.ct.array) == pytest.approx(AIR_HU, abs=20)


def test_the_pet_is_the_same_with_a_ct(cohort: Path, tmp_path: Path) -> None:
    alone = write_cohort(tmp_path, patients=2, seed=5)
    assert sorted(path.name for path in (alone / "dicom" / "scan_001").iterdir()) == ["PET", "RTSTRUCT"]
    for path in (alone / "dicom").rglob("*.dcm"):
        assert digest_file(path) == digest_file(cohort / path.relative_to(alone))


def test_what_is_written_is_read_back_and_lies_over_the_pet(cohort: Path) -> None:
    found = find_series([cohort / "dicom"])
    assert (len(found.series), found.unused) == (2, ())
    for series in found.series:
        assert isinstance(series.ct, CTSeries)
        assert (series.ct.is_attenuation, series.ct.is_contrast, series.ct.same_frame) == (True, False, True)
        ct = read_ct(series.ct)
        folder = str(series.ct.files[0].parent)
        other = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(folder))
        np.testing.assert_array_equal(ct.array, SimpleITK.GetArrayFromImage(other))
        np.testing.assert_allclose(ct.geometry.origin_mm, other.GetOrigin(), atol=1e-3)
        fit = register(read_suv(series), ct)
        assert (fit.coverage, fit.warnings) == (1.0, ())
        assert fit.dice > 0.9


def test_the_ct_is_valid_dicom_and_dcm2niix_reads_it_alike(cohort: Path, tmp_path: Path) -> None:
    for tool in ("dciodvfy", "dcm2niix"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = cohort / "dicom" / "scan_001" / "CT"
    said = subprocess.run(["dciodvfy", folder / "0001.dcm"], capture_output=True, text=True, check=False).stderr
    assert [line for line in said.splitlines() if line.startswith("Error")] == []
    subprocess.run(["dcm2niix", "-o", tmp_path, "-f", "ct", "-z", "n", folder], capture_output=True, check=True)
    image = nibabel.load(tmp_path / "ct.nii")
    (series,) = find_series([cohort / "dicom" / "scan_001"]).series
    assert isinstance(series.ct, CTSeries)
    ct = read_ct(series.ct)
    ours = ct.to_nifti()
    place = np.array([40.0, 60.0, 70.0, 1.0])
    index = np.rint(np.linalg.inv(image.affine) @ ours.affine @ place).astype(int)[:3]
    assert image.get_fdata()[tuple(index)] == ours.get_fdata()[40, 60, 70]
    assert image.shape == ours.shape


def test_what_only_the_ct_shows() -> None:
    """Emphysema and nodules leave the PET as it is, for they are given to the CT alone."""
    patient = make_patient(4, spec=PhantomSpec(lesions=0))
    subject, geometry = patient.subject, patient.volume.geometry
    lung = next(organ.solid for organ in subject.body.organs if organ.name == "lung")
    middle = np.mean([lung.bounds_mm()[0], lung.bounds_mm()[1]], axis=0)
    made = [
        acquire_ct(subject.body, (), geometry, np.random.default_rng(0), lung=density, nodules=nodules)
        for density, nodules in (("normal", ()), ("low", ()), ("normal", (Nodule((0.0, 0.0, -1000.0), 9.0, 700.0),)))
    ]
    z, y, x = np.rint(made[0].geometry.to_index(middle)).astype(int)
    assert [round(float(ct.array[z, y, x]), -2) for ct in made] == [-800, -1000, -800]
    z, y, x = np.rint(made[0].geometry.to_index((0.0, 0.0, -1000.0))).astype(int)
    assert made[2].array[z, y, x] == pytest.approx(700, abs=60)
