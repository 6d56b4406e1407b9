"""The trials of one search as tasks of Dask: their keys, their submission, and those that are kept back."""

from __future__ import annotations

import pickle
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import ceil, inf

from distributed import Client, Future

from dhpo.events import Cancel, Decide, Start
from dhpo.trial import Due
from dhpo.worker.keys import pack_key, trial_key, trial_of
from dhpo.worker.reporter import Record
from dhpo.worker.station import Errand, run_task


class Tasks:
    """Which attempts of trials are out, each under a key of its own, alone or several to a task.

    Args:
        resources: what one trial takes of a worker's Dask resources, such as ``{"GPU": 1}``.
    """

    def __init__(self, resources: Mapping[str, float]) -> None:
        self.token = _token()  # names the search's session at the scheduler
        self.held: deque[Start] = deque()  # wait for a worker that has time for them
        self._resources = resources
        self._keys: dict[int, str] = {}  # trial -> the key of its running attempt
        self._starts: dict[int, Start] = {}
        self._due: dict[str, Due] = {}
        self._futures: dict[str, Future] = {}  # of tasks
        self._left: dict[str, int] = {}  # task -> how many of its trials are out
        self._task_of: dict[str, str] = {}  # the key of a trial -> that of its task
        self._n_bounced = 0

    def __len__(self) -> int:
        """How many attempts are out."""
        return len(self._keys)

    @property
    def n_tasks(self) -> int:
        """How many tasks are out."""
        return len(self._left)

    @property
    def running(self) -> list[Start]:
        """Those that are out."""
        return list(self._starts.values())

    def ready(self, room: int, fits: Callable[[Start], bool], most: int = 1) -> list[list[Start]]:
        """Up to ``room`` tasks of those that were kept back and for which there is time: these are no longer.

        Args:
            room: for how many tasks there is room.
            fits: whether there is time for a trial.
            most: how many trials may be in one task. They go to as many tasks as there is room for first.
        """
        ready: list[list[Start]] = []
        if room > 0 and self.held:
            size, n_left = 0, len(self.held)
            kept: deque[Start] = deque()
            for start in self.held:
                if not fits(start):
                    kept.append(start)
                elif ready and len(ready[-1]) < size and _follows(start, ready[-1][-1]):
                    ready[-1].append(start)
                elif len(ready) < room:
                    size = min(most, ceil(n_left / (room - len(ready))))
                    ready.append([start])
                else:
                    kept.append(start)
                n_left -= 1
            self.held = kept
        return ready

    def begin(self, *starts: Start) -> None:
        """Take attempts for out, as one task, in the place of their trials' last ones."""
        keys = []
        for start in starts:
            self.forget(start.trial)
            key = trial_key(self.token, start.trial, start.attempt, self._n_bounced)
            self._keys[start.trial] = key
            self._starts[start.trial] = start
            if due := Due(start.milestones, start.every):
                self._due[key] = due
            keys.append(key)
        task = pack_key(keys[0], len(keys))
        self._left[task] = len(keys)
        self._task_of.update(dict.fromkeys(keys, task))

    def submit(self, client: Client, errands: Sequence[Sequence[Errand]]) -> None:
        """Give the cluster what has begun, of each task its errands."""
        tasks = [self._task_of[self._keys[each[0].start.trial]] for each in errands]
        futures = client.map(
            run_task,
            # As bytes, Dask has nothing to look into: no text of a configuration can pass for the key of a task.
            [pickle.dumps(each) for each in errands],
            key=tasks,
            pure=False,
            resources=self._resources or None,
        )
        self._futures.update(zip(tasks, futures, strict=True))

    def key_of(self, command: Decide | Cancel) -> str:
        """The key under which the command's attempt runs, if it does."""
        start = self._starts.get(command.trial)
        return self._keys[command.trial] if start is not None and start.attempt == command.attempt else ""

    def waiting(self, report: Record) -> str:
        """The key of the report's attempt, where it waits for a decision now."""
        key = self._keys.get(report.trial)
        due = self._due.get(key) if key else None
        return key if key and due and due.at(report.resource) else ""

    def end(self, key: str) -> Start | None:
        """Take the attempt with this key for ended; None where it is not out (any more)."""
        trial = trial_of(key)
        if self._keys.get(trial) != key:
            return None
        start = self._starts[trial]
        self.forget(trial)
        return start

    def withdraw(self, command: Cancel) -> None:
        """Keep an attempt back no longer: it is not to begin at all."""
        self.held = deque(start for start in self.held if start[:2] != command)

    def bounced(self, start: Start) -> None:
        """Keep an attempt back that has not begun: there was no time for it where it came to, or in its pack."""
        self._n_bounced += 1  # Dask may still know its key
        self.held.append(start)

    def forget(self, trial: int) -> None:
        """Drop a trial; Dask releases the key of its task when that was the last one in it."""
        self._starts.pop(trial, None)
        key = self._keys.pop(trial, None)
        if key is None:
            return
        self._due.pop(key, None)
        task = self._task_of.pop(key)
        self._left[task] -= 1
        if not self._left[task]:
            del self._left[task]
            if (future := self._futures.pop(task, None)) is not None:
                future.release()

    async def cancel(self, client: Client) -> None:
        """Have the cluster drop all that is out."""
        if self._futures:
            await client.cancel(list(self._futures.values()), force=True)
            self._futures.clear()

    def renew(self) -> None:
        """Begin anew, under another name, after the scheduler was lost with all that it had."""
        self._futures.clear()  # there is nobody to release them to
        for trial in list(self._keys):
            self.forget(trial)
        self.token = _token()


def _follows(start: Start, other: Start) -> bool:
    """Whether a trial may come behind another one in a task.

    Both are begun for the first time, so that a worker's death is never held against a trial because of another, and
    no decision is due in them, for which those behind would wait.
    """
    both = (start, other)
    is_next = start.trial == other.trial + 1
    return is_next and all(s.attempt == 1 and not s.resume_from and not s.milestones and s.every == inf for s in both)


def _token() -> str:
    return uuid.uuid4().hex[:8]
