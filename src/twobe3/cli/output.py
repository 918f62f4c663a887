"""What every verb says: one JSON document, or lines for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Annotated, Any

import typer

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import EmptyInputError
from twobe3.core.printable import replace_unprintable

Document = dict[str, Any]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]


def print_document(document: Document, as_json: bool, lines: Callable[[Document], list[str]]) -> None:
    """Print a document as JSON, or as the lines that a function makes of it."""
    if as_json:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        # JSON escapes the control characters below U+0020 only, and terminals obey U+009B too.
        print("".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text))
    else:
        print("\n".join(map(_printable, lines(document))))


def _printable(text: str) -> str:
    """Lines without what a terminal takes for a command; names in files may hold anything."""
    return "\n".join(replace_unprintable(line, "\N{REPLACEMENT CHARACTER}") for line in text.split("\n"))


class PrintableFormatter(logging.Formatter):
    """Messages, which may quote files, without what a terminal takes for a command."""

    def format(self, record: logging.LogRecord) -> str:
        """The message of a record, and the traceback where it has one."""
        return _printable(super().format(record))


def proposal_lines(document: Document) -> list[str]:
    """What ``init`` says: what was seen, what is not sure, and what to do next."""
    unsure = [f"  ? {line}" for line in document["unsure"]]
    return [
        *(f"  {line}" for line in document["seen"]),
        *(["not sure, look at it in the file:", *unsure] if unsure else []),
        f"{document['study']} is written; next: twobe3 run {document['study']} --out results",
    ]


def dry_run_lines(document: Document) -> list[str]:
    """What ``run --dry-run`` says: what there is, what would be done, and what it would take."""
    estimate, cohorts = document["estimate"], (("", document["cohort"]), ("external cohort, ", document["external"]))
    seconds, disk = estimate["seconds"], estimate["disk_bytes"]
    untimed = (
        [f"  not in it, for no fit could be timed: {', '.join(estimate['untimed'])}"] if estimate["untimed"] else []
    )
    done = ["finished: a run would compute nothing"] if document["finished"] else []
    return [
        document["study"],
        *(line for name, cohort in cohorts if cohort for line in _cohort_lines(name, cohort)),
        *(
            f"endpoint {one['name']} ({one['kind']}): {format_count(one['patients'], 'patient')}, "
            f"{format_count(one['events'], 'event')}, {format_count(one['folds'], 'fold')}"
            for one in document["endpoints"]
        ),
        f"models: {', '.join(document['models'])}",
        *(f"{name}: {n}, of which {document['there'][name]} are there" for name, n in document["tasks"].items()),
        *done,
        f"about {_duration(sum(seconds.values()))} by {format_count(estimate['processes'], 'process', 'processes')}: "
        + ", ".join(f"{step} {_duration(one)}" for step, one in seconds.items()),
        f"about {_size(sum(disk.values()))} of disk: "
        + ", ".join(f"{name} {_size(one)}" for name, one in disk.items()),
        f"  both are estimates: {estimate['basis']}",
        *untimed,
        "nothing was written",
    ]


def _cohort_lines(name: str, cohort: Document) -> list[str]:
    codes = "".join(f", {n} {code}" for code, n in cohort["excluded"].items())
    return [
        f"{name}scans: {cohort['found']} series found, {cohort['used']} usable{codes}",
        *(f"  note: {warning}" for warning in cohort["warnings"]),
    ]


def _duration(seconds: float) -> str:
    """Seconds, minutes or hours, with two digits."""
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.0f} s"


def _size(n: float) -> str:
    return f"{n / 1e9:.2g} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB"


def nothing_usable(code: Code, found: int) -> EmptyInputError:
    """The error of a command that found so many series and could use none."""
    nouns = "series was found, which cannot be used", "series were found, none of which can be used"
    return EmptyInputError(code, format_count(found, *nouns))


def columns(rows: list[Document]) -> list[str]:
    """One line for each row, its first cell padded to the widest."""
    width = max(len(str(next(iter(row.values())))) for row in rows)
    return [f"{first!s:<{width}}  {'  '.join(map(str, rest))}" for first, *rest in (row.values() for row in rows)]


def inspection_lines(document: Document) -> list[str]:
    """What ``inspect`` and ``convert`` say: a line for each series, with what was drawn and noted, and a tally."""
    lines = []
    for row in document["series"]:
        suv = row["suv"]
        result = (
            f"SUV max {suv['max']:.2f} ({suv['type']})" if suv else f"{row['code']}: {row['reason']} ({row['remedy']})"
        )
        spacing = row["spacing_mm"] and " × ".join(f"{length:.4g}" for length in row["spacing_mm"]) + " mm"
        dates = [f"{kind} {date}" for kind, date in row.get("dates", {}).items() if date]
        scanner = f"{row['manufacturer']} {row['model']}".strip()
        about = "".join(f"{part}  " for part in (row["tracer"], scanner, spacing, ", ".join(dates)) if part)
        size = f"{row['modality']:<3} {format_count(row['slices'], 'slice'):>11}"
        lines.append(f"{row['patient']}  {row['series_uid']}  {size}  {about}{result}")
        if drawn := row["contour"]:
            volume = f"{drawn['regions']} {drawn['volume_ml']:.2f} ml" if drawn["regions"] else ""
            lines.append(f"  drawn: {volume or drawn['code'] + ': ' + drawn['reason']}")
            lines += [f"  {note}" for note in drawn["notes"]]
        if ct := row.get("ct"):
            lines.append(f"  CT: {_describe_ct(ct)}")
            lines += [f"  {note}" for note in ct["notes"]]
        if written := row.get("output"):
            lines.append(f"  written: {written}")
        lines += [f"  note: {warning}" for warning in (suv or {}).get("warnings", ())]
    codes = [row["code"] for row in document["series"] if row["code"]]
    tally = "".join(f", {codes.count(code)} {code}" for code in sorted(set(codes)))
    if lost := document.get("lost"):
        lines.append(f"{lost['code']}: {lost['reason']} ({lost['remedy']})")
    return [*lines, f"{document['found']} series: {document['usable']} usable{tally}"]


def _describe_ct(ct: Document) -> str:
    """The CT beside a scan: what it is and how it lies, or why it is not used."""
    if ct["code"]:
        return f"{ct['code']}: {ct['reason']} ({ct['remedy']})"
    spacing = " × ".join(f"{length:.4g}" for length in ct["spacing_mm"])
    phase = "with contrast, " if ct["contrast"] else ""
    kernel = f"{ct['kernel']}, " if ct["kernel"] else ""
    return f"{format_count(ct['slices'], 'slice')}  {spacing} mm  {phase}{kernel}bodies overlap by {ct['dice']:.2f}"


def explanation_lines(document: Document) -> list[str]:
    """What ``explain`` says: a line for each map with what it failed, for each sum, and for each scan left out."""
    lines = []
    for one in document["maps"]:
        failed = [check["name"] for check in one["checks"] if check["passed"] is False]
        verdict = f"NOT to be trusted, failed: {', '.join(failed)}" if failed else "checks passed"
        verdict = verdict if any(check["passed"] is not None for check in one["checks"]) else "not checked"
        lines.append(f"{one['patient']}  {one['model']}  {one['endpoint']}  risk {one['risk']:.3f}  {verdict}")
    for one in document["contributions"]:
        largest = sorted(one["values"].items(), key=lambda item: -abs(item[1]))[:5]
        parts = ", ".join(f"{name} {value:+.2f}" for name, value in largest)
        lines.append(f"{one['patient']}  {one['model']}  {one['endpoint']}  {parts}")
    for spoken, scans in (
        ("", document["unused"]), ("FORCED in spite of ", document["forced"]), ("flag ", document["flags"]),
    ):  # fmt: skip
        lines += [f"{one['patient']}  {one['series']}  {spoken}{one['code']}: {one['reason']}" for one in scans]
    return lines


def prediction_lines(document: Document) -> list[str]:
    """What ``predict`` says: the model, and for each scan and endpoint the result and what speaks against it."""
    lines = [f"model {document['model']}: {document['intended_use']}"]
    for row in document["predictions"]:
        who = row.get("patient_id", row["patient"])
        result = f"{row['code']}: {row['reason']}" if row["risk"] is None else _result(row, document["percentile_of"])
        lines.append(f"{who}  {row['series_uid']}  {row['endpoint']}  {result}")
        lines += [f"  FORCED in spite of {one['code']}: {one['reason']}" for one in row["forced"]]
        lines += [f"  flag {one['code']}: {one['reason']}" for one in row["flags"]]
    return lines


def _result(row: Document, percentile_of: str) -> str:
    """Risk and probability with their intervals, and the percentile, as far as there are any."""
    parts = []
    for name in ("risk", "probability"):
        if row[name] is not None:
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            parts.append(f"{name} {row[name]:.3f}" + ("" if low is None else f" ({low:.3f} to {high:.3f})"))
    return "  ".join([*parts, f"higher than {row['percentile']:.0f} % of the {percentile_of} risks"])


def check_lines(document: Document) -> list[str]:
    """What ``doctor`` says: a line for each check."""
    checks = document["checks"]
    return columns([{"name": f"{'✓' if c['works'] else '✗'} {c['name']}", "detail": c["detail"]} for c in checks])
