"""A Dask cluster of somebody else's under a search: its processes killed and stopped, its connections cut."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from harness import Harness, count, eventually, reported


class Proxy:
    """A TCP relay to an address, whose connections can be held and cut.

    Args:
        address: where to.
    """

    def __init__(self, address: str) -> None:
        host, port = address.removeprefix("tcp://").split(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "tcp://127.0.0.1:%d" % self._listener.getsockname()[1]  # noqa: UP031
        self._pairs: list[socket.socket] = []
        self._flowing = threading.Event()
        self._flowing.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._pairs += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._flowing.wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Let nothing through, as a switch that restarts."""
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        """Close all connections; new ones are possible."""
        for end in self._pairs:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.release()
        self.cut()


class Cluster:
    """A Dask scheduler and workers, started by hand."""

    def __init__(self, search: Harness) -> None:
        self.search = search
        self.n = 0
        self.proxies: list[Proxy] = []

    def start(self, n_workers: int) -> None:
        self.n += 1
        self.file = self.search.directory / f"scheduler-{self.n}.json"
        self.search.launch(
            *("dask", "scheduler", "--scheduler-file", str(self.file), "--no-dashboard", "--port", "0"),
            *("--host", "127.0.0.1"),
            DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="2s",
        )
        eventually(self.file.exists, "the scheduler")
        for _ in range(n_workers):
            self.add_worker()

    @property
    def address(self) -> str:
        return str(json.loads(self.file.read_text())["address"])

    def add_worker(self, address: str | None = None) -> int:
        """Start a nanny with a worker; its number."""
        return self.search.launch(
            *("dask", "worker", address or self.address, "--nanny", "--nthreads", "1", "--no-dashboard"),
            *("--memory-limit", "0", "--host", "127.0.0.1", "--death-timeout", "60"),
        ).pid

    def worker_of(self, nanny: int) -> int:
        """The process of a nanny's worker."""
        found: list[int] = []

        def there() -> bool:
            found[:] = [pid for pid in self.search.processes("worker") if self.search.parent(pid) == nanny]
            return bool(found)

        eventually(there, "the nanny's worker")
        return found[0]

    def proxy(self) -> Proxy:
        self.proxies.append(Proxy(self.address))
        return self.proxies[-1]


@pytest.fixture(name="cluster")
def cluster_fixture(tmp_path: Path) -> Iterator[Cluster]:
    search = Harness(tmp_path, "None", n_trials=18, epochs=10, seconds=0.15)
    cluster = Cluster(search)
    yield cluster
    for proxy in cluster.proxies:
        proxy.close()
    search.close()


def until_a_trial_is_young(search: Harness) -> None:
    """Wait until the newest note is of one of the first epochs: its trial has something left to do."""
    eventually(lambda: search.notes()[-1][2] <= 3, "a trial that has just begun")


def until_notes(search: Harness, n: int) -> None:
    eventually(lambda: len(search.notes()) >= n, "trials that go on by themselves")


def test_nannies_workers_and_the_scheduler_are_killed(cluster: Cluster) -> None:
    search = cluster.search
    cluster.start(0)
    nannies = [cluster.add_worker(), cluster.add_worker()]
    search.start("--cluster", str(cluster.file))
    search.wait(reported(4))

    search.kill(cluster.worker_of(nannies[0]))  # its nanny starts another
    search.wait(lambda rows: count(rows, "lost") == 1)
    worker = cluster.worker_of(nannies[1])
    search.kill(nannies[1])  # its worker ends with it
    search.wait(lambda rows: count(rows, "lost") == 2)
    eventually(lambda: worker not in search.processes(), "the end of the worker without its nanny")
    cluster.add_worker()
    search.wait_more(10)

    search.kill(search.processes("scheduler")[0])
    assert search.await_end() == 1
    assert "dhpo: the connection to the Dask scheduler was lost" in search.told()
    search.await_nobody()  # workers end with their scheduler

    cluster.start(2)
    search.start("--cluster", str(cluster.file))
    assert search.await_end() == 0, search.told()
    search.check()


def test_processes_that_stand_still_and_connections_that_break(cluster: Cluster) -> None:
    search = cluster.search
    cluster.start(1)
    workers_link, drivers_link = cluster.proxy(), cluster.proxy()
    nanny = cluster.add_worker(workers_link.address)
    search.start("--cluster", drivers_link.address)
    search.wait(reported(4))

    # For longer than the scheduler waits for a worker: its trial runs elsewhere, and what it tells later is ignored.
    worker = cluster.worker_of(nanny)
    with search.stopped(worker):
        search.wait(lambda rows: count(rows, "lost") == 1)
        search.wait_more()
    search.wait_more()

    # The driver, the scheduler, then the network for a moment: trials go on by themselves.
    assert search.driver is not None
    for pid in (search.driver.pid, search.processes("scheduler")[0]):
        until_a_trial_is_young(search)
        notes = len(search.notes())
        with search.stopped(pid):
            until_notes(search, notes + 1)
        search.wait_more()
    until_a_trial_is_young(search)
    notes = len(search.notes())
    drivers_link.hold()
    until_notes(search, notes + 1)
    drivers_link.release()
    search.wait_more()

    lost = count(search.rows(), "lost")
    workers_link.cut()
    search.wait_more(4)
    assert count(search.rows(), "lost") <= lost + 1

    drivers_link.cut()
    assert search.await_end() == 1
    assert "dhpo: the connection to the Dask scheduler was lost" in search.told()
    search.start("--cluster", cluster.address)
    assert search.await_end() == 0, search.told()
    search.check()
