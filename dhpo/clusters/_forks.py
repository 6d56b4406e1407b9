"""Worker processes forked from one that has imported what they need.

Each worker that Dask spawns imports Dask anew, a third of a second of processor time. Here one process per cluster, the
fork server of ``multiprocessing``, imports it once while the driver starts the scheduler; each worker is then there
after milliseconds, and shares its memory. The server has one thread only, so that forking it is safe.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Mapping
from contextvars import ContextVar
from multiprocessing import forkserver, popen_forkserver, reduction, spawn
from multiprocessing.context import SpawnContext, set_spawning_popen
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

import distributed.process
from distributed import Nanny, Status

_PRELOAD = "dhpo.clusters._forked"


class ForkServer:
    """A fork server of one cluster.

    Args:
        environment: variables that libraries read when they are loaded; those that are set already are left.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._server: Any = forkserver.ForkServer()
        self._server.set_forkserver_preload([_PRELOAD])
        for name, value in environment.items():
            os.environ.setdefault(name, value)
        self._server.ensure_running()

    def connect(self, descriptors: list[int]) -> tuple[int, int]:
        """Fork a process: where its end is told, and where it reads what to do."""
        pair: tuple[int, int] = self._server.connect_to_new_process(descriptors)
        return pair

    def close(self) -> None:
        """End the server; what it has forked lives on."""
        pid = self._server._forkserver_pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)  # else it would be waited for until the last of its children has ended
            self._server._stop()


class ForkedNanny(Nanny):  # type: ignore[misc]
    """A nanny whose worker process is forked by a server.

    Args:
        server: the server; all other arguments are a nanny's.
    """

    def __init__(self, *args: Any, server: ForkServer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forks = server

    async def instantiate(self) -> Status:
        """Start the worker process, at first and whenever it has died."""
        token = _server.set(self._forks)
        try:
            return await super().instantiate()
        finally:
            _server.reset(token)


#: The server that forks the processes which Dask begins in this context; None: they are spawned, as ever.
_server: ContextVar[ForkServer | None] = ContextVar("dhpo_fork_server", default=None)


class _Process(BaseProcess):
    """A process that is forked by a server of its own."""

    _start_method = "forkserver"

    def __init__(self, *args: Any, server: ForkServer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._server: ForkServer | None = server

    def _Popen(self, process: BaseProcess) -> _Popen:
        return _Popen(process)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_server": None}  # for the child, which has no use for it


class _Popen(popen_forkserver.Popen):
    """As Python's own, at the process's server rather than at the one server that Python has for all."""

    _fds: list[int]  # what the child is to have besides

    def _launch(self, process: Any) -> None:
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process.name), buffer)
            reduction.dump(process, buffer)
        finally:
            set_spawning_popen(None)
        self.sentinel, write = process._server.connect(self._fds)
        parent = os.dup(write)  # open as long as this process lives, which is how the child knows
        self.finalizer = Finalize(self, _close, (parent, self.sentinel))
        with open(write, "wb", closefd=True) as file:
            file.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class _Context(SpawnContext):
    """What Dask takes processes from."""

    def __init__(self, server: ForkServer) -> None:
        super().__init__()
        self._fork_server = server

    def Process(self, *args: Any, **kwargs: Any) -> _Process:  # type: ignore[override]
        return _Process(*args, server=self._fork_server, **kwargs)


def _get_mp_context() -> Any:
    server = _server.get()
    return _spawning() if server is None else _Context(server)


# Dask's nannies offer no other way to say where a process comes from. Outside of a ForkedNanny nothing is changed.
_spawning = distributed.process.get_mp_context
distributed.process.get_mp_context = _get_mp_context
