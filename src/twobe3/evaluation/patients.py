"""What was observed of each patient and what every model said out of fold: ``patients.json``, under pseudonyms."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from scipy.stats import rankdata

from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.io.artefact import read_artefact


@dataclass(frozen=True)
class PatientRisk:
    """What one model said of a patient.

    Attributes
    ----------
    model : str
    rank : float
        Where the risk lies among the risks of all patients, from 0 (the lowest) to 1 (the highest), the mean over the
        repeats: risks of different repeats come from different models, which need not share a scale.
    risk : float
        The mean over the repeats.
    probability : float or None
        The mean over the repeats, where the model gives it.
    concordance : float or None
        Share of the pairs with other patients of another outcome that the ranks order rightly, ties counting ½; None
        without such a pair. Its mean, weighted by the pairs, is the concordance of the ranks.
    """

    model: str
    rank: float
    risk: float
    probability: float | None
    concordance: float | None


@dataclass(frozen=True)
class PatientRecord:
    """What was observed of a patient, and what the models said.

    Attributes
    ----------
    endpoint, patient : str
        Name, and pseudonym.
    value : float
        See :class:`~twobe3.core.outcomes.Outcomes`; the time of a time to an event.
    event, competing : bool
    risks : tuple of PatientRisk
        Of the models that predicted the patient.
    """

    endpoint: str
    patient: str
    value: float
    event: bool
    competing: bool
    risks: tuple[PatientRisk, ...]

    def risk(self, model: str) -> PatientRisk | None:
        """What a model said; None where it did not predict the patient."""
        return next((one for one in self.risks if one.model == model), None)


@dataclass(frozen=True)
class PatientRecords:
    """Every patient of every endpoint whom a model predicted; the fields are the keys of ``patients.json``."""

    patients: tuple[PatientRecord, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        document: dict[str, Any] = json.loads(_SCHEMA.dump_json(self))
        return document

    @classmethod
    def read(cls, path: Path) -> PatientRecords:
        """Read ``patients.json``; raises as :func:`~twobe3.io.artefact.read_artefact`."""
        return read_artefact(path, _SCHEMA)


def summarize_patients(
    predictions: Iterable[Prediction], endpoints: Sequence[Outcomes], pseudonyms: Mapping[str, str]
) -> PatientRecords:
    """Gather what was observed and predicted, in the order of the outcomes.

    Parameters
    ----------
    predictions : iterable of Prediction
        Out of fold, of every model and endpoint.
    endpoints : sequence of Outcomes
    pseudonyms : mapping
        From the user's patient ids, which are in no record, to pseudonyms.
    """
    risks: dict[tuple[str, str], list[PatientRisk]] = defaultdict(list)
    outcomes = {one.endpoint.name: one for one in endpoints}
    for prediction in predictions:
        if len(prediction):
            for patient, risk in _summarize_model(prediction, outcomes[prediction.endpoint]).items():
                risks[prediction.endpoint, patient].append(risk)
    return PatientRecords(
        tuple(
            PatientRecord(name, pseudonyms[patient], float(value), bool(event), bool(competing), tuple(found))
            for name, one in outcomes.items()
            for patient, value, event, competing in zip(one.patients, one.value, one.event, one.competing, strict=True)
            if (found := risks.get((name, patient)))
        )
    )


def _summarize_model(prediction: Prediction, outcomes: Outcomes) -> dict[str, PatientRisk]:
    ranks, rows = np.empty(len(prediction)), defaultdict[str, list[int]](list)
    for repeat in np.unique(prediction.repeat):
        (there,) = np.nonzero(prediction.repeat == repeat)
        ranks[there] = (rankdata(prediction.risk[there]) - 1) / max(len(there) - 1, 1)
    for row, patient in enumerate(prediction.patients):
        rows[patient].append(row)
    mean = {patient: float(ranks[of_patient].mean()) for patient, of_patient in rows.items()}
    known = outcomes.of([patient for patient in outcomes.patients if patient in mean])
    concordance = share_concordant(known, np.array([mean[patient] for patient in known.patients]))
    probability = prediction.probability
    return {
        patient: PatientRisk(
            prediction.model,
            mean[patient],
            float(prediction.risk[rows[patient]].mean()),
            None if probability is None else float(probability[rows[patient]].mean()),
            None if np.isnan(share) else float(share),
        )
        for patient, share in zip(known.patients, concordance, strict=True)
    }


def share_concordant(outcomes: Outcomes, risk: FloatArray) -> FloatArray:
    """Of each patient, the share of the comparable pairs that the risk orders rightly, ties in risk counting ½.

    Comparable are a patient with the event and one without; for times the patient who has the event and another who
    is then still without it (Harrell 1996, Stat Med 15, 361–387); for numbers two different ones.

    Parameters
    ----------
    outcomes : Outcomes
        Of n patients.
    risk : ndarray of float64, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where a patient is in no comparable pair.
    """
    value, event, kind = outcomes.value, outcomes.event, outcomes.endpoint
    if kind.has_times:
        later = (value[None, :] > value[:, None]) | ((value[None, :] == value[:, None]) & ~event[None, :])
        above = event[:, None] & later
    else:
        above = value[:, None] > value[None, :]
    right = above * (np.heaviside(risk[:, None] - risk[None, :], 0.5))
    pairs = above.sum(axis=0) + above.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray((right.sum(axis=0) + right.sum(axis=1)) / np.where(pairs, pairs, np.nan))


_SCHEMA = TypeAdapter(PatientRecords)
