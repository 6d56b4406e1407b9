"""Ranks, and their correlation."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's rank correlation of two arrays (n,), ties sharing their mean rank.

    0 where it says nothing: there are fewer than two values, or one of the arrays is constant.
    """
    x, y = (mean_ranks(values) - (len(values) - 1) / 2.0 for values in (a, b))
    spread = float(x @ x) * float(y @ y)
    return float(x @ y) / spread**0.5 if spread > 0.0 else 0.0


def mean_ranks(values: Array) -> Array:
    """The ranks of values (n,), from 0 for the least, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts + 1) / 2.0)[inverse]
    return ranks
