"""The baselines that stand in every table unless somebody asks for none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.splits import CrossValidation, Scheme
from twobe3.core.errors import ConfigurationError, UnusableScanError
from twobe3.models import Baseline, Model, RadiomicsModel
from twobe3.models.baseline import DEFAULT, MEASURED
from twobe3.models.encoder import covariate_names
from twobe3.models.fusion import members_of
from twobe3.runtime.parallel import Workers
from twobe3.scans.regions import Region
from twobe3.validation.plan import CVPlan, precompute, require_enough

CONTOURED = 0.8
"""Share of scans with a contour from which on baselines are measured in it; the others then have no such baseline."""

log = logging.getLogger("twobe3")


def add_baselines(
    models: Sequence[Model],
    cohort: Cohort,
    *,
    scheme: Scheme | None = None,
    region: Region | None = None,
    inner_folds: int = 4,
) -> list[Model]:
    """Append to models the baselines that they should beat.

    Volume, SUVmax and TLG of the region; the extent of the image, since crops tell the size of what they show; the
    clinical covariates, if any is known; in a cross-validation of several centres the centre, since elsewhere the
    tested centres are new and predict nothing; and the first radiomics model, or one that stands inside a fusion, on
    shuffled voxels. One that is among the models already is not added again; all share the cache of the first model.

    ``scheme`` is a cross-validation by default. The first three are measured in ``region``, by default the contour
    if at least :data:`CONTOURED` of the scans have one, else what lies above SUV 4. ``inner_folds`` choose the penalty
    of the clinical covariates.
    """
    first, taken = models[0], {model.name for model in models}
    place = (region or _choose_region(cohort)).parameters()

    def baseline(**parameters: object) -> Baseline:
        return Baseline(**{"seed": first.seed, "cache": first.cache, "device": first.device, **parameters})  # type: ignore[arg-type]

    wanted: list[Model] = [baseline(variable=variable, **place) for variable in DEFAULT if variable in MEASURED]
    if covariate_names(cohort.subjects):
        wanted.append(baseline(variable="clinical", inner_folds=inner_folds))
    if len({subject.centre for subject in cohort.subjects} - {""}) > 1 and isinstance(scheme, CrossValidation | None):
        wanted.append(baseline(variable="centre"))
    inside = [member for model in models for member in members_of(model)]
    wanted += [
        _shuffle_voxels(one) for one in (*models, *inside) if isinstance(one, RadiomicsModel) and not one.is_baseline
    ][:1]
    added = [one for one in wanted if not any(_is_same(one, model) for model in models)]
    for one in added:
        while one.name in taken:
            one.name += " (baseline)"
        taken.add(one.name)
    return [*models, *added]


def choose_baselines(plan: CVPlan, scheme: Scheme, region: Region | None, workers: Workers) -> tuple[CVPlan, list[str]]:
    """Add the default baselines that the training patients of every fold suffice for, and say why others are left out.

    Nobody has asked for them, so none stops a study. What they measure is computed.
    """
    every = add_baselines(plan.models, plan.cohort, scheme=scheme, region=region, inner_folds=plan.policy.inner_folds)
    baselines = every[len(plan.models) :]
    kept, reasons = list(plan.models), []
    if baselines:
        plan = plan.on(precompute(replace(plan, models=tuple(baselines)), workers), scheme)
    for baseline in baselines:
        try:
            require_enough(replace(plan, models=(baseline,)))
        except ConfigurationError as error:
            reasons.append(f"Left out of the baselines: {error.reason}.")
            log.warning("%s", reasons[-1])
        else:
            kept.append(baseline)
    return replace(plan, models=tuple(kept)), reasons


def _choose_region(cohort: Cohort) -> Region:
    drawn = sum(map(_has_contour, cohort.subjects))
    return Region("contour") if drawn and drawn >= CONTOURED * len(cohort) else Region("threshold")


def _has_contour(subject: Subject) -> bool:
    """Whether somebody drew a region, as far as that is known without reading it."""
    if "contour" in subject.description:
        return bool(subject.description["contour"])
    try:
        return subject.scan.contour(subject.scan.suv()) is not None
    except UnusableScanError:
        return False


def _shuffle_voxels(model: RadiomicsModel) -> RadiomicsModel:
    name = "" if model.name == model.default_name else f"{model.name}, shuffled voxels"
    return RadiomicsModel(
        **{**model.get_params(), "voxels": "shuffled", "name": name}, cache=model.cache, device=model.device
    )


def _is_same(one: Model, other: Model) -> bool:
    """Whether two models differ in nothing but their names, or, as baselines, in nothing that they look at."""
    if isinstance(one, Baseline) and isinstance(other, Baseline):
        return one.default_name == other.default_name
    return one.kind == other.kind and one.public_parameters() | {"name": ""} == other.public_parameters() | {"name": ""}
