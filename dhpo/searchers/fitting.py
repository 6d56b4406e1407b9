"""When surrogates are fitted, to what, and what has come since."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dhpo.encoding import Encoding
from dhpo.searchers.acquisition import Array
from dhpo.searchers.gaussian_process import Kernel, Lengths, fitted_kernel
from dhpo.searchers.history import History, TrainingSet, best_rows
from dhpo.searchers.maximiser import Pool
from dhpo.searchers.prior import MIN_ROWS, Prior
from dhpo.searchers.surrogates import GP_ROWS, Belief, Surrogate, fit_surrogate, uses_gaussian_process
from dhpo.searchers.transfer import Transfer

FOREST_ROWS = 2_000
#: Surrogates are fitted anew when the log has grown by about a sixteenth, or by this many observations.
_REFIT_AFTER = 64
#: In a log of this length or more, a Gaussian process's kernel is found anew when the log has grown by about an eighth.
_KERNEL_KEPT = 1_024
_FIT = 0x66_69_74  # tells the random stream of a fit from those of the proposals


class Recipe(NamedTuple):
    """How to fit, as :class:`~dhpo.searchers.cbo.CBO` describes it."""

    model: Any
    kwargs: Mapping[str, Any] | None
    failures: str
    scaler: str
    n_points: int
    bounds: Array
    transfer: Transfer | None
    update_prior: float = 0.0  # the share of the best by which candidates are drawn; 0: by the space


class Fit(NamedTuple):
    """The present state of the model.

    Attributes:
        training: what was observed.
        beliefs: one for each objective; copies are to be extended, not these.
        pool: the candidates at which they predict.
        place: where the resource lies at which they predict them.
    """

    training: TrainingSet
    beliefs: list[Belief]
    pool: Pool
    place: float


class Fitter:
    """Makes the model of a history.

    Whatever is asked when, the answer follows from the log alone: the surrogates are those that were fitted when the
    log had a length of :func:`fitted_at`, extended by the observations since. What is kept here only saves time.
    """

    def __init__(self, encoding: Encoding, recipe: Recipe, history: History, seed: int) -> None:
        self._encoding = encoding
        self._recipe = recipe
        self._history = history
        self._seed = seed
        self._base: _Base | None = None
        self._kernels: tuple[int, list[Kernel]] | None = None  # at which length of the log they were found
        self._present: dict[tuple[bool, float | None], Fit] = {}
        self._present_at = -1

    def __getstate__(self) -> dict[str, Any]:
        # Made again when needed, the same.
        return {**self.__dict__, "_base": None, "_kernels": None, "_present": {}, "_present_at": -1}

    def fit(self, led: bool = False, resource: float | None = None) -> Fit:
        """The model of all that was observed.

        Args:
            led: with the mean of earlier searches.
            resource: at which it predicts; None: where trials are complete.
        """
        n = len(self._history)
        if self._present_at != n:
            self._present_at, self._present = n, {}
        key = led, resource
        if key not in self._present:
            self._present[key] = self._fitted(n, n, led, resource) if led else self._extended(n, resource)
        return self._present[key]

    def refitted(self, led: bool, extra: Array, costs: Array, resource: float | None = None) -> Fit:
        """The model with these encoded rows observed as well, at these scaled costs (m,) and the largest resource."""
        training, _, pool, place = self.fit(led, resource)
        resources = training.resources
        joined = training._replace(
            rows=np.vstack([training.rows, extra]),
            resources=None if resources is None else np.concatenate([resources, np.ones(len(extra))]),
            costs=np.vstack([training.costs, np.tile(costs, (len(extra), 1))]),
        )
        surrogates = self._surrogates(joined, len(self._history), led)
        return Fit(joined, self._beliefs(surrogates, pool, joined, place), pool, place)

    def inputs_at(self, training: TrainingSet, place: float) -> Callable[[Array], Array]:
        """What turns encoded rows into inputs of a model fitted to this, for a resource that lies there."""
        return lambda rows: self._inputs(rows, None if training.resources is None else np.full(len(rows), place))

    def learn(self) -> None:
        """Let the earlier searches be weighed by what was observed."""
        n, transfer = len(self._history), self._recipe.transfer
        training = self._training(n, n)
        if transfer is not None:
            transfer.learn(self._inputs(training.rows, training.resources), training, self._history.n_succeeded)

    def probability(self) -> float:
        """The posterior probability of the model with the mean of earlier searches against that without."""
        n, transfer = len(self._history), self._recipe.transfer
        training = self._training(n, n)
        plain, led = self._surrogates(training, n, False), self._surrogates(training, n, True)
        return 0.0 if transfer is None else transfer.probability(plain, led, training.costs)

    def _extended(self, n: int, resource: float | None) -> Fit:
        """The plain model: fitted to the log's beginning, and extended by its end."""
        start = fitted_at(n)
        if not self._history.n_shown(start):  # nothing but failures
            return self._fitted(n, n, False, resource)
        if self._base is None or self._base.start != start:
            training = self._training(start, start)
            surrogates = self._surrogates(training, start, False, self._kernels_for(start))
            self._base = _Base(start, training, surrogates, self._pool(training, start, False), {})
        base = self._base
        training = base.training if n == start else self._training(start, n)
        if training.span != base.training.span:  # a resource has come that the fit knows nothing of
            return self._fitted(start, n, False, resource)
        if resource not in base.grown:
            place = _place(base.training, resource)
            beliefs = self._beliefs(base.surrogates, base.pool, base.training, place)
            base.grown[resource] = Fit(base.training, beliefs, base.pool, place)
        grown = base.grown[resource]
        k = len(grown.training.rows)
        if training is not base.training:
            points = self._inputs(training.rows[k:], None if training.resources is None else training.resources[k:])
            for belief, costs in zip(grown.beliefs, training.costs.T, strict=True):
                belief.observe(points, costs)
            base.grown[resource] = grown._replace(training=training)
        return base.grown[resource]

    def _fitted(self, start: int, n: int, led: bool, resource: float | None) -> Fit:
        training = self._training(start, n)
        pool, place = self._pool(training, start, led), _place(training, resource)
        return Fit(training, self._beliefs(self._surrogates(training, n, led), pool, training, place), pool, place)

    def _training(self, start: int, n: int) -> TrainingSet:
        recipe = self._recipe
        limit = GP_ROWS if uses_gaussian_process(recipe.model) else FOREST_ROWS
        return self._history.training_set(limit, recipe.failures, recipe.scaler, recipe.bounds, start, n)

    def _beliefs(
        self, surrogates: Sequence[Surrogate], pool: Pool, training: TrainingSet, place: float
    ) -> list[Belief]:
        points = self._inputs(pool.rows, None if training.resources is None else np.full(len(pool.rows), place))
        return [surrogate.belief(points) for surrogate in surrogates]

    def _kernels_for(self, start: int) -> list[Kernel]:
        """The kernels for a fit to the log's beginning; none where they are to be found in this fit."""
        found_at = kernel_found_at(start)
        if found_at == start or not self._history.n_shown(found_at) or not uses_gaussian_process(self._recipe.model):
            return []
        if self._kernels is None or self._kernels[0] != found_at:
            training = self._training(found_at, found_at)
            inputs = self._inputs(training.rows, training.resources)
            self._kernels = found_at, [fitted_kernel(inputs, costs) for costs in training.costs.T]
        return self._kernels[1]

    def _surrogates(self, training: TrainingSet, n: int, led: bool, kernels: Sequence[Kernel] = ()) -> list[Surrogate]:
        inputs, recipe = self._inputs(training.rows, training.resources), self._recipe
        surrogates: list[Surrogate] = []
        for i, costs in enumerate(training.costs.T):
            fit = partial(_fit, recipe, inputs, self._rng(n, i))
            if kernels and len(kernels[i].lengths) == inputs.shape[1]:  # else the resource has become an input
                fit = partial(fit, kernel=kernels[i])
            if led and recipe.transfer is not None:
                surrogates.append(recipe.transfer.surrogate(fit, inputs, costs, training.resources))
            else:
                surrogates.append(fit(costs))
        return surrogates

    def _pool(self, training: TrainingSet, n: int, led: bool) -> Pool:
        rng, recipe = self._rng(n, -1), self._recipe
        best = best_rows(training, 5)
        near = [self._encoding.neighbours(row, rng, 80, (0.1, 0.02)) for row in best]
        plain = self._encoding.sample(recipe.n_points, rng)
        if recipe.update_prior and len(training.rows) >= MIN_ROWS:
            n_best = max(MIN_ROWS, math.ceil(recipe.update_prior * len(training.rows)))
            plain = Prior.of(self._encoding, best_rows(training, n_best)).sample(recipe.n_points, rng, plain)
        parts = {"plain": plain, "near": np.vstack(near)}
        if led and recipe.transfer is not None:
            parts["prior"] = recipe.transfer.sample(recipe.n_points, rng)
        return Pool.of(**parts, observed=training.rows[-GP_ROWS:])

    def _inputs(self, rows: Array, resources: Array | None) -> Array:
        features = self._encoding.features(rows)
        return features if resources is None else np.column_stack([features, resources])

    def _rng(self, n: int, part: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self._seed, n, _FIT, part + 1]))


class _Base(NamedTuple):
    """What was fitted to the log's beginning.

    Attributes:
        start: how long that is.
        training: what was observed by then.
        surrogates: one for each objective.
        pool: the candidates.
        grown: the surrogates' beliefs by resource, extended by what has come since.
    """

    start: int
    training: TrainingSet
    surrogates: list[Surrogate]
    pool: Pool
    grown: dict[float | None, Fit]


def _place(training: TrainingSet, resource: float | None) -> float:
    """Where a resource lies; 1 for None."""
    if training.axis is None or resource is None:
        return 1.0
    return float(training.axis.at(np.array([resource]))[0])


def _fit(
    recipe: Recipe,
    inputs: Array,
    rng: np.random.Generator,
    costs: Array,
    lengths: Lengths | None = None,
    kernel: Kernel | None = None,
) -> Surrogate:
    return fit_surrogate(recipe.model, recipe.kwargs, inputs, costs, rng, lengths, kernel)


def fitted_at(n: int) -> int:
    """The length of the log, at most ``n``, at which the model in use at ``n`` was fitted."""
    step = min(1 << max((n // 16).bit_length() - 1, 0), _REFIT_AFTER)
    return n - n % step


def kernel_found_at(start: int) -> int:
    """The length of the log, at most ``start``, at which the kernel was found that is in use for a fit to ``start``."""
    if start < _KERNEL_KEPT:
        return start
    step = 1 << ((start // 8).bit_length() - 1)
    return start - start % step
