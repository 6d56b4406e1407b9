"""Reports: how many per second, how soon a decision at a rung comes, and what a report costs the training function.

    python benchmarks/reports.py [--repeats 5] [--trials 400] [--peers optuna]

On a ``LocalCluster`` of 2 worker processes, random search, a durable journal. Beside the rate stands that of raw Dask,
whose workers log each epoch as an event (``worker.log_event``) that the client takes in, and forget about stopping.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _peers
import numpy as np
from _common import alternate, local_client, parser, problem, scratch, table, verdict

from dhpo import Hyperband, NeverStop, Search
from dhpo.trial import Configuration

EPOCHS = 50
GRACE = 5


def epochs(config: Configuration, report: Callable[..., None]) -> None:
    """A trial of epochs that take no time."""
    for epoch in range(1, EPOCHS + 1):
        report(epoch=epoch, score=config["x"])


def timed_epochs(config: Configuration, report: Callable[..., None]) -> dict[str, Any]:
    """The cost of each report (seconds) to the training function, which does nothing else."""
    took = []
    for epoch in range(1, EPOCHS + 1):
        start = time.perf_counter()
        report(epoch=epoch, score=config["x"])
        took.append(time.perf_counter() - start)
    return {"score": config["x"], "took": took}


def paused_epochs(config: Configuration, report: Any) -> dict[str, Any]:
    """The time of each report (seconds), on workers that are idle otherwise; each trial is better than those before."""
    took = []
    for epoch in range(1, EPOCHS + 1):
        threading.Event().wait(0.02)
        start = time.perf_counter()
        report(epoch=epoch, score=report.trial)
        took.append(time.perf_counter() - start)
    return {"score": report.trial, "took": took}


def search(client: Any, directory: Path, function: Callable[..., Any], stopper: Any, ahead: int = 6) -> Search:
    return Search(
        problem(),
        function,
        objectives={"score": "MAX"},
        stopper=stopper,
        cluster=client,
        searcher="random",
        log_dir=directory / f"{time.monotonic_ns()}",
        ahead=ahead,
    )


def log_epochs(value: float) -> None:
    """The raw Dask trial: each epoch is an event."""
    from distributed import get_worker

    worker = get_worker()
    for epoch in range(1, EPOCHS + 1):
        worker.log_event("reports", {"epoch": epoch, "score": value})


def raw_dask(client: Any, trials: int) -> float:
    """Events per second, until the client has all of them."""
    arrived, complete = 0, threading.Event()

    def count(event: Any) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == trials * EPOCHS:
            complete.set()

    client.subscribe_topic("reports", count)
    start = time.perf_counter()
    futures = client.map(log_epochs, range(trials), pure=False)
    client.gather(futures)
    complete.wait(60)
    took = time.perf_counter() - start
    client.unsubscribe_topic("reports")
    return arrived / took


def rate(client: Any, directory: Path, trials: int) -> float:
    """Reports per second of a whole run in which nothing is stopped."""
    run = search(client, directory, epochs, NeverStop(time_attr="epoch"))
    start = time.perf_counter()
    results = run.run(trials, progress=False)
    took = time.perf_counter() - start
    assert len(results.training_history) == trials
    return trials * EPOCHS / took


def halving(client: Any, directory: Path, trials: int) -> tuple[float, int, float]:
    """Epochs per trial that was stopped at the first rung, their number, and reports per second."""
    stopper = Hyperband(time_attr="epoch", max_t=EPOCHS, grace_period=GRACE, reduction_factor=3)
    run = search(client, directory, epochs, stopper)
    start = time.perf_counter()
    results = run.run(trials, progress=False)
    took = time.perf_counter() - start
    frame = results.to_frame()
    lengths = {number: len(reports) for number, reports in results.training_history.items()}
    stopped = frame.loc[frame["m:stopped"], ["job_id", "m:resource"]]
    first = [lengths[str(i)] for i in stopped.loc[stopped["m:resource"] < 3 * GRACE, "job_id"]]
    return float(np.mean(first)), len(first), sum(lengths.values()) / took


def latencies(client: Any, directory: Path, trials: int) -> tuple[list[float], int]:
    """How long ``report`` takes at a rung, where the trial goes on, in milliseconds."""
    stopper = Hyperband(time_attr="epoch", max_t=EPOCHS + 1, grace_period=1, reduction_factor=1.5)
    run = search(client, directory, paused_epochs, stopper, ahead=0)
    results = run.run(trials, progress=False)
    milestones = stopper.bind(1, max_t=None, seed=0).milestones(0)
    rungs = [int(np.ceil(m)) - 1 for m in milestones]
    took = [row for row in results.to_frame()["m:took"] if isinstance(row, list)]
    return [1e3 * row[i] for row in took for i in rungs], len(took)


def cost(client: Any, directory: Path, trials: int) -> list[float]:
    """How long ``report`` takes where no decision is due, in milliseconds."""
    run = search(client, directory, timed_epochs, NeverStop(time_attr="epoch"))
    results = run.run(trials, progress=False)
    return [1e3 * t for row in results.to_frame()["m:took"] for t in row]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=400)
    _peers.add_option(arguments, "reports")
    args = arguments.parse_args()
    with scratch() as directory, local_client() as client:
        raw_dask(client, 20)
        rate(client, directory, 20)
        found = alternate(
            args.repeats,
            {
                "raw": lambda: raw_dask(client, args.trials),
                "dhpo": lambda: rate(client, directory, args.trials),
            },
        )
        per_trial, n_stopped, halving_rate = halving(client, directory, args.trials)
        waits, n_full = latencies(client, directory, 40)
        costs = cost(client, directory, args.trials)
    p50, p99 = np.percentile(waits, [50, 99])
    median = float(np.median(costs))
    rows = [
        ("reports/s, raw Dask events", f"{found['raw']:,.0f}", "", ""),
        ("reports/s, dhpo", f"{found['dhpo']:,.0f}", ">= 5,000", verdict(found["dhpo"], least=5000)),
        ("reports/s, dhpo, asynchronous halving", f"{halving_rate:,.0f}", "", ""),
        (
            f"epochs per trial stopped at the first rung ({n_stopped} trials)",
            f"{per_trial:.2f}",
            "<= 5.5",
            verdict(per_trial, most=5.5),
        ),
        (f"decision, p50, ms ({len(waits)} of {n_full} trials)", f"{p50:.2f}", "<= 8", verdict(p50, most=8)),
        ("decision, p99, ms", f"{p99:.2f}", "<= 25", verdict(p99, most=25)),
        ("report without decision, median, ms", f"{median:.4f}", "<= 0.05", verdict(median, most=0.05)),
        ("report without decision, p99, ms", f"{np.percentile(costs, 99):.3f}", "", ""),
    ]
    for name, theirs in _peers.each(args.peers, "reports", args.trials, EPOCHS, GRACE):
        rows.append((f"reports/s, {name}", f"{theirs['rate']:,.0f}", "", ""))
        what = f"epochs per trial stopped at the first rung, {name} ({theirs['stopped']} trials)"
        rows.append((what, f"{theirs['epochs']:.2f}", "", ""))
    table(
        f"Reports, trials of {EPOCHS} no-op epochs, median of {args.repeats}", ("what", "measured", "target", ""), rows
    )


if __name__ == "__main__":
    main()
