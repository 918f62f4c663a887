"""Pairs of patients that a risk orders rightly, counted without listing them."""

from __future__ import annotations

import numpy as np

from twobe3.core.outcomes import FloatArray, IntArray


class RiskOrder:
    """Patients in ascending order of risk, within blocks.

    Parameters
    ----------
    risk : ndarray, shape (n,)
    block : ndarray of int, shape (n,), optional
        Only two patients of one block make a pair; all are of one by default.
    """

    def __init__(self, risk: FloatArray, block: IntArray | None = None) -> None:
        block = np.zeros(len(risk), dtype=np.int64) if block is None else block
        self._order = np.lexsort((risk, block))
        risk, block = risk[self._order], block[self._order]
        new_block = np.append(True, block[1:] != block[:-1])
        self._starts = np.flatnonzero(new_block | np.append(True, risk[1:] != risk[:-1]))
        # Of each group of tied risks, the block to which it belongs; of each block, its first group.
        self._block = np.cumsum(new_block)[self._starts] - 1
        self._first = np.flatnonzero(new_block[self._starts])

    def pairs(self, cases: FloatArray, controls: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weight of the pairs of a case and a control, and of those in which the case has the higher risk.

        Parameters
        ----------
        cases, controls : ndarray, shape (samples, n)
            Weight of each patient as a case and as a control; a pair weighs their product. Ties in risk count ½.

        Returns
        -------
        won, all : ndarray, shape (samples,)
        """
        cases, controls = (self._tied(weights) for weights in (cases, controls))
        below = np.cumsum(controls, axis=1) - controls
        below -= below[:, self._first][:, self._block]
        of_block = [np.add.reduceat(weights, self._first, axis=1) for weights in (cases, controls)]
        return (cases * (below + controls / 2)).sum(axis=1), (of_block[0] * of_block[1]).sum(axis=1)

    def _tied(self, weights: FloatArray) -> FloatArray:
        """Sum of the weights of each group of tied risks."""
        ordered = weights[:, self._order]
        if len(self._starts) == ordered.shape[1]:
            return ordered  # nothing is tied
        sums: FloatArray = np.add.reduceat(ordered, self._starts, axis=1)
        return sums
