"""A fitted model on new scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.exclusions import locate, locate_files
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion, UnusableScanError
from twobe3.core.grid import Grid
from twobe3.dicom.attributes import Policy
from twobe3.io.cache import Cache
from twobe3.io.csv import to_csv
from twobe3.io.files import write_atomic
from twobe3.models.registry import load_model
from twobe3.runtime.device import Device
from twobe3.scans.find import find_scans, scan_of

COLUMNS = ("patient_id", "path", "endpoint", "risk", "probability", "code", "reason", "remedy")


@dataclass(frozen=True)
class ScanPrediction:
    """What a model says of one series, under pseudonymous ids: a risk, or why it says nothing.

    The user's own id, or the pseudonym where only that is known, and where the files lie are for their owner alone.
    """

    patient: str
    series_uid: str
    endpoint: str
    risk: float | None = None  # None where the series could not be used
    probability: float | None = None  # None also where the model gives none
    code: str | None = None  # why there is no prediction
    reason: str | None = None
    remedy: str | None = field(default=None, repr=False)
    patient_id: str = field(default="", repr=False)
    path: str = field(default="", repr=False)

    def to_json(self, *, show_ids: bool = False) -> dict[str, Any]:
        """What the document of ``twobe3 predict --json`` says of the series."""
        public = ("patient", "series_uid", "endpoint", "risk", "probability", "code", "reason")
        owners = {"patient_id": self.patient_id, "path": self.path} if show_ids else {}
        return {**owners, **{name: getattr(self, name) for name in public}}


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model, one for each series found."""

    model: str
    predictions: tuple[ScanPrediction, ...]

    @property
    def usable(self) -> int:
        """Series with a prediction."""
        return sum(prediction.risk is not None for prediction in self.predictions)

    def to_json(self, *, show_ids: bool = False) -> dict[str, Any]:
        """The document of ``twobe3 predict --json``; the user's own ids are in it only where they are asked for."""
        return {"model": self.model, "predictions": [one.to_json(show_ids=show_ids) for one in self.predictions]}

    def write(self, path: Path | str) -> None:
        """Write them as CSV with the columns of :data:`COLUMNS`, by the user's own ids.

        Texts that a spreadsheet would take for formulas get a ``'`` in front.

        Raises
        ------
        ConfigurationError
            ``OUTPUT_EXISTS``, see :func:`require_output`.
        EnvironmentFailure
            ``WRITE_FAILED``.
        """
        require_output(path)
        rows = ([getattr(one, column) for column in COLUMNS] for one in self.predictions)
        write_atomic(Path(path), to_csv([COLUMNS, *rows]))


def require_output(path: Path | str) -> None:
    """Refuse a file that can't be where predictions are written: a folder, or a file of something else.

    Raises
    ------
    ConfigurationError
        ``OUTPUT_EXISTS``.
    """
    path = Path(path)
    if path.is_dir():
        remedy = f"name a file in it, for instance {path.name or '.'}/predictions.csv"
        raise ConfigurationError(Code.OUTPUT_EXISTS, f"{path.name or path} is a folder, not a file", remedy=remedy)
    if path.exists() and not path.read_bytes().startswith(to_csv([COLUMNS])):
        reason = f"{path.name} is there and holds something else than predictions"
        raise ConfigurationError(Code.OUTPUT_EXISTS, reason, remedy="choose another file")


def predict(
    model_path: Path | str,
    paths: Sequence[Path | str],
    *,
    policy: Policy = "lenient",
    repair_dates: bool = False,
    cache: Cache | None = None,
    device: Device | None = None,
    out: Path | str | None = None,
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
    out : path, optional
        File for the predictions by the user's own ids, see :meth:`Predictions.write`.

    Raises
    ------
    EmptyInputError
        ``NO_PET``.
    ConfigurationError
        ``MODEL_INVALID``; ``OUTPUT_EXISTS`` before anything is read.
    """
    if out is not None:
        require_output(out)
    model = load_model(model_path, cache=cache, device=device)
    assert model.endpoint_ is not None
    endpoint, grid = model.endpoint_.name, model.grid_ or Grid()
    found = find_scans([Path(path) for path in paths])
    results = [_refuse(one.exclusion, endpoint, one.patient_id, locate_files(one.files)) for one in found.unused]
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
            results.append(_refuse(reason, endpoint, series.patient_id, locate(series)))
            continue
        probability = None if prediction.probability is None else float(prediction.probability[0])
        risk = float(prediction.risk[0])
        own = {"patient_id": series.patient_id or series.patient, "path": locate(series)}
        results.append(ScanPrediction(series.patient, series.series, prediction.endpoint, risk, probability, **own))
    predictions = Predictions(model.name, tuple(results))
    if out is not None:
        predictions.write(out)
    return predictions


def _refuse(exclusion: Exclusion, endpoint: str, patient_id: str, path: str) -> ScanPrediction:
    return ScanPrediction(
        exclusion.patient, exclusion.series, endpoint, code=exclusion.code, reason=exclusion.reason,
        remedy=exclusion.remedy, patient_id=patient_id or exclusion.patient, path=path,
    )  # fmt: skip
