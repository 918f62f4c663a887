"""``twobe3 collections``: the public PET collections, a selection of them, their download and their tables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import twobe3 as tb
from twobe3.cli.output import Document, Json, columns, print_document
from twobe3.collections.rules import License, ScansPerPatient
from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import EnvironmentFailure

collections = typer.Typer(
    name="collections", help="Public PET collections: what there is, a selection, its download.", no_args_is_help=True
)

Index = Annotated[
    Path | None,
    typer.Option("--index", help="Folder with another release of IDC's index; the installed one by default."),
]


@collections.command("list")
def list_collections(index: Index = None, as_json: Json = False) -> None:
    """List every public collection with PET: patients, series, size, licence, tracer, contours, outcomes, citation."""
    rows = [asdict(row) for row in tb.collections.list_collections(index=index)]
    print_document({"collections": rows}, as_json, _list_lines)


@collections.command()
def plan(
    out: Annotated[Path, typer.Option(help="Folder for the manifest and its summary.")],
    min_scans: Annotated[int, typer.Option(min=1, help="Refuse a selection of fewer scans.")] = 1,
    collection: Annotated[list[str] | None, typer.Option(help="Of this collection only; repeatable.")] = None,
    license: Annotated[
        License, typer.Option(help="permissive: public domain and attribution (CC0, CC BY) only.")
    ] = "permissive",
    tracer: Annotated[str | None, typer.Option(help="Scans of this tracer only, such as FDG or PSMA.")] = None,
    scans_per_patient: Annotated[ScansPerPatient, typer.Option(help="one: the first study of each patient.")] = "all",
    contours: Annotated[
        bool, typer.Option("--contours", help="Put the SEG and RTSTRUCT series of the studies into the manifest, too.")
    ] = False,
    with_ct: Annotated[
        bool, typer.Option("--with-ct", help="Put the CT of the studies into the manifest, too.")
    ] = False,
    index: Index = None,
    as_json: Json = False,
) -> None:
    """Select scans by stated rules and write them as a manifest; offline, and the same each time."""
    selection = tb.collections.plan_collections(
        out,
        min_scans=min_scans,
        collections=collection or (),
        license=license,
        tracer=tracer,
        scans_per_patient=scans_per_patient,
        contours=contours,
        with_ct=with_ct,
        index=index,
    )
    print_document(selection.to_json(), as_json, lambda _: [selection.summary, str(selection.manifest)])


@collections.command()
def fetch(
    manifest: Annotated[Path, typer.Argument(help="manifest.parquet of a plan.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the images.")],
    workers: Annotated[int, typer.Option(min=1, help="Connections at once.")] = 8,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read what is there and compare it with its digest.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what lacks, and fetch nothing.")] = False,
    allow_edited: Annotated[bool, typer.Option("--allow-edited", help="Accept a manifest edited by hand.")] = False,
    endpoint_url: Annotated[str | None, typer.Option(help="S3-compatible server; that of IDC by default.")] = None,
    as_json: Json = False,
) -> None:
    """Download the series of a manifest: resumable, every file checked, licences and citations beside them."""
    done = tb.collections.fetch_collections(
        manifest, out, endpoint=endpoint_url, workers=workers, verify=verify, dry_run=dry_run, allow_edited=allow_edited
    )
    print_document(asdict(done), as_json, _fetch_lines)
    if done.failed:
        reason = f"{len(done.failed)} of {done.series} series could not be fetched whole"
        raise EnvironmentFailure(Code.FETCH_FAILED, reason)


@collections.command()
def catalogue(
    paths: Annotated[list[Path], typer.Argument(help="A folder for each collection.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the catalogue.")],
    compare: Annotated[
        bool, typer.Option("--compare/--headers-only", help="Read the scans to find duplicates.")
    ] = True,
    parquet: Annotated[bool, typer.Option("--parquet/--no-parquet", help="Write catalogue.parquet, too.")] = True,
    as_json: Json = False,
) -> None:
    """List the PET series of downloaded collections in one table, and find scans that are in them twice."""
    made = tb.collections.make_catalogue(paths, compare=compare, fingerprints=out / "fingerprints")
    made.write(out, parquet=parquet)
    print_document(made.to_json(), as_json, _catalogue_lines)


@collections.command()
def table(
    name: Annotated[str, typer.Argument(help="The collection, for instance head-neck-pet-ct.")],
    files: Annotated[list[Path], typer.Argument(help="Its clinical files as downloaded.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The table to write, comma-separated, one row a patient.")],
    as_json: Json = False,
) -> None:
    """Write the clinical table of a collection, as it is published, as one that every study file can name."""
    adapted = tb.collections.get_adapter(name).read(files)
    tb.collections.write_table(adapted, out)
    print_document({"collection": name, "table": str(out), **adapted.to_json()}, as_json, _table_lines)


def _fetch_lines(document: Document) -> list[str]:
    gigabytes = {key: document[key] / 1e9 for key in ("needed_bytes", "free_bytes")}
    lines = [f"{one['series']}: {one['code']}: {one['reason']} ({one['remedy']})" for one in document["failed"]]
    room = f"{gigabytes['needed_bytes']:.3f} GB lacked, {gigabytes['free_bytes']:.0f} GB were free"
    there = f"{document['fetched']} fetched, {document['reused']} were there, {len(lines)} failed"
    return [*lines, f"{document['series']} series: {there}; {room}"]


def _catalogue_lines(document: Document) -> list[str]:
    lines = [
        f"{pair['first']} and {pair['second']} ({' and '.join(pair['collections'])}) show one scan"
        f" (r = {pair['similarity']:.3f})"
        for pair in document["duplicates"]
    ]
    held = ", ".join(f"{count} in {name}" for name, count in document["collections"].items())
    tally = "".join(f", {count} {code}" for code, count in document["excluded"].items())
    summary = f"{document['scans']} of {document['series']} series are the scan of a patient ({held}){tally}"
    distinct = f"; {document['distinct']} of {document['compared']} are distinct" if document["compared"] else ""
    return [*lines, summary + distinct]


def _table_lines(document: Document) -> list[str]:
    centres = ", ".join(f"{centre} {n}" for centre, n in document["centres"].items())
    lines = [f"{format_count(document['patients'], 'patient')}{': ' if centres else ''}{centres}"]
    for row in document["endpoints"]:
        events = "" if row["events"] is None else f", {row['events']} with it"
        result = row["code"] or f"{format_count(row['patients'], 'patient')}{events}"
        lines.append(f"{row['name']} ({', '.join(row['columns'])}): {result}")
    if document["contours"] is not None:
        lines.append(f"contours of the tumour named for {format_count(document['contours'], 'patient')}")
    return [*lines, document["table"]]


def _list_lines(document: Document) -> list[str]:
    rows = document["collections"]
    table = columns(
        [
            {
                "name": row["name"],
                "size": f"{row['patients']:>5} patients {row['series']:>5} series {row['size_gb']:>7.2f} GB",
                "licence": f"{row['license']:<9}",
                "tracer": f"{row['tracer']:<9}",
                "contours": f"{row['contours']:>5} contours",
                "outcomes": row["outcomes"],
            }
            for row in rows
            if not row["steps"]
        ]
    )
    lines = [*table, "", "To be downloaded by you:"]
    for row in (row for row in rows if row["steps"]):
        patients = format_count(row["patients"], "patient")
        lines += ["", f"{row['name']}  {patients}  {row['license']}", f"  {row['outcomes']}"]
        lines += [f"  {number}. {step}" for number, step in enumerate(row["steps"], 1)]
    return [*lines, "", "--json has citations and more."]
