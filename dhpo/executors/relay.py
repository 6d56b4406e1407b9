"""What dhpo keeps on the Dask scheduler: the relay between a search's trials and its driver.

Workers send records by RPC, the last ones of a task in Dask's own message that it has ended; the relay checks that each
still counts, numbers it, and hands it to the driver, which asks for records in a long poll and acknowledges a number
once it is in the journal. Only then is the record forgotten here. Reports that wait for a decision, and ends, are
handed on at once, with thousands of slots after up to 50 ms; the others after ``interval``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from distributed import Scheduler, SchedulerPlugin

from dhpo.executors._asks import STALE, Asks
from dhpo.executors._departures import Departures
from dhpo.executors._outbox import INTERVAL, Outbox
from dhpo.executors._runs import Run, Runs


class Relay(SchedulerPlugin):  # type: ignore[misc]
    """The scheduler's part of one search.

    Args:
        token: names the search's session; part of every key and of every operation's name.
        resources: what one trial takes of a worker's Dask resources, such as ``{"GPU": 1}``.
        client: the identity of the driver's client: when it goes without a word, so does all that was its own here.
        num_cpus: how many of a worker's threads one trial takes.
    """

    def __init__(self, token: str, resources: dict[str, float], client: str, num_cpus: float = 1) -> None:
        self.token = token
        self.num_cpus = max(1, num_cpus)
        self.client = client
        self.name = f"dhpo-relay-{token}"
        self.resources = resources

    async def start(self, scheduler: Scheduler) -> None:
        """Called by the scheduler: set up the state and the operations."""
        self.scheduler = scheduler
        self.runs = Runs(scheduler, self.token)
        self.asks = Asks()
        self.outbox = Outbox()
        self.n_fetched = 0  # pieces of the data, by which each has its number
        self.chunks: dict[int, asyncio.Future[bytes]] = {}
        self.departures = Departures(scheduler, self.token)
        for name, handler in self._operations().items():
            scheduler.handlers[name] = handler

    def _operations(self) -> dict[str, Any]:
        operations = (
            self.report, self.ask, self.exchange, self.obey, self.fetch, self.chunk, self.detach,
            self.join, self.leave, self.recall,
        )  # fmt: skip
        return {f"dhpo_{operation.__name__}_{self.token}": operation for operation in operations}

    async def close(self) -> None:
        """Called when the scheduler ends."""
        await self.detach()

    async def detach(self) -> None:
        """Take the operations away again, and let whoever waits go. Unregistering a plugin does not do it."""
        self._take_away()

    def _take_away(self) -> None:
        for name in self._operations():
            self.scheduler.handlers.pop(name, None)
        self.asks.end_all()
        for chunk in self.chunks.values():
            if not chunk.done():
                chunk.set_result(b"")
        self.outbox.hurry()

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """The driver has died: nobody else will take dhpo's parts away."""
        if client == self.client:
            self._take_away()
            scheduler.remove_plugin(self.name)
            self.farewell = asyncio.ensure_future(
                scheduler.unregister_worker_plugin(comm=None, name=f"dhpo-station-{self.token}")
            )

    # From the workers.

    async def report(self, worker: str, items: list[Any]) -> dict[str, Any]:
        """Take in a worker's records; tell it which of its tasks no longer count and how long to gather."""
        return {"stale": self._take(worker, items), "interval": self._interval()}

    async def ask(self, worker: str, items: list[Any], key: str, index: int) -> str:
        """Take in records of which the last waits for a decision; return the decision when the driver has made it."""
        if self._take(worker, items):
            return STALE
        future, is_new = self.asks.of(key, index)
        if is_new:
            self.outbox.hurry()
        return await asyncio.shield(future)

    def _take(self, worker: str, items: list[Any]) -> list[str]:
        stale = []
        now = self.departures.now()
        for kind, key, run_id, *payload in items:
            run = self.runs.current(key, run_id, worker, now)
            if run is None:
                stale.append(key)
            elif kind == "report":
                run.has_reported = True
                self.outbox.put(["report", *payload])
            else:
                if payload[0] == "bounced":  # it would not have fitted there
                    self.departures.drain(worker)
                self._ended(key, run, payload)
        if items:
            self.outbox.look()
        return stale

    def _ended(self, key: str, run: Run, payload: list[Any]) -> None:
        """A trial has ended. That of the last one in a task is told when its slot is free again, too."""
        if len(run.left) > 1:
            self._finish(key, ["end", key, *payload], hurry=False)
        else:
            run.end = payload
            self._hand_over(run)

    async def fetch(self, offset: int, length: int) -> bytes:
        """Get a piece of the search's data from the driver, for a node that shares no file system with it."""
        self.n_fetched += 1
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.chunks[self.n_fetched] = future
        self.outbox.put(["fetch", self.n_fetched, offset, length])
        self.outbox.hurry()
        return await future

    async def join(self, worker: str, left: float, life: float) -> bool:
        """Learn how many seconds a worker has left, of how many in all."""
        self.departures.joined(worker, left, life)
        self.outbox.hurry()
        return True

    async def leave(self, worker: str) -> bool:
        """Learn that a worker was told to end: it gets no more trials, and what it loses is not held against them."""
        self.departures.told_to_end(worker)
        self.outbox.recount()
        self.outbox.hurry()
        return True

    # From the driver.

    async def exchange(
        self, after: int, acknowledged: int, need: float = 0.0, unit: float = 0.0, left: float | None = None
    ) -> dict[str, Any]:
        """Hand over the records with numbers above ``after``; forget those that are acknowledged.

        Args:
            after: the last number that the driver has.
            acknowledged: the last number that is in its journal.
            need: seconds that a new trial takes until its next rung.
            unit: seconds that a unit of resource takes.
            left: seconds until the driver has to have ended; None where it need not.
        """
        self.departures.expect(need, unit, left)
        await self.outbox.breathe()
        return await self.outbox.exchange(after, acknowledged, self._slots)

    async def obey(self, decisions: list[Any], cancelled: list[str]) -> None:
        """Pass the driver's decisions on to the reports that wait for them, and void cancelled keys."""
        for key, index, decision in decisions:
            self.asks.answer(key, index, decision)
        for key in cancelled:
            self._void(key)

    async def recall(self) -> None:
        """Have all trials leave at their next reports: the driver ends."""
        workers = list(self.runs.workers())
        await self.scheduler.broadcast(msg={"op": f"dhpo_recall_{self.token}"}, workers=workers, on_error="ignore")

    async def chunk(self, number: int, data: bytes) -> None:
        """Pass a piece of the data on to the worker that asked for it."""
        future = self.chunks.pop(number, None)
        if future is not None and not future.done():
            future.set_result(data)

    # From the scheduler.

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Follow the search's own tasks. Must not raise: it runs in the middle of the scheduler's work."""
        if not self.runs.owns(key):
            return
        if finish == "processing":
            self.runs.begin(key, self.departures.now())
        elif (run := self.runs.of_task(key)) is not None:
            if finish == "memory":
                self.runs.in_memory(run, kwargs.get("worker", run.worker))
                self._hand_over(run)
                self._take(run.worker, self.runs.ending(run))
            elif finish == "erred" and kwargs.get("exception_text"):
                error = [kwargs["exception_text"], kwargs.get("traceback_text") or "", run.worker]
                for trial in list(run.left):
                    self._finish(trial, ["error", trial, *error])
            elif finish == "erred":
                self._lose(run, "" if self.departures.excuses(run) else run.worker)
            elif start in ("processing", "memory"):  # the worker left as it was told to
                self._lose(run, "")
        if finish == "forgotten":
            self.runs.forget(key)

    def _lose(self, run: Run, worker: str) -> None:
        """A worker was lost with a task. That is held against the trial that it ran, not against those behind it."""
        for trial in list(run.left):
            self._finish(trial, ["lost", trial, worker])
            worker = ""

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """New slots are news to the driver."""
        self.outbox.hurry()

    def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:
        """Fewer slots are, too."""
        self.departures.left(worker)
        self.outbox.recount()
        self.outbox.hurry()

    def _hand_over(self, run: Run) -> None:
        """The end is told when both are known: what the trial said of it, and that its slot is free again."""
        if run.end is not None and run.in_memory:
            key = run.left[-1]
            self._finish(key, ["end", key, *run.end])

    def _finish(self, key: str, record: list[Any], *, hurry: bool = True) -> None:
        self._void(key)
        self.outbox.put(record)
        if hurry:
            self.outbox.hurry()

    def _void(self, key: str) -> None:
        self.runs.drop(key)
        self.asks.end(key)

    def _interval(self) -> float:
        # One message costs the scheduler about 0.15 ms: with many workers each gathers for longer.
        return max(INTERVAL, 0.002 * len(self.scheduler.workers))

    def _slots(self) -> int:
        """How many trials can run at once, where there is time for one."""
        total = 0
        for ws in list(self.scheduler.running):
            if not self.departures.is_drained(ws.address):
                total += self._slots_of(ws)
        if drained := self.departures.drained():  # what still runs there has its slot until it ends
            busy = self.runs.workers()
            total += sum(busy[worker] for worker in drained)
        return total

    def _slots_of(self, ws: Any) -> int:
        slots = max(1, int(ws.nthreads // self.num_cpus))
        for name, amount in self.resources.items():
            slots = min(slots, int(ws.resources.get(name, 0) // amount))
        return slots
