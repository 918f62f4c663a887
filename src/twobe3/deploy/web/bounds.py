"""How much the page takes at once, and how long it takes and keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Bounds of the page; what exceeds one is refused with a code, and nothing of it stays on disk.

    Parameters
    ----------
    upload_bytes : int
        Of one upload, as it is sent.
    unpacked_bytes : int
        Of one zip file, unpacked.
    files : int
        Of one upload, those in zip files included.
    receive_s : float
        Seconds in which an upload must have arrived.
    receiving : int
        Uploads at the same time.
    waiting : int
        Predictions that wait, and uploads that will.
    predict_s : float
        Seconds of one prediction; its process is ended then.
    keep_s : float
        Seconds until results are deleted.
    """

    upload_bytes: int = 2 * 10**9
    unpacked_bytes: int = 4 * 10**9
    files: int = 20_000
    receive_s: float = 900.0
    receiving: int = 4
    waiting: int = 20
    predict_s: float = 900.0
    keep_s: float = 24 * 3600.0
