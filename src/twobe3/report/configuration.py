"""The configuration of a study as lines, without folders of the machine that ran it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twobe3.report.wording import parameter


def settings(configuration: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Every setting as (dotted key, value), in the order of ``run.json``; of a file only its name."""
    return tuple(_flatten("", configuration))


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flatten(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for i, item in enumerate(value, start=1):
            yield from _flatten(f"{prefix}[{i}]", item)
    else:
        yield prefix, parameter(value)
