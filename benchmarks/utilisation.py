"""How busy 100, 400, 1,000 and 2,000 workers are kept, beside raw Dask with random configurations.

    python benchmarks/utilisation.py [--workers 100 400 1000 2000] [--seconds 60] [--kinds light real]
        [--peers optuna] [--peer-workers 100 1000]

The workers are *light* (see ``_light.py``): what the scheduler sees of them, and what dhpo does on them, is real, but
there is no ``distributed.Worker`` and no thread behind it. ``--kinds light real`` measures with real ones besides, a
few hundred to a process, and compares the two: 2,000 of those take more than two cores. The scheduler is a process of
its own, dhpo's for dhpo, as its Slurm, PBS and allocation clusters start it, and Dask's for raw Dask.

A trial is up to 9 epochs of equal length, drawn from a lognormal distribution so that trials last 5 s in the mean; it
sleeps. dhpo: CBO, two objectives, Hyperband with three brackets, a report after each epoch, a durable journal and
``results.csv``. Raw Dask: random configurations, no reports, as many epochs as Hyperband leaves on average, and one
``client.map`` for all that came free.

The share is the time trained, as the workers saw it: waiting for a decision does not count as busy.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import _peers
import numpy as np
from _common import in_process, parser, scratch, table, verdict
from _fleet import Span, fleet

from dhpo import CBO, HpProblem, Hyperband, Search
from dhpo.trial import Configuration

MEAN = 5.0  # seconds that a trial lasts
SIGMA = 0.5
EPOCHS = 9
START = 10.0  # seconds of start-up, told apart
PROCESSES = {"light": 2, "real": 4}  # for each kind of workers
TARGETS = {100: 0.97, 400: 0.97, 1000: 0.95, 2000: 0.90}
STOPPER = Hyperband(time_attr="epoch", max_t=EPOCHS, grace_period=1, reduction_factor=3, brackets=3)


def problem() -> HpProblem:
    """Seven hyperparameters of all kinds."""
    made = HpProblem({"rate": (1e-5, 1e-1, "log-uniform"), "decay": (1e-6, 1e-2, "log-uniform")})
    made.add_hyperparameter((0.0, 0.9), "dropout")
    made.add_hyperparameter((1, 8), "layers")
    made.add_hyperparameter((16, 1024, "log-uniform"), "units")
    made.add_hyperparameter(["relu", "tanh", "gelu"], "activation")
    made.add_hyperparameter(["adam", "sgd"], "optimizer")
    return made


def lengths() -> tuple[list[int], list[float]]:
    """After how many epochs trials end, and how often, where each rung lets through the share that it should."""
    bound = STOPPER.bind(2, max_t=None, seed=0)
    found: dict[int, float] = defaultdict(float)
    for bracket, probability in enumerate(bound.probabilities):
        left = probability
        rungs = [*map(int, bound.milestones(bracket)), EPOCHS]
        for rung, above in pairwise(rungs):
            found[rung] += left * (1 - rung / above)
            left *= rung / above
        found[EPOCHS] += left
    return list(found), list(found.values())


def pace(trial: int) -> float:
    """Seconds that each epoch of a trial takes."""
    values, shares = lengths()
    mean = MEAN / float(np.dot(values, shares))
    return float(np.random.default_rng(trial).lognormal(np.log(mean) - SIGMA**2 / 2, SIGMA))


def trial(config: Configuration, report: Any, paces: Sequence[float]) -> None:
    """Sleep, and report an error that falls with the epochs and a cost."""
    from math import log10

    from _fleet import train

    far = abs(log10(config.rate) + 3) + abs(config.dropout - 0.3) + 0.1 * abs(config.layers - 4)
    for epoch in range(1, 10):
        train(report.trial, paces[report.trial % len(paces)])
        report(epoch=epoch, error=far + 1 / epoch, cost=config.layers * config.units)


def raw_trial(config: dict[str, float], number: int, epochs: int, seconds: float) -> float:
    """The same sleep, without reports."""
    from _fleet import train

    for _ in range(epochs):
        train(number, seconds)
    return config["rate"]


def raw_dask(address: str, n_workers: int, seconds: float) -> dict[str, float]:
    """Keep all workers busy with random configurations: one ``map`` for all that came free."""
    from distributed import Client, as_completed

    rng = np.random.default_rng(0)
    values, shares = lengths()
    paces = _paces()
    numbers = iter(range(10**9))

    with Client(address) as client:

        def submit(n: int) -> list[Any]:
            taken = [next(numbers) for _ in range(n)]
            configs = [dict(zip(("rate", "decay", "dropout"), row, strict=True)) for row in rng.random((n, 3)).tolist()]
            epochs = rng.choice(values, size=n, p=shares).tolist()
            each = [paces[number % len(paces)] for number in taken]
            return list(client.map(raw_trial, configs, taken, epochs, each, pure=False))

        began, cpu = time.monotonic(), time.process_time()
        completed = as_completed(submit(n_workers))
        n_ended = 0
        for batch in completed.batches():
            n_ended += len(batch)
            if time.monotonic() - began > seconds:
                break
            completed.update(submit(len(batch)))
        return {
            "proposals": n_ended + n_workers, "reports": 0, "stopped": 0, "driver": time.process_time() - cpu,
            "searcher": 0.0, "took": time.monotonic() - began,
        }  # fmt: skip


def dhpo(address: str, n_workers: int, seconds: float) -> dict[str, float]:
    """One whole run of a search."""
    paces = _paces()

    def run(config: Configuration, report: Any) -> None:
        trial(config, report, paces)

    with scratch() as directory:
        search = Search(
            problem(),
            run,
            objectives={"error": "MIN", "cost": "MIN"},
            stopper=STOPPER,
            searcher=CBO(),
            cluster=address,
            log_dir=directory / "search",
            random_state=0,
        )
        began, cpu = time.monotonic(), time.process_time()
        results = search.run(time_out=seconds, progress=False)
        driver, took = time.process_time() - cpu, time.monotonic() - began
        searcher = resource.getrusage(resource.RUSAGE_CHILDREN)
        history = results.training_history
        return {
            "proposals": len(results), "reports": sum(map(len, history.values())),
            "stopped": int(results.to_frame()["m:stopped"].eq(True).sum()), "driver": driver,
            "searcher": searcher.ru_utime + searcher.ru_stime, "took": took,
        }  # fmt: skip


def _paces() -> list[float]:
    return [pace(number) for number in range(4096)]


CASES: dict[str, Callable[[str, int, float], dict[str, float]]] = {"raw Dask, random": raw_dask, "dhpo, CBO": dhpo}


def busy(spans: Sequence[Span], n_workers: int, begin: float, end: float) -> float:
    """The share of the workers' time between two moments that was training."""
    trained = sum(max(0.0, min(span.ended, end) - max(span.began, begin)) for span in spans)
    return trained / (n_workers * (end - begin))


def gaps(spans: Sequence[Span], begin: float, end: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Seconds between the end of a worker's trial and the beginning of its next one."""
    return np.array([after.began - before.ended for before, after in _pairs(spans) if begin <= after.began < end])


def _pairs(spans: Sequence[Span]) -> Iterator[tuple[Span, Span]]:
    by_worker: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda s: s.began):
        by_worker[span.worker].append(span)
    for row in by_worker.values():
        yield from ((a, b) for a, b in pairwise(row) if a.trial != b.trial)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one case: shares, milliseconds, and figures per second."""

    case: str
    n_workers: int
    kind: str
    shares: tuple[float, float, float]  # in all, from the end of the start-up on, in the second half
    gaps: tuple[float, float]  # median and 99th percentile
    trials: float
    reports: float
    stopped: float
    cores: tuple[float, float, float, float]  # of the driver, the searcher, the scheduler, the workers

    def cells(self) -> list[str]:
        """As a row of the table."""
        target = TARGETS.get(self.n_workers) if self.case.startswith("dhpo") else None
        rates = (self.trials, self.reports, self.stopped)
        return [
            f"{self.n_workers:,}", self.kind, self.case, *(f"{share:.3f}" for share in self.shares),
            "" if target is None else f">= {target:.2f}",
            "" if target is None else verdict(self.shares[1], least=target),
            *(f"{gap:.0f}" for gap in self.gaps), *(f"{rate:.0f}" for rate in rates),
            *(f"{cores:.2f}" for cores in self.cores),
        ]  # fmt: skip


def measure(case: str, n_workers: int, seconds: float, kind: str) -> Row:
    """One row of the table."""
    made = fleet(n_workers, PROCESSES[kind], own=case.startswith("dhpo"), real=kind == "real")
    with made as workers:
        before = workers.cpu()
        driver = in_process(__file__, "case", case, workers.address, n_workers, seconds + 3)
        scheduler, hosts = (b - a for a, b in zip(before, workers.cpu(), strict=True))
        spans = workers.end()
    begin = min(span.began for span in spans)
    end = begin + seconds
    whole, settled, half = (busy(spans, n_workers, start, end) for start in (begin, begin + START, (begin + end) / 2))
    between = 1e3 * gaps(spans, begin + START, end)
    p50, p99 = np.percentile(between, [50, 99]) if len(between) else (np.nan, np.nan)
    took = driver["took"]
    trials, reports, stopped = (driver[name] / took for name in ("proposals", "reports", "stopped"))
    cores = (driver["driver"] / took, driver["searcher"] / took, scheduler / took, hosts / took)
    return Row(case, n_workers, kind, (whole, settled, half), (p50, p99), trials, reports, stopped, cores)


def differences(rows: Sequence[Row]) -> Iterator[list[str]]:
    """How far light workers are from real ones, where both were measured."""
    for light in rows:
        for real in rows:
            if (light.case, light.n_workers, light.kind, real.kind) == (real.case, real.n_workers, "light", "real"):
                rates = ((light.trials, real.trials), (light.reports, real.reports), (light.stopped, real.stopped))
                yield [
                    f"{light.n_workers:,}", light.case, f"{light.shares[1] - real.shares[1]:+.3f}",
                    *(f"{a / b - 1:+.1%}" if b else "" for a, b in rates),
                ]  # fmt: skip


HEADER = (
    "workers", "kind", "what", "busy", "from 10 s", "2nd half", "target", "", "gap p50, ms", "p99", "trials/s",
    "reports/s", "stopped/s", "driver CPU", "searcher", "scheduler", "workers'",
)  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["case"]:
        _, _, case, address, n_workers, seconds = sys.argv
        print(json.dumps(CASES[case](address, int(n_workers), float(seconds))))
        return
    arguments = parser(__doc__, repeats=None)
    arguments.add_argument("--workers", type=int, nargs="+", default=[100, 400, 1000, 2000])
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--kinds", nargs="+", choices=list(PROCESSES), default=["light"], help="of workers")
    arguments.add_argument("--only", choices=list(CASES), help="only one of the cases")
    arguments.add_argument("--peer-workers", type=int, nargs="+", default=[100, 1000], help="of the peers")
    _peers.add_option(arguments, "utilisation")
    args = arguments.parse_args()
    cases = [args.only] if args.only else list(CASES)
    rows = [
        measure(case, n_workers, args.seconds, kind)
        for n_workers in args.workers
        for case in cases
        for kind in args.kinds
    ]
    title = f"Busy share of the workers over {args.seconds:g} s, trials of {MEAN:g} s in the mean"
    table(title, HEADER, [row.cells() for row in rows])
    theirs = [
        (f"{n_workers:,}", name, f"{found['busy']:.3f}", f"{found['trials']:.0f}")
        for n_workers in (args.peer_workers if args.peers else ())
        for name, found in _peers.each(args.peers, "utilisation", n_workers, args.seconds, MEAN, SIGMA)
    ]
    if theirs:
        table("Peers, threads of one process that sleep", ("workers", "what", "busy", "trials/s"), theirs)
    if compared := list(differences(rows)):
        table("Light workers beside real ones", ("workers", "what", "busy", "trials", "reports", "stopped"), compared)


if __name__ == "__main__":
    main()
