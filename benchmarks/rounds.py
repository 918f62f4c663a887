"""Figures of several rounds as the tables of benchmarks print them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def span(values: npt.ArrayLike, digits: int = 2) -> str:
    """The median, with the smallest and the largest."""
    return f"{np.median(values):.{digits}f} ({np.min(values):.{digits}f}–{np.max(values):.{digits}f})"
