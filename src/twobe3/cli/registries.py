"""What can be named: the rows behind ``twobe3 list``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import twobe3 as tb

What = Literal["backbones", "models", "metrics", "codes"]


def names(what: What) -> list[dict[str, str]]:
    """The names of one kind, each with a line about it; any other backbone than these is looked up in timm."""
    tables: dict[What, Callable[[], list[dict[str, str]]]] = {
        "backbones": lambda: [
            {"name": name, "description": row.description} for name, row in tb.models.BACKBONES.items()
        ],
        "models": lambda: [{"name": kind, "description": model.summary} for kind, model in tb.models.MODELS.items()],
        "metrics": lambda: [
            {"name": r.name, "kind": r.kind, "description": r.description} for r in tb.metrics.METRICS.values()
        ],
        "codes": lambda: [{"name": code.name, "meaning": code.summary, "remedy": code.remedy} for code in tb.core.Code],
    }
    return tables[what]()
