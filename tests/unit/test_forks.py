from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import distributed.process
import pytest

from dhpo.clusters._forks import ForkServer, _Context


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    monkeypatch.delenv("DHPO_TEST_FIRST", raising=False)
    monkeypatch.setenv("DHPO_TEST_SECOND", "mine")
    server = ForkServer({"DHPO_TEST_FIRST": "given", "DHPO_TEST_SECOND": "given"})
    yield server
    server.close()
    monkeypatch.delenv("DHPO_TEST_FIRST")


def tell(connection: Any) -> None:
    import numpy as np

    connection.send(
        {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "station": "dhpo.worker.station" in sys.modules,
            "random": float(np.random.random()),  # noqa: NPY002 (as run functions do)
            "sigterm": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            "environment": [os.environ[f"DHPO_TEST_{name}"] for name in ("FIRST", "SECOND")],
        }
    )


def wait(connection: Any) -> None:
    connection.recv()


def begin(server: ForkServer, target: Any) -> tuple[Any, Any]:
    context = _Context(server)
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs,))
    process.start()
    theirs.close()
    return process, ours


def told(server: ForkServer) -> dict[str, Any]:
    process, connection = begin(server, tell)
    assert connection.poll(60)
    found = connection.recv()
    process.join(60)
    assert process.exitcode == 0
    assert process.pid == found["pid"]
    return dict(found)


def test_processes_have_all_imported_and_random_numbers_of_their_own(server: ForkServer) -> None:
    first, second = told(server), told(server)
    assert first["station"]
    assert first["parent"] == second["parent"] != os.getpid()
    assert first["pid"] != second["pid"]
    assert first["random"] != second["random"]
    assert first["sigterm"]
    assert first["environment"] == ["given", "mine"]


def test_the_server_outlives_the_signals_of_a_batch_system(server: ForkServer) -> None:
    parent = told(server)["parent"]
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        os.kill(parent, number)
    assert told(server)["parent"] == parent


def test_how_a_process_died_is_known(server: ForkServer) -> None:
    process, _ = begin(server, wait)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def test_closing_does_not_wait_for_what_it_has_forked(server: ForkServer) -> None:
    process, connection = begin(server, wait)
    server.close()
    server.close()
    connection.send("go on")  # it is still there to hear it, and then ends
    assert connection.poll(60)
    with pytest.raises(EOFError):
        connection.recv()
    process.join(60)


def test_python_and_dask_are_as_ever_outside_of_it(server: ForkServer) -> None:
    assert not isinstance(distributed.process.get_mp_context(), _Context)
    assert multiprocessing.forkserver._forkserver._forkserver_pid is None  # type: ignore[attr-defined]
