"""One fit of the surrogates, and the configurations of highest acquisition found with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from dhpo.encoding import Encoding
from dhpo.pareto import reference_point
from dhpo.searchers.acquisition import HEDGED, Acquisition, Array, Prediction
from dhpo.searchers.ehvi import expected_hypervolume_improvement
from dhpo.searchers.surrogates import Belief

_POLISH_SCALES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
_POLISH_POINTS = 96  # of each round, a part for each scale
_POLISH_ROUNDS = 4
_POLISH_TRIED = 8  # of the better ones, the best that is fresh is looked for among so many
_FIRST_TRIED = 4  # of the pool, the best that is fresh is looked for among so many, then among more
_DECIMALS = 9  # of a score: what differs less is a tie, however it was computed

#: Tells which of some encoded rows may be proposed.
Fresh = Callable[[Array], Array]
#: Scores points from the predictions for all objectives.
Scorer = Callable[[list[Prediction]], Array]
IntArray: TypeAlias = npt.NDArray[np.intp]


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
        beliefs: one for each objective, about the pool; left as they are.
        pool: the candidates.
        inputs: turns encoded rows into model inputs, at the resource that counts.
    """

    def __init__(self, encoding: Encoding, beliefs: list[Belief], pool: Pool, inputs: Callable[[Array], Array]) -> None:
        self._encoding = encoding
        self._pool = pool
        self._inputs = inputs
        self._beliefs = [belief.copy() for belief in beliefs]

    def believe(self, rows: Array) -> None:
        """Count these encoded rows as observed at their predicted costs."""
        if len(rows):
            points = self._inputs(rows)
            for belief in self._beliefs:
                belief.believe(points)

    def choose(self, wish: Wish, rng: np.random.Generator, fresh: Fresh) -> Array | None:
        """The fresh row of highest acquisition; None when the pool has none."""
        places = self._places(wish.sources)
        if wish.acquisition.name == "TS":
            at_rows = self._drawn(wish, rng)
            scores = at_rows(self._pool.rows[places])
        else:
            scores, score = self._scored(wish, places, rng)
            at_rows = self._at_rows(score)
        if wish.temperature > 0:
            span = float(scores.max() - scores.min()) or 1.0
            scores = scores / span / wish.temperature + rng.gumbel(size=len(scores))
        found = self._best_fresh(np.round(scores, _DECIMALS), places, fresh)
        if found is None or not wish.polish:
            return found
        return self._polished(found, at_rows, rng, fresh)

    def _places(self, sources: frozenset[str]) -> IntArray:
        """Where the candidates are that may be chosen."""
        parts = self._pool.parts.items()
        return np.concatenate([np.arange(part.start, part.stop) for name, part in parts if name in sources])

    def _scored(self, wish: Wish, places: IntArray, rng: np.random.Generator) -> tuple[Array, Scorer]:
        """The scores (n,) of candidates, and what scores other points alike."""
        predictions = [belief.pool() for belief in self._beliefs]
        observed = self._pool.parts["observed"]
        if wish.acquisition.name == "EHVI":
            front = _vectors(predictions, wish)[0][observed]
            score = _by_hypervolume(wish, front, reference_point(front))
            return score([_at(p, places) for p in predictions]), score
        mean, std = _scalarised(predictions, wish)
        best = float(mean[observed].min())
        mean, std = mean[places], std[places]
        if wish.acquisition.name == "gp_hedge":
            wish = _hedged(wish, mean, std, best, rng)
        return wish.acquisition.score(mean, std, best, wish.kappa, wish.xi), _by_one_cost(wish, best)

    def _best_fresh(self, scores: Array, places: IntArray, fresh: Fresh) -> Array | None:
        """The fresh row of highest score, the first of equal ones; ``scores`` (n,) are those at ``places`` (n,)."""
        n = min(_FIRST_TRIED, len(scores))
        while n:
            least = np.partition(scores, len(scores) - n)[len(scores) - n]  # most often one of the best is fresh
            best = np.flatnonzero(scores >= least)
            order = places[best[np.argsort(-scores[best], kind="stable")]]
            found = order[fresh(self._pool.rows[order])]
            if len(found):
                row: Array = self._pool.rows[found[0]]
                return row
            n = min(4 * n, len(scores)) if n < len(scores) else 0
        return None

    def _polished(self, row: Array, score: Callable[[Array], Array], rng: np.random.Generator, fresh: Fresh) -> Array:
        """Climb by one-exchange neighbours, far and near ones."""
        highest = np.round(score(row[None, :])[0], _DECIMALS)
        for _ in range(_POLISH_ROUNDS):
            rows = self._encoding.neighbours(row, rng, _POLISH_POINTS, _POLISH_SCALES, snapped=False)
            if not len(rows):
                break
            scores = np.round(score(rows), _DECIMALS)
            better = np.flatnonzero(scores > highest)
            better = better[np.argsort(-scores[better], kind="stable")][:_POLISH_TRIED]
            better = better[fresh(self._encoding.snap(rows[better]))] if len(better) else better
            if len(better):
                row, highest = rows[better[0]], scores[better[0]]
        polished: Array = self._encoding.snap(row[None, :])[0]
        return polished

    def _at_rows(self, score: Scorer) -> Callable[[Array], Array]:
        """The acquisition as a function of encoded rows."""

        def at_rows(rows: Array) -> Array:
            points = self._inputs(rows)
            return score([belief.at(points) for belief in self._beliefs])

        return at_rows

    def _drawn(self, wish: Wish, rng: np.random.Generator) -> Callable[[Array], Array]:
        """The negated costs of one draw from the posterior, as a function of encoded rows (Thompson sampling)."""
        paths = [belief.path(rng) for belief in self._beliefs]

        def at_rows(rows: Array) -> Array:
            points = self._inputs(rows)
            costs = np.stack([path(points) for path in paths], axis=1)
            return -(costs[:, 0] if len(paths) == 1 else wish.scalarise(costs))

        return at_rows


def _by_hypervolume(wish: Wish, front: Array, reference: Array) -> Scorer:
    """Expected hypervolume improvement as a function of the predictions for all objectives."""
    return lambda predictions: expected_hypervolume_improvement(*_vectors(predictions, wish), front, reference)


def _by_one_cost(wish: Wish, best: float) -> Scorer:
    """The other acquisitions as functions of the predictions for all objectives, ``best`` being the lowest cost."""

    def score(predictions: list[Prediction]) -> Array:
        mean, std = _scalarised(predictions, wish)
        return wish.acquisition.score(mean, std, best, wish.kappa, wish.xi)

    return score


def _hedged(wish: Wish, mean: Array, std: Array, best: float, rng: np.random.Generator) -> Wish:
    """Choose between acquisitions by the costs that the model predicts where each would go.

    As the hedge of Brochu et al. 2011 (arXiv 1009.5419, section 3), with the gains of the present model in the place
    of those summed over the past, so that a proposal follows from the observations alone.
    """
    choices = [wish.acquisition._replace(name=name) for name in HEDGED]
    nominees = [int(a.score(mean, std, best, wish.kappa, wish.xi).argmax()) for a in choices]
    gains = -mean[nominees] / (float(mean.std()) or 1.0)
    shares = np.exp(gains - gains.max())
    return wish._replace(acquisition=choices[int(rng.choice(len(choices), p=shares / shares.sum()))])


def _at(prediction: Prediction, places: IntArray) -> Prediction:
    return Prediction(*(values[places] for values in prediction))


def _vectors(predictions: list[Prediction], wish: Wish) -> tuple[Array, Array]:
    """Costs and deviations of all objectives, (n, m) each."""
    means = np.stack([p.mean for p in predictions], axis=1)
    return means, np.stack([p.epistemic if wish.acquisition.epistemic else p.total for p in predictions], axis=1)


def _scalarised(predictions: list[Prediction], wish: Wish) -> tuple[Array, Array]:
    """One cost and one deviation for each point: how far the scalarised cost sinks when each objective sinks by one."""
    means, stds = _vectors(predictions, wish)
    if means.shape[1] == 1:
        return means[:, 0], stds[:, 0]
    mean = wish.scalarise(means)
    return mean, np.abs(mean - wish.scalarise(means - stds))
