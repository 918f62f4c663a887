"""The automatic capacity: a rule of the number of patients and events, and what is told of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from twobe3.core.endpoints import Binary
from twobe3.core.outcomes import Outcomes
from twobe3.models.nn.size import STEPS, size_for


def binary(n: int, events: int) -> Outcomes:
    event = np.arange(n) < events
    return Outcomes(Binary("y", "y"), tuple(map(str, range(n))), event.astype(float), event)


def test_more_events_never_give_a_smaller_network_or_more_dropout() -> None:
    found = [size_for(binary(2000, events)) for events in range(5, 1000, 5)]
    for before, after in pairwise(found):
        assert after.width >= before.width
        assert after.components >= before.components
        assert after.reduced_channels >= before.reduced_channels
        assert after.dropout <= before.dropout
    assert {one.width for one in found} == {capacity.width for _, capacity in STEPS}


def test_patients_without_the_event_do_not_enlarge_the_network() -> None:
    assert size_for(binary(60, 15)) == size_for(binary(3000, 15))


def test_every_width_suits_every_network() -> None:
    assert all(capacity.width % 4 == 0 for _, capacity in STEPS)  # the groups of the 3D network's normalisation
