"""What a model does with a cohort, beside learning from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from pydantic.dataclasses import dataclass

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion


@dataclass(frozen=True)
class UndefinedFeature:
    """A feature that is not defined in ``missing`` of the ``n`` scans that a model can use.

    A model that learns from all these scans leaves it out, if ``left_out``; otherwise the median stands in.
    """

    feature: str
    missing: int
    n: int
    left_out: bool

    @property
    def exclusion(self) -> Exclusion:
        """Why the feature was left out."""
        reason = f"feature {self.feature!r} is not defined in {self.missing} of {self.n} scans"
        return Exclusion.of(ConfigurationError(Code.FEATURE_UNDEFINED, reason))


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What a model does with a cohort, beside learning from it.

    Attributes
    ----------
    exclusions : tuple of Exclusion
        The scans that the model cannot use, in the order of the cohort, and why; fit and prediction leave them out.
    undefined : tuple of UndefinedFeature
        Features that are not defined in some of the other scans.
    imputed : mapping
        Covariate to the number of patients for whom it is filled in, where the model is fitted on all of them.
    warnings : tuple of str
        Sentences that a reader of the model's results should know.
    n_parameters : int or None
        Coefficients that the fit may choose from, before any selection; None for a network.
    size : mapping
        How large a network is that is fitted on the cohort; empty unless the cohort has one endpoint.
    """

    exclusions: tuple[Exclusion, ...] = ()
    undefined: tuple[UndefinedFeature, ...] = ()
    imputed: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    n_parameters: int | None = None
    size: Mapping[str, Any] = field(default_factory=dict)
