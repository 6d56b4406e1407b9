"""The resource as an input of the model: how far apart rungs lie follows from how far their results agree."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dhpo.ranks import rank_correlation
from dhpo.searchers.acquisition import Array

#: So many of the latest observations are looked at, and a resource counts as a rung if so many of them are there.
_LATEST, _AT_RUNG = 4_096, 8
#: Before any evidence rungs are taken to agree, as if so many pairs of trials had come out in the same order.
_PSEUDO = 4.0
#: Rungs that do not agree at all lie so many times as far apart as those that agree.
_FARTHEST = 10.0


class ResourceAxis(NamedTuple):
    """Where resources lie: at 1 where trials are complete, the smaller ones below.

    Attributes:
        logs: (k,) logarithms of resources, ascending.
        places: (k,) where these lie; between them it is interpolated.
    """

    logs: Array
    places: Array

    def at(self, resources: Array) -> Array:
        """The places (n,) of resources (n,)."""
        result: Array = np.interp(np.log(np.maximum(resources, math.exp(self.logs[0]))), self.logs, self.places)
        return result


def resource_axis(log: Array, low: float, high: float, *, measured: bool = True) -> ResourceAxis:
    """Lay out the resources from ``low`` to ``high``.

    On a log scale they would lie from 0 to 1. Where ``measured``, the way between two rungs is divided by the rank
    correlation of the costs of the trials that were seen at both: a model with a length for this input then takes from
    a rung as much as it is worth.

    Args:
        log: (n, 2 + m) observations: the trial, the resource (NaN: it failed), m costs.
        low: the least resource, above 0.
        high: the resource at which trials are complete, above ``low``.
        measured: False for the plain log scale.
    """
    floor = max(low, 1e-9 * high)
    width = math.log(high / floor)
    rungs = _rungs(log[~np.isnan(log[:, 1])][-_LATEST:], floor, high) if measured else {}
    levels = [floor, *(level for level in rungs if floor < level < high), high]
    logs = np.log(np.array(levels))
    places = np.ones(len(levels))
    for i in range(len(levels) - 2, -1, -1):
        here, above = rungs.get(levels[i]), rungs.get(levels[i + 1])
        agreement = 1.0 if here is None or above is None else _agreement(here, above)
        places[i] = places[i + 1] - (logs[i + 1] - logs[i]) / width / max(agreement, 1.0 / _FARTHEST)
    return ResourceAxis(logs, places)


def _rungs(log: Array, floor: float, high: float) -> dict[float, Array]:
    """The observations at each resource where there are enough of them, ascending."""
    levels, counts = np.unique(log[:, 1], return_counts=True)
    kept = levels[(counts >= _AT_RUNG) & (levels >= floor) & (levels <= high)]
    return {float(level): log[log[:, 1] == level] for level in kept}


def _agreement(here: Array, above: Array) -> float:
    """The rank correlation of the trials that are in both, the mean over the objectives; 1 as long as there are few."""
    _, i, j = np.intersect1d(here[:, 0], above[:, 0], return_indices=True)
    if len(i) < 3:
        return 1.0
    each = [rank_correlation(here[i, c], above[j, c]) for c in range(2, here.shape[1])]
    evidence = len(i) - 1.0
    return (_PSEUDO + evidence * sum(each) / len(each)) / (_PSEUDO + evidence)
