"""What a model-based searcher has observed, and the matrices that a model is fitted to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from dhpo.encoding import Encoding
from dhpo.pareto import non_dominated_rank
from dhpo.searchers.acquisition import Array
from dhpo.searchers.fidelity import ResourceAxis, resource_axis
from dhpo.trial import Observation, Phase

IntArray: TypeAlias = npt.NDArray[np.intp]

SCALERS = ("auto", "identity", "minmax", "log", "quantile-uniform", "half-rank")
_EARLY = 8  # the first costs, which the search has not drawn to the best ones yet, tell what is middling
_OUTLIER_ROWS = 10  # quartiles of fewer values say little
_NORMAL = NormalDist()


class TrainingSet(NamedTuple):
    """What a model is fitted to.

    Attributes:
        rows: (n, d) encoded configurations.
        resources: (n,) where the resources lie at which they were observed, 1 where trials are complete, the less the
            lower (see :mod:`dhpo.searchers.fidelity`); None where all are the same.
        costs: (n, m) scaled costs, imputed where a trial failed.
        bounds: (m,) the worst costs still wanted, on the same scale.
        n_chosen: how many of the rows, the first, were chosen from the log's beginning; the others are its end.
        axis: where resources lie; None where all are the same.
        span: the least resource, and that at which trials are complete.
    """

    rows: Array
    resources: Array | None
    costs: Array
    bounds: Array
    n_chosen: int = 0
    axis: ResourceAxis | None = None
    span: tuple[float, float] = (1.0, 1.0)


class History:
    """The observations of one search: encoded once, and only ever added to."""

    def __init__(
        self, encoding: Encoding, n_objectives: int, max_t: float | None, *, measured_rungs: bool = True
    ) -> None:
        self._encoding = encoding
        self._measured = measured_rungs
        self._axis: tuple[tuple[int, float, float], ResourceAxis] | None = None
        self._max_t = max_t
        self._rows: Array = np.empty((64, len(encoding.columns)))
        self._places: dict[int, int] = {}  # trial -> row
        # The log: one row (place, resource, costs) for each observation with costs (NaN: it failed).
        self._log: Array = np.empty((64, 2 + n_objectives))
        self._n_log = 0
        self._chosen: tuple[tuple[int, int, bool], IntArray] | None = None
        self._early: tuple[int, Array] | None = None
        self._proposed: dict[int, tuple[Mapping[str, Any], Array]] = {}
        self._succeeded: set[int] = set()
        self._pending: dict[int, None] = {}  # in the order of their starts
        self.n_failed = 0
        self.n_observed = 0

    def __len__(self) -> int:
        """How many observations there are to learn from: those with costs, and the failures."""
        return self._n_log

    @property
    def rows(self) -> Array:
        """The encoded configurations (n, d) of all trials, in the order of their starts."""
        return self._rows[: len(self._places)]

    @property
    def n_succeeded(self) -> int:
        """How many trials have shown values."""
        return len(self._succeeded)

    def propose(self, trial: int, config: Mapping[str, Any], row: Array) -> None:
        """A configuration is proposed, whose row (d,) is known: it is not encoded again once it is a trial."""
        self._proposed[trial] = config, row

    def observe(self, observations: Sequence[Observation]) -> Array:
        """Take in what happened, in order; return the encoded configurations (n, d) of trials not known before."""
        new = {o.trial: o.config for o in observations if o.trial not in self._places}
        rows = self._encoded(new)
        self._append(list(new), rows)
        for o in observations:
            if o.phase is Phase.PENDING:
                # A trial that is promoted is known already: it does not become pending once more.
                if new.pop(o.trial, None) is not None:
                    self._pending[o.trial] = None
                continue
            self.n_observed += 1
            if o.phase is not Phase.RUNG:
                self._pending.pop(o.trial, None)
            if o.phase is Phase.FAILED:
                self.n_failed += 1
                self._record(o.trial, math.nan, math.nan)
            elif o.costs is not None:
                resource = o.resource if o.resource is not None else (self._max_t or 1.0)
                self._record(o.trial, resource, o.costs)
                self._succeeded.add(o.trial)
        return rows

    def _encoded(self, new: Mapping[int, Mapping[str, Any]]) -> Array:
        rows: Array = np.empty((len(new), self._rows.shape[1]))
        others: dict[int, Mapping[str, Any]] = {}  # by their places
        for place, (trial, config) in enumerate(new.items()):
            proposed = self._proposed.pop(trial, None)
            if proposed is not None and proposed[0] == config:
                rows[place] = proposed[1]
            else:
                others[place] = config
        if others:
            rows[list(others)] = self._encoding.encode(list(others.values()))
        return rows

    def n_shown(self, n: int) -> int:
        """How many of the first ``n`` observations have costs."""
        return n - int(np.isnan(self._log[:n, 1]).sum())

    def _append(self, trials: list[int], rows: Array) -> None:
        start = len(self._places)
        while start + len(rows) > len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[start : start + len(rows)] = rows
        self._places.update(zip(trials, range(start, start + len(rows)), strict=True))

    def _record(self, trial: int, resource: float, costs: float | tuple[float, ...]) -> None:
        if self._n_log == len(self._log):
            self._log = np.concatenate([self._log, np.empty_like(self._log)])
        entry = self._log[self._n_log]
        entry[0], entry[1], entry[2:] = self._places[trial], resource, costs
        self._n_log += 1

    def pending(self) -> tuple[list[int], Array]:
        """The trials that have not ended, ascending, and their encoded configurations (k, d)."""
        trials = sorted(self._pending)
        return trials, self._rows[[self._places[t] for t in trials]]

    def largest_seen(self, n_trials: int) -> float | None:
        """The largest resource that so many trials have come to; None where it is the one of complete trials."""
        log = self._log[: self._n_log]
        log = log[~np.isnan(log[:, 1])]
        reached = np.zeros(len(self._places))
        np.maximum.at(reached, log[:, 0].astype(int), log[:, 1])
        if n_trials > len(reached):
            return None
        largest = float(np.partition(reached, -n_trials)[-n_trials])
        return largest if 0.0 < largest < (self._max_t or 0.0) else None

    def training_set(
        self,
        limit: int,
        failures: str,
        scaler: str,
        bounds: Array,
        n_beginning: int | None = None,
        n: int | None = None,
    ) -> TrainingSet:
        """The matrices for a fit.

        Args:
            limit: how many rows at most are chosen from the log's beginning: half of them the best trials' last
                observations, an eighth what these showed before, an eighth the latest, the others spread evenly
                over the costs.
            failures: what failed trials are imputed with: "min" the worst value seen, "mean" the mean; "ignore" drops
                them.
            scaler: see :func:`scale`.
            bounds: (m,) the worst costs still wanted, infinite where any is.
            n_beginning: how long that beginning is; None: the whole log. All later observations are taken as well.
            n: the length of the log that counts; None: all of it.
        """
        log = self._log[: self._n_log if n is None else n]
        start = len(log) if n_beginning is None else n_beginning
        chosen = self._choice(start, limit, failures == "ignore")
        rest = log[start:]
        if failures == "ignore":
            rest = rest[~np.isnan(rest[:, 1])]
        middle = self._middle(len(log))
        log = np.vstack([log[chosen], rest])
        places, resources, costs = log[:, 0].astype(int), log[:, 1], log[:, 2:]
        failed = np.isnan(resources)
        shown = clip_outliers(costs[~failed])
        scaled = scale(np.vstack([shown, np.clip(bounds, shown.min(axis=0), shown.max(axis=0))]), scaler, middle)
        scaled, bounds = scaled[:-1], scaled[-1]
        costs = np.empty(costs.shape)
        costs[~failed] = scaled
        costs[failed] = scaled.mean(axis=0) if failures == "mean" else scaled.max(axis=0)
        resources = np.where(failed, resources[~failed].max(), resources)
        low, high = span = float(resources.min()), max(float(resources.max()), self._max_t or 0.0)
        axis = None if low == high else self._layout(start, low, high)
        where = None if axis is None else axis.at(resources)
        return TrainingSet(self._rows[places], where, costs, bounds, len(chosen), axis, span)

    def _choice(self, start: int, limit: int, drop_failed: bool) -> IntArray:
        """What is chosen from the log's beginning, kept for the next call: it takes time in a long log."""
        if self._chosen is None or self._chosen[0] != (start, limit, drop_failed):
            self._chosen = (start, limit, drop_failed), _choose(self._log[:start], limit, drop_failed)
        return self._chosen[1]

    def _middle(self, n: int) -> Array:
        """The medians (m,) of the first costs of the log's first ``n`` entries; kept once there are enough of them."""
        if self._early is None or n < self._early[0]:
            places = np.flatnonzero(~np.isnan(self._log[:n, 1]))[:_EARLY]
            early = np.sort(self._log[places, 2:], axis=0)
            middle: Array = early[(len(early) - 1) // 2]
            if len(places) < _EARLY:
                return middle
            self._early = int(places[-1]) + 1, middle
        return self._early[1]

    def _layout(self, start: int, low: float, high: float) -> ResourceAxis:
        """Where resources lie, by what was seen up to ``start``; kept for the next call as well."""
        if self._axis is None or self._axis[0] != (start, low, high):
            axis = resource_axis(self._log[:start], low, high, measured=self._measured)
            self._axis = (start, low, high), axis
        return self._axis[1]


def _choose(log: Array, limit: int, drop_failed: bool) -> IntArray:
    """Which observations of a log a model is fitted to, ascending; at most ``limit``."""
    # Of several observations of a trial at one resource the last counts.
    order = np.lexsort((np.arange(len(log)), log[:, 1], log[:, 0]))
    sorted_ = log[order]
    last = np.ones(len(log), dtype=bool)
    last[:-1] = (sorted_[1:, 0] != sorted_[:-1, 0]) | (sorted_[1:, 1] != sorted_[:-1, 1])
    kept = np.sort(order[last])
    failed = np.isnan(log[kept, 1])
    kept, failures = kept[~failed], kept[failed] if not drop_failed else kept[:0]
    failures = failures[-max(limit // 4, 1) :]
    limit -= len(failures)
    if len(kept) > limit:
        kept = kept[_choose_shown(log[kept], limit)]
    return np.sort(np.concatenate([kept, failures]))


def _choose_shown(log: Array, limit: int) -> IntArray:
    """As :func:`_choose`, where all have shown costs and there are too many."""
    order = np.lexsort((log[:, 1], log[:, 0]))
    is_top = np.ones(len(log), dtype=bool)  # the trial's observation at the largest resource
    is_top[order[:-1]] = log[order[1:], 0] != log[order[:-1], 0]
    tops = np.flatnonzero(is_top)
    tops = tops[np.argsort(_ranks(log[tops, 2:]), kind="stable")]
    best, others = tops[: limit // 2], tops[limit // 2 :]
    lower = np.flatnonzero(np.isin(log[:, 0], log[best, 0]) & ~is_top)[-(limit // 8) :]
    latest = others[others >= np.sort(tops)[-min(limit // 8, len(tops))]]
    others = others[~np.isin(others, latest)]
    left = limit - len(best) - len(lower) - len(latest)
    spread = others[np.unique(np.linspace(0, len(others) - 1, left).astype(int))] if len(others) else others
    return np.sort(np.concatenate([best, lower, latest, spread]))


def best_rows(training: TrainingSet, n: int) -> Array:
    """The ``n`` best configurations at the largest resource, by cost or by Pareto rank."""
    at_top = np.arange(len(training.rows))
    if training.resources is not None:
        at_top = np.flatnonzero(training.resources == training.resources.max())
    return training.rows[at_top[np.argsort(_ranks(training.costs[at_top]), kind="stable")[:n]]]


def _ranks(costs: Array) -> Array:
    return costs[:, 0] if costs.shape[1] == 1 else non_dominated_rank(costs).astype(float)


def clip_outliers(costs: Array) -> Array:
    """Clip costs (n, m) above the third quartile plus 1.5 interquartile ranges (Tukey's fence)."""
    if len(costs) < _OUTLIER_ROWS:
        return costs
    places = np.array([0.25, 0.75]) * (len(costs) - 1)  # between two, as np.percentile has it, which takes longer
    below, ordered = places.astype(int), np.sort(costs, axis=0)
    above = np.minimum(below + 1, len(costs) - 1)
    low, high = ordered[below] + (places - below)[:, None] * (ordered[above] - ordered[below])
    fence = high + 1.5 * (high - low)
    # Where half of the values are equal the quartiles say nothing about the others.
    return np.where((high > low) & (costs > fence), fence, costs)


def scale(costs: Array, scaler: str, middle: Array | None = None) -> Array:
    """Scale each column of costs (n, m) to the order of one.

    Args:
        costs: (n, m).
        scaler: "identity"; "minmax" to [0, 1]; "log", the logarithm of the latter; "half-rank", the same with the worse
            half replaced by normal quantiles of their ranks, so that what is bad counts no more than the spread of
            what is good (Song et al. 2024, arXiv 2408.11527, appendix B.1); "quantile-uniform", ranks in [0, 1] with
            ties sharing their mean (Égelé et al. 2023, arXiv 2309.14936, section 4.1); "auto", "half-rank" for one
            objective and "quantile-uniform" for several.
        middle: (m,) where the worse half begins; None: at the median. The median of costs that a search has drawn to
            its best one would make too much of the differences there.
    """
    if scaler == "auto":
        scaler = "half-rank" if costs.shape[1] == 1 else "quantile-uniform"
    if scaler == "identity":
        return costs
    if scaler == "quantile-uniform":
        columns = []
        for column in costs.T:
            _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
            columns.append(((np.cumsum(counts) - counts) + (counts - 1) / 2)[inverse] / max(len(column) - 1, 1))
        return np.stack(columns, axis=1)
    if scaler == "half-rank":
        costs = np.stack(
            [_half_ranked(column, None if middle is None else middle[j]) for j, column in enumerate(costs.T)], axis=1
        )
    low = costs.min(axis=0)
    width = costs.max(axis=0) - low
    unit: Array = (costs - low) / np.where(width > 0, width, 1.0)
    return np.log(unit + 1e-3) / math.log(1e3) + 1.0 if scaler == "log" else unit


def _half_ranked(costs: Array, middle: float | None) -> Array:
    """Costs (n,) whose part above the middle is as a normal sample of the spread below it would be."""
    median = float(np.sort(costs)[(len(costs) - 1) // 2])
    if middle is not None:
        median = max(median, middle)
    worse = costs > median
    spread = math.sqrt(float(np.mean((costs[~worse] - median) ** 2)))
    if not worse.any() or spread == 0.0:  # half of the costs are equal: their spread says nothing of the others
        return costs
    _, places = np.unique(costs[worse], return_inverse=True)
    result = costs.copy()
    n = int(places.max()) + 2
    quantiles = np.array([_NORMAL.inv_cdf(0.5 + 0.5 * place / n) for place in range(1, n)])
    result[worse] = median + spread * quantiles[places]
    return result
