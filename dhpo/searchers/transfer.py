"""Transfer from earlier searches: which of them to believe, where to begin, and what to expect there.

Each source has a density of its best configurations and a regression of its costs (:class:`Prior`). A source is
believed as far as its regression ranks the target's own observations rightly, in the manner of the ranking-weighted
ensemble of Feurer et al. 2018 (arXiv 1802.02219, section 4). The first proposals are those by which the sources'
regressions expect to improve most (Wistuba et al. 2018, "Scalable Gaussian process-based transfer surrogates for
hyperparameter optimization", section 4: before any evidence, a greedy portfolio). Then what the sources expect becomes
the mean of the target's model, which is chosen for a proposal with its posterior probability against the plain model.

How fast the costs change along each hyperparameter is learnt from the sources too: the lengths of their kernels are
the prior of those of the target's (as in pre-trained processes, Wang et al. 2021, arXiv 2109.08215). What the target
differs by then varies as fast as the sources do. Without it, a process that has seen only where the sources are good
takes the difference for constant, and their mean for certain. Where no source is believed, the lengths are what is left
of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy

import numpy as np

from dhpo.encoding import Encoding
from dhpo.pareto import non_dominated_rank
from dhpo.ranks import rank_correlation
from dhpo.searchers.acquisition import Array, Prediction
from dhpo.searchers.gaussian_process import GaussianProcess, Lengths, usual_lengths
from dhpo.searchers.history import TrainingSet
from dhpo.searchers.prior import Prior
from dhpo.searchers.surrogates import Belief, Surrogate

#: Before any evidence a source's rank correlation with the target is taken for HOPE, as if PSEUDO trials had shown it.
HOPE = 0.5
PSEUDO = 4.0
#: The sources propose the first trials; the next one is a plain one, so that there is something to compare with.
FIRST = 3
#: Probability, before any evidence, that the model with the sources' mean is the better one.
PROBABLE = 0.8
#: The pull of the mean's slope towards what is expected beforehand, in observations.
PULL = 4.0
#: The least deviation of the logarithm of a length from what the sources say.
WIDTH = 0.5
#: Log odds that the sources lose by every observation: what the target knows itself needs them less and less.
DOUBT = 0.1

_POOL = 0x70_6F_6C  # tells the random stream of the pool from those of the proposals
_TURN = 0x74_75_72


class Transfer:
    """The sources of one search, weighted by the target's observations.

    Args:
        encoding: the target's.
        priors: one for each source, in that encoding.
        n_points: how many random candidates the first proposals are chosen from.
        seed: the search's seed.
    """

    def __init__(self, encoding: Encoding, priors: Sequence[Prior], n_points: int, seed: int) -> None:
        self._priors = tuple(priors)
        self._encoding = encoding
        self._correlations: Array = np.array([HOPE * prior.weight for prior in priors])
        self._n_points = n_points
        self._seed = seed
        self._pool: tuple[Array, Array] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pool": None}  # made again when needed, the same

    @property
    def weights(self) -> Array:
        """(k,) each source's share in what is expected: by its squared correlation. All are 0 if none is believed."""
        squares: Array = self._correlations**2
        return squares / squares.sum() if squares.any() else squares

    @property
    def trust(self) -> float:
        """How far the sources are believed, from 0 to 1: the best one's correlation with the target."""
        return float(self._correlations.max())

    def learn(self, inputs: Array, training: TrainingSet, n_trials: int) -> None:
        """Weigh the sources by all of the target's observations.

        Args:
            inputs: (n, f) their model inputs.
            training: the observations.
            n_trials: how many trials they come from.
        """
        costs, evidence = _comparable(training), max(n_trials - 1, 0)  # a single trial ranks nothing
        for i, prior in enumerate(self._priors):
            seen = 0.0 if prior.model is None else rank_correlation(prior.model.predict(inputs), costs)
            believed = (PSEUDO * HOPE + evidence * seen) / (PSEUDO + evidence)
            self._correlations[i] = prior.weight * max(believed, 0.0)

    def leads(self, number: int, n_trials: int, probability: Callable[[], float]) -> bool:
        """Whether the proposal for this trial goes by the sources: if none is believed, by their lengths alone.

        Args:
            number: the trial's number.
            n_trials: how many of the target's trials have shown values.
            probability: gives :meth:`probability`; asked for only where there is evidence to compare models by.
        """
        if number == FIRST or not any(prior.weight for prior in self._priors):
            return False
        if number < FIRST or n_trials < FIRST:
            chance = PROBABLE if number > FIRST else 1.0
            return self.trust > 0.0 and self._turn(number) < chance
        return self._turn(number) < probability()

    def _turn(self, number: int) -> float:
        return float(np.random.default_rng(np.random.SeedSequence([self._seed, number, _TURN])).random())

    def probability(self, plain: Sequence[Surrogate], led: Sequence[Surrogate], costs: Array) -> float:
        """The posterior probability of the models with the sources' mean against the plain ones.

        Args:
            plain: one model for each objective.
            led: the same, made by :meth:`surrogate`.
            costs: (n, m) what they were fitted to.
        """
        log_odds = math.log(PROBABLE / (1.0 - PROBABLE)) - DOUBT * len(costs)
        for a, b, y in zip(plain, led, costs.T, strict=True):
            if isinstance(b, Led) and isinstance(a, GaussianProcess) and isinstance(b.inner, GaussianProcess):
                log_odds += _log_evidence(b.inner, b.residuals) - _log_evidence(a, y)
        return 1.0 / (1.0 + math.exp(-min(max(log_odds, -50.0), 50.0)))

    def sample(self, n: int, rng: np.random.Generator, plain: Array | None = None) -> Array:
        """Draw ``n`` encoded configurations from the mixture of the sources' densities; see :meth:`Prior.sample`."""
        drawn = self._encoding.sample(n, rng) if plain is None else plain.copy()
        weights = self.weights
        if weights.any():
            chosen = rng.choice(len(self._priors), size=n, p=weights)
            for i, prior in enumerate(self._priors):
                here = np.flatnonzero(chosen == i)
                if len(here):
                    drawn[here] = prior.sample(len(here), rng, drawn[here])
        return drawn

    def first(self, observed: Array, n: int) -> Array:
        """The ``n`` candidates by which the sources that know the whole space expect to improve most, best first.

        Args:
            observed: (r, d) the target's configurations so far, those that run included.
            n: how many; there are none if no source that is believed knows the whole space.
        """
        models = [prior.model for prior in self._priors]
        weights = np.array([w if m is not None and m.complete else 0.0
                            for w, m in zip(self.weights, models, strict=True)])  # fmt: skip
        if not weights.any():
            return np.empty((0, len(self._encoding.columns)))
        pool, expected = self._candidates()
        best = expected.max(axis=1)
        if len(observed):
            inputs = self._encoding.features(observed)
            best = np.array([0.0 if m is None else m.predict(inputs).min() for m in models])
        gains = weights @ np.maximum(best[:, None] - expected, 0.0)
        order = np.lexsort((weights @ expected, -gains))  # where none expects a gain, the lowest cost goes first
        return pool[order[:n]]

    def _candidates(self) -> tuple[Array, Array]:
        """The pool (p, d), and what each source expects there (k, p)."""
        if self._pool is None:
            rng = np.random.default_rng(np.random.SeedSequence([self._seed, _POOL]))
            near = [prior.sample(self._n_points // 4, rng) for prior in self._priors]
            pool = np.vstack([self._encoding.sample(self._n_points, rng), *near])
            inputs = self._encoding.features(pool)
            expected = [np.zeros(len(pool)) if p.model is None else p.model.predict(inputs) for p in self._priors]
            self._pool = pool, np.array(expected)
        return self._pool

    def expected(self, inputs: Array) -> Array:
        """(n,) the sources' weighted expectation of the scaled cost at model inputs (n, f)."""
        total: Array = np.zeros(len(inputs))
        for weight, prior in zip(self.weights, self._priors, strict=True):
            if weight > 0.0 and prior.model is not None:
                total += weight * prior.model.predict(inputs)
        return total

    def lengths(self, d: int) -> Lengths:
        """The prior of the lengths for ``d`` model inputs: the believed sources' mean and spread, or that of all.

        Inputs that no source knows, the resource among them, have the usual prior.
        """
        believed = self.weights
        weights = believed if believed.any() else [prior.weight for prior in self._priors]
        result = usual_lengths(d)
        total, mean, square = np.zeros((3, d))
        for weight, prior in zip(weights, self._priors, strict=True):
            if prior.model is not None:
                known = np.flatnonzero(prior.model.features)
                logs = np.log(prior.model.process.lengths)
                total[known] += weight
                mean[known] += weight * logs
                square[known] += weight * logs**2
        known = np.flatnonzero(total)
        mean, square = mean[known] / total[known], square[known] / total[known]
        result.centre[known] = mean
        result.width[known] = np.sqrt(WIDTH**2 + np.maximum(square - mean**2, 0.0))
        return result

    def surrogate(
        self, fit: Callable[[Array, Lengths], Surrogate], inputs: Array, costs: Array, resources: Array | None
    ) -> Led:
        """A surrogate with the sources' lengths, whose mean, far from the observations, is what the sources expect.

        Args:
            fit: fits a plain surrogate to (n,) costs at ``inputs``, with this prior of the lengths.
            inputs: (n, f) model inputs.
            costs: (n,) scaled costs.
            resources: (n,) the resources at which they were observed; None where all are the same.
        """
        expected = self.expected(inputs)
        slope = _slope(_without_resource(expected, resources), _without_resource(costs, resources), self.trust)
        residuals = costs - slope * expected
        inner = fit(residuals, self.lengths(inputs.shape[1]))
        return Led(inner, residuals, lambda points: slope * self.expected(points), slope * expected)


class Led:
    """A surrogate of what a given mean leaves over."""

    def __init__(self, inner: Surrogate, residuals: Array, mean: Callable[[Array], Array], at_inputs: Array) -> None:
        self.inner = inner
        self.residuals = residuals
        self.mean = mean
        self.at_inputs = at_inputs

    def belief(self, pool: Array) -> Belief:
        """Start from the observations alone."""
        return LedBelief(self.inner.belief(pool), self.mean, self.at_inputs, pool)


class LedBelief:
    """The belief of the inner surrogate, with the mean added."""

    def __init__(self, inner: Belief, mean: Callable[[Array], Array], at_inputs: Array, pool: Array) -> None:
        self._inner = inner
        self._mean = mean
        self._at_inputs = at_inputs
        self._at_pool = mean(pool)

    def pool(self) -> Prediction:
        """Predict at the pool."""
        return _raised(self._inner.pool(), self._at_pool)

    def at(self, points: Array) -> Prediction:
        """Predict at any points."""
        return _raised(self._inner.at(points), self._mean(points))

    def path(self, rng: np.random.Generator) -> Callable[[Array], Array]:
        """Draw one function."""
        inner = self._inner.path(rng)
        return lambda points: inner(points) + self._mean(points)

    def believe(self, points: Array) -> None:
        """Count these points as observed at their predicted costs."""
        self._inner.believe(points)

    def observe(self, points: Array, costs: Array) -> None:
        """Add observations; ``costs`` are all, the fit's first."""
        self._at_inputs = np.concatenate([self._at_inputs, self._mean(points)])
        self._inner.observe(points, costs - self._at_inputs)

    def copy(self) -> LedBelief:
        """The same belief, to be extended on its own."""
        twin = copy(self)
        twin._inner = self._inner.copy()
        return twin


def _raised(prediction: Prediction, mean: Array) -> Prediction:
    return prediction._replace(mean=prediction.mean + mean)


def _slope(expected: Array, costs: Array, trust: float) -> float:
    """How many of the target's units one unit of the sources is worth, by ridge regression; never below 0.

    It is pulled towards the slope that a source of this trust has if costs there spread as far as here.
    """
    slope = (float(expected @ costs) + PULL * trust * float(costs.std())) / (float(expected @ expected) + PULL)
    return max(slope, 0.0)


def _without_resource(values: Array, resources: Array | None) -> Array:
    """Values (n,) less their mean and what the resource explains of them."""
    basis = np.ones((len(values), 1))
    if resources is not None:
        basis = np.column_stack([basis, resources])
    result: Array = values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0]
    return result


def _comparable(training: TrainingSet) -> Array:
    """One cost (n,) for each observation, comparable across resources; of several objectives, the Pareto rank."""
    several = training.costs.shape[1] > 1
    cost: Array = non_dominated_rank(training.costs).astype(np.float64) if several else training.costs[:, 0]
    return cost if training.resources is None else _without_resource(cost, training.resources)


def _log_evidence(process: GaussianProcess, costs: Array) -> float:
    """The log marginal likelihood of the costs (n,) that a process was fitted to, up to a term in n alone."""
    scale = float(costs.std()) or 1.0
    fit = 0.5 * float(process.white @ process.white) + float(np.log(np.diag(process.factor)).sum())
    return -fit - len(costs) * math.log(scale)
