"""One catalogue of the PET series of several collections, and which of them show one scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from twobe3.cohort.duplicates import connect_groups, find_same_pictures
from twobe3.cohort.header_endpoints import read_header_row
from twobe3.collections.download_log import LOG_FILE
from twobe3.collections.parquet import rows_to_csv, to_parquet
from twobe3.core.codes import Code
from twobe3.core.errors import EmptyInputError, Exclusion, UnusableScanError
from twobe3.dicom.attributes import Policy
from twobe3.dicom.series import PETSeries, choose_series, find_series
from twobe3.dicom.volume import read_suv
from twobe3.io.cache import Cache
from twobe3.io.files import write_artefact, write_atomic
from twobe3.runtime.progress import track
from twobe3.scans.fingerprint import Fingerprint, Picture, cache_fingerprint

# Columns that a series has under the same name.
_OF_SERIES = ("patient", "study", "series", "manufacturer", "model", "tracer", "units", "slices", "header_digest")
# Numbers in Parquet that are texts here, since not every header has them.
_OPTIONAL_NUMBERS = ", ".join(f"TRY_CAST({name} AS DOUBLE) AS {name}" for name in ("age_years", "weight_kg"))


@dataclass(frozen=True)
class CatalogueRow:
    """A PET series, under pseudonymous ids; what its header does not tell is empty."""

    collection: str  # name of its folder
    patient: str
    study: str
    series: str
    code: str  # why it is not the scan of its patient; empty where it is
    manufacturer: str
    model: str
    tracer: str
    units: str
    sex: str  # this and the next three: see twobe3.cohort.header_endpoints
    age_years: str
    weight_kg: str
    body_region: str
    slices: int
    files: int
    coverage_mm: float  # from the first to the last slice
    contour: bool  # whether it has one
    header_digest: str  # the same for copies of the files
    group: str = ""  # series id of one of the scans that show the same picture; empty where there is only one


@dataclass(frozen=True)
class SamePicture:
    """Two series, by pseudonym, that show one scan; ``similarity`` is 1 for equal voxels, else their correlation."""

    first: str
    second: str
    collections: tuple[str, str]
    similarity: float


@dataclass(frozen=True)
class Catalogue:
    """The PET series of some collections."""

    rows: tuple[CatalogueRow, ...]  # every PET series
    duplicates: tuple[SamePicture, ...]  # pairs under different ids, or in different collections
    exclusions: tuple[Exclusion, ...]  # everything that is not the scan of its patient, and why
    compared: int  # scans that were compared with all others

    def to_json(self) -> dict[str, Any]:
        """Counts, the pairs, and the exclusions."""
        scans = [row for row in self.rows if not row.code]
        return {
            "series": len(self.rows),
            "scans": len(scans),
            "patients": len({(row.collection, row.patient) for row in scans}),
            "collections": dict(sorted(Counter(row.collection for row in scans).items())),
            "compared": self.compared,
            "distinct": self.compared - sum(bool(row.group) and row.group != row.series for row in self.rows),
            "duplicates": [asdict(pair) for pair in self.duplicates],
            "excluded": dict(sorted(Counter(one.code for one in self.exclusions).items())),
            "exclusions": [asdict(one) for one in self.exclusions],
        }

    def write(self, out: Path, *, parquet: bool = True) -> tuple[Path, ...]:
        """Write ``catalogue.json``, ``catalogue.csv`` and, for DuckDB and the like, ``catalogue.parquet``.

        Raises
        ------
        EnvironmentFailure
            ``EXTRA_MISSING``: Parquet was asked for and duckdb is not installed; ``WRITE_FAILED``.
        """
        files = {out / "catalogue.csv": rows_to_csv(CatalogueRow, self.rows)}
        if parquet:
            files[out / "catalogue.parquet"] = to_parquet(
                CatalogueRow, self.rows, "catalogue.parquet", select=f"* REPLACE ({_OPTIONAL_NUMBERS})"
            )
        for path, content in files.items():
            write_atomic(path, content)
        write_artefact(out / "catalogue.json", self.to_json())
        return (*files, out / "catalogue.json")


def make_catalogue(
    paths: Sequence[Path | str], *, compare: bool = True, fingerprints: Path | None = None, policy: Policy = "lenient"
) -> Catalogue:
    """List the PET series of collections, and find scans that occur twice.

    Parameters
    ----------
    paths : sequence of path
        A folder for each collection; a folder that ``twobe3 collections fetch`` filled stands for those in it. In a
        collection of subfolders, contours belong to the scans of their subfolder.
    compare : bool
        Whether the scans are read and compared, or the headers alone are read.
    fingerprints : Path, optional
        Cache of the fingerprints, so that the next call reads only new scans.
    policy : {"lenient", "strict"}
        For the SUV rules.

    Raises
    ------
    EmptyInputError
        ``NO_PET``.
    ConfigurationError
        A path does not exist.
    """
    rows: list[CatalogueRow] = []
    records: list[_SeriesRecord] = []
    exclusions: list[Exclusion] = []
    for folder in _collection_folders(map(Path, paths)):
        found, unused = _list_series(folder)
        _, others = choose_series([one.series for one in found])
        exclusions += (*unused, *others)
        codes = {one.series: one.code for one in others}
        rows += [_make_row(folder.name, one, codes.get(one.series.series, "")) for one in found]
        records += found
    if not rows:
        raise EmptyInputError(Code.NO_PET, f"none of {len(paths)} folders holds a PET series")
    if not compare:
        return Catalogue(tuple(rows), (), tuple(exclusions), 0)
    return _compare_scans(rows, records, exclusions, Cache(fingerprints), policy)


@dataclass(frozen=True)
class _SeriesRecord:
    """A series without the list of its files, of which a large collection has a million."""

    unit: Path
    series: PETSeries
    files: int
    contour: bool


def _list_series(folder: Path) -> tuple[list[_SeriesRecord], list[Exclusion]]:
    """The series of a collection, read one subfolder at a time so that memory does not grow with their number."""
    inside = [path for path in sorted(folder.iterdir()) if path.name[0] != "."] if folder.is_dir() else []
    units = inside if inside and all(path.is_dir() for path in inside) else [folder]
    found, unused = _read_units(units)
    if len({one.series.series for one in found}) < len(found):  # a series lies in two of them
        return _read_units([folder])
    return found, unused


def _read_units(units: Sequence[Path]) -> tuple[list[_SeriesRecord], list[Exclusion]]:
    found: list[_SeriesRecord] = []
    unused: list[Exclusion] = []
    for unit in track(units, "folders"):
        here = find_series([unit])
        unused += here.exclusions
        for series in here.series:
            light = replace(series, files=(), contours=())
            found.append(_SeriesRecord(unit, light, len(series.files), bool(series.contours)))
    return found, unused


def _collection_folders(paths: Iterable[Path]) -> list[Path]:
    """One folder a collection."""
    folders: list[Path] = []
    for path in paths:
        fetched = (path / LOG_FILE).is_file()
        folders += sorted(one for one in path.iterdir() if one.is_dir() and one.name[0] != ".") if fetched else [path]
    return folders


def _make_row(collection: str, found: _SeriesRecord, code: str) -> CatalogueRow:
    series = found.series
    header: dict[str, Any] = {name: getattr(series, name) for name in _OF_SERIES} | read_header_row(series)
    return CatalogueRow(
        collection=collection,
        code=code,
        **header,
        files=found.files,
        coverage_mm=round(series.coverage_mm, 2),
        contour=found.contour,
    )


def _compare_scans(
    rows: list[CatalogueRow],
    records: Sequence[_SeriesRecord],
    exclusions: list[Exclusion],
    cache: Cache,
    policy: Policy,
) -> Catalogue:
    """Read every scan once, and those of candidate pairs once more."""
    numbers: list[int] = []  # rows of the scans that are compared
    prints: list[Fingerprint] = []

    @lru_cache(maxsize=2)  # the scans of a folder come one after another, those of a pair from two
    def load_series(unit: Path) -> dict[str, PETSeries]:
        return {one.series: one for one in find_series([unit]).series}

    def load(number: int) -> PETSeries:
        return load_series(records[number].unit)[records[number].series.series]

    for number in track([number for number, row in enumerate(rows) if not row.code], "scans to compare"):
        series = load(number)
        key = f"{series.header_digest} {series.content_digest} {policy}"
        try:
            prints.append(cache_fingerprint(cache, key, lambda series=series: _load_picture(series, policy)))  # type: ignore[misc]
        except UnusableScanError as refusal:
            exclusions.append(Exclusion.of(refusal, patient=series.patient, series=series.series))
            rows[number] = replace(rows[number], code=refusal.code.name)
        else:
            numbers.append(number)

    def same_person(first: int, second: int) -> bool:
        one, other = rows[numbers[first]], rows[numbers[second]]
        return (one.collection, one.patient) == (other.collection, other.patient)

    pairs = find_same_pictures(prints, lambda one: _load_picture(load(numbers[one]), policy), skip=same_person)
    labels = connect_groups(range(len(numbers)), pairs)
    sizes = Counter(labels)
    leader: dict[int, str] = {}
    for number, label in zip(numbers, labels, strict=True):
        leader.setdefault(label, rows[number].series)
        if sizes[label] > 1:
            rows[number] = replace(rows[number], group=leader[label])
    duplicates = tuple(
        SamePicture(one.series, other.series, (one.collection, other.collection), pair.similarity)
        for pair in pairs
        for one, other in [(rows[numbers[pair.first]], rows[numbers[pair.second]])]
    )
    return Catalogue(tuple(rows), duplicates, tuple(exclusions), len(numbers))


def _load_picture(series: PETSeries, policy: Policy) -> Picture:
    volume = read_suv(series, policy=policy)
    return Picture(volume.array, volume.geometry.spacing_mm)
