"""The verbs of the command line: thin, every one of them a call into the package.

Results go to standard output, progress and messages to standard error. Exit status: 0 done, 1 the tool failed,
2 wrong usage or configuration, 3 nothing usable in the input, 130 and 143 interrupted.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, NoReturn

import typer

import twobe3 as tb
from twobe3.errors import Code, NothingUsable, TwoBe3Error

app = typer.Typer(
    name="twobe3",
    help="From PET scans and a table of outcomes to a validated, explained prediction model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
Policy = Literal["lenient", "strict"]
PolicyOption = Annotated[
    Policy, typer.Option(help="lenient applies the documented repairs and records them; strict refuses them.")
]
Paths = Annotated[list[Path], typer.Argument(help="Folders or files of DICOM.", show_default=False)]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the cohort and the results.")] = Path("demo"),
    patients: Annotated[int, typer.Option(min=10, help="Size of the cohort.")] = 48,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Write a small PET cohort as DICOM, run a whole study on it, and end with the report's path."""
    result = tb.run_demo(out, patients=patients, seed=seed)
    _say_result(result, out, as_json)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study file, for instance examples/sts.toml.")],
    out: Annotated[Path, typer.Option(help="Folder for everything that the study makes.")],
    update: Annotated[bool, typer.Option("--update", help="Replace the results of an earlier state.")] = False,
    as_json: Json = False,
) -> None:
    """Run a whole study, resumable: cohort, features, models, evaluation, report."""
    _say_result(tb.run(study, out, update=update), out, as_json)


@app.command()
def inspect(paths: Paths, policy: PolicyOption = "lenient", as_json: Json = False) -> None:
    """Say which PET series are there, whether each can become SUV, and if not, why."""
    inspection = tb.inspect(paths, policy=policy)
    _say(inspection.to_json(), as_json, _inspection_lines)
    _require_usable(inspection.usable, inspection.found)


@app.command()
def convert(
    paths: Paths,
    out: Annotated[Path, typer.Option(help="Folder for the NIfTI files.")],
    policy: PolicyOption = "lenient",
    as_json: Json = False,
) -> None:
    """Write SUV volumes as NIfTI, with a JSON beside each: calibration, rule, history."""
    inspection = tb.convert(paths, out, policy=policy)
    _say(inspection.to_json(), as_json, _inspection_lines)
    _require_usable(inspection.usable, inspection.found)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model file of twobe3, or the folder that holds one.")],
    paths: Paths,
    policy: PolicyOption = "lenient",
    as_json: Json = False,
) -> None:
    """Predict risk and probability for new scans."""
    predictions = tb.predict(model, paths, policy=policy)
    _say(predictions.to_json(), as_json, _prediction_lines)
    _require_usable(predictions.usable, len(predictions.predictions))


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Output folder of a study.")], as_json: Json = False) -> None:
    """Make report.html again from the artefacts of a study."""
    path = tb.write_report(folder)
    _say({"report": str(path)}, as_json, lambda document: [document["report"]])


@app.command("list")
def list_names(
    what: Annotated[Literal["backbones", "models", "metrics", "codes"], typer.Argument()], as_json: Json = False
) -> None:
    """List what can be named in a study file, and the codes of every refusal."""
    _say({what: tb.names(what)}, as_json, lambda document: _columns(document[what]))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say which versions, devices, codecs and optional parts work here, and what to install for the rest."""
    checks = [asdict(check) for check in tb.diagnose()]
    _say({"checks": checks}, as_json, lambda document: _columns(_marked(document["checks"])))


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on standard error.")] = False,
) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("twobe3").setLevel(logging.DEBUG if verbose else logging.INFO)


def main() -> None:
    """Run the command line; the entry point of the ``twobe3`` script."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    try:
        app()
    except TwoBe3Error as error:
        print(f"twobe3: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    print("twobe3: interrupted; the same command goes on where it stopped", file=sys.stderr)
    sys.exit(128 + number)


def _say(document: dict[str, Any], as_json: bool, lines: Any) -> None:
    if as_json:
        print(json.dumps(document, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(lines(document)))


def _say_result(result: tb.Result, out: Path, as_json: bool) -> None:
    document = {"report": str(out / "report.html"), "evaluation": str(out / "evaluation.json")}
    _say(document, as_json, lambda document: [result.table(), "", document["report"]])


def _require_usable(usable: int, found: int) -> None:
    if not usable:
        raise NothingUsable(
            Code.NOTHING_USABLE, f"none of the {found} series can be used; the reasons are listed above"
        )


def _inspection_lines(document: dict[str, Any]) -> list[str]:
    lines = []
    for row in document["series"]:
        suv = row["suv"]
        said = (
            f"SUV max {suv['max']:.2f} ({suv['type']})" if suv else f"{row['code']}: {row['reason']} ({row['remedy']})"
        )
        lines.append(f"{row['patient']}  {row['series_uid']}  {row['modality']:<3} {row['slices']:>4} slices  {said}")
    codes = [row["code"] for row in document["series"] if row["code"]]
    tally = "".join(f", {codes.count(code)} {code}" for code in sorted(set(codes)))
    return [*lines, f"{document['found']} series: {document['usable']} usable{tally}"]


def _prediction_lines(document: dict[str, Any]) -> list[str]:
    lines = [f"model {document['model']}"]
    for row in document["predictions"]:
        chance = "" if row["probability"] is None else f"  probability {row['probability']:.3f}"
        said = f"{row['code']}: {row['reason']}" if row["risk"] is None else f"risk {row['risk']:.3f}{chance}"
        lines.append(f"{row['patient']}  {row['series_uid']}  {row['endpoint']}  {said}")
    return lines


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    width = max(len(str(next(iter(row.values())))) for row in rows)
    return [f"{first!s:<{width}}  {'  '.join(map(str, rest))}" for first, *rest in (row.values() for row in rows)]


def _marked(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": f"{'✓' if c['works'] else '✗'} {c['name']}", "detail": c["detail"]} for c in checks]
