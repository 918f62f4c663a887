"""Where the risks of new scans come from: maps in patient space, pictures, and contributions, as files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twobe3 import __version__
from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.ct import ct_key, read_hu
from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import ConfigurationError, Exclusion, TwoBe3Error, UnusableScanError
from twobe3.core.grid import Grid
from twobe3.core.html import html_image, html_table
from twobe3.core.map_check import MapCheck
from twobe3.core.volume import AIR_HU, SUVVolume
from twobe3.dicom.attributes import Policy
from twobe3.dicom.derived import make_parametric_map, make_segmentation, read_source
from twobe3.dicom.series import PETSeries
from twobe3.evaluation.explanations import RECORD, ContributionRecord, Explanations, MapRecord
from twobe3.explain.attribution import FWHM_MM, Method
from twobe3.explain.contributions import explain_by_parts
from twobe3.explain.explain import RiskMap, explain
from twobe3.explain.pathway import has_pathway
from twobe3.explain.patient_space import find_strongest, to_scan
from twobe3.io.cache import CACHE_VERSION, Cache
from twobe3.io.checksums import read_checksums, require_as_written
from twobe3.io.files import digest, remove_partials, require_folder, write_artefact, write_atomic
from twobe3.io.nifti import write_nifti
from twobe3.models.model import Model, training_record
from twobe3.models.registry import find_model, load_model
from twobe3.report.faces import hide_face
from twobe3.report.overlays import CTOverlay, draw_overlay
from twobe3.report.wording import number, with_sign
from twobe3.runtime.device import Device
from twobe3.runtime.progress import track
from twobe3.scans.find import Series, find_scans, scan_of
from twobe3.scans.scan import LoadedScan, Scan
from twobe3.study.checks import find_flags, find_refusals, to_exclusion
from twobe3.validation.cross_validate import file_name

log = logging.getLogger("twobe3")
PICTURES = 4
"""Shown in a notebook."""
CT_ENDING = ".ct"
"""Of the names of files that say what voxels of the CT add."""
MEANINGS = {"": "what each voxel adds to the risk", CT_ENDING: "what each voxel of the CT adds to the risk"}


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
        """For a notebook: what was explained, with checks, parts, and the first maps' pictures that are still there."""
        maps = self.explanations.maps
        rows = [
            (one.patient, one.model, one.endpoint, number(one.risk), one.method, _verdict(one.checks)) for one in maps
        ]
        head = ("patient", "model", "endpoint", "risk", "method", "checks")
        table = html_table(rows, head=head, caption=format_count(len(maps), "map", "maps"))
        unused = [(one.patient, one.code, one.reason) for one in self.unused]
        left = html_table(unused, head=("patient", "code", "reason"), caption="not explained") if unused else ""
        checks = [(one.patient, one.model, *_say_check(check)) for one in maps for check in one.checks]
        of_check = ("patient", "model", "check", "value", "against", "verdict")
        checked = html_table(checks, head=of_check, caption="checks of the maps") if checks else ""
        parts = [
            (one.patient, one.model, part, with_sign(value))
            for one in self.explanations.contributions
            for part, value in one.values.items()
        ]
        of_part = ("patient", "model", "part", "adds to the risk")
        added = html_table(parts, head=of_part, caption="parts of the risk") if parts else ""
        pictures = [self.folder / one.file.replace(".nii.gz", ".png") for one in maps[:PICTURES]]
        shown = [html_image(path.read_bytes(), path.stem) for path in pictures if path.is_file()]
        return table + left + "".join(shown) + checked + added


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

    For each scan and model that sees voxels: a map on the PET's own voxels as NIfTI, and a picture of it as PNG, named
    by the patient's pseudonym. Of a model that sees the CT a second map (``*.ct.nii.gz``), on the same voxels, says
    what the CT adds, and the picture has both. Contributions of features, stacks and members, where a risk is a sum.
    Files that an earlier run made of the same scan and model are not made again.
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
    remove_partials(folder)
    files = _find_models(Path(model_path))
    models = [load_model(path, cache=cache, device=device) for path in files]
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
        flags += _check_contour(series, scan, volume)
        for model in models:
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
                work = _Work(folder, series, model, alone, method, checks, show_faces, dicom)
                mapped, added = _explain_one(work, earlier)
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


@dataclass(frozen=True, eq=False)
class _Work:
    """One scan and one model, and what is to be written of them."""

    folder: Path
    series: Series
    model: Model
    alone: Cohort  # the scan, on the grid of the model
    method: Method
    checks: bool
    show_faces: bool
    dicom: bool

    @property
    def patient(self) -> str:
        """Pseudonym."""
        return self.series.patient

    @property
    def endpoint(self) -> str:
        """Its name."""
        assert self.model.endpoint_ is not None
        return self.model.endpoint_.name

    @property
    def name(self) -> str:
        """Of the files, without their endings."""
        of = file_name(self.endpoint), file_name(self.model.name), self.method
        return ".".join((self.patient, self.series.series, *of))

    @property
    def key(self) -> str:
        """Digest of everything that the files depend on."""
        (subject,) = self.alone.subjects
        asked = (self.method, str(self.checks), str(self.show_faces), str(self.dicom))
        made_by = (f"{__version__} {CACHE_VERSION} {FWHM_MM}", self.model.file_digest_, self.model.cache_key())
        of_ct = [ct_key(self.alone, subject)] if self.model.sees_ct else []
        return digest(["explained", *made_by, self.alone.volume_key(subject), *of_ct, *asked])

    def find(self, earlier: Explanations) -> MapRecord | None:
        """The record of an earlier run that made the same files, if they are all there."""
        endings = [".nii.gz", ".png", *([".pm.dcm"] if self.dicom and isinstance(self.series, PETSeries) else ())]
        if self.model.sees_ct and has_pathway(self.model):
            endings += [f"{CT_ENDING}{ending}" for ending in endings if ending != ".png"]
        if not all((self.folder / f"{self.name}{ending}").is_file() for ending in endings):
            return None
        return next((one for one in earlier.maps if (one.file, one.key) == (f"{self.name}.nii.gz", self.key)), None)

    def write(self, risk_map: RiskMap, contour: npt.NDArray[np.bool_] | None) -> MapRecord:
        """Write the maps as NIfTI, as picture, and as DICOM where that is asked for."""
        (subject,), grid, risk = self.alone.subjects, self.alone.grid, risk_map.risk
        volume = subject.scan.suv()
        file = self.folder / f"{self.name}.nii.gz"
        on_scan = {
            ending: replace(volume, array=to_scan(values, grid, volume.geometry))
            for ending, values in (("", risk_map.values), (CT_ENDING, risk_map.of_ct))
            if values is not None
        }
        for ending, one in on_scan.items():
            write_nifti(self.folder / f"{self.name}{ending}.nii.gz", one)
        title = f"{self.patient}: {self.model.name}, {self.endpoint}, risk {number(risk)} ({self.method})"
        suv = self.alone.volume(subject)
        shown = suv if self.show_faces else hide_face(suv, grid.spacing_mm, keep=contour)
        face, nothing = shown != suv, np.float32(0)
        relevance, ct = np.where(face, nothing, risk_map.values), None
        if risk_map.of_ct is not None:
            hu = np.where(face, np.float32(AIR_HU), read_hu(self.alone, subject))
            ct = CTOverlay(hu, np.where(face, nothing, risk_map.of_ct))
        failed = _list_failed(risk_map.checks)
        picture = draw_overlay(shown, grid.spacing_mm, relevance, contour, ct=ct, title=title, failed=failed)
        write_atomic(self.folder / f"{self.name}.png", picture)
        if self.dicom:
            try:
                self._write_dicom(on_scan)
            except UnusableScanError as refusal:
                log.warning("%s: %s", self.patient, refusal)
        checks = risk_map.checks
        return MapRecord(self.endpoint, self.model.name, self.patient, self.method, file.name, risk, checks, self.key)

    def _write_dicom(self, maps: Mapping[str, SUVVolume]) -> None:
        """A parametric map of each image, and a segmentation of where they raise the risk together."""
        series, relevance = self.series, maps[""]
        if not isinstance(series, PETSeries):
            raise UnusableScanError(Code.NO_DICOM_SOURCE, "the scan is a NIfTI file")
        source = read_source(series, relevance.geometry)
        made_by = {"label": f"{self.model.name}, {self.endpoint}", "model_digest": self.model.file_digest_}
        for ending, one in maps.items():
            meaning = MEANINGS[ending]
            parametric_map = make_parametric_map(source, one.array, meaning=meaning, **made_by)
            write_atomic(self.folder / f"{self.name}{ending}.pm.dcm", parametric_map)
        region = find_strongest(np.sum([one.array for one in maps.values()], axis=0))
        if region.any():
            segmentation = make_segmentation(source, region, region="half of what raises the risk", **made_by)
            write_atomic(self.folder / f"{self.name}.seg.dcm", segmentation)


def _list_failed(checks: Sequence[MapCheck]) -> list[str]:
    return [check.name for check in checks if check.passed is False]


def _say_check(check: MapCheck) -> tuple[str, str, str, str]:
    """Name, value, threshold and verdict."""
    against = "" if check.threshold is None else number(check.threshold)
    verdict = {True: "passed", False: "failed", None: "decides nothing"}[check.passed]
    return check.name, number(check.value), against, verdict


def _verdict(checks: Sequence[MapCheck]) -> str:
    if all(check.passed is None for check in checks):
        return "not checked"
    return f"failed: {', '.join(_list_failed(checks))}" if _list_failed(checks) else "passed"


def _explain_one(work: _Work, earlier: Explanations) -> tuple[list[MapRecord], list[ContributionRecord]]:
    """Write the map of one model and scan, if it has one and it is not there, and tell the contributions, if any."""
    model, alone = work.model, work.alone
    parts = {name: float(values[0]) for name, values in explain_by_parts(model, alone).items()}
    records = [ContributionRecord(work.endpoint, model.name, work.patient, parts)] if parts else []
    if there := work.find(earlier):
        return [there], records
    contour = alone.contour(alone.subjects[0])
    try:
        risk_map = explain(model, alone, method=work.method, contour=contour, checks=work.checks)
    except ConfigurationError as refusal:
        if refusal.code is not Code.NO_PATHWAY or not parts:
            raise
        return [], records
    return [work.write(risk_map, contour)], records


def _check_contour(series: Series, scan: Scan, volume: SUVVolume) -> list[Exclusion]:
    """Why what somebody drew on a scan is not compared with the maps; nothing where it is, or where nobody did."""
    try:
        scan.contour(volume)
    except UnusableScanError as refusal:
        log.warning("%s: no contour to compare maps with: %s", series.patient, refusal)
        return [Exclusion.of(refusal, patient=series.patient, series=series.series)]
    return []


def _find_models(path: Path) -> Iterable[Path]:
    """The model files of a study folder; else the one in a folder, or the file itself."""
    for name in read_checksums(path):
        if name.startswith("models/"):
            require_as_written(path / name)
    return sorted((path / "models").glob("*.safetensors")) or [find_model(path)]
