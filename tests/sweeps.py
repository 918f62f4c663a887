"""A small study, and what must hold of it after a fault at any of its writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
from tests.faults import NONE, Ended, Fault, FaultyCommands

from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.io.claims import CLAIM
from twobe3.io.files import digest
from twobe3.models import load_model
from twobe3.phantom.dicom_writer import PETHeader, write_pet_series
from twobe3.phantom.rtstruct_writer import write_rtstruct

MARKER = "ZQXMARKER"  # begins the id of every patient
OWNER_FILES = ("predictions.csv", "survival.csv", "exclusions.csv")  # those with the user's own ids
SHAPE, SPACING_MM, PATIENTS = (12, 10, 10), 16.0, 6
STUDY = f"""
name = "{{name}}"
[cohort]
images = "dicom"
clinical = "clinical.csv"
[endpoint]
name = "outcome"
kind = "binary"
column = "outcome"
[volume]
spacing_mm = {SPACING_MM}
field_of_view_mm = [192, 160, 160]
[[model]]
kind = "baseline"
variable = "suvmax"
[[model]]
kind = "cnn3d"
epochs = 1
width = 4
fewest_steps = 1
fewest_epochs = 1
[validation]
folds = 2
repeats = 1
resamples = 100
baselines = false
[report]
explain = ["cnn3d"]
"""
INTERRUPTED = "twobe3: interrupted; the same command, run again, uses what was kept"
STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}
Contents = Mapping[str, bytes]
PLACES = 64  # in a file that are damaged, from its first byte to its last
DAMAGES: tuple[tuple[str, Callable[[bytes, int], bytes]], ...] = (
    ("a bit", lambda content, at: content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]),
    ("a byte", lambda content, at: content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]),
    ("truncated", lambda content, at: content[:at]),
    ("a byte more", lambda content, at: content[:at] + b"0" + content[at:]),
)


def write_study(folder: Path) -> Path:
    """Write scans with contours, a table, and two study files that share everything but their name; gives the first."""
    rows = ["patient_id,outcome"]
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * SPACING_MM
    geometry = Geometry(SHAPE, affine)
    lesion = np.zeros(SHAPE, np.bool_)
    lesion[4:7, 3:6, 5:8] = True
    for i in range(PATIENTS):
        patient = f"{MARKER}{i}"
        header = PETHeader(
            patient_id=patient, sex="FM"[i % 2], age_years=50 + i, weight_kg=70.0, height_m=1.7, injected_dose_bq=3e8,
            injected=datetime(2020, 1, 1, 9), started=datetime(2020, 1, 1, 10), uid_seed=patient,
        )  # fmt: skip
        suv = np.where(lesion, np.float32(3 + i), np.float32(0.5)).astype(np.float32)
        scan = SUVVolume(suv, geometry, SUVCalibration("bw", "test", 1, 1))
        write_pet_series(scan, folder / "dicom" / str(i), header=header)
        write_rtstruct(Mask(lesion, geometry, "lesion"), folder / "dicom" / str(i) / "rtstruct.dcm", header=header)
        rows.append(f"{patient},{i % 2}")
    (folder / "clinical.csv").write_text("\n".join(rows) + "\n")
    for name in ("first", "second"):
        (folder / f"{name}.toml").write_text(STUDY.format(name=name))
    return folder / "first.toml"


def read_contents(out: Path) -> Contents:
    """Every file of a study folder by its path; what was set aside is none of them, and claims hold nothing."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.suffix not in (".damaged", CLAIM))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def list_partials(out: Path) -> list[str]:
    """Files that a write or a claim has left behind."""
    return [path.name for pattern in (".partial*", f"*{CLAIM}") for path in out.rglob(pattern)]


def _is_model(path: Path) -> bool:
    """Whether a file is a whole model: a model is written when it is fitted, and with its performance in its card."""
    if path.parent.name != "models":
        return False
    load_model(path)
    return True


class Sweep:
    """Commands on the small study in a folder, and what an uninterrupted run of it gives."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.study, self.outs = write_study(folder), folder / "outs"
        self.outs.mkdir()
        self.commands = FaultyCommands(self.outs, **environment)
        self.whole = self.outs / "whole"
        self.first = self.run(self.whole)
        assert self.first.status == 0, self.first.err
        self.contents = read_contents(self.whole)

    def run(
        self, out: Path, fault: Fault = NONE, *, days: float = 0.0, workers: int = 1, second: bool = False
    ) -> Ended:
        """Run the study, or the second one in the folder of the first."""
        study = [self.study.with_name("second.toml"), "--update"] if second else [self.study]
        return self.commands("run", *study, "--out", out, "--workers", workers, fault=fault, days=days)

    def try_new(self, fault: Fault, *, workers: int = 1) -> list[str]:
        """What does not hold of a run in a new folder with a fault, and of the next one; nothing where all is well."""
        out = self.outs / "new"
        shutil.rmtree(out, ignore_errors=True)
        ended = self.run(out, fault, workers=workers)
        left = {name: content for name, content in read_contents(out).items() if ".partial" not in name}
        problems = [
            f"after the fault another file than that of a whole run: {name}"
            for name, content in left.items()
            if content != self.contents.get(name) and not _is_model(out / name)
        ]
        return [*problems, *self._judge(ended, out, fault), *self._resume(out, self.contents)]

    def try_update(self, fault: Fault, second: Contents) -> list[str]:
        """The same of the second study in a folder that holds the first; ``second`` is what it gives there."""
        out = self.outs / "updated"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.whole, out)
        ended = self.run(out, fault, second=True)
        left = read_contents(out)
        kept = {name: content for name, content in left.items() if ".partial" not in name}
        problems = [
            f"after the fault neither the old nor the new file: {name}"
            for name, content in kept.items()
            if content not in (self.contents.get(name), second.get(name)) and not _is_model(out / name)
        ]
        lost = (
            (self.contents.keys() & second.keys()) - kept.keys() - {"finished.json", "explanations/explanations.json"}
        )
        problems += [f"after the fault an old file is gone: {name}" for name in lost]
        return [*problems, *self._judge(ended, out, fault), *self._resume(out, second, second=True)]

    def damage(self, out: Path, n: int) -> list[str]:
        """Damage one file of each kind in the n-th way; gives their names."""
        names: dict[str, str] = {}
        for name in sorted(self.contents):
            kind = name.partition("/")[0] if "/" in name else name
            kind = f"{kind}{Path(name).suffix}"
            if kind not in names or digest([name, str(n)]) < digest([names[kind], str(n)]):
                names[kind] = name
        if n % 2:  # where neither of both can be read, nobody knows whose results these are
            del names["run.json.json"]
        else:
            del names["study.sha256.sha256"]
        for name in names.values():
            content, (label, change) = (out / name).read_bytes(), DAMAGES[n % len(DAMAGES)]
            place = (n // len(DAMAGES)) * (len(content) - 1) // (PLACES - 1)
            damaged = change(content, place)
            assert damaged != content, (label, name)
            (out / name).write_bytes(damaged)
        return sorted(names.values())

    def try_damage(self, n: int) -> list[str]:
        """What does not hold of a run on a study of which one file of every kind was damaged in the n-th way."""
        out = self.outs / "damaged"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.whole, out)
        self.damage(out, n)
        if n // len(DAMAGES) % 2:  # what was made of the features goes, so that they are read
            shutil.rmtree(out / "folds")
            shutil.rmtree(out / "models")
        return list(self._resume(out, self.contents, quiet=False))

    def try_report(self, n: int) -> list[str]:
        """What does not hold of a report on such a study, finished or not: it is refused under a code, or made."""
        out, problems = self.outs / "damaged", []
        for finished in (True, False):
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(self.whole, out)
            names = self.damage(out, n)
            if not finished:
                (out / "finished.json").unlink()
            elif "finished.json" in names:
                shutil.copy(self.whole / "finished.json", out)
            ended = self.commands("report", out)
            if ended.status not in (0, 1, 2) or "Traceback" in ended.err or "INTERNAL_ERROR" in ended.err:
                problems.append(f"{ended.status}: {ended.err[-300:]}")
            if finished and ended.status != 1:
                problems.append("a damaged artefact was reported")
        return problems

    def _judge(self, ended: Ended, out: Path, fault: Fault) -> Iterator[str]:
        """What is wrong with how a command with a fault ended."""
        expected = 0 if fault.in_worker and fault.action == "SIGKILL" else STATUS.get(fault.action, 1)
        if ended.status == 0 and fault.action not in STATUS:  # what could not be written was not needed
            expected = 0
        if ended.status != expected:
            yield f"exit status {ended.status}, not {expected}: {ended.err[-300:]}"
        if "Traceback" in ended.err or "INTERNAL_ERROR" in ended.err:
            yield f"an internal error: {ended.err[-300:]}"
        if fault.action in ("SIGINT", "SIGTERM") and INTERRUPTED not in ended.err:
            yield f"no word of the interruption: {ended.err[-300:]}"
        if ended.status == 1 and "twobe3: WRITE_FAILED: " not in ended.err:
            yield f"no code of the failure: {ended.err[-300:]}"
        # A claim whose removal is denied or interrupted stays, empty, until the next run.
        partials = [name for name in list_partials(out) if not name.endswith(CLAIM)]
        if fault.action != "SIGKILL" and partials:
            yield f"left behind: {partials}"
        if ended.left:
            yield f"{ended.left} processes live on"
        if MARKER in ended.err or MARKER in ended.out or any(MARKER in name for _, name in ended.writes):
            yield "the id of a patient in a message or in the name of a file"

    def _resume(self, out: Path, expected: Contents, *, second: bool = False, quiet: bool = True) -> Iterator[str]:
        """What is wrong with the next run, and with what it leaves."""
        ended = self.run(out, second=second)
        if ended.status:
            yield f"the next run ends with {ended.status}: {ended.err[-300:]}"
        if "Traceback" in ended.err or (quiet and "DAMAGED" in ended.err):
            yield f"the next run found something damaged: {ended.err[-300:]}"
        found = read_contents(out)
        different = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        if different:
            yield f"after the next run different: {different}"
