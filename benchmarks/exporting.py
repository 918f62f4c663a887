"""What an exported model says of scans that nobody has seen, how large it is, and how long a prediction takes.

    python benchmarks/exporting.py FOLDER [--scans DICOM ...]

The default `2be3-net` learns from phantoms of `twobe3.phantom`, as DICOM, on the grid of whole bodies (4 mm) or a
coarser one. It is exported, and predicts phantoms held out, and the scans of ``--scans``, three times: in twobe3; in
onnxruntime, in a process that imports neither twobe3 nor torch; and as MONAI's command does. Seconds are the
processor's, of one thread, from a volume that lies on the grid to the numbers; the three take turns, and the ratio is
that of one round.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import twobe3 as tb
from twobe3.phantom.cohort import write_cohort
from twobe3.runtime.process import one_thread
from twobe3.scans.find import scan_of

ALONE = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
risks = [float(session.run(["risk"], {"suv": np.load(path)})[0]) for path in sys.argv[2:]]
assert not {"twobe3", "torch"} & set(sys.modules)
print(json.dumps(risks))
"""


def read_held_out(folders: list[Path], grid: tb.Grid) -> tb.Cohort:
    """The scans of some folders, without outcomes, their volumes in memory."""
    subjects = []
    for folder in folders:
        for series in tb.find_series(folder).series:
            subjects.append(tb.Subject(series.patient_id, scan_of(series)))
    return tb.Cohort(tuple(subjects), grid=grid)


def predict_alone(model: Path, cohort: tb.Cohort, folder: Path) -> list[float]:
    """Risks by onnxruntime in a process of its own."""
    paths = []
    for number, subject in enumerate(cohort.subjects):
        paths.append(folder / f"volume-{number}.npy")
        np.save(paths[-1], cohort.volume(subject))
    command = [sys.executable, "-c", ALONE, str(model), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(one) for one in json.loads(done.stdout)]


def predict_by_monai(bundle: Path, scans: list[Path], folder: Path) -> list[float]:
    """Risks by MONAI's command, of the scans as `twobe3 convert` writes them; in the order of the scans."""
    names = []
    for number, scan in enumerate(scans):
        (one,) = tb.convert([scan], folder / f"nifti-{number}").series
        assert one.output is not None
        (folder / "scans").mkdir(exist_ok=True)
        (folder / "scans" / f"{number:03d}.nii.gz").write_bytes(Path(one.output).read_bytes())
        names.append(f"{number:03d}.nii.gz")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--dataset_dir", str(folder / "scans"), "--output_dir", str(folder / "monai")]
    subprocess.run(command, cwd=bundle, capture_output=True, check=True)
    with (folder / "monai" / "predictions.csv").open(newline="") as rows:
        found = {Path(row["file"]).name: float(row["risk"]) for row in csv.DictReader(rows)}
    return [found[name] for name in names]


def measure_seconds(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray[Any, Any]]:
    """Processor seconds of each way in each round."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            taken[name].append(time.process_time() - start)
    return {name: np.array(seconds) for name, seconds in taken.items()}


def ways_of(model: tb.models.Model, onnx: Path, bundle: Path, alone: tb.Cohort) -> dict[str, Callable[[], Any]]:
    """A prediction of one patient by each runtime, features not at hand."""
    suv = alone.volume(alone.subjects[0])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options)
    network = torch.export.load(io.BytesIO((bundle / "models" / "model.pt2").read_bytes())).module()

    def own() -> None:
        model.cache = tb.Cache()
        model.predict(alone)

    return {
        "twobe3": own,
        "onnxruntime": lambda: session.run(None, {"suv": suv}),
        "MONAI bundle": lambda: network(torch.from_numpy(suv)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--held-out", type=int, default=4)
    parser.add_argument("--spacing-mm", type=float, default=4.0)
    parser.add_argument("--scans", type=Path, nargs="*", default=[], help="folders of DICOM, one scan each")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    folder = asked.folder
    if not (folder / "clinical.csv").exists():
        write_cohort(folder, patients=asked.patients, seed=10)
    grid = tb.Grid(asked.spacing_mm)
    endpoint = tb.Binary("metastasis", column="metastasis")
    whole = tb.read_cohort(folder / "dicom", clinical=folder / "clinical.csv", endpoint=endpoint, grid=grid)
    scans = [*sorted((folder / "dicom").iterdir())[-asked.held_out :], *asked.scans]
    with one_thread():
        model = tb.models.TwoBe3Net(cache=tb.Cache(folder / "cache"))
        model.fit(whole.subset(range(len(whole) - asked.held_out))).save(folder / "model")
        start = time.monotonic()
        onnx = tb.deploy.export_onnx(folder / "model", folder / "model.onnx")
        between = time.monotonic()
        bundle = tb.deploy.export_bundle(folder / "model", folder / "bundle")
        seconds = {"onnxruntime": between - start, "MONAI bundle": time.monotonic() - between}
        cohort = read_held_out(scans, grid)
        own = model.predict(cohort).risk
        found = {
            "onnxruntime": np.array(predict_alone(onnx.path, cohort, folder)),
            "MONAI bundle": np.array(predict_by_monai(bundle.path, scans, folder)),
        }
        taken = measure_seconds(ways_of(model, onnx.path, bundle.path, cohort.subset([0])), asked.rounds)
    sizes = {"onnxruntime": onnx.size_bytes, "MONAI bundle": bundle.size_bytes}
    sizes["twobe3"] = (folder / "model" / "model.safetensors").stat().st_size
    print(f"grid {grid.shape}; risks of {len(own)} held-out scans in twobe3: {np.round(own, 4).tolist()}")
    print("| by | largest difference of a risk | seconds a scan (range) | times twobe3 (range) | MB | export, s |")
    print("|---|---|---|---|---|---|")
    for name, values in taken.items():
        ratio = values / taken["twobe3"]
        difference = f"{np.abs(found[name] - own).max():.1e}" if name in found else ""
        spans = [f"{np.median(one):.2f} ({one.min():.2f}–{one.max():.2f})" for one in (values, ratio)]
        export = f"{seconds[name]:.0f}" if name in seconds else ""
        print(f"| {name} | {difference} | {' | '.join(spans)} | {sizes[name] / 1e6:.1f} | {export} |")


if __name__ == "__main__":
    main()
