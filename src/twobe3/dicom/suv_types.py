"""SUV normalised by something else than body weight: a pure function from SUV by body weight to each other type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import SUVVolume
from twobe3.dicom import body_size
from twobe3.dicom.attributes import Policy, WithRepairs, apply_policy
from twobe3.dicom.reader import number, quietly, read_dataset, text
from twobe3.dicom.series import PETSeries
from twobe3.dicom.slices import refuse_copies

SUVType = Literal["bw", "lbm-james", "lbm-morgan", "lbm-janma", "ibw", "bsa"]
"""By body weight; by lean body mass of James, Morgan, Janmahasatian; by ideal body weight; by body surface."""

SUV_TYPES: tuple[SUVType, ...] = get_args(SUVType)

_NORMS: Mapping[SUVType, str] = {"lbm-james": "LBMJAMES128", "lbm-morgan": "LBM", "lbm-janma": "LBMJANMA", "ibw": "IBW"}


@dataclass(frozen=True)
class BodyMeasurements:
    """What the norms need to know of a patient, as the header says it: before any check or repair.

    Attributes
    ----------
    weight, height : float or None
        PatientWeight (0010,1030) and PatientSize (0010,1020).
    sex : str
        PatientSex (0010,0040).
    """

    weight: float | None = None
    height: float | None = None
    sex: str = ""


def read_body_measurements(series: PETSeries) -> BodyMeasurements:
    """What the first header of a series says of the patient.

    Raises ``CORRUPT_FILE``; ``INSTANCE_CONFLICT``: a copy of that file says something else.
    """
    path = series.files[0]
    found = _read_body(path)
    for copy in series.copies.get(path, ()):
        try:
            other = _read_body(copy)
        except UnusableScanError:  # of a copy that was cut short nothing is taken
            continue
        differ = [name for name, value in vars(other).items() if value and value != getattr(found, name)]
        if differ:
            raise refuse_copies(differ)
    return found


def _read_body(path: Path) -> BodyMeasurements:
    with quietly():
        dataset = read_dataset(path)
        return BodyMeasurements(
            number(dataset, "PatientWeight"), number(dataset, "PatientSize"), text(dataset, "PatientSex")
        )


def norm_per_weight(suv_type: SUVType, body: BodyMeasurements) -> WithRepairs[float]:
    """What SUV by body weight are multiplied by to give another type (rules 4 and 5, inverted).

    SUV by mass = SUVbw × norm / weight, both in kg; SUV by surface, in cm²/ml, = SUVbw × 10 · BSA / weight, with BSA
    in m² and the weight in kg (DICOM PS3.3 C.8.9.1.1.3; PS3.16 CID 85). Raises ``WEIGHT_MISSING``,
    ``HEIGHT_MISSING``, ``SEX_MISSING``; ``WEIGHT_IMPLAUSIBLE``, also when the norm is not positive;
    ``HEIGHT_IMPLAUSIBLE``. None of them for ``"bw"``.
    """
    if suv_type == "bw":
        return WithRepairs(1.0)
    measured = body_size.weight_and_height(body.weight, body.height)
    weight_kg, height_m = measured.value
    if suv_type == "bsa":
        norm = 10 * body_size.surface_m2(weight_kg, height_m * 100)
    else:
        norm = body_size.norm_kg(_NORMS[suv_type], body.sex, weight_kg, height_m)
    return WithRepairs(norm / weight_kg, measured.repairs)


def to_suv_type(
    volume: SUVVolume, suv_type: SUVType, body: BodyMeasurements, *, policy: Policy = "lenient"
) -> SUVVolume:
    """Convert a scan from SUV by body weight to another type; ``"bw"`` gives the volume itself.

    The calibration of the result records the type, the inputs, the factor and every repair.

    Parameters
    ----------
    volume : SUVVolume
        SUV by body weight.
    suv_type : str
        One of :data:`SUV_TYPES`.
    body : BodyMeasurements
    policy : {"lenient", "strict"}
        Whether a weight in grams and a height in centimetres are repaired and recorded, or refused.

    Raises
    ------
    UnusableScanError
        ``SUV_TYPE_UNSUPPORTED``: the volume is not by body weight; or a code of :func:`norm_per_weight`.
    """
    if volume.calibration.type != "bw":
        reason = f"the volume is SUV {volume.calibration.type}, not by body weight"
        raise UnusableScanError(Code.SUV_TYPE_UNSUPPORTED, reason)
    if suv_type == "bw":
        return volume
    factor = norm_per_weight(suv_type, body)
    warnings = dict.fromkeys((*volume.calibration.warnings, *apply_policy(factor.repairs, policy)))
    calibration = replace(
        volume.calibration,
        type=suv_type,
        weight_kg=body_size.weight_kg(body.weight).value,
        height_m=body_size.height_m(body.height).value,
        sex=None if suv_type == "bsa" else body.sex,
        per_bw=factor.value,
        warnings=tuple(warnings),
    )
    repair = f"SUV by body weight × {factor.value:.6g} = SUV {suv_type}"
    array = volume.array * factor.value
    return replace(volume, array=array, calibration=calibration, history=(*volume.history, repair))
