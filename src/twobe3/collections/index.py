"""The index of NCI Imaging Data Commons (IDC): a row for each public series, as the package idc-index-data has it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twobe3.collections.known import IDC, UNKNOWN
from twobe3.collections.parquet import EXTRA, require_duckdb
from twobe3.collections.rules import CT_IMAGE, WORDS
from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.dicom.tracer import TRACER_WORDS
from twobe3.io.files import digest, digest_file

if TYPE_CHECKING:
    import duckdb


SERIES, COLLECTIONS, RELEASES = "idc_index.parquet", "collections_index.parquet", "version_metadata_index.parquet"


@dataclass(frozen=True)
class SeriesIndex:
    """An open index: tables ``pet``, ``contours`` (SEG, RTSTRUCT) and ``ct`` of studies with PET, ``about``."""

    database: duckdb.DuckDBPyConnection
    version: str  # release of IDC
    digest: str  # of the index files

    def query(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a query and fetch its rows."""
        return self.database.execute(query, parameters or None).fetchall()


def open_index(folder: Path | str | None = None) -> SeriesIndex:
    """Open the installed index, or the one in a folder in the layout of the package idc-index-data.

    Raises
    ------
    EnvironmentFailure
        ``EXTRA_MISSING``; ``INDEX_INVALID``: no index, or another layout.
    """
    duckdb = require_duckdb("the index of public collections")
    place = find_installed_index() if folder is None else Path(folder)
    files = [place / SERIES, place / COLLECTIONS]
    try:
        database = duckdb.connect(config={"threads": 1})  # so that rows keep their order and memory stays small
        database.execute("SET enable_progress_bar = false")  # standard output is for results
        for name, query in _TABLES.items():
            database.execute(f"CREATE TABLE {name} AS {query}", [str(files[name == "about"])])
        database.execute(f"CREATE VIEW series AS {_VIEW}")
        return SeriesIndex(database, _version(database, place), digest(map(digest_file, files)))
    except (duckdb.Error, OSError) as error:
        kind = type(error).__name__
        raise EnvironmentFailure(Code.INDEX_INVALID, f"{place.name}: the index can't be read ({kind})") from error


_COMMON = """collection_id AS collection, PatientID AS patient, StudyInstanceUID AS study_uid,
               SeriesInstanceUID AS series_uid, Modality AS modality, crdc_series_uuid AS series_uuid,
               series_aws_url AS url, instanceCount::INTEGER AS instances,
               round(series_size_MB * 1e6)::BIGINT AS size_bytes, license_short_name AS license, source_DOI AS doi"""
_TABLES = {
    "pet": f"""
        SELECT {_COMMON}, instanceCount::INTEGER AS slices, SOPClassUID AS sop_class,
               PhotometricInterpretation AS photometric, BodyPartExamined AS body_part, PatientSex AS sex,
               StudyDate AS study_date, coalesce(SeriesDescription, '') AS description,
               coalesce(try_cast(SeriesNumber AS INTEGER), 2147483647) AS series_number,
               {WORDS.format("SeriesDescription")} AS words, {WORDS.format("StudyDescription")} AS study_words
        FROM read_parquet(?) WHERE Modality = 'PT' ORDER BY collection, patient, study_uid, series_uid""",
    "contours": f"""
        SELECT DISTINCT ON (series_uid) {_COMMON}, coalesce(SeriesDescription, '') AS description
        FROM read_parquet(?)
        WHERE Modality IN ('SEG', 'RTSTRUCT') AND StudyInstanceUID IN (SELECT study_uid FROM pet)
        ORDER BY series_uid""",
    "ct": f"""
        SELECT DISTINCT ON (series_uid) {_COMMON}, instanceCount::INTEGER AS slices,
               coalesce(SeriesDescription, '') AS description, {WORDS.format("SeriesDescription")} AS words
        FROM read_parquet(?)
        WHERE Modality = 'CT' AND SOPClassUID = '{CT_IMAGE}' AND StudyInstanceUID IN (SELECT study_uid FROM pet)
        ORDER BY series_uid""",
    "about": """
        SELECT collection_id AS collection, collection_name AS title, coalesce(species, '') AS species,
               coalesce(cancer_types, '') AS cancer_types, coalesce(supporting_data, '') AS supporting_data,
               list_transform(sources, s -> s.source_doi) AS dois,
               list_transform(sources, s -> s.citation) AS citations
        FROM read_parquet(?)""",
}


def _tracer() -> str:
    """SQL for the tracer of a series: by its description or its study's, or else by its collection."""
    described = " ".join(
        f"WHEN regexp_matches(words || study_words, '{pattern}') THEN '{tracer}'"
        for tracer, pattern in TRACER_WORDS.items()
    )
    usual = " ".join(f"WHEN '{name}' THEN '{row.tracer}'" for name, row in IDC.items() if row.tracer != UNKNOWN)
    return f"CASE {described} ELSE CASE collection {usual} ELSE '{UNKNOWN}' END END"


_VIEW = f"""
    SELECT pet.*, {_tracer()} AS tracer, coalesce(species, '') AS species, coalesce(cancer_types, '') AS cancer_types
    FROM pet LEFT JOIN about USING (collection)"""


def find_installed_index() -> Path:
    """Find the folder of the installed index.

    Raises
    ------
    EnvironmentFailure
        ``EXTRA_MISSING``, ``INDEX_INVALID``.
    """
    try:
        files = distribution("idc-index-data").files or []
    except PackageNotFoundError as error:
        raise EnvironmentFailure(
            Code.EXTRA_MISSING, "the index of public collections is missing", remedy=EXTRA
        ) from error
    found = next((file for file in files if file.name == SERIES), None)
    if found is None:
        raise EnvironmentFailure(Code.INDEX_INVALID, f"the package idc-index-data holds no {SERIES}")
    return Path(str(found.locate())).resolve().parent


def _version(database: duckdb.DuckDBPyConnection, folder: Path) -> str:
    releases = folder / RELEASES
    if not releases.is_file():
        return "IDC, release unknown"
    ((number, date),) = database.execute(
        "SELECT idc_version, version_timestamp FROM read_parquet(?) ORDER BY idc_version DESC LIMIT 1", [str(releases)]
    ).fetchall()
    return f"IDC v{number} of {date}"
