"""The program of a Dask scheduler that belongs to one driver, and ends with it.

A busy driver then does not keep the workers waiting. It reads commands from its standard input and tells news on its
standard output, one JSON value a line each; :mod:`dhpo.clusters._scheduler_process` is the other end of both.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dask
from distributed import Scheduler, SchedulerPlugin, Security, Status

from dhpo.clusters._own_scheduler import OwnScheduler

#: Open files: for each worker, and for all else.
_PER_WORKER = 2
_OTHERS = 100
#: The share of all workers for which there is room, from which on that is told.
_FULL = 0.9


def make_room() -> int:
    """Raise this process's limit of open files as far as it may be; return for how many workers that is enough."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return sys.maxsize if most == resource.RLIM_INFINITY else max(0, most - _OTHERS) // _PER_WORKER


class Voice:
    """Tells news, by a thread: a driver that is stopped for a while must not stop the scheduler too."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def tell(self, **news: Any) -> None:
        """Tell something."""
        self._queue.put(json.dumps(news) + "\n")

    def _write(self) -> None:
        while True:
            line = self._queue.get()
            try:
                os.write(self._descriptor, line.encode())
            except OSError:  # the driver is gone; the end of the input says so too
                return


class Roll(SchedulerPlugin):  # type: ignore[misc]
    """Tells which workers come and go, by name, and when there is hardly room for more of them.

    Args:
        voice: tells it.
        room: for how many workers the scheduler may open files.
    """

    def __init__(self, voice: Voice, room: int) -> None:
        self.voice = voice
        self.room = room
        self.names: dict[str, str] = {}

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Called by the scheduler."""
        self.names[worker] = str(scheduler.workers[worker].name)
        self.voice.tell(joined=self.names[worker])
        if len(self.names) == max(1, int(_FULL * self.room)):
            self.voice.tell(room=self.room)

    def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:
        """Called by the scheduler."""
        if (name := self.names.pop(worker, None)) is not None:
            self.voice.tell(left=name)


async def serve(options: dict[str, Any], voice: Voice) -> None:
    """Run a scheduler until the driver closes the input, or is no longer there."""
    security = Security(**options["security"]) if options["security"] else None
    scheduler = OwnScheduler(
        interface=options["interface"],
        port=0,
        protocol="tls" if security else "tcp",
        security=security,
        dashboard_address=options["dashboard_address"],
        dashboard=options["dashboard_address"] is not None,
    )
    async with scheduler:
        scheduler.add_plugin(Roll(voice, make_room()))
        voice.tell(address=scheduler.address)
        orphaned = asyncio.create_task(_orphaned(options["parent"]))
        commands = asyncio.create_task(_obey(scheduler, voice))
        await asyncio.wait((orphaned, commands), return_when=asyncio.FIRST_COMPLETED)
        orphaned.cancel()
        commands.cancel()


async def _obey(scheduler: Scheduler, voice: Voice) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    retirements: set[asyncio.Task[Any]] = set()
    while line := await reader.readline():
        idle = [ws for ws in scheduler.workers.values() if ws.status == Status.running and not ws.processing]
        chosen = idle[: json.loads(line)["retire"]]
        voice.tell(retired=[str(ws.name) for ws in chosen])
        for ws in chosen:  # at once: nothing is given to them from here on
            scheduler.handle_worker_status_change(Status.closing_gracefully, ws, "dhpo-retire")
        addresses = [ws.address for ws in chosen]
        task = asyncio.create_task(scheduler.retire_workers(workers=addresses, close_workers=True, remove=True))
        retirements.add(task)
        task.add_done_callback(retirements.discard)


async def _orphaned(parent: int) -> None:
    """Wait for the driver's death: another process may have inherited its end of the pipe."""
    while os.getppid() == parent:
        await asyncio.sleep(1.0)


def remove(paths: Iterable[Path]) -> None:
    """Remove what is of no use without the scheduler: jobs that start later see by it that they have come too late."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def main() -> None:
    """Read the options from the first line of the input, and serve."""
    # Batch systems tell all processes of a job to end. This one is needed until the trials have left.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    # Unbuffered: what follows the first line is read by the event loop.
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 1)):
            return
        line += byte
    options = json.loads(line)
    # At each look the monitor counts the open files, of which there are two per worker: twice a second is much.
    dask.config.set({"distributed.admin.system-monitor.interval": "5s"})
    voice = Voice(os.dup(1))
    os.dup2(2, 1)  # what others print is no news
    try:
        asyncio.run(serve(options, voice))
    finally:
        remove(map(Path, options["remove"]))


if __name__ == "__main__":
    main()
