"""One fit of the surrogates, and the configurations of highest acquisition found with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dhpo.encoding import Encoding
from dhpo.searchers.acquisition import Acquisition, Array, Prediction
from dhpo.searchers.surrogates import Belief, Surrogate

_POLISH_SCALES = (0.1, 0.03, 0.01, 0.003, 0.001)
_POLISH_POINTS = 24

#: Tells which of some encoded rows may be proposed.
Fresh = Callable[[Array], Array]


class Wish(NamedTuple):
    """What one proposal looks for.

    Attributes:
        acquisition: the acquisition function.
        kappa: its weight of the uncertainty.
        xi: its least improvement.
        scalarise: turns scaled costs (n, m) into one cost each (n,).
        sources: names of the parts of the pool that may be chosen.
        temperature: 0 takes the best candidate; above it, one drawn with probability ``exp(score / temperature)``,
            where scores span 1.
        polish: whether the candidate is improved by a local search.
    """

    acquisition: Acquisition
    kappa: float
    xi: float
    scalarise: Callable[[Array], Array]
    sources: frozenset[str]
    temperature: float
    polish: bool


class Pool(NamedTuple):
    """Candidates by where they come from; the part "observed" is for reference only."""

    rows: Array
    parts: dict[str, slice]

    @classmethod
    def of(cls, **parts: Array) -> Pool:
        """Stack the parts."""
        slices, start = {}, 0
        for name, rows in parts.items():
            slices[name] = slice(start, start + len(rows))
            start += len(rows)
        return cls(np.vstack(list(parts.values())), slices)


class Maximiser:
    """Chooses configurations from one fit: candidates in a pool, the best polished by a local search.

    Args:
        encoding: the space.
        surrogates: one for each objective.
        pool: the candidates.
        inputs: turns encoded rows into model inputs, at the resource that counts.
    """

    def __init__(
        self, encoding: Encoding, surrogates: list[Surrogate], pool: Pool, inputs: Callable[[Array], Array]
    ) -> None:
        self._encoding = encoding
        self._pool = pool
        self._inputs = inputs
        points = inputs(pool.rows)
        self._beliefs: list[Belief] = [surrogate.belief(points) for surrogate in surrogates]

    def believe(self, rows: Array) -> None:
        """Count these encoded rows as observed at their predicted costs."""
        if len(rows):
            points = self._inputs(rows)
            for belief in self._beliefs:
                belief.believe(points)

    def choose(self, wish: Wish, rng: np.random.Generator, fresh: Fresh) -> Array | None:
        """The fresh row of highest acquisition; None when the pool has none."""
        mean, std = _scalarised([belief.pool() for belief in self._beliefs], wish)
        best = float(mean[self._pool.parts["observed"]].min())
        places = np.concatenate([np.arange(part.start, part.stop) for name, part in self._pool.parts.items()
                                 if name in wish.sources])  # fmt: skip
        scores = wish.acquisition.score(mean[places], std[places], best, wish.kappa, wish.xi)
        if wish.temperature > 0:
            span = float(scores.max() - scores.min()) or 1.0
            scores = scores / span / wish.temperature + rng.gumbel(size=len(scores))
        order = places[np.argsort(-scores, kind="stable")]
        start, size = 0, 4
        while start < len(order):
            block = order[start : start + size]
            start, size = start + size, 4 * size  # most often one of the first is fresh
            found = block[fresh(self._pool.rows[block])]
            if len(found):
                row = self._pool.rows[found[0]]
                return self._polished(row, best, wish, rng, fresh) if wish.polish else row
        return None

    def _polished(self, row: Array, best: float, wish: Wish, rng: np.random.Generator, fresh: Fresh) -> Array:
        """Climb by one-exchange neighbours, from far ones to near ones."""
        score = self._score(row[None, :], best, wish)[0]
        for scale in _POLISH_SCALES:
            for _ in range(2):
                rows = self._encoding.neighbours(row, rng, _POLISH_POINTS, scale)
                if not len(rows):
                    break
                scores = self._score(rows, best, wish)
                better = np.flatnonzero(scores > score)
                better = better[np.argsort(-scores[better], kind="stable")]
                better = better[fresh(rows[better])] if len(better) else better
                if not len(better):
                    break
                row, score = rows[better[0]], scores[better[0]]
        return row

    def _score(self, rows: Array, best: float, wish: Wish) -> Array:
        points = self._inputs(rows)
        mean, std = _scalarised([belief.at(points) for belief in self._beliefs], wish)
        return wish.acquisition.score(mean, std, best, wish.kappa, wish.xi)


def _scalarised(predictions: list[Prediction], wish: Wish) -> tuple[Array, Array]:
    """One cost and one deviation for each point: how far the scalarised cost sinks when each objective sinks by one."""
    means = np.stack([p.mean for p in predictions], axis=1)
    stds = np.stack([p.epistemic if wish.acquisition.epistemic else p.total for p in predictions], axis=1)
    if means.shape[1] == 1:
        return means[:, 0], stds[:, 0]
    mean = wish.scalarise(means)
    return mean, np.abs(mean - wish.scalarise(means - stds))
