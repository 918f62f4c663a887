"""A 2D network, a metric and a collection outside of twobe3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from twobe3.collections.adapters import Adapter
from twobe3.core.endpoints import Binary
from twobe3.core.outcomes import Outcomes
from twobe3.evaluation.bootstrap import Statistic
from twobe3.evaluation.metrics import Metric
from twobe3.features.backbones import BackboneRow


class HeartNetwork(nn.Module):
    """Two convolutions of stride 2, which tell of their maps as networks of timm do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(n, 8, 3, stride=2, padding=1) for n in (3, 8))
        self.feature_info = [{"num_chs": 8, "reduction": 2}, {"num_chs": 8, "reduction": 4}]

    def forward_intermediates(self, x: torch.Tensor, *, indices: Sequence[int], **_: Any) -> list[torch.Tensor]:
        """The maps of the layers asked for."""
        maps = [torch.relu(self.first(x))]
        maps.append(torch.relu(self.second(maps[0])))
        return [maps[layer] for layer in indices]


BACKBONE = BackboneRow("two convolutions, from another distribution", lambda state: HeartNetwork(), pretrained="")


def compute_distance(scores: Any, outcomes: Outcomes) -> Statistic:
    """Mean absolute distance of probability and outcome."""
    off = np.abs(scores.probability - outcomes.event)
    return Statistic(lambda counts: counts @ off / counts.sum(axis=1), "mean |probability − outcome|")


METRIC = Metric(
    "mean_distance", "binary", "mean distance of probability and outcome, from another distribution", False,
    "probability", compute_distance, stratified=False,
)  # fmt: skip

ADAPTER = Adapter(
    name="heart-collection",
    title="Heart Collection",
    files=("followup.csv",),
    endpoints=(Binary("death", column="death"),),
    covariates=(),
    rows=lambda sheets: {
        record["Case"]: {"death": str(int(record["Last status"] == "DEAD"))}
        for sheet in sheets
        for record in sheet.records
    },
)
