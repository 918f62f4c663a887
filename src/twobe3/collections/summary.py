"""A plan in words."""

from __future__ import annotations

from collections.abc import Sequence

from twobe3.collections.manifest import Header, ManifestRow
from twobe3.collections.rules import Rule


def summary(rows: Sequence[ManifestRow], header: Header, asked: Sequence[Rule]) -> str:
    """What was selected, what not and why, and what to cite, as Markdown.

    Parameters
    ----------
    rows : sequence of ManifestRow
        What was selected.
    header : Header
        How.
    asked : sequence of Rule
        The rules, in the order in which they were asked.
    """
    scans = [row for row in rows if row.modality == "PT"]
    patients = {(row.collection, row.patient) for row in scans}
    names = sorted({row.collection for row in scans})
    found = len(scans) + sum(header.excluded.values())
    lines = [
        "# Public PET scans",
        "",
        f"{len(scans)} scans of {len(patients)} patients, {len(names)} collections, {_gb(rows)}"
        + (f", with {len(rows) - len(scans)} series of contours." if len(rows) > len(scans) else "."),
        "",
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
        people = len({row.patient for row in own})
        every = [row for row in rows if row.collection == name]
        said = ", ".join(sorted({row.tracer for row in own}))
        licences = ", ".join(sorted({row.license for row in every}))
        lines.append(f"| {name} | {len(own)} | {people} | {_gb(every)} | {said} | {licences} |")
    lines += ["", "## Left out", "", f"Of {found} PET series, each counted under the first rule that it meets:", ""]
    lines += ["| rule | series | why |", "|---|---:|---|"]
    lines += [f"| {rule.name} | {header.excluded[rule.name]} | {rule.reason} |" for rule in asked]
    lines += ["", "## To cite", ""]
    lines += [f"- {text}" for text in sorted(header.citations.values())]
    return "\n".join(lines) + "\n"


def _options(header: Header) -> str:
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in header.options.items() if value)


def _gb(rows: Sequence[ManifestRow]) -> str:
    return f"{sum(row.size_bytes for row in rows) / 1e9:.2f} GB"
