#!/usr/bin/env bash
# A dhpo search in one PBS job after another, until it is finished:    qsub pbs_chain.sh
#
# All of it runs in this job: the driver, which proposes configurations and keeps the results, and the workers, each of
# which trains one trial at a time. At the walltime the next job goes on where this one was, see below.
#
# What each job asks for. Write it here: what is on the command line counts for the first job only.
#PBS -N dhpo
#PBS -l select=8:ncpus=1:mem=4gb
#PBS -l walltime=02:00:00
#PBS -j oe
#PBS -V
# -l select    how many trials run at once, and what each takes; add :ngpus=1 where it is a GPU
# -l walltime  the search need not fit into it, see below
# -V           the environment in which you call qsub; PBS would start with an empty one
# Most sites want a queue (-q) or an account (-A), too.

# The three lines to change. Paths count from the directory in which you call qsub.
PYTHON=${PYTHON:-python}                       # the Python in which dhpo is installed, such as /path/to/venv/bin/python
SEARCH=${SEARCH:-tune.py}                      # the file with your Search; tune.py:NAME where it is not called "search"
OPTIONS=(--num-trials "${NUM_TRIALS:-100}")    # when the search ends; dhpo run --help has more

# Where the search is kept, on a file system that all nodes see. dhpo status RUN_DIR shows how it stands.
RUN_DIR=${RUN_DIR:-runs/$(basename "${SEARCH%%:*}" .py)}
SELF=${SELF:-pbs_chain.sh}                           # this file, to be submitted again

# Nothing below needs to be changed.
set -euo pipefail
say() { echo "$(date '+%F %T') $*"; }
cd "$PBS_O_WORKDIR"            # PBS starts jobs in the home directory
(umask 077 && mkdir -p "$RUN_DIR")                # results are nobody else's business
job=$PBS_JOBID

# When this job ends, in seconds since 1970: trials that would not be ready by then are not begun.
unset DHPO_WORKER_END
walltime=$(qstat -f "$job" | sed -n 's/.*Resource_List.walltime = //p' || true)
if [[ $walltime =~ ^([0-9]+):([0-9]+):([0-9]+)$ ]]; then
    seconds=$((10#${BASH_REMATCH[1]} * 3600 + 10#${BASH_REMATCH[2]} * 60 + 10#${BASH_REMATCH[3]} - SECONDS))
    DHPO_WORKER_END=$(($(date +%s) + seconds))
    export DHPO_WORKER_END
fi

# The chain. The next job is submitted now, and waits for the end of this one: so it comes also where this one is killed
# or loses its node. It is taken back when the search is finished, or where an error would only come again.
# To end a chain by hand, cancel the waiting job, and then the running one.
MAX_JOBS=${MAX_JOBS:-100}                         # of one chain
number=${DHPO_JOB_OF_CHAIN:-1}
export DHPO_JOB_OF_CHAIN=$((number + 1))          # the next job's
next=''
submit_next() {
    # Where PBS has started this job again, the next one is there already.
    read -r next _ <<<"$(sed -n "s/^$job //p" "$RUN_DIR/chain" 2>/dev/null)"
    [[ -z $next ]] || return 0
    ((number < MAX_JOBS)) || { say "this is job $number of the chain, the last one by MAX_JOBS"; return 1; }
    next=$(qsub -W "depend=afterany:$job" "$SELF") || { next=''; return 1; }
    next=${next%%;*}
    echo "$job $next" >"$RUN_DIR/chain"
    say "job $number of the chain is $job; $next waits for its end"
}
take_back_next() {
    [[ -z $next ]] || qdel "$next" || true
    rm -f "$RUN_DIR/chain" "$RUN_DIR/chain-reports"
}
submit_next || say "the next job could not be submitted; another attempt follows at the end"

# The driver. With --cluster allocation it finds its workers by itself. Signals to end are passed on to it: it has the
# trials save their checkpoints, and ends with the status 99 where there is work left.
"$PYTHON" -m dhpo run "$SEARCH" "${OPTIONS[@]}" --log-dir "$RUN_DIR" --cluster allocation \
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
    reports=$("$PYTHON" -m dhpo status "$RUN_DIR" --json | sed -n 's/.*"reports": \([0-9]*\).*/\1/p' || true)
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
