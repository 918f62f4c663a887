"""Results on their way to an archive, by C-STORE (DICOM PS3.4 annex B)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.core.extras import import_optional

_WARNINGS = range(0xB000, 0xC000)  # DICOM PS3.7 annex C: stored, with a remark


class ResultStore(Protocol):
    """Where results are stored: :class:`Archive`, or :class:`~twobe3.deploy.dicomweb.DicomWeb`."""

    def store(self, files: Sequence[Path]) -> None:
        """Store objects; raises EnvironmentFailure where one of them was not taken."""
        ...


@dataclass(frozen=True)
class Archive:
    """Where results are stored: an application entity and its address.

    Parameters
    ----------
    aet, host : str
    port : int
    calling : str
        AE title of the sender.
    """

    aet: str
    host: str
    port: int
    calling: str = "TWOBE3"

    def store(self, files: Sequence[Path]) -> None:
        """Store objects over one association.

        Raises
        ------
        EnvironmentFailure
            ``SEND_FAILED``: no association, or the archive did not take one of them; those before it are there.
            ``EXTRA_MISSING``.
        """
        entity = import_pynetdicom().AE(ae_title=self.calling)
        for sop_class in dict.fromkeys(_sop_class(file) for file in files):
            entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        association = entity.associate(self.host, self.port, ae_title=self.aet)
        if not association.is_established:
            raise EnvironmentFailure(Code.SEND_FAILED, f"no association with {self.aet}")
        try:
            for file in files:
                self._store(association, file)
        finally:
            association.release()

    def _store(self, association: Any, file: Path) -> None:
        try:
            status = association.send_c_store(file).get("Status")
        except (ValueError, RuntimeError, AttributeError) as error:  # no context for it; the association is lost
            raise EnvironmentFailure(Code.SEND_FAILED, f"{self.aet} accepts no such object") from error
        if status is None:
            raise EnvironmentFailure(Code.SEND_FAILED, f"{self.aet} did not answer")
        if status != 0 and status not in _WARNINGS:
            raise EnvironmentFailure(Code.SEND_FAILED, f"{self.aet} answered 0x{status:04X}")


def import_pynetdicom() -> Any:
    """Import pynetdicom, silent: its messages quote what peers sent.

    Raises EnvironmentFailure ``EXTRA_MISSING``.
    """
    package = import_optional("pynetdicom", "the DICOM network", extra="node")
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    return package


def _sop_class(file: Path) -> str:
    return str(pydicom.dcmread(file, specific_tags=["SOPClassUID"]).SOPClassUID)
