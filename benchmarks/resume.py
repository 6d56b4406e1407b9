"""Resume: how long a journal takes to be read back, and what a killed driver loses.

    python benchmarks/resume.py [--repeats 5] [--large 100000] [--reports 50] [--peers optuna]

The journals are written through ``FileJournal`` from a study that decides. Read back means that ``Session(...)`` is
open: each event decoded and folded into the study, the rungs as they were, the searcher told everything.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _peers
import numpy as np
from _common import parser, scratch, table, verdict

from dhpo import HpProblem, Hyperband, NeverStop
from dhpo.events import Event, Start, TrialCompleted, TrialProposed, TrialReported
from dhpo.journal import read
from dhpo.objectives import Objectives
from dhpo.searchers import resolve
from dhpo.session import Session, Setup
from dhpo.stopping.base import Stopper
from dhpo.trial import Configuration, Decision, Proposal

WORKERS = 100
BATCH = 1000
WORKER = "tcp://10.0.0.1:40000"
KILL_AT, KILL_TRIALS = 30, 60

DRIVER = """
import os, sys, time
from dhpo import HpProblem, Search
from dhpo.clusters.local import Local

def train(config):
    time.sleep(0.05)
    with open(os.environ["RUNS"], "a") as file:
        file.write(f"{{config['x']!r}}\\n")
    return config["x"]

if __name__ == "__main__":
    Search(HpProblem({{"x": (0.0, 1.0)}}), train, cluster=Local(2), log_dir=sys.argv[1]).run({trials}, progress=False)
"""


def space() -> HpProblem:
    return HpProblem(
        {
            "lr": (1e-5, 1e-1, "log-uniform"),
            "dropout": (0.0, 0.9),
            "width": (16, 1024, "log-uniform"),
            "depth": (1, 12),
            "activation": ["relu", "gelu", "tanh"],
        }
    )


def setup(searcher: str, stopper: Stopper) -> Setup:
    return Setup(space(), Objectives.parse({"score": "MAX"}), stopper, resolve(searcher), 1, None)


class Generator:
    """A search's events as ``WORKERS`` trials at a time would make them, decided by a real study."""

    def __init__(self, session: Session, trials: int, reports: int, *, improving: bool) -> None:
        self.study = session.study
        self.trials = trials
        self.reports = reports
        self.scores = np.linspace(0.0, 1.0, trials) if improving else np.random.default_rng(0).random(trials)
        self.configs = space().sample(trials, 0)
        self.opened = session.opened(0.0)

    def events(self) -> Iterator[Event]:
        """All events in order, each applied."""
        self.study.apply(self.opened)
        yield self.opened
        for first in range(0, self.trials, WORKERS):
            numbers = range(first, min(first + WORKERS, self.trials))
            proposals = [Proposal(self.configs[i], "model", first) for i in numbers]
            starts = []
            for proposed in self.study.admit(proposals, float(first)):
                starts += [c for c in self.study.apply(proposed) if isinstance(c, Start)]
                yield proposed
            yield from self._rounds(starts, float(first))

    def _rounds(self, starts: list[Start], now: float) -> Iterator[Event]:
        """Every running trial reports its next epoch, until all have ended."""
        began = now
        for epoch in range(1, self.reports + 1):
            now = round(now + 0.37, 6)
            going = []
            for start in starts:
                score = float(self.scores[start.trial])
                values = {"epoch": epoch, "score": round(score - 0.5 / epoch, 6), "seconds": 0.3712}
                event = TrialReported(now, start.trial, 1, epoch, epoch, values)
                yield event
                decisions = [getattr(c, "decision", None) for c in self.study.apply(event)]
                if Decision.STOP in decisions:
                    yield self._end(start, None, True, began, now)
                else:
                    going.append(start)
            starts = going
        for start in starts:
            result = None if self.reports else {"score": float(self.scores[start.trial])}
            yield self._end(start, result, False, began, now)

    def _end(self, start: Start, values: Any, stopped: bool, began: float, now: float) -> TrialCompleted:
        event = TrialCompleted(now, start.trial, 1, values, {}, stopped, began, now, WORKER)
        self.study.apply(event)
        return event


def write(directory: Path, made: Setup, trials: int, reports: int, *, improving: bool) -> int:
    """Write a journal; return its number of reports."""
    session = Session(made, directory)
    batch: list[Event] = []
    count = 0
    try:
        for event in Generator(session, trials, reports, improving=improving).events():
            batch.append(event)
            count += isinstance(event, TrialReported)
            if len(batch) == BATCH:
                session.journal.append(batch)
                batch = []
        session.journal.append(batch)
    finally:
        session.close()
    return count


def opened(directory: Path, made: Setup, trials: int) -> float:
    """Seconds until the session is open."""
    start = time.perf_counter()
    session = Session(made, directory)
    took = time.perf_counter() - start
    assert len(session.study.trials) == trials
    assert session.study.n_running == 0
    session.close()
    return took


def read_back(directory: Path, repeats: int, large: int, reports: int) -> list[tuple[object, ...]]:
    halving = Hyperband(time_attr="epoch", max_t=max(reports, 2) + 1)
    cases: list[tuple[str, int, int, bool, Stopper, float | None]] = [
        ("10,000 trials without reports", 10_000, 0, False, NeverStop(), 1.0),
        (f"{large:,} trials, Hyperband stops", large, reports, False, halving, None),
        (f"{large:,} trials, all go on", large, reports, True, halving, 10.0),
    ]
    rows: list[tuple[object, ...]] = []
    for name, trials, epochs, improving, stopper, bound in cases:
        place = directory / name.replace(" ", "-")
        count = write(place, setup("random", stopper), trials, epochs, improving=improving)
        size = sum(f.stat().st_size for f in place.iterdir()) / 1e6
        for searcher in ("random", "cbo"):
            n = repeats if trials <= 10_000 else max(1, repeats // 2)
            took = statistics.median(opened(place, setup(searcher, stopper), trials) for _ in range(n))
            target, result = ("", "") if bound is None else (f"<= {bound:g}", verdict(took, most=bound))
            rows.append((name, f"{count:,}", f"{size:.0f}", searcher, f"{took:.2f}", target, result))
    return rows


def killed(directory: Path) -> tuple[int, int, int]:
    """Kill a driver with SIGKILL, run the same command again; trials done before, lost, and run again."""
    script, home, runs = directory / "driver.py", directory / "killed", directory / "runs.txt"
    script.write_text(DRIVER.format(trials=KILL_TRIALS))
    command = [sys.executable, str(script), str(home)]
    environment = {**os.environ, "RUNS": str(runs), "DASK_TEMPORARY_DIRECTORY": str(directory)}
    driver = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while len(ends(home)) < KILL_AT:
        if driver.poll() is not None:
            raise RuntimeError("the driver ended before it could be killed")
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = ends(home)
    subprocess.run(command, env=environment, check=True)
    after = ends(home)
    assert len(after) == KILL_TRIALS
    ran = Counter(float(line) for line in runs.read_text().split())
    lost = sum(after.get(number) != config for number, config in before.items())
    again = sum(ran[config["x"]] > 1 for config in before.values())
    return len(before), lost, again


def ends(directory: Path) -> dict[int, Configuration]:
    """The configurations of the completed trials, as the journal tells them."""
    if not (directory / "journal.jsonl").exists() or not (directory / "journal.jsonl").stat().st_size:
        return {}
    configs: dict[int, Any] = {}
    done = {}
    for batch in read(directory)[1]:
        for event in batch:
            if isinstance(event, TrialProposed):
                configs[event.trial] = event.config
            elif isinstance(event, TrialCompleted):
                done[event.trial] = configs[event.trial]
    return done


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--large", type=int, default=100_000, help="trials of the large journals")
    arguments.add_argument("--reports", type=int, default=50, help="reports per trial there")
    arguments.add_argument("--peer-trials", type=int, default=10_000, help="in the journals of the peers, no reports")
    _peers.add_option(arguments, "resume")
    args = arguments.parse_args()
    with scratch() as directory:
        done, lost, again = killed(directory)
        rows = read_back(directory, args.repeats, args.large, args.reports)
    for name, figures in _peers.each(args.peers, "resume", args.peer_trials, 0):
        rows.append((f"{args.peer_trials:,} trials without reports", 0, "", name, f"{figures['seconds']:.2f}", "", ""))
    kill_rows = [
        ("trials finished when the driver was killed", done, "", ""),
        ("lost", lost, "0", verdict(lost, most=0)),
        ("finished ones run again", again, "0", verdict(again, most=0)),
    ]
    table(f"kill -9 of the driver at {KILL_AT} of {KILL_TRIALS} trials", ("what", "trials", "target", ""), kill_rows)
    header = ("journal", "reports", "MB", "searcher", "seconds", "target", "")
    table("Seconds until the search is as it was", header, rows)


if __name__ == "__main__":
    main()
