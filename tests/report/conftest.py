"""A small study folder with two endpoints, made by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twobe3.io.cache import Cache

MODELS = ("2be3-net", "radiomics", "tumour volume")
PATIENTS = tuple(f"HOSPITAL-{i:04}" for i in range(10))
HOSTILE = "<script>alert('PET')</script>"


RISK_GROUPS = {
    "cutoff": "cut-off of the training patients of each fold",
    "p": 0.0123,
    "times": [0.0, 0.5, 1.0],
    "groups": [
        {"name": "low", "n": 6, "events": 1, "at_risk": [6, 5, 2]},
        {"name": "high", "n": 4, "events": 3, "at_risk": [4, 1, 0]},
    ],
}


def _metric(name: str, value: float | None) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return {
        "name": name,
        "value": value,
        "low": low,
        "high": high,
        "estimator": f"how {name} was estimated",
        "n": 10,
        "events": 4,
        "failed_resamples": 1,
    }


def _curve(name: str, label: str) -> dict[str, Any]:
    falling = name == "kaplan_meier"
    y = [1.0, 0.6, None] if falling else [0.0, 0.7, 1.0]
    return {"name": name, "label": label, "x": [0.0, 0.5, 1.0], "y": y, "low": [0.0, 0.4, 0.9], "high": [0.2, 0.9, 1.0]}


def _result(endpoint: str, kind: str, model: str, value: float | None) -> dict[str, Any]:
    primary = {"binary": "auc", "time-to-event": "harrell_c"}[kind]
    curves = [_curve("roc", model), _curve("calibration", "fifths"), _curve("calibration_smooth", "smooth")]
    curves += [_curve("net_benefit", "the model"), _curve("net_benefit_all", "act on all")]
    if kind == "time-to-event":
        curves = [_curve("kaplan_meier_low", "low risk"), _curve("kaplan_meier_high", "high risk")]
    return {
        "endpoint": endpoint,
        "kind": kind,
        "model": model,
        "n": 10,
        "events": 4,
        "missing": 0,
        "repeats": 2,
        "basis": {"metric": primary, "reason": "the only one"},
        "metrics": [_metric(primary, value), _metric("brier", 0.2)],
        "curves": curves if value is not None else [],
        "risk_groups": RISK_GROUPS if kind == "time-to-event" else None,
    }


def _comparison(endpoint: str, metric: str, pair: tuple[str, str], difference: float, p: float) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "metric": metric,
        "model_a": pair[0],
        "model_b": pair[1],
        "n": 10,
        "difference": difference,
        "low": difference - 0.1,
        "high": difference + 0.1,
        "p": p / 2,
        "p_holm": p,
        "estimator": "how differences were estimated",
        "tests": [{"name": "corrected_t", "p": 0.21, "p_holm": 0.63, "method": "how folds were compared"}],
        "patients_needed": 1234,
        "reason": "the only one",
    }


def _subgroup(model: str, level: str, n: int, events: int, warning: str = "") -> dict[str, Any]:
    value = None if events == 0 else 0.7
    part = {"endpoint": "metastasis", "model": model, "metric": "auc", "factor": "sex", "level": level}
    return {**part, "n": n, "events": events, "value": value, "low": None, "high": None, "warning": warning}


def _study(i: int) -> dict[str, Any]:
    return {
        "patient": f"pa-{i:012x}",
        "series": f"se-{i:012x}",
        "centre": "north" if i % 2 else "south",
        "digest": "0" * 64,
        "volume": f"volume-{i}.safetensors",
        "covariates": {"age_years": 50 + i, "sex": "F" if i % 2 else "M", "weight_kg": None},
        "manufacturer": "GE MEDICAL SYSTEMS",
        "model": HOSTILE,
        "tracer": "FDG",
        "slices": 60,
        "spacing_mm": [3.27, 4.69, 4.69],
        "contour": i != 0,
        "acquisition": {
            "reconstruction": HOSTILE if i == 1 else "OSEM",
            "uptake_min": None if i == 1 else 240.0 if i == 2 else 58.0 + i,
            "injected_dose_bq": 3.5e8,
        },
        "calibration": {
            "type": "bw",
            "rule": "BQML_START",
            "factor_min": 0.1,
            "factor_max": 0.1,
            "warnings": ["DOSE_IMPLAUSIBLE: taken as MBq"] if i < 3 else [],
        },
    }


COHORT: dict[str, Any] = {
    "schema": 1,
    "package_version": "0.1.0",
    "digest": "c0ffee",
    "found": 12,
    "used": 10,
    "excluded": 2,
    "grid": {"spacing_mm": [4, 4, 4], "field_of_view_mm": [384, 320, 320]},
    "endpoints": [
        {"name": "metastasis", "kind": "binary", "unit": None, "n": 10, "events": 4},
        {"name": "survival", "kind": "time-to-event", "unit": "day", "n": 10, "events": 4},
    ],
    "subjects": [_study(i) for i in range(10)],
    "exclusions": [
        {"patient": "pa-x", "series": "se-x", "code": "NOT_ATTN", "reason": HOSTILE, "remedy": "use the corrected one"},
        {"patient": "pa-y", "series": "", "code": "WEIGHT_MISSING", "reason": "it is 0", "remedy": "complete it"},
    ],
    "warnings": ["one warning of the cohort"],
}
EVALUATION: dict[str, Any] = {
    "schema": 1,
    "package_version": "0.1.0",
    "models": [
        *(_result("metastasis", "binary", m, v) for m, v in zip(MODELS, (0.70, 0.80, None), strict=True)),
        *(_result("survival", "time-to-event", m, v) for m, v in zip(MODELS, (0.55, 0.60, 0.65), strict=True)),
    ],
    "comparisons": [
        _comparison("metastasis", "auc", ("2be3-net", "radiomics"), -0.10, 0.4),
        _comparison("survival", "harrell_c", ("2be3-net", "tumour volume"), -0.10, 0.01),
        _comparison("survival", "harrell_c", ("radiomics", "tumour volume"), -0.05, 0.6),
    ],
    "subgroups": [
        _subgroup(model, level, 5, events, f"only {events} with the event")
        for model in MODELS
        for level, events in (("F", 4), ("M", 0))
    ],
    "missing": [{"what": "PET scan", "missing": 3, "n": 12}, {"what": "sex", "missing": 0, "n": 9}],
    "sample_sizes": [
        {
            "endpoint": "metastasis",
            "n": 10,
            "events": 4,
            "r2": 0.111,
            "parameters": 0,
            "models": [
                {"model": "tumour volume", "parameters": 1, "events_per_parameter": 4.0, "patients_needed": 372}
            ],
        }
    ],
}
RUN: dict[str, Any] = {
    "schema": 1,
    "package_version": "0.1.0",
    "study": f"Sarcoma {HOSTILE}",
    "started": "2026-01-02T03:04:05+00:00",
    "seconds": 75.0,
    "peak_memory_mib": 900.0,
    "configuration": {"validation": {"folds": 5, "repeats": 2, "inner_folds": 4, "seed": 7}},
    "configuration_digest": "decade",
    "platform": {
        "python": "3.11",
        "torch": "2.10",
        "numpy": "2.0",
        "processor": "x86_64",
        "cores": 2,
        "device": "cuda",
        "precision": "bf16",
    },
    "timings": [{"step": "models", "seconds": 60.0}],
    "models": [
        {
            "name": model,
            "kind": "baseline" if model == "tumour volume" else model,
            "description": f"what {model} is",
            "parameters": {"weights": "/home/someone/weights.safetensors", "planes": ["axial", "coronal"]},
            "seconds": 20.0,
            "imputed": {},
            "size": {},
        }
        for model in MODELS
    ],
    "notes": ["The images are crops around the contour."],
}


def _patient(endpoint: str, i: int) -> dict[str, Any]:
    """Who is higher up the list has the event and, by radiomics, the higher risk; the network has it the other way."""
    said = {"radiomics": (i / 9, 1.0), "2be3-net": (1 - i / 9, i / 10)}
    return {
        "endpoint": endpoint,
        "patient": f"pa-{i:012x}",
        "value": float(i > 5) if endpoint == "metastasis" else 100.0 * (10 - i),
        "event": i > 5,
        "competing": False,
        "risks": [
            {"model": model, "rank": rank, "risk": rank, "probability": rank, "concordance": concordance}
            for model, (rank, concordance) in said.items()
        ],
    }


PATIENT_RECORDS = {
    "schema": 1,
    "package_version": "0.1.0",
    "patients": [_patient(endpoint, i) for endpoint in ("metastasis", "survival") for i in range(10)],
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path)


def write_study(tmp_path: Path) -> Path:
    """A study folder: ten scans of ten patients, three models, two endpoints."""
    for name, document in (
        ("cohort", COHORT), ("evaluation", EVALUATION), ("run", RUN), ("patients", PATIENT_RECORDS),
    ):  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    for name in ("volumes", "contours"):
        (tmp_path / name).mkdir()
    spacing = {"spacing_mm": "[4.0, 5.0, 6.0]"}
    for i in range(10):
        suv, contour = np.full((6, 5, 4), i, dtype=np.float32), np.zeros((6, 5, 4), np.uint8)
        contour[1:3, 2:4, 1] = 1
        Cache(tmp_path / "volumes").put(f"volume-{i}", {"suv": suv}, metadata=spacing)
        if i:
            Cache(tmp_path / "contours").put(f"volume-{i}", {"contour": contour}, metadata=spacing)
    rng = np.random.default_rng(0)
    with (tmp_path / "predictions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("patient_id", "model", "endpoint", "repeat", "fold", "risk", "probability"))
        for endpoint in ("metastasis", "survival"):
            for model in MODELS:
                writer.writerows((p, model, endpoint, r, 0, rng.normal(), "") for r in (0, 1) for p in PATIENTS)
    return tmp_path
