"""A plan in words: its summary, and the notices that its licences ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from twobe3.collections.manifest import Header, ManifestRow
from twobe3.collections.rules import Rule
from twobe3.core.counts import format_count
from twobe3.io.files import write_atomic

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
    """Write ``LICENSES.md`` and ``CITATIONS.md``, a DOI without citation by its address, beside the images of ``rows``.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    licences = Counter((row.collection, row.license or "unknown") for row in rows)
    license_lines = [
        "# Licences of the images in this folder\n",
        "| collection | licence | series | text |",
        "|---|---|---|---|",
        *(
            f"| {collection} | {licence} | {count} | {_TEXTS.get(licence, 'see the page that the DOI leads to')} |"
            for (collection, licence), count in sorted(licences.items())
        ),
    ]
    citation_lines = [
        "# What to cite when these images are used\n",
        *(
            f"- {collection}: {citations.get(doi) or f'https://doi.org/{doi}'}"
            for collection, doi in sorted({(row.collection, row.doi) for row in rows})
        ),
        "- NCI Imaging Data Commons, which holds them: Fedorov et al., RadioGraphics 2023;43(12):e230180, "
        "https://doi.org/10.1148/rg.230180",
    ]
    for name, lines in ((LICENSES, license_lines), (CITATIONS, citation_lines)):
        write_atomic(folder / name, ("\n".join(lines) + "\n").encode())


def format_summary(rows: Sequence[ManifestRow], header: Header, rules: Sequence[Rule]) -> str:
    """Describe a selection as Markdown: its rows, the exclusions by rule, in the order of the rules, and citations."""
    scans = [row for row in rows if row.modality == "PT"]
    patients = {(row.collection, row.patient) for row in scans}
    names = sorted({row.collection for row in scans})
    found = len(scans) + sum(header.excluded.values())
    lines = [
        "# Public PET scans",
        "",
        f"{format_count(len(scans), 'scan')} of {format_count(len(patients), 'patient')}, "
        f"{format_count(len(names), 'collection')}, {_gb(rows)}" + _say_beside(rows),
        "",
        *_say_ct(rows),
        f"Selected from {header.index_version} by twobe3 {header.package_version}; options: {_options(header)}.",
        "",
        "A scan is one PET series of a study. The index says nothing of the pixels: a scan may still be refused, with "
        "a code, when it is read.",
        "",
        "## Collections",
        "",
        "| collection | scans | patients | size | tracer | licence |",
        "|---|---:|---:|---:|---|---|",
    ]
    for name in names:
        own = [row for row in scans if row.collection == name]
        with_contours = [row for row in rows if row.collection == name]
        cells = (
            name, len(own), len({row.patient for row in own}), _gb(with_contours),
            ", ".join(sorted({row.tracer for row in own})),
            ", ".join(sorted({row.license for row in with_contours})),
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "## Left out", "", f"Of {found} PET series, each counted under the first rule that it meets:", ""]
    lines += ["| rule | series | why |", "|---|---:|---|"]
    lines += [f"| {rule.name} | {header.excluded[rule.name]} | {rule.reason} |" for rule in rules]
    lines += ["", "## To cite", ""]
    lines += [f"- {text}" for text in sorted(header.citations.values())]
    return "\n".join(lines) + "\n"


def _say_beside(rows: Sequence[ManifestRow]) -> str:
    """What there is besides the scans, at the end of a sentence."""
    counts = Counter("CT" if row.modality == "CT" else "contours" for row in rows if row.modality != "PT")
    said = [f"{counts[name]} series of {name}" for name in ("CT", "contours") if counts[name]]
    return f", with {' and '.join(said)}." if said else "."


def _say_ct(rows: Sequence[ManifestRow]) -> list[str]:
    """How many scans have a CT, and what that costs; nothing where none was selected."""
    ct = [row for row in rows if row.modality == "CT"]
    if not ct:
        return []
    scans, studies = [row for row in rows if row.modality == "PT"], {row.study_uid for row in ct}
    having = sum(row.study_uid in studies for row in scans)
    text = (
        f"{having} of {format_count(len(scans), 'scan')} have a CT in their study, {_gb(ct)}; of several the one "
        "beside the PET is chosen by its headers when it is read."
    )
    return [text, ""]


def _options(header: Header) -> str:
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in header.options.items() if value)


def _gb(rows: Sequence[ManifestRow]) -> str:
    return f"{sum(row.size_bytes for row in rows) / 1e9:.2f} GB"
