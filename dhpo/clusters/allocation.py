"""Workers within the batch job that the driver runs in."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed import Client, Security

from dhpo.clusters._allocated import Layout, pbs_layout, seconds_left, slurm_layout, worker_script
from dhpo.clusters._command import call
from dhpo.clusters._scheduler_process import SchedulerProcess, tail
from dhpo.clusters._settings import check_security
from dhpo.clusters.base import Cluster
from dhpo.clusters.security import temporary_security
from dhpo.errors import ClusterError, SettingError

logger = logging.getLogger(__name__)

#: Seconds for the workers to end by themselves, and once more when they were told to.
_END = 10.0
_LAUNCHERS = ("srun", "pbsdsh", "mpirun", "ssh", "local")


def inside_job(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs within a job of SLURM or PBS."""
    return "SLURM_JOB_ID" in environ or "PBS_NODEFILE" in environ


class Allocation(Cluster):
    """All in one job: scheduler and driver on its first node, workers on all its nodes, nothing else submitted.

    The user's script is the job: ``sbatch --nodes=4 --ntasks=32 … tune.py``. Workers are started by ``srun`` in a SLURM
    job; in a PBS job by ``pbsdsh``, ``mpirun`` or ``ssh``, whichever there is.

    Args:
        n_workers: how many. By default one for each task (``--ntasks``) or line of ``$PBS_NODEFILE``, or, with
            ``num_cpus``, as many as the job's processors allow.
        num_cpus: processors of one worker, and threads of its numerical libraries; by default those of a task.
        num_gpus: GPUs of one worker, offered to trials as the resource ``GPU``; by default those of a task.
        interface: the network between the nodes, such as ``"ib0"``; in a job of one node the loopback by default.
        launcher: ``"srun"``, ``"pbsdsh"``, ``"mpirun"``, ``"ssh"`` or ``"local"``, where the choice made is the wrong.
        python: the Python of the workers; by default this one.
        log_directory: for output and credentials; the nodes must see it. ``dhpo-jobs`` by default.
        startup_timeout: seconds within which the first worker must come; None waits for ever.
        security: True for TLS with credentials made for this run, False for none, or a ``Security`` of files.
        dashboard_address: where the Dask dashboard listens; loopback only unless you say otherwise.

    Raises:
        SettingError: an argument is not usable.
    """

    #: After the scheduler's death :meth:`open` makes everything anew.
    restartable = True

    def __init__(
        self,
        n_workers: int | None = None,
        *,
        num_cpus: int | None = None,
        num_gpus: int | None = None,
        interface: str | None = None,
        launcher: str | None = None,
        python: str | None = None,
        log_directory: str | os.PathLike[str] | None = None,
        startup_timeout: float | None = None,
        security: bool | Security = True,
        dashboard_address: str | None = "127.0.0.1:8787",
    ) -> None:
        check_security(security)
        for name, value in (("n_workers", n_workers), ("num_cpus", num_cpus)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise SettingError(f"{name}={value!r}: give a positive whole number")
        if launcher is not None and launcher not in _LAUNCHERS:
            raise SettingError(f"launcher={launcher!r}: choose one of {list(_LAUNCHERS)}")
        self.n_workers = n_workers
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.interface = interface
        self.launcher = launcher
        self.python = python
        self.log_directory = Path(log_directory or "dhpo-jobs").absolute()
        self.startup_timeout = startup_timeout
        self.security = security
        self.dashboard_address = dashboard_address
        self._reset()

    def _reset(self) -> None:
        self._scheduler: SchedulerProcess | None = None
        self._client: Client | None = None
        self._launched: list[asyncio.subprocess.Process] = []
        self._watch: asyncio.Task[None] | None = None
        self._connected: Counter[str] = Counter()
        self._met = False
        self._failure: str | None = None
        self._layout: Layout | None = None
        self._opened = 0.0

    async def open(self) -> Client:
        """Start the scheduler here and the workers on all nodes. The client is there before the first worker.

        Raises:
            ClusterError: this process runs in no job, or a part does not start.
        """
        self._reset()
        self._layout = layout = self._lay_out(os.environ)
        folder = self.log_directory / f"dhpo-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise ClusterError(f"log_directory: {folder} cannot be made ({error.strerror})") from error
        self._folder = folder
        self._opened = time.monotonic()
        try:
            security = await self._start_scheduler(layout)
            assert self._scheduler is not None
            self._client = await self._scheduler.connect()
            await self._launch(layout, security)
        except BaseException:
            await self.close()
            raise
        self._watch = asyncio.create_task(self._wait_for_the_end())
        logger.info("%d workers by %s; their output is in %s", layout.n_workers, layout.launcher, folder)
        return self._client

    def _lay_out(self, environ: Mapping[str, str]) -> Layout:
        arguments: dict[str, Any] = {
            "n_workers": self.n_workers, "num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "launcher": self.launcher
        }  # fmt: skip
        if "SLURM_JOB_ID" in environ:
            return slurm_layout(environ, **arguments)
        if nodefile := environ.get("PBS_NODEFILE"):
            return pbs_layout(environ, _lines(nodefile), socket.gethostname(), which=shutil.which, **arguments)
        raise ClusterError(
            "this process runs in no SLURM or PBS job: submit the script (sbatch tune.sh, qsub tune.sh), or choose "
            "another cluster"
        )

    async def _start_scheduler(self, layout: Layout) -> Security | None:
        credentials = self._folder / "tls"
        security: Security | None = None
        if self.security is True:
            security = await asyncio.to_thread(temporary_security, credentials)
        elif self.security is not False:
            security = self.security
        self._scheduler = SchedulerProcess(
            self._folder / "scheduler.log",
            security=security,
            interface=self.interface or ("lo" if layout.n_nodes == 1 else None),
            dashboard_address=self.dashboard_address,
            transient=[credentials],
            heard=self._heard,
        )
        await self._scheduler.start()
        return security

    async def _launch(self, layout: Layout, security: Security | None) -> None:
        assert self._scheduler is not None
        script = self._folder / "worker.sh"
        interface = self.interface or ("lo" if layout.n_nodes == 1 else None)
        text = worker_script(
            layout, self._scheduler.address, security, interface, self.python, os.environ, await _end(os.environ)
        )
        script.write_text(text, encoding="utf-8")
        with open(self._folder / "workers.log", "ab") as log:
            for command in layout.commands(str(script), os.environ.get("PBS_NODEFILE", "")):
                try:
                    process = await asyncio.create_subprocess_exec(
                        *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                    )
                except OSError as error:
                    raise ClusterError(f"{command[0]} cannot be run: {error.strerror}") from error
                self._launched.append(process)

    async def close(self) -> None:
        """End the scheduler and the workers."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._client is not None:
            await self._client.close()
        if self._scheduler is not None:
            await self._scheduler.close()  # the workers then end
        await self._end_launched()
        self._watch = self._client = self._scheduler = None
        self._launched = []

    async def _end_launched(self) -> None:
        """Wait for what started the workers; then ask, then insist."""
        for number in (0, signal.SIGTERM, signal.SIGKILL):
            # 0 is no signal: the scheduler's end is theirs, too.
            running = [process for process in self._launched if process.returncode is None]
            for process in running:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            if running:
                await asyncio.wait([asyncio.ensure_future(process.wait()) for process in running], timeout=_END)

    def state(self) -> str:
        """How many workers are there."""
        return "" if self._layout is None else f"{self._connected.total()} of {self._layout.n_workers} workers"

    def failed(self) -> str | None:
        """Why no worker will come any more, with the end of the workers' output."""
        late = self.startup_timeout is not None and time.monotonic() - self._opened >= self.startup_timeout
        if self._failure is None and late and not self._met:
            self._failure = self._explain(f"no worker came within {self.startup_timeout:g} s")
        return self._failure

    def _heard(self, news: dict[str, Any]) -> None:
        if "joined" in news:
            self._connected[news["joined"]] += 1
            self._met = True
        elif "left" in news:
            del self._connected[news["left"]]

    async def _wait_for_the_end(self) -> None:
        statuses = await asyncio.gather(*(process.wait() for process in self._launched))
        self._failure = self._explain(f"all workers have ended (exit status {max(statuses, key=abs)})")

    def _explain(self, what: str) -> str:
        log = self._folder / "workers.log"
        return f"{what}. The end of their output ({log}):\n{tail(log)}"


async def _end(environ: Mapping[str, str]) -> int | None:
    """The unix time at which this job ends."""
    if (known := environ.get("SLURM_JOB_END_TIME", "")).isdecimal():
        return int(known)
    if job := environ.get("SLURM_JOB_ID"):
        command = ["squeue", "--noheader", "--format=%L", f"--jobs={job}"]
    elif job := environ.get("PBS_JOBID"):
        command = ["qstat", "-f", job]
    else:
        return None
    try:
        done = await call(command, timeout=15.0)
    except ClusterError:
        return None
    left = seconds_left(done.output)
    return None if left is None else int(time.time()) + left


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").split()
    except OSError as error:
        raise ClusterError(f"$PBS_NODEFILE, {path}, cannot be read: {error.strerror}") from error
