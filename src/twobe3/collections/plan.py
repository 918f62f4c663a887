"""From the index to a manifest: which scans a study is made of, and why not the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twobe3 import __version__
from twobe3.collections import rules
from twobe3.collections.index import SeriesIndex, open_index
from twobe3.collections.known import ELSEWHERE, TRACERS
from twobe3.collections.list import format_citation
from twobe3.collections.manifest import COLUMNS, Header, ManifestRow, write_manifest
from twobe3.collections.rules import License, Rule, ScansPerPatient
from twobe3.collections.text import format_summary
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.nearest import find_nearest, name_nearest
from twobe3.io.files import write_atomic


@dataclass(frozen=True)
class Selection:
    """The series that a plan selected, sorted by collection, patient, study and UID.

    ``excluded`` counts the series that each rule left out; ``summary`` is Markdown.
    """

    rows: tuple[ManifestRow, ...]
    excluded: dict[str, int]
    manifest: Path
    summary: str

    @property
    def scans(self) -> tuple[ManifestRow, ...]:
        """The PET series."""
        return tuple(row for row in self.rows if row.modality == "PT")

    def to_json(self) -> dict[str, Any]:
        """Counts of scans, patients and collections, bytes of all rows, the file, and the exclusions by rule."""
        return {
            "scans": len(self.scans),
            "patients": len({(row.collection, row.patient) for row in self.scans}),
            "collections": len({row.collection for row in self.scans}),
            "bytes": sum(row.size_bytes for row in self.rows),
            "manifest": str(self.manifest),
            "excluded": dict(self.excluded),
        }


def plan_collections(
    out: Path | str,
    *,
    min_scans: int = 1,
    collections: Iterable[str] = (),
    license: License = "permissive",
    tracer: str | None = None,
    scans_per_patient: ScansPerPatient = "all",
    contours: bool = False,
    with_ct: bool = False,
    index: Path | str | None = None,
) -> Selection:
    """Select one PET series of each study by the rules of :mod:`twobe3.collections.rules`, and write the manifest.

    Nothing is random: the same index, options and version of this package give the same bytes.

    Parameters
    ----------
    out : path
        Folder for ``manifest.parquet``, ``manifest.csv`` and ``summary.md``.
    min_scans : int
        Fewer are an error.
    collections : iterable of str
        Of these only; all of the index by default.
    license : {"permissive", "any"}
        Permissive: public domain, CC0 and CC BY.
    tracer : str, optional
        Scans of this tracer only; those of an unknown tracer are left out then.
    scans_per_patient : {"one", "all"}
        One: the earliest study that has a scan.
    contours : bool
        Whether the SEG and RTSTRUCT series of the studies become rows, too.
    with_ct : bool
        Whether the CT of the studies become rows, too: axial ones, of a permissive licence where that is asked for; of
        a study in which descriptions name the attenuation correction those alone. Scans without one stay.
    index : path, optional
        Folder of another index, see :func:`~twobe3.collections.index.open_index`.

    Raises
    ------
    ConfigurationError
        ``COLLECTION_UNKNOWN``, ``COLLECTION_ELSEWHERE``, ``LICENCE_FORBIDS``, ``UNKNOWN_NAME`` (of a tracer),
        ``TOO_FEW_SCANS`` with the counts by rule.
    EnvironmentFailure
        ``EXTRA_MISSING``, ``INDEX_INVALID``, ``WRITE_FAILED``.
    """
    opened = open_index(index)
    chosen = _resolve_collections(opened, collections)
    applied = [*([rules.LICENCE] if license == "permissive" else []), *rules.RULES]
    if tracer is not None:
        tracer = _resolve_tracer(tracer)
        applied.append(rules.tracer_rule(tracer))
    _apply_rules(opened, chosen, applied)
    if license == "permissive" and collections:
        _refuse_licences(opened, chosen)
    applied += _choose_series(opened, one=scans_per_patient == "one")
    excluded = dict.fromkeys((rule.name for rule in applied), 0)
    excluded |= dict(opened.query("SELECT rule, count(*) FROM ruled WHERE rule IS NOT NULL GROUP BY rule"))
    rows = _select_rows(opened, contours=contours, ct=_select_ct(license) if with_ct else "")
    scans = sum(row.modality == "PT" for row in rows)
    if scans < min_scans:
        counts = ", ".join(f"{name} {count}" for name, count in excluded.items() if count)
        found = scans + sum(excluded.values())
        reason = f"{min_scans} scans were asked for; {scans} of {found} PET series are left (left out: {counts})"
        raise ConfigurationError(Code.TOO_FEW_SCANS, reason)
    options = {
        "min_scans": min_scans,
        "collections": sorted(chosen) if collections else [],
        "license": license,
        "tracer": tracer,
        "scans_per_patient": scans_per_patient,
        "contours": contours,
        **({"with_ct": True} if with_ct else {}),
    }
    header = Header(opened.version, opened.digest, __version__, options, _citations(opened, rows), excluded)
    words = format_summary(rows, header, applied)
    path = write_manifest(Path(out), rows, header)
    write_atomic(Path(out) / "summary.md", words.encode())
    return Selection(rows, excluded, path, words)


def _resolve_collections(index: SeriesIndex, names: Iterable[str]) -> list[str]:
    """The collections asked for, as the index spells them; all of it where none is named."""
    held = [name for (name,) in index.query("SELECT DISTINCT collection FROM pet ORDER BY collection")]
    chosen = []
    for name in names:
        key = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        if key in ELSEWHERE and key not in held:
            steps = "; ".join(ELSEWHERE[key].steps)
            raise ConfigurationError(Code.COLLECTION_ELSEWHERE, f"{name!r} is not in this index", remedy=steps)
        if key not in held:
            near = find_nearest(key, [*held, *ELSEWHERE])
            remedy = f"did you mean {near!r}?" if near else None
            raise ConfigurationError(
                Code.COLLECTION_UNKNOWN, f"no collection with PET is called {name!r}", remedy=remedy
            )
        chosen.append(key)
    return list(dict.fromkeys(chosen)) or held


def _resolve_tracer(name: str) -> str:
    found = {tracer.lower(): tracer for tracer in TRACERS}
    if name.lower() not in found:
        reason = f"no tracer is called {name!r}; {name_nearest(name, TRACERS)}"
        raise ConfigurationError(Code.UNKNOWN_NAME, reason, remedy=f"known are {', '.join(TRACERS)}")
    return found[name.lower()]


def _apply_rules(index: SeriesIndex, chosen: Sequence[str], applied: Sequence[Rule]) -> None:
    """Make the table ``ruled``: the series of the collections, each with the first rule that it meets."""
    first = " ".join(f"WHEN {rule.condition} THEN '{rule.name}'" for rule in applied)
    index.database.execute(
        f"CREATE TABLE ruled AS SELECT *, CASE {first} END AS rule FROM series WHERE list_contains(?, collection)",
        [list(chosen)],
    )


def _refuse_licences(index: SeriesIndex, chosen: Sequence[str]) -> None:
    query = """SELECT collection, any_value(license) FROM ruled GROUP BY collection
               HAVING bool_and(coalesce(rule, '') = ?) ORDER BY collection"""
    for name, licence in index.query(query, rules.LICENCE.name):
        raise ConfigurationError(Code.LICENCE_FORBIDS, f"{name} is under {licence or 'no licence'!r}")


def _choose_series(index: SeriesIndex, *, one: bool) -> list[Rule]:
    """Leave out duplicates, what can't be told apart, and all but one series of a study or of a patient."""
    twice = "row_number() OVER (PARTITION BY {} ORDER BY series_number, series_uid, series_uuid) > 1"
    same = "study_uid, words, slices, size_bytes"
    several = "count(*) OVER (PARTITION BY study_uid, words, slices) > 1"
    steps = [
        (rules.DUPLICATE, twice.format("series_uid")),
        (rules.DUPLICATE, twice.format(same)),
        (rules.INDISTINCT, f"{several} AND NOT {rules.CORRECTED}"),
        (rules.OTHER_RECONSTRUCTION,
         f"row_number() OVER (PARTITION BY study_uid ORDER BY {', '.join(rules.PREFERENCE)}) > 1"),
    ]  # fmt: skip
    if one:
        order = "study_date NULLS LAST, study_uid"
        steps.append((rules.OTHER_STUDY, f"row_number() OVER (PARTITION BY collection, patient ORDER BY {order}) > 1"))
    for rule, condition in steps:
        index.database.execute(
            f"CREATE OR REPLACE TABLE ruled AS SELECT * FROM ruled WHERE rule IS NOT NULL UNION ALL "
            f"SELECT * REPLACE (CASE WHEN {condition} THEN '{rule.name}' END AS rule) FROM ruled WHERE rule IS NULL"
        )
    return list(dict.fromkeys(rule for rule, _ in steps))


def _select_ct(license: License) -> str:
    """SQL for the CT that may lie beside a PET, those that correct its attenuation alone where some say so."""
    allowed = f"AND NOT ({rules.LICENCE.condition})" if license == "permissive" else ""
    return f"""
        SELECT * FROM ct WHERE {rules.CANDIDATE_CT} {allowed}
        QUALIFY {rules.CORRECTING_CT} OR NOT bool_or({rules.CORRECTING_CT}) OVER (PARTITION BY study_uid)"""


def _select_rows(index: SeriesIndex, *, contours: bool, ct: str) -> tuple[ManifestRow, ...]:
    columns = "coalesce(license, ''), coalesce(doi, ''), "
    query = f"""
        SELECT collection, patient, study_uid, series_uid, 'PT' AS modality, series_uuid, url, slices AS instances,
               size_bytes, {columns} tracer, description
        FROM ruled WHERE rule IS NULL"""
    for beside in [*(["contours"] if contours else []), *([f"({ct})"] if ct else [])]:
        query += f"""
            UNION ALL SELECT beside.collection, beside.patient, study_uid, beside.series_uid, modality,
                   beside.series_uuid, beside.url, beside.instances, beside.size_bytes,
                   coalesce(beside.license, ''), coalesce(beside.doi, ''), tracer, beside.description
            FROM {beside} AS beside JOIN (SELECT study_uid, tracer FROM ruled WHERE rule IS NULL) USING (study_uid)"""
    rows = index.query(f"SELECT * FROM ({query}) ORDER BY collection, patient, study_uid, modality, series_uid")
    return tuple(ManifestRow(**dict(zip(COLUMNS, row, strict=True))) for row in rows)


def _citations(index: SeriesIndex, rows: Sequence[ManifestRow]) -> dict[str, str]:
    """The citation of every DOI of the rows."""
    texts: dict[str, str] = {}
    query = "SELECT dois, citations FROM about WHERE dois IS NOT NULL ORDER BY collection"
    for found, citations in index.query(query):
        texts |= {str(doi).lower(): str(text or "") for doi, text in zip(found, citations, strict=True)}
    dois = sorted({row.doi for row in rows} - {""})
    return {doi: format_citation(doi, {doi: texts.get(doi.lower(), "")}) for doi in dois}
