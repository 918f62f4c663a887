"""The controls that stand in every table unless somebody asks for none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from twobe3.cohort import Cohort, Study
from twobe3.decisions import Deciding
from twobe3.errors import Refusal, UsageError
from twobe3.fitting import Fits, compute_features, require_enough
from twobe3.models import Control, Model, Radiomics
from twobe3.models.controls import DEFAULT, MEASURED
from twobe3.models.covariates import covariate_names
from twobe3.models.fusion import members_of
from twobe3.regions import Region
from twobe3.splits import CrossValidation, Scheme

CONTOURED = 0.8
"""Share of scans with a contour from which on controls are measured in it; the others then have no such control."""

log = logging.getLogger("twobe3")


def with_default_controls(
    models: Sequence[Model],
    cohort: Cohort,
    *,
    scheme: Scheme | None = None,
    region: Region | None = None,
    inner_folds: int = 4,
) -> list[Model]:
    """Models and, behind them, the controls that they should beat.

    Volume, SUVmax and TLG of the region; the extent of the image, since crops tell the size of what they show; the
    clinical covariates, if any is known; in a cross-validation of several centres the centre, since elsewhere the
    tested centres are new and predict nothing; and the first radiomics model, or one that stands inside a fusion, on
    shuffled voxels. One that is among the models already is not added again.

    Parameters
    ----------
    models : sequence of Model
        At least one; the controls share its store.
    cohort : Cohort
        On which they will be compared.
    scheme : Scheme, optional
        How; a cross-validation by default.
    region : Region, optional
        Where the first three are measured. By default the contour if at least :data:`CONTOURED` of the scans have
        one, else what lies above SUV 4.
    inner_folds : int
        Of the cross-validation that chooses the penalty of the clinical covariates.
    """
    first, taken = models[0], {model.name for model in models}
    where = region or _region(cohort)
    place = {"region": where.kind, "roi": where.roi, "threshold_suv": where.threshold_suv, "fraction": where.fraction}

    def control(**parameters: object) -> Control:
        return Control(**{"seed": first.seed, "store": first.store, "engine": first.engine, **parameters})  # type: ignore[arg-type]

    wanted: list[Model] = [control(variable=variable, **place) for variable in DEFAULT if variable in MEASURED]
    if covariate_names(cohort.studies):
        wanted.append(control(variable="clinical", inner_folds=inner_folds))
    if len({study.centre for study in cohort.studies} - {""}) > 1 and isinstance(scheme, CrossValidation | None):
        wanted.append(control(variable="centre"))
    inside = [member for model in models for member in members_of(model)]
    wanted += [_shuffled(one) for one in (*models, *inside) if isinstance(one, Radiomics) and not one.is_control][:1]
    added = [one for one in wanted if not any(_same(one, model) for model in models)]
    for one in added:
        while one.name in taken:
            one.name += " (control)"
        taken.add(one.name)
    return [*models, *added]


def those_that_fit(
    controls: Sequence[Model], cohort: Cohort, scheme: Scheme, how: Deciding, workers: int
) -> tuple[list[Model], list[str]]:
    """The controls that the training patients of every fold suffice for, and why each other one is left out.

    Nobody has asked for them, so none stops a study. What they measure is computed.
    """
    if not controls:
        return [], []
    fits = Fits.of(controls, cohort, scheme, how)
    compute_features(fits, workers)
    kept, reasons = [], []
    for control in fits.models:
        try:
            require_enough(replace(fits, models=(control,)))
        except UsageError as error:
            reasons.append(f"Left out of the controls: {error.reason}.")
            log.warning("%s", reasons[-1])
        else:
            kept.append(control)
    return kept, reasons


def _region(cohort: Cohort) -> Region:
    drawn = sum(map(_has_contour, cohort.studies))
    return Region("contour") if drawn and drawn >= CONTOURED * len(cohort) else Region("threshold")


def _has_contour(study: Study) -> bool:
    """Whether somebody drew a region, as far as that is known without reading it."""
    if "contour" in study.description:
        return bool(study.description["contour"])
    try:
        return study.scan.contour(study.scan.suv()) is not None
    except Refusal:
        return False


def _shuffled(model: Radiomics) -> Radiomics:
    name = "" if model.name == model.default_name() else f"{model.name}, shuffled voxels"
    return Radiomics(
        **{**model.parameters(), "voxels": "shuffled", "name": name}, store=model.store, engine=model.engine
    )


def _same(one: Model, other: Model) -> bool:
    """Whether two models differ in nothing but their names, or, as controls, in nothing that they look at."""
    if isinstance(one, Control) and isinstance(other, Control):
        return one.default_name() == other.default_name()
    return one.kind == other.kind and {**one.parameters(), "name": ""} == {**other.parameters(), "name": ""}
