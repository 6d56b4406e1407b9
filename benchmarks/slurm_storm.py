"""A search on a real Slurm in bad weather: short walltimes, cancelled jobs, and a driver that starts again.

    python benchmarks/slurm_storm.py --minutes 10

A Slurm of its own starts on this machine (as for the tests; ``slurm-wlm`` and ``munge`` must be installed). In it
``jobscripts/slurm_driver.sh`` runs as it stands: the driver in a small job, workers in jobs of one minute of walltime.
Every 20 seconds the job of a random worker is cancelled, and in the middle the driver's job is requeued. A trial trains
for some units of half a second, saves a checkpoint after each, and notes each unit that it has trained.

Printed: the time from ``sbatch`` to the first unit; the utilisation, which is the time trained by all workers against
the time that they had from then to the end, units trained twice included or not; how many finished trials were lost;
how many units were trained twice; and how many trials there are at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

from slurm import Slurm, running_slurm  # noqa: E402

from dhpo import Results  # noqa: E402
from dhpo.errors import JournalError  # noqa: E402
from dhpo.trial import Status  # noqa: E402

UNIT = 0.5  # seconds
SEARCH = """
import os
import time
from pathlib import Path

import dhpo

HERE = Path({here!r})


def train(config, report):
    saved = report.checkpoint_dir / "epoch"
    done = int(saved.read_text()) if saved.exists() else 0
    for epoch in range(done + 1, {units} + 1):
        began = time.time()
        time.sleep({unit})
        with open(HERE / "units" / str(report.trial), "a") as log:
            log.write(f"{{epoch}} {{began}} {{time.time()}}\\n")
        new = saved.with_suffix(".new")
        new.write_text(str(epoch))
        new.replace(saved)
        report(epoch=epoch, score=config.x * epoch)


search = dhpo.Search(
    {{"x": (0.0, 1.0)}},
    train,
    objectives={{"score": "MAX"}},
    stopper=dhpo.NeverStop(time_attr="epoch"),
    searcher="random",
    random_state=0,
)
"""


@dataclass(slots=True)
class Storm:
    """What happens to the search, and what is seen of it."""

    slurm: Slurm
    directory: Path
    job: str
    trials: int
    rng: random.Random
    finished: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    cancelled: int = 0
    requeued: bool = False

    def look(self) -> int:
        """Take note of the trials that have finished, and of those that had and have no longer."""
        try:
            statuses = Results.load(self.directory / "runs" / "tune").statuses()
        except JournalError:
            return 0  # not begun
        finished = {str(trial) for trial, status in statuses.items() if status is Status.COMPLETED}
        self.lost |= self.finished - finished
        self.finished |= finished
        return len(finished)

    def cancel_a_worker(self) -> None:
        """Cancel the job of a random worker."""
        lines = self.slurm.call("squeue", "--noheader", "--states=R", "--format=%i").split()
        if workers := [job for job in lines if job != self.job]:
            self.slurm.call("scancel", self.rng.choice(workers))
            self.cancelled += 1

    def requeue_the_driver(self) -> None:
        """Have Slurm start the driver's job again."""
        self.slurm.call("scontrol", "requeue", self.job)
        self.requeued = True

    def rage(self, deadline: float) -> float:
        """Until the search is finished; return when that was."""
        next_cancel = time.time() + 20
        while self.slurm.state(self.job)[0] not in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"):
            done = self.look()
            if not self.requeued and done >= self.trials // 2:
                self.requeue_the_driver()
            elif time.time() >= next_cancel:
                self.cancel_a_worker()
                next_cancel += 20
            if time.time() > deadline:
                raise SystemExit(f"not finished in time: {done} of {self.trials} trials")
            time.sleep(1)
        self.look()
        return time.time()


def units(directory: Path) -> list[tuple[str, int, float, float]]:
    """Every unit that was trained: trial, epoch, beginning, end."""
    rows = []
    for path in (directory / "units").iterdir():
        for line in path.read_text().splitlines():
            epoch, began, ended = line.split()
            rows.append((path.name, int(epoch), float(began), float(ended)))
    return rows


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="about how long the search takes")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--units", type=int, default=30, help="of training for each trial, half a second each")
    parser.add_argument("--walltime", default="00:01:00", help="of a worker's job")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    trials = max(4, round(0.75 * arguments.workers * arguments.minutes * 60 / (UNIT * arguments.units)))
    with tempfile.TemporaryDirectory() as folder, running_slurm(nodes=4, cpus=4) as slurm:
        directory = Path(folder)
        (directory / "units").mkdir()
        text = SEARCH.format(here=folder, units=arguments.units, unit=UNIT)
        (directory / "tune.py").write_text(text)
        environment = {
            "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "NUM_TRIALS": str(trials), "MEMORY": "400MiB",
            "N_WORKERS": str(arguments.workers), "WALLTIME": arguments.walltime,
            "DASK_JOBQUEUE__SLURM__INTERFACE": "lo",
        }  # fmt: skip
        submitted = time.time()
        script = str(ROOT / "jobscripts" / "slurm_driver.sh")
        job = slurm.submit(script, environment=environment, cwd=directory)
        storm = Storm(slurm, directory, job, trials, random.Random(arguments.seed))
        try:
            ended = storm.rage(submitted + 60 * (4 * arguments.minutes + 5))
        finally:
            print((directory / f"dhpo-{job}.out").read_text(), file=sys.stderr)
        print(json.dumps(summary(storm, submitted, ended, arguments.workers), indent=2))


def summary(storm: Storm, submitted: float, ended: float, workers: int) -> dict[str, object]:
    """The figures."""
    rows = units(storm.directory)
    first, last = min(row[2] for row in rows), max(row[3] for row in rows)
    times = Counter((trial, epoch) for trial, epoch, *_ in rows)
    repeated = sum(times.values()) - len(times)
    done = subprocess.run(
        [sys.executable, "-m", "dhpo", "status", str(storm.directory / "runs" / "tune"), "--json"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    status = json.loads(done.stdout)
    jobs = storm.slurm.call("scontrol", "show", "job", "--oneliner")
    had = workers * (last - first)
    trained = sum(row[3] - row[2] for row in rows)
    return {
        "job": storm.slurm.state(storm.job),
        "sbatch_to_first_unit_s": round(first - submitted, 1),
        "search_s": round(last - first, 1),
        "total_s": round(ended - submitted, 1),
        "workers": workers,
        "worker_jobs": jobs.count("JobName=dhpo-"),
        "cancelled_workers": storm.cancelled,
        "driver_requeued": storm.requeued,
        "utilisation": round(trained / had, 3),
        "utilisation_without_repeated": round(trained * len(times) / len(rows) / had, 3),
        "units": len(times),
        "units_repeated": repeated,
        "finished_trials_lost": len(storm.lost),
        "trials_wanted": storm.trials,
        "trials": status["trials"],
    }


if __name__ == "__main__":
    main()
