from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from twobe3.core.mip import mip, orient_to_patient

SIGNS = list(product((1, -1), repeat=3))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_order_and_direction_of_the_axes_gives_the_same_patient(order: tuple[int, int, int]) -> None:
    """Permuted and turned by numpy, with the affine that says so, the volume comes back as it was."""
    standard = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    lengths = np.array([3.0, 2.0, 1.0])
    # columns of the affine: slices go to the head (+z), rows to the back (+y), columns to the left (+x)
    directions = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=float) * lengths[:, None]
    for signs in SIGNS:
        stored = standard.transpose(order)
        affine = np.eye(4)
        for axis, (source, sign) in enumerate(zip(order, signs, strict=True)):
            stored = np.flip(stored, axis) if sign < 0 else stored
            affine[:3, axis] = sign * directions[source]
        turned, spacing_mm = orient_to_patient(stored, affine)
        np.testing.assert_array_equal(turned, standard)
        assert spacing_mm == (3.0, 2.0, 1.0)


def test_from_the_front_the_head_is_on_top_and_the_left_on_the_right() -> None:
    suv = np.zeros((6, 5, 4), dtype=np.float32)
    suv[5, 2, 3] = 7.0
    grey = mip(suv, "front")
    assert grey.shape == (6, 4)
    assert grey[0, 3] == 0
    assert (grey == 255).sum() == 6 * 4 - 1
