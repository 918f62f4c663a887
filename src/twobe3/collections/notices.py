"""What must lie beside public images: under which licence each collection came, and what to cite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from twobe3.artefact import write_atomic
from twobe3.collections.manifest import ManifestRow

LICENSES, CITATIONS = "LICENSES.md", "CITATIONS.md"
# The names that IDC uses, https://learn.canceridc.dev, and where their texts are.
_TEXTS = {
    "CC BY 3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-NC 3.0": "https://creativecommons.org/licenses/by-nc/3.0/",
    "CC BY-NC 4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
}


def write_notices(folder: Path, rows: Sequence[ManifestRow], citations: Mapping[str, str]) -> None:
    """Write ``LICENSES.md`` and ``CITATIONS.md``.

    Parameters
    ----------
    folder : Path
        Where the images lie or will lie.
    rows : sequence of ManifestRow
        The series.
    citations : mapping
        From DOI to citation; a DOI without one is cited by its address.

    Raises
    ------
    ToolError
        ``WRITE_FAILED``.
    """
    licences = [
        "# Licences of the images in this folder\n",
        "| collection | licence | series | text |",
        "|---|---|---|---|",
        *(
            f"| {collection} | {licence} | {count} | {_TEXTS.get(licence, 'see the page that the DOI leads to')} |"
            for (collection, licence), count in _counted([(row.collection, row.license or "unknown") for row in rows])
        ),
    ]
    cited = [
        "# What to cite when these images are used\n",
        *(
            f"- {collection}: {citations.get(doi) or f'https://doi.org/{doi}'}"
            for (collection, doi), _ in _counted([(row.collection, row.doi) for row in rows])
        ),
        "- NCI Imaging Data Commons, which holds them: Fedorov et al., RadioGraphics 2023;43(12):e230180, "
        "https://doi.org/10.1148/rg.230180",
    ]
    for name, lines in ((LICENSES, licences), (CITATIONS, cited)):
        write_atomic(folder / name, ("\n".join(lines) + "\n").encode())


def _counted(pairs: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], int]]:
    return [(pair, pairs.count(pair)) for pair in sorted(set(pairs))]
