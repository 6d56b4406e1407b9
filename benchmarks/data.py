"""One array used by every trial: peak memory of all processes, bytes moved per trial, time to the first trial.

    python benchmarks/data.py [--megabytes 440] [--trials 24]

4 worker processes; each trial sums the whole array. A separate process (this one) samples the proportional set size
(PSS) of the driver and all its descendants every 50 ms; bytes are those on the loopback device, so run nothing else
meanwhile. Each case is a process of its own:

* closure, raw Dask: ``client.submit`` of a function that closes over the array (a third of the trials: it is slow);
* scatter, raw Dask: ``client.scatter(X, broadcast=True)``;
* data=, dhpo: ``Search(..., data={"X": X})``;
* closure, dhpo: the run function closes over the array.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import local_client, parser, problem, scratch, table, verdict
from numpy.typing import NDArray

from dhpo import Search
from dhpo.events import Event, TrialCompleted
from dhpo.trial import Configuration

WORKERS = 4
INTERVAL = 0.05
SERIAL_SHARE = 3

Array = NDArray[np.float64]


def make(megabytes: int) -> Array:
    return np.random.default_rng(0).random(megabytes * 125_000)


def loopback() -> int:
    """Bytes that the loopback device has received."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == "lo":
            return int(figures.split()[0])
    raise RuntimeError("there is no loopback device")


def summing(array: Array) -> Callable[[Any], dict[str, Any]]:
    """A run function that closes over the array."""

    def run(config: Any) -> dict[str, Any]:
        began = time.time()
        return {"objective": float(array.sum()), "began": began}

    return run


def use_data(config: Configuration, data: Mapping[str, Array]) -> dict[str, Any]:
    began = time.time()
    return {"objective": float(data["X"].sum()), "began": began}


def sum_of(array: Array, number: int) -> float:
    began = time.time()
    array.sum()
    return began


def raw_closure(client: Any, megabytes: int, trials: int) -> tuple[float, list[float]]:
    from distributed import as_completed

    run = summing(make(megabytes))
    start = time.time()
    submitted = min(WORKERS, trials)
    completed = as_completed([client.submit(run, i, pure=False) for i in range(submitted)])
    began = []
    for future in completed:
        began.append(future.result()["began"])
        if submitted < trials:
            completed.add(client.submit(run, submitted, pure=False))
            submitted += 1
    return start, began


def raw_scatter(client: Any, megabytes: int, trials: int) -> tuple[float, list[float]]:
    array = make(megabytes)
    start = time.time()
    future = client.scatter(array, broadcast=True)
    del array
    return start, client.gather([client.submit(sum_of, future, i, pure=False) for i in range(trials)])


def with_dhpo(client: Any, megabytes: int, trials: int, *, closure: bool) -> tuple[float, list[float]]:
    with scratch() as directory:
        log_dir = directory / "search"
        settings: dict[str, Any] = {"cluster": client, "searcher": "random", "log_dir": log_dir}
        if closure:
            search = Search(problem(), summing(make(megabytes)), **settings)
        else:
            search = Search(problem(), use_data, data={"X": make(megabytes)}, **settings)
        began: list[float] = []

        def note(events: Sequence[Event], study: object) -> None:
            began.extend(e.metadata["began"] for e in events if isinstance(e, TrialCompleted))

        start = time.time()
        search.run(trials, progress=False, watchers=[note])
        return start, began


CASES: dict[str, Callable[[Any, int, int], tuple[float, list[float]]]] = {
    "closure, raw Dask": raw_closure,
    "scatter, raw Dask": raw_scatter,
    "data=, dhpo": lambda client, megabytes, trials: with_dhpo(client, megabytes, trials, closure=False),
    "closure, dhpo": lambda client, megabytes, trials: with_dhpo(client, megabytes, trials, closure=True),
}


def case(name: str, megabytes: int, trials: int) -> dict[str, Any]:
    with local_client(WORKERS) as client:
        before = loopback()
        start, began = CASES[name](client, megabytes, trials)
        return {"bytes": (loopback() - before) / len(began), "first": min(began) - start, "trials": len(began)}


def descendants(root: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def pss(pids: list[int]) -> float:
    """The proportional set size of these processes together, in MB."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def observed(name: str, megabytes: int, trials: int) -> tuple[float, dict[str, Any]]:
    """Run a case, watching its memory; the peak in MB and what it measured."""
    command = [sys.executable, __file__, "--case", name, "--megabytes", str(megabytes), "--trials", str(trials)]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, pss(descendants(process.pid)))
            time.sleep(INTERVAL)
        assert process.stdout is not None
        output = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"the case {name!r} ended with the exit code {process.returncode}")
    return peak, json.loads(output.splitlines()[-1])


def main() -> None:
    arguments = parser(__doc__, repeats=None)
    arguments.add_argument("--megabytes", type=int, default=440)
    arguments.add_argument("--trials", type=int, default=24)
    arguments.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.case:
        print(json.dumps(case(args.case, args.megabytes, args.trials)))
        return
    rows = []
    for name in CASES:
        trials = max(WORKERS, args.trials // SERIAL_SHARE) if name == "closure, raw Dask" else args.trials
        peak, found = observed(name, args.megabytes, trials)
        moved = found["bytes"] / 1e6
        row = [name, found["trials"], f"{peak:,.0f}", f"{moved:,.3f}", f"{found['first']:.2f}"]
        if name == "data=, dhpo":
            bounds = ((peak, args.megabytes + 310), (moved, 0.1), (found["first"], 2.0))
            row += [f"<= {args.megabytes + 310} MB, 0.1 MB, 2 s", ", ".join(verdict(v, most=b) for v, b in bounds)]
        else:
            row += ["", ""]
        rows.append(row)
    header = ("what", "trials", "peak PSS, MB", "MB moved per trial", "first trial after, s", "target", "")
    table(f"An array of {args.megabytes} MB, {WORKERS} worker processes", header, rows)


if __name__ == "__main__":
    main()
