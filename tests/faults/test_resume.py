"""A driver that is killed, at moments drawn by a seeded generator, and started again until its search is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhpo import HpProblem, Hyperband, Results, Search
from dhpo import journal as journals
from dhpo.events import Decide, Event, SessionOpened, TrialCompleted, TrialFailed, TrialProposed, TrialReported
from dhpo.objectives import Objectives
from dhpo.study import Study
from dhpo.trial import Decision, Status

N_TRIALS = 18
STOPPER = Hyperband(max_t=5, grace_period=1, reduction_factor=3)

DRIVER = '''
import os, sys, time
from pathlib import Path
from dhpo import Hyperband, Search
from dhpo.clusters.local import Local

directory, cluster = Path(sys.argv[1]), sys.argv[2]

def note(text):
    descriptor = os.open(directory / "runs.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (text + "\\n").encode())
    os.close(descriptor)

def train(config, report):
    if config.layers == (9,):
        raise ValueError("nine")
    state = report.checkpoint_dir / "epoch"
    first = int(state.read_text()) + 1 if state.exists() else 1
    note(f"{report.trial} {report.attempt} {first}")
    for epoch in range(first, 6):
        time.sleep(0.01)
        new = state.with_name(f"new-{report.attempt}")
        new.write_text(str(epoch))
        os.replace(new, state)
        report(epoch=epoch, objective=config.x * epoch, layers=list(config.layers))

if __name__ == "__main__":
    search = Search(
        {"x": (0.0, 1.0), "layers": [(9,), (3, 3), (4, 4, 4), (5,)]}, train,
        stopper=Hyperband(max_t=5, grace_period=1, reduction_factor=3), searcher=sys.argv[3], random_state=5,
        cluster=Local(2, dashboard_address=None) if cluster == "local" else cluster, log_dir=directory,
    )
    results = search.run(18, progress=False)
    print("interrupted" if search.interrupted else "done", len(results))
'''  # fmt: skip


class Driver:
    """Starts the driver's script, again and again, on one directory."""

    def __init__(self, directory: Path, cluster: str, searcher: str = "random") -> None:
        self.directory = directory / "run"
        self.journal = self.directory / "journal.jsonl"
        script = directory / "driver.py"
        script.write_text(DRIVER)
        root = str(Path(__file__).parents[2])
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
        self._command = [sys.executable, str(script), str(self.directory), cluster, searcher]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, env=self._environment, stdout=subprocess.PIPE, text=True)

    def lines(self) -> int:
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def end_after(self, n_lines: int, number: int) -> subprocess.Popen[str]:
        """Start a driver, and send it a signal once it has written so many lines more."""
        goal = self.lines() + n_lines
        process = self.start()
        deadline = time.monotonic() + 30
        while self.lines() < goal and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(number)
        process.wait(30)
        return process

    def finish(self) -> str:
        process = self.start()
        told, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return told.strip()

    def runs(self) -> list[tuple[int, int, int]]:
        """(trial, attempt, first epoch) of each call of the run function."""
        lines = (self.directory / "runs.txt").read_text().splitlines()
        return [tuple(map(int, line.split())) for line in lines]  # type: ignore[misc]

    def events(self) -> list[Event]:
        return [event for batch in journals.read(self.directory)[1] for event in batch]


def check(driver: Driver) -> None:
    """What must hold of a search that was interrupted any number of times and then finished."""
    results, events = Results.load(driver.directory), driver.events()
    assert len(results) == N_TRIALS
    assert set(results.statuses().values()) <= {Status.COMPLETED, Status.STOPPED, Status.FAILED}
    ends = Counter(e.trial for e in events if isinstance(e, TrialCompleted | TrialFailed))
    assert ends == dict.fromkeys(range(N_TRIALS), 1)
    proposed = [e for e in events if isinstance(e, TrialProposed)]
    assert [e.trial for e in proposed] == list(range(N_TRIALS))
    assert len({repr(e.config) for e in proposed}) == N_TRIALS

    # No finished trial ran again; none ran twice in one attempt.
    last = {e.trial: e.attempt for e in events if isinstance(e, TrialCompleted | TrialFailed)}
    runs = driver.runs()
    assert len({run[:2] for run in runs}) == len(runs)
    assert all(attempt <= last[trial] for trial, attempt, _ in runs)
    # An attempt began after what was reported before it.
    for trial, attempt, first in runs:
        epochs = [
            e.resource for e in events if isinstance(e, TrialReported) and e.trial == trial and e.attempt < attempt
        ]
        assert first > max(epochs, default=0)
    nines = {e.trial for e in proposed if e.config["layers"] == [9]}
    assert {t for t, s in results.statuses().items() if s is Status.FAILED} == nines

    # The decisions of a replay are those that were taken.
    study = Study(Objectives.parse(), STOPPER.bind(1, max_t=None, seed=5), seed=5)
    stopped = set()
    for event in events:
        for command in study.apply(event):
            if isinstance(command, Decide) and command.decision is Decision.STOP:
                stopped.add(command.trial)
    assert stopped == {e.trial for e in events if isinstance(e, TrialCompleted) and e.stopped}
    assert stopped == {t for t, s in results.statuses().items() if s is Status.STOPPED}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_serial_driver_killed_again_and_again(tmp_path: Path, seed: int) -> None:
    driver, rng = Driver(tmp_path, "serial"), np.random.default_rng(seed)
    for _ in range(3):
        driver.end_after(int(rng.integers(1, 30)), signal.SIGKILL)
    assert driver.finish() == f"done {N_TRIALS}"
    check(driver)
    before = driver.journal.read_bytes()
    assert driver.finish() == f"done {N_TRIALS}"  # nothing is left to do, and nothing is written
    assert driver.journal.read_bytes() == before
    # A random search proposes what an uninterrupted one does.
    space = {"x": (0.0, 1.0), "layers": [(9,), (3, 3), (4, 4, 4), (5,)]}
    whole = Search(space, lambda c: c.x, searcher="random", random_state=5, cluster="serial", stopper=STOPPER)
    configs = whole.run(N_TRIALS, progress=False).config_history
    assert Results.load(driver.directory).config_history == configs


def test_a_driver_with_dask_workers_killed_again_and_again(tmp_path: Path) -> None:
    driver, rng = Driver(tmp_path, "local", "sobol"), np.random.default_rng(3)
    for _ in range(2):
        driver.end_after(int(rng.integers(3, 15)), signal.SIGKILL)
    assert driver.finish() == f"done {N_TRIALS}"
    check(driver)


def test_a_model_based_search_killed_and_resumed(tmp_path: Path) -> None:
    driver = Driver(tmp_path, "threads", "cbo")
    driver.end_after(40, signal.SIGKILL)
    assert driver.finish() == f"done {N_TRIALS}"
    check(driver)


@pytest.mark.parametrize(
    ("cluster", "number"), [("serial", signal.SIGTERM), ("local", signal.SIGINT), ("local", signal.SIGTERM)]
)
def test_a_signal_ends_the_driver_cleanly(tmp_path: Path, cluster: str, number: int) -> None:
    driver = Driver(tmp_path, cluster)
    process = driver.end_after(8, number)
    assert process.returncode == 0
    told = process.stdout.read().split() if process.stdout else []
    assert told[0] == "interrupted"
    assert driver.finish() == f"done {N_TRIALS}"
    check(driver)
    assert sum(isinstance(e, SessionOpened) for e in driver.events()) == 2


def test_a_trial_that_had_reported_all_but_not_ended_is_complete(tmp_path: Path) -> None:
    """The driver died after the last report and before the end: the next attempt finds nothing left to do."""
    calls: list[Any] = []

    def train(config: Any, report: Any) -> None:
        state = report.checkpoint_dir / "done"
        calls.append(state.exists())
        if not state.exists():
            state.touch()
            report(objective=1.0)

    def search(directory: Path) -> Search:
        return Search(HpProblem({"x": (0.0, 1.0)}), train, cluster="serial", searcher="random", log_dir=directory)

    search(tmp_path / "first").run(1, progress=False)
    header, batches = journals.read(tmp_path / "first")
    events = [e for batch in batches for e in batch]
    ends = [type(e) for e in events].index(TrialCompleted)
    with journals.FileJournal.open(tmp_path / "second", header) as cut:
        cut.append(events[:ends])
    os.rename(tmp_path / "first" / "checkpoints", tmp_path / "second" / "checkpoints")
    results = search(tmp_path / "second").run(1, progress=False)
    assert calls == [False, True]
    assert list(results.statuses().values()) == [Status.COMPLETED]
    assert results.best().values == {"objective": 1.0}
