"""One PET series from its files to SUV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array

from twobe3.dicom import geometry, header
from twobe3.dicom.facts import Note, Policy, apply_policy
from twobe3.dicom.files import number, numbers, quietly, read_dataset, text
from twobe3.dicom.geometry import Plane
from twobe3.dicom.series import PETSeries
from twobe3.dicom.suv import calibrate
from twobe3.errors import Code, Refusal
from twobe3.volume import SUVVolume


@dataclass(frozen=True, eq=False)
class _Slice:
    dataset: pydicom.Dataset
    plane: Plane
    along_mm: float = 0.0


def read_suv(series: PETSeries, *, policy: Policy = "lenient") -> SUVVolume:
    """Read a series and convert it to SUV by body weight.

    Slices are ordered by increasing position along the normal of the image plane, which for an axial scan is
    from the feet to the head; each is decoded with its own rescale slope.

    Parameters
    ----------
    series : PETSeries
        One of ``find_series(...).series``.
    policy : {"lenient", "strict"}
        Whether plausible repairs are made and recorded in the calibration's ``warnings``, or refused.

    Returns
    -------
    SUVVolume
        Geometry in LPS; ``source`` is the series' pseudonym.

    Raises
    ------
    Refusal
        ``CORRUPT_FILE``, ``MULTI_FRAME``, ``TOO_LARGE``, ``GEOMETRY_MIXED``, ``SLICE_GAP``, ``SLICE_DUPLICATE``,
        ``SHEARED``, ``NOT_STATIC``, ``CODEC_MISSING``, or the code of the SUV rule that fails.
    """
    with quietly():
        slices = [_load(read_dataset(path, pixels=True)) for path in series.files]
        planes = [slice_.plane for slice_ in slices]
        geometry.require_one_grid(planes)
        along_mm = geometry.positions_mm(planes).tolist()
        slices = sorted(
            (replace(slice_, along_mm=mm) for slice_, mm in zip(slices, along_mm, strict=True)),
            key=lambda slice_: slice_.along_mm,
        )
        slices, notes = _drop_copies(slices)
        space = geometry.stack([slice_.plane for slice_ in slices])
        notes += _missing_at_the_ends(slices)
        facts = header.series_facts([slice_.dataset for slice_ in slices])
        _require_one_unit(slices)
        factors = calibrate(facts, policy=policy)
        warnings = apply_policy(notes, policy)
        array = np.empty(space.shape, dtype=np.float32)
        scales = factors.per_slice * np.array([one.slope for one in facts.slices], dtype=np.float64)
        for i, (slice_, scale) in enumerate(zip(slices, scales, strict=True)):
            array[i] = _stored_values(slice_.dataset) * scale
    if not np.isfinite(array).all():
        raise Refusal(Code.RESCALE_INVALID, "stored value × slope × factor exceeds what a float32 holds")
    calibration = replace(factors.calibration, warnings=warnings + factors.calibration.warnings)
    return SUVVolume(array, space, calibration, series.series, (f"read {len(slices)} slices as {calibration.rule}",))


def _load(dataset: pydicom.Dataset) -> _Slice:
    rows, columns = int(number(dataset, "Rows") or 0), int(number(dataset, "Columns") or 0)
    frames = int(number(dataset, "NumberOfFrames") or 1)
    if rows * columns * frames > geometry.MAX_VOXELS:
        raise Refusal(Code.TOO_LARGE, f"one file announces {rows} × {columns} × {frames} voxels")
    if header.is_multi_frame(dataset):
        raise Refusal(Code.MULTI_FRAME, f"a file holds {frames} frames")
    if (number(dataset, "SamplesPerPixel") or 1) != 1:
        raise Refusal(Code.CORRUPT_FILE, "a slice has colours: SamplesPerPixel (0028,0002) is not 1")
    return _Slice(
        dataset,
        Plane(
            rows,
            columns,
            numbers(dataset, "PixelSpacing"),
            numbers(dataset, "ImageOrientationPatient"),
            numbers(dataset, "ImagePositionPatient"),
            number(dataset, "SliceThickness"),
            text(dataset, "FrameOfReferenceUID"),
        ),
    )


def _drop_copies(slices: Sequence[_Slice]) -> tuple[list[_Slice], tuple[Note, ...]]:
    """Keep one of slices that stand twice with the same pixels; refuse different ones at one position (rule 20)."""
    kept: list[_Slice] = []
    copies, conflicts = 0, []
    for slice_ in slices:
        if not kept or not geometry.same_position(kept[-1].along_mm, slice_.along_mm):
            kept.append(slice_)
        elif _image(slice_.dataset) == _image(kept[-1].dataset):
            copies += 1
        else:
            conflicts.append(slice_.along_mm)
    if conflicts:
        places = len({round(mm, 1) for mm in conflicts})
        text_ = f"{places} of {len(kept)} positions hold different slices, the first at {conflicts[0]:.2f} mm"
        raise Refusal(Code.NOT_STATIC if places == len(kept) else Code.SLICE_DUPLICATE, text_)
    note = Note(Code.SLICE_DUPLICATE, f"{copies} slices stood twice with the same pixels; one of each was used")
    return kept, (note,) if copies else ()


def _image(dataset: pydicom.Dataset) -> tuple[bytes, float | None]:
    return bytes(dataset.get("PixelData") or b""), number(dataset, "RescaleSlope")


def _missing_at_the_ends(slices: Sequence[_Slice]) -> tuple[Note, ...]:
    """A gap shows itself; slices missing at an end show only in NumberOfSlices (0054,0081)."""
    announced = number(slices[0].dataset, "NumberOfSlices")
    if announced is None or announced <= len(slices):
        return ()
    return (Note(Code.SLICE_GAP, f"{len(slices)} of {announced:.0f} announced slices are there; the ends are missing"),)


def _require_one_unit(slices: Sequence[_Slice]) -> None:
    for keyword in ("Units", "DecayCorrection", "SUVType"):
        values = {text(slice_.dataset, keyword) for slice_ in slices}
        if len(values) > 1:
            raise Refusal(Code.UNITS_UNSUPPORTED, f"{keyword} differs within the series: {', '.join(sorted(values))}")


def _stored_values(dataset: pydicom.Dataset) -> npt.NDArray[np.float64]:
    """Decoded stored values of one slice, before any slope."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    try:
        decoder = get_decoder(syntax)
    except Exception:
        raise Refusal(Code.CODEC_MISSING, f"transfer syntax {syntax} has no decoder", remedy=_UNCOMPRESSED) from None
    if not decoder.is_available:
        raise Refusal(Code.CODEC_MISSING, f"{syntax.name} needs one of {'; '.join(decoder.missing_dependencies)}")
    try:
        values = pixel_array(dataset)
    except Exception as error:  # decoders of foreign bytes have no closed set of errors
        raise Refusal(
            Code.CORRUPT_FILE, f"the pixel data of a slice cannot be decoded ({type(error).__name__})"
        ) from None
    if values.shape != (dataset.Rows, dataset.Columns):
        raise Refusal(
            Code.CORRUPT_FILE, f"a slice decodes to shape {values.shape}, not {dataset.Rows, dataset.Columns}"
        )
    return values.astype(np.float64)


_UNCOMPRESSED = "export the series uncompressed"
