"""A job script written for a search, and handed to the batch system: what ``dhpo submit`` does."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from dhpo.budget import parse_duration
from dhpo.cli.jobscript import DIRECTIVES, Mode, System, render
from dhpo.cli.script import split_target
from dhpo.clusters._given import one_line
from dhpo.errors import DhpoError, SettingError

_UNITS = {"": 1 / 1024**2, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
_COMMANDS = {System.SLURM: "sbatch", System.PBS: "qsub"}
#: What the driver's own job takes in the mode "driver".
_DRIVER_CPUS, _DRIVER_MEMORY, _DRIVER_WALLTIME = 2, 2048, 24 * 3600.0
_WARNING = 120


@dataclass(frozen=True, slots=True)
class Submission:
    """What ``dhpo submit`` was asked for.

    Args:
        target: ``FILE.py`` or ``FILE.py:NAME``.
        system: the batch system.
        mode: where the parts of the search run.
        directory: where the search is kept; None takes ``runs/FILE``.
        options: of ``dhpo run``: the budgets.
        walltime: of the jobs in which trials run, as it was typed.
        driver_walltime: of the driver's own job, with the mode "driver".
        workers: how many trials run at once.
        cpus: processors that a trial takes; None takes the search's ``resources``, or one.
        gpus: GPUs that a trial takes; likewise.
        memory: that a trial takes, such as "4GB".
        queue: the queue or partition.
        account: whose hours are spent.
        directives: what else the jobs in which trials run are to ask for, as in ``#SBATCH`` or ``#PBS`` lines.
    """

    target: str
    system: System
    mode: Mode = Mode.ALLOCATION
    directory: Path | None = None
    options: tuple[str, ...] = ()
    walltime: str = "2h"
    driver_walltime: str | None = None
    workers: int = 8
    cpus: int | None = None
    gpus: int | None = None
    memory: str | None = None
    queue: str | None = None
    account: str | None = None
    directives: tuple[str, ...] = ()
    python: str = field(default_factory=lambda: sys.executable)

    def run_directory(self) -> Path:
        """The directory of the search, and of the job script."""
        return (self.directory or Path("runs") / split_target(self.target)[0].stem).expanduser().absolute()

    def script(self) -> str:
        """The job script.

        Raises:
            SettingError: a walltime or an amount of memory cannot be read.
        """
        path, name = split_target(self.target)
        run = self.run_directory()
        options = list(self.options)
        for option, amount in (("--num-cpus", self.cpus), ("--num-gpus", self.gpus)):
            options += [] if amount is None else [option, str(amount)]
        settings = {
            "PYTHON": shlex.quote(self.python),
            "SEARCH": shlex.quote(f"{path.absolute()}:{name}"),
            "OPTIONS": f"({shlex.join(options)})",
            "RUN_DIR": shlex.quote(str(run)),
            "SELF": shlex.quote(str(run / SCRIPT)),
        }
        slurm = self.system is System.SLURM
        directives = [*(_slurm(self) if slurm else _pbs(self)), *self._extra()]
        return render(
            self.system,
            self.mode,
            directives=directives,
            settings=settings,
            jobs=self._jobs() if self.mode is Mode.DRIVER else None,
        )

    def _extra(self) -> tuple[str, ...]:
        return () if self.mode is Mode.DRIVER else self.directives

    def _jobs(self) -> dict[str, str]:
        """What the job of each worker asks for."""
        jobs = {
            "N_WORKERS": str(self.workers),
            "WALLTIME": clock(self.walltime, "--walltime"),
            "MEMORY": f"{mebibytes(self.memory or '4GB')}MiB",
            "LOG_DIRECTORY": shlex.quote(str(self.run_directory() / "jobs")),
        }
        if self.queue is not None:
            jobs["QUEUE"] = shlex.quote(self.queue)
        if self.account is not None:
            jobs["ACCOUNT"] = shlex.quote(self.account)
        if self.directives:
            jobs["JOB_EXTRA_DIRECTIVES"] = shlex.quote(repr(list(self.directives)))
        return jobs


#: The job script's name in the directory of its search.
SCRIPT = "job.sh"


def _slurm(asked: Submission) -> list[str]:
    """What the job asks Slurm for."""
    run = asked.run_directory()
    if asked.mode is Mode.DRIVER:
        size = ["--ntasks=1", f"--cpus-per-task={_DRIVER_CPUS}", f"--mem={_DRIVER_MEMORY}M"]
    else:
        cpus = asked.cpus or 1
        size = [f"--ntasks={asked.workers}", f"--cpus-per-task={cpus}"]
        size += [] if asked.memory is None else [f"--mem-per-cpu={-(-mebibytes(asked.memory) // cpus)}M"]
        size += [f"--gpus-per-task={asked.gpus}"] if asked.gpus else []
    kept = [d for d in DIRECTIVES[asked.system, asked.mode] if d.startswith(("--no-kill", "--requeue", "--open"))]
    walltime = _job_walltime(asked)
    return [
        f"--job-name={job_name(asked)}", *size, f"--time={walltime}", f"--signal=B:TERM@{_warning(walltime)}", *kept,
        *([] if asked.queue is None else [f"--partition={asked.queue}"]),
        *([] if asked.account is None else [f"--account={asked.account}"]),
        f"--output={_quoted(str(run).replace('%', '%%'))}/{job_name(asked)}-%j.out",
    ]  # fmt: skip


def _pbs(asked: Submission) -> list[str]:
    """What the job asks PBS for."""
    if asked.mode is Mode.DRIVER:
        chunk = f"1:ncpus={_DRIVER_CPUS}:mem={_DRIVER_MEMORY}mb"
    else:
        chunk = f"{asked.workers}:ncpus={asked.cpus or 1}:mem={mebibytes(asked.memory or '4GB')}mb"
        chunk += f":ngpus={asked.gpus}" if asked.gpus else ""
    kept = [d for d in DIRECTIVES[asked.system, asked.mode] if d.split()[0] in ("-r", "-j", "-V")]
    return [
        f"-N {job_name(asked)}", f"-l select={chunk}", f"-l walltime={_job_walltime(asked)}", *kept,
        *([] if asked.queue is None else [f"-q {asked.queue}"]),
        *([] if asked.account is None else [f"-A {asked.account}"]),
        f"-o {_quoted(str(asked.run_directory()))}/",
    ]  # fmt: skip


def _quoted(path: str) -> str:
    """A path as part of an option: both batch systems take what is in double quotes as one word."""
    return f'"{path}"' if re.search(r"\s", path) else path


def job_name(asked: Submission) -> str:
    """What the queue shows: PBS takes 15 characters, letters first."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"dhpo-{asked.run_directory().name}")[:15].rstrip("-")


def _job_walltime(asked: Submission) -> str:
    if asked.mode is not Mode.DRIVER:
        return clock(asked.walltime, "--walltime")
    return clock(_DRIVER_WALLTIME if asked.driver_walltime is None else asked.driver_walltime, "--driver-walltime")


def _warning(walltime: str) -> int:
    """How many seconds before its walltime the job is told: of a short one that must not be the better part."""
    return max(1, min(_WARNING, round(parse_duration(walltime) or 0) // 10))


def clock(value: str | float, name: str) -> str:
    """A duration as both batch systems read it: "90min" is 01:30:00.

    Raises:
        SettingError: it is no duration.
    """
    seconds = round(parse_duration(value, name) or 0)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def mebibytes(text: str) -> int:
    """An amount of memory, such as "4GB", "512M" or "1.5 TiB", in MiB; as for the batch systems, 1 GB is 1024 MB.

    Raises:
        SettingError: it is no amount of memory.
    """
    match = _MEMORY.fullmatch(text.strip())
    amount = 0 if match is None else float(match[1]) * _UNITS[match[2].upper()]
    if amount < 1:
        raise SettingError(f"--memory={text!r}: give an amount such as 4GB or 512MB")
    return round(amount)


def prepare(asked: Submission) -> str:
    """The job script, once it is clear that the job would find what it needs.

    Raises:
        DhpoError: there is no such file, or a setting cannot be used.
    """
    path, _ = split_target(asked.target)
    if not path.is_file():
        raise DhpoError(f"there is no file {path}: give the Python file that makes the Search object")
    if asked.driver_walltime is not None and asked.mode is not Mode.DRIVER:
        raise SettingError("--driver-walltime is for --mode driver; elsewhere the driver runs in the same job")
    own = {"FILE": asked.target, "--log-dir": asked.directory, "--queue": asked.queue, "--account": asked.account}
    for name, value in (*own.items(), *(("--directive", directive) for directive in asked.directives)):
        one_line(name, value)
    return asked.script()


def watch(asked: Submission) -> str:
    """The command that shows a user's jobs."""
    return "squeue --me" if asked.system is System.SLURM else "qstat -u $USER"


def submit(asked: Submission, script: str) -> tuple[str, Path]:
    """Write the job script into the directory of the search, and submit it.

    Returns:
        the job's number, and the script's path.

    Raises:
        DhpoError: the batch system is not there, or refuses the job.
    """
    command = _COMMANDS[asked.system]
    if shutil.which(command) is None:
        raise DhpoError(
            f"this machine has no {command}: submit from a login node of the cluster, or look at the job script with "
            "--dry-run"
        )
    path = asked.run_directory() / SCRIPT
    try:
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(script, encoding="utf-8")
        path.chmod(0o700)
    except OSError as error:
        raise DhpoError(
            f"{path} cannot be written ({error.strerror}): choose another --log-dir, where the nodes see it, too"
        ) from error
    arguments = ["--parsable"] if asked.system is System.SLURM else []
    done = subprocess.run([command, *arguments, str(path)], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").removeprefix(
            f"{command}: "
        )
        raise DhpoError(f"{command} refused {path}: {said}")
    return done.stdout.strip().split(";")[0].split()[-1], path
