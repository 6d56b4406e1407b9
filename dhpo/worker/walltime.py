"""When this process's batch job ends."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dhpo.walltime import Horizon

#: Unix time (seconds) at which the job ends.
_ENDS = ("DHPO_WORKER_END", "SLURM_JOB_END_TIME")
#: Seconds from its beginning.
_LENGTHS = ("PBS_WALLTIME",)

_CLOCK = re.compile(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)")
_PATIENCE = 30.0  # seconds for an answer


def worker_end(environ: Mapping[str, str], lifetime: float | None, began: float) -> float | None:
    """The unix time (seconds) at which a process has to have ended, by its environment; None where it need not.

    The earliest of ``DHPO_WORKER_END`` and ``SLURM_JOB_END_TIME`` (unix times), and ``PBS_WALLTIME`` and ``lifetime``
    (seconds from its beginning). What was over when it began was meant for another process, and is passed over.

    Args:
        environ: the environment.
        lifetime: of a Dask worker (``--lifetime``), seconds.
        began: when the process began, unix time.
    """
    ends = [_number(environ.get(name)) for name in _ENDS]
    lengths = [_number(environ.get(name)) for name in _LENGTHS] + [lifetime]
    ends += [None if length is None else began + length for length in lengths]
    return min((end for end in ends if end is not None and end > began), default=None)


def own_horizon(lifetime: float | None = None) -> Horizon | None:
    """The end of this process, if it has a known one."""
    began = process_began()
    end = worker_end(os.environ, lifetime, began)
    return None if end is None else Horizon(end, end - began)


def told_by_slurm(environ: Mapping[str, str]) -> float | None:
    """The unix time (seconds) at which this process's job ends, as ``squeue`` knows it; None where it does not.

    Slurm before 23.02 sets no ``SLURM_JOB_END_TIME``. This takes long when its controller is down.
    """
    job = environ.get("SLURM_JOB_ID")
    if not job:
        return None
    try:
        command = ["squeue", "--noheader", "--jobs", job, "--format", "%L"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    left = clock_seconds(answer.strip())
    return None if left is None else time.time() + left


def clock_seconds(text: str) -> float | None:
    """Read ``[days-][[hours:]minutes:]seconds``, as Slurm writes durations; None where it is none (``UNLIMITED``)."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def process_began() -> float:
    """The unix time at which this process began; now, where the system does not tell."""
    now = time.time()
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return min(now, now - uptime + int(fields[19]) / os.sysconf("SC_CLK_TCK"))
    return now


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None
