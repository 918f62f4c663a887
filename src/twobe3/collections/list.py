"""Every public collection with PET: those of the index, and those that users must get themselves."""

from __future__ import annotations

import html
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twobe3.collections.index import open_index
from twobe3.collections.known import ELSEWHERE, IDC, Held


@dataclass(frozen=True)
class CollectionRow:
    """A collection.

    Attributes
    ----------
    name : str
        What ``--collection`` takes.
    title : str
        As published.
    patients, studies, series : int
        Those with PET; before any rule; 0 studies and series where the images are not in the index.
    size_gb : float
        Of the PET series, in 10⁹ bytes.
    license : str
        Of the PET series.
    tracer : str
        The tracers known; ``unknown`` is one of them where some series' tracer is not.
    contours : int or None
        SEG and RTSTRUCT series in studies with PET; None where the images are not in the index.
    contours_note : str
        Of which kind.
    outcomes : str
        Outcome tables known.
    adapters : tuple of str
        What makes a clinical table of them.
    citation : str
        With the DOI.
    steps : tuple of str
        How to get it; empty where ``twobe3 collections fetch`` does.
    """

    name: str
    title: str
    patients: int
    studies: int
    series: int
    size_gb: float
    license: str
    tracer: str
    contours: int | None
    contours_note: str
    outcomes: str
    adapters: tuple[str, ...]
    citation: str
    steps: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        return {**asdict(self), "adapters": list(self.adapters), "steps": list(self.steps)}


_QUERY = """
    SELECT collection, title, supporting_data, dois, citations, patients, studies, series, size_bytes, licenses,
           tracers, doi, coalesce(contours, 0), coalesce(kinds, '')
    FROM (SELECT collection, count(DISTINCT patient) AS patients, count(DISTINCT study_uid) AS studies,
                 count(*) AS series, sum(size_bytes) AS size_bytes,
                 string_agg(DISTINCT license, ', ' ORDER BY license) AS licenses,
                 string_agg(DISTINCT tracer, ', ' ORDER BY tracer) AS tracers, min(doi) AS doi
          FROM series GROUP BY collection)
    LEFT JOIN about USING (collection)
    LEFT JOIN (SELECT collection, count(*) AS contours, string_agg(DISTINCT modality, ', ' ORDER BY modality) AS kinds
               FROM contours GROUP BY collection) USING (collection)
    ORDER BY patients DESC, collection"""


def list_collections(*, index: Path | str | None = None) -> tuple[CollectionRow, ...]:
    """List the collections, those of the index with most patients first, then those to be downloaded otherwise.

    Parameters
    ----------
    index : path, optional
        Folder of another index, see :func:`~twobe3.collections.index.open_index`.

    Raises
    ------
    EnvironmentFailure
        ``EXTRA_MISSING``, ``INDEX_INVALID``.
    """
    held = tuple(_held(*row) for row in open_index(index).rows(_QUERY))
    return (*held, *map(_elsewhere, ELSEWHERE))


def _held(
    name: str,
    title: str | None,
    supporting_data: str | None,
    dois: list[str] | None,
    citations: list[str] | None,
    patients: int,
    studies: int,
    series: int,
    size_bytes: int,
    licenses: str | None,
    tracers: str,
    doi: str | None,
    contours: int,
    kinds: str,
) -> CollectionRow:
    known = IDC.get(name, Held())
    clinical = "Clinical" in (supporting_data or "")
    return CollectionRow(
        name=name,
        title=title or name,
        patients=patients,
        studies=studies,
        series=series,
        size_gb=round(int(size_bytes) / 1e9, 3),
        license=licenses or "",
        tracer=tracers,
        contours=contours,
        contours_note=kinds,
        outcomes=known.outcomes or ("a clinical table; which outcomes is not known" if clinical else ""),
        adapters=(known.adapter,) if known.adapter else (),
        citation=cited(doi or "", dict(zip(dois or (), citations or (), strict=False))),
    )


def cited(doi: str, citations: dict[str, str]) -> str:
    """The citation of a DOI as plain text, or the DOI itself."""
    text = next((said for key, said in citations.items() if (key or "").lower() == doi.lower()), "") or ""
    plain = html.unescape(re.sub(r"<[^>]+>", "", text))
    return " ".join(plain.split()) or (f"https://doi.org/{doi}" if doi else "")


def _elsewhere(name: str) -> CollectionRow:
    row = ELSEWHERE[name]
    return CollectionRow(
        name, row.title, row.patients, 0, 0, 0.0, row.license, row.tracer, None, row.contours, row.outcomes,
        row.adapters, row.citation, row.steps,
    )  # fmt: skip
