"""What the jobs of workers are like: a user's arguments, completed from dask-jobqueue's configuration."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
from distributed import Security

from dhpo.clusters import _given
from dhpo.clusters._given import one_line
from dhpo.errors import SettingError

_importing = threading.Lock()


@dataclass(frozen=True, slots=True)
class JobSettings:
    """One worker's job, and how many of them. ``None`` was left to the batch system."""

    section: str
    n_workers: int
    queue: str | None
    account: str | None
    num_cpus: int
    memory: str | None
    num_gpus: int
    walltime: str | None
    is_walltime_assumed: bool  # it is dask-jobqueue's own, which nobody has chosen
    interface: str | None
    job_directives: tuple[str, ...]
    prologue: tuple[str, ...]
    env: Mapping[str, str]
    python: str
    log_directory: Path

    @property
    def seconds(self) -> int | None:
        """The walltime in seconds; None without a limit."""
        return None if self.walltime is None else walltime_seconds(self.walltime)

    def __str__(self) -> str:
        each = [f"{self.num_cpus} CPU" + "s" * (self.num_cpus > 1)]
        each += [f"{self.num_gpus} GPU" + "s" * (self.num_gpus > 1)] if self.num_gpus else []
        each += [self.memory] if self.memory else []
        each += [f"walltime {self.walltime}"] if self.walltime else []
        each += [f"queue {self.queue}"] if self.queue else []
        return f"{self.n_workers} × ({', '.join(each)})"


def job_settings(
    section: str,
    *,
    n_workers: int | None,
    queue: str | None,
    account: str | None,
    num_cpus: int | None,
    memory: str | None,
    num_gpus: int,
    walltime: str | None,
    interface: str | None,
    job_directives: Sequence[str],
    prologue: Sequence[str],
    env: Mapping[str, str] | None,
    python: str | None,
    log_directory: str | os.PathLike[str] | None,
) -> JobSettings:
    """Check a user's arguments; complete them from the section of ``jobqueue.yaml`` and its environment variables.

    Raises:
        SettingError: one of them is not usable, or there is no ``n_workers``.
    """
    setting = partial(configured, section)
    n_workers = n_workers if n_workers is not None else setting("n-workers")
    if n_workers is None:
        raise SettingError(
            f"n_workers: say how many, or set jobqueue.{section}.n-workers in jobqueue.yaml "
            f"(or DASK_JOBQUEUE__{section.upper()}__N_WORKERS)"
        )
    num_cpus = num_cpus or setting("job-cpu") or setting("cores") or 1
    _check_whole(n_workers=n_workers, num_cpus=num_cpus)
    if num_gpus:
        _check_whole(num_gpus=num_gpus)
    is_assumed = walltime is None and _is_default(section, "walltime")
    walltime = one_line("walltime", walltime or setting("walltime"))
    if walltime is not None:
        walltime_seconds(walltime)
    for name, value in (env or {}).items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or not isinstance(value, str):
            raise SettingError(f"env={{{name!r}: {value!r}}}: give names of environment variables, and strings")
    return JobSettings(
        section=section,
        n_workers=n_workers,
        queue=one_line("queue", queue or setting("queue")),
        account=one_line("account", account or setting("account")),
        num_cpus=num_cpus,
        memory=_given.memory(memory or setting("memory")),
        num_gpus=num_gpus,
        walltime=walltime,
        is_walltime_assumed=is_assumed,
        interface=one_line("interface", interface or setting("interface")),
        job_directives=(
            *_given.directives("job-extra-directives", setting("job-extra-directives")),
            *_given.directives("job_directives", job_directives),
        ),
        prologue=(
            *_given.lines("job-script-prologue", setting("job-script-prologue")),
            *_given.lines("prologue", prologue),
        ),
        env=dict(env or {}),
        python=one_line("python", python or setting("python")) or sys.executable,
        log_directory=Path(
            one_line("log_directory", log_directory or setting("log-directory")) or "dhpo-jobs"
        ).absolute(),
    )


def configured(section: str, key: str) -> Any:
    """What dask-jobqueue's configuration says; None where it does not."""
    load_jobqueue()
    return dask.config.get(f"jobqueue.{section}.{key}", None)


def _is_default(section: str, key: str) -> bool:
    """Whether this is dask-jobqueue's own value, which nobody has chosen."""
    name = f"jobqueue.{section}.{key}"
    value = configured(section, key)
    defaults = [dask.config.get(name, None, config=config) for config in dask.config.defaults]
    return value is not None and value in defaults and dask.config.get(name, None, config=dask.config.collect()) is None


def _check_whole(**values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SettingError(f"{name}={value!r}: give a positive whole number")


def walltime_seconds(text: str) -> int | None:
    """The seconds of a walltime as SLURM and PBS write it; None where it stands for no limit.

    ``D-HH``, ``D-HH:MM``, ``D-HH:MM:SS`` and ``HH:MM:SS`` are the same to both. ``MM:SS`` is, too. A plain number is
    refused: SLURM takes it for minutes, PBS for seconds.

    Raises:
        SettingError: it is none of these.
    """
    if text.lower() in ("0", "infinite", "unlimited"):
        return None
    match = re.fullmatch(r"(?:(\d+)-(\d+)(?::(\d+))?(?::(\d+))?|(?:(\d+):)?(\d+):(\d+))", text)
    if match is None:
        raise SettingError(f"walltime={text!r}: give HH:MM:SS, or D-HH:MM:SS")
    days, day_hours, day_minutes, day_seconds, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + day_hours + hours) * 60 + day_minutes + minutes) * 60 + day_seconds + seconds
    return total or None


def check_security(security: bool | Security) -> None:
    """Refuse what is neither a choice nor credentials.

    Raises:
        SettingError: as said.
    """
    if not isinstance(security, bool | Security):
        raise SettingError(f"security={security!r}: give True, False, or a distributed.Security of files")


def load_jobqueue() -> Any:
    """dask-jobqueue, without what importing it does to the process: it has Ctrl-C end the interpreter at once.

    It cannot be imported in another than the main thread either, for the same reason.
    """
    with _importing:
        if "dask_jobqueue" in sys.modules:
            return sys.modules["dask_jobqueue"]
        handle, signal.signal = signal.signal, lambda number, handler: signal.getsignal(number)  # type: ignore[assignment]
        try:
            import dask_jobqueue
        finally:
            signal.signal = handle
        return dask_jobqueue
