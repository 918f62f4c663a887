"""Several endpoints that one network learns at once, each from the patients whose outcome is known for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from twobe3.models.heads import Head


class JointHead(Head):
    """A head for each endpoint, one after another over the outputs of the last layer.

    The loss is the mean of the endpoints' losses, each of the patients whose outcome is known for it; all of them are
    free of units, nats a patient or an event, or variances of the outcome. An endpoint that no patient of a step is
    known for adds 0 to it and moves nothing. The fit's own endpoint alone tells when to stop.

    Parameters
    ----------
    patients : sequence of str, length n
        Those who train.
    heads : sequence of (Head, sequence of str)
        The own endpoint first: its head, and the patients whose outcomes the head was given, in their order.
    """

    def __init__(self, patients: Sequence[str], heads: Sequence[tuple[Head, Sequence[str]]]) -> None:
        self._heads = [head for head, _ in heads]
        self._sizes = [head.outputs for head in self._heads]
        self._rows = [_rows(patients, known) for _, known in heads]

    @property
    def outputs(self) -> int:
        """Those of all heads."""
        return sum(self._sizes)

    def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Mean over the endpoints."""
        return torch.stack([self._loss(number, raw, index) for number in range(len(self._heads))]).mean()

    def stopping_loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Of the own endpoint."""
        return self._loss(0, raw, index)

    def start(self, last: nn.Linear) -> None:
        """As each head starts with its rows."""
        for head, rows in self._layers(last):
            head.start(rows)

    def finish(self, last: nn.Linear) -> None:
        """As each head finishes its rows."""
        for head, rows in self._layers(last):
            head.finish(rows)

    def resume(self, last: nn.Linear) -> None:
        """As each head resumes its rows."""
        for head, rows in self._layers(last):
            head.resume(rows)

    def _loss(self, number: int, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        rows = self._rows[number][index]
        known = rows >= 0
        said = torch.split(raw.view(len(index), self.outputs), self._sizes, dim=1)[number][known]
        if not known.any():
            return said.double().sum()
        return self._heads[number].loss(said.squeeze(1) if said.shape[1] == 1 else said, rows[known])

    def _layers(self, last: nn.Linear) -> Iterator[tuple[Head, nn.Linear]]:
        """Each head with its rows of the last layer, as a layer that shares their memory."""
        weights, biases = (torch.split(values.data, self._sizes) for values in (last.weight, last.bias))
        for head, weight, bias in zip(self._heads, weights, biases, strict=True):
            rows = nn.Linear(last.in_features, head.outputs, device="meta")  # draws no random number
            rows.weight, rows.bias = nn.Parameter(weight), nn.Parameter(bias)
            yield head, rows


def _rows(patients: Sequence[str], known: Sequence[str]) -> torch.Tensor:
    """For each patient the place among those who are known, −1 where the patient is not; shape (n,)."""
    place = {patient: row for row, patient in enumerate(known)}
    return torch.tensor([place.get(patient, -1) for patient in patients])
