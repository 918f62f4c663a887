"""Which CT lies beside a PET: told apart by headers alone, and chosen by one order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pydicom

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.dicom.geometry import normal_of
from twobe3.dicom.instance import Frames, Instance, separate_copies
from twobe3.dicom.reader import number, numbers, quietly, read_dataset, text, texts
from twobe3.io.files import digest, digest_file
from twobe3.io.pseudonym import pseudonym

Point = tuple[float, ...]

_ATTENUATION = re.compile(r"(?<![a-z])(ct[ _-]?ac|ac[ _-]?ct|ac|att?n|atten[a-z]*|low[ _-]?dose)(?![a-z])")
_NO_AGENT = {"", "NONE", "NO", "N", "0", "NO CONTRAST", "WITHOUT"}
_SHARP = {"LUNG", "BONE", "BONEPLUS", "EDGE", "L", "YC", "YD", "YE", "E", "D"}  # of GE and Philips
_NUMBERED = re.compile(r"([A-Z]+)(\d\d)")  # Siemens B70f, Br59; Toshiba FC51
_SHARPEST_SOFT = 59


@dataclass(frozen=True)
class CTSeries:
    """One CT series, under a pseudonym.

    Attributes
    ----------
    series : str
        Pseudonymous id.
    files : tuple of Path
        Its axial images, each once; localisers and captures are not among them.
    copies : mapping of Path to tuple of Path
        Other files with the SOPInstanceUID of one of ``files``.
    header_digest : str
        Of the headers of its files.
    slices : int
    frames : {"static", "dynamic", "multi-frame"}
        ``"dynamic"`` where every position has several slices, as of a breathing cycle.
    kernel : str
        ConvolutionKernel (0018,1210).
    is_derived, is_contrast, is_attenuation, is_sharp : bool
        ImageType (0008,0008) begins with DERIVED; ContrastBolusAgent (0018,0010) or ContrastBolusVolume (0018,1041)
        says that contrast was given; SeriesDescription (0008,103E) or ImageType calls it the CT of the attenuation
        correction; the kernel is one for lung or bone.
    step_mm : float
        Between slices; 0 of a single one.
    ends_mm : tuple of tuple
        Centres of its first and last slice in LPS; empty where the headers do not say.
    same_frame : bool
        Whether it lies in the PET's frame of reference.
    """

    series: str
    files: tuple[Path, ...] = field(repr=False)
    copies: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict, hash=False, repr=False)
    header_digest: str = ""
    slices: int = 0
    frames: Frames = "static"
    kernel: str = ""
    is_derived: bool = False
    is_contrast: bool = False
    is_attenuation: bool = False
    is_sharp: bool = False
    step_mm: float = 0.0
    ends_mm: tuple[Point, ...] = field(default=(), repr=False)
    same_frame: bool = True

    @cached_property
    def content_digest(self) -> str:
        """Digest of the content of its files and their copies, which are read whole when it is first asked for."""
        files = (*self.files, *(path for paths in self.copies.values() for path in paths))
        return digest(["ct", *sorted(set(map(digest_file, files)))])


def describe_ct(files: Sequence[Instance]) -> CTSeries:
    """What the headers of a CT series say: two of them are read, of the first and the last slice."""
    group, copies = separate_copies(files)
    places = sorted((place, i) for i, one in enumerate(group) for place in one.places_mm if place is not None)
    times = Counter(place for place, _ in places)
    repeated = len(group) > 1 and len(places) == len(group) and min(times.values()) > 1
    first, last = (group[places[0][1]], group[places[-1][1]]) if places else (group[0], group[0])
    with quietly():
        headers = [_read(one.path) for one in (first, last)]
        dataset = headers[0]
        kind, kernel = texts(dataset, "ImageType"), text(dataset, "ConvolutionKernel")
        said = " ".join((text(dataset, "SeriesDescription"), *kind)).lower()
        agent = text(dataset, "ContrastBolusAgent").upper()
        return CTSeries(
            series=pseudonym("series", first.series),
            files=tuple(one.path for one in group),
            copies=copies,
            header_digest=digest(sorted({one.digest for one in group})),
            slices=sum(len(one.places_mm) for one in group),
            frames="dynamic" if repeated else first.frames,
            kernel=kernel,
            is_derived=kind[:1] == ("DERIVED",),
            is_contrast=agent not in _NO_AGENT or (number(dataset, "ContrastBolusVolume") or 0) > 0,
            is_attenuation=_ATTENUATION.search(said) is not None,
            is_sharp=is_sharp(kernel),
            step_mm=(places[-1][0] - places[0][0]) / (len(times) - 1) if len(times) > 1 else 0.0,
            ends_mm=tuple(point for one in headers if (point := _centre_mm(one))),
        )


def choose_ct(
    pet: Sequence[Instance], cts: Sequence[tuple[Instance, CTSeries]], others: Iterable[Instance]
) -> CTSeries | UnusableScanError | None:
    """The CT that goes with a PET, why what lies there cannot, or None where there is nothing like it.

    A CT of the same patient in the PET's frame of reference, in which a point has one position in both (DICOM PS3.3
    C.7.4.1); where there is none, one of the same study, which is marked. Of several, in this order:

    1. one of which the headers say that it is a volume: not of a breathing cycle, not multi-frame without need;
    2. original before derived images, which were interpolated once already;
    3. what covers more of the PET's range, in tenths: the rest would be filled with air;
    4. what is called the CT of the attenuation correction, which was made for this PET;
    5. without contrast before with it, which raises HU by what was injected, not by what the tissue is;
    6. a soft kernel before a sharp one, which overshoots at edges and is noisier;
    7. a step between slices nearest to the PET's, as that of the attenuation correction mostly is;
    8. the digest of the headers, which is the same on every machine.

    Parameters
    ----------
    pet : sequence of Instance
        The files of the PET.
    cts : sequence of (Instance, CTSeries)
        Every CT series with one of its files.
    others : iterable of Instance
        Files of other modalities.
    """
    first = pet[0]
    own = [(one, ct) for one, ct in cts if one.patient == first.patient]
    framed = [ct for one, ct in own if first.frame_of_reference and one.frame_of_reference == first.frame_of_reference]
    same_study = [replace(ct, same_frame=False) for one, ct in own if one.study == first.study]
    if candidates := framed or same_study:
        best = candidates[0] if len(candidates) == 1 else max(candidates, key=_Rank(pet))
        return _find_obstacle(best) or best
    if own:
        return UnusableScanError(Code.CT_FRAME, "the patient's CT is of another study and another frame of reference")
    if any(one.frame_of_reference == first.frame_of_reference != "" for one, _ in cts):
        return UnusableScanError(Code.CT_PATIENT, "the CT in the PET's frame of reference has another PatientID")
    beside = {one.series for one in others if _is_mr_beside(one, first)}
    if beside:
        reason = f"{format_count(len(beside), 'series', 'series')} of modality MR in place of a CT"
        return UnusableScanError(Code.NOT_CT, reason)
    return None


def refuse_ct(why: UnusableScanError, pet: Instance) -> Exclusion:
    """Why a PET has no CT, under the patient's pseudonym."""
    return Exclusion.of(why, patient=pseudonym("patient", pet.patient))


def is_sharp(kernel: str) -> bool:
    """Whether a ConvolutionKernel is one for lung or bone, by GE's and Philips' names, Siemens' and Toshiba's numbers.

    Siemens numbers rise with sharpness, B60 and above being for lung and bone; Toshiba's FC30 to 39, 50 to 59 and 80
    to 89 are.
    """
    name = kernel.strip().upper()
    if name in _SHARP:
        return True
    numbered = _NUMBERED.match(name)
    if numbered is None:
        return False
    return numbered[2][0] in "358" if numbered[1] == "FC" else int(numbered[2]) > _SHARPEST_SOFT


class _Rank:
    """Of several CT the better one is larger; the PET's ends are read once."""

    def __init__(self, pet: Sequence[Instance]) -> None:
        known = sorted((place, i) for i, one in enumerate(pet) for place in one.places_mm if place is not None)
        places = sorted({place for place, _ in known})
        self.step_mm = (places[-1] - places[0]) / (len(places) - 1) if len(places) > 1 else 0.0
        self.ends_mm: list[Point] = []
        self.normal = np.zeros(3)
        if not known or len(pet) < 2:  # the frames of one file are read with it, not here
            return
        with quietly():
            headers = [_read(pet[i].path) for _, i in (known[0], known[-1])]
            orientation = numbers(headers[0], "ImageOrientationPatient")
            self.ends_mm = [point for one in headers if (point := _centre_mm(one))]
        self.normal = normal_of(orientation)

    def __call__(self, ct: CTSeries) -> tuple[bool, bool, float, bool, bool, bool, float, str]:
        return (
            _find_obstacle(ct) is None,
            not ct.is_derived,
            round(self._coverage(ct), 1),
            ct.is_attenuation,
            not ct.is_contrast,
            not ct.is_sharp,
            -round(abs(ct.step_mm - self.step_mm), 1),
            ct.header_digest,
        )

    def _coverage(self, ct: CTSeries) -> float:
        """Share of the PET's range along its normal in which the CT has slices; 0 where the headers do not say."""
        if len(self.ends_mm) < 2 or len(ct.ends_mm) < 2:
            return 0.0
        low, high = sorted(np.array(self.ends_mm) @ self.normal)
        first, last = sorted(np.array(ct.ends_mm) @ self.normal)
        return float(max(0.0, min(high, last) - max(low, first)) / max(high - low, 1e-6))


def _find_obstacle(ct: CTSeries) -> UnusableScanError | None:
    if ct.frames == "multi-frame":
        return UnusableScanError(
            Code.MULTI_FRAME, "the CT is an enhanced object", remedy="export it as single-frame CT images"
        )
    if ct.frames != "static":
        return UnusableScanError(
            Code.NOT_STATIC, "the CT has several slices at each position", remedy="export one phase of it"
        )
    return None


def _is_mr_beside(one: Instance, pet: Instance) -> bool:
    return one.modality == "MR" and one.patient == pet.patient and one.study == pet.study


def _read(path: Path) -> pydicom.Dataset:
    """A header; an empty one where the file cannot be read, which reading the series will say."""
    try:
        return read_dataset(path)
    except UnusableScanError:
        return pydicom.Dataset()


def _centre_mm(dataset: pydicom.Dataset) -> Point:
    """Centre of a slice in LPS; empty where the header does not say where it lies."""
    position, orientation = numbers(dataset, "ImagePositionPatient"), numbers(dataset, "ImageOrientationPatient")
    spacing = numbers(dataset, "PixelSpacing")
    if (len(position), len(orientation), len(spacing)) != (3, 6, 2):
        return ()
    across = np.array(orientation[:3]) * spacing[1] * ((number(dataset, "Columns") or 1) - 1) / 2
    down = np.array(orientation[3:]) * spacing[0] * ((number(dataset, "Rows") or 1) - 1) / 2
    return tuple((np.array(position) + across + down).tolist())
