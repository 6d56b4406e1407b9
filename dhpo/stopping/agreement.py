"""How far a rung can be relied upon: whether trials come out at the next one in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo.ranks import rank_correlation

Array: TypeAlias = NDArray[np.float64]

#: So many trials, the latest, are compared.
_LATEST = 256
#: Before any evidence a rung is trusted, as if so many pairs of trials had come out in the same order.
_PSEUDO = 4.0


class Agreement:
    """The rank correlation between the costs at one rung and those of the same trials at the next.

    Only trials that went on can be compared, which understates the correlation where few do. More go on then, so that
    this mends itself.

    Args:
        n_objectives: how many costs there are; their correlations are averaged.
    """

    def __init__(self, n_objectives: int) -> None:
        self.n_pairs = 0
        self._m = n_objectives
        self._pairs: Array = np.empty((16, 2 * n_objectives))
        self._gone_on: dict[int, Sequence[float]] = {}
        self._measured_at = 0
        self._correlation = 0.0

    def went_on(self, trial: int, costs: Sequence[float]) -> None:
        """A trial has left the rung for the next one."""
        self._gone_on[trial] = costs

    def arrived(self, trial: int, costs: Sequence[float]) -> None:
        """A trial has come to the next rung. One that is not known to have gone on from here is passed over."""
        before = self._gone_on.pop(trial, None)
        if before is None:
            return
        if self.n_pairs == len(self._pairs) < _LATEST:
            self._pairs = np.concatenate([self._pairs, np.empty_like(self._pairs)])
        self._pairs[self.n_pairs % _LATEST] = (*before, *costs)
        self.n_pairs += 1

    @property
    def correlation(self) -> float:
        """Spearman's rank correlation of the latest trials; 0 where there are fewer than three.

        It is measured again when their number has grown by a sixteenth, so that decisions cost the same at any number.
        """
        n = self.n_pairs
        if n - self._measured_at >= max(1, min(n, _LATEST) // 16):
            self._measured_at = n
            pairs = self._pairs[: min(n, _LATEST)]
            each = [rank_correlation(pairs[:, j], pairs[:, self._m + j]) for j in range(self._m)]
            self._correlation = sum(each) / self._m if n > 2 else 0.0
        return self._correlation

    @property
    def trust(self) -> float:
        """The correlation, from 0 to 1, that is to be expected: few pairs do not outweigh the prior trust."""
        evidence = min(self.n_pairs, _LATEST) - 1.0 if self.n_pairs > 2 else 0.0
        return max((_PSEUDO + evidence * self.correlation) / (_PSEUDO + evidence), 0.0)
