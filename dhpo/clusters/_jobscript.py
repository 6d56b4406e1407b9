"""The script of a worker's job: dask-jobqueue's template, with a shell function around its worker."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from distributed import Security

from dhpo.clusters import _given
from dhpo.clusters._settings import JobSettings, configured, load_jobqueue
from dhpo.worker.resources import thread_counts

#: Runs a worker in a directory of its own, on the node's own disk, which it removes. A worker that was killed by a
#: signal (a trial crashed it, memory ran out) starts again, instead of the whole job waiting in the queue again. What
#: was killed together with its script could not clean up: its directory, of which nobody holds the lock, goes with the
#: next job of the kind on that node.
KEEP_WORKER = """\
keep_worker() {
    local name=$1 try=0 quick=0 ending='' began status
    shift
    scratch=$(mktemp -d "${DHPO_SCRATCH:-${TMPDIR:-/tmp}}/dhpo-XXXXXXXX" || mktemp -d /tmp/dhpo-XXXXXXXX) || exit 1
    trap 'rm -rf "$scratch"' EXIT
    if command -v flock >/dev/null; then
        exec {held}>"$scratch/lock" && flock -n "$held"
        find "${scratch%/*}" -maxdepth 1 -name 'dhpo-????????' -user "$(id -u)" -mmin +10 -exec \\
            sh -c '[ ! -e "$1/lock" ] || flock -n "$1/lock" rm -rf "$1"' - {} \\; 2>/dev/null
    fi
    trap 'ending=1; kill -TERM "$worker" 2>/dev/null' TERM INT
    while :; do
        try=$((try + 1)) began=$SECONDS
        "$@" --name "$name-$(hostname -s)-$$-$try" --local-directory "$scratch" &
        worker=$!
        while :; do
            wait "$worker"
            status=$?
            kill -0 "$worker" 2>/dev/null || break
        done
        [[ -n $ending || $status -lt 128 ]] && exit "$status"
        if ((SECONDS - began >= 20)); then quick=0; elif ((++quick >= 3)); then exit "$status"; fi
        echo "dhpo: the worker was killed by signal $((status - 128)); starting it again"
    done
}"""


@dataclass(frozen=True, slots=True)
class Site:
    """One opening of a cluster: what its jobs have in common.

    Attributes:
        name: the jobs' name in the queue.
        folder: for scripts and logs; the nodes see it.
        directory: where jobs start: the driver's own.
        address: the Dask scheduler's.
        security: the credentials, as files.
    """

    name: str
    folder: Path
    directory: Path
    address: str
    security: Security | None

    @property
    def alive(self) -> Path:
        """A file that is there as long as the search is."""
        return self.folder / "alive"

    @property
    def credentials(self) -> Path:
        """The folder of the credentials that dhpo makes."""
        return self.folder / "tls"

    def log(self, number: int) -> Path:
        """The output of a job."""
        return self.folder / f"{number}.log"


def job_script(settings: JobSettings, site: Site, number: int, directives: Sequence[str], **special: Any) -> str:
    """The script of one job.

    Args:
        settings: the user's.
        site: the cluster's.
        number: the job's, by which its worker is known.
        directives: of the batch system, as dask-jobqueue does not write them.
        special: arguments of dask-jobqueue's class for this batch system alone.
    """
    jobqueue = load_jobqueue()
    job_class = {"slurm": jobqueue.slurm.SLURMJob, "pbs": jobqueue.pbs.PBSJob}[settings.section]
    own = [f"#{mark} {option} " for mark in ("SBATCH", "PBS") for option in ("-e", "-o")]
    skip = _given.lines("job-directives-skip", configured(settings.section, "job-directives-skip"))
    # One trial at a time, whatever the processors, and memory is left to the batch system: Dask would guess.
    one_slot = type(job_class.__name__, (job_class,), {"worker_process_threads": 1, "worker_process_memory": 0})
    job = one_slot(
        scheduler=shlex.quote(site.address),
        name=number,
        job_name=site.name,
        queue=settings.queue,
        account=settings.account,
        walltime=settings.walltime,
        cores=settings.num_cpus,
        memory=settings.memory or "1GB",  # it insists; the directive is then left out again
        processes=1,
        nanny=False,
        interface=settings.interface,
        local_directory="/tmp",  # keep_worker gives a better one
        log_directory=".",  # skipped, too: where output goes stands among the directives
        python=f"keep_worker {number} {shlex.quote(settings.python)}",
        job_script_prologue=_prologue(settings, site),
        worker_extra_args=_worker_arguments(settings, site.security),
        job_extra_directives=[*directives, *settings.job_directives],
        job_directives_skip=[*skip, *own, *(() if settings.memory else ("--mem=",))],
        **special,
    )
    return str(job.job_script())


def _prologue(settings: JobSettings, site: Site) -> list[str]:
    alive = shlex.quote(str(site.alive))
    scratch = dask.config.get(f"jobqueue.{settings.section}.local-directory", None)
    return [
        f"if [[ ! -e {alive} ]]; then",
        f'    echo "dhpo: "{alive}" is not there: the search has ended, or $(hostname) does not see that directory"',
        "    exit 1",
        "fi",
        f"cd {shlex.quote(str(site.directory))} || exit 1",
        *(f"export {name}={count}" for name, count in thread_counts(settings.num_cpus).items()),
        *_end(settings.seconds),
        *([f"export DHPO_SCRATCH={shlex.quote(str(scratch))}"] if scratch else []),
        *settings.prologue,
        *(f"export {name}={shlex.quote(value)}" for name, value in settings.env.items()),
        KEEP_WORKER,
    ]


def _end(seconds: int | None) -> list[str]:
    """The unix time of the job's end, as the batch system knows it or from its walltime."""
    lines = ["export DHPO_WORKER_END=${SLURM_JOB_END_TIME:-}"]
    if seconds is not None:
        lines.append(f"export DHPO_WORKER_END=${{DHPO_WORKER_END:-$(($(date +%s) + {seconds}))}}")
    return [*lines, "[[ -n $DHPO_WORKER_END ]] || unset DHPO_WORKER_END"]


def _worker_arguments(settings: JobSettings, security: Security | None) -> list[str]:
    arguments = _given.lines("worker-extra-args", configured(settings.section, "worker-extra-args"))
    return [*arguments, *worker_options(settings.num_cpus, settings.num_gpus, security)]


def worker_options(num_cpus: int, num_gpus: int, security: Security | None) -> list[str]:
    """The arguments of ``dask worker`` that all of dhpo's own have besides one thread and no limit of memory."""
    # Without a dashboard there are still pages about the worker's health, for all networks unless told otherwise.
    options = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    offered = [f"GPU={num_gpus}"] if num_gpus else []
    options += ["--resources", ",".join([*offered, f"CPU={num_cpus}"])]
    if security is not None:
        role: Mapping[str, str] = security.get_tls_config_for_role("worker")
        options += ["--protocol", "tls"]
        for option, key in (("--tls-ca-file", "ca_file"), ("--tls-cert", "cert"), ("--tls-key", "key")):
            options += [option, shlex.quote(role[key])]
    return options
