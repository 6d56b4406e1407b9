#!/usr/bin/env bash
# A dhpo search inside one PBS job:    qsub pbs_allocation.sh
#
# All of it runs in this job: the driver, which proposes configurations and keeps the results, and the workers, each of
# which trains one trial at a time. Nothing is to be started before, and nothing is left running afterwards.
#
# What the job asks for. Anything on the command line goes before it: qsub -l walltime=12:00:00 …
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

# Shortly before the walltime the search ends. Submit the same script again, and it goes on where it was.
case $status in
0) say "the search is finished: see dhpo status $RUN_DIR" ;;
99) say "there is work left: submit the same script again to go on" && status=0 ;;
*) say "the search ended with status $status" ;;
esac
exit "$status"
