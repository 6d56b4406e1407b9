"""A cluster for tests: a scheduler and workers in processes of their own, of which each has to end before long."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from distributed import Client

ROOT = Path(__file__).parents[2]


class Renewing:
    """Keeps ``n`` workers alive: one that ends is replaced, as a batch system's jobs are.

    Args:
        n: how many workers.
        life: seconds that each of them has, after which it is killed; None for ever.
        nanny: whether each has one.
    """

    def __init__(self, n: int = 2, life: float | None = None, *, nanny: bool = False) -> None:
        self.n = n
        self.life = life
        self.nanny = nanny
        self.restartable = True
        self.wanted: list[int] = []
        self.exits: list[int] = []  # exit codes of workers
        self.n_overdue = 0  # workers that were killed at their end
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[tuple[subprocess.Popen[bytes], float]] = []

    async def open(self) -> Client:
        self._directory = tempfile.TemporaryDirectory(prefix="dhpo-renewing-")
        file = Path(self._directory.name) / "scheduler.json"
        self.scheduler = self._start("scheduler", "--scheduler-file", str(file), "--no-dashboard", "--port", "0")
        self._client = await Client(scheduler_file=str(file), asynchronous=True, timeout="60s")
        self._file = file
        self._keeper = asyncio.create_task(self._keep())
        return self._client

    def _start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, "-m", "dask", command[0], *command[1:]],
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._directory.name,
            start_new_session=True,
        )

    def start_worker(self) -> None:
        end = float("inf") if self.life is None else time.time() + self.life
        environment = {} if self.life is None else {"DHPO_WORKER_END": str(end)}
        nanny = "--nanny" if self.nanny else "--no-nanny"
        process = self._start(
            *("worker", "--scheduler-file", str(self._file), nanny, "--nthreads", "1", "--no-dashboard"),
            *("--memory-limit", "0", "--death-timeout", "60"),
            **environment,
        )
        self.workers.append((process, end))

    async def _keep(self) -> None:
        while True:
            for process, end in list(self.workers):
                if time.time() > end and process.poll() is None:
                    self.n_overdue += 1
                    _kill(process)
                if (code := process.poll()) is not None:
                    self.exits.append(code)
                    self.workers.remove((process, end))
            while len(self.workers) < self.n:
                self.start_worker()
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        self._keeper.cancel()
        with suppress(OSError, TimeoutError):
            await self._client.close(timeout=1)
        for process, _ in self.workers:
            _kill(process)
        self.workers.clear()
        if self.scheduler is not None:
            _kill(self.scheduler)
        self._directory.cleanup()

    def want(self, trials: int) -> None:
        self.wanted.append(trials)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
