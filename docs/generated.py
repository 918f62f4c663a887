"""The parts of pages that code writes: codes, keys, commands, public names.

A page has `<!-- generated: NAME -->` where the text belongs, with a word behind the name where it takes one. Nothing of
it is in the repository: it is written when the site is built, so it cannot lag behind.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer
from numpydoc.docscrape import ClassDoc
from typer.cli import get_docs_for_click

import twobe3
from twobe3.cli.main import app
from twobe3.core import codes
from twobe3.core.codes import Code
from twobe3.evaluation.metrics import METRICS
from twobe3.models import MODELS
from twobe3.models.model import parameter_names
from twobe3.study.config import StudyConfig
from twobe3.study.sections import SECTIONS

PACKAGE = Path(twobe3.__file__).parent
ROOMS = ("core", "dicom", "scans", "models", "deploy", "collections", "phantom")
MARK = re.compile(r"^<!-- generated: (\w+)(?: ([\w-]+))? -->$", re.MULTILINE)
# What happens in the rooms of the package, for those who don't know them.
STEPS = {
    "cli": "the command line", "cohort": "reading a cohort", "collections": "public collections", "core": "anywhere",
    "deploy": "a model at work", "dicom": "reading DICOM",
    "evaluation": "evaluating predictions", "explain": "explaining a risk", "features": "computing features",
    "io": "reading and writing files", "models": "fitting and loading models", "phantom": "phantoms",
    "pretraining": "pre-training", "report": "the report", "runtime": "processes and devices", "scans": "finding scans",
    "study": "running a study, predicting", "validation": "validation",
}  # fmt: skip
# The headings of the tables of a study file, where they are not their names.
HEADINGS = {kind: f'`[endpoint]`, `kind = "{kind}"`' for kind in ("binary", "time-to-event", "continuous")}
TABLES: dict[str, type] = {"": StudyConfig, **SECTIONS}


def fill(page: str) -> str:
    """A page with its generated parts."""
    return MARK.sub(lambda found: PARTS[found[1]](*filter(None, [found[2]])), page)


def write_codes() -> str:
    """Every code under the headings of `core/codes.py`: what it means, where it happens, what to do."""
    lines: list[str] = []
    for heading, names in _groups():
        lines += [f"## {heading[0].upper()}{heading[1:]}", ""]
        for name in names:
            code = Code[name]
            where = "; ".join(f"{step} ({', '.join(f'`{one}`' for one in modules)})" for step, modules in _places(name))
            lines += [f"### `{name}`", "", f"{code.summary[0].upper()}{code.summary[1:]}.", ""]
            lines += [f"**What to do:** {code.remedy}.", "", f"**Where:** {where}.", ""]
    return "\n".join(lines)


def _groups() -> Iterator[tuple[str, list[str]]]:
    """The headings of `core/codes.py`, each with the codes under it."""
    text = Path(codes.__file__).read_text(encoding="utf-8")
    for part in text.split("    # -- ")[1:]:
        heading, *rest = part.splitlines()
        yield heading, re.findall(r"^    ([A-Z][A-Z_0-9]+) = ", "\n".join(rest), re.MULTILINE)


def _places(name: str) -> list[tuple[str, list[str]]]:
    """The modules that name a code, by what happens in them."""
    found: dict[str, list[str]] = {}
    for module, named in _codes_by_module().items():
        if name in named:
            found.setdefault(STEPS[module.split(".")[0]], []).append(module)
    return list(found.items())


@cache
def _codes_by_module() -> dict[str, set[str]]:
    """The codes that each module names."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "codes.py"]
    names = [".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    texts = [path.read_text(encoding="utf-8") for path in paths]
    return {name: set(re.findall(r"\bCode\.([A-Z_0-9]+)", text)) for name, text in zip(names, texts, strict=True)}


def write_commands() -> str:
    """Every command with its arguments and options, as the parser knows them."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="twobe3"), name="twobe3")
    text = re.sub(r"^\*\*Commands\*\*:\n\n(\* .*\n)+\n?", "", text, flags=re.MULTILINE)  # cut off there, whole below
    return re.sub(r"^# .*\n", "", text, count=1).replace("\n## ", "\n### ").replace("\n#### ", "\n### ")


def write_keys() -> str:
    """Every key of the tables of a study file but `[[model]]`."""
    lines: list[str] = []
    for name, section in TABLES.items():
        lines += [f"### {HEADINGS.get(name, f'`[{name}]`') if name else 'Before the first table'}", ""]
        lines += [*_table(section, _keys(section)), ""]
    return "\n".join(lines)


def write_parameters(kind: str) -> str:
    """Every key of a `[[model]]` of a kind, with what the docstrings of its class and its bases say."""
    return "\n".join(_table(MODELS[kind], parameter_names(MODELS[kind])))


def keys() -> Iterator[tuple[str, str]]:
    """Every key with its meaning: `cohort.images`, `2be3-net.taps`."""
    for name, section in TABLES.items():
        meanings = _meanings(section)
        yield from ((f"{name}.{key}", meanings.get(key, "")) for key in _keys(section))
    for kind, model in MODELS.items():
        meanings = _meanings(model)
        yield from ((f"{kind}.{key}", meanings.get(key, "")) for key in parameter_names(model))


def _keys(section: type) -> list[str]:
    """The keys of a table that are no tables themselves."""
    return [
        key for key in inspect.signature(section).parameters if section is not StudyConfig or key not in TABLES_WITHIN
    ]


TABLES_WITHIN = {"cohort", "endpoint", "volume", "region", "model", "validation", "external", "compute", "report"}


def _table(described: type, names: Iterable[str]) -> list[str]:
    meanings, defaults = _meanings(described), inspect.signature(described).parameters
    rows = [f"| `{name}` | {_default(defaults[name].default)} | {_cell(meanings[name])} |" for name in names]
    return ["| key | default | meaning |", "|---|---|---|", *rows]


def _meanings(described: type) -> dict[str, str]:
    """What the numpydoc parameters of a class and of its bases say of each name."""
    found: dict[str, str] = {}
    for base in reversed(described.__mro__):
        if base.__module__.startswith("twobe3") and base.__doc__:
            for one in ClassDoc(base)["Parameters"]:
                closed = f"{one.type}: " if one.type.startswith("{") else ""
                found |= {name.strip(): closed + " ".join(one.desc) for name in one.name.split(",")}
    return found


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "needed"
    if hasattr(value, "default"):  # a pydantic field
        return _default(inspect.Parameter.empty if value.is_required() else value.default)
    if value in (None, "", ()):
        return "none"
    text = (
        f'"{value}"'
        if isinstance(value, str)
        else str(list(value)).replace("'", '"')
        if isinstance(value, tuple)
        else str(value)
    )
    return f"`{text}`"


def _cell(text: str) -> str:
    """Markdown of a table cell for the reStructuredText of a docstring."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return text.replace("|", "\\|")


def write_names(room: str = "") -> str:
    """The docstrings of the public names of a room, or of the package itself."""
    place = ".".join(filter(None, ["twobe3", room]))
    elsewhere = {id(_get(one, name)) for one in ROOMS if not room for name in _public(one)}
    lines = ["```{eval-rst}"]
    for name in _public(room):
        thing = _get(room, name)
        options = ["   :no-index:"] if id(thing) in elsewhere else []
        if inspect.isclass(thing):
            lines += [f".. autoclass:: {place}.{name}", "   :members:", *options, ""]
        elif callable(thing):
            lines += [f".. autofunction:: {place}.{name}", *options, ""]
    return "\n".join([*lines, "```"])


def _get(room: str, name: str) -> object:
    return getattr(importlib.import_module(".".join(filter(None, ["twobe3", room]))), name)


def _public(room: str) -> list[str]:
    """What the stub of a room names, or its ``__all__`` where it has none."""
    stub = PACKAGE / room / "__init__.pyi"
    if not stub.exists():
        return sorted(importlib.import_module(f"twobe3.{room}").__all__)
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    return [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]


def write_metrics() -> str:
    """Every metric with the kind of its endpoint."""
    better = {True: "; higher is better", False: "; lower is better", None: ""}
    rows = [
        f"| `{one.name}` | {one.kind} | {one.description}{better[one.higher_is_better]} |" for one in METRICS.values()
    ]
    return "\n".join(["| metric | endpoint | what it is |", "|---|---|---|", *rows])


PARTS: dict[str, Callable[..., str]] = {
    "codes": write_codes, "commands": write_commands, "keys": write_keys, "parameters": write_parameters,
    "names": write_names, "metrics": write_metrics,
}  # fmt: skip
