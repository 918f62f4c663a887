"""Clinical covariates as columns: what is learnt, from whom, and what happens to those who lack something."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load, save
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from twobe3.cohort.cohort import Subject
from twobe3.models.encoder import CovariateEncoder, covariate_names


def patients(**columns: list[Any]) -> list[Subject]:
    """Patients without a scan; None is what is not known."""
    rows = zip(*columns.values(), strict=True)
    known = [{key: v for key, v in zip(columns, row, strict=True) if v is not None} for row in rows]
    return [Subject(f"P{i}", None, covariates=covariates) for i, covariates in enumerate(known)]  # type: ignore[arg-type]


@given(
    arrays.arrays(np.float64, st.integers(4, 30), elements=st.floats(-1e3, 1e3, width=32)),
    arrays.arrays(np.float64, 5, elements=st.floats(-1e3, 1e3, width=32) | st.just(np.nan)),
)
def test_numbers_are_imputed_and_standardised_as_scikit_learn_does(known: Any, new: Any) -> None:
    train = np.append(known, np.nan)  # one who lacks it is too few for a column of their own
    if np.ptp(known) < 1e-2:
        return
    oracle = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(train[:, None])

    def of(values: Any) -> list[Subject]:
        return patients(x=[None if np.isnan(v) else float(v) for v in values])

    encoder = CovariateEncoder.fit(of(train))
    assert encoder.columns == ("x",)
    np.testing.assert_allclose(encoder.encode(of(new)), oracle.transform(new[:, None]), rtol=1e-6, atol=1e-6)


def test_categories_are_the_columns_of_a_one_hot_encoder() -> None:
    stage = ["I"] * 6 + ["II"] * 9 + ["III"] * 5
    encoder = CovariateEncoder.fit(patients(stage=stage))
    assert encoder.columns == ("stage = I", "stage = II", "stage = III")
    hot = OneHotEncoder(sparse_output=False).fit_transform(np.array(stage)[:, None])
    np.testing.assert_allclose(encoder.encode(patients(stage=stage)), StandardScaler().fit_transform(hot))


def test_of_two_categories_one_column_is_enough() -> None:
    encoder = CovariateEncoder.fit(patients(sex=["F", "M"] * 5))
    assert encoder.columns == ("sex = M",)
    assert encoder.encode(patients(sex=["F", "M", None, "O"])).ravel() == pytest.approx([-1.0, 1.0, 0.0, 0.0])
    assert encoder.count_imputed(patients(sex=["F", "M", None, "O"])) == {"sex": 2}


def test_rare_levels_are_one_together_and_new_ones_join_them() -> None:
    train = ["I"] * 6 + ["II"] * 6 + ["III"] * 3 + ["IV"] * 2
    encoder = CovariateEncoder.fit(patients(stage=train))
    assert encoder.columns == ("stage = I", "stage = II", "stage = another")
    third, fourth, new = encoder.encode(patients(stage=["III", "IV", "V"]))
    assert (third == fourth).all()
    assert (third == new).all()
    assert encoder.count_imputed(patients(stage=["III", "V"])) == {}


def test_levels_too_rare_even_together_say_nothing() -> None:
    encoder = CovariateEncoder.fit(patients(stage=["I"] * 6 + ["II"] * 6 + ["III"] * 2))
    assert encoder.columns == ("stage = II",)
    assert encoder.encode(patients(stage=["III", "V", None])) == pytest.approx(np.zeros((3, 1)))
    assert encoder.count_imputed(patients(stage=["III", "V", None, "I"])) == {"stage": 3}


def test_who_lacks_it_has_a_column_where_that_is_no_accident() -> None:
    few = CovariateEncoder.fit(patients(x=[1.0, 2.0, 3.0, 4.0, 9.0, *[None] * 4]))
    many = CovariateEncoder.fit(patients(x=[1.0, 2.0, 3.0, 4.0, 9.0, *[None] * 5]))
    assert (few.columns, many.columns) == (("x",), ("x", "x missing"))
    lacks, has = many.encode(patients(x=[None, 3.0]))  # 3 is the median
    assert lacks[0] == pytest.approx(has[0])
    assert (lacks[1], has[1]) == pytest.approx((1.0, -1.0))


def test_what_is_the_same_for_all_training_patients_or_unknown_gives_no_column() -> None:
    train = patients(age_years=[60.0] * 8, sex=["F"] * 8, marker=[None] * 8)
    encoder = CovariateEncoder.fit(train, ("age_years", "sex", "marker"))
    assert encoder.columns == ()
    assert encoder.encode(patients(age_years=[7.0], sex=["M"], marker=[2.0])).shape == (1, 0)
    assert encoder.count_imputed(train) == {"marker": 8}


def test_a_number_where_categories_were_learnt_is_their_text_and_the_reverse() -> None:
    category = CovariateEncoder.fit(patients(grade=["1", "2"] * 4 + ["3"] * 5))
    number = CovariateEncoder.fit(patients(grade=[1.0, 2.0] * 4))
    np.testing.assert_array_equal(category.encode(patients(grade=[3.0])), category.encode(patients(grade=["3"])))
    np.testing.assert_array_equal(number.encode(patients(grade=["2"])), number.encode(patients(grade=[2.0])))
    assert number.count_imputed(patients(grade=["two"])) == {"grade": 1}


def test_age_sex_and_the_named_columns_are_taken_and_the_body_sizes_on_request() -> None:
    everybody = patients(
        weight_kg=[70.0] * 2, sex=["F", "M"], hpv=["a", "b"], age_years=[None, 50.0], height_m=[1.7] * 2
    )
    assert covariate_names(everybody) == ("age_years", "sex", "hpv")
    weights = patients(weight_kg=[60.0, 80.0], sex=["F", "M"])
    assert CovariateEncoder.fit(weights, ["weight_kg"]).columns == ("weight_kg",)


def test_an_encoder_comes_back_from_its_file() -> None:
    train = patients(x=[0.1 * i for i in range(9)] + [None] * 5, stage=["I", "II ≥ T3"] * 7)
    encoder = CovariateEncoder.fit(train)
    again = CovariateEncoder.from_arrays(load(save({k: np.ascontiguousarray(v) for k, v in encoder.arrays().items()})))
    assert again.columns == encoder.columns
    np.testing.assert_array_equal(again.encode(train), encoder.encode(train))
