"""The study file: what to read, what to predict, with which models, and how it is validated."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from twobe3.cohort.covariates import HEADER_NAMES, covariate_of
from twobe3.cohort.header_endpoints import require_header_labels
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.nearest import find_nearest, name_nearest
from twobe3.explain.pathway import has_pathway
from twobe3.features.weights import WeightsSource
from twobe3.io.cache import Cache
from twobe3.io.files import digest
from twobe3.models import MODELS, Baseline, Fusion, Model
from twobe3.models.baseline import DEFAULT
from twobe3.models.fusion import fusion_name, order_fusions
from twobe3.models.model import parameter_names
from twobe3.runtime.device import Device
from twobe3.scans.regions import Region
from twobe3.study.compute_section import WORKER_KEYS, ComputeSection
from twobe3.study.endpoint_sections import EndpointSection
from twobe3.study.section import Section
from twobe3.study.sections import (
    SECTIONS,
    CohortSection,
    ExternalSection,
    ReportSection,
    ValidationSection,
    VolumeSection,
)
from twobe3.validation.cross_validate import file_name

S = TypeVar("S", bound=Section)


class StudyConfig(Section):
    """A whole study file.

    ``[region]`` is where every model that measures a region measures it, unless it names its own; ``[endpoint]`` may be
    one table or several ``[[endpoint]]``; every ``[[model]]`` has a ``kind`` and any parameter of that model.

    Parameters
    ----------
    name : str
        Title of the report.
    notes : tuple of str
        Caveats, printed in the report.
    """

    name: str = "study"
    notes: tuple[str, ...] = ()
    cohort: CohortSection
    endpoint: tuple[EndpointSection, ...] = Field(min_length=1)
    volume: VolumeSection = VolumeSection()
    region: Region | None = None
    model: tuple[dict[str, Any], ...] = Field(min_length=1)
    validation: ValidationSection = ValidationSection()
    external: ExternalSection | None = None
    compute: ComputeSection = ComputeSection()
    report: ReportSection = ReportSection()

    @field_validator("endpoint", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, dict) else value

    @field_validator("endpoint")
    @classmethod
    def _must_have_names(cls, sections: tuple[EndpointSection, ...]) -> tuple[EndpointSection, ...]:
        names = [file_name(section.name) for section in sections]
        for section in sections:
            if not section.name.strip():
                raise ValueError("an endpoint needs a `name`")
            if names.count(file_name(section.name)) > 1:
                raise ValueError(f"several endpoints are called {section.name!r}, or so alike that their files are")
        return sections

    @model_validator(mode="after")
    def _must_have_outcomes(self) -> Self:
        require_header_labels(section.endpoint() for section in self.endpoint if section.source == "header")
        sections = [self.cohort, *([self.external] if self.external else [])]
        if any(section.clinical is None for section in sections):
            if any(section.source == "table" for section in self.endpoint):
                raise ValueError('without `clinical` every endpoint must have source = "header"')
            if self.cohort.covariates or self.report.subgroups or self.validation.split:
                raise ValueError("`covariates`, `subgroups` and `split` are columns and need `clinical`")
        return self

    def document(self) -> dict[str, Any]:
        """The resolved study as JSON types, whoever's workers did it."""
        return self.model_dump(mode="json", exclude={"compute": WORKER_KEYS})

    def inputs(self) -> list[str]:
        """The files and folders that the study reads, as the study file names them."""
        named: list[str] = []
        for section in (self.cohort, self.external):
            if section is not None:
                for names in (section.images, section.clinical or ()):
                    named += [names] if isinstance(names, str) else names
        weights = [
            str(entry["weights"]) for entry in self.model if entry.get("weights") and entry["kind"] != Fusion.kind
        ]
        files = [source.location for source in map(WeightsSource.parse, weights) if source.is_file]
        starts = [str(entry["init"]) for entry in self.model if entry.get("init")]
        return [*named, *files, *starts, *filter(None, [self.validation.folds_file])]

    def horizons(self) -> dict[str, tuple[float, ...]]:
        """For each endpoint that names some, the times at which it is evaluated, in its unit."""
        times = {section.name: section.horizons for section in self.endpoint if section.kind == "time-to-event"}
        return {name: horizons for name, horizons in times.items() if horizons}

    def cache_key(self) -> str:
        """Digest of the resolved study: two files that mean the same share it, wherever they are computed."""
        return digest([self.model_dump_json(exclude={"compute"})])

    def models(self, folder: Path, cache: Cache, device: Device | None = None) -> list[Model]:
        """The models, unfitted; they share a cache, and compute where ``[compute]`` says unless a device is given.

        Files of weights are relative to ``folder``, where the study file lies.

        Raises
        ------
        ConfigurationError
            ``UNKNOWN_NAME``, ``UNKNOWN_KEY`` or ``STUDY_FILE_INVALID``.
        """
        shared = {"cache": cache, "device": device or self.compute.resolve()}
        # A fusion refers to models by their names, so it is made after them; the order of the file stays. Baselines
        # that are added later, when the cohort is known, have names already.
        waiting = {n: entry for n, entry in enumerate(self.model) if entry.get("kind") == Fusion.kind and "of" in entry}
        made = {n: self._model(entry, folder, shared) for n, entry in enumerate(self.model) if n not in waiting}
        names = {n: model.name for n, model in made.items()} | {n: _fusion_name(one) for n, one in waiting.items()}
        _must_differ([names[n] for n in range(len(names))])
        numbers = {names[n]: n for n in waiting}
        fusions = {names[n]: _member_names(entry) for n, entry in waiting.items()}
        known = {model.name: model for model in made.values()}
        known |= {name: baseline for name, baseline in self._baselines(folder, shared).items() if name not in known}
        for name in order_fusions(fusions, list(known)):
            entry = waiting[numbers[name]]
            known[name] = self._model({**entry, "of": [known[one] for one in fusions[name]]}, folder, shared)
        return [known[names[n]] for n in range(len(names))]

    def explained(self, models: Sequence[Model]) -> list[str]:
        """The names of the models that explain their patients, see :class:`~twobe3.study.sections.ReportSection`.

        Raises
        ------
        ConfigurationError
            ``UNKNOWN_NAME``.
        """
        names, asked = [model.name for model in models], self.report.explain
        if isinstance(asked, bool):
            return [model.name for model in models if asked and has_pathway(model)]
        for name in asked:
            if name not in names:
                raise ConfigurationError(
                    Code.UNKNOWN_NAME,
                    f"[report]: `explain` names {name!r}; no model has that name; {name_nearest(name, names)}",
                )
        return [*asked]

    def _baselines(self, folder: Path, given: dict[str, Any]) -> dict[str, Model]:
        """The baselines that the tables may have besides the models of the file, by the names that they have there."""
        seed = {"seed": self.model[0]["seed"]} if "seed" in self.model[0] else {}
        regions = [{}] if self.region else [{"region": "contour"}, {"region": "threshold"}]
        entries = [{"variable": variable, **region, **seed} for variable in DEFAULT for region in regions]
        baselines = [self._model({"kind": Baseline.kind, **entry}, folder, given) for entry in entries]
        return {baseline.name: baseline for baseline in baselines}

    def _model(self, entry: dict[str, Any], folder: Path, given: dict[str, Any]) -> Model:
        entry = dict(entry)
        if "kind" not in entry:
            raise ConfigurationError(Code.UNKNOWN_NAME, f"a [[model]] has no `kind`; {name_nearest('', MODELS)}")
        kind = str(entry.pop("kind"))
        if kind not in MODELS:
            hint = name_nearest(kind, MODELS)
            raise ConfigurationError(Code.UNKNOWN_NAME, f"[[model]] kind = {kind!r}: no such model; {hint}")
        known = parameter_names(MODELS[kind])
        for key in entry:
            if key not in known:
                raise _unknown_key(f"[[model]] {kind}", key, known)
        self._require_covariates(f"[[model]] {kind}", entry.get("covariates"))
        for key in ("weights", "ct_weights"):
            weights = entry.get(key)
            if kind != Fusion.kind and isinstance(weights, str) and weights:
                entry[key] = str(WeightsSource.parse(weights).relative_to(folder))
        init = entry.get("init")
        if isinstance(init, str) and init:
            entry["init"] = str(folder / init)
        shared: dict[str, object] = {"modalities": self.volume.modalities, "seed": self.validation.seed}
        shared["inner_folds"] = self.validation.inner_folds
        defaults: dict[str, object] = {key: value for key, value in shared.items() if key in known}
        region: dict[str, object] = self.region.parameters() if self.region else {}
        if set(region) <= set(known):
            defaults |= region
        try:
            model = MODELS[kind](**{**defaults, **entry}, **given)
            if model.sees_ct and "ct" not in self.volume.modalities:
                raise ValueError('it sees CT: write `modalities = ["pet", "ct"]` in [volume]')
            return model
        except (ValidationError, ValueError) as error:
            raise ConfigurationError(Code.STUDY_FILE_INVALID, f"[[model]] {kind}: {first_problem(error)}") from None

    def _require_covariates(self, where: str, names: object) -> None:
        """Refuse covariates that neither the headers tell nor ``[cohort]`` names."""
        known = [*HEADER_NAMES, *self.cohort.covariates]
        for name in names if isinstance(names, list) else ():
            if covariate_of(str(name)) not in map(covariate_of, known):
                raise ConfigurationError(
                    Code.UNKNOWN_NAME,
                    f"{where}: no covariate {name!r}; {name_nearest(str(name), known)}",
                    remedy="name the columns of the clinical table in `cohort.covariates`",
                )


def read_study(path: Path) -> StudyConfig:
    """Read a study file.

    Raises
    ------
    ConfigurationError
        ``STUDY_FILE_INVALID``; ``UNKNOWN_KEY`` naming the nearest known key.
    """
    return read_sections(path, StudyConfig, SECTIONS)


def read_sections(path: Path, whole: type[S], sections: Mapping[str, type[Section | Region]]) -> S:
    """Read a TOML file as a ``whole``, of which ``sections`` says what each table knows, by name or by kind.

    Raises
    ------
    ConfigurationError
        ``STUDY_FILE_INVALID``; ``UNKNOWN_KEY`` naming the nearest known key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(Code.STUDY_FILE_INVALID, f"{path.name}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(Code.STUDY_FILE_INVALID, f"{path.name}: {error}") from None
    try:
        return whole.model_validate(document)
    except ValidationError as error:
        for problem in error.errors():
            if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
                raise _surplus_key(problem["loc"], whole, sections) from None
        raise ConfigurationError(Code.STUDY_FILE_INVALID, f"{path.name}: {first_problem(error)}") from None


def _surplus_key(
    location: tuple[int | str, ...], whole: type[Section], sections: Mapping[str, type[Section | Region]]
) -> ConfigurationError:
    """The error about a key that pydantic found surplus, at e.g. ``("endpoint", 0, "binary", "colum")``."""
    *parents, key = [str(part) for part in location if not isinstance(part, int)]
    section = sections.get(parents[-1], whole) if parents else whole
    where = f"[{parents[0]}]" if parents else "the study file"
    return _unknown_key(where, key, list(inspect.signature(section).parameters))


def _unknown_key(where: str, key: str, known: list[str]) -> ConfigurationError:
    near = find_nearest(key, known)
    hint = f"the nearest known key is {near!r}" if near else f"known keys are {', '.join(known)}"
    return ConfigurationError(Code.UNKNOWN_KEY, f"{where}: unknown key {key!r}; {hint}")


def _must_differ(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(
                Code.STUDY_FILE_INVALID,
                f"{names.count(name)} models are called {name!r}",
                remedy="give each [[model]] its own `name`",
            )


def _member_names(entry: dict[str, Any]) -> list[str]:
    """The members that a fusion names."""
    of = entry["of"]
    if not isinstance(of, list) or not all(isinstance(name, str) for name in of):
        raise ConfigurationError(
            Code.STUDY_FILE_INVALID,
            f"[[model]] fusion {_fusion_name(entry)!r}: `of` must be a list of names, got {of!r}",
            remedy="let `of` name two or more other models",
        )
    return of


def _fusion_name(entry: dict[str, Any]) -> str:
    """How tables will call a fusion, before it can be made."""
    of = entry["of"]
    name = entry.get("name") or fusion_name(len(of) if isinstance(of, list) else 0, str(entry.get("weights", "equal")))
    return str(name)


def first_problem(error: ValidationError | ValueError) -> str:
    """What is wrong, and where, in a line."""
    if not isinstance(error, ValidationError):
        return str(error)
    problem, alternatives = _closest_problem(error)
    parts = [str(part) for part in problem["loc"]]
    place, said = ".".join(part for part in parts if "[" not in part), problem["msg"]
    context = problem.get("ctx", {})
    if known := re.findall("'([^']*)'", str(context.get("expected_tags", context.get("expected", "")))):
        given = str(context.get("tag", problem["input"]))  # of a closed set of names
        said = f"there is no {given!r}; {name_nearest(given, known)}{alternatives}"
    elif problem["type"] == "union_tag_not_found":
        said = f"it has no {context['discriminator']}"
    return f"{place}: {said}" if place else said


def _closest_problem(error: ValidationError) -> tuple[ErrorDetails, str]:
    """The first problem; where a name or a list may be given, that of what was, and what else may be."""
    first, *others = error.errors()
    if not any("literal[" in str(part) for part in first["loc"]):
        return first, ""
    if isinstance(first["input"], str):
        return first, ", or a list"
    return next((one for one in others if one["loc"][:1] == first["loc"][:1]), first), ""
