"""Every public collection with PET: those of the index, and those that users must get themselves."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from twobe3.collections.index import open_index
from twobe3.collections.known import ELSEWHERE, IDC, CollectionRow, IndexFacts

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
    """List the collections of the index, those with most patients first, then those to be downloaded otherwise.

    ``index`` is the folder of another index, see :func:`~twobe3.collections.index.open_index`.

    Raises
    ------
    EnvironmentFailure
        ``EXTRA_MISSING``, ``INDEX_INVALID``.
    """
    return (*map(_make_row, open_index(index).query(_QUERY)), *ELSEWHERE.values())


def _make_row(cells: tuple[Any, ...]) -> CollectionRow:
    name, title, supporting_data, dois, citations, *counts, size_bytes, licenses, tracers, doi, contours, kinds = cells
    patients, studies, series = counts
    known = IDC.get(name, IndexFacts())
    clinical = "Clinical" in (supporting_data or "")
    return CollectionRow(
        name=name, title=title or name, patients=patients, studies=studies, series=series,
        size_gb=round(int(size_bytes) / 1e9, 3), license=licenses or "", tracer=tracers,
        contours=contours, contours_note=kinds,
        outcomes=known.outcomes or ("a clinical table; which outcomes is not known" if clinical else ""),
        adapters=(known.adapter,) if known.adapter else (),
        citation=format_citation(doi or "", dict(zip(dois or (), citations or (), strict=False))),
    )  # fmt: skip


def format_citation(doi: str, citations: dict[str, str]) -> str:
    """The citation of a DOI as plain text; its address where there is none."""
    text = next((text for key, text in citations.items() if (key or "").lower() == doi.lower()), "") or ""
    plain = html.unescape(re.sub(r"<[^>]+>", "", text))
    return " ".join(plain.split()) or (f"https://doi.org/{doi}" if doi else "")
