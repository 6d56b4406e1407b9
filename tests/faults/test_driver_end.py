"""A driver that is told to end, or whose own batch job ends: its trials leave with what they have saved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from dhpo import Results
from dhpo import journal as journals
from dhpo.events import SearchFinished, TrialReported, WorkerLost
from dhpo.trial import Status

ROOT = Path(__file__).parents[2]
N_TRIALS, EPOCHS = 4, 12

DRIVER = """
import os, sys, time
from pathlib import Path
from dhpo import NeverStop, Search
from dhpo.clusters.local import Local

HERE = Path(__file__).parent

def train(config, report):
    state = report.checkpoint_dir / "epoch"
    first = int(state.read_text()) + 1 if state.exists() else 1
    for epoch in range(first, %(epochs)d + 1):
        time.sleep(0.2)
        descriptor = os.open(HERE / "notes.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{report.trial} {epoch}\\n".encode())
        os.close(descriptor)
        if report.should_checkpoint or epoch == %(epochs)d:  # a checkpoint only when it has to leave
            state.write_text(str(epoch))
        report(epoch=epoch, objective=config.x * epoch)

if __name__ == "__main__":
    cluster = sys.argv[1]
    search = Search(
        {"x": (0.0, 1.0)}, train, stopper=NeverStop("epoch"), searcher="random", random_state=5,
        cluster=Local(2, dashboard_address=None) if cluster == "local" else cluster, log_dir=HERE / "run",
    )
    search.run(%(trials)d, progress=False)
    print(search.interrupted)
    sys.exit(99 if search.interrupted else 0)
"""


class Driver:
    """A script on one directory, started again and again."""

    def __init__(self, directory: Path, cluster: str) -> None:
        self.directory = directory
        self.run = directory / "run"
        self._script = directory / "driver.py"
        self._script.write_text(DRIVER % {"epochs": EPOCHS, "trials": N_TRIALS})
        self._cluster = cluster

    def start(self, **environment: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "PBS", "DHPO"))}
        return subprocess.Popen(
            [sys.executable, str(self._script), self._cluster],
            env={**outside, "PYTHONPATH": path, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for_notes(self, n: int, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 60
        while len(self.notes()) < n and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)

    def notes(self) -> list[tuple[int, ...]]:
        path = self.directory / "notes.txt"
        return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []

    def check(self) -> None:
        """All trials are complete, and no epoch was trained twice."""
        results = Results.load(self.run)
        assert list(results.statuses().values()) == [Status.COMPLETED] * N_TRIALS
        assert Counter(self.notes()) == {(t, e): 1 for t in range(N_TRIALS) for e in range(1, EPOCHS + 1)}
        events = [event for batch in journals.read(self.run)[1] for event in batch]
        reports = Counter((e.trial, e.resource) for e in events if isinstance(e, TrialReported))
        assert set(reports.values()) == {1}
        assert {e.worker for e in events if isinstance(e, WorkerLost)} <= {""}
        assert sum(isinstance(e, SearchFinished) for e in events) == 1


@pytest.mark.parametrize(
    ("cluster", "number"),
    [("local", signal.SIGTERM), ("local", signal.SIGUSR1), ("serial", signal.SIGTERM), ("threads", signal.SIGUSR1)],
)
def test_a_signal_lets_the_trials_save_what_they_have(tmp_path: Path, cluster: str, number: int) -> None:
    driver = Driver(tmp_path, cluster)
    process = driver.start()
    driver.wait_for_notes(5, process)
    process.send_signal(number)
    assert process.wait(60) == 99
    assert 0 < len(driver.notes()) < N_TRIALS * EPOCHS
    last = driver.start()
    assert last.wait(120) == 0
    driver.check()


@pytest.mark.parametrize("cluster", ["local", "threads"])
def test_a_driver_leaves_ahead_of_the_end_of_its_job(tmp_path: Path, cluster: str) -> None:
    """Without any signal; and in a chain of jobs the search comes to its end."""
    driver = Driver(tmp_path, cluster)
    codes = []
    while len(codes) < 12 and (not codes or codes[-1] != 0):
        end = time.time() + 21
        process = driver.start(SLURM_JOB_END_TIME=str(int(end)))
        codes.append(process.wait(120))
        assert time.time() < end
    assert codes[-1] == 0
    driver.check()


def test_a_job_without_any_time_left_starts_nothing(tmp_path: Path) -> None:
    driver = Driver(tmp_path, "serial")
    process = driver.start(SLURM_JOB_END_TIME=str(int(time.time() + 8)))
    assert process.wait(60) == 99
    assert driver.notes() == []
    _, batches = journals.read(driver.run)
    assert not any(isinstance(event, SearchFinished) for batch in batches for event in batch)


def test_a_signal_that_comes_twice_ends_the_run_at_once(tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import time\nimport dhpo\n"
        "def train(config, report):\n"
        "    report(objective=1.0)\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(60)\n"
        "search = dhpo.Search({'x': (0.0, 1.0)}, train, cluster='serial', searcher='random')\n"
        "search.run(2, progress=False)\n"
        "print('interrupted', search.interrupted)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 0
    assert process.stdout.read() == "interrupted True\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_does_not_keep_the_cluster_from_being_cleared_away(tmp_path: Path, number: int) -> None:
    """A batch system's signal comes twice, from itself and from the job's script; the first may have ended the run."""
    script = tmp_path / "late.py"
    script.write_text(
        "import asyncio, os, sys\nimport dhpo\nfrom dhpo.clusters.local import Local\n"
        "class Late(Local):\n"
        "    async def close(self):\n"
        "        os.kill(os.getpid(), int(sys.argv[1]))\n"
        "        await asyncio.sleep(0)\n"
        "        await super().close()\n"
        "        print('closed', flush=True)\n"
        "if __name__ == '__main__':\n"
        "    cluster = Late(1, dashboard_address=None)\n"
        "    search = dhpo.Search({'x': (0.0, 1.0)}, lambda c: c.x, cluster=cluster, searcher='random')\n"
        "    search.run(2, progress=False)\n"
        "    print('interrupted', search.interrupted)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(int(number))], stdout=subprocess.PIPE, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "closed\ninterrupted False\n")
