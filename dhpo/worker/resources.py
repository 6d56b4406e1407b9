"""What a trial may use of its machine: how many threads its libraries start, and which GPUs they see."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path
from typing import Any

from dhpo.worker.job import Job

logger = logging.getLogger(__name__)

#: What numerical libraries read, when they are loaded, to learn how many threads they may start.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip

#: What the GPU runtimes read, when they are first used. HIP counts anew the devices that ROCm's own leaves it.
_CUDA, _ROCR, _HIP = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"


def thread_counts(num_cpus: float, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that has numerical libraries start ``num_cpus`` threads.

    Args:
        num_cpus: processors that one trial keeps busy.
        environ: what is set already; ``num_cpus`` of 1, the default, leaves that alone.
    """
    kept = environ if environ is not None and num_cpus <= 1 else {}
    return {name: str(max(1, int(num_cpus))) for name in THREAD_VARIABLES if name not in kept}


@dataclass(frozen=True, slots=True)
class Devices:
    """The GPUs that this process may use, as their environment variables list them."""

    lists: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return min(map(len, self.lists.values()), default=0)

    def environment(self, places: Sequence[int]) -> dict[str, str]:
        """The environment that shows only the GPUs at these places of the lists."""
        chosen = {name: ",".join(entries[i] for i in places) for name, entries in self.lists.items()}
        if _ROCR in chosen and _HIP in chosen:
            chosen[_HIP] = ",".join(map(str, range(len(places))))
        return chosen


def visible_devices(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Devices:
    """The GPUs that this process may use: those that the environment lists, else those of the machine.

    Args:
        environ: the environment.
        root: where the machine's ``/proc`` and ``/sys`` lie.
    """
    lists = {name: _entries(environ[name]) for name in (_CUDA, _ROCR, _HIP) if name in environ}
    if not lists:
        found = {_CUDA: _count_nvidia(root), _ROCR: _count_amd(root)}
        lists = {name: tuple(map(str, range(count))) for name, count in found.items() if count}
    return Devices(lists)


def _entries(text: str) -> tuple[str, ...]:
    """The devices of a list, which ends, as CUDA has it, at the first that can be none."""
    entries: list[str] = []
    for entry in map(str.strip, text.split(",")):
        if entry in ("", "-1", "NoDevFiles", "none", "void"):
            break
        entries.append(entry)
    return tuple(entries)


def _count_nvidia(root: Path) -> int:
    try:
        return len(os.listdir(root / "proc/driver/nvidia/gpus"))
    except OSError:
        return 0


def _count_amd(root: Path) -> int:
    files = (root / "sys/class/kfd/kfd/topology/nodes").glob("*/gpu_id")
    return sum(1 for file in files if _read(file) not in ("", "0"))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def shares(devices: int, num_gpus: float) -> list[tuple[int, ...]]:
    """The GPUs by places, as they go to one trial after another.

    Whole GPUs go to one trial each; of less than one GPU, as many trials share one as can, once each GPU has one.
    Where there are fewer than a trial takes, it gets all there are.
    """
    if not devices or num_gpus <= 0:
        return []
    if num_gpus < 1:
        return [(place,) for _ in range(floor(1 / num_gpus + 1e-9)) for place in range(devices)]
    size = min(devices, ceil(num_gpus))
    return [tuple(range(first, first + size)) for first in range(0, devices - size + 1, size)]


_held: dict[str, int] = {}  # by what this process asked for
_lock = threading.Lock()


def claim(scope: str, count: int, holder: int) -> int:
    """Claim one of several things that the processes of a node share out among themselves; the same when asked again.

    The claim is a name in the kernel's memory, bound by this process: it goes with the process, however that ends.

    Args:
        scope: names what is shared out.
        count: how many things there are. When all are held, they are given out for a second time, and so on.
        holder: numbers this process's claims.

    Returns:
        The number of the thing, from 0.
    """
    with _lock:
        key = f"{scope} {holder}"
        if key not in _held:
            number = 0
            while not _bind(f"{scope} {number}"):
                number += 1
            _held[key] = number
            if number >= count:
                logger.info("all %d shares of the GPUs are taken: share %d is used once more", count, number % count)
        return _held[key] % count


def _bind(name: str) -> bool:
    """Bind a name, if it is free, until this process ends; without such names everybody may have everything."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0dhpo-{os.getuid()}-{hashlib.sha256(name.encode()).hexdigest()[:32]}")
    except OSError as error:
        holder.close()
        return error.errno != errno.EADDRINUSE
    holder.detach()  # never to be closed
    return True


def filling(job: Job, offered: Mapping[str, float]) -> Job:
    """A trial that has a worker for itself gets all that the worker offers, not only what it takes at least.

    Args:
        job: says what one trial takes. Of one processor, the default, nothing is concluded.
        offered: the worker's Dask resources, ``CPU`` and ``GPU``.
    """
    num_cpus = max(job.num_cpus, offered.get("CPU", 0)) if job.num_cpus > 1 else job.num_cpus
    return replace(job, num_cpus=num_cpus, num_gpus=max(job.num_gpus, offered.get("GPU", 0)))


class Pins:
    """What one worker's trials may use, claimed for a search.

    Args:
        job: says what one trial takes.
        slots: how many trials run at once in this process.
        scope: names the cluster: its workers on one node use different GPUs.
        environ: the environment of this process.
    """

    def __init__(
        self, job: Job, slots: int, scope: str, environ: MutableMapping[str, str] = os.environ, root: Path = Path("/")
    ) -> None:
        self._environ = environ
        self._job = job
        self._before: dict[str, str | None] = {}
        self._limits = ThreadLimits()
        devices = visible_devices(environ, root) if job.num_gpus else Devices({})
        places = shares(len(devices), job.num_gpus)
        whose = [scope, *(environ.get(name, "") for name in ("SLURM_JOB_ID", "PBS_JOBID"))]
        name = f"{whose} {sorted(devices.lists.items())} {job.num_gpus}"
        self._shares = [places[claim(name, len(places), slot)] for slot in range(slots if places else 0)]
        self._devices = devices
        self._threads = thread_counts(job.num_cpus, environ)

    def slots(self) -> list[dict[str, str]]:
        """The environments of processes for one trial each."""
        return [self._threads | self._devices.environment(share) for share in self._shares] or [self._threads]

    def apply(self) -> None:
        """Have this process itself show its trials what all of them together may use. Undone by :meth:`close`."""
        together = sorted({place for share in self._shares for place in share})
        for name, value in (self._threads | self._devices.environment(together)).items():
            self._before[name] = self._environ.get(name)
            self._environ[name] = value

    def limit_threads(self) -> None:
        """Limit the libraries that are loaded already; called by the thread of a trial, as it begins."""
        count = self._environ.get("OMP_NUM_THREADS", "")
        self._limits.apply(int(count) if count.isdecimal() and count != "0" else max(1, int(self._job.num_cpus)))

    def close(self) -> None:
        """Take back what :meth:`apply` and :meth:`limit_threads` did to this process. The claims are kept for later."""
        for name, value in self._before.items():
            if value is None:
                self._environ.pop(name, None)
            else:
                self._environ[name] = value
        self._before = {}
        self._limits.close()


class ThreadLimits:
    """Limits on numerical libraries that are loaded already, for whose threads the environment comes too late."""

    def __init__(self) -> None:
        self._seen = threading.local()
        self._limiters: list[Any] = []

    def apply(self, count: int) -> None:
        """Limit them in this thread, unless nothing was imported since this was done last."""
        loaded = len(sys.modules)
        if getattr(self._seen, "loaded", None) == loaded:
            return
        from threadpoolctl import threadpool_limits  # with the libraries it loads, as slow as it is small

        self._seen.loaded = loaded
        self._limiters.append(threadpool_limits(limits=count))

    def close(self) -> None:
        """Let this process's libraries have what they had. (OpenMP's limits are of the threads that set them.)"""
        while self._limiters:
            self._limiters.pop().restore_original_limits()
