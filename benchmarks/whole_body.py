"""From DICOM to cached axial maps of a whole body: processor seconds and memory, beside an earlier build.

    python benchmarks/whole_body.py SERIES --weights mobilenetv2_100_imagenet_fp16.safetensors [--before OTHER/src]

A series (the whole body of a GE Discovery STE in the shared data, for one) is read to SUV, brought to 4 mm, and put
through MobileNetV2 to its third layer, on one thread, by a process of its own for each build: with OpenVINO, with torch
alone, and by the package whose ``src`` folder ``--before`` names. They take turns in one run. The first scan of a
process pays for what is made once; the next, with an empty cache again, is what thousands cost each. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import twobe3
from rounds import span

MEASURE = """
import json, sys, tempfile, time
from pathlib import Path
import torch; torch.set_num_threads(1)
import twobe3 as tb
series, weights, maps = sys.argv[1:]
device = {"device": tb.Device("cpu", maps=maps)} if maps else {}
seconds = []
how = {"backbone": "mobilenetv2_100.tf", "weights": weights, "layer": 3, "inputs": ("maps",), **device}
model = tb.models.TwoBe3Net(**how)
model.maps.backbone
for _ in range(3):
    with tempfile.TemporaryDirectory() as folder:
        model.cache = tb.Cache(folder)
        start = time.process_time()
        cohort = tb.read_cohort(series, grid=tb.Grid(4.0), volumes=Path(folder) / "volumes")
        read = time.process_time()
        cohort.volume(cohort.subjects[0])
        resampled = time.process_time()
        model.precompute(cohort)
        seconds.append([read - start, resampled - read, time.process_time() - resampled])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "mib": int(peak.split()[1]) / 1024}))
"""


def measure(source: Path, *arguments: object) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--before", type=Path, help="src folder of an earlier build")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    here = Path(twobe3.__file__).parents[1]
    builds = {"with OpenVINO": (here, "openvino"), "torch alone": (here, "torch")}
    if asked.before:
        builds["before"] = (asked.before, "")
    found: dict[str, list[Any]] = {name: [] for name in builds}
    for _ in range(asked.rounds):
        for name, (source, maps) in builds.items():
            found[name].append(measure(source, asked.series, asked.weights, maps))
    last = np.array([run["seconds"] for run in list(found.values())[-1]])[:, 1:].sum(axis=2).mean(axis=1)
    memory = np.median([run["mib"] for run in list(found.values())[-1]])
    heads = (
        "",
        "headers, s",
        "SUV at 4 mm, s",
        "maps, s",
        "sum, s",
        "to the last",
        "first scan, s",
        "MiB",
        "to the last",
    )
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name, runs in found.items():
        seconds = np.array([run["seconds"] for run in runs])
        each, mib = seconds[:, 1:].mean(axis=1), np.array([run["mib"] for run in runs])
        parts = [span(each[:, part]) for part in range(3)]
        sums = [span(each.sum(axis=1)), span(each.sum(axis=1) / last), span(seconds[:, 0].sum(axis=1))]
        print(f"| {name} | {' | '.join([*parts, *sums, span(mib, 0), span(mib / memory)])} |", flush=True)


if __name__ == "__main__":
    main()
