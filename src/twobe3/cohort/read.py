"""From a folder of scans and a clinical table to a cohort; everything found is used or listed with its reason."""

from __future__ import annotations

import functools
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from twobe3.cohort.cohort import Cohort, Subject, describe_sampling
from twobe3.cohort.covariates import add_covariates, read_covariates
from twobe3.cohort.ct import describe_series, load_ct, name_ct_file, read_facts
from twobe3.cohort.exclusions import OwnerNames, write_exclusions
from twobe3.cohort.header_endpoints import header_outcomes, hide_labels, read_header_row, require_header_labels
from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import ConfigurationError, EmptyInputError, Exclusion, UnusableScanError
from twobe3.core.grid import Grid, Modality, resample, uptake_outside
from twobe3.core.ids import count_differences
from twobe3.core.outcomes import Endpoint, Outcomes
from twobe3.core.table import NumberedTable, Table, is_missing, require_columns
from twobe3.core.volume import SUVVolume
from twobe3.dicom.attributes import Policy
from twobe3.io.cache import Cache
from twobe3.io.clinical_table import read_table
from twobe3.io.files import digest
from twobe3.io.pseudonym import pseudonym
from twobe3.runtime.parallel import Workers, run_tasks
from twobe3.scans.find import Series, find_scans, scan_of
from twobe3.scans.regions import Region
from twobe3.scans.scan import Scan, TumourScan

# Uptake cut off by the field of view is worth a word from this share of the voxels above SUV 1 on.
NOTABLE_LOSS = 0.02
log = logging.getLogger("twobe3")


def read_cohort(
    images: Path | str | Sequence[Path],
    *,
    clinical: Path | str | Table | None = None,
    endpoint: Endpoint | None = None,
    endpoints: Sequence[Endpoint] = (),
    header_endpoints: Sequence[Endpoint] = (),
    patient: str = "patient_id",
    centre: str | None = None,
    roi: str | None = None,
    covariates: Sequence[str] = (),
    grid: Grid | None = None,
    volumes: Path | Cache | None = None,
    contours: Path | Cache | None = None,
    policy: Policy = "lenient",
    repair_dates: bool = False,
    subgroups: Sequence[str] = (),
    region: Region | None = None,
    exclusions: Path | None = None,
    modalities: Sequence[Modality] = ("pet",),
    workers: Workers = 1,
) -> Cohort:
    """Read a cohort: one scan a patient, converted to SUV and brought onto one grid.

    Parameters
    ----------
    images : path or sequence of paths
        Folders of DICOM, or of NIfTI that are SUV already, searched at any depth. ``PatientID``, or ``patient_id`` of
        the JSON beside a NIfTI file, is matched with the table's patient column; the pseudonym that
        :func:`~twobe3.scans.inspect.convert` wrote there with the pseudonyms of that column.
    clinical : path or mapping
        The clinical table: its file, or what :func:`~twobe3.io.clinical_table.read_table` or an adapter gave. Not
        needed where every endpoint comes from the headers: then each patient with a scan is in.
    endpoint, endpoints : Endpoint, sequence of Endpoint
        What is to be predicted, columns of the table. Without any endpoint each scanned patient (of the table) is in.
    header_endpoints : sequence of Endpoint
        What is to be predicted of :data:`~twobe3.cohort.header_endpoints.HEADER_LABELS`; models don't see it as a
        covariate.
    patient, centre, roi : str
        Columns of the table: the patient's id, where the patient was scanned, and which of the drawn regions are the
        tumour, their names separated by semicolons; where that cell is empty, none is. Without ``roi`` all are.
    covariates : sequence of str
        Columns of the table that models may see beside what the headers say of the patient, see
        :func:`~twobe3.cohort.covariates.read_covariates`.
    grid : Grid, optional
        The grid; 4 mm and 1024 × 512 × 512 mm by default.
    volumes : Path or Cache, optional
        Folder for the resampled volumes; kept in memory without one.
    contours : Path or Cache, optional
        Folder for what somebody drew on the scans, on the same grid, under the names of the volumes; without one it
        is read when it is asked for.
    policy : {"lenient", "strict"}
        For the SUV rules.
    repair_dates : bool
        Whether, under the lenient policy, an injection whose date contradicts the scan's is taken at its time of day.
    subgroups : sequence of str
        Columns of the table by which the results shall also be given, for instance the stage; no model sees them.
    region : Region, optional
        Region whose volume, or the reason why a scan has none, is recorded of every scan; a scan without it stays in.
    exclusions : Path, optional
        File for the list of what is not used with the user's own ids and paths, see
        :func:`~twobe3.cohort.exclusions.write_exclusions`; it is there even if nothing can be used.
    modalities : sequence of {"pet", "ct"}
        With ``"ct"`` the CT beside each scan is read, registered and brought onto the grid too; a scan without a usable
        one stays in, for models that see the PET alone.
    workers : int or Cluster
        Which read scans side by side where ``volumes`` and ``contours`` name folders, see
        :func:`~twobe3.runtime.parallel.run_tasks`.

    Raises
    ------
    EmptyInputError
        ``NO_PET``, or every series was excluded.
    ConfigurationError
        The table or an endpoint is wrong, or no scanned patient is in the table.
    """
    roots = [Path(images)] if isinstance(images, (str, Path)) else [Path(path) for path in images]
    require_header_labels(header_endpoints)
    endpoints = (*([endpoint] if endpoint else []), *endpoints)
    found = None
    if clinical is None:
        found = find_scans(roots)
        table: Table = {key: {patient: key} for key in (one.patient_id for one in found.series) if key}
    else:
        table = clinical if isinstance(clinical, Mapping) else read_table(Path(clinical), patient=patient)
    require_columns(table, [column for column in (patient, centre, roi, *subgroups) if column])
    outcomes = [endpoint.outcomes(table) for endpoint in endpoints]
    by_patient = read_covariates(table, covariates, taken={patient, *(c for one in endpoints for c in one.columns)})
    found = find_scans(roots) if found is None else found
    # The sidecar of a converted scan may know the patient by pseudonym only: it is matched with those of the table.
    ids = {pseudonym("patient", key): key for key in table}
    names = OwnerNames.of(found, table)
    scanned = [(one.patient_id or ids.get(one.patient, ""), one) for one in found.series]
    rows = {key: read_header_row(one) for key, one in scanned if key in table} if header_endpoints else {}
    outcomes += [header_outcomes(one, rows) for one in header_endpoints]

    def scan(series: Series, row: Mapping[str, str]) -> Scan:
        one = scan_of(series, policy=policy, repair_dates=repair_dates)
        return one if roi is None else _mark_tumour(one, row[roi])

    def write(refused: Sequence[Exclusion]) -> tuple[Exclusion, ...]:
        unused = (*found.exclusions, *unmatched, *refused, *missing)
        if exclusions is not None:
            write_exclusions(exclusions, unused, names)
        return unused

    subjects, unmatched = _join(scanned, table, outcomes, scan, centre, subgroups)
    absent = UnusableScanError(Code.PATIENT_NOT_SCANNED, "in the clinical table, but no PET series was found")
    missing = [Exclusion.of(absent, patient=one) for one in ids if one not in found.patients]
    near = count_differences(
        {one: names.near[one] for one in ids if one in names.near}, "ids of the table", "the scans"
    )
    if scanned and not any(patient_id in table for patient_id, _ in scanned):
        write([])
        reason = f"{format_count(len(scanned), 'patient was', 'patients were')} scanned"
        reason += f", {format_count(len(table), 'is', 'are')} in the clinical table"
        raise ConfigurationError(Code.NO_PATIENT_MATCHES, "; ".join((reason, *near)))
    cohort = Cohort(
        subjects, grid=grid or Grid(), volumes=_open(volumes), contours=_open(contours), found=found.n_series,
        names=names,
    )  # fmt: skip
    cohort, refused = _convert(cohort, region, "ct" in modalities, workers)
    subjects, differences = add_covariates(cohort.subjects, by_patient)
    subjects = hide_labels(subjects, header_endpoints)
    unused = write(refused)
    odd = [f"{one.endpoint.name}: {text}" for one in outcomes for text in one.endpoint.warn(one, table)]
    for text in (*odd, *near):
        log.warning("%s", text)
    notes = table.notes if isinstance(table, NumberedTable) else ()
    warnings = (*notes, *odd, *near, *cohort.warnings, *differences)
    cohort = replace(cohort, subjects=subjects, exclusions=unused, warnings=warnings)
    _log_both_sides(cohort, len(table), len(found.patients))
    for exclusion in cohort.exclusions:
        log.info("excluded %s %s: %s: %s", exclusion.patient, exclusion.series, exclusion.code, exclusion.reason)
    if not len(cohort):
        codes = Counter(exclusion.code for exclusion in unused if exclusion.series)
        why = ", ".join(f"{n} {code}" for code, n in sorted(codes.items()))
        reason = f"none of the {cohort.found} series can be used: {why}"
        raise EmptyInputError(Code.NOTHING_USABLE, reason)
    return replace(cohort, endpoints=tuple(_restrict(outcome, cohort) for outcome in outcomes))


def cohort_document(cohort: Cohort) -> dict[str, Any]:
    """What ``cohort.json`` holds: pseudonyms only."""
    return {
        "digest": digest([cohort.volume_key(subject) for subject in cohort.subjects]),
        "found": cohort.found or len(cohort),
        "used": len(cohort),
        "excluded": sum(bool(exclusion.series) for exclusion in cohort.exclusions),
        "grid": asdict(cohort.grid),
        "endpoints": [
            {
                "name": outcomes.endpoint.name,
                "kind": outcomes.endpoint.kind,
                "unit": getattr(outcomes.endpoint, "unit", ""),
                "n": len(outcomes),
                "events": outcomes.n_events,
                "event_definition": outcomes.endpoint.event_definition,
            }
            for outcomes in cohort.endpoints
        ],
        "subjects": [
            {
                "patient": subject.patient,
                "centre": subject.centre,
                "digest": subject.scan.digest,
                "volume": f"{cohort.volume_key(subject)}.safetensors",
                "ct_volume": name_ct_file(cohort, subject),
                "covariates": dict(subject.covariates),
                **(subject.description or _describe(subject)),
            }
            for subject in cohort.subjects
        ],
        "exclusions": [asdict(exclusion) for exclusion in cohort.exclusions],
        "warnings": list(cohort.warnings),
    }


def _describe(subject: Subject) -> dict[str, Any]:
    """What is said of a scan that was brought in memory."""
    volume = subject.scan.suv()
    contour = subject.scan.contour(volume) is not None
    facts = {"series": volume.source, "slices": volume.geometry.shape[0], "contour": contour}
    return {**facts, **_volume_facts(volume)}


def _volume_facts(volume: SUVVolume) -> dict[str, Any]:
    return {
        "spacing_mm": volume.geometry.spacing_mm,
        "sampling": describe_sampling(volume.geometry),
        "acquisition": asdict(volume.acquisition),
        "calibration": volume.calibration.document(),
    }


def _open(place: Path | Cache | None) -> Cache:
    return place if isinstance(place, Cache) else Cache(place)


def _join(
    scanned: Sequence[tuple[str, Series]],
    table: Table,
    outcomes: Sequence[Outcomes],
    scan: Callable[[Series, Mapping[str, str]], Scan],
    centre: str | None,
    subgroups: Sequence[str],
) -> tuple[tuple[Subject, ...], list[Exclusion]]:
    """One subject for each patient who was scanned and has an outcome; the other scans with the reason.

    A scan comes with the user's id of the patient; it is empty where neither the header nor a pseudonym tells it.
    """
    known = {patient for outcome in outcomes for patient in outcome.patients} if outcomes else table.keys()
    subjects, unmatched = [], []
    for patient_id, series in scanned:
        row = table.get(patient_id)
        if row is None or patient_id not in known:
            code, what = (Code.PATIENT_NOT_IN_TABLE, "row") if row is None else (Code.OUTCOME_MISSING, "outcome")
            error = UnusableScanError(code, f"the clinical table has no {what} for this patient")
            unmatched.append(Exclusion.of(error, patient=series.patient, series=series.series))
            continue
        cells = _read_cells(row, [*subgroups, *([centre] if centre else [])])
        names = ("series", "manufacturer", "model", "tracer", "slices")
        subjects.append(
            Subject(
                patient_id,
                scan(series, row),
                cells[centre] if centre else "",
                series.covariates,
                {
                    **{name: getattr(series, name) for name in names},
                    "contour": bool(series.contours),
                    **describe_series(series),
                },
                subgroups={column: cells[column] for column in subgroups},
            )
        )
    return tuple(sorted(subjects, key=lambda subject: subject.patient_id)), unmatched


def _read_cells(row: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    """What a row holds in some columns; empty where it is not known."""
    return {column: "" if is_missing(row[column]) else row[column].strip() for column in columns}


def _mark_tumour(scan: Scan, cell: str) -> Scan:
    """The scan with the names of the regions that are the tumour, as its patient's row has them."""
    names = () if is_missing(cell) else (name.strip() for name in cell.split(";"))
    return TumourScan(scan, tuple(name for name in names if name))


def _log_both_sides(cohort: Cohort, in_table: int, scanned: int) -> None:
    """Say how many patients of the table were not scanned, and how many of those scanned are not in it."""
    n = Counter(exclusion.code for exclusion in cohort.exclusions)
    without_scan, without_row = n[Code.PATIENT_NOT_SCANNED.name], n[Code.PATIENT_NOT_IN_TABLE.name]
    if without_scan or without_row:
        text = "%d of %d patients of the clinical table have no scan, and %d of %d who were scanned are not in it"
        log.info(text, without_scan, in_table, without_row, scanned)


def _convert(cohort: Cohort, region: Region | None, with_ct: bool, workers: Workers) -> tuple[Cohort, list[Exclusion]]:
    """Convert every scan; those that cannot be are left out with their reason."""
    subjects, refused, warnings = [], [], []
    lacking: Counter[str] = Counter()
    without_ct: Counter[str] = Counter()
    for subject, done in zip(cohort.subjects, _convert_scans(cohort, region, with_ct, workers), strict=True):
        if isinstance(done, UnusableScanError):
            refused.append(Exclusion.of(done, patient=subject.patient, series=subject.description["series"]))
            continue
        scan, facts = done
        lost = facts.pop("uptake_outside")
        if lost > NOTABLE_LOSS:
            warnings.append(f"{subject.patient}: {lost:.0%} of the voxels above SUV 1 lie outside the field of view")
        warnings += [f"{subject.patient}: {note}" for note in facts.get("ct", {}).get("notes", ())]
        without_ct[facts.get("ct", {}).get("code") or ""] += 1
        lacking[facts.get("region", {}).get("code", "")] += 1
        warnings += [f"{subject.patient}: {note}" for note in facts.get("region", {}).get("notes", ())]
        subjects.append(replace(subject, scan=scan, description={**subject.description, **facts}))
    for code, n in sorted(lacking.items()):
        if code and region is not None:
            warnings.append(f"{n} of {format_count(len(subjects), 'scan')} have no region ({region.label}): {code}")
    for code, n in sorted(without_ct.items()):
        if code:
            warnings.append(f"{n} of {format_count(len(subjects), 'scan')} have no CT that models can see: {code}")
    return replace(cohort, subjects=tuple(subjects), warnings=tuple(warnings)), refused


def _convert_scans(
    cohort: Cohort, region: Region | None, with_ct: bool, workers: Workers
) -> list[tuple[Scan, dict[str, Any]] | UnusableScanError]:
    """What :func:`_convert_scan` gives of every scan, or why it cannot be used."""
    if any(cache.folder is None for cache in (cohort.volumes, cohort.contours)):
        workers = 1  # what a worker keeps in its memory is lost with it
    died = UnusableScanError(Code.WORKER_DIED, "two workers each ended while they read the scan")
    done = run_tasks(
        _try_to_convert, range(len(cohort)), shared=(cohort, region, with_ct), workers=workers,
        description="scans to SUV", name=lambda position: cohort.subjects[position].patient,
        instead=lambda position: died,
    )  # fmt: skip
    by_position = dict(done)
    return [by_position[position] for position in range(len(cohort))]


def _try_to_convert(
    shared: tuple[Cohort, Region | None, bool], position: int
) -> tuple[Scan, dict[str, Any]] | UnusableScanError:
    """A scan, which then knows its digest, and its facts; or why it cannot be used."""
    cohort, region, with_ct = shared
    try:
        return _convert_scan(cohort, cohort.subjects[position], region, with_ct)
    except UnusableScanError as refusal:
        return refusal


def _convert_scan(
    cohort: Cohort, subject: Subject, region: Region | None, with_ct: bool
) -> tuple[Scan, dict[str, Any]]:
    """What ``cohort.json`` says of a scan; its files are read and calibrated only for what the cache lacks."""
    scan, cache, key = subject.scan, cohort.volumes, cohort.volume_key(subject)
    suv = functools.cache(scan.suv)
    cache.get_or_compute(key, lambda: {"suv": resample(suv(), cohort.grid).array}, metadata=cohort.notes())

    def describe() -> dict[str, Any]:
        return {**_volume_facts(suv()), "uptake_outside": uptake_outside(suv(), cohort.grid)}

    def measure(region: Region) -> dict[str, Any]:
        volume = suv()
        try:
            mask = region.find(scan, volume)
            return {"name": region.label, "volume_ml": mask.volume_ml, **({"notes": mask.notes} if mask.notes else {})}
        except UnusableScanError as refusal:
            return {"name": region.label, "code": refusal.code.name, "reason": refusal.reason}

    if cohort.contours.folder is not None:
        cohort.contour(subject, suv)
    facts = _cache_facts(cache, digest(["facts with the sampling", key]), describe)
    if region is not None:
        facts["region"] = _cache_facts(cache, digest(["region", scan.digest, region.label]), lambda: measure(region))
    if with_ct:
        facts["ct"] = read_facts(load_ct(cohort, subject, suv))
    return scan, facts


def _cache_facts(cache: Cache, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """JSON types under a key of a cache, which holds arrays."""
    stored = cache.get_or_compute(key, lambda: {"facts": np.frombuffer(json.dumps(compute()).encode(), np.uint8)})
    facts: dict[str, Any] = json.loads(stored["facts"].tobytes())
    return facts


def _restrict(outcomes: Outcomes, cohort: Cohort) -> Outcomes:
    there = set(cohort.patients)
    restricted = outcomes.of([patient for patient in outcomes.patients if patient in there])
    restricted.endpoint.check(restricted)
    return restricted
