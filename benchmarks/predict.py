"""What a prediction of a new patient costs: loading, from DICOM to the numbers, and memory; and a batch of 100 scans.

    python benchmarks/predict.py FOLDER SERIES [--grid-spacing-mm 4]

Models of `twobe3.phantom` patients, on the grid of whole bodies, predict a DICOM series (the whole body of a GE
Discovery STE in the shared data, for one) each time in a process of its own, on one thread: processor seconds until
the model is loaded, and from the files to the result, whose second call in the process tells what is left of imports;
the largest memory. Import of torch alone stands beside, in turns with it. Then 100 phantoms are predicted by one
process and by as many as there are cores, in turns: seconds on the clock, their ratio, and the memory of the process
that was started. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import twobe3 as tb
from rounds import span
from twobe3.phantom.cohort import write_cohort
from twobe3.runtime.process import available_cores, one_thread

TRAINING, BATCH, ROUNDS = 24, 100, 5
MODELS: dict[str, Any] = {
    "2be3-net": tb.models.TwoBe3Net,
    "cnn3d": partial(tb.models.CNN3D, epochs=2),  # a prediction costs the same however long it was trained
    "pooled, phantom-resnet10": partial(tb.models.PooledModel, backbone="phantom-resnet10"),
}
MEASURE = """
import json, sys, time
start = time.process_time()
import twobe3 as tb
model, series, workers, show = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
tb.models.load_model(model)
seconds = [time.process_time() - start]
clock = time.perf_counter()
for _ in range(2 if show == "twice" else 1):
    start = time.process_time()
    found = tb.predict(model, [series], force=True, workers=workers)
    seconds.append(time.process_time() - start)
    assert found.usable == len(found.predictions)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # getrusage counts the parent's
print(json.dumps({"seconds": seconds, "clock": time.perf_counter() - clock, "mib": int(peak.split()[1]) / 1024}))
"""
TORCH = "import json, time; start = time.process_time(); import torch; print(json.dumps(time.process_time() - start))"


def ask(code: str, *arguments: object) -> Any:
    """What a program in a process of its own prints as JSON."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def fit_models(folder: Path, spacing_mm: float) -> dict[str, Path]:
    """The models, fitted on phantoms once."""
    if not (folder / "clinical.csv").exists():
        write_cohort(folder, patients=TRAINING, seed=10)
    endpoint = tb.Binary("metastasis", column="metastasis")
    grid = tb.Grid(spacing_mm)
    cohort = tb.read_cohort(folder / "dicom", clinical=folder / "clinical.csv", endpoint=endpoint, grid=grid)
    files = {name: folder / f"{number}-{spacing_mm:g}.safetensors" for number, name in enumerate(MODELS)}
    with one_thread():
        for name, file in files.items():
            if not file.exists():
                MODELS[name](cache=tb.Cache(folder / "cache")).fit(cohort).save(file)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("series", type=Path)
    parser.add_argument("--grid-spacing-mm", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    files = fit_models(asked.folder, asked.grid_spacing_mm)
    print("| model | loading, s | times torch's import | files to result, s | again in the process, s | MiB |")
    print("|---|---|---|---|---|---|")
    for name, file in files.items():
        torch, runs = [], []
        for _ in range(asked.rounds):
            torch.append(ask(TORCH))
            runs.append(ask(MEASURE, file, asked.series, 1, "twice"))
        loading, first, second = np.array([run["seconds"] for run in runs]).T
        cells = [span(loading), span(loading / np.array(torch)), span(first), span(second)]
        print(f"| {name} | {' | '.join(cells)} | {span([run['mib'] for run in runs], 0)} |", flush=True)
    batch = asked.folder / "batch"
    if not (batch / "clinical.csv").exists():
        write_cohort(batch, patients=BATCH, seed=20)
    start = time.perf_counter()
    print(f"\n| {BATCH} phantoms, 2be3-net | clock, s | times one process | MiB |\n|---|---|---|---|")
    alone: list[float] = []
    found: dict[int, list[Any]] = {1: [], available_cores(): []}
    for _ in range(max(1, asked.rounds // 2)):
        for workers, runs in found.items():
            runs.append(ask(MEASURE, files["2be3-net"], batch / "dicom", workers, "once"))
        alone.append(found[1][-1]["clock"])
    for workers, runs in found.items():
        clock = np.array([run["clock"] for run in runs])
        cells = [span(clock, 1), span(clock / np.array(alone)), span([run["mib"] for run in runs], 0)]
        print(f"| {workers} process{'es' * (workers > 1)} | {' | '.join(cells)} |")
    print(f"\nthe batch took {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
