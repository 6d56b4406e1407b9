"""Expected hypervolume improvement: what a point is expected to add to the Pareto front."""

from __future__ import annotations

import math

import numpy as np

from dhpo.pareto import non_dominated
from dhpo.scalarization import hypervolume_scalarization, orthant_weights
from dhpo.searchers.acquisition import Array, expected_improvement

_DIRECTIONS = 64
_DRAWS = 16
_SEED = 0x65_68_76_69  # the directions and draws are the same for all points, and for all calls


def expected_hypervolume_improvement(means: Array, stds: Array, front: Array, reference: Array) -> Array:
    """The expected gain in hypervolume by each of some points whose costs are normal and independent.

    With two objectives it is exact: the region that the front leaves is cut into strips, in each of which the
    expectation is a product of two expected improvements (Emmerich et al. 2011, section 3). With another number it is
    an average over random directions and costs of the improvement in the hypervolume scalarisation (Golovin and Zhang
    2020, arXiv 2006.04655, lemma 5).

    Args:
        means: (n, m) expected costs.
        stds: (n, m) their standard deviations.
        front: (k, m) the costs known, dominated ones among them or not.
        reference: (m,) the reference point.

    Returns:
        An (n,) array of numbers of at least 0.
    """
    front = front[(front < reference).all(axis=1)]
    front = front[non_dominated(front, unique=True)] if len(front) else front
    if means.shape[1] == 2:
        return _by_strips(means, stds, front[np.argsort(front[:, 0])], reference)
    return _by_directions(means, stds, front, reference)


def _by_strips(means: Array, stds: Array, front: Array, reference: Array) -> Array:
    """The sum over the strips between the front's first costs; in each the front's second cost is constant."""
    edges = np.concatenate([front[:, 0], reference[:1]])
    heights = np.concatenate([reference[1:], front[:, 1]])
    below = np.stack([expected_improvement(means[:, 0], stds[:, 0], edge, 0.0, 0.0) for edge in edges], axis=1)
    widths = np.diff(below, axis=1, prepend=0.0)
    depths = np.stack([expected_improvement(means[:, 1], stds[:, 1], h, 0.0, 0.0) for h in heights], axis=1)
    result: Array = (np.maximum(widths, 0.0) * depths).sum(axis=1)
    return result


def _by_directions(means: Array, stds: Array, front: Array, reference: Array) -> Array:
    rng, m = np.random.default_rng(_SEED), means.shape[1]
    weights = orthant_weights(_DIRECTIONS, m, rng)
    known = np.zeros(_DIRECTIONS)
    if len(front):
        known = hypervolume_scalarization(front, weights, reference).min(axis=0)
    total = np.zeros(len(means))
    for draw in rng.standard_normal((_DRAWS, m)):
        scores = hypervolume_scalarization(means + stds * draw, weights, reference)
        total += np.maximum(known - scores, 0.0).mean(axis=1)
    volume = math.pi ** (m / 2) / (2**m * math.gamma(m / 2 + 1))
    result: Array = total * volume / _DRAWS
    return result
