"""Workers as PBS jobs: OpenPBS, PBS Professional, Torque."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask

from dhpo.clusters._command import call
from dhpo.clusters._controller import Phase
from dhpo.clusters._jobs import JobCluster
from dhpo.clusters._jobscript import Site, job_script
from dhpo.clusters._queue import BatchQueue, Refused
from dhpo.clusters._settings import JobSettings
from dhpo.errors import ClusterError

_LASTING = re.compile(r"(?i)unknown queue|illegal|invalid|unknown resource|unauthorized|exceeds|violates queue")
#: Of ``qstat``: all is well; a job has finished; a job is not known (any more).
_ANSWERS = (0, 35, 153)
_ENDED = frozenset("CEFX")


@dataclass(kw_only=True, eq=False, repr=False)
class PBS(JobCluster):
    """Each worker is a PBS job that runs one trial at a time. Jobs that end are replaced as long as there are trials.

    What is not given comes from the section ``jobqueue.pbs`` of dask-jobqueue's configuration (``jobqueue.yaml``, or
    environment variables such as ``DASK_JOBQUEUE__PBS__WALLTIME``). The jobs get this process's environment (``-V``),
    and start in its directory.

    Args:
        n_workers: how many jobs at a time.
        queue: the queue to submit to (``-q``).
        account: the account to charge (``-A``).
        num_cpus: processors of one job, and threads of its numerical libraries.
        memory: of one job, such as ``"16GB"``; by default the queue's.
        num_gpus: GPUs of one job, offered to trials as the resource ``GPU``.
        walltime: of one job, ``HH:MM:SS``.
        resource_spec: in the place of ``select=1:ncpus=…:ngpus=…:mem=…``, where a centre wants it otherwise.
        interface: the network between this machine and the nodes, such as ``"ib0"``.
        job_directives: further lines for ``#PBS``, such as ``"-W group_list=chem"``.
        prologue: lines of shell before the worker starts, such as ``"module load cuda"``.
        env: environment variables of the jobs.
        python: the Python of the workers; by default this one.
        log_directory: for the jobs' scripts, output and credentials; the nodes must see it. ``dhpo-jobs`` by default.
        startup_timeout: seconds within which the first worker must come; None waits for ever.
        security: True for TLS with credentials made for this run, False for none, or a ``Security`` of files.
        dashboard_address: where the Dask dashboard listens; loopback only unless you say otherwise.
        poll_interval: seconds between two looks at the queue (``qstat``) while nothing happens.

    Raises:
        SettingError: an argument is not usable.
    """

    section = "pbs"

    resource_spec: str | None = None

    def _batch_queue(self) -> BatchQueue:
        return PbsQueue(self.resource_spec)

    def _job_settings(self) -> JobSettings:
        settings = super()._job_settings()
        if settings.seconds is None:
            return settings
        minutes, seconds = divmod(settings.seconds, 60)  # PBS knows no days
        return replace(settings, walltime=f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}")


class PbsQueue:
    """``qsub``, ``qstat`` and ``qdel``.

    Args:
        resource_spec: in the place of ``select=…``.
    """

    command = "qsub"

    def __init__(self, resource_spec: str | None = None) -> None:
        self.resource_spec = resource_spec

    def script(self, settings: JobSettings, site: Site, number: int) -> str:
        """The script of one worker's job."""
        log = site.log(number)
        # PBS itself brings a job's output only at its end. So the job writes its own, and what PBS brings is what was
        # said before that: little, and worth to have.
        directives = ["-V", "-j oe", f"-o {_quoted(log.with_suffix('.pbs'))}"]
        spec = self.resource_spec or dask.config.get("jobqueue.pbs.resource-spec", None) or _select(settings)
        script = job_script(settings, site, number, directives, resource_spec=spec)
        header, mark, body = script.partition("if [[ ! -e")
        return f"{header}exec >>{shlex.quote(str(log))} 2>&1\n{mark}{body}"

    async def submit(self, script: Path) -> str:
        """``qsub``; the job's identity, such as ``12.server``."""
        # As options as well: the qsub of Torque's emulations overlooks what the script says of its output.
        done = await call(["qsub", "-j", "oe", "-o", str(script.with_suffix(".pbs")), str(script)])
        if done.status:
            raise Refused(done.said(), lasting=bool(_LASTING.search(done.errors + done.output)))
        match = re.search(r"^(\d+(?:\.\S+)?)\s*$", done.output, re.MULTILINE)
        if match is None:
            raise Refused(f"no job number in its answer {done.output!r}")
        return match[1]

    async def poll(self, site: Site, ids: Sequence[str]) -> Mapping[str, tuple[Phase, str]]:
        """``qstat -f`` for the jobs of this search."""
        done = await call(["qstat", "-f", *ids])
        if done.status not in _ANSWERS:
            raise ClusterError(f"qstat: {done.said()}")
        found = states_of(done.output)
        return {id: found[key] for id in ids if (key := id.partition(".")[0]) in found}

    async def cancel(self, ids: Sequence[str], *, pending: bool) -> None:
        """``qdel``."""
        del pending  # it makes no difference
        done = await call(["qdel", *ids])
        if done.status and not re.search(r"(?i)unknown job|finished|invalid job id|request invalid", done.said()):
            raise ClusterError(f"qdel: {done.said()}")


def states_of(text: str) -> dict[str, tuple[Phase, str]]:
    """The jobs in the answer of ``qstat -f`` that have not ended, by the number of their identity."""
    states = {}
    unfolded = re.sub(r"\n\t(?!\w[\w.]* = )", "", text)  # long values go on in the next line
    for block in re.split(r"^Job Id:", unfolded, flags=re.MULTILINE)[1:]:
        id = block.split(maxsplit=1)[0].partition(".")[0]
        fields: dict[str, Any] = dict(re.findall(r"^\s+(\w+) = (.*)$", block, flags=re.MULTILINE))
        state = fields.get("job_state", "U").strip()
        if state in _ENDED:
            continue
        phase = Phase.RUNNING if state in "RSTU" else Phase.PENDING
        states[id] = (phase, fields.get("comment", "").strip() if phase is Phase.PENDING else "")
    return states


def _quoted(path: Path) -> str:
    return f'"{path}"' if re.search(r"\s", str(path)) else str(path)


def _select(settings: JobSettings) -> str:
    from dask.utils import parse_bytes
    from dask_jobqueue.pbs import pbs_format_bytes_ceil

    spec = f"select=1:ncpus={settings.num_cpus}"
    if settings.num_gpus:
        spec += f":ngpus={settings.num_gpus}"
    if settings.memory:
        spec += f":mem={pbs_format_bytes_ceil(parse_bytes(settings.memory))}"
    return spec
