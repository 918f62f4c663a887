"""RTSTRUCT files for the tests, of nothing but what a reader needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

FRAME = "1.2.3.4"


def structure_set(
    path: Path, regions: Mapping[str, Sequence[npt.ArrayLike]], frame: str = FRAME, decimals: int = 6, **changes: Any
) -> Path:
    """A structure set of regions by name, each a list of contours in LPS mm, written with so many decimals."""
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    names, drawn = [], []
    for number, (name, polygons) in enumerate(regions.items(), 1):
        region, contours = Dataset(), Dataset()
        region.ROINumber, region.ROIName, region.ReferencedFrameOfReferenceUID = number, name, frame
        contours.ReferencedROINumber = number
        contours.ContourSequence = Items([_contour(points, decimals, **changes) for points in polygons])
        names.append(region)
        drawn.append(contours)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Items(names), Items(drawn)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def _contour(
    points: npt.ArrayLike, decimals: int, kind: str = "CLOSED_PLANAR", slab_mm: float | None = None
) -> Dataset:
    contour, values = Dataset(), np.asarray(points, dtype=np.float64).ravel()
    contour.ContourGeometricType, contour.ContourData = kind, [f"{value:.{decimals}f}"[:16] for value in values]
    contour.NumberOfContourPoints = len(values) // 3
    if slab_mm is not None:
        contour.ContourSlabThickness = slab_mm
    return contour
