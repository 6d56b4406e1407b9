"""The columns behind the plots and the table of workers: who ran what and when, and how busy they were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhpo.dashboard.charts import Columns, spread
from dhpo.dashboard.runs import Run
from dhpo.dashboard.text import host_of, value_text
from dhpo.dashboard.view import View

_MOST_BARS = 2000
_MOST_STEPS = 800
_WAIT_SHOWN = 0.002  # of the search's time: shorter waits cannot be seen
_UNKNOWN = "worker not told yet"


def running(view: View) -> list[Run]:
    """The trials that are out, as runs up to the present. The worker is known where the scheduler tells it."""
    places: dict[int, str] = {}
    for worker in view.facts.workers or ():
        places |= dict.fromkeys(worker.trials, worker.address)
    if view.finished is not None or not view.facts.running:
        return []
    now = view.now
    return [
        Run(places.get(trial, ""), trial, attempt, submitted, submitted, max(now, submitted), "running")
        for trial, (attempt, submitted) in view.log.out.items()
    ]


def rows_of(view: View) -> dict[str, int]:
    """The row of each worker, from 0: in the order of their first runs, then those that have not ended a run."""
    rows = {address: worker.number for address, worker in view.log.workers.items()}
    for worker in view.facts.workers or ():
        rows.setdefault(worker.address, len(rows))
    return rows


def timeline(view: View, most: int = _MOST_BARS) -> dict[str, Columns]:
    """The latest runs as bars in a row for each worker, the waits before them, and the losses.

    Args:
        view: of the search.
        most: so many runs that have ended.

    Returns:
        ``bars``, ``out`` (of what runs now), ``waits`` (from a trial's being given out to its beginning), ``losses``.
    """
    rows = rows_of(view)
    bars, out = _no_bars(), _no_bars()
    waits: Columns = {name: [] for name in ("row", "start", "end", "trial", "seconds")}
    losses: Columns = {name: [] for name in ("row", "time", "trial", "worker")}
    n_unknown = 0
    for run in [*view.log.runs[-most:], *running(view)]:
        if run.worker:
            row = rows.setdefault(run.worker, len(rows))
        else:  # in rows of their own, below all
            row, n_unknown = len(rows) + n_unknown, n_unknown + 1
        worker, seconds = host_of(run.worker) or _UNKNOWN, value_text(run.ended - run.started)
        text = view.text_of(run.trial)
        columns = out if run.outcome == "running" else bars
        _add(columns, row, run.started, run.ended, run.trial, run.attempt, run.outcome, worker, seconds, text)
        if run.started - run.submitted > _WAIT_SHOWN * max(view.now, 1e-9):
            _add(waits, row, run.submitted, run.started, run.trial, value_text(run.started - run.submitted))
        if run.outcome == "lost":
            _add(losses, row, run.ended, run.trial, worker)
    return {"bars": bars, "out": out, "waits": waits, "losses": losses}


def _no_bars() -> Columns:
    return {n: [] for n in ("row", "start", "end", "trial", "attempt", "kind", "worker", "seconds", "config")}


def _add(columns: Columns, *row: Any) -> None:
    for column, value in zip(columns.values(), row, strict=True):
        column.append(value)


def busy(view: View) -> Columns:
    """How many workers were busy, and how many had been seen, over the search's time."""
    starts = np.sort(np.append(view.log.started.values, [run.started for run in running(view)]))
    if not len(starts):
        return {"time": [], "busy": [], "seen": []}
    ends = np.sort(view.log.ended.values)
    seen = np.sort([worker.first for worker in view.log.workers.values()])
    times = np.unique(np.concatenate([starts, ends, [max(view.now, float(starts[0]))]]))
    times = times[spread(len(times), _MOST_STEPS)]
    counts = _up_to(starts, times) - _up_to(ends, times)
    known = np.maximum(_up_to(seen, times), counts)
    return {"time": times.tolist(), "busy": counts.tolist(), "seen": np.maximum.accumulate(known).tolist()}


def _up_to(sorted_times: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.searchsorted(sorted_times, times, side="right")


def utilisation(view: View) -> float | None:
    """The share of the workers' time, from the first run of each to its loss or the present, that trials ran in."""
    out: dict[str, float] = {}
    for run in running(view):
        if run.worker:
            out[run.worker] = out.get(run.worker, 0.0) + run.ended - run.started
    end = view.now if view.facts.running else max((w.last for w in view.log.workers.values()), default=0.0)
    present = {worker.address for worker in view.facts.workers} if view.facts.workers is not None else None
    used = there = 0.0
    for address, worker in view.log.workers.items():
        gone = worker.lost is not None or (present is not None and address not in present)
        life = (worker.last if gone else max(end, worker.last)) - worker.first
        used += min(worker.busy + out.get(address, 0.0), life)
        there += life
    return used / there if there > 0 else None


def waits(view: View) -> tuple[float, float] | None:
    """The median and the longest wait of a trial for its worker, in seconds; None before any run has ended."""
    seconds = view.log.waited.values
    return (max(0.0, float(np.median(seconds))), max(0.0, float(seconds.max()))) if len(seconds) else None


def table(view: View) -> list[dict[str, Any]]:
    """A row for each worker: where it is, what it does, and what it has done."""
    live = None if view.facts.workers is None else {worker.address: worker for worker in view.facts.workers}
    now = view.now
    runs_now: dict[str, list[Run]] = {}
    for run in running(view):
        runs_now.setdefault(run.worker, []).append(run)
    found = []
    for address in rows_of(view):
        worker, known = view.log.workers.get(address), (live or {}).get(address)
        trials = [run.trial for run in runs_now.get(address, ())]
        seconds = (worker.busy if worker else 0.0) + sum(run.ended - run.started for run in runs_now.get(address, ()))
        if live is not None:
            state = "gone" if known is None else "busy" if trials else "idle"
        else:
            state = "lost" if worker is not None and worker.lost is not None else ""
        end = worker.last if worker is not None and (state in ("gone", "lost") or not view.facts.running) else now
        life = end - worker.first if worker is not None else 0.0
        row: dict[str, Any] = {"worker": host_of(address), "state": state, "running": trials}
        if live is not None:
            gigabytes = None if known is None else round(known.memory / 1e9, 2)
            row |= {"name": known and known.name, "threads": known and known.threads, "memory_GB": gigabytes}
        row |= {"runs": worker.n_runs if worker else 0, "busy_s": round(seconds, 1)}
        found.append(row | {"busy_share": round(min(1.0, seconds / life), 3) if life > 0 else None})
    return found
