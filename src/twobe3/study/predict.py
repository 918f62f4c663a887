"""A fitted model on new scans."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.exclusions import locate, locate_files
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion, UnusableScanError
from twobe3.core.grid import Grid
from twobe3.core.volume import SUVVolume
from twobe3.dicom.attributes import Policy
from twobe3.io.cache import Cache
from twobe3.io.csv import to_csv
from twobe3.io.files import write_atomic
from twobe3.models.card import INTENDED_USE, RiskSource
from twobe3.models.model import Model, training_record
from twobe3.models.registry import load_model, read_card
from twobe3.models.uncertainty import find_uncertainty
from twobe3.runtime.device import Device
from twobe3.scans.find import Series, find_scans, scan_of
from twobe3.scans.scan import LoadedScan, Scan
from twobe3.study.checks import Notice, find_flags, find_refusals, to_exclusion

FIRST_COLUMNS = ("patient_id", "path", "endpoint", "risk", "probability", "code", "reason", "remedy")
NOTICES = ("forced", "flags")
NUMBERS = ("percentile", "risk_low", "risk_high", "probability_low", "probability_high")
COLUMNS = (*FIRST_COLUMNS, *NOTICES, *NUMBERS)


@dataclass(frozen=True)
class ScanPrediction:
    """What a model says of one series, under pseudonymous ids: a risk, or why it says nothing.

    The user's own id, or the pseudonym where only that is known, and where the files lie are for their owner alone.
    ``forced`` holds the refusals in spite of which the series was predicted, ``flags`` what is unusual about it.
    ``percentile`` is the share in % of the training patients with a lower risk; whose risks these are, the card of the
    model says. The intervals are those of :class:`~twobe3.models.uncertainty.Uncertainty`, which says what they leave
    out.
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
    forced: tuple[Notice, ...] = ()
    flags: tuple[Notice, ...] = ()
    percentile: float | None = None
    risk_low: float | None = None
    risk_high: float | None = None
    probability_low: float | None = None
    probability_high: float | None = None

    def to_json(self, *, show_ids: bool = False) -> dict[str, Any]:
        """What the document of ``twobe3 predict --json`` says of the series."""
        public = ("patient", "series_uid", "endpoint", "risk", "probability", "code", "reason")
        owners = {"patient_id": self.patient_id, "path": self.path} if show_ids else {}
        notices = {name: [asdict(notice) for notice in getattr(self, name)] for name in NOTICES}
        return {**owners, **{name: getattr(self, name) for name in public}, **notices, **self._numbers()}

    def cells(self) -> list[Any]:
        """The cells of its row of :data:`COLUMNS`; of notices the codes."""
        codes = {name: " ".join(notice.code for notice in getattr(self, name)) for name in NOTICES}
        return [codes.get(column, getattr(self, column)) for column in COLUMNS]

    def _numbers(self) -> dict[str, float | None]:
        return {name: getattr(self, name) for name in NUMBERS}


@dataclass(frozen=True, eq=False)
class PredictedScan:
    """A scan that was predicted, for those who make more of it than a row.

    Attributes
    ----------
    model : Model
    model_digest : str
        Of its file, as its card shows it.
    series : PETSeries or NiftiSeries
    volume : SUVVolume
    cohort : Cohort
        This scan alone, on the grid of the model.
    prediction : ScanPrediction
    """

    model: Model
    model_digest: str
    series: Series
    volume: SUVVolume
    cohort: Cohort
    prediction: ScanPrediction


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model, one for each series found."""

    model: str
    predictions: tuple[ScanPrediction, ...]
    percentile_of: RiskSource = "training"
    intended_use: str = INTENDED_USE

    @property
    def usable(self) -> int:
        """Series with a prediction."""
        return sum(prediction.risk is not None for prediction in self.predictions)

    def to_json(self, *, show_ids: bool = False) -> dict[str, Any]:
        """The document of ``twobe3 predict --json``; the user's own ids are in it only where they are asked for."""
        rows = [one.to_json(show_ids=show_ids) for one in self.predictions]
        about = {"percentile_of": self.percentile_of, "intended_use": self.intended_use}
        return {"model": self.model, "predictions": rows, **about}

    def write(self, path: Path | str) -> None:
        """Write them by the user's own ids: as JSON where the file ends in ``.json``, else as CSV.

        The JSON document is that of ``--json --show-ids``. The CSV has the columns of :data:`COLUMNS`; texts that a
        spreadsheet would take for formulas get a ``'`` in front.

        Raises
        ------
        ConfigurationError
            ``OUTPUT_EXISTS``, see :func:`require_output`.
        EnvironmentFailure
            ``WRITE_FAILED``.
        """
        require_output(path)
        if is_json(path):
            write_atomic(Path(path), to_json_text(self.to_json(show_ids=True)))
        else:
            write_atomic(Path(path), to_csv([COLUMNS, *(one.cells() for one in self.predictions)]))


def is_json(path: Path | str) -> bool:
    """Whether predictions are written to a file as JSON."""
    return Path(path).suffix.lower() == ".json"


def to_json_text(document: dict[str, Any]) -> bytes:
    """A document as one line of JSON."""
    return f"{json.dumps(document, ensure_ascii=False, allow_nan=False)}\n".encode()


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
    begins = b'{"model": ' if is_json(path) else ",".join(FIRST_COLUMNS).encode()
    if path.exists() and not path.read_bytes().startswith(begins):
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
    force: bool = False,
    each: Callable[[PredictedScan], None] | None = None,
) -> Predictions:
    """Predict the patients whose scans lie under some paths; one scan a patient.

    A scan unlike those that the model was trained on is refused, see :func:`~twobe3.study.checks.find_refusals`, or
    flagged, see :func:`~twobe3.study.checks.find_flags`.

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
    force : bool
        Whether such scans are predicted all the same; each result says in spite of what.
    each : callable, optional
        Called with every scan that was predicted, in turn: see :class:`twobe3.deploy.ResultFiles`.

    Raises
    ------
    EmptyInputError
        ``NO_PET``.
    ConfigurationError
        ``MODEL_INVALID``; ``OUTPUT_EXISTS`` before anything is read.
    """
    if out is not None:
        require_output(out)
    model, model_digest = load_model(model_path, cache=cache, device=device), read_card(model_path)[1]
    assert model.endpoint_ is not None
    endpoint = model.endpoint_.name
    found = find_scans([Path(path) for path in paths])
    results = [_refuse(one.exclusion, endpoint, one.patient_id, locate_files(one.files)) for one in found.unused]
    for series in found.series:
        scan = scan_of(series, policy=policy, repair_dates=repair_dates)
        try:
            predicted = predict_scan(model, series, scan, force=force, model_digest=model_digest)
        except UnusableScanError as refusal:
            reason = Exclusion.of(refusal, patient=series.patient, series=series.series)
            results.append(_refuse(reason, endpoint, series.patient_id, locate(series)))
            continue
        results.append(predicted if isinstance(predicted, ScanPrediction) else predicted.prediction)
        if each is not None and isinstance(predicted, PredictedScan):
            each(predicted)
    card = training_record(model).card
    predictions = Predictions(model.name, tuple(results), card.percentile_of, card.intended_use)
    if out is not None:
        predictions.write(out)
    return predictions


def predict_scan(
    model: Model, series: Series, scan: Scan, *, force: bool = False, model_digest: str = ""
) -> PredictedScan | ScanPrediction:
    """Predict one scan, or say why not, which is a :class:`ScanPrediction` alone.

    Raises
    ------
    UnusableScanError
        The scan cannot become SUV.
    """
    assert model.endpoint_ is not None
    endpoint, grid, record = model.endpoint_.name, model.grid_ or Grid(), training_record(model)
    volume = scan.suv()
    refused = find_refusals(series, volume, record.card.trained_on, grid)
    if refused and not force:
        return _refuse(to_exclusion(refused, series), endpoint, series.patient_id, locate(series))
    alone = Cohort((Subject(series.patient_id, LoadedScan(scan, volume), covariates=series.covariates),), grid=grid)
    prediction = model.predict(alone)
    if not len(prediction):
        unusable = replace(model.report(alone).exclusions[0], patient=series.patient, series=series.series)
        return _refuse(unusable, endpoint, series.patient_id, locate(series))
    risk = float(prediction.risk[0])
    uncertainty = find_uncertainty(model, alone, risk)
    said = ScanPrediction(
        series.patient,
        series.series,
        endpoint,
        risk=risk,
        probability=None if prediction.probability is None else float(prediction.probability[0]),
        patient_id=series.patient_id or series.patient,
        path=locate(series),
        forced=refused,
        flags=find_flags(series, volume, alone, record),
        percentile=record.percentile(risk),
        **asdict(uncertainty),
    )
    return PredictedScan(model, model_digest, series, volume, alone, said)


def _refuse(exclusion: Exclusion, endpoint: str, patient_id: str, path: str) -> ScanPrediction:
    return ScanPrediction(
        exclusion.patient, exclusion.series, endpoint, code=exclusion.code, reason=exclusion.reason,
        remedy=exclusion.remedy, patient_id=patient_id or exclusion.patient, path=path,
    )  # fmt: skip
