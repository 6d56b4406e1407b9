"""A rung of the promotion form of asynchronous successive halving, for one or several objectives.

Every trial rests when it comes to the rung. Once a slot is free, the best of those that belong to the share which
goes on is promoted: ASHA as published (Li et al. 2018, arXiv 1810.05934, algorithm 2), and MO-ASHA (Schmucker et al.
2021, arXiv 2106.12639, algorithm 1) where a ranking of several objectives takes the part of the cost.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from itertools import islice
from math import floor
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo.stopping.ranking import BoundRanking

Array: TypeAlias = NDArray[np.float64]

#: What the product of a number of trials and a share may lack to a whole number by rounding.
_ROUNDING = 1e-9


class _Group:
    """Trials of the share that wait, of which only the places of the first and the last are known as yet."""

    __slots__ = ("arrivals", "first", "last", "sorted")

    def __init__(self, arrivals: list[int], first: int, last: int) -> None:
        self.arrivals = arrivals
        self.first = first
        self.last = last
        self.sorted = len(arrivals) < 2


class PromotionRung:
    """One rung: what was recorded, who was promoted, and who may be.

    Args:
        quantile: the share of trials that goes on.
        n_objectives: how many costs each trial has.
        ranking: scores them, less is better; of equal ones that came first goes first.
    """

    def __init__(self, quantile: float, n_objectives: int, ranking: BoundRanking) -> None:
        self.quantile = quantile
        self.entered = 0
        self.stopped = 0  # have not gone on so far
        self._ranking = ranking
        self._buffer: Array = np.empty((16, n_objectives))
        self._trials: list[int] = []  # in order of arrival
        self._promoted: list[bool] = []
        self._places: dict[int, int] = {}  # trial -> its arrival
        self._waiting: list[tuple[float, int]] = []  # (score, arrival), ascending; only where scores are fixed
        self._scores: list[tuple[float, int]] = []  # the same of all, promoted ones included
        self._groups: list[_Group] | None = None  # what is left of the share, best first; None when not known

    @property
    def costs(self) -> Array:
        """What was recorded, (n, m), in order of arrival."""
        return self._buffer[: self.entered]

    @property
    def share(self) -> int:
        """How many of those that came may go on."""
        return floor(self.entered * self.quantile + _ROUNDING)

    def record(self, trial: int, costs: Sequence[float]) -> None:
        """Take a trial in."""
        arrival = self.entered
        if arrival == len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)])
        self._buffer[arrival] = costs
        self.entered += 1
        self.stopped += 1
        self._trials.append(trial)
        self._promoted.append(False)
        self._places[trial] = arrival
        self._groups = None
        if self._ranking.pointwise:
            entry = (float(self._ranking.scores(self.costs[-1:])[0]), arrival)
            insort(self._scores, entry)
            insort(self._waiting, entry)

    def promotable(self) -> Iterator[int]:
        """The trials of the share that were not promoted yet, the best one first."""
        if self._ranking.pointwise:
            share = self.share
            for entry in islice(self._waiting, share):
                if bisect_left(self._scores, entry) >= share:
                    return
                yield self._trials[entry[1]]
            return
        if self._groups is None:
            self._groups = self._share_among()
        for group in self._groups:
            if not group.sorted:
                scores = self._ranking.scores(self.costs, (group.first, group.last))
                group.arrivals.sort(key=lambda arrival: (scores[arrival], arrival))
                group.sorted = True
            yield from (self._trials[arrival] for arrival in group.arrivals)

    def promote(self, trial: int) -> None:
        """Take note that a trial waits here no longer."""
        arrival = self._places[trial]
        if self._promoted[arrival]:
            return
        self._promoted[arrival] = True
        self.stopped -= 1
        if self._ranking.pointwise:
            entry = (float(self._ranking.scores(self.costs[arrival : arrival + 1])[0]), arrival)
            del self._waiting[bisect_left(self._waiting, entry)]
        for group in self._groups or ():
            if arrival in group.arrivals:
                group.arrivals.remove(arrival)
                return

    def _share_among(self) -> list[_Group]:
        """What is left of the share where the scores of all depend on all, the best first.

        To tell who belongs to it, only its last place has to be exact; most often the best of its fronts have gone on,
        and only one of the others will ever have to be put in order.
        """
        share = self.share
        if not share:
            return []
        scores = self._ranking.scores(self.costs, (share - 1, share - 1))
        order = np.argsort(scores, kind="stable")
        ascending = scores[order]
        left: dict[float, list[int]] = {}
        for arrival, score in zip(order[:share].tolist(), ascending[:share].tolist(), strict=True):
            if not self._promoted[arrival]:
                left.setdefault(score, []).append(arrival)
        firsts = np.searchsorted(ascending, list(left), side="left").tolist()
        lasts = np.searchsorted(ascending, list(left), side="right").tolist()
        return [_Group(*found) for found in zip(left.values(), firsts, (end - 1 for end in lasts), strict=True)]
