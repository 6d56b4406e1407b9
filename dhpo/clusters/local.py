"""Workers on this machine: dhpo's own ``LocalCluster``, the default."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import ExitStack

import dask
from distributed import Client, LocalCluster

from dhpo.clusters._forks import ForkedNanny, ForkServer
from dhpo.clusters._spawn import without_main_script
from dhpo.clusters.base import Cluster
from dhpo.errors import SettingError
from dhpo.worker.resources import THREAD_VARIABLES, thread_counts, visible_devices

#: A worker's preload: Ctrl-C in a terminal goes to all processes of the driver's group, and the driver ends its workers
#: itself. A handler, not SIG_IGN, because the programs that a trial starts would inherit that.
_DEAF = "import signal; signal.signal(signal.SIGINT, lambda *_: None)"


class Local(Cluster):
    """Worker processes on this machine, each running one trial at a time.

    Args:
        n_workers: how many; None takes as many as the processors and GPUs allow at ``num_cpus`` and ``num_gpus`` each.
        num_cpus: processors that one trial keeps busy.
        num_gpus: GPUs that one trial takes.
        dashboard_address: where the Dask dashboard listens; loopback only unless you say otherwise.
    """

    #: After the scheduler's death :meth:`open` makes everything anew.
    restartable = True

    def __init__(
        self,
        n_workers: int | None = None,
        *,
        num_cpus: float = 1,
        num_gpus: float = 0,
        dashboard_address: str | None = "127.0.0.1:8787",
    ) -> None:
        if n_workers is not None and (not isinstance(n_workers, int) or n_workers < 1):
            raise SettingError(f"n_workers={n_workers!r}: give a positive whole number")
        self.n_workers = n_workers or _as_many_as_fit(num_cpus, num_gpus)
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.dashboard_address = dashboard_address
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._exits = ExitStack()

    async def open(self) -> Client:
        """Start the scheduler in this process and the workers beside it."""
        resources = {"GPU": self.num_gpus} if self.num_gpus else None
        self._exits.enter_context(without_main_script())
        self._exits.callback(_restore_environment, dict(os.environ))
        counts = thread_counts(self.num_cpus)
        environment = {f"distributed.nanny.pre-spawn-environ.{name}": count for name, count in counts.items()}
        with warnings.catch_warnings(), dask.config.set(environment):
            server = ForkServer(_needed_before_imports())  # first of all: it imports while the scheduler starts
            self._exits.callback(server.close)
            warnings.filterwarnings("ignore", message="Port .* is already in use")
            self._cluster = await LocalCluster(
                n_workers=self.n_workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=self.dashboard_address,
                asynchronous=True,
                silence_logs=logging.CRITICAL,
                resources=resources,
                preload=[_DEAF],
                worker_class=ForkedNanny,
                server=server,
            )
        self._client = await Client(self._cluster, asynchronous=True)
        return self._client

    async def close(self) -> None:
        """End the workers and the scheduler."""
        if self._client is not None:
            await self._client.close()
        if self._cluster is not None:
            await self._cluster.close(timeout=5)
        self._exits.close()


def _needed_before_imports() -> dict[str, str]:
    """What Dask sets before it starts a worker, because libraries read it when they are loaded."""
    variables = dask.config.get("distributed.nanny.pre-spawn-environ")
    # As Dask's nannies do, so that all workers hash alike.
    return {"PYTHONHASHSEED": "6640", **{name: str(value) for name, value in variables.items() if value is not None}}


def _restore_environment(before: dict[str, str]) -> None:
    """Take out what Dask sets for its workers in the driver's environment, where every later process would find it."""
    for name in set(os.environ) - set(before):
        if name in (*THREAD_VARIABLES, "MALLOC_TRIM_THRESHOLD_", "PYTHONHASHSEED"):
            del os.environ[name]


def _as_many_as_fit(num_cpus: float, num_gpus: float) -> int:
    fit = int(_processors() // max(num_cpus, 1))
    if num_gpus and (devices := len(visible_devices())):
        fit = min(fit, int(devices / num_gpus))
    return max(1, fit)


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
