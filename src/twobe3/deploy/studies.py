"""Studies of an archive, predicted: each is fetched, predicted, and deleted here again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from twobe3.core.errors import EmptyInputError, UnusableScanError
from twobe3.deploy.dicomweb import DicomWeb
from twobe3.dicom.attributes import Policy
from twobe3.io.pseudonym import pseudonym
from twobe3.models.model import training_record
from twobe3.models.registry import load_model
from twobe3.runtime.device import Device
from twobe3.study.predict import PredictedScan, Predictions, ScanPrediction, predict, require_output


def predict_studies(
    model_path: Path | str,
    archive: DicomWeb,
    studies: Sequence[str],
    *,
    policy: Policy = "lenient",
    repair_dates: bool = False,
    device: Device | None = None,
    out: Path | str | None = None,
    force: bool = False,
    each: Callable[[PredictedScan], None] | None = None,
    progress: bool = False,
) -> Predictions:
    """Predict studies of an archive as :func:`twobe3.predict` does files.

    A study that cannot be had whole, or has no PET, becomes a prediction with the code that says why; the others go on.

    Parameters
    ----------
    model_path : path
        A model file, or a folder that holds ``model.safetensors``.
    archive : DicomWeb
    studies : sequence of str
        StudyInstanceUIDs; the ``path`` of a prediction is the one that it comes from.
    policy, repair_dates, device, out, force, each
        As for :func:`twobe3.predict`.
    progress : bool
        Whether a progress bar is shown on standard error.

    Raises
    ------
    ConfigurationError
        ``MODEL_INVALID``; ``OUTPUT_EXISTS``, ``OUTPUT_ENDING``; ``STUDY_MISSING``: one of them is no UID.
    EnvironmentFailure
        ``ARCHIVE_UNREACHABLE``, ``ACCESS_DENIED``, ``ANSWER_INVALID``; ``WRITE_FAILED``; ``EXTRA_MISSING``.
    """
    if out is not None:
        require_output(out)
    model = load_model(model_path, device=device)
    assert model.endpoint_ is not None
    rows: list[ScanPrediction] = []
    for study in dict.fromkeys(studies):
        with tempfile.TemporaryDirectory(prefix="twobe3-") as folder:  # for this user only
            try:
                archive.fetch(study, folder, progress=progress)
                found = predict(
                    model_path,
                    [folder],
                    policy=policy,
                    repair_dates=repair_dates,
                    device=device,
                    force=force,
                    each=each,
                ).predictions
            except (EmptyInputError, UnusableScanError) as refusal:
                reason = f"{pseudonym('study', study)}: {refusal.reason}"
                code, remedy = refusal.code.name, refusal.remedy
                found = (ScanPrediction("", "", model.endpoint_.name, code=code, reason=reason, remedy=remedy),)
        rows += [replace(one, path=study) for one in found]
    card = training_record(model).card
    predictions = Predictions(model.name, tuple(rows), card.percentile_of, card.intended_use)
    if out is not None:
        predictions.write(out)
    return predictions
