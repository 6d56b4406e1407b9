"""What the clusters of batch jobs are given alike, whichever the batch system."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from distributed import Security

from dhpo.clusters._batch import BatchCluster
from dhpo.clusters._jobscript import Site
from dhpo.clusters._pool import Pool
from dhpo.clusters._queue import BatchQueue
from dhpo.clusters._settings import JobSettings, job_settings


@dataclass(kw_only=True, eq=False, repr=False)
class JobCluster(BatchCluster):
    """Workers as jobs, as a user asks for them: the fields are the arguments of each batch system's class.

    They keep what was given; ``settings`` is that, checked and completed.
    """

    #: The batch system's section in dask-jobqueue's configuration.
    section: ClassVar[str]

    n_workers: int | None = field(default=None, kw_only=False)
    queue: str | None = None
    account: str | None = None
    num_cpus: int | None = None
    memory: str | None = None
    num_gpus: int = 0
    walltime: str | None = None
    interface: str | None = None
    job_directives: Sequence[str] = ()
    prologue: Sequence[str] = ()
    env: Mapping[str, str] | None = None
    python: str | None = None
    log_directory: str | os.PathLike[str] | None = None
    startup_timeout: float | None = None
    security: bool | Security = True
    dashboard_address: str | None = "127.0.0.1:8787"
    poll_interval: float = 10.0

    def __post_init__(self) -> None:
        self.settings = self._job_settings()
        super().__init__(
            [self.pool()],
            log_directory=self.settings.log_directory,
            interface=self.settings.interface,
            security=self.security,
            dashboard_address=self.dashboard_address,
        )

    def pool(self, name: str = "", env: Mapping[str, str] | None = None) -> Pool:
        """Such jobs as one pool, perhaps of several.

        Args:
            name: of the pool, for people; none, where it is the only one.
            env: environment variables of the jobs, beside those that were given.
        """
        return Pool(
            name,
            self._batch_queue(),
            replace(self.settings, env={**(env or {}), **self.settings.env}),
            startup_timeout=self.startup_timeout,
            poll_interval=self.poll_interval,
        )

    def job_script(self) -> str:
        """A job's script as it would be submitted, with example values for what is known only then."""
        folder = self.settings.log_directory / "dhpo-0"
        return self._batch_queue().script(
            self.settings, Site("dhpo-0", folder, Path.cwd(), "tcp://scheduler:8786", None), 1
        )

    @abstractmethod
    def _batch_queue(self) -> BatchQueue:
        """The batch system's commands."""

    def _job_settings(self) -> JobSettings:
        return job_settings(
            self.section,
            n_workers=self.n_workers,
            queue=self.queue,
            account=self.account,
            num_cpus=self.num_cpus,
            memory=self.memory,
            num_gpus=self.num_gpus,
            walltime=self.walltime,
            interface=self.interface,
            job_directives=self.job_directives,
            prologue=self.prologue,
            env=self.env,
            python=self.python,
            log_directory=self.log_directory,
        )
