"""Clinical covariates as numbers, and how they join a model on images at its last, linear step."""

from __future__ import annotations

import difflib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twobe3.cohort.cohort import Subject
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.core.table import parse_number
from twobe3.models.learners.linear import choose_penalty, fit_ridge

log = logging.getLogger("twobe3")
PENALTIES = tuple(float(penalty) for penalty in np.logspace(-1, 3, 9))
INNER_FOLDS = 4

# Training patients who make a category, or an indicator of what is missing; a column of fewer would be noise.
FEWEST = 5
# What the headers say of nearly everybody, and what a model sees only where it is asked for by name.
SIZES = ("weight_kg", "height_m")


def covariate_names(subjects: Iterable[Subject]) -> tuple[str, ...]:
    """Names of covariates that any subject has, without :data:`SIZES`: age and sex, then columns of the table."""
    found = {name for subject in subjects for name in subject.covariates} - {*SIZES}
    first = [name for name in ("age_years", "sex") if name in found]
    return (*first, *sorted(found - {*first}))


@dataclass(frozen=True)
class CodedCovariate:
    """How one covariate becomes columns.

    Attributes
    ----------
    name : str
        Of the covariate.
    kind : {"number", "category"}
        A number is one column. A category has one for each level, and for the others; of two only the second.
    levels : tuple of str
        Of a category: those that at least :data:`FEWEST` training patients have.
    others : bool
        Whether as many have one of its rarer levels: these are one together, which new levels join.
    indicator : bool
        Whether a last column is 1 where the covariate is missing: if at least :data:`FEWEST` training patients lack
        it, and as many have it.
    """

    name: str
    kind: Literal["number", "category"]
    levels: tuple[str, ...] = ()
    others: bool = False
    indicator: bool = False

    @classmethod
    def fit(cls, name: str, subjects: Sequence[Subject]) -> CodedCovariate:
        """From the training patients."""
        known = [subject.covariates[name] for subject in subjects if name in subject.covariates]
        indicator = min(len(known), len(subjects) - len(known)) >= FEWEST
        if not any(isinstance(value, str) for value in known):
            return cls(name, "number", indicator=indicator)
        counts = Counter(map(_text, known))
        levels = tuple(sorted(level for level, n in counts.items() if n >= FEWEST))
        rare = sum(n for level, n in counts.items() if level not in levels)
        return cls(name, "category", levels, rare >= FEWEST, indicator)

    @property
    def columns(self) -> tuple[str, ...]:
        """What each column is."""
        value = (self.name,) if self.kind == "number" else tuple(f"{self.name} = {one}" for one in self._groups())
        return value + (f"{self.name} missing",) * self.indicator

    def raw(self, subjects: Sequence[Subject]) -> FloatArray:
        """Shape (subjects, columns); NaN where a patient lacks the covariate, or has a level that is no column."""
        values = [subject.covariates.get(self.name) for subject in subjects]
        if self.kind == "number":
            found = np.array([parse_number(value) for value in values], np.float64).reshape(len(subjects), -1)
        else:
            found = np.array([self._spread(value) for value in values], np.float64).reshape(len(subjects), -1)
        missing = np.array([[value is None] for value in values], np.float64).reshape(len(subjects), 1)
        return np.hstack([found, missing]) if self.indicator else found

    def _groups(self) -> tuple[str, ...]:
        groups = (*self.levels, "another") if self.others else self.levels
        return groups if len(groups) > 2 else groups[1:]

    def _spread(self, value: float | str | None) -> list[float]:
        group = "another" if self.others else None
        if value is None:
            group = None
        elif _text(value) in self.levels:
            group = _text(value)
        return [np.nan if group is None else float(group == one) for one in self._groups()]


@dataclass(frozen=True, eq=False)
class CovariateEncoder:
    """Covariates as standardised columns; whatever it knows it learnt from the training patients.

    A missing number counts as the training median. A missing category, and a level that no column stands for, counts
    as the training patients' mean of the columns, which says nothing. Columns that are the same for all training
    patients are left out.

    Of the columns of the covariates, in their order, those vary which ``kept``, bool, says. Of these ``fill`` is what
    stands in, ``mean`` and ``scale`` are the standardisation, shape (kept columns,).
    """

    covariates: tuple[CodedCovariate, ...]
    kept: npt.NDArray[np.bool_]
    fill: FloatArray
    mean: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, subjects: Sequence[Subject], names: Sequence[str] = ()) -> CovariateEncoder:
        """Learn how these covariates of training patients become columns; all of :func:`covariate_names` by default.

        One that nobody has gives no column.
        """
        covariates = tuple(CodedCovariate.fit(name, subjects) for name in names or covariate_names(subjects))
        raw = _raw(covariates, subjects)
        number = np.array([one.kind == "number" and c == one.name for one in covariates for c in one.columns], np.bool_)
        fill = np.array([_middle(column, at) for column, at in zip(raw.T, number, strict=True)])
        filled = np.where(np.isnan(raw), fill, raw)
        kept = np.ptp(filled, axis=0) > 0 if len(filled) else np.zeros(filled.shape[1], np.bool_)
        filled = filled[:, kept]
        return cls(covariates, kept, fill[kept], filled.mean(axis=0), filled.std(axis=0))

    @property
    def columns(self) -> tuple[str, ...]:
        """What each column is, for instance ``age_years``, ``stage = II``, ``stage missing``."""
        columns = [column for one in self.covariates for column in one.columns]
        return tuple(column for column, keep in zip(columns, self.kept, strict=True) if keep)

    def encode(self, subjects: Sequence[Subject]) -> FloatArray:
        """The columns of some patients, shape (subjects, columns), always finite; the log counts who is filled in."""
        for name, n in self.count_imputed(subjects).items():
            log.info("covariate %s is missing for %d of %d patients: filled in", name, n, len(subjects))
        raw = _raw(self.covariates, subjects)[:, self.kept]
        return np.asarray((np.where(np.isnan(raw), self.fill, raw) - self.mean) / self.scale)

    def count_imputed(self, subjects: Sequence[Subject]) -> dict[str, int]:
        """For how many of some patients each covariate is filled in, those with a level unknown here among them."""
        counts = {one.name: int(np.isnan(one.raw(subjects)).any(axis=1).sum()) for one in self.covariates}
        return {name: n for name, n in counts.items() if n}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What was learnt, for a model file."""
        coded = json.dumps([asdict(one) for one in self.covariates]).encode()
        of_columns = {"kept": self.kept, "fill": self.fill, "mean": self.mean, "scale": self.scale}
        return {"covariates": np.frombuffer(coded, np.uint8), **of_columns}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> CovariateEncoder:
        """The encoder that :meth:`arrays` described."""
        coded = json.loads(arrays["covariates"].tobytes())
        covariates = tuple(CodedCovariate(**{**one, "levels": tuple(one["levels"])}) for one in coded)
        return cls(covariates, arrays["kept"].astype(np.bool_), *(arrays[name] for name in ("fill", "mean", "scale")))


def _raw(covariates: Sequence[CodedCovariate], subjects: Sequence[Subject]) -> FloatArray:
    return np.hstack([np.zeros((len(subjects), 0)), *(one.raw(subjects) for one in covariates)])


def _middle(column: FloatArray, median: bool) -> float:
    known = column[~np.isnan(column)]
    if not len(known):
        return 0.0
    return float(np.median(known) if median else known.mean())


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def initial_weights(x: FloatArray, outcomes: Outcomes, *, seed: int) -> FloatArray:
    """Where the weights of a network's covariates start, in the unit of the outcome, shape (columns,).

    A handful of columns that start at 0 beside some hundred of a network are hardly moved by its few steps. So they
    start at the weights of a ridge regression of their own, its penalty chosen inside the training patients, and
    training adds what the images tell beyond it. ``x``, (n, columns), is what :meth:`CovariateEncoder.encode` gives of
    the training patients; ``seed`` is that of the inner cross-validation.
    """
    penalty = choose_penalty(x, outcomes, PENALTIES, inner_folds=INNER_FOLDS, seed=seed)
    ridge = fit_ridge(x, outcomes, penalty)
    return ridge.weights / ridge.scale


def fit_encoder(subjects: Sequence[Subject], names: Sequence[str]) -> CovariateEncoder:
    """How covariates become columns, learnt from the training patients.

    Raises
    ------
    ConfigurationError
        ``COLUMN_MISSING``: none of them has one of the covariates, which is a wrong name or a column that was not read.
    """
    known = [*covariate_names(subjects), *SIZES]
    for name in names:
        if not any(name in subject.covariates for subject in subjects):
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            raise ConfigurationError(
                Code.COLUMN_MISSING,
                f"no training patient has the covariate {name!r}; there are {', '.join(near or known)}",
                remedy="name one of them, or add the column to `cohort.covariates`",
            )
    return CovariateEncoder.fit(subjects, names)


def count_imputed(subjects: Sequence[Subject], names: Sequence[str]) -> dict[str, int]:
    """For how many patients each covariate is filled in, learnt from all of them."""
    return CovariateEncoder.fit(subjects, names).count_imputed(subjects) if names else {}
