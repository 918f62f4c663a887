"""A fitted model on new scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.core.grid import Grid
from twobe3.dicom.attributes import Policy
from twobe3.io.cache import Cache
from twobe3.models.registry import load_model
from twobe3.runtime.device import Device
from twobe3.scans.find import find_scans, scan_of


@dataclass(frozen=True)
class ScanPrediction:
    """What a model says of one series, under pseudonymous ids: a risk, or why it says nothing."""

    patient: str
    series_uid: str
    endpoint: str
    risk: float | None = None  # None where the series could not be used
    probability: float | None = None  # None also where the model gives none
    code: str | None = None  # why there is no prediction
    reason: str | None = None


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model, one for each series found."""

    model: str
    predictions: tuple[ScanPrediction, ...]

    @property
    def usable(self) -> int:
        """Series with a prediction."""
        return sum(prediction.risk is not None for prediction in self.predictions)

    def to_json(self) -> dict[str, Any]:
        """The document of ``twobe3 predict --json``."""
        return {"model": self.model, "predictions": [vars(prediction) for prediction in self.predictions]}


def predict(
    model_path: Path | str,
    paths: Sequence[Path | str],
    *,
    policy: Policy = "lenient",
    repair_dates: bool = False,
    cache: Cache | None = None,
    device: Device | None = None,
) -> Predictions:
    """Predict the patients whose scans lie under some paths; one scan a patient.

    Parameters
    ----------
    model_path : path
        A model file, or a folder that holds ``model.safetensors``.
    paths : sequence of path
        Files or folders of DICOM, or of NIfTI that are SUV already.
    policy : {"lenient", "strict"}
        For the SUV rules.
    repair_dates : bool
        Whether, under the lenient policy, an injection whose date contradicts the scan's is taken at its time of day.
    cache : Cache, optional
        Where features are kept; in memory by default.
    device : Device, optional
        Where networks compute; on the GPU where there is one, by default.

    Raises
    ------
    EmptyInputError
        ``NO_PET``.
    ConfigurationError
        ``MODEL_INVALID``.
    """
    model = load_model(model_path, cache=cache, device=device)
    assert model.endpoint_ is not None
    endpoint, grid = model.endpoint_.name, model.grid_ or Grid()
    found = find_scans([Path(path) for path in paths])
    results = [_refuse(exclusion, endpoint) for exclusion in found.exclusions]
    for series in found.series:
        subject = Subject(
            series.patient_id,
            scan_of(series, policy=policy, repair_dates=repair_dates),
            covariates=series.covariates,
        )
        alone = Cohort((subject,), grid=grid)
        try:
            prediction = model.predict(alone)
        except UnusableScanError as refusal:
            unusable: Exclusion | None = Exclusion.of(refusal)
        else:
            unusable = None if len(prediction) else model.report(alone).exclusions[0]
        if unusable is not None:
            reason = replace(unusable, patient=series.patient, series=series.series)
            results.append(_refuse(reason, endpoint))
            continue
        probability = None if prediction.probability is None else float(prediction.probability[0])
        risk = float(prediction.risk[0])
        results.append(ScanPrediction(series.patient, series.series, prediction.endpoint, risk, probability))
    return Predictions(model.name, tuple(results))


def _refuse(exclusion: Exclusion, endpoint: str) -> ScanPrediction:
    return ScanPrediction(exclusion.patient, exclusion.series, endpoint, code=exclusion.code, reason=exclusion.reason)
