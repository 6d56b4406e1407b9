"""Dask's scheduler, without what it does for each worker there is whenever one joins, leaves or is given a trial.

With thousands of workers that is most of its time (``docs/scaling.md``), and dhpo's trials need none of it: no trial's
input is another one's result. Only the scheduler process that dhpo starts itself is made so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from itertools import islice
from typing import Any

from distributed import Scheduler, versions
from distributed.comm import Comm

from dhpo.clusters._direct_send import DirectSend

#: At most so many idle workers are looked at for one that does nothing.
_LOOKS = 8

_compared_with_all = versions.error_message


def compared_with_one(
    scheduler: Any, workers: Mapping[str, Any], source: Any, source_name: str = "Client"
) -> dict[str, str]:
    """Compare the versions of a worker that joins with those of the scheduler and of one other worker.

    Dask compares them with all workers' at each registration, which takes a second per thousand workers that there are
    when a thousand more come. Each was compared with the first one when it joined.
    """
    found: dict[str, str] = _compared_with_all(scheduler, dict(islice(workers.items(), 1)), source, source_name)
    return found


class OwnScheduler(Scheduler):  # type: ignore[misc]
    """A scheduler whose work for a trial, and for a worker that leaves, does not grow with the number of workers."""

    def __init__(self, **kwargs: Any) -> None:
        versions.error_message = compared_with_one
        self._vacant: OrderedDict[Any, None] = OrderedDict()  # where resources were added or given back
        super().__init__(**kwargs)

    def worker_send(self, worker: str, msg: dict[str, Any]) -> None:
        """Send a message to a worker, but for the news that another one has left.

        That concerns only a worker that is about to fetch a result from the one that left; it then finds out itself.
        """
        if msg.get("op") != "remove-worker":
            super().worker_send(worker, msg)

    async def handle_worker(self, comm: Comm, worker: str) -> None:
        """Be connected with a worker, until it leaves; messages to it need no timer."""
        self.stream_comms[worker] = DirectSend(self.stream_comms[worker].buffer)
        await super().handle_worker(comm, worker)

    def add_resources(self, worker: str, resources: Any = None) -> str:
        """Note what a worker offers."""
        done: str = super().add_resources(worker, resources)
        self._vacant[self.workers[worker]] = None
        return done

    def release_resources(self, ts: Any, ws: Any) -> None:
        """Take back what a task held of a worker's resources."""
        super().release_resources(ts, ws)
        if ts.resource_restrictions:
            self._vacant[ws] = None

    def decide_worker_non_rootish(self, ts: Any) -> Any:
        """Choose a worker for a task; for a trial, without a look at every worker."""
        if not (ts.dependencies or ts.worker_restrictions or ts.host_restrictions):
            ws = self._with_room(ts.resource_restrictions) if ts.resource_restrictions else self._idle()
            if ws is not None:
                return ws
        return super().decide_worker_non_rootish(ts)

    def decide_worker_rootish_queuing_enabled(self) -> Any:
        """Choose a worker for one of many tasks; Dask compares all that have room, most of which work already."""
        idle = self.idle.values()
        for turn in range(self.n_tasks, self.n_tasks + min(_LOOKS, len(idle))):
            ws = idle[turn % len(idle)]
            if not ws.processing and ws in self.idle_task_count:
                return ws
        return super().decide_worker_rootish_queuing_enabled()

    def _idle(self) -> Any:
        """One of many idle workers; Dask compares all of them as soon as one worker is about to close."""
        n_idle = len(self.idle)
        return self.idle.values()[self.n_tasks % n_idle] if n_idle >= 20 else None

    def _with_room(self, wanted: Mapping[str, float]) -> Any:
        """A worker with so much to give, those in turn that have; None where it is not known at once."""
        while self._vacant:
            ws, _ = self._vacant.popitem(last=False)
            offered, used = ws.resources, ws.used_resources
            if ws in self.running and all(offered.get(name, 0) - used.get(name, 0) >= n for name, n in wanted.items()):
                self._vacant[ws] = None  # it may have more; the others' turn comes first
                return ws
        return None
