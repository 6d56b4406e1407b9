"""The non-dominated fronts of points with two costs, kept up to date as points come."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class _Points(NamedTuple):
    """Points of which none dominates another: from left to right, which is also downwards. Equal ones are one."""

    xs: list[float]
    depths: list[float]  # the negated second costs, which ascend as well
    rows: list[tuple[int, ...]]  # that hold the point

    def part(self, start: int, stop: int) -> _Points:
        return _Points(self.xs[start:stop], self.depths[start:stop], self.rows[start:stop])

    def dominate(self, x: float, y: float) -> bool:
        """Whether some point dominates this one. The lowest of those to its left tells."""
        at = bisect_right(self.xs, x) - 1
        return at >= 0 and -self.depths[at] <= y and (self.xs[at] < x or -self.depths[at] < y)

    def take(self, arrivals: _Points) -> _Points:
        """Take in points that these do not dominate; return those that they dominate, which are neighbours."""
        start, stop = bisect_left(self.xs, arrivals.xs[0]), bisect_right(self.depths, arrivals.depths[-1])
        displaced = self.part(start, stop)
        self.xs[start:stop] = arrivals.xs
        self.depths[start:stop] = arrivals.depths
        self.rows[start:stop] = arrivals.rows
        return displaced


class Fronts:
    """Sorts points into fronts one by one, as :func:`dhpo.pareto.non_dominated_rank` does all at once.

    A newcomer pushes those that it dominates in its front down to the next one, where these do the same: as in the
    level-based insertion of Li et al. 2017 (*Efficient nondomination level update method*). With two costs, those that
    move from one front to the next are neighbours in both, so that they move together.
    """

    def __init__(self) -> None:
        self._fronts: list[_Points] = []
        self._sizes: list[int] = []  # rows in each front
        self._n = 0
        self._n_equal = 0  # rows that equal an earlier one

    @property
    def ranks(self) -> NDArray[np.intp]:
        """The front of each row, counted from 0."""
        ranks = np.empty(self._n, dtype=np.intp)
        for level, front in enumerate(self._fronts):
            ranks[list(chain.from_iterable(front.rows))] = level
        return ranks

    def add(self, x: float, y: float) -> int:
        """Take in the next row, with finite costs; return its front."""
        found = level = bisect_left(self._fronts, True, key=lambda front: not front.dominate(x, y))
        row, self._n = self._n, self._n + 1
        if level < len(self._fronts) and self._equal(level, x, y, row):
            return level
        moving, n_moving = _Points([x], [-y], [(row,)]), 1
        while n_moving:
            if level == len(self._fronts):
                self._fronts.append(_Points([], [], []))
                self._sizes.append(0)
            moving = self._fronts[level].take(moving)
            n_displaced = sum(map(len, moving.rows)) if self._n_equal else len(moving.rows)
            self._sizes[level] += n_moving - n_displaced
            n_moving = n_displaced
            level += 1
        return found

    def _equal(self, level: int, x: float, y: float, row: int) -> bool:
        """Whether a point of the front equals this one; then the row is added to it."""
        front = self._fronts[level]
        at = bisect_left(front.xs, x)
        if at == len(front.xs) or front.xs[at] != x or front.depths[at] != -y:
            return False
        front.rows[at] += (row,)
        self._sizes[level] += 1
        self._n_equal += 1
        return True

    def around(self, first: int, last: int) -> tuple[range, int]:
        """Which fronts hold these places, counted from 0, of all rows by their fronts.

        Returns:
            The fronts, and the place at which the first of them begins.
        """
        ends = list(accumulate(self._sizes))
        begin, end = bisect_right(ends, first), bisect_right(ends, last)
        return range(begin, end + 1), ends[begin - 1] if begin else 0

    def members(self, levels: range) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The rows in some fronts, as they came, and the front of each, counted from the first of these."""
        rows = [list(chain.from_iterable(self._fronts[level].rows)) for level in levels]
        ranks = np.repeat(np.arange(len(rows)), list(map(len, rows)))
        found = np.array(list(chain.from_iterable(rows)), dtype=np.intp)
        order = np.argsort(found)
        return found[order], ranks[order]
