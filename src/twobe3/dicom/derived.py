"""DICOM objects made from a scan: parametric maps and segmentations on its voxels, in its patient's study.

They carry who the patient is and which study it was, and nothing else of the source; UIDs of series and object are new
each time; all are marked as research. highdicom makes them from headers that are written anew here: what real exports
break, a date with dots or a sex of three letters, it would refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.printable import keep_printable
from twobe3.core.volume import Geometry
from twobe3.dicom import enhanced
from twobe3.dicom.clock import parse_date, parse_time
from twobe3.dicom.reader import numbers, quietly, read_dataset, refuse_errors, text
from twobe3.dicom.series import PETSeries

RESEARCH = "research use only"
MAKER = "twobe3"
SCHEME = "99TWOBE3"  # of private codes, DICOM PS3.3 8.2
_NAMES = ("PatientID", "PatientName", "ReferringPhysicianName")  # never cut: two patients could become one
_LABELS = ("StudyID", "AccessionNumber", "PositionReferenceIndicator")
_LONGEST_LABEL = 16  # characters of SH, DICOM PS3.5 6.2
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
_SEXES = ("M", "F", "O")
_CATEGORY = hd.sr.CodedConcept("309825002", "SCT", "Spatial and Relational Concept")  # PS3.16 CID 7150
REGION = hd.sr.CodedConcept("MODEL_REGION", SCHEME, "Region that a model looks at")  # and no finding
_NOT_MADE = "no DICOM object can be made of what the headers say"


@dataclass(frozen=True, eq=False)
class Source:
    """What DICOM objects made from a scan say of it.

    Attributes
    ----------
    images : tuple of Dataset
        One for each slice of the volume, in its order, or one enhanced object: patient, study and place; no pixels.
    geometry : Geometry
        Of the volume.
    """

    images: tuple[Dataset, ...]
    geometry: Geometry

    @cached_property
    def planes(self) -> dict[str, Any]:
        """Spacing, orientation and positions of the slices, as highdicom takes them."""
        shared = _shared_groups(self.geometry)
        return {
            "pixel_measures": shared.PixelMeasuresSequence,
            "plane_orientation": shared.PlaneOrientationSequence,
            "plane_positions": [_position(self.geometry, i) for i in range(self.geometry.shape[0])],
        }


def read_source(series: PETSeries, geometry: Geometry) -> Source:
    """Read from the headers of a series what objects made from it must say.

    Parameters
    ----------
    series : PETSeries
    geometry : Geometry
        Of the volume that the series became.

    Raises
    ------
    UnusableScanError
        ``NO_DICOM_SOURCE``: a header lacks the UID of study, series, class or object, so nothing can refer to it.
        ``CORRUPT_FILE``: a file can't be read any more, or none has a certain slice.
    """
    wanted = set(series.files) if series.chosen is None else {path for path, _ in series.chosen.slices}
    images: dict[int, Dataset] = {}
    shared = _shared_groups(geometry)
    with quietly(), refuse_errors("the headers of the scan can't be read again"):
        for path in filter(wanted.__contains__, series.files):
            dataset = read_dataset(path)
            if enhanced.is_multi_frame(dataset):
                return Source((_describe_frames(dataset, geometry),), geometry)
            place = _find_slice(dataset, geometry)
            images.setdefault(place, _describe(dataset, geometry, place, shared))
    missing = [i for i in range(geometry.shape[0]) if i not in images]
    if missing:
        raise UnusableScanError(Code.CORRUPT_FILE, f"no file has slice {missing[0] + 1} of {geometry.shape[0]}")
    return Source(tuple(images[i] for i in range(geometry.shape[0])), geometry)


def make_parametric_map(
    source: Source, values: npt.NDArray[np.float32], *, label: str, meaning: str, model_digest: str = ""
) -> bytes:
    """Make a DICOM Parametric Map of what each voxel of a scan adds to a risk.

    Parameters
    ----------
    source : Source
    values : ndarray of float32, shape of the source's geometry
    label : str
        Of the series, for instance the model and its endpoint.
    meaning : str
        What a value is, with its unit.
    model_digest : str
        Digest of the model file, which stands for the serial number of the device.

    Returns
    -------
    bytes
        A DICOM file (PS3.3 A.75), in float32.

    Raises
    ------
    UnusableScanError
        ``CORRUPT_FILE``: the headers contradict each other.
    """
    reach = float(np.abs(values).max()) or 1.0
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="RISK", lut_explanation=meaning[:64], unit=codes.UCUM.NoUnits, value_range=(-reach, reach),
        slope=1.0, intercept=0.0, quantity_definition=hd.sr.CodedConcept("RISKMAP", SCHEME, "Contribution to a risk"),
    )  # fmt: skip
    window = hd.VOILUTTransformation(0.0, 2 * reach, voi_lut_function=hd.VOILUTFunctionValues.LINEAR_EXACT)
    with quietly(), refuse_errors(_NOT_MADE):  # a name of one component is one
        made = hd.pm.ParametricMap(
            source.images, np.ascontiguousarray(values, dtype=np.float32), real_world_value_mappings=[mapping],
            voi_lut_transformations=[window], contains_recognizable_visual_features=False,
            content_label="RISKMAP", **source.planes, **about(label, 901, model_digest),
        )  # fmt: skip
    made.Laterality = made.ContentCreatorName = ""  # of type 2 in PS3.3 C.7.3.1 and C.8.32.2, and not filled in
    return encode(made)


def make_segmentation(
    source: Source, mask: npt.NDArray[np.bool_], *, label: str, region: str, model_digest: str = ""
) -> bytes:
    """Make a DICOM Segmentation with one segment.

    Parameters
    ----------
    source : Source
    mask : ndarray of bool, shape of the source's geometry
        With at least one voxel.
    label : str
        Of the series.
    region : str
        Name of the segment.
    model_digest : str
        As for :func:`make_parametric_map`.

    Returns
    -------
    bytes
        A DICOM file (PS3.3 A.51), binary.

    Raises
    ------
    ValueError
        The mask is empty.
    """
    if not mask.any():
        raise ValueError("a segmentation needs a voxel")
    algorithm = hd.AlgorithmIdentificationSequence(
        name=MAKER, family=codes.cid7162.ArtificialIntelligence, version=__version__, source=MAKER
    )
    segment = hd.seg.SegmentDescription(
        1, region[:64], _CATEGORY, REGION,
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm, tracking_uid=new_uid(), tracking_id=region[:64],
    )  # fmt: skip
    with quietly(), refuse_errors(_NOT_MADE):
        made = hd.seg.Segmentation(
            source.images, mask.astype(np.uint8), hd.seg.SegmentationTypeValues.BINARY, [segment],
            omit_empty_frames=False,  # where frames lack, dcm2niix and SimpleITK close up what is left
            content_label="REGION", **source.planes, **about(label, 902, model_digest),
        )  # fmt: skip
    return encode(made)


def _describe(dataset: Dataset, geometry: Geometry, place: int, shared: Dataset) -> Dataset:
    """The header of a slice, with what is needed of it, valid."""
    made = _describe_object(dataset, geometry)
    made.ImagePositionPatient = _position(geometry, place)[0].ImagePositionPatient
    made.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    made.PixelSpacing = shared.PixelMeasuresSequence[0].PixelSpacing
    made.SliceThickness = shared.PixelMeasuresSequence[0].SliceThickness
    return made


def _describe_frames(dataset: Dataset, geometry: Geometry) -> Dataset:
    """The header of an enhanced object, with what is needed of it, valid."""
    made = _describe_object(dataset, geometry)
    frames = enhanced.split_frames(dataset)
    made.NumberOfFrames = len(frames)
    made.SharedFunctionalGroupsSequence = [_shared_groups(geometry)]
    made.PerFrameFunctionalGroupsSequence = [Dataset() for _ in frames]
    for frame, group in zip(frames, made.PerFrameFunctionalGroupsSequence, strict=True):
        group.PlanePositionSequence = _position(geometry, _find_slice(frame, geometry))
    return made


def _describe_object(dataset: Dataset, geometry: Geometry) -> Dataset:
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _NAMES:
        setattr(made, keyword, keep_printable(text(dataset, keyword)))
    for keyword in _LABELS:
        setattr(made, keyword, keep_printable(text(dataset, keyword))[:_LONGEST_LABEL])
    for keyword in _UIDS:
        uid = text(dataset, keyword)
        if not uid:
            raise UnusableScanError(Code.NO_DICOM_SOURCE, f"a file has no {keyword}")
        setattr(made, keyword, UID(uid))
    made.FrameOfReferenceUID = geometry.frame_of_reference or generate_uid(entropy_srcs=[str(made.SeriesInstanceUID)])
    born, day, hour = text(dataset, "PatientBirthDate"), text(dataset, "StudyDate"), text(dataset, "StudyTime")
    made.PatientBirthDate, made.StudyDate = (_write_date(one) for one in (born, day))
    clock = parse_time(hour)
    made.StudyTime = clock.strftime("%H%M%S") if clock else ""
    sex = text(dataset, "PatientSex").upper()
    made.PatientSex = sex if sex in _SEXES else ""
    made.Modality = "PT"
    _, made.Rows, made.Columns = geometry.shape
    return made


def _write_date(value: str) -> str:
    day = parse_date(value)
    return day.strftime("%Y%m%d") if day else ""


def _find_slice(frame: Dataset, geometry: Geometry) -> int:
    return round(float(geometry.to_index(numbers(frame, "ImagePositionPatient"))[0]))


def _position(geometry: Geometry, place: int) -> hd.PlanePositionSequence:
    x, y, z = geometry.to_mm((place, 0, 0)).tolist()
    return hd.PlanePositionSequence(hd.CoordinateSystemNames.PATIENT, (x, y, z))


def _shared_groups(geometry: Geometry) -> Dataset:
    """Spacing and orientation of the slices, as an enhanced object says them for all its frames."""
    between, down, across = (round(mm, 6) for mm in geometry.spacing_mm)  # without what an oblique affine adds
    axes = geometry.affine[:3, :3] / geometry.spacing_mm
    cosines = [*axes[:, 2], *axes[:, 1]]  # along a row, then down a column
    groups = Dataset()
    groups.PixelMeasuresSequence = hd.PixelMeasuresSequence((down, across), between, between)
    groups.PlaneOrientationSequence = hd.PlaneOrientationSequence(hd.CoordinateSystemNames.PATIENT, cosines)
    return groups


def about(label: str, number: int, model_digest: str) -> dict[str, Any]:
    """What every object says of itself, as highdicom takes it; ``number`` is that of its series."""
    return {
        "series_instance_uid": new_uid(), "series_number": number, "sop_instance_uid": new_uid(),
        "instance_number": 1, "manufacturer": MAKER, "manufacturer_model_name": MAKER,
        "software_versions": __version__, "device_serial_number": model_digest[:64] or __version__,
        "series_description": f"{RESEARCH}: {label}"[:64],
    }  # fmt: skip


def new_uid() -> str:
    """A UID that nobody had."""
    return str(generate_uid(prefix=None))


def encode(made: Dataset) -> bytes:
    """An object as a file."""
    stream = BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
