"""The columns behind the plots of results: the front, the incumbent over time, and learning curves.

Everything is bounded, whatever the size of the search: a plot has no use for more points than it has pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo._trials import TrialRecord
from dhpo.dashboard.view import View
from dhpo.trial import Status

Columns: TypeAlias = dict[str, list[Any]]

_MOST_POINTS = 2000  # in a scatter plot, the front besides
_MOST_STEPS = 1000
_MOST_CURVES = 200
_MOST_PER_CURVE = 60
_MOST_OUTSTANDING = 12  # trials of the front
_SHARES = (0.4, 0.3)  # of the curves, for the best trials and for those that run; the others are the latest to end
_KINDS = {
    Status.RUNNING: "running",
    Status.COMPLETED: "completed",
    Status.STOPPED: "stopped",
    Status.PAUSED: "paused",
    Status.FAILED: "failed",
    Status.TIMED_OUT: "failed",
    Status.CANCELLED: "stopped",
}


def spread(n: int, most: int) -> NDArray[np.intp]:
    """At most so many of ``n`` places, evenly, with the first and the last."""
    return np.arange(n) if n <= most else np.unique(np.linspace(0, n - 1, most).astype(np.intp))


def thinned(n: int, most: int) -> NDArray[np.intp]:
    """At most so many of ``n`` places, evenly: the same ones while ``n`` grows, until every second one is dropped."""
    stride = 1
    while n > most * stride:
        stride *= 2
    return np.arange(0, n, stride)


def steps(n: int, most: int) -> NDArray[np.intp]:
    """As :func:`thinned`, with the last one besides."""
    found = thinned(n, most)
    return np.append(found, n - 1) if n and found[-1] != n - 1 else found


def front(view: View, x: int, y: int) -> dict[str, Columns]:
    """The results as points of two objectives, and those of the Pareto front (over all objectives) among them.

    Args:
        view: of the search.
        x: the column of the objective to the right.
        y: the column of the objective upwards.

    Returns:
        ``points``, ``front`` and, for two objectives, the ``steps`` up to which the front dominates.
    """
    best = view.points.leaders.front
    best = best[np.argsort(view.points.rows.costs[best, x], kind="stable")]
    others = view.points.here()[thinned(len(view.points), _MOST_POINTS)]
    shown = {"points": _places(view, others, x, y), "front": _places(view, best, x, y)}
    corners: Columns = {"x": [], "y": []}
    if len(view.objectives) == 2 and len(best) and x != y:
        corners = _steps(shown["front"]["x"], shown["front"]["y"])
    return {**shown, "steps": corners}


def _steps(xs: Sequence[float], ys: Sequence[float]) -> Columns:
    """The corners between points in the order of rising costs: what a point attains, worse values of it attain too."""
    corners: Columns = {"x": [xs[0]], "y": [ys[0]]}
    for (_, right), (before, after) in zip(pairwise(xs), pairwise(ys), strict=True):
        corners["x"] += [right, right]
        corners["y"] += [before, after]
    return corners


def _places(view: View, rows: NDArray[np.int64], x: int, y: int) -> Columns:
    points, signs = view.points.rows, view.objectives.signs
    trials = points.trial[rows].tolist()
    return {
        "x": (points.costs[rows, x] * signs[x]).tolist(),
        "y": (points.costs[rows, y] * signs[y]).tolist(),
        "trial": trials,
        "resource": [None if np.isnan(r) else r for r in points.resource[rows].tolist()],
        "config": [view.text_of(trial) for trial in trials],
    }


def history(view: View, column: int) -> Columns:
    """The value by which each trial stands, by its number, for one objective."""
    points = view.points
    rows = points.last[points.in_order()[thinned(len(points.trials), _MOST_POINTS)]]
    trials = points.rows.trial[rows].tolist()
    return {
        "trial": trials,
        "value": (points.rows.costs[rows, column] * view.objectives.signs[column]).tolist(),
        "kind": [_KINDS[view.trials[trial].status] for trial in trials],
        "config": [view.text_of(trial) for trial in trials],
    }


def incumbent(view: View, column: int) -> Columns:
    """The best value of one objective over the search's time; the last row stands at the present."""
    rows = view.points.leaders.incumbents(column)
    rows = rows[steps(len(rows), _MOST_STEPS)]
    if not len(rows):
        return {"time": [], "value": [], "trial": [], "config": []}
    points = view.points.rows
    times, trials = points.time[rows].tolist(), points.trial[rows].tolist()
    values = (points.costs[rows, column] * view.objectives.signs[column]).tolist()
    return {
        "time": [*times, max(view.now, times[-1])],
        "value": [*values, values[-1]],
        "trial": [*trials, trials[-1]],
        "config": [view.text_of(trial) for trial in [*trials, trials[-1]]],
    }


def hypervolume(view: View) -> Columns:
    """The hypervolume of the front over the search's time, by the reference point that all results so far give."""
    if view.objectives.single or not len(view.points):
        return {"time": [], "value": []}
    rows, volumes = view.points.leaders.hypervolumes()
    if not len(rows):
        return {"time": [], "value": []}
    chosen = steps(len(rows), _MOST_STEPS)
    times, values = view.points.rows.time[rows[chosen]].tolist(), volumes[chosen].tolist()
    return {"time": [*times, max(view.now, times[-1])], "value": [*values, values[-1]]}


def curves(view: View, column: int) -> dict[str, Columns]:
    """The learning curves of the most interesting trials, and where trials were stopped or paused, for one objective.

    Returns:
        ``curves``, one row for each trial; and ``ends``.
    """
    points = view.points
    best = _best_trials(view, column)
    most = 1 if view.objectives.single else _MOST_OUTSTANDING
    outstanding = {best[place] for place in spread(len(best), most).tolist()}
    chosen = _interesting(view, best)
    chains = points.chains([points.slot(trial) or 0 for trial in chosen])
    lines: Columns = {name: [] for name in ("xs", "ys", "trial", "kind", "config")}
    ends: Columns = {name: [] for name in ("x", "y", "trial", "kind", "config")}
    for trial, rows in zip(chosen, chains, strict=True):
        rows = rows[np.isfinite(points.rows.resource[rows])]
        rows = rows[spread(len(rows), _MOST_PER_CURVE)]
        values = (points.rows.costs[rows, column] * view.objectives.signs[column]).tolist()
        resources = points.rows.resource[rows].tolist()
        status, text = view.trials[trial].status, view.text_of(trial)
        _extend(lines, (resources, values, trial, "best" if trial in outstanding else _KINDS[status], text))
        if status in (Status.STOPPED, Status.PAUSED):
            _extend(ends, (resources[-1], values[-1], trial, _KINDS[status], text))
    return {"curves": lines, "ends": ends}


def _extend(columns: Columns, row: Sequence[Any]) -> None:
    for column, value in zip(columns.values(), row, strict=True):
        column.append(value)


def _best_trials(view: View, column: int) -> list[int]:
    """The trials of the front, or, for one objective, the best trials, the best one first."""
    points = view.points
    if not view.objectives.single:
        rows = points.leaders.front
        rows = rows[np.argsort(points.rows.costs[rows, 0], kind="stable")]
        return list(dict.fromkeys(points.rows.trial[rows].tolist()))
    slots = points.in_order()
    slots = slots[np.argsort(points.least[slots, column], kind="stable")[:_MOST_CURVES]]
    return points.trials[slots].tolist()  # type: ignore[no-any-return]


def _interesting(view: View, best: Sequence[int]) -> list[int]:
    """The trials to show, by number, of those that reported: the best, those that run, and those that ended last."""
    points = view.points
    if len(points.trials) <= _MOST_CURVES:
        return [trial for trial in np.sort(points.trials).tolist() if _reported(view.trials[trial])]
    n_best, n_running = (int(share * _MOST_CURVES) for share in _SHARES)
    open_ = [r for r in view.trials.open if _reported(r)]
    running = sorted((r.number for r in open_ if r.status is Status.RUNNING), reverse=True)
    latest = [r for r in open_ if r.status is not Status.RUNNING]
    latest += [r for r in islice(reversed(view.trials.ended), 2 * _MOST_CURVES) if _reported(r)]
    latest.sort(key=lambda record: (-record.gathered, record.number))
    chosen = dict.fromkeys([t for t in best if _reported(view.trials[t])][:n_best] + running[:n_running])
    for record in latest:
        if len(chosen) >= _MOST_CURVES:
            break
        chosen[record.number] = None
    return sorted(chosen)


def _reported(record: TrialRecord) -> bool:
    return record.resource is not None
