"""Coronal maximum-intensity projections as PET readers know them: inverted grey, SUV 0 to 7, as PNG."""

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.report.study_folder import StudyFolder, SubjectRecord

SUV_WINDOW = (0.0, 7.0)
MAX_PICTURES = 12


@dataclass(frozen=True)
class Picture:
    """A picture to inline, and its true size in the patient."""

    caption: str
    data_uri: str
    width_mm: float
    height_mm: float


def coronal_mips(folder: StudyFolder) -> tuple[Picture, ...]:
    """Pictures of up to twelve scans, evenly spaced over the cohort.

    Raises
    ------
    ConfigurationError
        ``ARTEFACT_MISSING``: a volume is not in the folder.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``: a volume cannot be read.
    """
    subjects = folder.cohort.subjects
    count = min(len(subjects), MAX_PICTURES)
    chosen = np.linspace(0, len(subjects) - 1, count).round().astype(int)
    return tuple(_picture(folder.path / "volumes", subjects[i]) for i in chosen)


def coronal_mip(suv: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Coronal maximum-intensity projection, seen from the front.

    Parameters
    ----------
    suv : ndarray of float32, shape (slices, rows, columns)
        Slices increase towards the head, columns towards the patient's left.

    Returns
    -------
    ndarray of uint8, shape (slices, columns)
        Head on top, the patient's right on the left; 255 is SUV 0 and below, 0 is SUV 7 and above.
    """
    low, high = SUV_WINDOW
    shade = np.clip((suv.max(axis=1)[::-1] - low) / (high - low), 0, 1)
    grey: npt.NDArray[np.uint8] = np.round(255 * (1 - shade)).astype(np.uint8)
    return grey


def png(grey: npt.NDArray[np.uint8]) -> bytes:
    """Encode an 8-bit greyscale picture (W3C Portable Network Graphics, third edition, sections 5 and 9).

    Parameters
    ----------
    grey : ndarray of uint8, shape (height, width)
        0 is black.
    """
    height, width = grey.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    unfiltered = np.pad(grey, ((0, 0), (1, 0)))  # each line begins with its filter type, 0 for none
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, data)
        for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(unfiltered.tobytes(), 9)), (b"IEND", b""))
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _picture(volumes: Path, subject: SubjectRecord) -> Picture:
    name = Path(subject.volume).name
    try:
        with safe_open(volumes / name, framework="numpy") as stream:
            suv = stream.get_tensor("suv")
            slice_mm, _, column_mm = json.loads(stream.metadata()["spacing_mm"])
    except FileNotFoundError:
        raise ConfigurationError(Code.ARTEFACT_MISSING, f"volumes/{name} is not in the study folder") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise EnvironmentFailure(
            Code.ARTEFACT_DAMAGED, f"volumes/{name} cannot be read: {type(error).__name__}"
        ) from error
    grey = coronal_mip(suv)
    return Picture(
        subject.patient,
        "data:image/png;base64," + b64encode(png(grey)).decode("ascii"),
        grey.shape[1] * column_mm,
        grey.shape[0] * slice_mm,
    )
