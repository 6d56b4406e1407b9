"""The job scripts of ``jobscripts/`` and of ``dhpo submit``: one text for each batch system and mode, in parts.

The parts are plain text. What differs between one script and the next stands between ``@`` signs, as ``@DIRECTIVES@``.
``python -m dhpo.cli.jobscript FOLDER`` writes the six scripts of ``jobscripts/`` into a folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path


class System(StrEnum):
    """A batch system."""

    SLURM = "slurm"
    PBS = "pbs"


class Mode(StrEnum):
    """Where the parts of a search run."""

    DRIVER = "driver"  # the driver in a small job, each worker in a job of its own
    ALLOCATION = "allocation"  # all in one job
    CHAIN = "chain"  # all in one job, which submits itself again until the search is finished


def render(
    system: System,
    mode: Mode,
    *,
    directives: Sequence[str] | None = None,
    settings: Mapping[str, str] | None = None,
    jobs: Mapping[str, str] | None = None,
) -> str:
    """The text of a job script.

    Args:
        system: whose job it is.
        mode: what it runs.
        directives: what the job asks for, without ``#SBATCH`` or ``#PBS``; by default as in ``jobscripts/``.
        settings: the settings of :data:`SETTINGS` that are to have other values; the values are shell words.
        jobs: with DRIVER, what each worker's job asks for: ``jobqueue`` settings of dask-jobqueue, as shell words.
    """
    ours = DIRECTIVES[system, mode] if directives is None else tuple(directives)
    explained = EXPLAINED[system, mode] if directives is None else ""
    sign = {System.SLURM: "#SBATCH", System.PBS: "#PBS"}[system]
    chained = mode is not Mode.ALLOCATION
    parts = [
        _HEADS[mode],
        "\n".join(f"{sign} {directive}" for directive in ours) + "\n" + explained,
        _settings({**SETTINGS, **(settings or {})}, own_name=chained and system is System.PBS),
        _jobs(system, JOBS if jobs is None else jobs) if mode is Mode.DRIVER else "",
        _BEGIN,
        _END_OF_JOB[system],
        _CHAIN if chained else "",
        _RUN,
        _CHAINED_END if chained else _END,
    ]
    names = {"@CLUSTER@": system.value if mode is Mode.DRIVER else "allocation", "@FILE@": f"{system}_{mode}.sh"}
    text = "".join(parts)
    for name, value in {**names, **_WORDS[system]}.items():
        text = text.replace(name, value)
    return text


#: What a user changes: shell words, and what they are.
SETTINGS = {
    "PYTHON": "${PYTHON:-python}",
    "SEARCH": "${SEARCH:-tune.py}",
    "OPTIONS": '(--num-trials "${NUM_TRIALS:-100}")',
    "RUN_DIR": '${RUN_DIR:-runs/$(basename "${SEARCH%%:*}" .py)}',
    "SELF": "${SELF:-@FILE@}",
}

#: What a worker's job asks for where the driver submits them.
JOBS = {
    "N_WORKERS": "${N_WORKERS:-8}",
    "WALLTIME": "${WALLTIME:-02:00:00}",
    "MEMORY": "${MEMORY:-4GB}",
}

_SLURM_DRIVER = (
    "--job-name=dhpo", "--ntasks=1", "--cpus-per-task=2", "--mem=2G", "--time=1-00:00:00", "--signal=B:TERM@120",
    "--requeue", "--open-mode=append", "--output=%x-%j.out",
)  # fmt: skip
_SLURM_ALLOCATION = (
    "--job-name=dhpo", "--ntasks=8", "--cpus-per-task=1", "--time=02:00:00", "--signal=B:TERM@120", "--no-kill",
    "--open-mode=append", "--output=%x-%j.out",
)  # fmt: skip
_PBS_DRIVER = ("-N dhpo", "-l select=1:ncpus=2:mem=2gb", "-l walltime=24:00:00", "-r y", "-j oe", "-V")
_PBS_ALLOCATION = ("-N dhpo", "-l select=8:ncpus=1:mem=4gb", "-l walltime=02:00:00", "-j oe", "-V")

DIRECTIVES: Mapping[tuple[System, Mode], Sequence[str]] = {
    (System.SLURM, Mode.DRIVER): _SLURM_DRIVER,
    (System.SLURM, Mode.ALLOCATION): _SLURM_ALLOCATION,
    (System.SLURM, Mode.CHAIN): _SLURM_ALLOCATION,
    (System.PBS, Mode.DRIVER): _PBS_DRIVER,
    (System.PBS, Mode.ALLOCATION): _PBS_ALLOCATION,
    (System.PBS, Mode.CHAIN): _PBS_ALLOCATION,
}

_SLURM_ALLOCATION_EXPLAINED = """\
# --ntasks         how many trials run at once; add --gpus-per-task=1 where each takes a GPU
# --cpus-per-task  processors for each trial
# --time           the walltime: the search need not fit into it, see below
# --signal         have this script told 120 s before the walltime, so that the search stops cleanly
# --no-kill        a node that dies takes its own trials with it (they start again elsewhere), not the whole job
# Most sites want an --account or a --partition, too.
"""
_PBS_ALLOCATION_EXPLAINED = """\
# -l select    how many trials run at once, and what each takes; add :ngpus=1 where it is a GPU
# -l walltime  the search need not fit into it, see below
# -V           the environment in which you call qsub; PBS would start with an empty one
# Most sites want a queue (-q) or an account (-A), too.
"""
EXPLAINED: Mapping[tuple[System, Mode], str] = {
    (System.SLURM, Mode.DRIVER): """\
# This is the driver's own job: it needs little. What the trials take is said below.
# --time     as long as you may ask for; the search need not fit into it, see below
# --signal   have this script told 120 s before the walltime, so that the search stops cleanly
# --requeue  where the node dies, Slurm starts the job again
# Most sites want an --account or a --partition, too, here and below.
""",
    (System.SLURM, Mode.ALLOCATION): _SLURM_ALLOCATION_EXPLAINED,
    (System.SLURM, Mode.CHAIN): _SLURM_ALLOCATION_EXPLAINED,
    (System.PBS, Mode.DRIVER): """\
# This is the driver's own job: it needs little. What the trials take is said below.
# -l walltime  as long as you may ask for; the search need not fit into it, see below
# -r y         where the node dies, PBS starts the job again
# -V           the environment in which you call qsub; PBS would start with an empty one
# Most sites want a queue (-q) or an account (-A), too, here and below.
""",
    (System.PBS, Mode.ALLOCATION): _PBS_ALLOCATION_EXPLAINED,
    (System.PBS, Mode.CHAIN): _PBS_ALLOCATION_EXPLAINED,
}

_WORDS = {
    System.SLURM: {
        "@SUBMIT@": "sbatch",
        "@BATCH@": "Slurm",
        "@CHANGE_DIRECTORY@": "",
        "@JOB@": "$SLURM_JOB_ID",
        "@ANYWHERE@": "sbatch --time=12:00:00 --mem=8G …",
        "@LAUNCH@": "srun",
        "@CANCEL@": "scancel",
        "@OUTPUT@": "dhpo-<job>.out",
        "@SUBMIT_NEXT@": 'sbatch --parsable --dependency="afterany:$job" "$0"',
    },
    System.PBS: {
        "@SUBMIT@": "qsub",
        "@BATCH@": "PBS",
        "@CHANGE_DIRECTORY@": 'cd "$PBS_O_WORKDIR"            # PBS starts jobs in the home directory\n',
        "@JOB@": "$PBS_JOBID",
        "@ANYWHERE@": "qsub -l walltime=12:00:00 …",
        "@LAUNCH@": "pbsdsh",
        "@CANCEL@": "qdel",
        "@OUTPUT@": "dhpo.o<job>",
        "@SUBMIT_NEXT@": 'qsub -W "depend=afterany:$job" "$SELF"',
    },
}

_HEADS = {
    Mode.DRIVER: """\
#!/usr/bin/env bash
# A dhpo search whose trials run in jobs of their own:    @SUBMIT@ @FILE@
#
# This job runs the driver, which proposes configurations and keeps the results. It submits a job for each worker, and
# another one for each that ends, as long as there are trials to run. A worker trains one trial at a time. The search
# begins with the first worker that the queue lets in. At the walltime of this job the next one goes on, see below.
#
# What this job asks for. Anything on the command line goes before it: @ANYWHERE@
""",
    Mode.ALLOCATION: """\
#!/usr/bin/env bash
# A dhpo search inside one @BATCH@ job:    @SUBMIT@ @FILE@
#
# All of it runs in this job: the driver, which proposes configurations and keeps the results, and the workers, each of
# which trains one trial at a time. Nothing is to be started before, and nothing is left running afterwards.
#
# What the job asks for. Anything on the command line goes before it: @ANYWHERE@
""",
    Mode.CHAIN: """\
#!/usr/bin/env bash
# A dhpo search in one @BATCH@ job after another, until it is finished:    @SUBMIT@ @FILE@
#
# All of it runs in this job: the driver, which proposes configurations and keeps the results, and the workers, each of
# which trains one trial at a time. At the walltime the next job goes on where this one was, see below.
#
# What each job asks for. Write it here: what is on the command line counts for the first job only.
""",
}

_BEGIN = """
# Nothing below needs to be changed.
set -euo pipefail
say() { echo "$(date '+%F %T') $*"; }
@CHANGE_DIRECTORY@(umask 077 && mkdir -p "$RUN_DIR")                # results are nobody else's business
job=@JOB@
"""

_END_OF_JOB = {
    System.SLURM: """
# When this job ends, in seconds since 1970: trials that would not be ready by then are not begun.
unset DHPO_WORKER_END
end=$(squeue --noheader --jobs "$job" --format %e || true)
if end=$(date --date "${end:-unknown}" +%s 2>/dev/null); then export DHPO_WORKER_END=$end; fi
""",
    System.PBS: """
# When this job ends, in seconds since 1970: trials that would not be ready by then are not begun.
unset DHPO_WORKER_END
walltime=$(qstat -f "$job" | sed -n 's/.*Resource_List.walltime = //p' || true)
if [[ $walltime =~ ^([0-9]+):([0-9]+):([0-9]+)$ ]]; then
    seconds=$((10#${BASH_REMATCH[1]} * 3600 + 10#${BASH_REMATCH[2]} * 60 + 10#${BASH_REMATCH[3]} - SECONDS))
    DHPO_WORKER_END=$(($(date +%s) + seconds))
    export DHPO_WORKER_END
fi
""",
}

_CHAIN = """
# The chain. The next job is submitted now, and waits for the end of this one: so it comes also where this one is killed
# or loses its node. It is taken back when the search is finished, or where an error would only come again.
# To end a chain by hand, cancel the waiting job, and then the running one.
MAX_JOBS=${MAX_JOBS:-100}                         # of one chain
number=${DHPO_JOB_OF_CHAIN:-1}
export DHPO_JOB_OF_CHAIN=$((number + 1))          # the next job's
next=''
submit_next() {
    # Where @BATCH@ has started this job again, the next one is there already.
    read -r next _ <<<"$(sed -n "s/^$job //p" "$RUN_DIR/chain" 2>/dev/null)"
    [[ -z $next ]] || return 0
    ((number < MAX_JOBS)) || { say "this is job $number of the chain, the last one by MAX_JOBS"; return 1; }
    next=$(@SUBMIT_NEXT@) || { next=''; return 1; }
    next=${next%%;*}
    echo "$job $next" >"$RUN_DIR/chain"
    say "job $number of the chain is $job; $next waits for its end"
}
take_back_next() {
    [[ -z $next ]] || @CANCEL@ "$next" || true
    rm -f "$RUN_DIR/chain" "$RUN_DIR/chain-reports"
}
submit_next || say "the next job could not be submitted; another attempt follows at the end"
"""

_RUN = """
# The driver. With --cluster @CLUSTER@ it finds its workers by itself. Signals to end are passed on to it: it has the
# trials save their checkpoints, and ends with the status 99 where there is work left.
"$PYTHON" -m dhpo run "$SEARCH" "${OPTIONS[@]}" --log-dir "$RUN_DIR" --cluster @CLUSTER@ \\
    --no-progress --exit-code-if-unfinished 99 &
driver=$!
# shellcheck disable=SC2317                       # the trap calls it
stop() {
    say "told to stop: the search ends cleanly"
    kill -TERM "$driver" 2>/dev/null || true
}
trap stop TERM USR1 INT
while kill -0 "$driver" 2>/dev/null; do
    wait "$driver" || true                        # a signal ends this wait, too
done
status=0
wait "$driver" || status=$?
[[ $status != 143 ]] || status=99                 # told to end twice, it did so at once; nothing that has ended is lost
"""

_END = """
# Shortly before the walltime the search ends. Submit the same script again, and it goes on where it was.
case $status in
0) say "the search is finished: see dhpo status $RUN_DIR" ;;
99) say "there is work left: submit the same script again to go on" && status=0 ;;
*) say "the search ended with status $status" ;;
esac
exit "$status"
"""

_CHAINED_END = """
if ((status > 128)); then                         # killed: by hand, or for its memory. The next job may be luckier
    say "the driver was killed by signal $((status - 128)); nothing that has ended is lost"
    status=99
fi
case $status in
0)
    take_back_next
    say "the search is finished: see dhpo status $RUN_DIR"
    ;;
99)
    # Two jobs in a row that heard no report of any trial would be followed by more of the kind.
    reports=$("$PYTHON" -m dhpo status "$RUN_DIR" --json | sed -n 's/.*"reports": \\([0-9]*\\).*/\\1/p' || true)
    reports=${reports:-none}
    { read -r before idle <"$RUN_DIR/chain-reports"; } 2>/dev/null || { before=-1 idle=0; }
    if [[ $reports == "$before" ]]; then idle=$((idle + 1)); else idle=0; fi
    echo "$reports $idle" >"$RUN_DIR/chain-reports"
    if ((idle >= 2)); then
        take_back_next
        say "two jobs in a row brought no report: the chain ends. Is the walltime too short, or do no workers come?"
        exit 1
    fi
    [[ -n $next ]] || submit_next || { say "the next job cannot be submitted: submit this one again"; exit 1; }
    say "there is work left: job $next goes on"
    status=0
    ;;
*)
    take_back_next
    say "the search ended with status $status: the chain ends"
    ;;
esac
exit "$status"
"""

_COMMENTS = {
    "PYTHON": "the Python in which dhpo is installed, such as /path/to/venv/bin/python",
    "SEARCH": 'the file with your Search; tune.py:NAME where it is not called "search"',
    "OPTIONS": "when the search ends; dhpo run --help has more",
}


def _settings(values: Mapping[str, str], *, own_name: bool) -> str:
    lines = [
        "",
        "# The three lines to change. Paths count from the directory in which you call @SUBMIT@.",
        *(f"{f'{name}={values[name]}':<46} # {comment}" for name, comment in _COMMENTS.items()),
        "",
        "# Where the search is kept, on a file system that all nodes see. dhpo status RUN_DIR shows how it stands.",
        f"RUN_DIR={values['RUN_DIR']}",
    ]
    if own_name:
        lines += [f"{'SELF=' + values['SELF']:<46} # this file, to be submitted again"]
    return "\n".join(lines) + "\n"


def _jobs(system: System, values: Mapping[str, str]) -> str:
    prefix = f"DASK_JOBQUEUE__{system.upper()}__"
    lines = [
        "",
        "# How many workers, and what the job of each asks for. Processors and GPUs are as many as the search's",
        '# resources={"num_cpus": …, "num_gpus": …} say. The same settings may be in ~/.config/dask/jobqueue.yaml.',
        *(f"export {prefix}{name}={value}" for name, value in values.items()),
    ]
    if values is JOBS:
        lines += [f"# export {prefix}QUEUE=… {prefix}ACCOUNT=…"]
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    """Write the scripts of ``jobscripts/``."""
    for system, mode in DIRECTIVES:
        path = folder / f"{system}_{mode}.sh"
        path.write_text(render(system, mode), encoding="utf-8")
        path.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
