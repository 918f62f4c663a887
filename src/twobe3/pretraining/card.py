"""The card of a pre-trained file: what it was trained on, how well, and what it is for. No identity is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twobe3 import __version__
from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.outcomes import IntArray
from twobe3.io.files import write_artefact, write_atomic
from twobe3.pretraining.config import OF_PATIENTS
from twobe3.pretraining.labels import SEX, values_of
from twobe3.pretraining.scores import Figure
from twobe3.scans.scan import DicomScan, NiftiScan

USE = (
    "To start a 2be3-net of a study with `init`, or to look at what the maps hold. It predicts no outcome and is no "
    "medical device."
)
LIMITS = (
    "Figures are of patients held out of the same scans; on other scanners, tracers or populations they may be lower.",
    "What tells age, sex or weight tells it of patients too: this file may hold more of the scans it was trained on "
    "than the figures show, so treat it as you treat the scans when you pass it on.",
    "A study whose scans were among the pre-training scans is warned: no outcome was looked at, but those scans are "
    "not new to the network.",
)
LICENCE = "Not stated: whoever passes the file on states it, as the scans and the starting weights allow."
METRICS = {
    "auc": "AUC",
    "r2": "R²",
    "spearman": "Spearman",
    "mae": "mean absolute error",
    "explained": "explained variance",
    "explained_by_interpolation": "for comparison: explained by interpolation",
}
STAGES = {"slices": "2D network", "stacks": "3D head"}


@dataclass(frozen=True, eq=False)
class Card:
    """What is said of a pre-training.

    Attributes
    ----------
    document : dict
        As JSON types.
    """

    document: dict[str, Any]

    def write(self, out: Path) -> None:
        """Write ``card.json`` and ``card.md``."""
        write_artefact(out / "card.json", self.document)
        write_atomic(out / "card.md", self.text().encode())

    def table(self) -> str:
        """The held-out figures as lines."""
        rows = [_figure_row(figure) for figure in self.document["figures"]]
        widths = [max(len(row[i]) for row in rows) for i in range(5)] if rows else []
        return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)

    def text(self) -> str:
        """The card as Markdown."""
        said = self.document
        scans, stated = said["trained_on"], said["starting_weights"]
        lines = [
            f"# {said['name']}: a pre-trained 2be3-net",
            "",
            *(f"> {note}" for note in said["notes"]),
            f"Trained without any outcome on {scans['scans']} PET scans of {scans['patients']} patients. For the "
            f"evaluation {scans['held_out_scans']} scans of {scans['held_out_patients']} other patients were held out. "
            f"twobe3 {__version__}.",
            "",
            "## What it was trained on",
            "",
            *_table(("", "scans trained on"), _counts(scans)),
            "",
            *_table(("label", "known", "missing", "values"), [_label_row(*item) for item in said["labels"].items()]),
            "",
            f"Tasks: {', '.join(said['tasks'])}."
            + (
                f" Not learnt, for lack of two different values: {', '.join(said['left_out'])}."
                if said["left_out"]
                else ""
            ),
            "",
            "## What it learnt",
            "",
            *_table(("network", "task", "figure", "value (95 %)", "n"), [_figure_row(one) for one in said["figures"]]),
            "",
            "On held-out patients; intervals by bootstrap over patients. Explained variance: of the squares about the "
            "training mean (of masked maps: about their mean map). Interpolation: a straight line between the nearest "
            "slices that are shown.",
            "",
            "## How",
            "",
            f"Grid: {said['parameters']['volume']['spacing_mm']} mm. 2D network: `{stated['backbone']}`, started from "
            f"`{stated['weights']}` (digest `{stated['digest'][:16]}`), now `{said['weights_digest'][:16]}`. "
            f"Computed on {said['computed']['device']}, precision {said['computed']['precision']}.",
            "",
            *_table(("parameter", "value"), _parameters(said["parameters"])),
            "",
            "## Use and limits",
            "",
            said["intended_use"],
            "",
            *(f"- {limit}" for limit in said["limits"]),
            "",
            f"Licence: {said['licence']}",
            "",
            f"`pretrained.safetensors`, digest `{said['file_digest']}`. Digests of the scans are in `card.json`.",
        ]
        return "\n".join(lines) + "\n"


def trained_on(cohort: Cohort, training: IntArray, held_out: IntArray, roots: Sequence[Path]) -> dict[str, Any]:
    """Counts of patients, scans, folders, scanners and tracers."""
    subjects = [cohort.subjects[i] for i in training]
    aside = [cohort.subjects[i] for i in held_out]
    excluded = Counter(exclusion.code for exclusion in cohort.exclusions)
    return {
        "patients": len({study.group for study in subjects}),
        "scans": len(subjects),
        "held_out_patients": len({study.group for study in aside}),
        "held_out_scans": len(aside),
        "found": cohort.found,
        "excluded": dict(sorted(excluded.items())),
        "folders": _counted(_folder(study, roots) for study in subjects),
        "manufacturers": _counted(study.description.get("manufacturer") for study in subjects),
        "models": _counted(study.description.get("model") for study in subjects),
        "tracers": _counted(study.description.get("tracer") for study in subjects),
    }


def labels_of(cohort: Cohort, training: IntArray) -> dict[str, Any]:
    """What the headers of the training scans tell: counts, and for numbers the 5th, 50th and 95th percentile.

    Not the smallest and the largest value, which are those of single patients.
    """
    subjects = [cohort.subjects[i] for i in training]
    told: dict[str, Any] = {}
    for name in OF_PATIENTS:
        values = values_of(subjects, name)
        known = values[np.isfinite(values)]
        facts: dict[str, Any] = {"known": len(known), "missing": len(values) - len(known)}
        if name == SEX:
            facts |= {"M": int(known.sum()), "F": int(len(known) - known.sum())}
        elif len(known):
            facts["percentiles_5_50_95"] = [round(float(value), 1) for value in np.percentile(known, [5, 50, 95])]
        told[name] = facts
    return told


def figures_document(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """The figures as JSON."""
    return [asdict(figure) for figure in figures]


def _counted(values: Any) -> dict[str, int]:
    counted = Counter(str(value).strip() or "not told" if value else "not told" for value in values)
    return dict(sorted(counted.items()))


def _folder(study: Subject, roots: Sequence[Path]) -> str:
    """The name of the folder of images, as the recipe names it, that holds a scan: that of its collection, say."""
    scan = study.scan
    path = scan.series.files[0] if isinstance(scan, DicomScan) else None
    path = scan.series.path if isinstance(scan, NiftiScan) else path
    inside = [root.name for root in roots if path is not None and path.is_relative_to(root)]
    return inside[0] if inside else ""


def _counts(scans: Mapping[str, Any]) -> list[tuple[str, str]]:
    kinds = {"folders": "folder", "manufacturers": "manufacturer", "models": "scanner", "tracers": "tracer"}
    return [(what, ", ".join(f"{name} {n}" for name, n in scans[key].items())) for key, what in kinds.items()]


def _label_row(name: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    if name == SEX:
        values = f"{facts['F']} F, {facts['M']} M"
    else:
        low, median, high = facts.get("percentiles_5_50_95", ["–"] * 3)
        values = f"median {median}; 5th to 95th percentile {low} to {high}"
    return name, str(facts["known"]), str(facts["missing"]), values


def _figure_row(figure: Mapping[str, Any]) -> tuple[str, ...]:
    value, low, high = (figure[key] for key in ("value", "low", "high"))
    said = "not estimable" if value is None else f"{value:.2f}"
    said += "" if value is None or low is None else f" ({low:.2f} to {high:.2f})"
    return STAGES[figure["stage"]], figure["task"], METRICS[figure["metric"]], said, str(figure["n"])


def _parameters(parameters: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(f"{table}.{key}", str(value)) for table, keys in parameters.items() for key, value in keys.items()]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    body = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in row)} |" for row in body]
