"""Fixtures for every test: the real data, a pseudonym key of the test's own, and tiny cohorts as DICOM."""

from __future__ import annotations

import logging
import os

# Before numpy and torch count the cores: several threads a sum wait for each other for minutes on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is compared to the bit is computed on the CPU, whatever the machine has.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from tests.command_line import Call, call
from tests.dicom_bench import Bench

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Endpoint, Kind, Outcomes
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.io import pseudonym
from twobe3.phantom.dicom_writer import PETHeader, write_pet_series
from twobe3.runtime.process import available_cores
from twobe3.scans.scan import ArrayScan

MOST_PROCESSES = 8  # each makes the cohorts and studies of a module again when it takes over a part of its tests


@pytest.hookimpl(tryfirst=True)  # before xdist looks how many processes it is told to start
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Where the whole suite is asked for and no number of processes, run one for each core.

    Tests that stand together stay together, for modules share what is expensive, until a process has none left.
    """
    asked = config.option
    if hasattr(config, "workerinput") or not hasattr(asked, "numprocesses"):  # in such a process; without xdist
        return
    if asked.numprocesses is None and config.args_source is pytest.Config.ArgsSource.TESTPATHS and not asked.usepdb:
        asked.numprocesses = min(available_cores(), MOST_PROCESSES)
    if asked.numprocesses and asked.dist == "no":
        asked.dist = "worksteal"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real PET that ``TWOBE3_DATA`` names."""
    folder = os.environ.get("TWOBE3_DATA")
    if not folder:
        pytest.skip("TWOBE3_DATA is not set: it must name the folder of unpacked real PET data")
    return Path(folder)


@pytest.fixture(autouse=True, scope="session")
def _own_key(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ[pseudonym.KEY_VARIABLE] = str(tmp_path_factory.mktemp("key") / "pseudonym.key")


class TinyCohort:
    """A folder of tiny PET series and a clinical table, as a hospital would hand them over."""

    SPACING_MM = 16.0
    SHAPE = (12, 10, 10)

    def __init__(self, folder: Path) -> None:
        self.images, self.clinical = folder / "dicom", folder / "clinical.csv"

    def scan(self, patient: str, *, folder: str | None = None, suv: float = 3.0, **tags: Any) -> Path:
        """Write the scan of a patient: SUV 0.5 everywhere but in a lesion; ``tags`` are set in every file."""
        array = np.full(self.SHAPE, 0.5, np.float32)
        array[4:7, 3:6, 5:8] = suv
        affine = np.eye(4)
        affine[:3, :3] = np.fliplr(np.eye(3)) * self.SPACING_MM
        volume = SUVVolume(array, Geometry(self.SHAPE, affine), SUVCalibration("bw", "test", 1, 1))
        header = PETHeader(
            patient_id=patient, sex="F", age_years=60, weight_kg=70.0, height_m=1.7, injected_dose_bq=3e8,
            injected=datetime(2020, 1, 1, 9), started=datetime(2020, 1, 1, 10), uid_seed=folder or "",
        )  # fmt: skip
        files = write_pet_series(volume, self.images / (folder or f"scan-{patient}"), header=header)
        if tags:
            for file in files:
                dataset = pydicom.dcmread(file)
                for keyword, value in tags.items():
                    setattr(dataset, keyword, value)
                dataset.save_as(file)
        return files[0].parent

    def table(self, rows: Mapping[str, Iterable[object]], columns: str = "patient_id,outcome") -> Path:
        """Write the clinical table."""
        lines = [columns, *(",".join(map(str, (patient, *cells))) for patient, cells in rows.items())]
        self.clinical.write_text("\n".join(lines) + "\n")
        return self.clinical

    def patients(self, n: int) -> TinyCohort:
        """Write n patients; every other one has the outcome, and a hotter lesion on the whole."""
        rng = np.random.default_rng(n)
        names = [f"P{i:02d}" for i in range(n)]
        for i, name in enumerate(names):
            self.scan(name, suv=float(3 + 2 * (i % 2) + rng.normal()))
        self.table({name: (i % 2,) for i, name in enumerate(names)})
        return self

    def study(self, *, folds: int = 2, repeats: int = 1, extra: str = "") -> Path:
        """Write a study file with two quick models."""
        path = self.images.parent / "study.toml"
        path.write_text(
            f"""
            [cohort]
            images = "dicom"
            clinical = "clinical.csv"
            [endpoint]
            name = "outcome"
            kind = "binary"
            column = "outcome"
            [volume]
            spacing_mm = {self.SPACING_MM}
            field_of_view_mm = [192, 160, 160]
            [[model]]
            kind = "baseline"
            variable = "suvmax"
            region = "threshold"
            threshold_suv = 1.5
            [[model]]
            kind = "baseline"
            variable = "image_extent"
            [validation]
            folds = {folds}
            repeats = {repeats}
            resamples = 100
            baselines = false
            {extra}"""
        )
        return path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def tiny_cohort(tmp_path: Path) -> TinyCohort:
    return TinyCohort(tmp_path)


@pytest.fixture(scope="session")
def new_tiny_cohort() -> Callable[[Path], TinyCohort]:
    return TinyCohort


@pytest.fixture
def twobe3(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """The command line in this process."""
    logger = logging.getLogger("twobe3")
    level = logger.level
    yield partial(call, monkeypatch, capfd)
    logger.setLevel(level)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where nothing may be skipped (``TWOBE3_FORBID_SKIPS``), say what was."""
    if _forbidden_skips(terminalreporter):
        terminalreporter.write_line("TWOBE3_FORBID_SKIPS is set and tests were skipped: that counts as a failure")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and _forbidden_skips(reporter) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _forbidden_skips(reporter: pytest.TerminalReporter) -> bool:
    return bool(os.environ.get("TWOBE3_FORBID_SKIPS")) and bool(reporter.stats.get("skipped"))


class MakeCohort(Protocol):
    """What the fixture ``make_cohort`` gives."""

    def __call__(
        self, n: int = 16, kinds: tuple[Kind, ...] = ("binary",), *, seed: int = 0, signal: bool = True
    ) -> Cohort: ...


@pytest.fixture(scope="session")
def make_cohort() -> MakeCohort:
    """Cohorts in memory: noise and, with signal, a sphere whose uptake tells the outcome."""

    def make(n: int = 16, kinds: tuple[Kind, ...] = ("binary",), *, seed: int = 0, signal: bool = True) -> Cohort:
        rng = np.random.default_rng(seed)
        uptake = rng.permutation(np.linspace(2.0, 20.0, n))
        subjects = tuple(
            Subject(
                f"MRN-{1000 + i}",
                _scan(rng, uptake[i] if signal else 0.0),
                ("north", "south")[i % 2],
                {"age_years": float(rng.integers(30, 80)), "sex": "FM"[i % 2], "weight_kg": 60.0 + i},
            )
            for i in range(n)
        )
        patients = tuple(subject.patient_id for subject in subjects)
        return Cohort(subjects, tuple(_outcomes(kind, patients, uptake, rng) for kind in kinds), grid=GRID)

    return make


GRID = Grid(spacing_mm=(8.0, 8.0, 8.0), field_of_view_mm=(128.0, 128.0, 128.0))


def _scan(rng: np.random.Generator, uptake: float) -> ArrayScan:
    affine = np.eye(4)
    affine[:3, :3] = 8.0 * np.fliplr(np.eye(3))  # slices to the head, rows to the back, columns to the left
    geometry = Geometry(GRID.shape, affine)
    centre = rng.uniform(5.0, 10.0, (3, 1, 1, 1))
    sphere = np.linalg.norm(np.indices(GRID.shape) - centre, axis=0) < 3.0
    suv = rng.gamma(4.0, 0.25, GRID.shape) + uptake * sphere
    volume = SUVVolume(suv.astype(np.float32), geometry, SUVCalibration("bw", "TEST", 1.0, 1.0))
    return ArrayScan(volume, Mask(sphere, geometry, "sphere"))


def _outcomes(
    kind: Kind, patients: tuple[str, ...], uptake: npt.NDArray[np.float64], rng: np.random.Generator
) -> Outcomes:
    high, everyone = uptake > np.median(uptake), np.ones(len(uptake), dtype=np.bool_)
    days = np.round(1000.0 * np.exp(-uptake / 8.0) * rng.uniform(0.8, 1.2, len(uptake))) + 1.0
    observed: dict[Kind, tuple[Endpoint, npt.NDArray[np.float64], npt.NDArray[np.bool_]]] = {
        "binary": (Binary("relapse", "relapse"), high.astype(float), high),
        "time-to-event": (TimeToEvent("survival", "days", "dead"), days, rng.random(len(uptake)) < 0.8),
        "continuous": (Continuous("uptake", "uptake"), uptake, everyone),
    }
    endpoint, value, event = observed[kind]
    return Outcomes(endpoint, patients, value, event)
