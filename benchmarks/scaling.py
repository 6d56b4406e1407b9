"""Past this machine: 10 to 10,000 workers under a virtual clock, with what the control channel costs put in.

    python benchmarks/scaling.py workers     utilisation, and how busy the scheduler, the driver and the searcher are
    python benchmarks/scaling.py quality     the regret over time and over trials, with the model and without
    python benchmarks/scaling.py durations   how short trials may be
    python benchmarks/scaling.py reports     how many reports workers may make
    python benchmarks/scaling.py limits      where each resource's limit lies, by the costs put in
    python benchmarks/scaling.py costs       what the scheduler and the driver take, measured on a real cluster
    python benchmarks/scaling.py plot        docs/figures/scaling-*.svg of what --out holds

A trial trains for 9 epochs, for 1 to 60 minutes (log-uniform); Hyperband stops at epochs 1 and 3. Workers queue for up
to 10 minutes, their jobs last 2 to 4 hours (with 10,000 workers 2.5 minutes, and 1/8 to 1/4 hours), 5 % are three times
slower, 2 % die per hour. The learning curves are made up; ``quality --lcbench DATA_SET`` takes those of LCBench (see
``quality/run.py``). What a real scheduler takes with thousands of workers is measured by ``_standins.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import _common
import _scaling_plots
from _curves import Curves, lcbench, made_up

from dhpo import Hyperband, NeverStop, Search, Simulated
from dhpo.events import TrialProposed, TrialReported
from dhpo.executors.simulated import Costs, Statistics

MEAN_RUN = 200.0  # seconds that a run takes on average, until it is stopped or complete


class Site(NamedTuple):
    """How long a search lasts, in hours, and the workers' jobs, in seconds."""

    hours: float
    walltime: tuple[float, float] = (7200.0, 14400.0)
    startup: float = 600.0


#: By workers: as many hours as fit into some minutes of this machine.
SITES = {10: Site(24.0), 100: Site(12.0), 1_000: Site(4.25), 10_000: Site(0.3, (450.0, 900.0), 150.0)}
MODEL_HOURS = {10: 12.0, 100: 2.0, 1_000: 0.5, 10_000: 0.15}
_HOUR_MARKS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 12.0)
_TRIAL_MARKS = (100, 300, 1_000, 3_000, 10_000, 30_000)


def cluster(workers: int, site: Site, costs: Costs) -> Simulated:
    """Workers as a batch system gives them."""
    return Simulated(
        workers, startup=(0.0, site.startup), walltime=site.walltime, deaths_per_hour=0.02, stragglers=(0.05, 3.0),
        checkpoints=True, costs=costs, seed=workers,
    )  # fmt: skip


def simulate(
    workers: int,
    site: Site,
    *,
    curves: Curves | None = None,
    searcher: str = "random",
    costs: Costs | None = None,
    stopper: Any = None,
    seed: int = 0,
) -> tuple[Statistics, dict[str, Any]]:
    """One search; its statistics, the regret over time and over trials, and what it took here."""
    curves = curves or made_up()
    regrets: list[tuple[float, int, float]] = []
    figure, n_trials = curves.figure(), 0

    def watch(events: Sequence[Any], study: Any) -> None:
        nonlocal n_trials
        for event in events:
            if type(event) is TrialProposed:
                n_trials += 1
            elif type(event) is TrialReported:
                regret = figure(event.values)
                if not regrets or regret < regrets[-1][2]:
                    regrets.append((event.time, n_trials, regret))

    executor = cluster(workers, site, costs or Costs())
    began, cpu = time.perf_counter(), time.process_time()
    with _common.scratch() as directory:
        rungs = Hyperband(time_attr="epoch", max_t=curves.epochs, grace_period=1, reduction_factor=3, brackets=1)
        search = Search(
            curves.problem, curves.train, objectives=curves.objectives, searcher=searcher, cluster=executor,
            stopper=stopper or rungs, log_dir=directory / "search", random_state=seed, max_failures=None,
        )  # fmt: skip
        search.run(time_out=3600 * site.hours, progress=False, watchers=[watch])
        size = (directory / "search" / "journal.jsonl").stat().st_size
    extra = {
        "workers": workers, "hours": site.hours, "proposes": searcher, "seed": seed, "curves": curves.name,
        "objectives": len(curves.objectives), "regrets": regrets, "proposed": n_trials, "journal_bytes": size,
        "wall": time.perf_counter() - began, "cpu": time.process_time() - cpu,
    }  # fmt: skip
    return executor.statistics(), extra


def keep(arguments: Namespace, name: str, statistics: Statistics, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Write a run down, for the plots."""
    row = {"name": name, "utilisation": statistics.utilisation, **asdict(statistics), **extra}
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with open(arguments.out / f"{arguments.what}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    return row


def per_second(row: Mapping[str, Any], key: str) -> str:
    """A rate."""
    return f"{row[key] / row['elapsed']:,.3g}"


def share(value: float) -> str:
    """A share, in per cent."""
    return f"{100 * value:.3g} %"


def by_workers(arguments: Namespace) -> None:
    """The table of utilisation."""
    rows = []
    for workers in arguments.workers:
        site = SITES.get(workers, Site(1.0))
        site = site._replace(hours=arguments.hours or site.hours)
        row = keep(arguments, f"{workers}", *simulate(workers, site))
        rows.append(
            [
                f"{workers:,}", f"{site.hours:g}", f"{row['trials']:,}", f"{row['joined']:,}",
                f"{row['utilisation']:.4f}", share(row["lost"] / row["busy"]),
                *(per_second(row, what) for what in ("trials", "reports", "decisions")),
                f"{row['journal_bytes'] / row['elapsed'] / 1000:,.3g}", *_shares(row),
                f"{1000 * row['gaps'][0]:.0f}, {1000 * row['gaps'][2]:.0f}", f"{1000 * row['cpu'] / row['trials']:.2f}",
            ]
        )  # fmt: skip
    header = [
        "workers", "hours", "runs", "jobs", "utilisation", "lost", "runs/s", "reports/s", "decisions/s", "journal kB/s",
        *_SERVERS, "gap p50, p99, ms", "simulator ms/run",
    ]  # fmt: skip
    _common.table("Trials of 1 to 60 minutes, random search, Hyperband, journal", header, rows)


_SERVERS = ("scheduler", "driver", "journal", "searcher")


def _shares(row: Mapping[str, Any]) -> list[str]:
    return [share(row[server]["share"]) for server in _SERVERS]


def quality(arguments: Namespace) -> None:
    """The regret over time and over trials, with the model and without, means over the data sets and the seeds."""
    problems = [lcbench(name, objectives=arguments.objectives) for name in arguments.lcbench or ()] or [made_up()]
    rows = []
    for workers in arguments.workers:
        hours = arguments.hours or MODEL_HOURS.get(workers, 0.25)
        for searcher in arguments.searchers:
            found = [
                _searched(arguments, curves, workers, hours, searcher, seed)
                for curves in problems for seed in arguments.seeds
            ]  # fmt: skip
            runs = fmean(row["proposed"] for row in found)
            by_hours = [_at(found, 0, 3600 * m) if m <= hours else "" for m in _HOUR_MARKS]
            by_trials = [_at(found, 1, m) if m <= min(row["proposed"] for row in found) else "" for m in _TRIAL_MARKS]
            rows.append([f"{workers:,}", searcher, f"{len(found)}", f"{runs:,.0f}", *by_hours, *by_trials])
    marks = [*(f"{m:g} h" for m in _HOUR_MARKS), *(f"{m:,} trials" for m in _TRIAL_MARKS)]
    what = f"Regret, {', '.join(curves.name for curves in problems)}, {len(problems[0].objectives)} objective(s)"
    _common.table(what, ["workers", "searcher", "runs", "trials", *marks], rows)


def _searched(
    arguments: Namespace, curves: Curves, workers: int, hours: float, searcher: str, seed: int
) -> dict[str, Any]:
    """One run, or what --out holds of it."""
    name = f"{curves.name} {len(curves.objectives)} {workers} {searcher} {seed}"
    path = arguments.out and arguments.out / "quality.jsonl"
    if path and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            row: dict[str, Any] = json.loads(line)
            if (row["name"], row["hours"]) == (name, hours):
                return row
    found = simulate(workers, Site(hours, startup=60.0), curves=curves, searcher=searcher, seed=seed)
    return keep(arguments, name, *found)


def _at(rows: Sequence[Mapping[str, Any]], column: int, mark: float) -> str:
    """The mean regret at a mark of time (column 0) or of trials (1)."""
    last = [[each[2] for each in row["regrets"] if each[column] <= mark][-1:] for row in rows]
    return f"{fmean(each[0] for each in last):.4f}" if all(last) else "-"


def durations(arguments: Namespace) -> None:
    """Shorter and shorter trials, on the most workers."""
    workers = max(arguments.workers)
    rows = []
    joined = Costs(registration=0.0, removal=0.0)  # the workers are there already
    for scale in arguments.scales:
        seconds = MEAN_RUN * scale  # in which they begin, so that their trials do not end together
        site = Site(arguments.hours or 2.5 * seconds / 3600, startup=seconds)
        row = keep(arguments, f"scale {scale:.4f}", *simulate(workers, site, curves=made_up(scale), costs=joined))
        rows.append(
            [
                f"{seconds:.1f}", per_second(row, "trials"), per_second(row, "reports"), f"{row['utilisation']:.3f}",
                *_shares(row), f"{1000 * row['gaps'][0]:,.0f}, {1000 * row['gaps'][2]:,.0f}",
            ]
        )  # fmt: skip
    header = ["mean run, s", "runs/s", "reports/s", "utilisation", *_SERVERS, "gap p50, p99, ms"]
    _common.table(f"{workers:,} workers", header, rows)


#: In the sweep of the reports each worker stands for so many, and what it does costs as many times more.
_STANDS_FOR = 10


def reports(arguments: Namespace) -> None:
    """More and more reports, gathered for longer the more workers there are, or for a tenth of a second."""
    workers = max(arguments.workers)
    rows = []
    for rate in arguments.rates:
        for gather in (Costs().gather, 0.0) if rate <= 1 else (Costs().gather,):
            found = simulate(
                workers // _STANDS_FOR, Site(0.03, startup=20.0), curves=_reporting(rate), stopper=NeverStop(),
                costs=_in_bulk(gather),
            )  # fmt: skip
            row = keep(arguments, f"{rate:g} {gather:g}", *found)
            interval = max(0.1, gather * workers)
            rows.append(
                [
                    f"{rate:g}", f"{interval:g}", f"{_STANDS_FOR * row['reports'] / row['elapsed']:,.0f}",
                    f"{row['utilisation']:.3f}", *_shares(row)[:3],
                    f"{row['scheduler']['mean_delay']:,.2g}", f"{row['driver']['mean_delay']:,.2g}",
                ]
            )  # fmt: skip
    header = ["reports/s of a worker", "gathered for, s", "reports/s", "utilisation", *_SERVERS[:3],
              "delay at the scheduler, s", "at the driver, s"]  # fmt: skip
    _common.table(f"{workers:,} workers ({_STANDS_FOR} in one)", header, rows)


def _in_bulk(gather: float) -> Costs:
    """What one worker costs that stands for several."""
    one, n = Costs(), _STANDS_FOR
    return Costs(
        task=n * one.task, message=n * one.message, report=n * one.report, decision=n * one.decision,
        event=n * one.event, start=n * one.start, line=n * one.line, proposal=n * one.proposal,
        design=n * one.design, heartbeat=0.0, registration=0.0, removal=0.0, gather=n * (gather or 1e-9),
    )  # fmt: skip


def _reporting(rate: float) -> Curves:
    """Trials of one to two minutes, or of one report."""

    def train(config: Any, report: Any) -> None:
        n = max(1, round(60 * rate * (1.0 + config["layers"])))
        for step in range(1, n + 1):
            report(epoch=step, error=config["rate"], seconds=1.0 / rate)

    return replace(made_up(), train=train)


#: Of the runs of ``workers``, and what Dask's own scheduler takes for each worker that is there (``_standins.py``).
_REPORTS_PER_RUN, _DECISIONS_PER_RUN = 2.0, 1.25
_EVENTS_PER_RUN = 2.0 + _REPORTS_PER_RUN  # proposed, reported, ended
_DASK_REMOVAL_PAIR, _DASK_REGISTRATION_PAIR = 15e-6, 0.9e-6


def limits(arguments: Namespace) -> None:
    """Where each resource's limit lies, by the costs put in."""
    costs, workers = Costs(), max(arguments.workers)
    free = 1.0 - costs.heartbeat * workers / (workers / 200 + 1.0)  # of the scheduler
    task = costs.task + costs.message + _REPORTS_PER_RUN * costs.report + _DECISIONS_PER_RUN * costs.decision
    job = costs.registration + costs.removal
    pairs = workers * (_DASK_REMOVAL_PAIR + _DASK_REGISTRATION_PAIR)
    per_run = {
        "scheduler": task / free,
        "driver": costs.start + _EVENTS_PER_RUN * costs.event,
        "searcher": costs.proposal,
        "journal, bytes": _EVENTS_PER_RUN * costs.line * costs.byte,
    }
    rows = [[name, f"{1 / each:,.0f} runs/s", f"runs of {workers * each:.3g} s"] for name, each in per_run.items()]
    for name, each in (("scheduler", costs.report / free), ("driver", costs.event)):
        rows.append([name, f"{1 / each:,.0f} reports/s", f"{1 / each / workers:.1f} /s of each worker"])
    rows.append(["journal, forced to the disk", f"{1 / (costs.sync + costs.turn):,.0f} turns/s", "never"])
    for name, each in (("scheduler", job / free), ("scheduler, Dask's own", (job + pairs) / free)):
        rows.append([name, f"{1 / each:,.3g} jobs/s", f"walltimes of {workers * each / 60:,.1f} min"])
    _common.table(f"Limits at {workers:,} workers", ["resource", "at most", "used up by"], rows)


def reporter(n: int) -> Callable[..., None]:
    """A run function that reports so often and takes a third of a second: long enough to be a task of its own."""

    def train(config: Any, report: Any) -> None:
        for epoch in range(1, n + 1):
            time.sleep(1 / 3 / n)
            report(epoch=epoch, objective=config.x)

    return train


def costs(arguments: Namespace) -> None:
    """Processor time of a real scheduler and of the driver, for each trial and each report."""
    rows = []
    for reports in (1, 25):
        scheduler, driver, wall = _measured(reporter(reports), arguments.trials)
        per_trial = [f"{1e6 * seconds / arguments.trials:,.0f}" for seconds in (scheduler, driver)]
        rows.append([str(reports), *per_trial, f"{arguments.trials / wall:,.0f}"])
    header = ["reports", "scheduler", "driver", "trials/s"]
    _common.table("Microseconds of processor time per trial, one task each", header, rows)


def _measured(function: Any, trials: int) -> tuple[float, float, float]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with _common.scratch() as directory:
        file = str(directory / "scheduler.json")
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--scheduler-file", file]
        scheduler = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        worker = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard", "--no-nanny", "--nthreads", "64",
             "--scheduler-file", file], env=environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while not Path(file).exists():
                time.sleep(0.1)
            search = Search({"x": (0.0, 1.0)}, function, searcher="random", cluster=file, log_dir=directory / "search")
            search.run(num_trials=64, progress=False)
            before, began, cpu = _cpu_of(scheduler.pid), time.perf_counter(), time.process_time()
            search.run(num_trials=64 + trials, progress=False)
            return _cpu_of(scheduler.pid) - before, time.process_time() - cpu, time.perf_counter() - began
        finally:
            for process in (worker, scheduler):
                process.terminate()
                process.wait()


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plot(arguments: Namespace) -> None:
    """Draw the figures of the documentation."""
    _scaling_plots.draw(arguments.out, arguments.figures, MEAN_RUN)


def main() -> None:
    """Read the arguments, and measure."""
    parser = _common.parser(__doc__, repeats=None)
    whats = {
        "workers": by_workers, "quality": quality, "durations": durations, "reports": reports, "limits": limits,
        "costs": costs, "plot": plot,
    }  # fmt: skip
    parser.add_argument("what", choices=whats, nargs="?", default="limits")
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--hours", type=float, help="virtual hours of each run, for other ones")
    parser.add_argument("--lcbench", metavar="DATA_SET", nargs="+", help="for quality: of LCBench, such as 189906")
    parser.add_argument("--searchers", nargs="+", default=["cbo", "random"], help="for quality")
    parser.add_argument("--objectives", type=int, choices=(1, 2), default=1, help="for quality, with --lcbench")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="for quality")
    parser.add_argument("--scales", type=float, nargs="+", default=[1 / 8, 1 / 16], help="for durations")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 1.0, 3.0, 6.0, 10.0], help="for reports")
    parser.add_argument("--trials", type=int, default=3_000, help="for costs")
    parser.add_argument(
        "--out", type=Path, help="a directory in which runs are written down, for plot; those of quality are made once"
    )
    parser.add_argument("--figures", type=Path, default=Path(__file__).parents[1] / "docs" / "figures")
    arguments = parser.parse_args()
    if arguments.what == "plot" and arguments.out is None:
        parser.error("plot needs --out, with what the other commands have written there")
    whats[arguments.what](arguments)


if __name__ == "__main__":
    main()
