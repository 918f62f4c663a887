"""Reporting guidelines, filled in from the record of a run as far as it proves anything.

The items stand in ``guidelines/*.csv``: number, section, what is asked in words of our own, and the function that
answers. An item without one is the author's. Nothing is scored: whether an answer is worth a point is for a reader.
The items of RQS 2.0 are numbered as its calculator numbers them (radiomics.world/rqs2).
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

from twobe3.report import checklist_answers, checklist_models, checklist_results
from twobe3.report.checklist_answers import AUTHOR, Answer, AnswerFunction
from twobe3.report.study_folder import StudyFolder
from twobe3.report.table import Column, Table


@dataclass(frozen=True)
class Guideline:
    """A guideline, where its items are, and where it was published."""

    name: str
    file: str
    citation: str
    doi: str


GUIDELINES = (
    Guideline("TRIPOD+AI", "tripod-ai", "Collins et al., BMJ 2024; 385: e078378", "10.1136/bmj-2023-078378"),
    Guideline("CLAIM 2024", "claim-2024", "Tejani et al., Radiol Artif Intell 2024; 6: e240300", "10.1148/ryai.240300"),
    Guideline("METRICS", "metrics", "Kocak et al., Insights Imaging 2024; 15: 8", "10.1186/s13244-023-01572-w"),
    Guideline("RQS 2.0", "rqs-2", "Lambin et al., Nat Rev Clin Oncol 2025; 22: 831–846", "10.1038/s41571-025-01067-1"),
)


@dataclass(frozen=True)
class ChecklistItem:
    """One item, and what the record says of it."""

    number: str
    section: str
    asks: str
    answer: Answer


@dataclass(frozen=True)
class Checklist:
    """A guideline, filled in."""

    guideline: Guideline
    items: tuple[ChecklistItem, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many items have each status."""
        return dict(Counter(item.answer.status for item in self.items))

    def table(self) -> Table:
        """As a table for print."""
        guideline = self.guideline
        columns = (
            Column("Item"),
            Column("Section", "sentence"),
            Column("What is asked", "sentence"),
            Column("Status"),
            Column("From the record", "sentence"),
            Column("Where", "sentence"),
        )
        rows = tuple(
            (one.number, one.section, one.asks, one.answer.status, one.answer.text, one.answer.where)
            for one in self.items
        )
        caption = f"{guideline.name} ({guideline.citation}, doi:{guideline.doi}): items in our words, not a score."
        return Table(f"checklist-{guideline.file}", caption, columns, rows)


def fill_in(folder: StudyFolder) -> tuple[Checklist, ...]:
    """Every guideline, its items answered from the artefacts of a study."""
    answers = {name: function(folder) for name, function in answer_functions().items()}
    return tuple(
        Checklist(
            guideline,
            tuple(
                ChecklistItem(row["item"], row["section"], row["asks"], answers.get(row["answer"], AUTHOR))
                for row in read_items(guideline)
            ),
        )
        for guideline in GUIDELINES
    )


def answer_functions() -> Mapping[str, AnswerFunction]:
    """Every function that answers an item, by the name that the items have for it."""
    named = {row["answer"] for guideline in GUIDELINES for row in read_items(guideline)} - {""}
    modules = (checklist_answers, checklist_models, checklist_results)
    return {name: next(vars(module)[name] for module in modules if name in vars(module)) for name in sorted(named)}


def read_items(guideline: Guideline) -> Iterator[dict[str, str]]:
    """The items of a guideline: ``item``, ``section``, ``asks``, ``answer``."""
    path = files("twobe3.report").joinpath("guidelines", f"{guideline.file}.csv")
    yield from csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
