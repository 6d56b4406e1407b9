#!/usr/bin/env bash
# Run a dhpo search inside one SLURM job:    sbatch jobscripts/slurm_allocation.sh
#
# What you ask for here. Anything on sbatch's command line goes before it: sbatch --time=12:00:00 --ntasks=64 …
#SBATCH --job-name=dhpo
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=1
#SBATCH --time=02:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --no-kill
#SBATCH --output=%x-%j.out
# --ntasks         how many trials run at once; add --gpus-per-task=1 where each takes a GPU
# --cpus-per-task  processors for each trial
# --time           the walltime: the search need not fit into it, see below
# --signal         have this script told 120 s before the walltime, so that the search stops cleanly
# --no-kill        a node that dies takes its own trials with it (they start again elsewhere), not the whole job

# shellcheck disable=SC2317  # some functions are called by traps only
# The three lines to change (or to set in the environment). Paths count from the directory in which you call sbatch.
PYTHON=${PYTHON:-python}           # the Python in which dhpo is installed, such as /path/to/venv/bin/python
SCRIPT=${SCRIPT:-tune.py}          # your search
RUN_DIR=${RUN_DIR:-runs/slurm}     # on a file system that all nodes see: for this job's own files

# Where a cluster has several networks, name the fast one, such as ib0. Empty: Dask takes the one with the default
# route; on a job of a single node, the loopback, which nothing outside can reach.
INTERFACE=${INTERFACE:-}

# What happens. Dask has three parts, and dhpo uses all of them:
#
#   the scheduler   one process that knows the workers and passes messages; it writes its address to a file
#   the workers     one process per task, spread over the nodes by srun; each runs one trial at a time
#   your script     the driver: it proposes configurations, hears the results, and keeps the journal
#
# The first and the last run here, on the job's first node, beside its workers; they need little. Your script finds the
# scheduler by the file's name, in the environment variable DHPO_SCHEDULER_FILE:
#
#   search = dhpo.Search(..., cluster=os.environ.get("DHPO_SCHEDULER_FILE", "local"), log_dir="runs/mine")
#
# The search ends with this job: when your script ends, or shortly before the walltime. Submit the same script again,
# and the search goes on where it was, from the journal in log_dir.

set -euo pipefail

mkdir -p "$RUN_DIR"
RUN_DIR=$(cd "$RUN_DIR" && pwd -P)
tag=$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}       # of this start of this job: a requeued job keeps its number
export DHPO_SCHEDULER_FILE=$RUN_DIR/scheduler-$tag.json
log=$RUN_DIR/dask-$tag.log                        # what scheduler and workers have to say

network=(--protocol tcp)
if [[ -n $INTERFACE ]]; then
    network+=(--interface "$INTERFACE")
elif [[ $SLURM_JOB_NUM_NODES == 1 ]]; then
    network+=(--interface lo)
fi

# Libraries for linear algebra use the processors of a trial, and no more.
for name in OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS; do
    export "$name=${!name:-${SLURM_CPUS_PER_TASK:-1}}"
done

say() { echo "$(date '+%F %T') $*"; }
alive() { [[ -n $1 ]] && kill -0 "$1" 2>/dev/null; }
pause() { sleep 0.5 & wait $! || true; }          # a signal is answered at once: bash answers none during a plain sleep

scheduler='' workers='' driver=''
end() {                                           # a process: ask, wait for 20 seconds at most, insist
    alive "$1" || return 0
    if [[ $1 == "$workers" ]]; then
        scancel --signal=TERM "$SLURM_JOB_ID" || true     # srun itself would pass on a KILL
    else
        kill -TERM "$1" 2>/dev/null || true
    fi
    for ((i = 0; i < 40; i++)); do
        alive "$1" || return 0
        pause
    done
    kill -KILL "$1" 2>/dev/null || true
}
clean_up() {
    trap '' TERM INT
    end "$driver"
    end "$workers"
    end "$scheduler"
    rm -rf "$DHPO_SCHEDULER_FILE" "$scratch"
}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dhpo-XXXXXXXX")
trap clean_up EXIT
trap 'exit 143' TERM INT

# The scheduler. Its dashboard is on the first node only: ssh -L 8787:localhost:8787 <first node>
DASK_TEMPORARY_DIRECTORY=$scratch "$PYTHON" -m dask scheduler \
    --scheduler-file "$DHPO_SCHEDULER_FILE" --port 0 "${network[@]}" \
    --dashboard-address 127.0.0.1:8787 >>"$log" 2>&1 &
scheduler=$!
until [[ -s $DHPO_SCHEDULER_FILE ]]; do
    alive "$scheduler" || { say "the Dask scheduler did not start, see $log:"; tail -n 5 "$log"; exit 1; }
    pause
done

# The workers. This text runs once per task: it gives the worker a directory of its own on the node, which it removes
# again, and passes on the signal to end. Memory is left to SLURM (--memory-limit 0): Dask would guess.
task=$(cat <<'END'
scratch=$(mktemp -d "${TMPDIR:-/tmp}/dhpo-XXXXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'kill -TERM "$worker" 2>/dev/null' TERM INT
"$@" --local-directory "$scratch" &
worker=$!
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
END
)
worker=("$PYTHON" -m dask worker --scheduler-file "$DHPO_SCHEDULER_FILE" --nthreads 1 --memory-limit 0
    --no-dashboard --death-timeout 60 "${network[@]}")
if [[ -n ${SLURM_GPUS_PER_TASK:-} ]]; then        # "2", or "a100:2"
    worker+=(--resources "GPU=${SLURM_GPUS_PER_TASK##*:}")
fi
srun --ntasks="$SLURM_NTASKS" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --no-kill --wait=0 --kill-on-bad-exit=0 \
    bash -c "$task" worker "${worker[@]}" >>"$log" 2>&1 &
workers=$!

# The driver.
say "$SCRIPT with $SLURM_NTASKS workers on $SLURM_JOB_NUM_NODES node(s); their output: $log"
"$PYTHON" "$SCRIPT" &
driver=$!
stop() {
    say "told to stop: the search ends cleanly; submit the same script again to go on"
    kill -TERM "$driver" 2>/dev/null || true
}
trap stop TERM INT

status=0
while alive "$driver"; do
    if ! alive "$workers" || ! alive "$scheduler"; then
        say "the workers or the Dask scheduler have ended, the search cannot go on; see $log:"
        tail -n 5 "$log"
        end "$driver"
        status=1
    fi
    pause
done
wait "$driver" || status=$?
say "$SCRIPT ended with status $status"
exit "$status"
