"""Many Dask workers on one machine, for trials that only sleep, and what these workers saw of their trials.

    python benchmarks/_fleet.py ADDRESS COUNT FILE

A fleet is a few processes. Each of them registers its share of the workers with the scheduler: every one is a
``distributed.Worker`` with one thread, a heartbeat and connections of its own, so that the scheduler's side is real.
At the end of its standard input a process writes to its file when each stretch of training began and ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

#: What the scheduler and all workers run with. Measuring a machine a thousand times tells nothing more than once.
SETTINGS = {
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "60s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "False",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__MONITOR_INTERVAL": "60s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__TICK__LIMIT": "30s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "120s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "120s",
    "DASK_LOGGING__DISTRIBUTED": "error",
}
_TICK = os.sysconf("SC_CLK_TCK")
#: Workers that a process starts at once: of too many, the last ones would wait for too long.
_AT_ONCE = 50


class Span(NamedTuple):
    """A stretch of training, in unix time."""

    worker: str
    trial: int
    began: float
    ended: float


#: Of this process's workers: what has ended, and what runs (worker -> trial, beginning).
_ended: list[Span] = []
_running: dict[str, tuple[int, float]] = {}


def train(trial: int, seconds: float) -> None:
    """Sleep for a stretch of training of this trial, in a task of one of the workers here."""
    from distributed import get_worker

    worker: str = get_worker().address
    began = time.time()
    _running[worker] = (trial, began)
    time.sleep(seconds)
    _ended.append(Span(worker, trial, began, time.time()))
    _running.pop(worker, None)


@dataclass
class Fleet:
    """Processes that hold workers, and the scheduler's.

    Args:
        address: of the scheduler.
        scheduler: its process.
        workers: the processes of the workers.
        files: where these write at the end.
    """

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: Sequence[subprocess.Popen[bytes]]
    files: Sequence[Path]

    def cpu(self) -> tuple[float, float]:
        """Seconds of processor time that the scheduler, and all workers, have taken so far."""
        return cpu_of(self.scheduler.pid), sum(cpu_of(process.pid) for process in self.workers)

    def end(self) -> list[Span]:
        """End the workers; return what they trained, all that ran to now included."""
        for process in self.workers:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.workers:
            process.wait()
        return [Span(*row) for file in self.files for row in json.loads(file.read_text())]


@contextmanager
def fleet(n_workers: int, directory: Path, processes: int) -> Iterator[Fleet]:
    """A scheduler in a process of its own, with so many workers, spread over some processes: all there."""
    from distributed import Client

    environment = {**os.environ, **SETTINGS}
    scheduler_file = directory / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--dashboard-address", ":0"]
    scheduler = subprocess.Popen([*command, "--scheduler-file", str(scheduler_file)], env=environment)
    workers: list[subprocess.Popen[bytes]] = []
    try:
        while not scheduler_file.exists():
            time.sleep(0.05)
        address = json.loads(scheduler_file.read_text())["address"]
        files = [directory / f"spans-{i}.json" for i in range(processes)]
        for i, file in enumerate(files):
            share = n_workers // processes + (i < n_workers % processes)
            arguments = [sys.executable, __file__, address, str(share), str(file)]
            workers.append(subprocess.Popen(arguments, stdin=subprocess.PIPE, env=environment))
        with Client(address, timeout=60) as client:
            client.wait_for_workers(n_workers, timeout=240)
        yield Fleet(address, scheduler, workers, files)
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def cpu_of(pid: int) -> float:
    """Seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


async def _serve(address: str, count: int, file: Path) -> None:
    """Be so many workers until the standard input ends; then write what was trained."""
    from distributed import Worker

    workers: list[Worker] = []
    while len(workers) < count:
        missing = min(_AT_ONCE, count - len(workers))
        made = [Worker(address, nthreads=1, dashboard=False, memory_limit=0) for _ in range(missing)]
        await asyncio.gather(*made)
        workers += made
    await asyncio.to_thread(sys.stdin.buffer.read)
    now = time.time()
    spans = [*_ended, *(Span(worker, trial, began, now) for worker, (trial, began) in list(_running.items()))]
    file.write_text(json.dumps(spans))
    os._exit(0)  # threads that still sleep are of no interest


if __name__ == "__main__":
    sys.modules["_fleet"] = sys.modules["__main__"]  # so that the trials fill the lists of this module
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
