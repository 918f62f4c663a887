"""The verbs on a fitted model: its card, its predictions of new scans, and where their risks come from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

import twobe3 as tb
from twobe3.cli.options import (
    CredentialsFile,
    DeviceOption,
    Force,
    Method,
    ModelFile,
    Paths,
    PolicyOption,
    RepairDates,
    ShowFaces,
)
from twobe3.cli.output import Json, explanation_lines, nothing_usable, prediction_lines, print_document
from twobe3.core.codes import Code


def card(
    model: ModelFile,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown, for a page or a repository.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a model was trained on, how well it predicted patients left out, and what it is for."""
    read, digest = tb.models.read_card(model)
    text = read.markdown(digest) if markdown else read.text(digest)
    print_document({**read.to_json(), "file_digest": digest}, as_json, lambda _: [text])


def predict(
    model: ModelFile,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders or files of DICOM, or of NIfTI with a JSON; none with --dicomweb."),
    ] = None,
    dicomweb: Annotated[str, typer.Option(metavar="URL", help="Archive that the studies are fetched from.")] = "",
    study: Annotated[list[str] | None, typer.Option(metavar="UID", help="StudyInstanceUID; repeatable.")] = None,
    credentials: CredentialsFile = None,
    store: Annotated[
        bool, typer.Option("--store", help="Store --sr, --seg and --pm in that archive; all three where none is given.")
    ] = False,
    policy: PolicyOption = "lenient",
    repair_dates: RepairDates = False,
    device: DeviceOption = None,
    force: Force = False,
    out: Annotated[Path | None, typer.Option(help="A CSV or .json file for them, with your own patient ids.")] = None,
    sr: Annotated[Path | None, typer.Option(help="Folder for DICOM reports, with the patient's identity.")] = None,
    seg: Annotated[Path | None, typer.Option(help="Folder for the region as DICOM SEG, likewise.")] = None,
    pm: Annotated[Path | None, typer.Option(help="Folder for the map of the risk as Parametric Map, likewise.")] = None,
    html: Annotated[Path | None, typer.Option(help="Folder for a page for each patient, without identity.")] = None,
    show_faces: ShowFaces = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one for each core from sixteen scans on.")
    ] = None,
    show_ids: Annotated[
        bool, typer.Option("--show-ids", help="Show your own patient ids instead of pseudonyms.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Predict risk and probability for new scans."""
    if bool(paths) == bool(dicomweb) or bool(study) != bool(dicomweb) or (store and not dicomweb):
        raise typer.BadParameter("give PATHS, or --dicomweb with --study; --store needs --dicomweb")
    archive = tb.deploy.DicomWeb(dicomweb, tb.deploy.read_credentials(credentials)) if dicomweb else None
    with TemporaryDirectory(prefix="twobe3-") as folder:
        if store and not (sr or seg or pm):
            sr = seg = pm = Path(folder)
        results = tb.deploy.ResultFiles(sr, seg, pm, html, show_faces) if sr or seg or pm or html else None
        source = (
            partial(tb.predict, model, paths or [], workers=workers)
            if archive is None
            else partial(tb.deploy.predict_studies, model, archive, study or [], progress=True)
        )
        predictions = source(
            policy=policy, repair_dates=repair_dates, device=tb.Device(device or "auto"), out=out, force=force,
            each=results,
        )  # fmt: skip
        print_document(predictions.to_json(show_ids=show_ids), as_json, prediction_lines)
        if archive is not None and results is not None and store:
            archive.store(results.written)
    if not predictions.usable:
        raise nothing_usable(Code.NOTHING_USABLE, len(predictions.predictions))


def explain(
    model: Annotated[Path, typer.Argument(help="A model file of twobe3, or the folder of a study: all its models.")],
    paths: Paths,
    out: Annotated[Path, typer.Option(help="Folder for maps (NIfTI), pictures (PNG) and explanations.json.")],
    method: Annotated[Method, typer.Option(help="occlusion needs no gradient, and minutes.")] = "integrated-gradients",
    checks: Annotated[bool, typer.Option(help="Check whether maps can be trusted; most of the time.")] = True,
    show_faces: ShowFaces = False,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Maps as DICOM, too: Parametric Map and SEG, with the patient's identity.")
    ] = False,
    policy: PolicyOption = "lenient",
    repair_dates: RepairDates = False,
    device: DeviceOption = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show where in new scans a model's risk comes from: maps in patient space, checked."""
    found = tb.explain_scans(
        model, paths, out, method=method, checks=checks, show_faces=show_faces, dicom=dicom,
        policy=policy, repair_dates=repair_dates, device=tb.Device(device or "auto"), force=force,
    )  # fmt: skip
    print_document(found.to_json(), as_json, explanation_lines)
    if not found.explained:
        raise nothing_usable(Code.NOTHING_USABLE, len(found.unused))
