"""Every refusal of twobe3: a stable code, what happened, and what to do about it.

The tree::

    TwoBe3Error
    ├── ConfigurationError    the study file, the table or an argument is wrong      exit status 2
    ├── EmptyInputError       the input was read and holds nothing to work on        exit status 3
    ├── UnusableScanError     one series or scan cannot be used; the others go on    exit status 3
    └── EnvironmentFailure    a file, a download or an optional part failed          exit status 1

A message never holds a patient's name or identifier from a header, nor a full path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from twobe3.core.codes import Code
from twobe3.core.printable import replace_unprintable


class TwoBe3Error(Exception):
    """Root of every error that twobe3 raises on purpose.

    Parameters
    ----------
    code : Code
        The stable code.
    reason : str
        What, where, and what was received; one line, no patient identity.
    remedy : str, optional
        What to do; the code's usual remedy by default.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, code: Code, reason: str, *, remedy: str | None = None) -> None:
        self.code = code
        # Values of foreign files are quoted in it: none may break the line or speak to the terminal.
        self.reason = replace_unprintable(reason, " ")
        self.remedy = code.remedy if remedy is None else replace_unprintable(remedy, " ")
        super().__init__(f"{code.name}: {self.reason} ({self.remedy})")

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders by calling the class with `args`; ours take other arguments.
        return (_rebuild, (type(self), self.code, self.reason, self.remedy))


def _rebuild(kind: type[TwoBe3Error], code: Code, reason: str, remedy: str) -> TwoBe3Error:
    return kind(code, reason, remedy=remedy)


class ConfigurationError(TwoBe3Error):
    """The study file, the clinical table or an argument is wrong."""

    exit_status = 2


class EmptyInputError(TwoBe3Error):
    """The input was read and holds nothing to work on."""

    exit_status = 3


class UnusableScanError(TwoBe3Error):
    """One series or scan cannot be used; a cohort collects it as an :class:`Exclusion` and goes on."""

    exit_status = 3


class EnvironmentFailure(TwoBe3Error):  # noqa: N818  EnvironmentError is a name of Python's
    """A file, a download or an optional part failed."""


@dataclass(frozen=True)
class Exclusion:
    """Something that was found and not used, and why.

    Attributes
    ----------
    patient, series : str
        Pseudonymous ids; empty where the thing has none.
    code : str
        Name of a :class:`Code`.
    reason, remedy : str
        One line each.
    """

    patient: str
    series: str
    code: str
    reason: str
    remedy: str

    @classmethod
    def of(cls, error: TwoBe3Error, *, patient: str = "", series: str = "") -> Exclusion:
        """Record an error as the reason of an exclusion."""
        return cls(patient, series, error.code.name, error.reason, error.remedy)
