"""Write masks as RT structure sets on the series that :mod:`twobe3.phantom.dicom_writer` writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage, RTStructureSetStorage
from skimage.measure import find_contours

from twobe3.core.volume import Mask
from twobe3.io.files import write_atomic
from twobe3.phantom.dicom_writer import (
    PETHeader,
    encode,
    format_date_time,
    frame_of_reference_uid,
    make_dataset,
    make_item,
)


def write_rtstruct(mask: Mask, path: Path, *, header: PETHeader) -> Path:
    """Write a mask as the one region of a structure set that references the series written with ``header``.

    The polygons run half-way between voxel centres inside and outside, so filling them at voxel centres gives the mask
    back, with no centre near an edge. A hole is a polygon of its own within the outer one.

    Raises
    ------
    ValueError
        The mask is empty.
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    if not mask.array.any():
        raise ValueError("an empty mask has no contours to write")
    ds = make_dataset(RTStructureSetStorage, header.uid("structure set"), header)
    ds.Modality = "RTSTRUCT"
    ds.Manufacturer = "twobe3"
    ds.SeriesInstanceUID = header.uid("structure set series")
    ds.SeriesNumber = 2
    ds.OperatorsName = ""
    ds.FrameOfReferenceUID = frame_of_reference_uid(mask.geometry, header)
    ds.StructureSetLabel = mask.name[:16] or "REGION"
    ds.StructureSetDate, ds.StructureSetTime = format_date_time(header.started)
    ds.ReferencedFrameOfReferenceSequence = [_frame_reference(mask, header)]
    region = make_item(
        ROINumber=1, ReferencedFrameOfReferenceUID=ds.FrameOfReferenceUID, ROIName=mask.name,
        ROIGenerationAlgorithm="AUTOMATIC",
    )  # fmt: skip
    ds.StructureSetROISequence = [region]
    ds.ROIContourSequence = [_contours(mask, header)]
    ds.RTROIObservationsSequence = [
        make_item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="GTV", ROIInterpreter="")
    ]
    ds.ApprovalStatus = "UNAPPROVED"
    write_atomic(path, encode(ds))
    return path


def polygons(plane: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.float64]]:
    """Closed polygons around the True pixels of a plane.

    Yields
    ------
    ndarray of float64, shape (n, 2)
        Corners as (row, column), pixel centres at whole numbers; the first corner is not repeated.
    """
    for outline in find_contours(np.pad(plane, 1).astype(np.float64), 0.5):
        yield outline[:-1] - 1.0


def _frame_reference(mask: Mask, header: PETHeader) -> Dataset:
    series = make_item(
        SeriesInstanceUID=header.uid("series"),
        ContourImageSequence=[_slice_reference(header, index) for index in range(mask.geometry.shape[0])],
    )
    study = make_item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",  # Detached Study Management, retired, as PS3.3 C.8.8.5 asks
        ReferencedSOPInstanceUID=header.uid("study"),
        RTReferencedSeriesSequence=[series],
    )
    frame = frame_of_reference_uid(mask.geometry, header)
    return make_item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])


def _slice_reference(header: PETHeader, index: int) -> Dataset:
    return make_item(
        ReferencedSOPClassUID=PositronEmissionTomographyImageStorage,
        ReferencedSOPInstanceUID=header.uid("slice", index),
    )


def _contours(mask: Mask, header: PETHeader) -> Dataset:
    contours = [
        make_item(
            ContourImageSequence=[_slice_reference(header, index)],
            ContourGeometricType="CLOSED_PLANAR",
            NumberOfContourPoints=len(corners),
            ContourData=[f"{mm:.4f}" for mm in mask.geometry.to_mm(np.insert(corners, 0, index, axis=1)).ravel()],
        )
        for index in np.flatnonzero(mask.array.any(axis=(1, 2))).tolist()
        for corners in polygons(mask.array[index])
    ]
    return make_item(ROIDisplayColor=[255, 0, 0], ReferencedROINumber=1, ContourSequence=contours)
