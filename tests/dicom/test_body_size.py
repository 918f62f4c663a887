import pytest

from twobe3.core.errors import UnusableScanError
from twobe3.dicom import body_size as body


def test_known_values() -> None:
    # Du Bois table: 1.73 m² at 63 kg and 170 cm, the "standard" adult
    assert body.surface_m2(63.0, 170.0) == pytest.approx(1.73, abs=0.01)
    # by hand: 9270 / (6680 + 216 · 22) and 9270 / (8780 + 244 · 22)
    assert body.lean_mass_janmahasatian_kg("M", 22 * 1.8**2, 180.0) / (22 * 1.8**2) == pytest.approx(0.811, abs=1e-3)
    assert body.lean_mass_janmahasatian_kg("F", 22 * 1.6**2, 160.0) / (22 * 1.6**2) == pytest.approx(0.655, abs=1e-3)
    # at 152 cm the ideal weight is the intercept
    assert body.ideal_weight_kg("M", 99.0, 152.0) == 48.0
    assert body.ideal_weight_kg("F", 99.0, 152.0) == 45.5


@pytest.mark.parametrize("norm", list(body.NORMS.values()))
def test_other_sex_is_the_mean_of_both(norm: object) -> None:
    male, female, other = (norm(sex, 70.0, 175.0) for sex in "MFO")  # type: ignore[operator]
    assert other == pytest.approx((male + female) / 2)
    assert male != female


def test_unknown_sex_is_refused() -> None:
    with pytest.raises(UnusableScanError, match="SEX_MISSING"):
        body.lean_mass_james_kg("", 70.0, 175.0)


@pytest.mark.parametrize(
    ("weight", "height", "code"), [(2_000_000.0, 1.75, "WEIGHT"), (70.0, 0.1, "HEIGHT"), (70.0, 400.0, "HEIGHT")]
)
def test_what_is_no_person_is_refused(weight: float, height: float, code: str) -> None:
    with pytest.raises(UnusableScanError, match=f"{code}_IMPLAUSIBLE"):
        body.weight_and_height(weight, height)
    assert body.weight_and_height(70.0, 1.75).value == (70.0, 1.75)


@pytest.mark.parametrize(
    ("weight", "height", "kg"),
    [
        (850.0, None, None),  # grams of a preterm child, or pounds
        (700.0, 0.4, None),
        (350.0, 1.8, None),
        (2_000_000.0, 1.8, None),
        (1001.0, 1.75, None),  # no grams of an adult
        (7000.0, 175.0, None),
        (3200.0, 0.5, 3.2),
        (72_000.0, 1.75, 72.0),
        (0.07, None, 0.07),
    ],
)
def test_a_weight_of_no_person_is_refused_or_said(weight: float, height: float | None, kg: float | None) -> None:
    """Acceptance row 65."""
    if kg is None:
        with pytest.raises(UnusableScanError, match="WEIGHT_IMPLAUSIBLE"):
            body.weight_of_body_kg(weight, height)
        return
    found = body.weight_of_body_kg(weight, height)
    assert found.value == kg
    assert [repair.changes_value for repair in found.repairs] == [True]  # which the strict policy refuses


def test_a_height_in_another_unit_is_taken_with_a_word() -> None:
    for stated, unit in ((175.0, "centimetres"), (1750.0, "millimetres")):
        found = body.height_m(stated)
        assert found.value == 1.75
        assert [(one.changes_value, unit in one.text) for one in found.repairs] == [(True, True)]


@pytest.mark.parametrize(
    ("weight", "height", "said"),
    [
        (3.2, 0.5, 0), (0.85, 0.35, 0), (10.0, 0.75, 0), (35.0, 1.75, 0), (220.0, 1.7, 0), (70.0, 175.0, 0),
        (7.0, 1.75, 1), (280.0, 1.6, 1), (70.0, 0.69, 1), (70.0, 17.5, 1), (300.0, 0.2, 1),
    ],
)  # fmt: skip
def test_a_height_that_does_not_go_with_the_weight_is_said(weight: float, height: float, said: int) -> None:
    found = body.weight_of_body_kg(weight, height)
    assert (found.value, len(found.repairs)) == (weight, said)
    assert not any(repair.changes_value for repair in found.repairs)
