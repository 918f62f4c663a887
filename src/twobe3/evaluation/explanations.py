"""The one schema of ``explanations.json``: where risks come from, and whether the maps that say so can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from twobe3.core.map_check import MapCheck
from twobe3.io.artefact import read_artefact

EXPLANATIONS = "explanations"
RECORD = "explanations.json"
"""The folder of a study, and the record in it."""


@dataclass(frozen=True)
class MapRecord:
    """A map of one patient's scan: what each voxel adds to the risk that one model gives."""

    endpoint: str
    model: str
    patient: str  # pseudonymous
    method: str
    file: str  # in the same folder; safetensors, `map`, and `map_ct` of the CT, on the study's grid
    risk: float
    checks: tuple[MapCheck, ...] = ()
    key: str = ""  # digest of all that it was made of, where that is known

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)


@dataclass(frozen=True)
class ContributionRecord:
    """What each part of a model, feature or member, adds to one patient's risk."""

    endpoint: str
    model: str
    patient: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Explanations:
    """``explanations.json``."""

    maps: tuple[MapRecord, ...] = ()
    contributions: tuple[ContributionRecord, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document."""
        maps = [{**asdict(one), "passed": one.passed} for one in self.maps]
        return {"maps": maps, "contributions": [asdict(one) for one in self.contributions]}

    def update(self, newer: Explanations) -> Explanations:
        """These with newer ones, which replace maps of the same file, and contributions of one model and patient."""
        files = {one.file for one in newer.maps}
        summed = {(one.endpoint, one.model, one.patient) for one in newer.contributions}
        return Explanations(
            (*(one for one in self.maps if one.file not in files), *newer.maps),
            (
                *(one for one in self.contributions if (one.endpoint, one.model, one.patient) not in summed),
                *newer.contributions,
            ),
        )

    @classmethod
    def read(cls, path: Path) -> Explanations:
        """Read the document; raises as :func:`~twobe3.io.artefact.read_artefact`."""
        return read_artefact(path, _SCHEMA)


_SCHEMA = TypeAdapter(Explanations)
