"""Thousands of stand-ins for workers, registered with a real scheduler process: what each thing costs it.

    python benchmarks/_standins.py WORKERS          one line of JSON
    python benchmarks/_standins.py WORKERS dask     the same with Dask's own scheduler

A stand-in is what the scheduler sees of a worker: two connections, a registration, heartbeats as often as Dask wants
them, tasks, messages of the worker's part of dhpo, and an end. Nothing is trained. All of them live in one process,
with two descriptors each, as many as the scheduler has: 9,500 need ``ulimit -n 20000``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import _common
import dask
from distributed import Client, versions
from distributed.core import connect
from distributed.scheduler import heartbeat_interval

from dhpo.clusters._scheduler_process import SchedulerProcess
from dhpo.executors.relay import Relay

_TICK = os.sysconf("SC_CLK_TCK")
_AT_ONCE = 50  # that register at the same time
_PER_MESSAGE = 20  # reports
_SECONDS = 12.0  # of each load
_METRICS = {
    "cpu": 0, "memory": 0, "time": 0, "num_fds": 0, "event_loop_interval": 0, "executing": 0, "in_memory": 0,
    "ready": 0, "in_flight": 0, "managed_bytes": 0, "task_counts": {}, "digests_total_since_heartbeat": {}, "host": {},
    "bandwidth": {"total": 1, "workers": {}, "types": {}}, "spilled_bytes": {"memory": 0, "disk": 0},
    "transfer": {f"{way}_{what}": 0 for way in ("incoming", "outgoing") for what in ("bytes", "count", "count_total")},
}  # fmt: skip


def nothing(number: int) -> None:
    """The function of a task that never runs."""


class StandIn:
    """One worker, as far as a scheduler can see.

    Args:
        number: it is named after it.
        running: where the tasks that come to the stand-ins are noted, key -> (stand-in, run id).
    """

    def __init__(self, number: int, running: dict[str, tuple[StandIn, int]]) -> None:
        self.address = f"tcp://127.0.0.1:{20_000 + number}"
        self.number = number
        self.key = ""
        self._running = running
        self._comms: list[Any] = []

    async def register(self, scheduler: str, known: dict[str, Any]) -> None:
        """Join; then take tasks until the end."""
        stream, calls = await connect(scheduler), await connect(scheduler)
        self._comms = [stream, calls]
        await stream.write(
            {
                "op": "register-worker", "reply": False, "address": self.address, "status": "running", "nthreads": 1,
                "name": f"w{self.number}", "now": time.time(), "resources": {"GPU": 1.0}, "memory_limit": 10**9,
                "local_directory": "/tmp", "nanny": None, "server_id": str(uuid.uuid4()), "pid": 1, "versions": known,
                "metrics": _METRICS, "extra": {}, "services": {}, "stimulus_id": f"register-{self.number}",
            }
        )  # fmt: skip
        await stream.read()
        await self.beat()
        self._reader = asyncio.create_task(self._read(stream))

    async def _read(self, stream: Any) -> None:
        try:
            while True:
                for message in await stream.read():
                    if message.get("op") == "compute-task":
                        self.key = message["key"]
                        self._running[self.key] = (self, message["run_id"])
        except Exception:  # the connection is closed, by one end or the other
            return

    async def beat(self) -> None:
        """Send a heartbeat."""
        await self._comms[1].write(
            {"op": "heartbeat_worker", "address": self.address, "now": time.time(), "metrics": _METRICS,
             "host_info": {}, "executing": {}, "extensions": {}}
        )  # fmt: skip
        await self._comms[1].read()

    async def finish(self, key: str, run_id: int) -> None:
        """Tell the end of the task."""
        await self._comms[0].write(
            [{"op": "task-finished", "key": key, "nbytes": 28, "type": b"", "typename": "NoneType", "metadata": {},
              "thread": 1, "startstops": [], "stimulus_id": f"finished-{key}", "run_id": run_id}]
        )  # fmt: skip

    def vanish(self) -> None:
        """Be gone, as after a kill."""
        self._reader.cancel()
        for comm in self._comms:
            comm.abort()


class Crowd:
    """The stand-ins, with a scheduler and a client.

    Args:
        address: of the scheduler.
        pid: of its process.
        client: of it, with the relay registered.
    """

    def __init__(self, address: str, pid: int, client: Client) -> None:
        self.address = address
        self.pid = pid
        self.client = client
        self.here: list[StandIn] = []
        self.running: dict[str, tuple[StandIn, int]] = {}
        self.idle_share = 0.0
        self._n_tasks = 0
        self._futures: dict[str, Any] = {}

    def cpu(self) -> float:
        """Seconds of processor time that the scheduler has taken."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self) -> float:
        """Bytes that the scheduler has in memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()

    def descriptors(self) -> int:
        """How many the scheduler has."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    async def grow(self, n_workers: int) -> None:
        """Have so many register."""
        known = versions.get_versions()
        fresh = [StandIn(number, self.running) for number in range(n_workers)]
        for first in range(0, n_workers, _AT_ONCE):
            batch = fresh[first : first + _AT_ONCE]
            await asyncio.gather(*(each.register(self.address, known) for each in batch))
        self.here = fresh

    async def submit(self, n: int, resources: dict[str, float] | None) -> None:
        """Submit so many tasks at once."""
        first, self._n_tasks = self._n_tasks, self._n_tasks + n
        keys = [f"trial-t-{number}-1" for number in range(first, first + n)]
        futures = self.client.map(nothing, range(n), key=keys, pure=False, resources=resources)
        self._futures.update(zip(keys, futures, strict=True))

    async def finish(self, n: int) -> None:
        """End so many tasks, and forget them."""
        for key in random.sample(sorted(self.running), min(n, len(self.running))):
            worker, run_id = self.running.pop(key)
            await worker.finish(key, run_id)
            self._futures.pop(key).release()

    async def settle(self, n_tasks: int) -> None:
        """Wait until so many tasks run, and the scheduler has time."""
        while len(self.running) < n_tasks:
            await asyncio.sleep(0.05)
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until the scheduler answers at once, three times in a row, or for 20 s where the machine is too busy."""
        in_a_row, end = 0, time.perf_counter() + 20.0
        while in_a_row < 3 and time.perf_counter() < end:
            asked = time.perf_counter()
            await self.client.scheduler.identity(n_workers=0)
            in_a_row = in_a_row + 1 if time.perf_counter() - asked < 0.05 else 0
            await asyncio.sleep(0.2)

    @asynccontextmanager
    async def spending(self) -> AsyncIterator[list[float]]:
        """Note what seconds of the scheduler something takes, without those that it takes for nothing."""
        spent: list[float] = []
        used, began = self.cpu(), time.perf_counter()
        yield spent
        await self.quiet()
        spent.append(self.cpu() - used - self.idle_share * (time.perf_counter() - began))

    async def idle(self, seconds: float) -> float:
        """The share of its time that the scheduler takes for nothing."""
        await self.quiet()
        used, began = self.cpu(), time.perf_counter()
        await asyncio.sleep(seconds)
        self.idle_share = (self.cpu() - used) / (time.perf_counter() - began)
        return self.idle_share


@asynccontextmanager
async def crowd(directory: Path, *, own: bool) -> AsyncIterator[Crowd]:
    """A scheduler, dhpo's ``own`` or Dask's, with the relay, and nobody there yet."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    dask.config.set({"distributed.scheduler.worker-ttl": None})
    file = directory / "scheduler.json"
    if own:
        started = SchedulerProcess(directory / "log", security=None, interface="lo", dashboard_address=None)
        await started.start()
        assert started._process is not None
        address, process = started.address, started._process
    else:
        inherited = {**os.environ, "DASK_INTERNAL_INHERIT_CONFIG": dask.config.serialize(dask.config.global_config)}
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--host", "127.0.0.1"]
        with open(directory / "log", "wb") as log:
            process = subprocess.Popen(
                [*command, "--port", "0", "--scheduler-file", str(file)], stderr=log, env=inherited
            )
        while not file.exists():
            await asyncio.sleep(0.1)
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
    try:
        client = await Client(address, asynchronous=True, timeout=60)
        await client.register_plugin(Relay("t", {}, client.id))
        yield Crowd(address, process.pid, client)
    finally:
        process.kill()


async def churn(crowd: Crowd, per_second: float, resources: dict[str, float] | None) -> float:
    """Seconds of the scheduler for each task: submitted, run, ended, forgotten."""
    await crowd.submit(len(crowd.here) - len(crowd.running), resources)
    await crowd.settle(len(crowd.here))
    batch, n = max(1, round(per_second / 5)), 0
    async with crowd.spending() as spent:
        began = time.perf_counter()
        while (elapsed := time.perf_counter() - began) < _SECONDS:
            if n < per_second * elapsed:
                await crowd.finish(batch)
                await crowd.submit(batch, resources)
                n += batch
            await asyncio.sleep(0.02)
        await crowd.settle(len(crowd.here))
    await crowd.finish(len(crowd.here))
    await crowd.quiet()
    return spent[0] / n


async def beat(crowd: Crowd) -> tuple[float, float]:
    """Seconds of the scheduler for a heartbeat, and the share of its time that those of all take."""
    async with crowd.spending() as spent:
        for first in range(0, len(crowd.here), _AT_ONCE):
            await asyncio.gather(*(each.beat() for each in crowd.here[first : first + _AT_ONCE]))
    each = spent[0] / len(crowd.here)
    return each, spent[0] / heartbeat_interval(len(crowd.here))


async def report(crowd: Crowd, per_second: float) -> dict[str, float]:
    """Have so many messages sent in a second, with reports that nobody waits for; a driver fetches them."""
    await crowd.submit(len(crowd.here), None)
    await crowd.settle(len(crowd.here))
    scheduler, got = crowd.client.scheduler, 0

    async def fetch() -> None:
        nonlocal got
        after = 0
        while True:
            answer = await scheduler.dhpo_exchange_t(after=after, acknowledged=after, need=100.0, unit=10.0)
            for after, _ in answer["records"]:  # noqa: B007 the last number is what counts
                got += 1

    async def send(key: str, turn: int) -> None:
        worker, run_id = crowd.running[key]
        trial = int(key.split("-")[2])
        items = [
            ["report", key, run_id, trial, 1, turn * _PER_MESSAGE + i, float(turn * _PER_MESSAGE + i + 1),
             {"error": 0.5, "epoch": i}, 0.1, 1.0] for i in range(_PER_MESSAGE)
        ]  # fmt: skip
        before = time.perf_counter()
        await scheduler.dhpo_report_t(worker=worker.address, items=items)
        delays.append(time.perf_counter() - before)

    fetching = asyncio.create_task(fetch())
    await asyncio.sleep(2.0)
    delays: list[float] = []
    keys, sent, under_way = list(crowd.running), 0, set[Any]()
    used, began = crowd.cpu(), time.perf_counter()
    while (elapsed := time.perf_counter() - began) < _SECONDS:
        while sent < per_second * elapsed:
            task = asyncio.create_task(send(keys[sent % len(keys)], sent // len(keys)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            sent += 1
        await asyncio.sleep(0.005)
    found = {"share": (crowd.cpu() - used) / elapsed, "messages": len(delays) / elapsed, "reports": got / elapsed}
    fetching.cancel()
    delays.sort()
    await crowd.finish(len(crowd.here))
    await crowd.quiet()
    return {**found, "p50": delays[len(delays) // 2], "p99": delays[int(0.99 * len(delays))]}


async def leave(crowd: Crowd, n: int, apart: float) -> float:
    """Seconds of the scheduler for each of so many workers that vanish, so many seconds apart."""
    async with crowd.spending() as spent:
        for _ in range(n):
            crowd.here.pop().vanish()
            if apart:
                await asyncio.sleep(apart)
        await asyncio.sleep(1.0)
    return spent[0] / n


async def measure(n_workers: int, *, own: bool) -> dict[str, Any]:
    """All figures, in seconds and bytes."""
    found: dict[str, Any] = {"workers": n_workers, "own": own}

    def say(name: str, value: Any) -> None:
        found[name] = value
        print(name, value, file=sys.stderr, flush=True)

    with _common.scratch() as directory:
        async with crowd(directory, own=own) as made:
            used, began, memory = made.cpu(), time.perf_counter(), made.memory()
            await made.grow(n_workers)
            say("registration", (made.cpu() - used) / n_workers)
            say("registered", time.perf_counter() - began)
            say("descriptors", made.descriptors())
            say("memory", (made.memory() - memory) / n_workers)
            say("idle", await made.idle(8.0))
            say("beat", await beat(made))
            say("leaves_alone", await leave(made, 20, 0.1))
            say("leave_together", await leave(made, n_workers // 4, 0.0))
            say("task", await churn(made, 60.0, None))
            say("task_with_resources", await churn(made, 60.0, {"GPU": 1.0}))
            say("reports", await report(made, 500.0))
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1]), own="dask" not in sys.argv))))
    sys.stdout.flush()
    os._exit(0)  # nobody has to wait for the stand-ins
