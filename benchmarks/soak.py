"""A long search on many threads whose workers are killed at random: does anything grow, or get lost?

    python benchmarks/soak.py [--minutes 20] [--processes 5] [--threads 10] [--kill-every 20] [--seed 1]

A Dask scheduler and workers with nannies, each a process of its own; the driver is this one. From the first result on,
a worker process is killed every so often (``kill -9``). Memory, file descriptors and threads of all processes are read
twice a second. Of each process that lives long enough, the second quarter of its life is compared with the last one:
what it needs must not grow, but for what the driver keeps of each trial. In the end every trial must have ended once,
or still run. Exits with 1 where anything is not so.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from _common import parser, scratch, table

from dhpo import NeverStop, Search
from dhpo import journal as journals
from dhpo.events import Event, TrialCompleted, TrialFailed, TrialProposed, TrialReported, WorkerLost

#: Seconds between two readings; how many of a worker are left out, from when it has its threads; how many are judged.
EVERY, WARM, FEWEST = 0.5, 8, 12
#: What a process may grow by: a share of its memory and MB beside it, file descriptors, threads.
SHARE, MEGABYTES, DESCRIPTORS, THREADS = 0.15, 15.0, 12, 6
#: kB that the driver may keep of each trial (docs/performance.md).
PER_TRIAL = 4.0


def train(config: Any, report: Any) -> float:
    """About a second, five reports, and now and then an error."""
    for epoch in range(1, 6):
        time.sleep(config.seconds / 5)
        if config.x > 0.98 and epoch == 3:
            raise ValueError("as it happens")
        report(epoch=epoch, objective=config.x * epoch, note="n" * 100)
    return float(config.x * 5)


class Reading(NamedTuple):
    """What a process needs at one moment."""

    megabytes: float
    descriptors: float
    threads: float
    trials: float  # that had been proposed by then

    @classmethod
    def of(cls, pid: int, trials: int) -> Reading:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        n_threads = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[17])
        n_open = len(os.listdir(f"/proc/{pid}/fd"))
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, n_open, n_threads, trials)


@dataclass
class Gauge:
    """Reads the processes, and kills workers, until it is told to stop."""

    roles: Callable[[], dict[int, str]]
    kill_every: float
    n_threads: int
    seed: int
    trials: int = 0
    has_begun: bool = False
    n_kills: int = 0
    readings: dict[tuple[str, int], list[Reading]] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def __call__(self, events: Sequence[Event], study: object) -> None:
        """Count the trials, as a watcher of the search."""
        self.trials += sum(isinstance(event, TrialProposed) for event in events)
        self.has_begun = self.has_begun or any(isinstance(event, TrialCompleted) for event in events)

    def run(self) -> None:
        rng, due = random.Random(self.seed), 0.0
        while not self.over.wait(EVERY):
            roles = self.roles()
            if not self.has_begun:
                due = time.monotonic() + self.kill_every
                continue
            for pid, role in roles.items():
                with suppress(OSError):
                    self._note(role, pid, Reading.of(pid, self.trials))
            workers = [pid for role, pid in self.readings if role == "worker" and pid in roles]
            if time.monotonic() >= due and workers:
                due += self.kill_every
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(workers), signal.SIGKILL)
                    self.n_kills += 1

    def _note(self, role: str, pid: int, reading: Reading) -> None:
        if (role, pid) in self.readings or role != "worker" or reading.threads >= self.n_threads:
            self.readings.setdefault((role, pid), []).append(reading)


def children(pid: int) -> list[int]:
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


@contextmanager
def cluster(directory: Path, processes: int, threads: int) -> Iterator[tuple[str, Callable[[], dict[int, str]]]]:
    """A scheduler file, and what tells the role of each process."""
    file = directory / "scheduler.json"
    common = ("--scheduler-file", str(file), "--no-dashboard")
    own = ("--nthreads", str(threads), "--nanny", "--memory-limit", "0")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": directory}
    root = str(Path(__file__).parents[1])
    quiet["env"] = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    dask = [sys.executable, "-m", "dask"]
    scheduler = subprocess.Popen([*dask, "scheduler", *common, "--port", "0"], **quiet)
    nannies: list[subprocess.Popen[bytes]] = []

    def roles() -> dict[int, str]:
        nannies[:] = [nanny for nanny in nannies if nanny.poll() is None]
        while len(nannies) < processes:  # one whose worker is killed as it starts gives up
            nannies.append(subprocess.Popen([*dask, "worker", *common, *own], **quiet))
        known = {os.getpid(): "driver", scheduler.pid: "scheduler"} | {nanny.pid: "nanny" for nanny in nannies}
        workers = [pid for nanny in nannies for pid in children(nanny.pid) if b"spawn_main" in command_of(pid)]
        return known | dict.fromkeys(workers, "worker")

    roles()
    try:
        yield str(file), roles
    finally:
        for process in (*nannies, scheduler):
            process.terminate()
        for process in (*nannies, scheduler):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def quarter(readings: Sequence[Reading], which: int) -> Reading:
    """The median of a quarter of a process's life."""
    length = len(readings) // 4
    return Reading(*map(statistics.median, zip(*readings[which * length : (which + 1) * length], strict=True)))


def rows_of(readings: dict[tuple[str, int], list[Reading]]) -> list[tuple[object, ...]]:
    """Of each role the process that grew most, and whether that is too much."""
    worst: dict[str, tuple[float, tuple[object, ...]]] = {}
    for (role, _), whole in readings.items():
        series = whole[WARM:]
        if len(series) < FEWEST:
            continue
        before, after = quarter(series, 1), quarter(series, 3)
        room = SHARE * before.megabytes + MEGABYTES
        room += PER_TRIAL * (after.trials - before.trials) / 1024 if role == "driver" else 0.0
        shares = [
            (after.megabytes - before.megabytes) / room,
            (after.descriptors - before.descriptors) / DESCRIPTORS,
            (after.threads - before.threads) / THREADS,
        ]
        figures = (
            f"{before.megabytes:.0f} → {after.megabytes:.0f}",
            f"{before.descriptors:g} → {after.descriptors:g}",
            f"{before.threads:g} → {after.threads:g}",
        )
        grown = max(shares)
        n_seconds = round(len(series) * EVERY)
        row = (role, n_seconds, *figures, "flat" if grown <= 1 else "GROWS")
        worst[role] = max(worst.get(role, (grown, row)), (grown, row))
    return [row for _, row in sorted(worst.values(), key=lambda found: str(found[1][0]))]


def defects(directory: Path) -> Iterator[str]:
    """What is not as it should be in the journal."""
    events = [event for batch in journals.read(directory)[1] for event in batch]
    proposed = [e.trial for e in events if isinstance(e, TrialProposed)]
    ends = Counter(e.trial for e in events if isinstance(e, TrialCompleted | TrialFailed))
    reports = Counter((e.trial, e.attempt, e.index) for e in events if isinstance(e, TrialReported))
    failures = {e.error for e in events if isinstance(e, TrialFailed)}
    if proposed != list(range(len(proposed))):
        yield "trials are missing, or there twice"
    if set(ends.values()) - {1}:
        yield f"trials that ended more than once: {[t for t, n in ends.items() if n > 1][:10]}"
    if set(reports.values()) - {1}:
        yield "reports that count twice"
    if failures - {"ValueError: as it happens"}:
        yield f"unexpected failures: {list(failures)[:3]}"
    lost = sum(isinstance(e, WorkerLost) for e in events)
    print(f"\n{len(proposed)} trials, {sum(ends.values())} ended, {len(reports)} reports, {lost} lost with a worker")


def main() -> None:
    arguments = parser(__doc__, repeats=None)
    arguments.add_argument("--minutes", type=float, default=20.0)
    arguments.add_argument("--processes", type=int, default=5, help="of workers")
    arguments.add_argument("--threads", type=int, default=10, help="of each, and so trials at once")
    arguments.add_argument("--kill-every", type=float, default=20.0, help="seconds")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    with scratch() as directory, cluster(directory, given.processes, given.threads) as (address, roles):
        gauge = Gauge(roles, given.kill_every, given.threads, given.seed)
        search = Search(
            {"x": (0.0, 1.0), "seconds": (0.5, 2.0)}, train, cluster=address, stopper=NeverStop("epoch"),
            searcher="random", random_state=given.seed, max_failures=None, log_dir=directory / "run",
        )  # fmt: skip
        reader = threading.Thread(target=gauge.run)
        reader.start()
        try:
            search.run(time_out=60 * given.minutes, progress=sys.stderr.isatty(), watchers=[gauge])
        finally:
            gauge.over.set()
            reader.join()
        wrong = list(defects(directory / "run"))
        wrong += [f"threads left in the driver: {left}" for left in [threading.enumerate()[1:]] if len(left) > 4]
    rows = rows_of(gauge.readings)
    wrong += [f"the {row[0]} grows" for row in rows if row[-1] == "GROWS"]
    judged = {row[0] for row in rows}
    wrong += [f"no {role} lived long enough" for role in ("driver", "scheduler", "worker") if role not in judged]
    table(
        f"{given.minutes:g} minutes, {given.processes} × {given.threads} threads, {gauge.n_kills} workers killed",
        ("process", "seconds", "memory (MB)", "file descriptors", "threads", "verdict"),
        rows,
    )
    print(*(f"WRONG: {text}" for text in wrong), sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
