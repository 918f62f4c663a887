"""Weight, height, sex, and the norms by which SUV are divided (rules 17 to 19)."""

from __future__ import annotations

from collections.abc import Callable

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.dicom.attributes import Repair, WithRepairs

HEAVIEST_KG = 320.0
"""No table of a scanner carries more: PET/CT 227 to 250 kg, the strongest of CT 318 kg (700 pounds)."""

LIGHTEST_KG = 0.3
"""Infants below it don't survive their birth, and nobody scans them."""

_SHORTEST_M, _TALLEST_M = 0.2, 3.0
_LEAST_BMI, _LEAST_BMI_OF_INFANTS, _MOST_BMI = 8.0, 4.0, 80.0


def weight_kg(stated: float | None) -> WithRepairs[float]:
    """Body weight (rule 17). PatientWeight is in kilograms, DICOM PS3.3 C.7.2.2.

    Above 1000 it can only be grams. Raises ``WEIGHT_MISSING``; ``WEIGHT_IMPLAUSIBLE``: no person weighs that, and it
    may be kilograms, grams or pounds.
    """
    if stated is None or not stated > 0:
        raise UnusableScanError(Code.WEIGHT_MISSING, f"PatientWeight (0010,1030) is {_format(stated)}")
    kg = stated / 1000 if stated > 1000 else stated
    if not kg <= HEAVIEST_KG:
        raise UnusableScanError(
            Code.WEIGHT_IMPLAUSIBLE,
            f"PatientWeight (0010,1030) is {stated:g}: that is {stated / 1000:g} kg if it is in grams, "
            f"{stated * 0.45359237:.4g} kg if in pounds, and nobody's weight in kg",
        )
    if stated > 1000:
        return WithRepairs(kg, (Repair(Code.WEIGHT_IMPLAUSIBLE, f"PatientWeight {stated:g} taken as grams"),))
    if kg < LIGHTEST_KG:
        text = f"PatientWeight {stated:g} kg is no person's; taken as it stands"
        return WithRepairs(kg, (Repair(Code.WEIGHT_IMPLAUSIBLE, text),))
    return WithRepairs(kg)


def weight_of_body_kg(weight: float | None, height: float | None) -> WithRepairs[float]:
    """Body weight, and a note where the height, if there is one, does not go with it.

    The note is given below a body mass index of 8 kg/m² (4 below a height of 1 m) or above 80, bounds of ours: what is
    a tenth or ten times the weight shows so, and pounds or inches in small or large people. Raises what
    :func:`weight_kg` raises; ``WEIGHT_IMPLAUSIBLE`` too where only a guess of grams leads there.
    """
    kg = weight_kg(weight)
    try:
        m = height_m(height).value
    except UnusableScanError:
        return kg
    bmi = kg.value / m / m  # absurd heights have no square
    if (_LEAST_BMI if m >= 1 else _LEAST_BMI_OF_INFANTS) <= bmi <= _MOST_BMI:
        return kg
    text = f"{kg.value:g} kg at {m:g} m is a body mass index of {bmi:.3g} kg/m²"
    if kg.value != weight and _SHORTEST_M <= m <= _TALLEST_M:
        raise UnusableScanError(Code.WEIGHT_IMPLAUSIBLE, f"PatientWeight (0010,1030) {weight:g}, if in grams: {text}")
    return WithRepairs(kg.value, (*kg.repairs, Repair(Code.WEIGHT_IMPLAUSIBLE, text, changes_value=False)))


def height_m(stated: float | None) -> WithRepairs[float]:
    """Body height (rule 18). PatientSize is in metres, DICOM PS3.3 C.7.2.2.

    Above 3 it can only be centimetres, above 1000 only millimetres.

    Raises ``HEIGHT_MISSING``.
    """
    if stated is None or not stated > 0:
        raise UnusableScanError(Code.HEIGHT_MISSING, f"PatientSize (0010,1020) is {_format(stated)}")
    for above, unit, per_metre in ((1000, "millimetres", 1000), (3, "centimetres", 100)):
        if stated > above:
            repair = Repair(Code.HEIGHT_IMPLAUSIBLE, f"PatientSize {stated:g} taken as {unit}")
            return WithRepairs(stated / per_metre, (repair,))
    return WithRepairs(stated)


def lean_mass_james_kg(sex: str, weight_kg: float, height_cm: float) -> float:
    """Lean body mass of James, 128 for men (LBMJAMES128 in DICOM PS3.16 CID 85).

    James WPT. *Research on obesity*. HMSO, London 1976.
    """
    squared = (weight_kg / height_cm) ** 2
    return _choose_by_sex(sex, male=1.10 * weight_kg - 128 * squared, female=1.07 * weight_kg - 148 * squared)


def lean_mass_morgan_kg(sex: str, weight_kg: float, height_cm: float) -> float:
    """Lean body mass as SUVType LBM means it: James' equation with 120 for men.

    Morgan DJ, Bray KM. *Clin Pharmacokinet* 26:292–307, 1994.
    """
    squared = (weight_kg / height_cm) ** 2
    return _choose_by_sex(sex, male=1.10 * weight_kg - 120 * squared, female=1.07 * weight_kg - 148 * squared)


def lean_mass_janmahasatian_kg(sex: str, weight_kg: float, height_cm: float) -> float:
    """Lean body mass of Janmahasatian (LBMJANMA).

    Janmahasatian S et al. *Clin Pharmacokinet* 44:1051–1065, 2005.
    """
    bmi, grams = weight_kg / (height_cm / 100) ** 2, 9270 * weight_kg
    return _choose_by_sex(sex, male=grams / (6680 + 216 * bmi), female=grams / (8780 + 244 * bmi))


def ideal_weight_kg(sex: str, weight_kg: float, height_cm: float) -> float:
    """Ideal body weight (IBW). The weight itself plays no part.

    Sugawara Y et al. *Radiology* 213:521–525, 1999.
    """
    above_cm = height_cm - 152
    return _choose_by_sex(sex, male=48.0 + 1.06 * above_cm, female=45.5 + 0.91 * above_cm)


def surface_m2(weight_kg: float, height_cm: float) -> float:
    """Body surface area. Du Bois D, Du Bois EF. *Arch Intern Med* 17:863–871, 1916."""
    return float(0.007184 * height_cm**0.725 * weight_kg**0.425)


NORMS: dict[str, Callable[[str, float, float], float]] = {
    "LBM": lean_mass_morgan_kg,
    "LBMJAMES128": lean_mass_james_kg,
    "LBMJANMA": lean_mass_janmahasatian_kg,
    "IBW": ideal_weight_kg,
}
"""SUVType (0054,1006) of a GML series → its norm in kg, of sex, weight in kg and height in cm."""


def weight_and_height(weight: float | None, height: float | None) -> WithRepairs[tuple[float, float]]:
    """Weight in kg and height in m, as far as they are those of a person in some unit.

    Raises ``WEIGHT_MISSING``, ``HEIGHT_MISSING``, ``WEIGHT_IMPLAUSIBLE``, ``HEIGHT_IMPLAUSIBLE``.
    """
    kg, m = weight_of_body_kg(weight, height), height_m(height)
    if not _SHORTEST_M <= m.value <= _TALLEST_M:
        raise UnusableScanError(Code.HEIGHT_IMPLAUSIBLE, f"PatientSize (0010,1020) would be {m.value:g} m")
    return WithRepairs((kg.value, m.value), kg.repairs + m.repairs)


def norm_kg(kind: str, sex: str, weight_kg: float, height_m: float) -> float:
    """One of :data:`NORMS`. Raises ``SEX_MISSING``; ``WEIGHT_IMPLAUSIBLE``: it is not positive.

    James' and Morgan's equations fall below 0 for very heavy, short people, and the ideal weight for small ones.
    """
    norm = NORMS[kind](sex, weight_kg, height_m * 100)
    if norm <= 0:
        raise UnusableScanError(Code.WEIGHT_IMPLAUSIBLE, f"{kind} is {norm:.1f} kg for this weight and height")
    return norm


def _choose_by_sex(sex: str, *, male: float, female: float) -> float:
    """Rule 18: M, F, or for O the mean of both."""
    match sex:
        case "M":
            return male
        case "F":
            return female
        case "O":
            return (male + female) / 2
    raise UnusableScanError(Code.SEX_MISSING, f"PatientSex (0010,0040) is {sex!r}, not M, F or O")


def _format(value: float | None) -> str:
    return "absent" if value is None else f"{value:g}"
