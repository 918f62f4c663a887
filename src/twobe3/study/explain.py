"""Where the risks of new scans come from: maps in patient space, pictures, and contributions, as files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import ConfigurationError, Exclusion, TwoBe3Error, UnusableScanError
from twobe3.core.grid import Grid
from twobe3.core.html import html_image, html_table
from twobe3.core.map_check import MapCheck
from twobe3.core.volume import SUVVolume
from twobe3.dicom.attributes import Policy
from twobe3.dicom.derived import make_parametric_map, make_segmentation, read_source
from twobe3.dicom.series import PETSeries
from twobe3.evaluation.explanations import RECORD, ContributionRecord, Explanations, MapRecord
from twobe3.explain.attribution import Method
from twobe3.explain.contributions import explain_by_parts
from twobe3.explain.explain import RiskMap, explain
from twobe3.explain.patient_space import find_strongest, to_scan
from twobe3.io.cache import Cache
from twobe3.io.files import require_folder, write_artefact, write_atomic
from twobe3.io.nifti import write_nifti
from twobe3.models.model import Model, training_record
from twobe3.models.registry import find_model, load_model, read_card
from twobe3.report.faces import hide_face
from twobe3.report.overlays import draw_overlay
from twobe3.report.wording import number
from twobe3.runtime.device import Device
from twobe3.runtime.progress import track
from twobe3.scans.find import Series, find_scans, scan_of
from twobe3.scans.scan import LoadedScan
from twobe3.study.checks import find_flags, find_refusals, to_exclusion
from twobe3.validation.cross_validate import file_name

log = logging.getLogger("twobe3")
PICTURES = 4
"""Shown in a notebook."""


@dataclass(frozen=True)
class ScanExplanations:
    """What was explained, under pseudonymous ids, what was not, and why, and in spite of what by force."""

    explanations: Explanations
    unused: tuple[Exclusion, ...]
    forced: tuple[Exclusion, ...] = ()
    flags: tuple[Exclusion, ...] = ()  # what is unusual about a scan that was explained
    folder: Path = field(default=Path(), repr=False)  # where the files are

    @property
    def explained(self) -> int:
        """Scans with a map or with contributions."""
        mapped = {one.patient for one in self.explanations.maps}
        return len(mapped | {one.patient for one in self.explanations.contributions})

    def to_json(self) -> dict[str, Any]:
        """The document of ``twobe3 explain --json``."""
        scans = {"unused": self.unused, "forced": self.forced, "flags": self.flags}
        return {**self.explanations.to_json(), **{name: [asdict(one) for one in of] for name, of in scans.items()}}

    def _repr_html_(self) -> str:
        """For a notebook: what was explained, and the pictures of the first maps, as far as they are still there."""
        maps = self.explanations.maps
        rows = [
            (one.patient, one.model, one.endpoint, number(one.risk), one.method, _verdict(one.checks)) for one in maps
        ]
        head = ("patient", "model", "endpoint", "risk", "method", "checks")
        table = html_table(rows, head=head, caption=format_count(len(maps), "map", "maps"))
        unused = [(one.patient, one.code, one.reason) for one in self.unused]
        left = html_table(unused, head=("patient", "code", "reason"), caption="not explained") if unused else ""
        pictures = [self.folder / one.file.replace(".nii.gz", ".png") for one in maps[:PICTURES]]
        shown = [html_image(path.read_bytes(), path.stem) for path in pictures if path.is_file()]
        return table + left + "".join(shown)


def explain_scans(
    model_path: Path | str,
    paths: Sequence[Path | str],
    out: Path | str,
    *,
    method: Method = "integrated-gradients",
    checks: bool = True,
    show_faces: bool = False,
    dicom: bool = False,
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
    dicom : bool
        Whether each map is also written as DICOM Parametric Map (``*.pm.dcm``), and the voxels that hold half of what
        raises the risk as Segmentation (``*.seg.dcm``), both in the patient's own study and with the patient's
        identity, see :mod:`twobe3.dicom.derived`. A scan in NIfTI has none, which a warning says: ``NO_DICOM_SOURCE``.
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
    files = _find_models(Path(model_path))
    models = [(load_model(path, cache=cache, device=device), read_card(path)[1]) for path in files]
    found = find_scans([Path(path) for path in paths])
    maps: list[MapRecord] = []
    parts: list[ContributionRecord] = []
    unused = [one.exclusion for one in found.unused]
    forced: list[Exclusion] = []
    flags: list[Exclusion] = []
    earlier = _read_earlier(folder)
    refused: ConfigurationError | None = None
    for series in track(found.series, "scans explained"):
        scan = scan_of(series, policy=policy, repair_dates=repair_dates)
        try:
            volume = scan.suv()
        except UnusableScanError as refusal:
            unused.append(Exclusion.of(refusal, patient=series.patient, series=series.series))
            continue
        subject = Subject(series.patient_id, LoadedScan(scan, volume), covariates=series.covariates)
        for model, model_digest in models:
            alone = Cohort((subject,), grid=model.grid_ or Grid())
            record = training_record(model)
            unlike = find_refusals(series, volume, record.card.trained_on, alone.grid)
            if unlike and not force:
                unused.append(to_exclusion(unlike, series))
                continue
            forced += [to_exclusion(unlike, series)] if unlike else []
            try:
                unusable = model.report(alone).exclusions
                if unusable:
                    unused.append(replace(unusable[0], patient=series.patient, series=series.series))
                    continue
                flags += [to_exclusion((one,), series) for one in find_flags(series, volume, alone, record)]
                output = _Output(folder, series, show_faces, dicom, model_digest)
                mapped, added = _explain_one(model, alone, output, method, checks)
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
            write_artefact(folder / RECORD, earlier.update(Explanations(tuple(maps), tuple(parts))).to_json())
    if refused is not None and not maps and not parts:
        raise refused
    explanations = Explanations(tuple(maps), tuple(parts))
    left, despite, unusual = (tuple(dict.fromkeys(one)) for one in (unused, forced, flags))
    result = ScanExplanations(explanations, left, despite, unusual, folder)
    write_artefact(folder / RECORD, result.to_json() | earlier.update(explanations).to_json())
    return result


def _read_earlier(folder: Path) -> Explanations:
    """What earlier runs explained in a folder, as far as the maps are there; nothing where there is no record."""
    try:
        found = Explanations.read(folder / RECORD)
    except TwoBe3Error:
        return Explanations()
    return replace(found, maps=tuple(one for one in found.maps if (folder / Path(one.file).name).is_file()))


@dataclass(frozen=True)
class _Output:
    """Where the files of one scan go, and which."""

    folder: Path
    series: Series
    show_faces: bool
    dicom: bool
    model_digest: str

    @property
    def patient(self) -> str:
        """Pseudonym."""
        return self.series.patient

    def write(self, model: Model, alone: Cohort, risk_map: RiskMap, contour: npt.NDArray[np.bool_] | None) -> str:
        """Write the map as NIfTI, as picture, and as DICOM where that is asked for; gives the name of the first."""
        assert model.endpoint_ is not None
        (subject,), endpoint = alone.subjects, model.endpoint_.name
        of = (self.patient, self.series.series, file_name(endpoint), file_name(model.name), risk_map.method)
        name = ".".join(of)
        volume = subject.scan.suv()
        values = to_scan(risk_map.values, alone.grid, volume.geometry)
        write_nifti(self.folder / f"{name}.nii.gz", replace(volume, array=values))
        title = f"{self.patient}: {model.name}, {endpoint}, risk {number(risk_map.risk)} ({risk_map.method})"
        suv, spacing = alone.volume(subject), alone.grid.spacing_mm
        shown = suv if self.show_faces else hide_face(suv, spacing, keep=contour)
        relevance = np.where(shown == suv, risk_map.values, np.float32(0))  # where the face is, nothing at all
        picture = draw_overlay(shown, spacing, relevance, contour, title=title, failed=_list_failed(risk_map.checks))
        write_atomic(self.folder / f"{name}.png", picture)
        if self.dicom:
            try:
                self._write_dicom(name, replace(volume, array=values), f"{model.name}, {endpoint}")
            except UnusableScanError as refusal:
                log.warning("%s: %s", self.patient, refusal)
        return f"{name}.nii.gz"

    def _write_dicom(self, name: str, relevance: SUVVolume, label: str) -> None:
        series = self.series
        if not isinstance(series, PETSeries):
            raise UnusableScanError(Code.NO_DICOM_SOURCE, "the scan is a NIfTI file")
        source, made_by = read_source(series, relevance.geometry), {"label": label, "model_digest": self.model_digest}
        meaning = "what each voxel adds to the risk"
        write_atomic(
            self.folder / f"{name}.pm.dcm", make_parametric_map(source, relevance.array, meaning=meaning, **made_by)
        )
        region = find_strongest(relevance.array)
        if region.any():
            segmentation = make_segmentation(source, region, region="half of what raises the risk", **made_by)
            write_atomic(self.folder / f"{name}.seg.dcm", segmentation)


def _list_failed(checks: Sequence[MapCheck]) -> list[str]:
    return [check.name for check in checks if check.passed is False]


def _verdict(checks: Sequence[MapCheck]) -> str:
    if all(check.passed is None for check in checks):
        return "not checked"
    return f"failed: {', '.join(_list_failed(checks))}" if _list_failed(checks) else "passed"


def _explain_one(
    model: Model, alone: Cohort, output: _Output, method: Method, checks: bool
) -> tuple[list[MapRecord], list[ContributionRecord]]:
    """Write the map of one model and scan, if it has one, and tell its contributions, if there are any."""
    assert model.endpoint_ is not None
    (subject,), endpoint = alone.subjects, model.endpoint_.name
    parts = {name: float(values[0]) for name, values in explain_by_parts(model, alone).items()}
    records = [ContributionRecord(endpoint, model.name, output.patient, parts)] if parts else []
    contour = alone.contour(subject)
    try:
        risk_map = explain(model, alone, method=method, contour=contour, checks=checks)
    except ConfigurationError as refusal:
        if refusal.code is not Code.NO_PATHWAY or not parts:
            raise
        return [], records
    file = output.write(model, alone, risk_map, contour)
    return [MapRecord(endpoint, model.name, output.patient, method, file, risk_map.risk, risk_map.checks)], records


def _find_models(path: Path) -> Iterable[Path]:
    """The model files of a study folder; else the one in a folder, or the file itself."""
    return sorted((path / "models").glob("*.safetensors")) or [find_model(path)]
