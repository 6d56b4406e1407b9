"""What the relay knows of the search's tasks at the scheduler: where they run, and which trials in them still count."""

from __future__ import annotations

from collections import Counter
from typing import Any

from distributed import Scheduler

from dhpo.worker.keys import ENDING, prefix_of, trial_keys


class Run:
    """One task of the search, from its first processing to the hand-over of the end of its last trial.

    Args:
        task: its key.
        run_id: tells this run of the task from another one, at the scheduler and on the worker.
        worker: where it runs.
        began: when, in seconds.
    """

    __slots__ = ("began", "end", "has_reported", "in_memory", "left", "run_id", "task", "worker")

    def __init__(self, task: str, run_id: int, worker: str, began: float = 0.0) -> None:
        self.task = task
        self.run_id = run_id
        self.worker = worker
        self.began = began
        self.left = trial_keys(task)  # of the trials that have not ended
        self.end: list[Any] | None = None  # what the last one said of its end
        self.in_memory = False
        self.has_reported = False

    def move(self, run_id: int, worker: str, now: float) -> None:
        """It begins on another worker."""
        self.run_id, self.worker, self.began = run_id, worker, now


class Runs:
    """The runs of one search's tasks.

    Args:
        scheduler: the Dask scheduler.
        token: names the search's session.
    """

    def __init__(self, scheduler: Scheduler, token: str) -> None:
        self.by_trial: dict[str, Run] = {}  # by the key of the trial, not of the task
        self.void: set[str] = set()  # trials that no longer count, while the scheduler still knows their tasks
        self._scheduler = scheduler
        self._prefix = prefix_of(token)

    def owns(self, task: Any) -> bool:
        """Whether a task is one of the search's."""
        return isinstance(task, str) and task.startswith(self._prefix)

    def begin(self, task: str, now: float) -> None:
        """A task was given to a worker."""
        ts = self._scheduler.tasks[task]
        # The first death of its worker ends this task, so that the driver, not Dask, starts the trial again: from
        # its checkpoint, under a new key, and without a second copy of it running somewhere.
        ts.suspicious = max(ts.suspicious, self._scheduler.allowed_failures)
        run = Run(task, ts.run_id, ts.processing_on.address, now)
        self.by_trial.update(dict.fromkeys(run.left, run))

    def of_task(self, task: str) -> Run | None:
        """The run of a task, while trials of it are out."""
        return next((run for key in trial_keys(task) if (run := self.by_trial.get(key)) is not None), None)

    def current(self, key: str, run_id: int, worker: str, now: float) -> Run | None:
        """The run that a worker's record of a trial belongs to, if it counts."""
        run = self.by_trial.get(key)
        if run is None or key in self.void:
            return None
        if (run.run_id, run.worker) != (run_id, worker):
            # Work stealing gives a task that has not begun to another worker, and tells no plugin.
            ts = self._scheduler.tasks.get(run.task)
            if ts is None or ts.run_id != run_id or ts.processing_on is None or ts.processing_on.address != worker:
                return None
            run.move(run_id, worker, now)
        return run

    def in_memory(self, run: Run, worker: str) -> None:
        """The task has come to its end, on this worker."""
        ts = self._scheduler.tasks[run.task]
        if (run.run_id, run.worker) != (ts.run_id, worker):
            run.move(ts.run_id, worker, run.began)
        run.in_memory = True

    def ending(self, run: Run) -> list[Any]:
        """The records that came with the end of the task."""
        metadata = self._scheduler.tasks[run.task].metadata or {}
        return list(metadata.get(ENDING, ()))

    def drop(self, key: str) -> None:
        """A trial no longer counts: it has ended, is lost, or was cancelled."""
        run = self.by_trial.pop(key, None)
        if run is not None:
            run.left.remove(key)
        if (key if run is None else run.task) in self._scheduler.tasks:
            self.void.add(key)

    def forget(self, task: str) -> None:
        """The scheduler knows a task no longer."""
        self.void.difference_update(trial_keys(task))

    def workers(self) -> Counter[str]:
        """How many tasks each worker has."""
        return Counter(run.worker for run in {id(run): run for run in self.by_trial.values()}.values())
