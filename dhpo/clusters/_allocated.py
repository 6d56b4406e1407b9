"""How workers spread over the nodes of the job that the driver runs in."""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from distributed import Security

from dhpo.clusters._jobscript import KEEP_WORKER, worker_options
from dhpo.clusters._settings import walltime_seconds
from dhpo.errors import ClusterError, SettingError
from dhpo.worker.resources import thread_counts

#: What differs between nodes, or belongs to the shell that the driver was started from.
_OWN = re.compile(r"PBS_|SLURM_|PMIX?_|OMPI_|SSH_|TMPDIR$|HOST|PWD$|OLDPWD$|SHLVL$|_$|BASH_FUNC|DHPO_WORKER_END$")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the workers of a job go.

    Attributes:
        launcher: what starts them.
        tasks: for each host, how many copies of the worker script run there; ``srun`` gets the sum.
        copies: workers for each of these.
        num_cpus: processors of one worker.
        num_gpus: GPUs of one worker.
        n_nodes: nodes of the job.
    """

    launcher: str
    tasks: Mapping[str, int]
    copies: int
    num_cpus: int
    num_gpus: int
    n_nodes: int

    @property
    def n_workers(self) -> int:
        """All of them."""
        return sum(self.tasks.values()) * self.copies

    def commands(self, script: str, nodefile: str) -> list[list[str]]:
        """What to run to have the worker script run everywhere."""
        n, run = str(sum(self.tasks.values())), ["/bin/bash", script]
        if self.launcher == "srun":
            # The loss of a worker, or of a node, is no reason to end the others.
            settings = ["--no-kill", "--wait=0", "--kill-on-bad-exit=0", "--overlap"]
            return [["srun", f"--ntasks={n}", f"--cpus-per-task={self.num_cpus}", *settings, *run]]
        if self.launcher == "pbsdsh":
            return [["pbsdsh", "--", *run]]
        if self.launcher == "mpirun":
            return [["mpirun", "-machinefile", nodefile, "-n", n, *run]]
        if self.launcher == "ssh":
            login = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
            return [[*login, host, shlex.join(run)] for host, times in self.tasks.items() for _ in range(times)]
        return [run for _ in range(sum(self.tasks.values()))]


def slurm_layout(
    environ: Mapping[str, str],
    *,
    n_workers: int | None,
    num_cpus: int | None,
    num_gpus: int | None,
    launcher: str | None,
) -> Layout:
    """The layout of a SLURM job: a worker for each of its tasks, unless told otherwise.

    Raises:
        ClusterError: the job has not the processors for that.
    """
    n_nodes = int(environ.get("SLURM_JOB_NUM_NODES") or environ.get("SLURM_NNODES") or 1)
    per_node = _expand(environ.get("SLURM_JOB_CPUS_PER_NODE", "")) or [1] * n_nodes
    tasks = int(environ.get("SLURM_NTASKS") or n_nodes)
    asked = environ.get("SLURM_CPUS_PER_TASK")
    if num_cpus is None:
        num_cpus = int(asked) if asked else (min(per_node) if tasks == n_nodes and n_workers is None else 1)
        workers = n_workers or tasks
    else:
        workers = n_workers or sum(cpus // num_cpus for cpus in per_node)
    if workers * num_cpus > sum(per_node) or not workers:
        raise ClusterError(
            f"the job has {sum(per_node)} processors on {n_nodes} nodes: too few for {max(workers, 1)} workers of "
            f"{num_cpus} each"
        )
    if num_gpus is None:
        per_task = environ.get("SLURM_GPUS_PER_TASK", "").rpartition(":")[2]
        on_node = environ.get("SLURM_GPUS_ON_NODE", "") if workers == n_nodes else ""
        num_gpus = int(per_task or on_node or 0)
    return Layout(launcher or "srun", {"": workers}, 1, num_cpus, num_gpus, n_nodes)


def _expand(text: str) -> list[int]:
    """``4(x2),2`` as ``[4, 4, 2]``."""
    numbers: list[int] = []
    for count, _, times in re.findall(r"(\d+)(\(x(\d+)\))?", text):
        numbers += [int(count)] * int(times or 1)
    return numbers


def pbs_layout(
    environ: Mapping[str, str],
    hosts: Sequence[str],
    here: str,
    *,
    which: Callable[[str], str | None],
    n_workers: int | None,
    num_cpus: int | None,
    num_gpus: int | None,
    launcher: str | None,
) -> Layout:
    """The layout of a PBS job: a worker for each line of its node file, unless told otherwise.

    Args:
        environ: the job's environment.
        hosts: the lines of the node file.
        here: this machine's name.
        which: finds programs.
        n_workers: how many workers; a multiple of the lines.
        num_cpus: processors of one worker.
        num_gpus: GPUs of one worker.
        launcher: what starts them.

    Raises:
        ClusterError: the node file is empty, or nothing is there to reach the nodes by.
        SettingError: ``n_workers`` is no multiple of the lines.
    """
    if not hosts:
        raise ClusterError("$PBS_NODEFILE is empty")
    tasks = Counter(hosts)
    of_line = int(environ.get("NCPUS") or 1)
    copies = max(1, of_line // num_cpus) if num_cpus else 1
    if n_workers is not None:
        copies, rest = divmod(n_workers, len(hosts))
        if rest or not copies:
            raise SettingError(f"n_workers={n_workers}: $PBS_NODEFILE has {len(hosts)} lines; give a multiple of that")
    if launcher is None:
        alone = list(tasks) in ([here], [here.partition(".")[0]])
        choices = ["local"] if alone else [name for name in ("pbsdsh", "mpirun", "ssh") if which(name)]
        if not choices:
            raise ClusterError("neither pbsdsh nor mpirun nor ssh is there to start workers on the job's nodes")
        launcher = choices[0]
    if num_gpus is None:
        seen = [name for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        num_gpus = len(seen) if copies == 1 and len(tasks) == len(hosts) else 0
    return Layout(launcher, tasks, copies, num_cpus or max(1, of_line // copies), num_gpus, len(tasks))


def worker_script(
    layout: Layout,
    address: str,
    security: Security | None,
    interface: str | None,
    python: str | None,
    environ: Mapping[str, str],
    end: int | None,
) -> str:
    """The script that runs on the nodes, once for each task."""
    worker = [shlex.quote(python or sys.executable), "-m", "distributed.cli.dask_worker", shlex.quote(address)]
    worker += [
        "--no-nanny",
        "--nthreads",
        "1",
        "--memory-limit",
        "0",
        "--death-timeout",
        "60",
        *worker_options(layout.num_cpus, layout.num_gpus, security),
    ]
    if interface:
        worker += ["--interface", shlex.quote(interface)]
    lines = ["#!/bin/bash"]
    if layout.launcher != "srun":  # which is alone to pass on the environment
        lines += [
            f"export {name}={shlex.quote(value)}"
            for name, value in sorted(environ.items())
            if re.fullmatch(r"[A-Za-z_]\w*", name) and not _OWN.match(name)
        ]
    lines += [f"cd {shlex.quote(environ['PWD'])} || exit 1"] if environ.get("PWD") else []
    lines += [f"export {name}={count}" for name, count in thread_counts(layout.num_cpus).items()]
    lines += [f"export DHPO_WORKER_END={end}"] if end is not None else []
    lines += [KEEP_WORKER, "task=${SLURM_PROCID:-${PBS_TASKNUM:-0}}"]
    if layout.copies == 1:
        return "\n".join([*lines, f'keep_worker "$task" {" ".join(worker)}', ""])
    lines += [
        f"for ((i = 0; i < {layout.copies}; i++)); do",
        f'    (keep_worker "$task.$i" {" ".join(worker)}) &',
        "done",
        "trap 'kill -TERM $(jobs -p)' TERM INT",
        "while [[ -n $(jobs -rp) ]]; do wait; done",
        "",
    ]
    return "\n".join(lines)


def seconds_left(text: str) -> int | None:
    """The seconds that a job has left, from the answer of ``squeue --format=%L`` or ``qstat -f``; None if unlimited."""
    total = re.search(r"Resource_List\.walltime = (\S+)", text)
    used = re.search(r"resources_used\.walltime = (\S+)", text)
    try:
        if total is None:
            return walltime_seconds(text.strip())
        limit = walltime_seconds(total[1])
        return None if limit is None else max(0, limit - ((walltime_seconds(used[1]) or 0) if used else 0))
    except SettingError:
        return None
