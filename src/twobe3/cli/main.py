"""The verbs of the command line: thin, every one of them a call into the package.

Results go to standard output, progress and messages to standard error. Exit status: 0 done, 1 the tool failed,
2 wrong usage or configuration, 3 nothing usable in the input, 130 and 143 interrupted.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

import twobe3 as tb
from twobe3 import report as pages
from twobe3.cli.collections import collections
from twobe3.cli.doctor import diagnose
from twobe3.cli.export import export
from twobe3.cli.interruption import interruptible
from twobe3.cli.models import card, explain, predict
from twobe3.cli.node import node
from twobe3.cli.options import (
    DeviceOption,
    Paths,
    PolicyOption,
    PrecisionOption,
    RepairDates,
    ShowFaces,
    SUVType,
    Unit,
)
from twobe3.cli.output import (
    Document,
    Json,
    PrintableFormatter,
    check_lines,
    columns,
    dry_run_lines,
    inspection_lines,
    nothing_usable,
    print_document,
    proposal_lines,
)  # fmt: skip
from twobe3.cli.serve import serve
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, TwoBe3Error
from twobe3.core.fault import internal_error
from twobe3.io.files import require_folder, write_atomic
from twobe3.study.demo import write_demo
from twobe3.study.finished import Options, read_finished

log = logging.getLogger("twobe3")
app = typer.Typer(
    name="twobe3",
    help="From PET scans and a table of outcomes to a validated, explained prediction model.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(collections)
app.command()(export)

What = Literal["backbones", "models", "metrics", "codes"]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the cohort and the results.")] = Path("demo"),
    patients: Annotated[int, typer.Option(min=10, help="Size of the cohort.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Of the phantoms and of the study.")] = 10,
    as_json: Json = False,
) -> None:
    """Write a small PET cohort as DICOM, run a whole study on it, and end with the report's path."""
    _run(write_demo(out, patients=patients, seed=seed), out, Options(), as_json, update=True)


@app.command()
def init(
    images: Annotated[Path, typer.Argument(help="Folder of DICOM, or of NIfTI with a JSON.")],
    clinical: Annotated[Path, typer.Argument(help="The clinical table: text or an Excel workbook.")],
    out: Annotated[Path, typer.Option(help="The study file that is written.")] = Path("study.toml"),
    column: Annotated[
        list[str] | None, typer.Option(help="Column of the outcome, and again for those of its times or dates.")
    ] = None,
    sheet: Annotated[str, typer.Option(help="Sheet of a workbook that shows several.")] = "",
    as_json: Json = False,
) -> None:
    """Look at scans and a table, propose a study file, and say what was seen and what is not sure."""
    if out.exists():
        raise ConfigurationError(Code.OUTPUT_EXISTS, f"{out.name} is there", remedy="choose another file by --out")
    from twobe3.study.propose import propose  # slow to import

    proposal = propose(images, clinical, folder=out.parent, columns=column or (), sheet=sheet)
    write_atomic(out, proposal.text.encode())
    document = {"study": str(out), "seen": proposal.seen, "unsure": proposal.unsure}
    print_document(document, as_json, proposal_lines)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study file, for instance examples/sts.toml.")],
    out: Annotated[Path, typer.Option(help="Folder for everything that the study makes.")],
    update: Annotated[bool, typer.Option("--update", help="Replace the results of an earlier state.")] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Look for leakage: audit.json, and a line in the report.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and about how long it takes; write nothing.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one for each core by default, on a GPU fewer.")
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    as_json: Json = False,
) -> None:
    """Run a whole study, resumable: cohort, features, models, evaluation, report."""
    if dry_run:
        from twobe3.study import dry_run as preview  # slow to import

        found = preview.dry_run(study, out, update=update, workers=workers, device=device, precision=precision)
        finished = read_finished(study, out, Options(audit, device, precision)) is not None
        print_document({**found.to_json(), "finished": finished}, as_json, dry_run_lines)
        return
    _run(study, out, Options(audit, device, precision), as_json, update=update, workers=workers)


@app.command()
def pretrain(
    recipe: Annotated[Path, typer.Argument(help="What to train on and how, for instance examples/pretrain.toml.")],
    out: Annotated[Path, typer.Option(help="Folder for the file, its card, and what a second run needs.")],
    update: Annotated[bool, typer.Option("--update", help="Replace the result of another recipe.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that compute feature maps.")] = None,
    device: DeviceOption = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="GPUs that share the batches, all by default; processes on the CPU.")
    ] = None,
    precision: PrecisionOption = None,
    as_json: Json = False,
) -> None:
    """Train the networks without outcomes, resumable; a model starts from the file by `init`."""
    card = tb.pretrain(recipe, out, update=update, workers=workers, device=device, devices=devices, precision=precision)
    document = {
        "file": str(out / card.document["file"]), "card": str(out / "card.md"), "figures": card.document["figures"],
    }  # fmt: skip
    print_document(document, as_json, lambda document: [card.table(), "", document["file"], document["card"]])


@app.command()
def inspect(
    paths: Paths,
    policy: PolicyOption = "lenient",
    repair_dates: RepairDates = False,
    dates: Annotated[bool, typer.Option("--dates", help="Tell dates, too; they identify a patient.")] = False,
    as_json: Json = False,
) -> None:
    """Say which PET series are there, tracer, scanner and spacing, whether each can become SUV, and if not, why."""
    inspection = tb.inspect(paths, policy=policy, repair_dates=repair_dates, dates=dates, progress=True)
    _print_inspection(inspection, as_json)


@app.command()
def convert(
    paths: Paths,
    out: Annotated[Path, typer.Option(help="Folder for the NIfTI files.")],
    policy: PolicyOption = "lenient",
    repair_dates: RepairDates = False,
    suv_type: Annotated[
        SUVType, typer.Option(help="Normalisation: body weight, lean body mass, ideal body weight, body surface.")
    ] = "bw",
    frame: Annotated[int | None, typer.Option(min=1, help="Frame of dynamic and gated series, from 1.")] = None,
    as_json: Json = False,
) -> None:
    """Write SUV volumes as NIfTI, with a JSON beside each: calibration, rule, history."""
    inspection = tb.convert(
        paths, out, policy=policy, repair_dates=repair_dates, suv_type=suv_type, frame=frame, progress=True
    )
    _print_inspection(inspection, as_json)


for command in (predict, explain, card, node, serve):
    app.command()(command)


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A table with a row for each patient, or patient and model.")],
    clinical: Annotated[Path, typer.Option(help="The clinical table.")],
    patient: Annotated[str, typer.Option(help="Its column with the patient id.")] = "patient_id",
    sheet: Annotated[str, typer.Option(help="Its sheet, where it is a workbook of several.")] = "",
    encoding: Annotated[str, typer.Option(help="Its encoding, where it is text; found out by default.")] = "",
    predictions_sheet: Annotated[str, typer.Option(help="The predictions' sheet, likewise.")] = "",
    identifier: Annotated[str | None, typer.Option("--id", help="The predictions' column: patient_id.")] = None,
    risk: Annotated[str | None, typer.Option(help="The predictions' column: risk.")] = None,
    probability: Annotated[
        str | None, typer.Option(help="The predictions' column: probability; also the risk where there is none.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The predictions' column: model.")] = None,
    label: Annotated[str | None, typer.Option(help="The table's column with a binary outcome.")] = None,
    positive: Annotated[
        list[str] | None, typer.Option(help="The value of LABEL or EVENT that means yes; may be repeated.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Its column with the time to the event or to censoring.")] = None,
    event: Annotated[str | None, typer.Option(help="Its column that tells an event from a censoring.")] = None,
    unit: Annotated[Unit, typer.Option(help="Unit of the time.")] = "day",
    time_zero: Annotated[str, typer.Option(help="From when the time counts.")] = "the scan",
    competing: Annotated[str, typer.Option(help="The value of EVENT that means a competing event.")] = "",
    value: Annotated[str | None, typer.Option(help="Its column with a continuous outcome.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Which endpoint, where the file predicts several.")] = None,
    horizon: Annotated[list[float] | None, typer.Option(help="Time at which to evaluate; may be repeated.")] = None,
    survival: Annotated[Path | None, typer.Option(help="Predicted survival: columns t=<time>.")] = None,
    decisions: Annotated[Path | None, typer.Option(help="Threshold and cut-off of each fold.")] = None,
    folds: Annotated[Path | None, typer.Option(help="folds.json of a study, which the predictions must keep.")] = None,
    metric: Annotated[str | None, typer.Option(help="What to compare; the first metric by default.")] = None,
    reference: Annotated[str | None, typer.Option(help="Compare with this model only.")] = None,
    subgroup: Annotated[list[str] | None, typer.Option(help="Column by which to evaluate, too; repeatable.")] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap samples of patients.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for evaluation.json and report.html, or a page that ends in .html.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge anybody's predictions: metrics with intervals, and the models compared in pairs."""
    if out is not None:
        require_folder(out.parent if out.suffix == ".html" else out)
    evaluation = tb.evaluate_csv(
        predictions,
        clinical=clinical,
        endpoint=_endpoint(label, tuple(positive or ()), time, event, unit, time_zero, competing, value),
        patient=patient,
        sheet=sheet,
        encoding=encoding,
        predictions_sheet=predictions_sheet,
        columns={
            column: named
            for column, named in (
                ("patient_id", identifier),
                ("risk", risk),
                ("probability", probability),
                ("model", model),
            )
            if named is not None
        },
        only=endpoint,
        survival=survival,
        decisions=decisions,
        folds=folds,
        horizons=horizon or None,
        metric=metric,
        reference=reference,
        subgroups=subgroup or (),
        resamples=resamples,
        seed=seed,
    )
    if out is not None:
        if out.suffix != ".html":
            evaluation.write(out)
        pages.write_evaluation_report(evaluation, out if out.suffix == ".html" else out / "report.html")
    print_document(evaluation.to_json(), as_json, lambda _: [evaluation.text()])


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Output folder of a study.")],
    show_faces: ShowFaces = False,
    as_json: Json = False,
) -> None:
    """Make report.html again from the artefacts of a study."""
    path = tb.write_report(folder, show_faces=show_faces)
    print_document({"report": str(path)}, as_json, lambda document: [document["report"]])


@app.command("list")
def list_names(what: Annotated[What, typer.Argument()], as_json: Json = False) -> None:
    """List what can be named in a study file, and the codes of every refusal."""
    print_document({what: _names(what)}, as_json, lambda document: columns(document[what]))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say which versions, devices, codecs and optional parts work here, and what to install for the rest."""
    checks = [asdict(check) for check in diagnose()]
    print_document({"checks": checks}, as_json, check_lines)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"twobe3 {tb.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on standard error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("twobe3").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote header values


def main() -> None:
    """Run the command line."""
    with interruptible():
        try:
            app(_ask_for_help(sys.argv[1:]), prog_name="twobe3")
        except TwoBe3Error as error:
            print(f"twobe3: {error}", file=sys.stderr)
            sys.exit(error.exit_status)
        except Exception as error:
            fault = internal_error(error)
            print(f"twobe3: {fault}", file=sys.stderr)
            sys.exit(fault.exit_status)


def _ask_for_help(arguments: list[str]) -> list[str]:
    """``help`` and ``help evaluate`` as the options that they mean."""
    return [*arguments[1:], "--help"] if arguments[:1] == ["help"] else arguments


def _run(study: Path, out: Path, options: Options, as_json: bool, *, update: bool, workers: int | None = None) -> None:
    """Run a study unless it is finished, and print its results."""
    table = read_finished(study, out, options)
    if table is None:
        table = tb.run(study, out, update=update, workers=workers, **asdict(options)).table()
    else:
        log.info("finished: study file, scans, tables and weights are as they were, so nothing is computed again")
    document = {"report": str(out / "report.html"), "evaluation": str(out / "evaluation.json")}
    print_document(document, as_json, lambda document: [table, "", document["report"]])


def _endpoint(
    label: str | None, positive: tuple[str, ...], time: str | None, event: str | None, unit: Unit, time_zero: str,
    competing: str, value: str | None,
) -> tb.Binary | tb.TimeToEvent | tb.Continuous:  # fmt: skip
    match label, time, event, value:
        case str(column), None, None, None:
            return tb.Binary(column, column, positive)
        case None, str(column), str(status), None:
            return tb.TimeToEvent(status, column, status, unit, competing, time_zero, positive=positive)
        case None, None, None, str(column):
            return tb.Continuous(column, column)
    raise typer.BadParameter("give one of --label, --time with --event, and --value")


def _names(what: What) -> list[Document]:
    """What can be named, each with a line about it; any other backbone than these is looked up in timm."""
    match what:
        case "backbones":
            return [{"name": name, "description": row.description} for name, row in tb.models.BACKBONES.items()]
        case "models":
            return [{"name": kind, "description": model.summary} for kind, model in tb.models.MODELS.items()]
        case "metrics":
            metrics = tb.metrics.METRICS.values()
            return [{"name": one.name, "kind": one.kind, "description": one.description} for one in metrics]
        case "codes":
            return [{"name": code.name, "meaning": code.summary, "remedy": code.remedy} for code in Code]


def _print_inspection(inspection: tb.scans.Inspection, as_json: bool) -> None:
    print_document(inspection.to_json(), as_json, inspection_lines)
    if not inspection.usable:
        pet = any(series.modality == "PT" for series in inspection.series)
        raise nothing_usable(Code.NOTHING_USABLE if pet else Code.NO_PET, inspection.found)
