"""The columns behind the plots of results: the front, the incumbent over time, and learning curves.

Everything is bounded, whatever the size of the search: a plot has no use for more points than it has pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo._points import Points
from dhpo._progress import hypervolumes, incumbents
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


def front(view: View, x: int, y: int) -> dict[str, Columns]:
    """The results as points of two objectives, and those of the Pareto front (over all objectives) among them.

    Args:
        view: of the search.
        x: the column of the objective to the right.
        y: the column of the objective upwards.

    Returns:
        ``points``, ``front`` and, for two objectives, the ``steps`` up to which the front dominates.
    """
    points = view.points()
    best = view.front()
    best = best[np.argsort(points.costs[best, x], kind="stable")]
    others = points.by_arrival()[thinned(len(points), _MOST_POINTS)]
    shown = {"points": _places(view, points, others, x, y), "front": _places(view, points, best, x, y)}
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


def _places(view: View, points: Points, rows: NDArray[np.intp], x: int, y: int) -> Columns:
    signs = view.objectives.signs
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
    points = view.points()
    rows = points.last_rows()
    rows = rows[thinned(len(rows), _MOST_POINTS)]
    records = view.by_number()
    trials = points.trial[rows].tolist()
    return {
        "trial": trials,
        "value": (points.costs[rows, column] * view.objectives.signs[column]).tolist(),
        "kind": [_KINDS[records[trial].status] for trial in trials],
        "config": [view.text_of(trial) for trial in trials],
    }


def incumbent(view: View, column: int) -> Columns:
    """The best value of one objective over the search's time; the last row stands at the present."""
    points = view.points()
    empty: Columns = {"time": [], "value": [], "trial": [], "config": []}
    if not len(points):
        return empty
    frame = incumbents(points, view.objectives, column)
    frame = frame.iloc[spread(len(frame), _MOST_STEPS)]
    times, values, trials = (frame[name].tolist() for name in ("time", "value", "trial"))
    return {
        "time": [*times, max(view.now, times[-1])],
        "value": [*values, values[-1]],
        "trial": [*trials, trials[-1]],
        "config": [view.text_of(trial) for trial in [*trials, trials[-1]]],
    }


def hypervolume(view: View) -> Columns:
    """The hypervolume of the front over the search's time, by the reference point that all results so far give."""
    points = view.points()
    if view.objectives.single or not len(points):
        return {"time": [], "value": []}
    frame = hypervolumes(points, view.objectives, None)
    if not len(frame):
        return {"time": [], "value": []}
    frame = frame.iloc[spread(len(frame), _MOST_STEPS)]
    times, values = frame["time"].tolist(), frame["hypervolume"].tolist()
    return {"time": [*times, max(view.now, times[-1])], "value": [*values, values[-1]]}


def curves(view: View, column: int) -> dict[str, Columns]:
    """The learning curves of the most interesting trials, and where trials were stopped or paused, for one objective.

    Returns:
        ``curves``, one row for each trial; and ``ends``.
    """
    points, records = view.points(), view.by_number()
    reported = np.flatnonzero(np.isfinite(points.resource))
    trials, first = np.unique(points.trial[reported], return_index=True)
    bounds = [*first.tolist(), len(reported)]
    best = _best_trials(view, points)
    most = 1 if view.objectives.single else _MOST_OUTSTANDING
    outstanding = {best[place] for place in spread(len(best), most).tolist()}
    chosen = _interesting(trials.tolist(), records, best)
    lines: Columns = {name: [] for name in ("xs", "ys", "trial", "kind", "config")}
    ends: Columns = {name: [] for name in ("x", "y", "trial", "kind", "config")}
    for place in sorted(chosen):
        rows = reported[bounds[place] : bounds[place + 1]]
        rows = rows[spread(len(rows), _MOST_PER_CURVE)]
        record = records[int(trials[place])]
        values = (points.costs[rows, column] * view.objectives.signs[column]).tolist()
        resources = points.resource[rows].tolist()
        kind = "best" if record.number in outstanding else ""
        text = view.text_of(record.number)
        _extend(lines, (resources, values, record.number, kind or _KINDS[record.status], text))
        if record.status in (Status.STOPPED, Status.PAUSED):
            _extend(ends, (resources[-1], values[-1], record.number, _KINDS[record.status], text))
    return {"curves": lines, "ends": ends}


def _extend(columns: Columns, row: Sequence[Any]) -> None:
    for column, value in zip(columns.values(), row, strict=True):
        column.append(value)


def _best_trials(view: View, points: Points) -> list[int]:
    """The trials of the front, or, for one objective, all trials from the best one on."""
    if not len(points):
        return []
    if not view.objectives.single:
        rows = view.front()
        return list(dict.fromkeys(points.trial[rows[np.argsort(points.costs[rows, 0], kind="stable")]].tolist()))
    order = np.argsort(points.costs[:, 0], kind="stable")
    return list(dict.fromkeys(points.trial[order].tolist()))[:_MOST_CURVES]


def _interesting(trials: Sequence[int], records: dict[int, TrialRecord], best: Sequence[int]) -> list[int]:
    """The places of the trials to show: of the best, of those that run, and of those that ended last."""
    if len(trials) <= _MOST_CURVES:
        return list(range(len(trials)))
    places = {trial: place for place, trial in enumerate(trials)}
    n_best, n_running = (int(share * _MOST_CURVES) for share in _SHARES)
    running = [t for t in reversed(trials) if records[t].status is Status.RUNNING]
    latest = sorted((t for t in trials if records[t].status is not Status.RUNNING), key=lambda t: -records[t].gathered)
    chosen = dict.fromkeys([t for t in best if t in places][:n_best] + running[:n_running])
    for trial in latest:
        if len(chosen) >= _MOST_CURVES:
            break
        chosen[trial] = None
    return [places[trial] for trial in chosen]
