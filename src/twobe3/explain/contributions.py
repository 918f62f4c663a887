"""What each feature of a linear model, and each member or stack of a sum, adds to a risk."""

from __future__ import annotations

import numpy as np

from twobe3.cohort.cohort import Cohort
from twobe3.core.outcomes import FloatArray
from twobe3.models.learners.linear import RidgeModel
from twobe3.models.model import Model
from twobe3.models.radiomics import RadiomicsModel


def explain_by_parts(model: Model, cohort: Cohort) -> dict[str, FloatArray]:
    """What each part of a fitted model adds to the risk of each patient, by its name, shape (patients,).

    Members of a fusion, stacks of a network and covariates as the model says; the features of a linear radiomics
    model, counted from the mean of the training patients: (x − mean) / scale · weight, which is exact. Empty where the
    risk is no sum, as of trees.
    """
    if isinstance(model, RadiomicsModel) and isinstance(model.learner_, RidgeModel):
        ridge, names = model.learner_, model.chosen_names
        terms = (model.learner_inputs(cohort) - ridge.mean) / ridge.scale * ridge.weights
        return {name: np.asarray(term) for name, term in zip(names, terms.T, strict=True) if np.any(term)}
    return model.contributions(cohort)
