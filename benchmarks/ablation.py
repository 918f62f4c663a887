"""What each part of `2be3-net` is worth on the soft-tissue sarcomas: one thing changed at a time, on the same folds.

    python benchmarks/ablation.py DATA RESULTS
    python scripts/results_table.py RESULTS
    python scripts/results_table.py RESULTS --differences "as it is"

DATA holds `sts/` and `weights/`. Nothing is chosen by what comes out: the defaults were set on phantoms before it was
run. Folds that are done are kept in RESULTS, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import twobe3 as tb
from twobe3.io.cache import Cache

MOBILENET = {"backbone": "mobilenetv2_100.tf"}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "random 2D weights": {"weights": "random"},
    "2D network of the phantoms": {"backbone": "phantom-resnet10", "weights": "pretrained"},
    "three planes": {"planes": ("axial", "coronal", "sagittal")},
    "layer 4": {"layer": 4},
    "one window, SUV 10": {"windows_suv": (10.0,)},
    "pooled after every block": {"taps": 0},
    "random start of the blocks": {"blocks_start": "random"},
    "no shifts": {"shift_share": 0.0},
    "age and sex join late": {"covariates": ("age_years", "sex")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--members", type=int, default=3, help="networks of each model")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="a folder with `features/` and `volumes/`; by default RESULTS")
    asked = parser.parse_args()
    cache = asked.cache or asked.results
    cohort = tb.read_cohort(
        asked.data / "sts" / "dicom",
        clinical=asked.data / "sts" / "clinical.csv",
        endpoints=[tb.Binary("lung metastasis", "lung_metastasis")],
        grid=tb.Grid((4.0, 4.0, 4.0), (384.0, 320.0, 320.0)),
        volumes=cache / "volumes",
    )
    weights = str(asked.data / "weights" / "mobilenetv2_100_imagenet_fp16.safetensors")
    common = {
        **MOBILENET,
        "weights": weights,
        "ensemble_size": asked.ensemble_size,
        "cache": tb.Cache(cache / "features"),
    }
    models: list[tb.models.Model] = [
        tb.models.TwoBe3Net(name=name, **{**common, "inputs": ("maps",), **VARIANTS[name]}) for name in asked.variants
    ]
    models.append(tb.models.CNN2D(name="slices without order (cnn2d)", **common))
    result = tb.cross_validate(
        models,
        cohort,
        cv=tb.CrossValidation(5, asked.repeats),
        checkpoints=Cache(asked.results / "folds"),
        n_jobs=asked.workers,
    )
    result.write(asked.results)
    print(result.table())


if __name__ == "__main__":
    main()
