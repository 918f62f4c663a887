"""How every template of the report is read: what comes in is escaped, and nothing may be missing."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def make_environment() -> Environment:
    """An environment of the templates of this package."""
    return Environment(
        loader=PackageLoader("twobe3.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
