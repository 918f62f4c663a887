"""What a study costs around its networks, and a finished one that is started again, beside an earlier build.

    git worktree add ../earlier COMMIT
    python benchmarks/study_speed.py DATA ../earlier/src --workers 2

DATA is the folder with `sts/` and `weights/` of docs/explanation/results.md. Both builds take turns in one run, each
step in a process of its own, of which the processor seconds are told, those of its workers included, as medians over
`--rounds`; and the largest difference between the risks of the two. Volumes and features are computed before, so that
it is learning, evaluation and report that are measured. `--network` adds a 2be3-net of the phantoms' features, and
takes many times as long. Linux only.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

STUDY = """
[cohort]
images = "sts/dicom"
clinical = "sts/clinical.csv"
patient = "patient_id"
[endpoint]
name = "lung metastasis"
kind = "binary"
column = "lung_metastasis"
[volume]
spacing_mm = 4.0
field_of_view_mm = [384, 320, 320]
[[model]]
kind = "radiomics"
[[model]]
kind = "radiomics"
region = "threshold"
[[model]]
kind = "pooled"
backbone = "mobilenetv2_100.tf"
weights = "weights/mobilenetv2_100_imagenet_fp16.safetensors"
[[model]]
kind = "fusion"
of = ["pooled", "radiomics elastic-net (SUV > 4)", "clinical"]
[validation]
folds = 5
repeats = 5
"""
NETWORK = '[[model]]\nkind = "2be3-net"\n[[model]]\nkind = "fusion"\nname = "with the network"\n' + (
    'of = ["2be3-net", "radiomics elastic-net (SUV > 4)", "clinical"]\n'
)
RUN = "from twobe3.__main__ import main\nif __name__ == '__main__':\n    main()"
COX = """
import numpy as np
from twobe3.core.endpoints import TimeToEvent
from twobe3.models.learners.linear import fit_ridge
rng = np.random.default_rng(0)
x = rng.normal(size=(2400, 6))
time = np.ceil(1000 * rng.exponential(np.exp(-0.3 * x[:, :3].sum(axis=1))))
outcomes = TimeToEvent.from_arrays(np.minimum(time, 1500), time <= 1500)
for fit in range(FITS):
    fit_ridge(x, outcomes, 10.0 ** (fit % 5 - 1))
"""
MARK = """
from pathlib import Path
from twobe3.study.finished import Options, digest_inputs, read_finished, write_finished
study, out, inputs = Path("study.toml").absolute(), Path("out").absolute(), ["images"]
"""
FINISH = f'{MARK}write_finished(out, inputs, digest_inputs(study, out, inputs, Options()), "table")'
READ = f"{MARK}assert read_finished(study, out, Options()) is not None"


def measure(source: Path, folder: Path, code: str, *arguments: str) -> float:
    """Processor seconds of a process that runs code of a build, its children's included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    script = folder / "measured.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(source.absolute()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script.name, *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def take_turns(what: str, builds: dict[str, Path], rounds: int, step: Callable[[str, Path], float]) -> None:
    """Print the medians of both builds, and their ratio."""
    seconds: dict[str, list[float]] = {name: [] for name in builds}
    for _ in range(rounds):
        for name, source in builds.items():
            seconds[name].append(step(name, source))
    earlier, now = (statistics.median(seconds[name]) for name in ("earlier", "now"))
    print(f"| {what} | {earlier:.1f} | {now:.1f} | {now / earlier:.2f} |", flush=True)


def compare_risks(folder: Path) -> None:
    """Print how far the risks of each model are apart."""
    one, other = (pd.read_csv(folder / name / "predictions.csv") for name in ("earlier", "now"))
    keys = ["model", "endpoint", "patient_id", "repeat", "fold"]
    both = one.merge(other, on=keys, suffixes=("", "_now"))
    assert len(both) == len(one) == len(other)
    apart = (both.risk - both.risk_now).abs().groupby(both.model).max()
    print(
        "\nlargest difference between two risks: " + ", ".join(f"{name} {value:.1e}" for name, value in apart.items())
    )


def study(data: Path, folder: Path, builds: dict[str, Path], workers: int, rounds: int, network: bool) -> None:
    """The study with and without what an earlier run left."""
    for name in ("sts", "weights"):
        (folder / name).symlink_to(data.absolute() / name)
    (folder / "study.toml").write_text(STUDY + (NETWORK if network else ""))
    command = ("run", "study.toml", "--workers", str(workers), "--out")
    measure(builds["now"], folder, RUN, *command, "computed")

    def run_anew(name: str, source: Path) -> float:
        shutil.rmtree(folder / name, ignore_errors=True)
        for store in ("features", "volumes", "contours"):
            shutil.copytree(folder / "computed" / store, folder / name / store)
        return measure(source, folder, RUN, *command, name)

    take_turns("study", builds, rounds, run_anew)
    take_turns("the same, finished", builds, rounds, lambda name, at: measure(at, folder, RUN, *command, name))
    compare_risks(folder)


def finished(folder: Path, builds: dict[str, Path], scans: int, rounds: int) -> None:
    """A finished study of so many whole bodies of 267 slices, as files without content: their number counts."""
    for scan in range(scans):
        (series := folder / "images" / f"patient-{scan}" / f"1.2.840.{scan}").mkdir(parents=True)
        for number in range(267):
            (series / f"1.2.840.113619.{scan}.{number}.dcm").touch()
    for store, entries in (("features", 4 * scans), ("volumes", scans)):
        (folder / "out" / store).mkdir(parents=True)
        for number in range(entries):
            (folder / "out" / store / f"{number:064x}.safetensors").touch()
    (folder / "study.toml").touch()

    def start_again(name: str, source: Path) -> float:
        measure(source, folder, FINISH)  # each build has its own digest
        return measure(source, folder, READ)

    take_turns(f"finished, {scans} scans", builds, rounds, start_again)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("earlier", type=Path, help="the folder `src` of the earlier build")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scans", type=int, default=2800)
    parser.add_argument("--fits", type=int, default=35)
    parser.add_argument("--network", action="store_true")
    asked = parser.parse_args()
    builds = {"earlier": asked.earlier, "now": Path(__file__).parents[1] / "src"}
    print("| processor seconds | earlier | now | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as made:
        folders = [Path(made, name) for name in ("cox", "finished", "study")]
        for folder in folders:
            folder.mkdir()
        cox = COX.replace("FITS", str(asked.fits))
        take_turns(f"{asked.fits} Cox ridge fits of 2,400 patients", builds, asked.rounds,
                   lambda name, source: measure(source, folders[0], cox))  # fmt: skip
        finished(folders[1], builds, asked.scans, asked.rounds)
        study(asked.data, folders[2], builds, asked.workers, asked.rounds, asked.network)


if __name__ == "__main__":
    main()
