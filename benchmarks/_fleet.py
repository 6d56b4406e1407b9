"""Many Dask workers on one machine, for trials that only sleep, and what these workers saw of their trials.

    python benchmarks/_fleet.py ADDRESS COUNT FILE [real]

A fleet is a few processes. Each of them registers its share of the workers with the scheduler: light ones (see
``_light.py``), or real ones, each a ``distributed.Worker`` with one thread. At the end of its standard input a process
writes to its file when each stretch of training began and ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from _common import scratch

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
#: What the light workers run with besides: sizes of messages are not to be estimated.
_LIGHT = {"DASK_DISTRIBUTED__COMM__OFFLOAD": "False"}
_TICK = os.sysconf("SC_CLK_TCK")
#: Workers that a process starts at once: of too many, the last ones would wait for too long.
_AT_ONCE = 50
#: What such a process writes when its workers are registered.
_THERE = b"there\n"


class Span(NamedTuple):
    """A stretch of training, in unix time."""

    worker: str
    trial: int
    began: float
    ended: float


#: Of this process's workers: what has ended, and what runs (worker -> trial, beginning).
_ended: list[Span] = []
_running: dict[str, tuple[int, float]] = {}


#: How a task sleeps; light workers have a way of their own.
sleep: Callable[[float], None] = time.sleep


def train(trial: int, seconds: float) -> None:
    """Sleep for a stretch of training of this trial, in a task of one of the workers here.

    It counts as long as it is meant to last: a process that is late to wake it up keeps its worker waiting.
    """
    from distributed import get_worker

    worker: str = get_worker().address
    began = time.time()
    _running[worker] = (trial, began)
    sleep(seconds)
    _ended.append(Span(worker, trial, began, began + seconds))
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
        failed = [status for process in self.workers if (status := process.wait())]
        if failed:
            raise RuntimeError(f"{len(failed)} of the processes with the workers have failed: see above")
        return [Span(*row) for file in self.files for row in json.loads(file.read_text())]


@contextmanager
def fleet(n_workers: int, processes: int, *, own: bool, real: bool) -> Iterator[Fleet]:
    """A scheduler in a process of its own, with so many workers, spread over some processes: all there.

    Args:
        n_workers: in all.
        processes: for the workers.
        own: whether the scheduler is dhpo's, as its Slurm, PBS and allocation clusters start it; Dask's if not.
        real: whether the workers are; light ones if not.
    """
    with scratch() as directory:
        environment = {**os.environ, **SETTINGS}
        theirs = environment if real else environment | _LIGHT
        scheduler, address = (_own_scheduler if own else _dask_scheduler)(directory, environment)
        workers: list[subprocess.Popen[bytes]] = []
        pipe = subprocess.PIPE
        try:
            files = [directory / f"spans-{i}.json" for i in range(processes)]
            for i, file in enumerate(files):
                share = n_workers // processes + (i < n_workers % processes)
                arguments = [sys.executable, __file__, address, str(share), str(file), *(["real"] if real else [])]
                workers.append(subprocess.Popen(arguments, stdin=pipe, stdout=pipe, env=theirs))
            for process in workers:
                assert process.stdout is not None
                if process.stdout.readline() != _THERE:
                    raise RuntimeError("a process with workers has failed: see above")
            yield Fleet(address, scheduler, workers, files)
        finally:
            for process in (*workers, scheduler):
                process.kill()
                process.wait()


def _dask_scheduler(directory: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """Dask's scheduler, and its address."""
    file = directory / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--dashboard-address", ":0"]
    scheduler = subprocess.Popen([*command, "--scheduler-file", str(file)], env=environment)
    while not file.exists():
        time.sleep(0.05)
    return scheduler, json.loads(file.read_text())["address"]


def _own_scheduler(directory: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """The program that ``dhpo.clusters._scheduler_process`` starts, and its address."""
    options = {
        "security": {}, "interface": "lo", "dashboard_address": "127.0.0.1:0", "remove": [], "parent": os.getpid(),
    }  # fmt: skip
    command = [sys.executable, "-m", "dhpo.clusters._scheduler"]
    scheduler = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert scheduler.stdin is not None
    assert scheduler.stdout is not None
    scheduler.stdin.write(json.dumps(options).encode() + b"\n")
    scheduler.stdin.flush()
    address = json.loads(scheduler.stdout.readline())["address"]
    threading.Thread(target=scheduler.stdout.read, daemon=True).start()  # its news
    return scheduler, address


def cpu_of(pid: int) -> float:
    """Seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


async def _serve(address: str, count: int, file: Path, *, real: bool) -> None:
    """Be so many workers until the standard input ends; then write what was trained."""
    workers = await (_real if real else _light)(address, count)
    os.write(1, _THERE)
    await asyncio.to_thread(sys.stdin.buffer.read)
    now = time.time()
    spans = [*_ended, *(Span(worker, trial, began, now) for worker, (trial, began) in list(_running.items()))]
    file.write_text(json.dumps(spans))
    assert len(workers) == count
    os._exit(0)  # threads that still sleep are of no interest


async def _light(address: str, count: int) -> Sequence[object]:
    import _light

    global sleep
    sleep = _light.sleep
    return await _light.start(address, count, _AT_ONCE)


async def _real(address: str, count: int) -> Sequence[object]:
    from distributed import Worker

    workers: list[Worker] = []
    while len(workers) < count:
        missing = min(_AT_ONCE, count - len(workers))
        made = [Worker(address, nthreads=1, dashboard=False, memory_limit=0) for _ in range(missing)]
        await asyncio.gather(*made)
        workers += made
    return workers


if __name__ == "__main__":
    sys.modules["_fleet"] = sys.modules["__main__"]  # so that the trials fill the lists of this module
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), real="real" in sys.argv[4:]))
