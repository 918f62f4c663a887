"""Write masks as RT structure sets on the series that :mod:`twobe3.phantom.dicom_writer` writes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage, RTStructureSetStorage
from skimage.measure import find_contours

from twobe3.core.volume import Mask
from twobe3.io.files import write_atomic
from twobe3.phantom.dicom_writer import PETHeader, format_date_time, frame_of_reference_uid, make_dataset


def write_rtstruct(mask: Mask, path: Path, *, header: PETHeader) -> Path:
    """Write a mask as the one region of interest of a structure set.

    The polygons run half-way between voxel centres inside and outside, so filling them at voxel centres gives the mask
    back, with no centre near an edge. A hole is a polygon of its own: polygons of a slice combine by exclusive or.

    Parameters
    ----------
    mask : Mask
        On the voxels of the PET series; its name becomes the region's name.
    path : Path
        The file to write.
    header : PETHeader
        That the series was written with: study, series and slices are referenced by its UIDs.

    Returns
    -------
    Path
        The file.

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
    ds.StructureSetROISequence = [_region(mask, ds.FrameOfReferenceUID)]
    ds.ROIContourSequence = [_contours(mask, header)]
    ds.RTROIObservationsSequence = [_observation()]
    ds.ApprovalStatus = "UNAPPROVED"
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    write_atomic(path, buffer.getvalue())
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
    series = Dataset()
    series.SeriesInstanceUID = header.uid("series")
    series.ContourImageSequence = [_slice_reference(header, index) for index in range(mask.geometry.shape[0])]
    study = Dataset()
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, retired, as PS3.3 C.8.8.5 asks
    study.ReferencedSOPInstanceUID = header.uid("study")
    study.RTReferencedSeriesSequence = [series]
    item = Dataset()
    item.FrameOfReferenceUID = frame_of_reference_uid(mask.geometry, header)
    item.RTReferencedStudySequence = [study]
    return item


def _slice_reference(header: PETHeader, index: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = PositronEmissionTomographyImageStorage
    item.ReferencedSOPInstanceUID = header.uid("slice", index)
    return item


def _region(mask: Mask, frame: str) -> Dataset:
    item = Dataset()
    item.ROINumber = 1
    item.ReferencedFrameOfReferenceUID = frame
    item.ROIName = mask.name
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    return item


def _contours(mask: Mask, header: PETHeader) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = [255, 0, 0]
    item.ReferencedROINumber = 1
    item.ContourSequence = [
        _contour(mask.geometry.to_mm(np.insert(corners, 0, index, axis=1)), _slice_reference(header, index))
        for index in np.flatnonzero(mask.array.any(axis=(1, 2))).tolist()
        for corners in polygons(mask.array[index])
    ]
    return item


def _contour(corners_mm: npt.NDArray[np.float64], reference: Dataset) -> Dataset:
    item = Dataset()
    item.ContourImageSequence = [reference]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(corners_mm)
    item.ContourData = [f"{value:.4f}" for value in corners_mm.ravel()]
    return item


def _observation() -> Dataset:
    item = Dataset()
    item.ObservationNumber = 1
    item.ReferencedROINumber = 1
    item.RTROIInterpretedType = "GTV"
    item.ROIInterpreter = ""
    return item
