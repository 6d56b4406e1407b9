"""Searches by jobs of a real Slurm, for tests: what they need, what they submit, and what is left of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slurm import Slurm, wait_until

import dhpo

ROOT = Path(__file__).parents[2]


class Jobs:
    """A directory with what a search needs, and the jobs that it submits."""

    def __init__(self, slurm: Slurm, directory: Path) -> None:
        self.slurm = slurm
        self.directory = directory
        self.scratch = directory / "scratch"
        self.scratch.mkdir()

    def cluster(self, n_workers: int, **arguments: Any) -> Any:
        """The cluster under test."""
        given = {
            "num_cpus": 1, "memory": "200MiB", "walltime": "00:10:00", "interface": "lo", "dashboard_address": None,
            "poll_interval": 1.0, "log_directory": self.directory / "jobs", "env": {"TMPDIR": str(self.scratch)},
        }  # fmt: skip
        return dhpo.Slurm(n_workers, **{**given, **arguments})

    def search(self, cluster: Any, trials: int, *watchers: Any, train: Any = None, **arguments: Any) -> dhpo.Results:
        """Run a search with trials that take as long as there is no file "go"; with it, no time."""
        go = self.directory / "go"

        def patient(config: Any, report: Any) -> float:
            import pathlib
            import time

            epoch = 0
            while not pathlib.Path(go).exists():
                epoch += 1
                time.sleep(0.05)
                report(epoch=epoch, objective=0.0)
            return float(config.x)

        search = dhpo.Search(
            {"x": (0.0, 1.0)},
            train or patient,
            searcher="random",
            stopper=dhpo.NeverStop(time_attr="epoch"),
            cluster=cluster,
            log_dir=self.directory / "run",
            random_state=1,
            **arguments,
        )
        results = search.run(num_trials=trials, progress=False, watchers=list(watchers))
        for watcher in watchers:
            if isinstance(watcher, Once):
                watcher.check()
        return results

    def running(self) -> list[str]:
        """The running jobs' numbers."""
        return self.slurm.call("squeue", "-h", "-t", "R", "-o", "%i").split()

    def submitted(self) -> int:
        """How many jobs were submitted so far."""
        return len(list(self.directory.glob("jobs/*/*.sh")))

    def check_clean(self) -> None:
        """Make sure that nothing is left of the jobs: not in the queue, not on the nodes, and no credentials."""
        wait_until(lambda: not self.slurm.call("squeue", "-h").strip(), "the end of all jobs")
        wait_until(lambda: not list(self.scratch.iterdir()), "the removal of the scratch directories")
        assert not list(self.directory.glob("jobs/*/tls"))
        assert not list(self.directory.glob("jobs/*/alive"))


class Once:
    """A watcher that does something, in another thread, once so many trials are running; then it lets them end."""

    def __init__(self, jobs: Jobs, running: int, action: Callable[[], Any]) -> None:
        self.jobs = jobs
        self.running = running
        self.action = action
        self.seen: set[int] = set()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.act)

    def act(self) -> None:
        try:
            self.action()
        except BaseException as error:
            self.error = error
        finally:
            (self.jobs.directory / "go").touch()

    def __call__(self, events: Any, study: Any) -> None:
        self.seen |= {event.trial for event in events if type(event).__name__ == "TrialReported"}
        if self.thread.ident is None and len(self.seen) >= self.running:
            self.thread.start()

    def check(self) -> None:
        """Raise what was raised in the thread."""
        self.thread.join()
        if self.error is not None:
            raise self.error


@pytest.fixture(name="jobs")
def jobs_fixture(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Jobs(slurm, tmp_path)
