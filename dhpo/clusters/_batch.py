"""Workers that are jobs of a batch system, and the Dask scheduler beside the driver that they come to."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from distributed import Client, Security

from dhpo.clusters._controller import shares
from dhpo.clusters._jobscript import Site
from dhpo.clusters._pool import Pool
from dhpo.clusters._scheduler_process import SchedulerProcess
from dhpo.clusters._settings import check_security
from dhpo.clusters.base import Cluster
from dhpo.clusters.security import temporary_security
from dhpo.errors import ClusterError


class BatchCluster(Cluster):
    """A Dask scheduler beside the driver, and pools of jobs, one for each worker, kept in number by controllers.

    Args:
        pools: the jobs.
        log_directory: for the jobs' scripts, output and credentials.
        interface: the network that the scheduler listens on; None for all.
        security: True for TLS with credentials of its own, False for none, or a ``distributed.Security`` of files.
        dashboard_address: where the Dask dashboard listens; None for no dashboard.
    """

    #: After the scheduler's death :meth:`open` makes everything anew.
    restartable = True

    def __init__(
        self,
        pools: Sequence[Pool],
        *,
        log_directory: Path,
        interface: str | None,
        security: bool | Security,
        dashboard_address: str | None,
    ) -> None:
        check_security(security)
        self._pools = list(pools)
        self._log_directory = log_directory
        self._interface = interface
        self._security = security
        self._dashboard_address = dashboard_address
        self._wanted: int | None = None
        self._reset()

    def _reset(self) -> None:
        for pool in self._pools:
            pool.reset()
        self._scheduler: SchedulerProcess | None = None
        self._client: Client | None = None
        self._asking: deque[Pool] = deque()  # for workers to leave, in the order of the answers to come

    async def open(self) -> Client:
        """Start the scheduler, and begin to submit. The client is there before the first worker.

        Raises:
            ClusterError: the batch system's commands are not there, or the scheduler does not start.
        """
        for pool in self._pools:
            pool.check()
        self._reset()
        try:
            scheduler, site = await self._start_scheduler()
            self._client = await scheduler.connect()
        except BaseException:
            await self.close()
            raise
        numbers = count(1)  # by them the pools know their workers
        for pool in self._pools:
            pool.start(site, numbers, partial(self._share, pool), partial(self._retire, pool))
        return self._client

    async def _start_scheduler(self) -> tuple[SchedulerProcess, Site]:
        name = f"dhpo-{uuid.uuid4().hex[:8]}"
        folder = self._log_directory / name
        try:
            folder.mkdir(mode=0o700, parents=True)
            site = Site(name, folder, _directory(), "", None)
            site.alive.touch(mode=0o600)
        except OSError as error:
            raise ClusterError(
                f"log_directory: {folder} cannot be written ({error.strerror}): choose a directory that the nodes see"
            ) from error
        security: Security | None = None
        if self._security is True:
            security = await asyncio.to_thread(temporary_security, site.credentials)
        elif self._security is not False:
            security = self._security
        self._scheduler = SchedulerProcess(
            folder / "scheduler.log",
            security=security,
            interface=self._interface,
            dashboard_address=self._dashboard_address,
            transient=[site.alive, site.credentials],
            heard=self._heard,
        )
        await self._scheduler.start()
        return self._scheduler, Site(name, folder, site.directory, self._scheduler.address, security)

    async def close(self) -> None:
        """End the scheduler and all jobs, pending and running."""
        await asyncio.gather(*(pool.withdraw() for pool in self._pools))
        if self._client is not None:
            await self._client.close()
        if self._scheduler is not None:
            await self._scheduler.close()  # the workers then end, and clean up, by themselves
        await asyncio.gather(*(pool.end() for pool in self._pools))
        self._client = self._scheduler = None

    def want(self, trials: int) -> None:
        """Keep no more workers than there are trials for them."""
        if self._wanted != trials:
            self._wanted = trials
            self._wake()

    def state(self) -> str:
        """How many workers are there, and what the other jobs wait for."""
        states = [f"{pool.name}: {state}" if pool.name else state for pool in self._pools if (state := pool.state())]
        return "; ".join(states)

    def failed(self) -> str | None:
        """Why no worker will come any more, with the end of a job's log: all pools have given up."""
        failures = [pool.failure for pool in self._pools]
        return None if None in failures else "\n\n".join(failure for failure in failures if failure is not None)

    def _share(self, pool: Pool) -> int:
        limits = [each.settings.n_workers for each in self._pools]
        if self._wanted is None:
            return pool.settings.n_workers
        return shares(self._wanted, limits, [each.connected for each in self._pools])[self._pools.index(pool)]

    def _retire(self, pool: Pool, workers: int) -> None:
        """Have so many workers leave: those that are idle, whichever pool's they are."""
        if self._scheduler is not None:
            self._asking.append(pool)
            self._scheduler.retire(workers)

    def _wake(self) -> None:
        for pool in self._pools:
            pool.wake()

    def _heard(self, news: dict[str, Any]) -> None:
        if "ended" in news:
            for pool in self._pools:
                pool.rest()  # the driver notices by its client
            return
        for kind, told in news.items():
            names = told if kind == "retired" else [told]
            numbers = [number for name in names if (number := _number(name)) is not None]
            asking = self._asking.popleft() if kind == "retired" and self._asking else None
            for pool in self._pools:
                pool.hear(kind, numbers, answers=pool is asking)


def _number(worker: str) -> int | None:
    """Which job's a worker is: its name begins with it."""
    first = worker.partition("-")[0]
    return int(first) if first.isdecimal() else None


def _directory() -> Path:
    """The driver's directory by the name by which the user came to it: automounters' own names are of one node only."""
    named = Path(os.environ.get("PWD", ""))
    here = Path.cwd()
    return named if named.is_absolute() and named.exists() and named.samefile(here) else here
