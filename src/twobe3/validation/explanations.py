"""Explanations out of fold: the models of the first repeat explain the patients whom they did not see."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from twobe3 import __version__
from twobe3.cohort.cohort import Cohort
from twobe3.cohort.ct import ct_key
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.map_check import MapCheck
from twobe3.evaluation.explanations import ContributionRecord, Explanations, MapRecord
from twobe3.explain.contributions import explain_by_parts
from twobe3.explain.explain import explain
from twobe3.io.cache import Arrays, Cache
from twobe3.io.files import digest
from twobe3.models.fit_cache import content
from twobe3.models.model import Model
from twobe3.validation.plan import CVPlan, FoldTask

EXPLAINED = "explained"  # name of the array of a fold: JSON as bytes


def explain_fold(model: Model, training: Cohort, tested: Cohort, maps: Cache) -> Arrays:
    """Explain the tested patients by a fitted model; maps go into the cache, records into the arrays of the fold."""
    endpoint, records = training.endpoint.name, []
    fitted = digest([__version__, model.cache_key(), *content(training, multitask=model.multitask)])
    parts = explain_by_parts(model, tested)
    for i, subject in enumerate(tested.subjects):
        alone = tested.subset([i]).without_outcomes()
        added = {name: float(values[i]) for name, values in parts.items()}
        record = {"patient": subject.patient, "contributions": added}
        try:
            found = explain(model, alone, contour=alone.contour(subject))
        except ConfigurationError as refusal:
            if refusal.code is not Code.NO_PATHWAY:
                raise
        else:
            of_ct = {} if found.of_ct is None else {"map_ct": found.of_ct}
            scan = [tested.volume_key(subject), *([ct_key(tested, subject)] if of_ct else [])]
            key = digest(["map", fitted, endpoint, found.method, *scan])
            maps.put(key, {"map": found.values, **of_ct}, metadata=tested.notes())
            checks = [asdict(check) for check in found.checks]
            record["map"] = {"method": found.method, "file": key, "risk": found.risk, "checks": checks}
        records.append(record)
    return {EXPLAINED: np.frombuffer(json.dumps(records).encode(), np.uint8)}


def has_maps(arrays: Arrays, maps: Cache) -> bool:
    """Whether the maps that a fold made are there and whole; a damaged one is set aside."""
    return all(maps.get(record["map"]["file"]) is not None for record in _read_records(arrays) if "map" in record)


def collect_explanations(plan: CVPlan, folds: Mapping[FoldTask, Arrays]) -> Explanations:
    """What the folds of a validation say of their patients."""
    maps: list[MapRecord] = []
    parts: list[ContributionRecord] = []
    for task, record in _records(folds):
        endpoint, model, patient = task.endpoint, plan.models[task.model].name, record["patient"]
        if record["contributions"]:
            parts.append(ContributionRecord(endpoint, model, patient, record["contributions"]))
        if found := record.get("map"):
            checks = tuple(MapCheck(**check) for check in found["checks"])
            file = f"{found['file']}.safetensors"
            maps.append(MapRecord(endpoint, model, patient, found["method"], file, found["risk"], checks))
    return Explanations(tuple(maps), tuple(parts))


def _records(folds: Mapping[FoldTask, Arrays]) -> Iterator[tuple[FoldTask, dict[str, Any]]]:
    for task, arrays in folds.items():
        for record in _read_records(arrays):
            yield task, record


def _read_records(arrays: Arrays) -> list[dict[str, Any]]:
    return list(json.loads(arrays[EXPLAINED].tobytes())) if EXPLAINED in arrays else []
