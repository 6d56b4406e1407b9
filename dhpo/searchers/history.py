"""What a model-based searcher has observed, and the matrices that a model is fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dhpo.encoding import Encoding
from dhpo.pareto import non_dominated_rank
from dhpo.searchers.acquisition import Array
from dhpo.trial import Observation, Phase

_OUTLIER_ROWS = 10  # quartiles of fewer values say little


class TrainingSet(NamedTuple):
    """What a model is fitted to.

    Attributes:
        rows: (n, d) encoded configurations.
        resources: (n,) resources at which they were observed, from 0 (the least seen) to 1 (the largest); None where
            all are the same.
        costs: (n, m) scaled costs, imputed where a trial failed.
        bounds: (m,) the worst costs still wanted, on the same scale.
    """

    rows: Array
    resources: Array | None
    costs: Array
    bounds: Array


class History:
    """The observations of one search: encoded once, and only ever added to."""

    def __init__(self, encoding: Encoding, n_objectives: int, max_t: float | None) -> None:
        self._encoding = encoding
        self._n_objectives = n_objectives
        self._max_t = max_t
        self._rows: Array = np.empty((64, len(encoding.columns)))
        self._places: dict[int, int] = {}  # trial -> row
        self._values: dict[tuple[int, float], tuple[float, ...]] = {}
        self._succeeded: set[int] = set()
        self._pending: dict[int, None] = {}  # in the order of their starts
        self._failed: dict[int, None] = {}
        self.n_observed = 0

    def __len__(self) -> int:
        """How many (trial, resource) pairs have shown values."""
        return len(self._values)

    @property
    def n_succeeded(self) -> int:
        """How many trials have shown values."""
        return len(self._succeeded)

    @property
    def n_failed(self) -> int:
        """How many trials failed."""
        return len(self._failed)

    def observe(self, observations: Sequence[Observation]) -> None:
        """Take in what happened, in order."""
        new = {o.trial: o.config for o in observations if o.trial not in self._places}
        if new:
            self._append(list(new), self._encoding.encode(list(new.values())))
        for o in observations:
            if o.phase is Phase.PENDING:
                self._pending[o.trial] = None
                continue
            self.n_observed += 1
            if o.phase is not Phase.RUNG:
                self._pending.pop(o.trial, None)
            if o.phase is Phase.FAILED:
                self._failed[o.trial] = None
            elif o.costs is not None:
                resource = o.resource if o.resource is not None else (self._max_t or 1.0)
                self._values[o.trial, float(resource)] = o.costs
                self._succeeded.add(o.trial)

    def _append(self, trials: list[int], rows: Array) -> None:
        start = len(self._places)
        while start + len(rows) > len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[start : start + len(rows)] = rows
        self._places.update(zip(trials, range(start, start + len(rows)), strict=True))

    def pending(self, limit: int) -> Array:
        """The encoded configurations (k, d) of the latest trials that have not ended, at most ``limit``."""
        return self._rows[[self._places[t] for t in list(self._pending)[-limit:]]]

    def training_set(self, limit: int, failures: str, scaler: str, bounds: Array) -> TrainingSet:
        """The matrices for a fit.

        Args:
            limit: rows at most; beyond it the latest and the best half of them are kept.
            failures: what failed trials are imputed with: "min" the worst value seen, "mean" the mean; "ignore" drops
                them.
            scaler: see :func:`scale`.
            bounds: (m,) the worst costs still wanted, infinite where any is.
        """
        keys = list(self._values)
        trials = [trial for trial, _ in keys]
        resources = np.array([resource for _, resource in keys])
        costs = np.array(list(self._values.values())).reshape(len(keys), self._n_objectives)
        if len(keys) > limit:
            keep = _latest_and_best(costs, limit)
            trials, resources, costs = [trials[i] for i in keep], resources[keep], costs[keep]
        failed = [] if failures == "ignore" else list(self._failed)[-max(limit // 4, 1) :]
        costs = clip_outliers(costs)
        scaled = scale(np.vstack([costs, np.clip(bounds, costs.min(axis=0), costs.max(axis=0))]), scaler)
        costs, bounds = scaled[:-1], scaled[-1]
        if failed:
            imputed = costs.mean(axis=0) if failures == "mean" else costs.max(axis=0)
            costs = np.vstack([costs, np.tile(imputed, (len(failed), 1))])
            resources = np.concatenate([resources, np.full(len(failed), resources.max())])
        rows = self._rows[[self._places[t] for t in (*trials, *failed)]]
        return TrainingSet(rows, self._relative(resources), costs, bounds)

    def _relative(self, resources: Array) -> Array | None:
        """Resources on a log scale from 0 to 1, where 1 is the resource at which trials are complete."""
        low, high = float(resources.min()), max(float(resources.max()), self._max_t or 0.0)
        if low == high:
            return None
        floor = max(low, 1e-9 * high)
        return np.log(np.maximum(resources, floor) / floor) / math.log(high / floor)


def best_rows(training: TrainingSet, n: int) -> Array:
    """The ``n`` best configurations at the largest resource, by cost or by Pareto rank."""
    at_top = np.arange(len(training.rows))
    if training.resources is not None:
        at_top = np.flatnonzero(training.resources == training.resources.max())
    return training.rows[at_top[np.argsort(_ranks(training.costs[at_top]), kind="stable")[:n]]]


def _ranks(costs: Array) -> Array:
    return costs[:, 0] if costs.shape[1] == 1 else non_dominated_rank(costs).astype(float)


def _latest_and_best(costs: Array, limit: int) -> list[int]:
    latest = range(len(costs) - limit // 2, len(costs))
    keep = set(latest)
    for i in np.argsort(_ranks(costs), kind="stable").tolist():
        if len(keep) >= limit:
            break
        keep.add(i)
    return sorted(keep)


def clip_outliers(costs: Array) -> Array:
    """Clip costs (n, m) above the third quartile plus 1.5 interquartile ranges (Tukey's fence)."""
    if len(costs) < _OUTLIER_ROWS:
        return costs
    low, high = np.percentile(costs, (25, 75), axis=0)
    fence = high + 1.5 * (high - low)
    # Where half of the values are equal the quartiles say nothing about the others.
    return np.where((high > low) & (costs > fence), fence, costs)


def scale(costs: Array, scaler: str) -> Array:
    """Scale each column of costs (n, m) to the order of one.

    Args:
        costs: (n, m).
        scaler: "identity"; "minmax" to [0, 1]; "log", the logarithm of the latter; "quantile-uniform", ranks in [0, 1]
            with ties sharing their mean (Égelé et al. 2023, arXiv 2309.14936, section 4.1); "auto", "minmax" for one
            objective and "quantile-uniform" for several.
    """
    if scaler == "auto":
        scaler = "minmax" if costs.shape[1] == 1 else "quantile-uniform"
    if scaler == "identity":
        return costs
    if scaler == "quantile-uniform":
        columns = []
        for column in costs.T:
            _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
            columns.append(((np.cumsum(counts) - counts) + (counts - 1) / 2)[inverse] / max(len(column) - 1, 1))
        return np.stack(columns, axis=1)
    low = costs.min(axis=0)
    width = costs.max(axis=0) - low
    unit: Array = (costs - low) / np.where(width > 0, width, 1.0)
    return np.log(unit + 1e-3) / math.log(1e3) + 1.0 if scaler == "log" else unit
