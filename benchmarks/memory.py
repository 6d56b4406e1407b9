"""How much the driver grows with the number of trials: no-op trials, random search, a durable journal.

    python benchmarks/memory.py [--threads-trials 50000] [--dask-trials 20000]

Each case is a process of its own; with Dask, the scheduler lives in it. Resident memory is read after 10 %, 50 % and
100 % of the trials; what grows after the first 10 % counts.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from typing import Any

from _common import in_process, local_client, parser, problem, scratch, table, verdict

from dhpo import LocalExecutor, Search
from dhpo.events import Event
from dhpo.study import Study
from dhpo.trial import Configuration

SHARES = (0.1, 0.5, 1.0)


def noop(config: Configuration) -> float:
    return float(config["x"])


def resident() -> float:
    """Resident memory of this process in kB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


class Gauge:
    """Reads the memory when as many trials have ended."""

    def __init__(self, trials: int) -> None:
        self.left = [round(share * trials) for share in SHARES]
        self.found: list[float] = []

    def __call__(self, events: Sequence[Event], study: Study) -> None:
        while self.left and study.n_ended >= self.left[0]:
            self.left.pop(0)
            self.found.append(resident())


def measure(cluster: Any, trials: int, ahead: int) -> dict[str, Any]:
    gauge = Gauge(trials)
    with scratch() as directory:
        search = Search(problem(), noop, cluster=cluster, searcher="random", log_dir=directory / "search", ahead=ahead)
        start = time.perf_counter()
        search.run(trials, progress=False, watchers=[gauge])
        return {"rss": gauge.found, "rate": trials / (time.perf_counter() - start)}


def case(name: str, trials: int) -> dict[str, Any]:
    if name == "threads":
        return measure(LocalExecutor(2), trials, 0)
    with local_client() as client:
        return measure(client, trials, 64)


def main() -> None:
    arguments = parser(__doc__, repeats=None)
    arguments.add_argument("--threads-trials", type=int, default=50_000)
    arguments.add_argument("--dask-trials", type=int, default=20_000)
    arguments.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.case:
        print(json.dumps(case(args.case[0], int(args.case[1]))))
        return
    rows = []
    for name, trials in (("threads", args.threads_trials), ("dask", args.dask_trials)):
        found = in_process(__file__, "--case", name, trials)
        rss = found["rss"]
        n = [share * trials for share in SHARES]
        halves = [(rss[i + 1] - rss[i]) / (n[i + 1] - n[i]) for i in range(2)]
        growth = (rss[-1] - rss[0]) / (n[-1] - n[0])
        shown = [f"{kb / 1024:.0f}" for kb in rss]
        rates = [f"{kb:.2f}" for kb in halves]
        rows.append((name, f"{trials:,}", *shown, *rates, f"{growth:.2f}", "<= 2", verdict(growth, most=2)))
    header = ("executor", "trials", "MB at 10 %", "at 50 %", "at 100 %", "kB/trial, 10-50 %", "50-100 %", "10-100 %")
    table("Resident memory of the driver", (*header, "target", ""), rows)


if __name__ == "__main__":
    main()
