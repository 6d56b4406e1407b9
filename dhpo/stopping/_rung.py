"""One rung of the stopping form: what was recorded there, and the rule."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isfinite

import numpy as np
from numpy.typing import NDArray
from sortedcontainers import SortedList

from dhpo.stopping._fronts import Fronts
from dhpo.stopping.ranking import BoundRanking
from dhpo.trial import Decision

_STOP, _CONTINUE = Decision.STOP, Decision.CONTINUE  # an enum's member is slow to look up


class Rung:
    """What was recorded at a rung, and the rule.

    Args:
        quantile: the share of trials that goes on.
        n_objectives: how many costs each trial has.
        ranking: how several are ranked.
    """

    def __init__(self, quantile: float, n_objectives: int, ranking: BoundRanking) -> None:
        self.quantile = quantile
        self.entered = 0
        self.stopped = 0
        self._ranking = ranking
        self._pointwise = ranking.pointwise
        self._buffer = np.empty((16, n_objectives))
        self._merits = SortedList()  # the negated scores, ascending; only where they do not depend on the others
        self._fronts = Fronts() if ranking.by_fronts and n_objectives == 2 else None

    @property
    def costs(self) -> NDArray[np.float64]:
        """What was recorded, in order of arrival."""
        return self._buffer[: self.entered]

    def judge(self, costs: Sequence[float]) -> Decision:
        """Score the newcomer against the others, decide, and record it."""
        others = self.entered
        if others == len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)])
        if len(costs) == 1:
            self._buffer[others, 0] = costs[0]
        else:
            self._buffer[others] = costs
        self.entered += 1
        if self._pointwise:
            stop = self._stops_alone(costs)
        elif self._fronts is not None:
            stop = self._stops_by_fronts(self._fronts, self._fronts.add(*costs))
        else:
            stop = self._stops_among()
        self.stopped += stop
        return _STOP if stop else _CONTINUE

    def _stops_alone(self, costs: Sequence[float]) -> bool:
        """The rule where scores are fixed: a sorted list serves. A single cost is its own score."""
        merits = self._merits
        merit = -float(costs[0] if len(costs) == 1 else self._ranking.scores(self.costs[-1:])[0])
        stop = False
        if merits:
            lower, upper, share = _cutoff(len(merits), self.quantile)
            stop = merit < _between(merits[lower], merits[upper], share)
        merits.add(merit)
        return stop

    def _stops_among(self) -> bool:
        """The rule where the scores of all depend on all: only the places around the cutoff have to be exact."""
        others = self.entered - 1
        if not others:
            return False
        lower, upper, share = _cutoff(others, self.quantile)
        merits = -self._ranking.scores(self.costs, _window(others, lower))
        around = np.partition(merits[:-1], (lower, upper))
        return bool(merits[-1] < _between(float(around[lower]), float(around[upper]), share))

    def _stops_by_fronts(self, fronts: Fronts, level: int) -> bool:
        """The same where the fronts are known: those before the cutoff go on, those after it stop …

        … and of those in which it lies, the points are ranked.
        """
        others = self.entered - 1
        if not others:
            return False
        lower, upper, share = _cutoff(others, self.quantile)
        first, last = _window(others, lower)
        near, begin = fronts.around(first, last)
        if level not in near:
            return level >= near.stop
        rows, ranks = fronts.members(near)
        merits = -(begin + self._ranking.scores(self._buffer[rows], (first - begin, last - begin), ranks))
        after = others - begin - (len(rows) - 1)
        lower, upper = lower - after, upper - after
        around = np.partition(merits[:-1], (lower, upper))
        return bool(merits[-1] < _between(float(around[lower]), float(around[upper]), share))


def _cutoff(n: int, quantile: float) -> tuple[int, int, float]:
    """Where ``np.percentile(merits, (1 - q) * 100)`` lies among ``n`` merits in ascending order.

    Returns:
        The places below and above it, and how far it is from the one below, as a share of the distance.
    """
    position = (n - 1) * ((1 - quantile) * 100 / 100)
    lower = floor(position)
    return lower, min(lower + 1, n - 1), position - lower


def _window(others: int, lower: int) -> tuple[int, int]:
    """The places, counted from the best, of all points by their scores that lie around the cutoff."""
    return max(others - 2 - lower, 0), others - lower


def _between(below: float, above: float, share: float) -> float:
    """The interpolation of ``np.percentile``, to the last bit, without its overhead."""
    gap = above - below
    if not isfinite(gap):  # two large numbers of opposite sign
        return below * (1 - share) + above * share
    return above - gap * (1 - share) if share >= 0.5 else below + gap * share
