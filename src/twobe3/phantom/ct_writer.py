"""Write Hounsfield units as the CT series that belongs to a PET series of :mod:`~twobe3.phantom.dicom_writer`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.uid import CTImageStorage

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.core.volume import CTVolume
from twobe3.phantom.dicom_writer import (
    PETHeader,
    encode,
    format_date_time,
    frame_of_reference_uid,
    make_dataset,
    set_plane,
    set_scanner,
)

INTERCEPT_HU = -1024


def write_ct_series(ct: CTVolume, folder: Path, *, header: PETHeader) -> list[Path]:
    """Write a CT as the attenuation CT of a PET with this header: one patient, study and frame of reference.

    HU are stored as whole numbers from -1024 up. Files of the same names are replaced; returns them in the order of the
    slices.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    ds = make_dataset(CTImageStorage, header.uid("ct slice"), header)
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    set_scanner(ds, header)
    ds.StudyDescription, ds.SeriesDescription, ds.BodyPartExamined = "PET whole body", "AC CT", "WHOLEBODY"
    ds.SeriesInstanceUID, ds.SeriesNumber = header.uid("ct series"), 2
    ds.SeriesDate, ds.SeriesTime = ds.AcquisitionDate, ds.AcquisitionTime = format_date_time(header.started)
    ds.PatientPosition = "HFS"
    ds.AcquisitionNumber, ds.KVP, ds.ConvolutionKernel, ds.GantryDetectorTilt = 1, "120", "STANDARD", "0"
    ds.FrameOfReferenceUID = frame_of_reference_uid(ct.geometry, header)
    set_plane(ds, ct.geometry)
    ds.PixelRepresentation = 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", str(INTERCEPT_HU), "HU"
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, hu in enumerate(ct.array):
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = header.uid("ct slice", index)
            ds.InstanceNumber = index + 1
            ds.ImagePositionPatient = [f"{value:.6g}" for value in ct.geometry.to_mm((index, 0, 0))]
            ds.PixelData = np.clip(np.rint(hu - INTERCEPT_HU), 0, 65535).astype("<u2").tobytes()
            ds["PixelData"].VR = "OW"
            paths.append(folder / f"{index + 1:04d}.dcm")
            paths[-1].write_bytes(encode(ds))
    except OSError as error:
        raise EnvironmentFailure(Code.WRITE_FAILED, f"a CT slice could not be written: {error.strerror}") from error
    return paths
