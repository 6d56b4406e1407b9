"""The trials of one search as tasks of Dask: their keys, their submission, and those that are kept back."""

from __future__ import annotations

import pickle
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from distributed import Client, Future

from dhpo.events import Cancel, Decide, Start
from dhpo.trial import Due
from dhpo.worker.reporter import Record
from dhpo.worker.station import Errand, run_task


class Tasks:
    """Which attempts of trials are out, each under a key of its own.

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
        self._futures: dict[str, Future] = {}
        self._n_bounced = 0

    def __len__(self) -> int:
        """How many are out."""
        return len(self._keys)

    @property
    def running(self) -> list[Start]:
        """Those that are out."""
        return list(self._starts.values())

    def ready(self, room: int, fits: Callable[[Start], bool]) -> list[Start]:
        """Up to ``room`` of those that were kept back, for which there is time; they are kept back no longer."""
        ready: list[Start] = []
        if room > 0 and self.held:
            kept: deque[Start] = deque()
            for start in self.held:
                (ready if len(ready) < room and fits(start) else kept).append(start)
            self.held = kept
        return ready

    def begin(self, start: Start) -> None:
        """Take an attempt for out, in the place of the trial's last one."""
        self.forget(start.trial)
        self._keys[start.trial] = key = self._key(start)
        self._starts[start.trial] = start
        if due := Due(start.milestones, start.every):
            self._due[key] = due

    def submit(self, client: Client, errands: Sequence[Errand]) -> None:
        """Give the cluster what has begun."""
        keys = [self._keys[errand.start.trial] for errand in errands]
        futures = client.map(
            run_task,
            # As bytes, Dask has nothing to look into: no text of a configuration can pass for the key of a task.
            [pickle.dumps(errand) for errand in errands],
            key=keys,
            pure=False,
            resources=self._resources or None,
        )
        self._futures.update(zip(keys, futures, strict=True))

    def _key(self, start: Start) -> str:
        """The key of a trial's attempt; the relay knows the search's tasks by its beginning."""
        again = f".{self._n_bounced}" if self._n_bounced else ""
        return f"trial-{self.token}-{start.trial}-{start.attempt}{again}"

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
        trial = int(key.rsplit("-", 2)[1])
        if self._keys.get(trial) != key:
            return None
        start = self._starts[trial]
        self.forget(trial)
        return start

    def bounced(self, start: Start) -> None:
        """Keep an attempt back that has not begun: there was no time for it where it came to."""
        self._n_bounced += 1  # Dask may still know its key
        self.held.append(start)

    def forget(self, trial: int) -> None:
        """Drop a trial's task; Dask releases its key."""
        self._starts.pop(trial, None)
        key = self._keys.pop(trial, None)
        if key is not None:
            self._due.pop(key, None)
            if (future := self._futures.pop(key, None)) is not None:
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


def _token() -> str:
    return uuid.uuid4().hex[:8]
