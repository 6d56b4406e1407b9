"""Workers that are light: what a scheduler sees of a ``distributed.Worker``, with no thread and no worker behind it.

Real are the registration, the stream of tasks, the connection pool with its calls (heartbeats as often as the scheduler
wants them, of a real worker's size), a port of its own for what the scheduler calls (plugins, recalls), steal requests,
ends of tasks with type, size and times. Real is all of dhpo: its ``Station``, ``run_task``, channel, ``Reporter`` and
runner, unpickled from what the scheduler sends, and the user's function with them.

Stood in for are three things. A task runs in a greenlet of the event loop instead of a thread: where it would block,
for training (:func:`sleep`) or a decision, it gives way to the loop. What a worker measures of itself is constant. And
the stations of a process share one loaded run function (each worker of a real cluster is a process of its own).

Whatever a real worker would not do ends the process, with an exit status that :class:`_fleet.Fleet` looks at.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import pickle
import sys
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import greenlet
from dask.utils import typename
from distributed import Status, versions
from distributed.batched import BatchedSend
from distributed.comm import listen
from distributed.core import ConnectionPool, connect
from distributed.sizeof import safe_sizeof
from distributed.worker import _worker_cvar, thread_state
from tornado.ioloop import IOLoop

import dhpo.worker.station
from dhpo.worker.mount import Mounted, mount
from dhpo.worker.package import Package
from dhpo.worker.station import Station

_DIGESTS = (
    ("execute", "thread-cpu", "seconds"), ("execute", "thread-noncpu", "seconds"), ("execute", "executor", "seconds"),
    ("execute", "other", "seconds"), ("execute", "deserialize", "seconds"),
)  # fmt: skip
#: What a worker measures of itself.
METRICS: dict[str, Any] = {
    "task_counts": {"executing": 1}, "bandwidth": {"total": 100_000_000, "workers": {}, "types": {}},
    "digests_total_since_heartbeat": {}, "managed_bytes": 0, "spilled_bytes": {"memory": 0, "disk": 0},
    "transfer": {f"{way}_{what}": 0 for way in ("incoming", "outgoing") for what in ("bytes", "count", "count_total")},
    "event_loop_interval": 0.02, "cpu": 2.0, "memory": 10**8, "time": 0.0, "num_fds": 30,
    "host_net_io": {"read_bps": 0.0, "write_bps": 0.0}, "host_disk_io": {"read_bps": 0.0, "write_bps": 0.0},
}  # fmt: skip
_BEATS = 1.0  # seconds to the second heartbeat: the scheduler says when the next ones are due


def die(error: BaseException) -> None:
    """End the process: what comes now would not be what real workers do."""
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(3)


def resume(trial: greenlet.greenlet, *given: Any) -> None:
    """Let a greenlet go on, from the event loop."""
    try:
        trial.switch(*given)
    except BaseException as error:
        die(error)


def sleep(seconds: float) -> None:
    """Sleep, in a task."""
    current = greenlet.getcurrent()
    asyncio.get_running_loop().call_later(seconds, resume, current)
    current.parent.switch()


def wait_for(coroutine: Any, timeout: float | None) -> Any:
    """Wait, in a task, for what runs in the event loop: in the place of ``Station._sync``, which blocks its thread."""
    current = greenlet.getcurrent()
    bounded = coroutine if timeout is None else asyncio.wait_for(coroutine, timeout)
    task = asyncio.get_running_loop().create_task(bounded)
    task.add_done_callback(functools.partial(resume, current))
    current.parent.switch()
    return task.result()


_mounted: dict[str, Mounted] = {}


def mount_once(package: Package, fetch: Any) -> Mounted:
    """Load a run function, once in this process."""
    if package.token not in _mounted:
        _mounted[package.token] = mount(package, fetch)
    loaded = _mounted[package.token]
    return Mounted(loaded.function, loaded.data, ExitStack())  # which one station may close without the others


dhpo.worker.station.mount = mount_once


@dataclass
class Task:
    """A task, as far as a worker's state shows it."""

    key: str
    run_id: int
    run_spec: Any
    state: str = "ready"
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class State:
    """A worker's state, as far as dhpo looks at it."""

    nthreads: int = 1
    total_resources: dict[str, float] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)


class LightWorker:
    """One worker, as far as a scheduler and dhpo can see."""

    lifetime = None
    status = Status.running

    def __init__(self, scheduler: str) -> None:
        self.state = State()
        self.plugins: dict[str, Any] = {}
        self._removed: set[str] = set()  # plugins that were here
        self.handlers: dict[str, Callable[..., Any]] = {"plugin-add": self._add, "plugin-remove": self._remove}
        self.loop = IOLoop.current()
        self.address = ""
        self._pool = ConnectionPool(limit=512)
        self.scheduler = self._pool(scheduler)
        self._stream = BatchedSend(interval="2ms", loop=self.loop)
        self._ready: deque[Task] = deque()
        self._executing: Task | None = None
        self._beating: asyncio.TimerHandle
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, known: dict[str, Any]) -> None:
        """Register, and be a worker from then on."""
        await self._pool.start()
        self._listener = await listen("tcp://127.0.0.1:0", self._serve)
        self.address = self._listener.contact_address
        comm = await connect(self.scheduler.address)
        await comm.write(
            {
                "op": "register-worker", "reply": False, "address": self.address, "status": "running", "nthreads": 1,
                "name": self.address, "now": time.time(), "resources": {}, "memory_limit": 0, "services": {},
                "local_directory": "/tmp", "nanny": None, "server_id": f"Worker-{uuid.uuid4()}", "pid": os.getpid(),
                "versions": known, "metrics": METRICS, "extra": {}, "stimulus_id": f"worker-connect-{time.time()}",
            },
            serializers=["msgpack"],
        )  # fmt: skip
        response = await comm.read(deserializers=["msgpack"])
        if response["status"] != "OK":
            raise RuntimeError(f"the scheduler refuses a worker: {response}")
        self._stream.start(comm)
        for name, plugin in response["worker-plugins"].items():
            await self._add(plugin, name)
        self._spawn(self._listen(comm))
        self._beat_in(_BEATS)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            die(error)

    # What the scheduler calls.

    async def _serve(self, comm: Any) -> None:
        """Answer the calls of one connection."""
        try:
            while True:
                message = await comm.read()
                operation, closes = message.pop("op"), message.pop("close", False)
                replies = message.pop("reply", True)
                message.pop("serializers", None)
                answer = await self.handlers[operation](**message)
                if replies:
                    await comm.write(answer)
                if closes:
                    await comm.close()
                    return
        except OSError:  # the other end has gone
            return

    async def _add(self, plugin: Any, name: str) -> dict[str, str]:
        made = pickle.loads(plugin) if isinstance(plugin, bytes) else plugin
        if isinstance(made, Station):  # else a part of Dask, such as its shuffling
            self.plugins[name] = made
            made._sync = wait_for
            await made.setup(worker=self)
        return {"status": "OK"}

    async def _remove(self, name: str) -> dict[str, str]:
        self._removed.add(name)
        await self.plugins.pop(name).teardown(worker=self)
        return {"status": "OK"}

    # Heartbeats.

    def _beat_in(self, seconds: float) -> None:
        self._beating = asyncio.get_running_loop().call_later(seconds, lambda: self._spawn(self._beat()))

    async def _beat(self) -> None:
        now = time.time()
        running = self._executing
        response = await self.scheduler.heartbeat_worker(
            address=self.address,
            now=now,
            metrics={**METRICS, "time": now, "digests_total_since_heartbeat": dict.fromkeys(_DIGESTS, 0.001)},
            executing={} if running is None else {running.key: 1.0},
            extensions={},
        )
        if response["status"] != "OK":
            raise RuntimeError(f"the scheduler knows {self.address} no longer")
        self._beat_in(response["heartbeat-interval"])

    # The stream of tasks.

    async def _listen(self, comm: Any) -> None:
        operations = {"compute-task": self._compute, "free-keys": self._free, "steal-request": self._give}
        while True:
            try:
                messages = await comm.read()
            except OSError:  # the scheduler has ended
                return
            for message in messages:
                operation = message.pop("op")
                if operation in operations:
                    operations[operation](**message)
                elif operation in ("close", "close-stream"):
                    return
                else:
                    raise RuntimeError(f"nobody stands in for {operation!r}: {message}")

    def _compute(self, key: str, run_id: int, run_spec: Any, who_has: dict[str, Any], **_: Any) -> None:
        if who_has:
            raise RuntimeError(f"{key} needs the results of others")
        task = self.state.tasks[key] = Task(key, run_id, run_spec)
        self._ready.append(task)
        self._next()

    def _free(self, keys: list[str], **_: Any) -> None:
        for key in keys:
            if (task := self.state.tasks.get(key)) is None:
                continue
            if task.state == "executing":
                task.state = "cancelled"
                continue
            if task.state == "ready":
                self._ready.remove(task)
            del self.state.tasks[key]

    def _give(self, key: str, stimulus_id: str) -> None:
        task = self.state.tasks.get(key)
        answer = {"op": "steal-response", "key": key, "state": task and task.state, "stimulus_id": stimulus_id}
        self._stream.send(answer)
        if task is not None and task.state == "ready":
            self._ready.remove(task)
            del self.state.tasks[key]

    def _next(self) -> None:
        if self._executing is not None or not self._ready:
            return
        self._executing = task = self._ready.popleft()
        task.state = "executing"
        context = contextvars.copy_context()
        context.run(_worker_cvar.set, self)  # what get_worker() finds
        running = greenlet.greenlet(self._run)
        running.gr_context = context
        thread_state.key = task.key
        resume(running, task)

    def _run(self, task: Task) -> None:
        """Run a task to its end, in its greenlet."""
        began = time.time()
        try:
            result = task.run_spec()
        except KeyError as error:
            if error.args[0] in self._removed:  # it has crossed the word that the search is over
                return
            raise
        ended = time.time()
        self._executing = None
        if task.state == "cancelled":
            del self.state.tasks[task.key]
        else:
            task.state, kind = "memory", type(result)
            self._stream.send(
                {
                    "op": "task-finished", "status": "OK", "key": task.key, "run_id": task.run_id,
                    "nbytes": safe_sizeof(result), "type": pickle.dumps(kind), "typename": typename(kind),
                    "metadata": task.metadata, "thread": 1, "stimulus_id": f"task-finished-{ended}",
                    "startstops": [{"action": "compute", "start": began, "stop": ended}],
                }
            )  # fmt: skip
        asyncio.get_running_loop().call_soon(self._next)


async def start(address: str, count: int, at_once: int) -> list[LightWorker]:
    """Have so many register, some at once."""
    known = versions.get_versions()
    workers = [LightWorker(address) for _ in range(count)]
    for first in range(0, count, at_once):
        await asyncio.gather(*(worker.start(known) for worker in workers[first : first + at_once]))
    return workers
