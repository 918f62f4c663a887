"""How large a network a cohort can bear: chosen from the number of patients and events, by a rule fixed beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twobe3.core.outcomes import Outcomes


@dataclass(frozen=True)
class NetworkSize:
    """What decides how much a network can learn.

    ``components`` are the principal components of the maps, ``reduced_channels`` those that the 1×1×1 convolution
    leaves, ``width`` the channels of the blocks; ``dropout`` is that before the last layer.
    """

    components: int
    reduced_channels: int
    width: int
    dropout: float


# Up to so many patients of the rarer kind. Nothing is smaller than the fixed default: with 15 of them to learn from, a
# quarter of its width and a dropout of 0.5 found nothing in the few steps that 40 patients make.
STEPS: tuple[tuple[float, NetworkSize], ...] = (
    (200, NetworkSize(components=32, reduced_channels=16, width=16, dropout=0.2)),
    (math.inf, NetworkSize(components=64, reduced_channels=32, width=32, dropout=0.1)),
)


def size_for(outcomes: Outcomes) -> NetworkSize:
    """The capacity for training patients; it grows with the effective sample size and looks at nothing else."""
    n = outcomes.endpoint.effective_sample_size(outcomes)
    return next(capacity for most, capacity in STEPS if n < most)
