"""What was injected: several injections, and doses that nobody injects."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from tests.dicom.attributes import ATTRIBUTES
from tests.dicom.test_enhanced import enhanced, item

from twobe3.core.errors import UnusableScanError
from twobe3.dicom.attributes import Injection
from twobe3.dicom.suv import calibrate

F18 = 6586.2
FIRST = Injection(1e8, F18, "C-111A1", "20240301100000", "100000")
SECOND = Injection(2.5e8, F18, "C-111A1", "20240301103000", "103000")


def factor(*injections: Injection, policy: Any = "lenient", **changes: Any) -> tuple[float, list[str]]:
    """Of a scan at 11:00, and the codes of what is said."""
    first, *further = injections
    found = calibrate(replace(ATTRIBUTES, **vars(first), further=tuple(further), **changes), policy=policy)
    return float(found.per_slice[0]), [warning.split(":")[0] for warning in found.calibration.warnings]


def left_bq(*injections: tuple[float, float]) -> float:
    """What is left of doses in Bq after so many seconds, by the law of decay."""
    return sum(dose * 2 ** (-seconds / F18) for dose, seconds in injections)


@pytest.mark.parametrize("policy", ["lenient", "strict"])
def test_the_activities_of_one_nuclide_add_up(policy: str) -> None:
    """Acceptance row 62."""
    right = 70e3 / left_bq((1e8, 3600), (2.5e8, 1800))
    for injections in ((FIRST, SECOND), (SECOND, FIRST)):
        assert factor(*injections, policy=policy) == (pytest.approx(right), ["SEVERAL_INJECTIONS"])
    third = replace(FIRST, dose=5e7, start_datetime="", start_time="104500", nuclide="77004003", half_life_s=6588.0)
    right = 70e3 / left_bq((1e8, 3600), (2.5e8, 1800), (5e7, 900))
    assert factor(FIRST, SECOND, third)[0] == pytest.approx(right)
    late = replace(SECOND, start_datetime="20240301110020")  # the second one while the scan runs
    assert factor(FIRST, late)[0] == pytest.approx(70e3 / left_bq((1e8, 3600), (2.5e8, -20)))


def test_the_calibration_records_the_sum() -> None:
    said = calibrate(replace(ATTRIBUTES, **vars(FIRST), further=(SECOND,))).calibration
    assert said.injected_dose_bq == 3.5e8
    assert said.decay_factor == pytest.approx(left_bq((1e8, 3600), (2.5e8, 1800)) / 3.5e8)


def test_uncorrected_frames_see_every_injection() -> None:
    once, twice = (
        factor(*injections, decay_correction="NONE", corrections=("ATTN",))[0]
        for injections in ((FIRST,), (FIRST, SECOND))
    )
    assert once / twice == pytest.approx(left_bq((1e8, 3600), (2.5e8, 1800)) / left_bq((1e8, 3600)))


@pytest.mark.parametrize(
    "other",
    [
        {"half_life_s": 4057.0, "nuclide": "C-131A3"},
        {"half_life_s": 4057.0, "nuclide": ""},
        {"nuclide": "C-131A3"},
        {"half_life_s": None, "nuclide": "35337001"},
    ],
)
def test_several_nuclides_are_refused(other: dict[str, Any]) -> None:
    for injections in ((FIRST, replace(SECOND, **other)), (replace(SECOND, **other), FIRST)):
        for correction in ("START", "ADMIN"):
            with pytest.raises(UnusableScanError, match="SEVERAL_INJECTIONS"):
                factor(*injections, decay_correction=correction)


@pytest.mark.parametrize(
    "copied",
    [
        FIRST,
        replace(FIRST, nuclide="77004003"),
        replace(FIRST, start_time=""),
        replace(FIRST, start_datetime=""),
        Injection(),
    ],
)
def test_an_injection_that_is_written_twice_counts_once(copied: Injection) -> None:
    for injections in ((FIRST, copied), (copied, FIRST), (FIRST, FIRST, copied)):
        assert factor(*injections) == (
            pytest.approx(70e3 / left_bq((1e8, 3600))),
            pytest.approx(factor(*injections)[1]),
        )
        assert set(factor(*injections)[1]) == {"SEVERAL_INJECTIONS"}
        with pytest.raises(UnusableScanError, match="SEVERAL_INJECTIONS"):
            factor(*injections, policy="strict")


@pytest.mark.parametrize(
    ("missing", "code"),
    [({"dose": None}, "DOSE_MISSING"), ({"start_datetime": "", "start_time": ""}, "TIMES_MISSING")],
)
def test_a_second_injection_that_lacks_a_value_is_refused(missing: dict[str, Any], code: str) -> None:
    for injections in ((FIRST, replace(SECOND, **missing)), (replace(SECOND, **missing), FIRST)):
        with pytest.raises(UnusableScanError, match=code):
            factor(*injections, ge_injection_datetime="20240301100000.00")
    assert factor(FIRST, replace(SECOND, half_life_s=None))[0] == factor(FIRST, SECOND)[0]


def test_activity_at_one_of_several_injections_is_refused() -> None:
    """ADMIN: at which of them? Two syringes at one time are no question."""
    with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):
        factor(FIRST, SECOND, decay_correction="ADMIN")
    together = replace(FIRST, dose=2.5e8)
    assert factor(FIRST, together, decay_correction="ADMIN")[0] == pytest.approx(70e3 / 3.5e8)


def test_suv_of_the_scanner_does_not_ask_for_injections() -> None:
    assert factor(FIRST, replace(SECOND, nuclide="C-131A3"), units="GML")[0] == 1


def items_of(dataset: Dataset, *doses: tuple[float, str, int]) -> Items:
    template = dataset.RadiopharmaceuticalInformationSequence[0]
    found = []
    for dose, start, agent in doses:
        one = copy.deepcopy(template)
        one.RadionuclideTotalDose, one.RadiopharmaceuticalStartDateTime = dose, start
        one.RadiopharmaceuticalAgentNumber = agent
        found.append(one)
    return Items(found)


def test_several_injections_in_files(bench: Any) -> None:
    once = bench.read(bench.slices())
    slices = bench.slices()
    for dataset in slices:
        both = items_of(dataset, (1e8, "20240301100000", 1), (2.7e8, "20240301103000", 2))
        dataset.RadiopharmaceuticalInformationSequence = both
    right = left_bq((3.7e8, 3600)) / left_bq((1e8, 3600), (2.7e8, 1800))
    assert bench.read(slices).array.max() / once.array.max() == pytest.approx(right)
    multi_frame = enhanced(slices)
    assert bench.read([multi_frame]).array.max() / once.array.max() == pytest.approx(right)
    # of two tracers in one enhanced object, its frames say which they show
    multi_frame.RadiopharmaceuticalInformationSequence[0].RadionuclideHalfLife = 4057
    with pytest.raises(UnusableScanError, match="SEVERAL_INJECTIONS"):
        bench.read([multi_frame])
    shared = multi_frame.SharedFunctionalGroupsSequence[0]
    shared.RadiopharmaceuticalUsageSequence = Items([item(RadiopharmaceuticalAgentNumber=2)])
    right = left_bq((3.7e8, 3600)) / left_bq((2.7e8, 1800))
    assert bench.read([multi_frame]).array.max() / once.array.max() == pytest.approx(right)


# -- doses that nobody injects

USUAL = [
    # nuclide, half-life, MBq, kg: guidelines for adults, the EANM card for children, and total-body scanners
    ("FDG, EANM 2.0", 6586.2, 245, 70),
    ("FDG, SNMMI at most", 6586.2, 740, 60),
    ("FDG, EANM card, 3 kg in 2D", 6586.2, 26, 3),
    ("FDG, EANM card, 3 kg in 3D", 6586.2, 14, 3),
    ("FDG, 3.2 kg", 6588.0, 16, 3.2),
    ("FDG, 150 kg", 6586.2, 530, 150),
    ("PSMA-11", 4057.0, 150, 80),
    ("DOTATATE", 4062.6, 100, 95),
    ("methionine", 1223.0, 740, 60),
    ("ammonia", 597.9, 740, 70),
    ("water", 122.2, 800, 70),
    ("rubidium", 75.5, 1480, 80),
    ("Sc-44", 14292.0, 50, 70),
    ("Detectnet", 45720.0, 148, 70),
    ("trastuzumab", 282240.0, 37, 70),
    ("iodide", 360806.0, 25, 80),
]


@pytest.mark.parametrize(("half_life_s", "mbq", "kg"), [row[1:] for row in USUAL], ids=[row[0] for row in USUAL])
def test_usual_doses_are_not_remarked_on_and_a_tenfold_one_is(half_life_s: float, mbq: float, kg: float) -> None:
    def said(dose_mbq: float, policy: Any = "lenient") -> list[str]:
        series = replace(
            ATTRIBUTES, decay_correction="ADMIN", dose=dose_mbq * 1e6, weight=kg, height=None, half_life_s=half_life_s
        )
        return [warning.split(":")[0] for warning in calibrate(series, policy=policy).calibration.warnings]

    assert said(mbq, "strict") == []
    assert said(10 * mbq) == ["DOSE_IMPLAUSIBLE"]
    with pytest.raises(UnusableScanError, match=r"DOSE_IMPLAUSIBLE.* a thousandth of it would be usual"):
        said(1000 * mbq)
    if mbq < 1000:
        with pytest.raises(UnusableScanError, match=r"DOSE_IMPLAUSIBLE.* may be in M?Bq or in [kG]Bq"):
            said(1e-3 * mbq)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("Biograph64", ["DOSE_IMPLAUSIBLE"]),
        ("uEXPLORER", []),
        ("Biograph128_Vision Quadra Edge-1232", []),
        ("uMI Panorama GS", []),
    ],
)
def test_a_tenth_of_the_usual_dose_is_usual_where_the_scanner_sees_the_whole_body(model: str, said: list[str]) -> None:
    assert factor(replace(FIRST, dose=26e6), model=model)[1] == said


def test_millicurie_are_not_taken_as_megabecquerel() -> None:
    """10 mCi are 370 MBq; 10 MBq are usual on a total-body scanner only."""
    with pytest.raises(UnusableScanError, match="may be in MBq or in mCi"):
        factor(replace(FIRST, dose=10.0))
    assert factor(replace(FIRST, dose=10.0), model="uEXPLORER")[1] == ["DOSE_IMPLAUSIBLE"]
    assert factor(replace(FIRST, dose=370.0))[0] == pytest.approx(70e3 / left_bq((3.7e8, 3600)))


@pytest.mark.parametrize(
    ("stated", "units"),
    [
        (370_000.0, "Bq or in kBq"),
        (10_000.0, "Bq or in µCi"),
        (5000.0, "MBq or in µCi"),
        (0.37, "MBq or in GBq"),
        (0.01, "MBq or in Ci"),
    ],
)
def test_a_dose_that_would_be_usual_in_another_unit_is_refused(stated: float, units: str) -> None:
    """All are 185 or 370 MBq in the second unit, which the SUV would miss by 27 to 37,000 times."""
    with pytest.raises(UnusableScanError, match=f"DOSE_IMPLAUSIBLE.* may be in {units}"):
        factor(replace(FIRST, dose=stated))
