"""Workers as SLURM jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dhpo.clusters._command import call
from dhpo.clusters._controller import Phase
from dhpo.clusters._jobs import JobCluster
from dhpo.clusters._jobscript import Site, job_script
from dhpo.clusters._queue import BatchQueue, Refused
from dhpo.clusters._settings import JobSettings
from dhpo.errors import ClusterError

_LASTING = re.compile(r"(?i)invalid|not available|can ?not be satisfied|unrecognized|more processors|unable to open")
_PENDING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_RUNNING = ("RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT")


@dataclass(kw_only=True, eq=False, repr=False)
class Slurm(JobCluster):
    """Each worker is a SLURM job that runs one trial at a time. Jobs that end are replaced as long as there are trials.

    What is not given comes from the section ``jobqueue.slurm`` of dask-jobqueue's configuration (``jobqueue.yaml``, or
    environment variables such as ``DASK_JOBQUEUE__SLURM__WALLTIME``).

    Args:
        n_workers: how many jobs at a time.
        partition: the partition to submit to (``-p``); ``queue`` is another name for it.
        account: the account to charge (``-A``).
        num_cpus: processors of one job, and threads of its numerical libraries.
        memory: of one job, such as ``"16GB"``; by default the partition's.
        num_gpus: GPUs of one job, offered to trials as the resource ``GPU``.
        walltime: of one job, ``HH:MM:SS`` or ``D-HH:MM:SS``.
        interface: the network between this machine and the nodes, such as ``"ib0"``.
        job_directives: further lines for ``#SBATCH``, such as ``"--constraint=haswell"``.
        prologue: lines of shell before the worker starts, such as ``"module load cuda"``.
        env: environment variables of the jobs.
        python: the Python of the workers; by default this one.
        log_directory: for the jobs' scripts, output and credentials; the nodes must see it. ``dhpo-jobs`` by default.
        startup_timeout: seconds within which the first worker must come; None waits for ever.
        security: True for TLS with credentials made for this run, False for none, or a ``Security`` of files.
        dashboard_address: where the Dask dashboard listens; loopback only unless you say otherwise.
        poll_interval: seconds between two looks at the queue (``squeue``) while nothing happens.

    Raises:
        SettingError: an argument is not usable.
    """

    section = "slurm"

    partition: str | None = None

    def _batch_queue(self) -> BatchQueue:
        return SlurmQueue()

    def _job_settings(self) -> JobSettings:
        settings = super()._job_settings()
        return replace(settings, queue=self.partition) if self.partition else settings


class SlurmQueue:
    """``sbatch``, ``squeue`` and ``scancel``."""

    command = "sbatch"

    def script(self, settings: JobSettings, site: Site, number: int) -> str:
        """The script of one worker's job."""
        directives = [f"-o {_quoted(site.log(number))}", "--open-mode=append"]
        if settings.num_gpus:
            directives.append(f"--gres=gpu:{settings.num_gpus}")
        special: dict[str, Any] = {"job_cpu": settings.num_cpus}
        if settings.memory:
            special["job_mem"] = _memory(settings.memory)
        return job_script(settings, site, number, directives, **special)

    async def submit(self, script: Path) -> str:
        """``sbatch``; the job's number."""
        done = await call(["sbatch", "--parsable", str(script)])
        if done.status:
            raise Refused(done.said(), lasting=bool(_LASTING.search(done.errors)))
        match = re.search(r"^(?:Submitted batch job )?(\d+)(?:;\S+)?\s*$", done.output, re.MULTILINE)
        if match is None:
            raise Refused(f"no job number in its answer {done.output!r}")
        return match[1]

    async def poll(self, site: Site, ids: Sequence[str]) -> Mapping[str, tuple[Phase, str]]:
        """``squeue`` for the jobs of this search, by their name."""
        done = await call(["squeue", "--me", "--noheader", f"--name={site.name}", "--states=all", "--format=%i|%T|%r"])
        if done.status:
            raise ClusterError(f"squeue: {done.said()}")
        return dict(states_of(done.output))

    async def cancel(self, ids: Sequence[str], *, pending: bool) -> None:
        """``scancel``; of pending jobs only, it spares those that began a moment ago."""
        done = await call(["scancel", *(["--state=PENDING"] if pending else []), *ids])
        if done.status and "Invalid job id" not in done.errors:
            raise ClusterError(f"scancel: {done.said()}")


def states_of(text: str) -> list[tuple[str, tuple[Phase, str]]]:
    """The jobs in ``squeue``'s answer that have not ended. One that is completing has: its worker is gone."""
    states = []
    for line in text.splitlines():
        id, _, rest = line.strip().partition("|")
        state, _, reason = rest.partition("|")
        if state in _PENDING:
            states.append((id, (Phase.PENDING, "" if reason == "None" else reason)))
        elif state in _RUNNING:
            states.append((id, (Phase.RUNNING, "")))
    return states


def _quoted(path: Path) -> str:
    text = str(path).replace("%", "%%")
    return f'"{text}"' if re.search(r"\s", text) else text


def _memory(text: str) -> str:
    from dask.utils import parse_bytes
    from dask_jobqueue.slurm import slurm_format_bytes_ceil

    return str(slurm_format_bytes_ceil(parse_bytes(text)))
