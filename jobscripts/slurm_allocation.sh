#!/usr/bin/env bash
# A dhpo search inside one Slurm job:    sbatch slurm_allocation.sh
#
# All of it runs in this job: the driver, which proposes configurations and keeps the results, and the workers, each of
# which trains one trial at a time. Nothing is to be started before, and nothing is left running afterwards.
#
# What the job asks for. Anything on the command line goes before it: sbatch --time=12:00:00 --mem=8G …
#SBATCH --job-name=dhpo
#SBATCH --ntasks=8
#SBATCH --cpus-per-task=1
#SBATCH --time=02:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --no-kill
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
# --ntasks         how many trials run at once; add --gpus-per-task=1 where each takes a GPU
# --cpus-per-task  processors for each trial
# --time           the walltime: the search need not fit into it, see below
# --signal         have this script told 120 s before the walltime, so that the search stops cleanly
# --no-kill        a node that dies takes its own trials with it (they start again elsewhere), not the whole job
# Most sites want an --account or a --partition, too.

# The three lines to change. Paths count from the directory in which you call sbatch.
PYTHON=${PYTHON:-python}                       # the Python in which dhpo is installed, such as /path/to/venv/bin/python
SEARCH=${SEARCH:-tune.py}                      # the file with your Search; tune.py:NAME where it is not called "search"
OPTIONS=(--num-trials "${NUM_TRIALS:-100}")    # when the search ends; dhpo run --help has more

# Where the search is kept, on a file system that all nodes see. dhpo status RUN_DIR shows how it stands.
RUN_DIR=${RUN_DIR:-runs/$(basename "${SEARCH%%:*}" .py)}

# Nothing below needs to be changed.
set -euo pipefail
say() { echo "$(date '+%F %T') $*"; }
(umask 077 && mkdir -p "$RUN_DIR")                # results are nobody else's business
job=$SLURM_JOB_ID

# When this job ends, in seconds since 1970: trials that would not be ready by then are not begun.
unset DHPO_WORKER_END
end=$(squeue --noheader --jobs "$job" --format %e || true)
if end=$(date --date "${end:-unknown}" +%s 2>/dev/null); then export DHPO_WORKER_END=$end; fi

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
