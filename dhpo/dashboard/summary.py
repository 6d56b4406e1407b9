"""A search in a few numbers: what stands at the top of the page, and what ``search.json`` and the metrics tell."""

from __future__ import annotations

from typing import Any

import numpy as np

from dhpo.dashboard import workers
from dhpo.dashboard.view import View
from dhpo.pareto import hypervolume
from dhpo.trial import Status


def state_of(view: View) -> str:
    """Where the search stands: "waiting", "running", "finished", or "interrupted" with work left."""
    if view.finished is not None:
        return "finished"
    if view.facts.running:
        return "running" if view.n_reports or view.log.runs else "waiting"
    return "interrupted" if view.n_events else "waiting"


def rate(view: View) -> float | None:
    """Ended trials per second, over the last run of the search."""
    spent = view.now - (0.0 if view.opened is None else view.opened.time)
    return view.n_ended_since_opened / spent if view.n_ended_since_opened and spent > 0 else None


def eta(view: View, ended: int) -> float | None:
    """Seconds until the trials are done or the time is up, as far as that can be told."""
    if not view.facts.running or view.finished is not None:
        return None
    limits = []
    if view.facts.num_trials is not None and (speed := rate(view)) is not None:
        limits.append((view.facts.num_trials - ended) / speed)
    if view.facts.time_limit is not None:
        limits.append(view.facts.time_limit - view.now)
    return max(0.0, min(limits)) if limits else None


def summary(view: View) -> dict[str, Any]:
    """Everything in numbers, as JSON; null where it is not known."""
    counts = view.trials.counts()
    ended = sum(counts.values()) - counts[Status.RUNNING]
    speed = rate(view)
    return {
        "search_id": view.search_id,
        "name": view.name,
        "state": state_of(view),
        "reason": view.finished,
        "objectives": view.objectives.as_dict(),
        "resource": view.resource_name,
        "hyperparameters": list(view.names),
        "trials": {status.value: count for status, count in counts.items()},
        "known": view.trials.n_known,
        "num_trials": view.facts.num_trials,
        "ended": ended,
        "failed": counts[Status.FAILED] + counts[Status.TIMED_OUT],
        "reports": view.n_reports,
        "elapsed_s": round(view.now, 3),
        "trials_per_hour": None if speed is None else round(3600 * speed, 3),
        "eta_s": None if (left := eta(view, ended)) is None else round(left, 1),
        "best": best(view),
        **_front(view),
        "workers": _workers(view),
        "cluster": view.facts.cluster,
        "last_error": None if view.last_error is None else dict(zip(("trial", "error"), view.last_error, strict=True)),
        "driver": None
        if view.opened is None
        else {"host": view.opened.host, "pid": view.opened.pid, "dhpo": view.opened.version},
    }


def best(view: View) -> list[dict[str, Any]]:
    """For each objective its best value, and whose it is; an empty list before there is any."""
    points, trials = view.points, view.trials
    rows = points.rows
    if not len(points):
        return []
    found = []
    for column, (goal, sign) in enumerate(zip(view.objectives, view.objectives.signs, strict=True)):
        row = int(points.leaders.incumbents(column)[-1])
        resource = float(rows.resource[row])
        found.append(
            {
                "objective": goal.name,
                "value": float(rows.costs[row, column] * sign),
                "trial": int(rows.trial[row]),
                "resource": None if np.isnan(resource) else resource,
                "config": dict(trials[int(rows.trial[row])].config),
            }
        )
    return found


def _front(view: View) -> dict[str, Any]:
    points = view.points
    if view.objectives.single or not len(points):
        return {"front_size": None if view.objectives.single else 0, "hypervolume": None}
    front = points.leaders.front
    return {"front_size": len(front), "hypervolume": hypervolume(points.rows.costs[front], points.leaders.reference)}


def _workers(view: View) -> dict[str, Any]:
    out = workers.running(view)
    waits = workers.waits(view)
    share = workers.utilisation(view)
    connected = view.facts.workers
    return {
        "seen": len(workers.rows_of(view)),
        "connected": None if connected is None else len(connected),
        "busy": len({run.worker for run in out if run.worker}) if connected is not None else len(out),
        "losses": view.log.n_lost,
        "utilisation": None if share is None else round(share, 4),
        "wait_median_s": None if waits is None else round(waits[0], 3),
        "wait_longest_s": None if waits is None else round(waits[1], 3),
    }
