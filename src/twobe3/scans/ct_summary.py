"""The CT beside a scan in a few words: what it is and how it lies, or why it cannot be used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from twobe3.core.codes import Code
from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.core.volume import CTVolume, SUVVolume
from twobe3.dicom.ct_series import CTSeries
from twobe3.scans.registration import Registration, register
from twobe3.scans.scan import Scan


@dataclass(frozen=True)
class CTSummary:
    """What is said of the CT beside a scan.

    Attributes
    ----------
    series : str
        Pseudonymous id; empty where there is none.
    slices : int
    spacing_mm : tuple of float, or None
        Along slices, rows and columns, once it was read.
    kernel : str
        ConvolutionKernel (0018,1210).
    contrast : bool
        Whether its header says that contrast was given.
    registration : Registration or None
        How it lies to the PET, once both were read.
    notes : tuple of str
        What somebody should look at, each one line that begins with its code.
    code, reason, remedy : str or None
        Why it cannot be used.
    """

    series: str = ""
    slices: int = 0
    spacing_mm: tuple[float, ...] | None = None
    kernel: str = ""
    contrast: bool = False
    registration: Registration | None = None
    notes: tuple[str, ...] = ()
    code: str | None = None
    reason: str | None = None
    remedy: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        fields = asdict(self)
        del fields["registration"]
        found = {**fields, "spacing_mm": self.spacing_mm and list(self.spacing_mm), "notes": list(self.notes)}
        return found | (self.registration.to_json() if self.registration else {})


def describe_beside(beside: CTSeries | Exclusion | None) -> CTSummary | None:
    """What the headers say of the CT beside a PET; None where there is nothing like one."""
    if isinstance(beside, Exclusion):
        return CTSummary(code=beside.code, reason=beside.reason, remedy=beside.remedy)
    if beside is None:
        return None
    notes = () if beside.same_frame else (f"{Code.CT_FRAME.name}: the CT is of the PET's study alone; it may be off",)
    return CTSummary(beside.series, beside.slices, None, beside.kernel, beside.is_contrast, None, notes)


def read_beside(scan: Scan, volume: SUVVolume, known: CTSummary | None = None) -> tuple[CTVolume | None, CTSummary]:
    """The CT of a scan, which lies over its PET, and its summary; no CT where it cannot be used, and why.

    ``known`` is what the headers said of it.
    """
    known = known or CTSummary()
    registration = None
    try:
        ct = scan.ct()
        registration = register(volume, ct)
        registration.require_fit()
    except UnusableScanError as error:
        refused = {"code": error.code.name, "reason": error.reason, "remedy": error.remedy}
        return None, CTSummary(**{**vars(known), "registration": registration, **refused})
    read = {
        "series": known.series or ct.source,
        "slices": len(ct.array),
        "spacing_mm": tuple(round(mm, 4) for mm in ct.geometry.spacing_mm),
        "registration": registration,
        "notes": (*known.notes, *ct.warnings, *registration.warnings),
    }
    return ct, CTSummary(**{**vars(known), **read})
