"""Where the risks of new scans come from: maps in patient space, pictures, and contributions, as files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion, UnusableScanError
from twobe3.core.grid import Grid
from twobe3.dicom.attributes import Policy
from twobe3.evaluation.explanations import RECORD, ContributionRecord, Explanations, MapRecord
from twobe3.explain.attribution import Method
from twobe3.explain.contributions import explain_by_parts
from twobe3.explain.explain import explain
from twobe3.explain.patient_space import to_scan
from twobe3.io.cache import Cache
from twobe3.io.files import require_folder, write_artefact, write_atomic
from twobe3.io.nifti import write_nifti
from twobe3.models.model import Model, training_record
from twobe3.models.registry import load_model
from twobe3.report.faces import hide_face
from twobe3.report.overlays import draw_overlay
from twobe3.report.wording import number
from twobe3.runtime.device import Device
from twobe3.runtime.progress import track
from twobe3.scans.find import find_scans, scan_of
from twobe3.scans.scan import LoadedScan
from twobe3.study.checks import find_refusals, to_exclusion
from twobe3.validation.cross_validate import file_name


@dataclass(frozen=True)
class ScanExplanations:
    """What was explained, under pseudonymous ids, what was not, and why, and in spite of what by force."""

    explanations: Explanations
    unused: tuple[Exclusion, ...]
    forced: tuple[Exclusion, ...] = ()

    @property
    def explained(self) -> int:
        """Scans with a map or with contributions."""
        mapped = {one.patient for one in self.explanations.maps}
        return len(mapped | {one.patient for one in self.explanations.contributions})

    def to_json(self) -> dict[str, Any]:
        """The document of ``twobe3 explain --json``."""
        scans = {"unused": self.unused, "forced": self.forced}
        return {**self.explanations.to_json(), **{name: [asdict(one) for one in of] for name, of in scans.items()}}


def explain_scans(
    model_path: Path | str,
    paths: Sequence[Path | str],
    out: Path | str,
    *,
    method: Method = "integrated-gradients",
    checks: bool = True,
    show_faces: bool = False,
    policy: Policy = "lenient",
    repair_dates: bool = False,
    cache: Cache | None = None,
    device: Device | None = None,
    force: bool = False,
) -> ScanExplanations:
    """Explain the risks that models give the patients whose scans lie under some paths.

    For each scan and model that sees voxels: a map on the scan's own voxels as NIfTI, and a picture of it as PNG, named
    by the patient's pseudonym. Contributions of features, stacks and members, where a risk is a sum.
    ``explanations.json`` says of each map the risk and its checks.

    Parameters
    ----------
    model_path : path
        A model file, a folder with ``model.safetensors``, or a study folder, all of whose final models are explained.
    paths : sequence of path
        Files or folders of DICOM, or of NIfTI that are SUV already.
    out : path
        Folder for the files; made where it is not there.
    method : {"integrated-gradients", "grad-cam", "occlusion"}
        See :mod:`twobe3.explain.attribution`.
    checks : bool
        Whether maps are checked, see :mod:`twobe3.explain.checks`; takes most of the time.
    show_faces : bool
        Whether pictures show the face, where the scan has one.
    policy, repair_dates, cache, device, force
        As of :func:`~twobe3.study.predict.predict`.

    Raises
    ------
    EmptyInputError
        ``NO_PET``.
    ConfigurationError
        ``MODEL_INVALID``; ``NO_PATHWAY``: no model has a map, and none is a sum of parts.
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    folder = Path(out)
    require_folder(folder)
    models = [load_model(path, cache=cache, device=device) for path in _find_models(Path(model_path))]
    found = find_scans([Path(path) for path in paths])
    maps: list[MapRecord] = []
    parts: list[ContributionRecord] = []
    unused = [one.exclusion for one in found.unused]
    forced: list[Exclusion] = []
    refused: ConfigurationError | None = None
    for series in track(found.series, "scans explained"):
        scan = scan_of(series, policy=policy, repair_dates=repair_dates)
        try:
            volume = scan.suv()
        except UnusableScanError as refusal:
            unused.append(Exclusion.of(refusal, patient=series.patient, series=series.series))
            continue
        subject = Subject(series.patient_id, LoadedScan(scan, volume), covariates=series.covariates)
        for model in models:
            alone = Cohort((subject,), grid=model.grid_ or Grid())
            unlike = find_refusals(series, volume, training_record(model).card.trained_on, alone.grid)
            if unlike and not force:
                unused.append(to_exclusion(unlike, series))
                continue
            forced += [to_exclusion(unlike, series)] if unlike else []
            try:
                unusable = model.report(alone).exclusions
                if unusable:
                    unused.append(replace(unusable[0], patient=series.patient, series=series.series))
                    continue
                mapped, added = _explain_one(model, alone, series.patient, folder, method, checks, show_faces)
            except UnusableScanError as refusal:
                unused.append(replace(Exclusion.of(refusal), patient=series.patient, series=series.series))
                break  # the scan is the same for every model
            except ConfigurationError as refusal:
                if refusal.code is not Code.NO_PATHWAY:
                    raise
                refused = refusal  # another model of the study may have a map
                continue
            maps += mapped
            parts += added
    if refused is not None and not maps and not parts:
        raise refused
    result = ScanExplanations(Explanations(tuple(maps), tuple(parts)), tuple(unused), tuple(dict.fromkeys(forced)))
    write_artefact(folder / RECORD, result.to_json())
    return result


def _explain_one(
    model: Model, alone: Cohort, patient: str, folder: Path, method: Method, checks: bool, show_faces: bool
) -> tuple[list[MapRecord], list[ContributionRecord]]:
    """Write the map of one model and scan, if it has one, and tell its contributions, if there are any."""
    assert model.endpoint_ is not None
    (subject,), endpoint = alone.subjects, model.endpoint_.name
    parts = {name: float(values[0]) for name, values in explain_by_parts(model, alone).items()}
    records = [ContributionRecord(endpoint, model.name, patient, parts)] if parts else []
    contour = alone.contour(subject)
    try:
        risk_map = explain(model, alone, method=method, contour=contour, checks=checks)
    except ConfigurationError as refusal:
        if refusal.code is not Code.NO_PATHWAY or not parts:
            raise
        return [], records
    name = f"{patient}.{file_name(endpoint)}.{file_name(model.name)}.{method}"
    volume = subject.scan.suv()
    values = to_scan(risk_map.values, alone.grid, volume.geometry)
    write_nifti(folder / f"{name}.nii.gz", replace(volume, array=values))
    suv, spacing = alone.volume(subject), alone.grid.spacing_mm
    shown = suv if show_faces else hide_face(suv, spacing, keep=contour)
    title = f"{patient}: {model.name}, {endpoint}, risk {number(risk_map.risk)} ({method})"
    failed = [check.name for check in risk_map.checks if check.passed is False]
    relevance = np.where(shown == suv, risk_map.values, np.float32(0))  # where the face is, nothing at all
    write_atomic(folder / f"{name}.png", draw_overlay(shown, spacing, relevance, contour, title=title, failed=failed))
    return [MapRecord(endpoint, model.name, patient, method, f"{name}.nii.gz", risk_map.risk, risk_map.checks)], records


def _find_models(path: Path) -> Iterable[Path]:
    """The model files of a study folder; else the file itself, or the folder that holds one."""
    return sorted((path / "models").glob("*.safetensors")) or [path]
