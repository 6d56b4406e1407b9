"""No-op trials per second on a ``LocalCluster`` of 2 worker processes, with as many in flight as raw Dask has.

    python benchmarks/throughput.py [--repeats 5] [--trials 2000] [--peers optuna dehb dask-ml]

Raw Dask submits one future as another completes (``as_completed``). dhpo: random search, a durable journal and
``results.csv`` in a temporary directory; its time is that of the whole ``Search.run``. In the last row it decides for
itself how many trials it gives out ahead and to one task (``ahead="auto"``, the default), beside raw Dask with all
trials in flight.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import _peers
from _common import alternate, local_client, parser, problem, scratch, table, verdict

from dhpo import Search
from dhpo.trial import Configuration

WORKERS = 2
#: Trials per second that are to be reached where trials take no time.
MANY = 1_000


def noop(config: Configuration) -> float:
    return float(config["x"])


def identity(value: int) -> int:
    return value


def raw_dask(client: Any, trials: int, in_flight: int) -> float:
    """Trials per second of a plain loop over ``as_completed``."""
    from distributed import as_completed

    start = time.perf_counter()
    submitted = min(in_flight, trials)
    completed = as_completed([client.submit(identity, i, pure=False) for i in range(submitted)])
    for future in completed:
        future.result()
        if submitted < trials:
            completed.add(client.submit(identity, submitted, pure=False))
            submitted += 1
    return trials / (time.perf_counter() - start)


def dhpo(client: Any, directory: Path, trials: int, ahead: int | str) -> float:
    """Trials per second of a whole run."""
    name = f"{ahead}-{time.monotonic_ns()}"
    search = Search(problem(), noop, cluster=client, searcher="random", log_dir=directory / name, ahead=ahead)
    start = time.perf_counter()
    search.run(trials, progress=False)
    return trials / (time.perf_counter() - start)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=2000)
    arguments.add_argument("--peer-trials", type=int, default=200, help="of each peer, which take longer")
    _peers.add_option(arguments, "throughput")
    args = arguments.parse_args()
    levels = {"1 per worker": WORKERS, "4 per worker": 4 * WORKERS, "all": args.trials}
    with scratch() as directory, local_client(WORKERS) as client:
        cases: dict[str, Callable[[], float]] = {}
        for name, in_flight in levels.items():
            raw_dask(client, 100, in_flight)
            dhpo(client, directory, 100, in_flight - WORKERS)
            cases[f"{name}, raw"] = partial(raw_dask, client, args.trials, in_flight)
            cases[f"{name}, dhpo"] = partial(dhpo, client, directory, args.trials, in_flight - WORKERS)
        cases["auto"] = partial(dhpo, client, directory, args.trials, "auto")
        found = alternate(args.repeats, cases)
    rows = []
    for name in levels:
        raw, ours = found[f"{name}, raw"], found[f"{name}, dhpo"]
        rows.append((name, f"{raw:.0f}", f"{ours:.0f}", f"{ours / raw:.2f}", ">= 0.9", verdict(ours / raw, least=0.9)))
    raw, ours = found["all, raw"], found["auto"]
    target = f">= {MANY:,}/s"
    rows.append(("auto", f"{raw:.0f}", f"{ours:,.0f}", f"{ours / raw:.2f}", target, verdict(ours, least=MANY)))
    for name, figures in _peers.each(args.peers, "throughput", args.peer_trials, WORKERS):
        rows.append((name, "", f"{figures['rate']:.1f}", "", "", ""))
    title = f"Trials per second, {args.trials} no-op trials, median of {args.repeats}"
    table(title, ("in flight, or peer", "raw Dask", "dhpo, or peer", "ratio", "target", ""), rows)


if __name__ == "__main__":
    main()
