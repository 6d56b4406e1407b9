"""How the results of one rung are ranked when there are several objectives.

A ranking gives each point a score, of which less is better; equal points get equal scores, and a point that dominates
another never gets the larger one. The stopper compares the newcomer's score with a percentile of the others'.

* ``eps_net``, the default: the point's place by non-dominated front, within a front by the epsilon-net order.
* ``nsga_ii``: the point's place by non-dominated front, within a front by crowding distance.
* ``random_weights``: the point's place by its regret over many weighted sums.
* ``parego``: the same over many augmented Chebyshev scalarisations.
* ``golovin``: the same over many hypervolume scalarisations.
* ``legacy_random_weights``, ``legacy_parego``, ``legacy_golovin``: AutoGluon's scalars of the raw values, negated.

A place is the number of points that are better. The scalarised rankings take each objective as its quantile within
the rung. Under each weight vector of one seeded set, a point's regret is how much more it costs than the best point
of the rung; points are ordered by their least regret over the weight vectors (0 for whatever is the best trade-off
for one of them), and where that ties by their mean regret. AutoGluon draws the weights of its scalars anew for each
trial, unseeded; here all trials share one seeded set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhpo.errors import SettingError
from dhpo.pareto import crowding_distance, eps_net_order, non_dominated_rank
from dhpo.scalarization import (
    augmented_chebyshev,
    hypervolume_scalarization,
    legacy_golovin,
    legacy_parego,
    legacy_random_weights,
    linear,
    normalise,
    orthant_weights,
    simplex_weights,
)
from dhpo.stopping._settings import check_whole

Array: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.intp]

#: The first and the last place, from 0, that have to be told apart from all others.
Window: TypeAlias = tuple[int, int]

#: A little worse than the worst quantile, so that a point that is the worst in one objective still has a volume.
_REFERENCE = 1.1


@dataclass(frozen=True, slots=True)
class Ranking:
    """The settings of a ranking.

    Attributes:
        name: one of :data:`RANKINGS`.
        num_weights: how many weight vectors a scalarised ranking uses.
        rho: the share of the weighted sum in ``parego`` and ``legacy_parego``.
    """

    name: str = "eps_net"
    num_weights: int = 100
    rho: float = 0.05

    def __post_init__(self) -> None:
        if self.name not in RANKINGS:
            raise SettingError(f"ranking={self.name!r} is unknown: use one of {', '.join(RANKINGS)}")
        check_whole("num_weights", self.num_weights)
        if not isinstance(self.rho, int | float) or not isfinite(self.rho) or self.rho < 0:
            raise SettingError(f"rho={self.rho!r}: give a finite number of at least 0, such as 0.05")

    def bind(self, n_objectives: int, seed: int) -> BoundRanking:
        """Draw the weights, where there are any, and fix the number of objectives.

        Args:
            n_objectives: how many costs each point has. One alone is its own score, whatever the name.
            seed: seeds the weights.
        """
        rule = _RULES[self.name] if n_objectives > 1 else _Rule(_only_cost, pointwise=True)
        weights = np.empty((0, n_objectives))
        if rule.draw is not None:
            weights = rule.draw(self.num_weights, n_objectives, np.random.default_rng(np.random.SeedSequence(seed)))
        return BoundRanking(rule, weights, self.rho)


class _Rule(NamedTuple):
    """How a ranking scores: by ``score``, or by fronts, and within a front by ``places``."""

    score: Callable[[Array, Array, float], Array] | None = None
    draw: Callable[[int, int, np.random.Generator], Array] | None = None
    pointwise: bool = False
    places: Callable[[Array, int], Array] | None = None  # (costs of a front, how many places matter) -> places


@dataclass(frozen=True, slots=True, eq=False)
class BoundRanking:
    """A ranking with its weights."""

    rule: _Rule
    weights: Array
    rho: float

    @property
    def pointwise(self) -> bool:
        """Whether the score of a point depends on that point alone."""
        return self.rule.pointwise

    @property
    def by_fronts(self) -> bool:
        """Whether the score begins with the non-dominated front of a point."""
        return self.rule.places is not None

    def scores(self, costs: Array, window: Window | None = None, ranks: IntArray | None = None) -> Array:
        """Score the points of a rung.

        Args:
            costs: finite costs, (n, m), to be minimised.
            window: the first and the last place, counted from 0, that matter. Scores there, and which points lie
                before and after, are exact; points before or after may share one score each side. All unless given.
            ranks: the front of each point, (n,), where that is known and ``by_fronts``.

        Returns:
            An (n,) array, less is better.
        """
        if self.rule.score is not None:
            return self.rule.score(costs, self.weights, self.rho)
        assert self.rule.places is not None
        if not len(costs):
            return np.empty(0)
        known = non_dominated_rank(costs) if ranks is None else ranks
        return _by_fronts(costs, known, window or (0, len(costs) - 1), self.rule.places)


def rank_in_rung(costs: ArrayLike, how: str | Ranking = "eps_net", *, seed: int = 0) -> Array:
    """Score the points of one rung.

    Args:
        costs: finite costs, (n, m), to be minimised.
        how: the ranking, or the name of one with its default settings.
        seed: seeds the weights of the scalarised rankings.

    Returns:
        An (n,) array: less is better, equal points are equal. With one objective, the cost itself.

    Raises:
        SettingError: the name is unknown, or the costs are no finite (n, m) array.
    """
    array = np.asarray(costs, dtype=float)
    if array.ndim != 2 or array.shape[1] == 0 or not np.isfinite(array).all():
        raise SettingError(f"costs of the shape {array.shape} cannot be ranked: give finite numbers, one row a point")
    ranking = how if isinstance(how, Ranking) else Ranking(how)
    return ranking.bind(array.shape[1], seed).scores(array)


def _only_cost(costs: Array, weights: Array, rho: float) -> Array:
    return costs[:, 0]


def _random_weights(costs: Array, weights: Array, rho: float) -> Array:
    return _by_regret(linear(normalise(costs, method="quantile"), weights))


def _parego(costs: Array, weights: Array, rho: float) -> Array:
    return _by_regret(augmented_chebyshev(normalise(costs, method="quantile"), weights, rho))


def _golovin(costs: Array, weights: Array, rho: float) -> Array:
    return _by_regret(hypervolume_scalarization(normalise(costs, method="quantile"), weights, _REFERENCE))


def _legacy_random_weights(costs: Array, weights: Array, rho: float) -> Array:
    return -legacy_random_weights(-costs, weights)


def _legacy_parego(costs: Array, weights: Array, rho: float) -> Array:
    return -legacy_parego(-costs, weights, rho)


def _legacy_golovin(costs: Array, weights: Array, rho: float) -> Array:
    return -legacy_golovin(-costs, weights)


def _by_fronts(costs: Array, ranks: IntArray, window: Window, places: Callable[[Array, int], Array]) -> Array:
    """The place of each point, by front and within a front by ``places``.

    Only fronts that reach into the window are ordered; all points of another front get the place of its first.
    """
    sizes = np.bincount(ranks)
    starts = np.cumsum(sizes) - sizes
    scores = starts[ranks].astype(float)
    first, last = window
    for front in np.flatnonzero((starts <= last) & (starts + sizes > first) & (sizes > 1)):
        rows = np.flatnonzero(ranks == front)
        scores[rows] += places(costs[rows], last - int(starts[front]) + 1)
    return scores


def _eps_net_places(front: Array, limit: int) -> Array:
    """Places by epsilon-net order, of which the first ``limit`` are told apart; equal points share theirs."""
    lexicographic = np.lexsort(front.T[::-1])
    ordered = front[lexicographic]
    fresh = np.concatenate(([True], (ordered[1:] != ordered[:-1]).any(axis=1)))
    member = np.empty(len(front), dtype=np.intp)
    member[lexicographic] = np.cumsum(fresh) - 1
    counts = np.bincount(member)
    order = eps_net_order(ordered[fresh], limit)
    ends = np.cumsum(counts[order])
    places = np.full(len(counts), float(ends[-1]))
    places[order] = ends - counts[order]
    return np.asarray(places[member])


def _nsga_ii_places(front: Array, limit: int) -> Array:
    """Places by crowding distance."""
    return _places(-crowding_distance(front))


def _by_regret(costs: Array) -> Array:
    """Places by least, then by mean regret over the columns of (n points, w weights)."""
    if not len(costs):
        return np.empty(0)
    regret = costs - costs.min(axis=0)
    return _places(regret.min(axis=1), regret.mean(axis=1))


def _places(*keys: Array) -> Array:
    """How many points come strictly before each, by the first key, then by the next."""
    order = np.lexsort(keys[::-1])
    fresh = np.zeros(len(order), dtype=bool)
    fresh[0] = True
    for key in keys:
        fresh[1:] |= key[order][1:] != key[order][:-1]
    first = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
    places = np.empty(len(order))
    places[order] = first
    return places


_RULES: dict[str, _Rule] = {
    "eps_net": _Rule(places=_eps_net_places),
    "nsga_ii": _Rule(places=_nsga_ii_places),
    "random_weights": _Rule(_random_weights, simplex_weights),
    "parego": _Rule(_parego, simplex_weights),
    "golovin": _Rule(_golovin, orthant_weights),
    "legacy_random_weights": _Rule(_legacy_random_weights, simplex_weights, pointwise=True),
    "legacy_parego": _Rule(_legacy_parego, simplex_weights, pointwise=True),
    "legacy_golovin": _Rule(_legacy_golovin, simplex_weights, pointwise=True),
}

#: The names of all rankings.
RANKINGS: tuple[str, ...] = tuple(_RULES)
