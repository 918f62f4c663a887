"""What is not known of whom."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Missing:
    """For how many patients something is not known.

    Attributes
    ----------
    what : str
        A scan, an outcome, a covariate.
    missing, n : int
        For how many of how many patients it is not known.
    """

    what: str
    missing: int
    n: int

    @property
    def share(self) -> float:
        """Of the patients, between 0 and 1; 0 of nobody."""
        return self.missing / self.n if self.n else 0.0


def count_missing(known: Mapping[str, Collection[str]], patients: Collection[str]) -> tuple[Missing, ...]:
    """Count whom each thing is not known of.

    Parameters
    ----------
    known : mapping
        From what to the patients of whom it is known.
    patients : collection of str
        Of whom it should be.
    """
    wanted = set(patients)
    return tuple(Missing(what, len(wanted - set(there)), len(wanted)) for what, there in known.items())
