"""Commands of a batch system, run beside the event loop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from dhpo.errors import ClusterError

#: Seconds after which a command is given up: one that cannot reach its server answers within 10 s or so.
TIMEOUT = 60.0
#: What a batch system tells its own commands, as opposed to the job that a driver may run in.
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "PBS_CONF_FILE", "PBS_EXEC", "PBS_HOME", "PBS_SERVER", "PBS_DEFAULT")
#: What belongs to the driver's own job and would mislead the jobs that it submits.
_OF_A_JOB = ("SLURM_", "PBS_", "PMI_", "PMIX_", "DHPO_WORKER_END")
_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    output: str
    errors: str

    def said(self) -> str:
        """What it had to say of itself."""
        return (self.errors.strip() or self.output.strip() or f"exit status {self.status}")[-2000:]


async def call(command: Sequence[str], *, input: str | None = None, timeout: float = TIMEOUT) -> Done:
    """Run a command to its end, in the driver's directory, with the environment of :func:`outside`.

    Raises:
        ClusterError: it cannot be started, or does not end in time; it is killed then.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if input is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=outside(os.environ),
            start_new_session=True,  # Ctrl-C in a terminal is for the driver
        )
    except OSError as error:
        raise ClusterError(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        data = None if input is None else input.encode()
        output, errors = await asyncio.wait_for(process.communicate(data), timeout)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if isinstance(error, TimeoutError):
            raise ClusterError(f"{command[0]} did not answer within {timeout:g} s") from error
        raise
    return Done(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


def outside(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without what a batch job, in which the driver may run, put into it."""
    inside = "SLURM_JOB_ID" in environ or "PBS_JOBID" in environ
    dropped = _DEVICES if inside else ()
    return {
        name: value
        for name, value in environ.items()
        if (not name.startswith(_OF_A_JOB) or name in _KEPT) and name not in dropped
    }
