"""A small index in the layout of idc-index-data, and the installed one."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

PET, CT = "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.2"
SERIES = {
    "collection_id": "VARCHAR", "analysis_result_id": "VARCHAR", "PatientID": "VARCHAR", "SeriesInstanceUID": "VARCHAR",
    "StudyInstanceUID": "VARCHAR", "source_DOI": "VARCHAR", "PatientSex": "VARCHAR", "StudyDate": "VARCHAR",
    "StudyDescription": "VARCHAR", "BodyPartExamined": "VARCHAR", "Modality": "VARCHAR", "SOPClassUID": "VARCHAR",
    "PhotometricInterpretation": "VARCHAR", "SeriesDescription": "VARCHAR", "SeriesNumber": "VARCHAR",
    "instanceCount": "BIGINT", "license_short_name": "VARCHAR", "crdc_series_uuid": "VARCHAR",
    "series_aws_url": "VARCHAR", "series_size_MB": "DOUBLE",
}  # fmt: skip
COLLECTIONS = {
    "collection_name": "VARCHAR", "collection_id": "VARCHAR", "cancer_types": "VARCHAR", "species": "VARCHAR",
    "supporting_data": "VARCHAR", "sources": "STRUCT(source_doi VARCHAR, citation VARCHAR)[]",
}  # fmt: skip
MakeIndex = Callable[..., Path]


def series(number: int, **cells: Any) -> dict[str, Any]:
    """A corrected whole-body PET series of a patient of its own, but for the cells given."""
    uid = f"1.2.3.{number}"
    row = {
        "collection_id": "lung", "PatientID": f"P{number}", "SeriesInstanceUID": uid, "StudyInstanceUID": f"{uid}.0",
        "source_DOI": "10.1/lung", "PatientSex": "F", "StudyDate": "2001-01-01", "StudyDescription": "PET/CT",
        "Modality": "PT", "SOPClassUID": PET, "PhotometricInterpretation": "MONOCHROME2",
        "SeriesDescription": "PET WB AC", "SeriesNumber": "4", "instanceCount": 263, "license_short_name": "CC BY 4.0",
        "crdc_series_uuid": f"uuid-{number}", "series_aws_url": f"s3://bucket/uuid-{number}/*",
        "series_size_MB": 9.0 + number / 1e6,
    }  # fmt: skip
    return row | cells


def write_index(folder: Path, rows: Iterable[Mapping[str, Any]], collections: Iterable[Mapping[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns, content in (
        ("idc_index", SERIES, rows),
        ("collections_index", COLLECTIONS, collections),
    ):
        lines = folder / f"{name}.jsonl"
        lines.write_text("".join(json.dumps(row) + "\n" for row in content))
        duckdb.sql(
            f"COPY (SELECT * FROM read_json('{lines}', format='newline_delimited', columns={columns})) "
            f"TO '{folder / name}.parquet' (FORMAT parquet)"
        )
    return folder


@pytest.fixture
def make_index(tmp_path: Path) -> MakeIndex:
    """Write an index of series, each given by the cells in which it differs from a good one."""

    def make(*cells: Mapping[str, Any], collections: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
        rows = [series(number, **one) for number, one in zip(itertools.count(1), cells, strict=False)]
        about = {"lung": {}} | dict(collections or {})
        known = [
            {
                "collection_id": name, "collection_name": name.upper(), "species": "Human", "cancer_types": "Lung",
                "sources": [{"source_doi": f"10.1/{name}", "citation": f"Doe &amp; Roe. <i>{name}</i>\n10.1/{name}"}],
            } | dict(more)
            for name, more in about.items()
        ]  # fmt: skip
        return write_index(tmp_path / "index", rows, known)

    return make
