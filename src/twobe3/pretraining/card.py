"""The card of a pre-trained file: what it was trained on, how well, and what it is for. No identity is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twobe3 import __version__
from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.outcomes import IntArray
from twobe3.io.files import write_artefact, write_atomic
from twobe3.pretraining.config import OF_PATIENTS
from twobe3.pretraining.labels import SEX, label_values
from twobe3.pretraining.scores import FIGURES, SLICES, Change, conclude
from twobe3.scans.scan import DicomScan, NiftiScan

ABOUT = {
    "intended_use": "To start a 2be3-net of a study with `init`, or to look at what the maps hold. It predicts no "
    "outcome and is no medical device.",
    "limits": [
        "Figures are of patients held out of the same scans; on other scanners, tracers or populations they may be "
        "lower.",
        "What tells age, sex or weight tells it of patients too: this file may hold more of the scans it was trained "
        "on than the figures show, so treat it as you treat the scans when you pass it on.",
        "A study whose scans were among the pre-training scans is warned: no outcome was looked at, but those scans "
        "are not new to the network.",
    ],
    "licence": "Not stated: whoever passes the file on states it, as the scans and the starting weights allow.",
}
METRICS = {
    "auc": "AUC",
    "r2": "R²",
    "spearman": "Spearman",
    "mae": "mean absolute error",
    "explained": "explained variance",
    "explained_by_interpolation": "for comparison: explained by interpolation",
}
LESIONS_BY_THRESHOLD = (
    "Lesions of scans were found by a threshold of SUV, which takes the brain, the heart, kidneys, bladder and bowel "
    "for lesions too: agreement with it is no accuracy of detection, and the network may mark such organs more than "
    "before."
)
STAGES = {"slices": "2D network", "stacks": "3D head"}


@dataclass(frozen=True, eq=False)
class Card:
    """The description of a pre-training, ``document``, in JSON types."""

    document: dict[str, Any]

    def write(self, out: Path) -> None:
        """Write ``card.json`` and ``card.md``."""
        write_artefact(out / "card.json", self.document)
        write_atomic(out / "card.md", self.text().encode())

    def table(self) -> str:
        """The held-out figures as aligned lines, and whether a network that went on learning got better."""
        rows = [_figure_row(figure) for figure in self.document["figures"]]
        changes = [_change_row(change) for change in self._changes()]
        verdict = [conclude(self._changes())] if changes else []
        return "\n".join([*_align(changes), *verdict, *_align(rows)])

    def _changes(self) -> list[Change]:
        return [Change(**change) for change in self.document["changes"]]

    def text(self) -> str:
        """The card as Markdown."""
        document = self.document
        scans, start = document["trained_on"], document["starting_weights"]
        labels = [_label_row(*item) for item in document["labels"].items()]
        left_out = ", ".join(document["left_out"])
        paragraphs = [
            f"# {document['name']}: a pre-trained 2be3-net",
            "".join(f"> {note}\n" for note in document["notes"])
            + f"Trained without any outcome on {scans['scans']} PET scans of {scans['patients']} patients. For the "
            f"evaluation {scans['held_out_scans']} scans of {scans['held_out_patients']} other patients were held out. "
            f"twobe3 {__version__}.",
            "## What it was trained on",
            _table(("", "scans trained on"), _count_rows(scans)),
            _table(("label", "known", "missing", "values"), labels),
            f"Tasks: {', '.join(document['tasks'])}."
            + (f" Not learnt, for lack of two different values: {left_out}." if left_out else ""),
            *self._change_paragraphs(),
            "## What it learnt",
            _table(("network", "task", "figure", "value (95 %)", "n"), map(_figure_row, document["figures"])),
            "On held-out patients; intervals by bootstrap over patients. Explained variance: of the squares about the "
            "training mean (of masked maps: about their mean map). Interpolation: a straight line between the nearest "
            "slices that are shown.",
            "## How",
            f"Grid: {document['parameters']['volume']['spacing_mm']} mm. 2D network: `{start['backbone']}`, started "
            f"from `{start['weights']}` (digest `{start['digest'][:16]}`), now `{document['weights_digest'][:16]}`. "
            f"Computed on {document['computed']['device']}, precision {document['computed']['precision']}.",
            _table(("parameter", "value"), _parameters(document["parameters"])),
            "## Use and limits",
            document["intended_use"],
            "\n".join(f"- {limit}" for limit in document["limits"]),
            f"Licence: {document['licence']}",
            f"`pretrained.safetensors`, digest `{document['file_digest']}`. Digests of the scans are in `card.json`.",
        ]
        return "\n\n".join(paragraphs) + "\n"

    def _change_paragraphs(self) -> list[str]:
        changes = self._changes()
        if not changes:
            return []
        head = ("slices", "figure", "before", "after", "difference (95 %)", "n")
        return [
            "## Whether the 2D network got better",
            conclude(changes),
            _table(head, map(_change_row, changes)),
            "None of these slices was learnt from. Means over scans, phantoms or groups of simulated slices; intervals "
            "of the paired difference by bootstrap over them.",
        ]


def count_scans(cohort: Cohort, training: IntArray, held_out: IntArray, roots: Sequence[Path]) -> dict[str, Any]:
    """Count patients, scans, folders, scanners and tracers."""
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
        "folders": _count(_folder(study, roots) for study in subjects),
        "manufacturers": _count(study.description.get("manufacturer") for study in subjects),
        "models": _count(study.description.get("model") for study in subjects),
        "tracers": _count(study.description.get("tracer") for study in subjects),
    }


def summarise_labels(cohort: Cohort, training: IntArray) -> dict[str, Any]:
    """Counts of known labels, and for numbers the 5th, 50th and 95th percentile: extremes are of single patients."""
    subjects = [cohort.subjects[i] for i in training]
    summary: dict[str, Any] = {}
    for name in OF_PATIENTS:
        values = label_values(subjects, name)
        known = values[np.isfinite(values)]
        facts: dict[str, Any] = {"known": len(known), "missing": len(values) - len(known)}
        if name == SEX:
            facts |= {"M": int(known.sum()), "F": int(len(known) - known.sum())}
        elif len(known):
            facts["percentiles_5_50_95"] = [round(float(value), 1) for value in np.percentile(known, [5, 50, 95])]
        summary[name] = facts
    return summary


def _count(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(str(value or "").strip() or "not told" for value in values).items()))


def _folder(study: Subject, roots: Sequence[Path]) -> str:
    """Name of the image folder of the recipe that holds a scan."""
    scan, path = study.scan, None
    if isinstance(scan, DicomScan | NiftiScan):
        path = scan.series.files[0] if isinstance(scan, DicomScan) else scan.series.path
    return next((root.name for root in roots if path is not None and path.is_relative_to(root)), "")


def _count_rows(scans: Mapping[str, Any]) -> list[tuple[str, str]]:
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
    text = "not estimable" if value is None else f"{value:.2f}"
    text += "" if value is None or low is None else f" ({low:.2f} to {high:.2f})"
    return STAGES[figure["stage"]], figure["task"], METRICS[figure["metric"]], text, str(figure["n"])


def _change_row(change: Change) -> tuple[str, ...]:
    if change.before is None or change.after is None or change.change is None:
        before, after, difference = "not estimable", "", ""
    else:
        before, after, difference = f"{change.before:.3f}", f"{change.after:.3f}", f"{change.change:+.3f}"
    if change.low is not None and change.high is not None:
        difference += f" ({change.low:+.3f} to {change.high:+.3f})"
    return SLICES[change.slices], FIGURES[change.figure], before, after, difference, str(change.n)


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def _parameters(parameters: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(f"{table}.{key}", str(value)) for table, keys in parameters.items() for key, value in keys.items()]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in row)} |" for row in body)
