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
from twobe3.models.registry import load_model
from twobe3.models.uncertainty import find_uncertainty
from twobe3.runtime.device import Device
from twobe3.runtime.parallel import run_tasks
from twobe3.runtime.process import available_cores
from twobe3.scans.find import Series, find_scans, scan_of
from twobe3.scans.scan import LoadedScan, Scan
from twobe3.study.checks import Notice, find_flags, find_refusals, to_exclusion

FIRST_COLUMNS = ("patient_id", "path", "endpoint", "risk", "probability", "code", "reason", "remedy")
NOTICES = ("forced", "flags")
NUMBERS = ("percentile", "risk_low", "risk_high", "probability_low", "probability_high")
MANY = 16  # scans, for which several processes are worth starting
ENDINGS = (".csv", ".json")
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
    series : PETSeries or NiftiSeries
    volume : SUVVolume
    cohort : Cohort
        This scan alone, on the grid of the model.
    prediction : ScanPrediction
    """

    model: Model
    series: Series
    volume: SUVVolume
    cohort: Cohort
    prediction: ScanPrediction

    @property
    def model_digest(self) -> str:
        """Of the model's file, as its card shows it."""
        return self.model.file_digest_


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
        """Write them by the user's own ids: as JSON where the file ends in ``.json``, as CSV where it ends in ``.csv``.

        The JSON document is that of ``--json --show-ids``. The CSV has the columns of :data:`COLUMNS`; texts that a
        spreadsheet would take for formulas get a ``'`` in front.

        Raises
        ------
        ConfigurationError
            ``OUTPUT_EXISTS``, ``OUTPUT_ENDING``, see :func:`require_output`.
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
        ``OUTPUT_EXISTS``. ``OUTPUT_ENDING``: neither ``.csv`` nor ``.json``.
    """
    path = Path(path)
    if path.is_dir():
        remedy = f"name a file in it, for instance {path.name or '.'}/predictions.csv"
        raise ConfigurationError(Code.OUTPUT_EXISTS, f"{path.name or path} is a folder, not a file", remedy=remedy)
    if path.suffix.lower() not in ENDINGS:
        raise ConfigurationError(Code.OUTPUT_ENDING, f"{path.name} ends in neither {' nor '.join(ENDINGS)}")
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
    workers: int | None = 1,
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
        Where features are kept; by default nowhere.
    device : Device, optional
        Where networks compute; on the GPU where there is one, by default.
    out : path, optional
        File for the predictions by the user's own ids, see :meth:`Predictions.write`.
    force : bool
        Whether such scans are predicted all the same; each result says in spite of what.
    each : callable, optional
        Called with every scan that was predicted, where it was: see :class:`twobe3.deploy.ResultFiles`.
    workers : int, optional
        Processes, see :func:`~twobe3.runtime.parallel.run_tasks`. Each takes seconds to start, so that None is one for
        each core from sixteen scans on. The predictions are the same bits, in the same order.

    Raises
    ------
    EmptyInputError
        ``NO_PET``.
    ConfigurationError
        ``MODEL_INVALID``; ``OUTPUT_EXISTS`` and ``OUTPUT_ENDING`` before anything is read.
    EnvironmentFailure
        ``WORKER_DIED``: no worker could start. Of a scan that ended two workers its result says so.
    """
    if out is not None:
        require_output(out)
    model = load_model(model_path, cache=cache, device=device)
    found = find_scans([Path(path) for path in paths])
    unused = [_refuse(one.exclusion, model, one.patient_id, locate_files(one.files)) for one in found.unused]
    asked = _Asked(model, policy, repair_dates, force, each, keeps=cache is not None)
    tasks = list(enumerate(found.series))
    workers = workers or (available_cores() if len(tasks) >= MANY else 1)
    died = UnusableScanError(Code.WORKER_DIED, "two workers each ended while they predicted the scan")
    done = run_tasks(
        _predict_series, tasks, shared=asked, workers=workers, description="scans predicted",
        name=lambda task: task[1].series, instead=lambda task: _refuse_error(died, model, task[1]),
    )  # fmt: skip
    results = {number: prediction for (number, _), prediction in done}
    card = training_record(model).card
    in_order = (*unused, *(results[number] for number in sorted(results)))
    predictions = Predictions(model.name, in_order, card.percentile_of, card.intended_use)
    if out is not None:
        predictions.write(out)
    return predictions


@dataclass(frozen=True)
class _Asked:
    """What every scan is predicted with."""

    model: Model
    policy: Policy
    repair_dates: bool
    force: bool
    each: Callable[[PredictedScan], None] | None
    keeps: bool  # features, from one scan to the next

    def scan(self, series: Series) -> Scan:
        """A series as a scan that is read when it is needed."""
        return scan_of(series, policy=self.policy, repair_dates=self.repair_dates)


def _predict_series(asked: _Asked, task: tuple[int, Series]) -> ScanPrediction:
    """Predict a series, and do with it what is asked for."""
    model, series = asked.model, task[1]
    try:
        predicted = predict_scan(model, series, asked.scan(series), force=asked.force)
    except UnusableScanError as refusal:
        return _refuse_error(refusal, model, series)
    if isinstance(predicted, PredictedScan):
        if asked.each is not None:
            asked.each(predicted)
        predicted = predicted.prediction
    if not asked.keeps:
        model.cache.forget()
    return predicted


def predict_scan(model: Model, series: Series, scan: Scan, *, force: bool = False) -> PredictedScan | ScanPrediction:
    """Predict one scan, or say why not, which is a :class:`ScanPrediction` alone.

    Raises
    ------
    UnusableScanError
        The scan cannot become SUV.
    """
    assert model.endpoint_ is not None
    grid, record = model.grid_ or Grid(), training_record(model)
    volume = scan.suv()
    refused = find_refusals(series, volume, record.card.trained_on, grid)
    if refused and not force:
        return _refuse(to_exclusion(refused, series), model, series.patient_id, locate(series))
    alone = Cohort((Subject(series.patient_id, LoadedScan(scan, volume), covariates=series.covariates),), grid=grid)
    prediction = model.predict(alone)
    if not len(prediction):
        unusable = replace(model.report(alone).exclusions[0], patient=series.patient, series=series.series)
        return _refuse(unusable, model, series.patient_id, locate(series))
    risk = float(prediction.risk[0])
    uncertainty = find_uncertainty(model, alone, risk)
    said = ScanPrediction(
        series.patient,
        series.series,
        model.endpoint_.name,
        risk=risk,
        probability=None if prediction.probability is None else float(prediction.probability[0]),
        patient_id=series.patient_id or series.patient,
        path=locate(series),
        forced=refused,
        flags=find_flags(series, volume, alone, record),
        percentile=record.percentile(risk),
        **asdict(uncertainty),
    )
    return PredictedScan(model, series, volume, alone, said)


def _refuse_error(error: UnusableScanError, model: Model, series: Series) -> ScanPrediction:
    exclusion = Exclusion.of(error, patient=series.patient, series=series.series)
    return _refuse(exclusion, model, series.patient_id, locate(series))


def _refuse(exclusion: Exclusion, model: Model, patient_id: str, path: str) -> ScanPrediction:
    assert model.endpoint_ is not None
    return ScanPrediction(
        exclusion.patient, exclusion.series, model.endpoint_.name, code=exclusion.code, reason=exclusion.reason,
        remedy=exclusion.remedy, patient_id=patient_id or exclusion.patient, path=path,
    )  # fmt: skip
