"""Clinical covariates that join a model on images late: at its last, linear step, where they start as a model alone."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from twobe3.cohort import Study
from twobe3.errors import Code, UsageError
from twobe3.models.covariates import SIZES, CovariateEncoder, covariate_names
from twobe3.models.linear import FloatArray, RidgeModel, choose_penalty, fit_ridge
from twobe3.outcome import Outcomes
from twobe3.store import Arrays

log = logging.getLogger("twobe3")
PENALTIES = tuple(float(penalty) for penalty in np.logspace(-1, 3, 9))
INNER_FOLDS = 4


@dataclass(frozen=True, eq=False)
class LateCovariates:
    """Covariates as columns, and what they tell without any image.

    A handful of columns that start at 0 beside some hundred of a network are hardly moved by its few steps. So they
    start at the weights of a ridge regression of their own, and training adds what the images tell beyond it.

    Attributes
    ----------
    encoder : CovariateEncoder
        Missing values filled in and columns standardised as the training patients say.
    alone : RidgeModel
        Of the columns, fitted to the training patients; its penalty is chosen inside them.
    """

    encoder: CovariateEncoder
    alone: RidgeModel

    @classmethod
    def fit(cls, studies: Sequence[Study], outcomes: Outcomes, names: Sequence[str], *, seed: int) -> LateCovariates:
        """Learn from the training patients.

        Raises
        ------
        UsageError
            ``COLUMN_MISSING``: none of them has one of the covariates; the nearest that they have are named.
        """
        encoder = learnt_encoder(studies, names)
        return cls(encoder, _alone(encoder.encode(studies), outcomes, seed))

    def weighed_for(self, studies: Sequence[Study], outcomes: Outcomes, *, seed: int) -> LateCovariates:
        """The same columns weighed for another endpoint, by the training patients whose outcome is known for it."""
        return replace(self, alone=_alone(self.encoder.encode(studies), outcomes, seed))

    @property
    def weights(self) -> FloatArray:
        """Where the columns' weights start, in the unit of the outcome, shape (columns,)."""
        return self.alone.weights / self.alone.scale

    def encode(self, studies: Sequence[Study]) -> FloatArray:
        """The columns of some patients, shape (studies, columns); what is missing is filled in, and told in the log."""
        return encoded(self.encoder, studies)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields as arrays, for a model file."""
        encoder = {f"covariates.encoder.{name}": array for name, array in self.encoder.arrays().items()}
        return {**encoder, **{f"covariates.alone.{name}": array for name, array in self.alone.arrays().items()}}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> LateCovariates:
        """What :meth:`arrays` described."""
        return cls(
            CovariateEncoder.from_arrays(under("covariates.encoder.", arrays)),
            RidgeModel.from_arrays(under("covariates.alone.", arrays)),
        )


def _alone(x: FloatArray, outcomes: Outcomes, seed: int) -> RidgeModel:
    penalty = choose_penalty(x, outcomes, PENALTIES, inner_folds=INNER_FOLDS, seed=seed)
    return fit_ridge(x, outcomes, penalty)


def learnt_encoder(studies: Sequence[Study], names: Sequence[str]) -> CovariateEncoder:
    """How covariates become columns, learnt from the training patients.

    Raises
    ------
    UsageError
        ``COLUMN_MISSING``: none of them has one of the covariates, which is a wrong name or a column that was not read.
    """
    known = [*covariate_names(studies), *SIZES]
    for name in names:
        if not any(name in study.covariates for study in studies):
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            raise UsageError(
                Code.COLUMN_MISSING,
                f"no training patient has the covariate {name!r}; there are {', '.join(near or known)}",
                remedy="name one of them, or add the column to `cohort.covariates`",
            )
    return CovariateEncoder.fit(studies, names)


def imputed(studies: Sequence[Study], names: Sequence[str]) -> dict[str, int]:
    """For how many patients each covariate is filled in, learnt from all of them."""
    return learnt_encoder(studies, names).imputed(studies) if names else {}


def encoded(encoder: CovariateEncoder, studies: Sequence[Study]) -> FloatArray:
    """The columns of some patients, shape (studies, columns); how much of them is filled in, the log says."""
    for name, n in encoder.imputed(studies).items():
        log.info("covariate %s is missing for %d of %d patients: filled in", name, n, len(studies))
    return encoder.encode(studies)


def under(prefix: str, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
