"""How much the driver and the Dask scheduler grow with the number of trials: no-op trials, random search, a journal.

    python benchmarks/memory.py [--trials 100000] [--cases threads dask]

Each case is a process of its own, and so are Dask's scheduler and its two workers. Resident memory is read after 10 %,
50 % and 100 % of the trials; what grows after the first 10 % counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from _common import in_process, parser, problem, scratch, table, verdict

from dhpo import LocalExecutor, Search
from dhpo.events import Event
from dhpo.study import Study
from dhpo.trial import Configuration

SHARES = (0.1, 0.5, 1.0)


def noop(config: Configuration) -> float:
    return float(config["x"])


def resident(pid: int) -> float:
    """Resident memory of a process in kB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


class Gauge:
    """Reads the memory of some processes when as many trials have ended."""

    def __init__(self, trials: int, pids: Sequence[int]) -> None:
        self.pids = pids
        self.left = [round(share * trials) for share in SHARES]
        self.found: list[list[float]] = []

    def __call__(self, events: Sequence[Event], study: Study) -> None:
        while self.left and study.n_ended >= self.left[0]:
            self.left.pop(0)
            self.found.append([resident(pid) for pid in self.pids])


def measure(cluster: Any, trials: int, ahead: int, processes: dict[str, int]) -> dict[str, Any]:
    gauge = Gauge(trials, list(processes.values()))
    with scratch() as directory:
        search = Search(problem(), noop, cluster=cluster, searcher="random", log_dir=directory / "search", ahead=ahead)
        start = time.perf_counter()
        search.run(trials, progress=False, watchers=[gauge])
        rate = trials / (time.perf_counter() - start)
    return {"rss": dict(zip(processes, zip(*gauge.found, strict=True), strict=True)), "rate": rate}


@contextmanager
def dask_processes() -> Iterator[tuple[Any, int]]:
    """A client of a scheduler and two workers, each a process of its own; and the scheduler's process id."""
    from distributed import Client

    with scratch() as directory, ExitStack() as stack:
        file = directory / "scheduler.json"

        def process(what: str, *options: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "distributed.cli.dask_" + what, *options, "--scheduler-file", str(file)]
            started = subprocess.Popen(command, cwd=directory, env=environment(), stderr=subprocess.DEVNULL)
            stack.callback(started.wait)
            stack.callback(started.terminate)
            return started

        scheduler = process("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard")
        for _ in range(2):
            process("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")
        while not file.exists():
            time.sleep(0.05)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2)
            yield client, scheduler.pid


def environment() -> dict[str, str]:
    """The variables with which the workers find what this process can import."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).absolute()) for p in sys.path if p)}


def case(name: str, trials: int) -> dict[str, Any]:
    if name == "threads":
        return measure(LocalExecutor(2), trials, 0, {"driver": os.getpid()})
    with dask_processes() as (client, scheduler):
        return measure(client, trials, 64, {"driver": os.getpid(), "scheduler": scheduler})


def main() -> None:
    arguments = parser(__doc__, repeats=None)
    arguments.add_argument("--trials", type=int, default=100_000)
    arguments.add_argument("--cases", nargs="+", choices=("threads", "dask"), default=("threads", "dask"))
    arguments.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.case:
        print(json.dumps(case(args.case[0], int(args.case[1]))))
        return
    rows = []
    n = [share * args.trials for share in SHARES]
    for name in args.cases:
        found = in_process(__file__, "--case", name, args.trials)
        for process, rss in found["rss"].items():
            halves = [(rss[i + 1] - rss[i]) / (n[i + 1] - n[i]) for i in range(2)]
            growth = (rss[-1] - rss[0]) / (n[-1] - n[0])
            shown = [f"{kb / 1024:.0f}" for kb in rss]
            rates = [f"{kb:.2f}" for kb in halves]
            rows.append((name, process, *shown, *rates, f"{growth:.2f}", "<= 2", verdict(growth, most=2)))
    header = ("executor", "process", "MB at 10 %", "at 50 %", "at 100 %", "kB/trial, 10-50 %", "50-100 %", "10-100 %")
    table(f"Resident memory, {args.trials:,} trials", (*header, "target", ""), rows)


if __name__ == "__main__":
    main()
