"""How fast a journal is written and read back.

    python benchmarks/journal.py --trials 10000 --reports 50 --directory /scratch/somewhere

Prints one line per figure. ``append`` is durable: its latency is mostly the file system's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dhpo._codec import encode
from dhpo._lines import framed
from dhpo.events import Event, TrialCompleted, TrialProposed, TrialReported
from dhpo.journal import FileJournal, Header, read

BATCH = 100


def events(trials: int, reports: int) -> Iterator[Event]:
    rng = np.random.default_rng(0)
    for trial in range(trials):
        scores = rng.random(max(1, reports)).tolist()
        now = float(trial)
        config = {
            "lr": scores[0],
            "layers": 3,
            "act": "relu",
            "dropout": 0.25,
            "batch": 64,
            "momentum": 0.9,
            "wd": 1e-5,
        }
        yield TrialProposed(now, trial, config, 0, "model", trial)
        for epoch in range(1, reports + 1):
            values = {"epoch": epoch, "test_score": scores[epoch - 1], "prediction_time": 0.0123}
            yield TrialReported(now + epoch / 64, trial, 1, epoch, epoch, values)
        result = None if reports else {"objective": scores[0]}
        yield TrialCompleted(now + 1, trial, 1, result, {}, False, now, now + 1, "tcp://10.0.0.1:40000")


def batches(trials: int, reports: int) -> Iterator[list[Event]]:
    batch: list[Event] = []
    for event in events(trials, reports):
        batch.append(event)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def bench_append(directory: Path, reports: int, repeats: int = 300) -> None:
    with FileJournal.open(directory, Header("benchmark", time.time())) as journal:
        for size in (1, BATCH):
            batch = list(events(BATCH, reports))[:size]
            seconds = []
            for _ in range(repeats):
                start = time.perf_counter()
                journal.append(batch)
                seconds.append(time.perf_counter() - start)
            p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
            rate = size / p50 * 1e3
            print(f"append, {size:3d} events a batch: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {rate:,.0f} events/s")


def bench_replay(directory: Path, trials: int, reports: int) -> None:
    with FileJournal.open(directory, Header("benchmark", time.time())) as journal:
        path = journal.path
    seconds, count = 0.0, 0
    with open(path, "ab") as file:  # not through append, which would wait for the disk ten thousand times
        for batch in batches(trials, reports):
            start = time.perf_counter()
            line = framed(encode(batch))
            seconds += time.perf_counter() - start
            count += len(batch)
            file.write(line)
    print(f"encode: {seconds / count * 1e6:.2f} us an event, {path.stat().st_size / count:.0f} bytes an event")
    for name in ("open", "read"):
        start = time.perf_counter()
        if name == "open":
            FileJournal.open(directory, Header("", 0.0)).close()
        else:
            found = sum(map(len, read(directory)[1]))
            assert found == count
        took = time.perf_counter() - start
        print(f"{name}: {trials:,} trials with {reports} reports, {count:,} events, in {took:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--reports", type=int, default=50, help="reports per trial")
    parser.add_argument("--directory", type=Path, help="where to write; a temporary directory by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        bench_append(Path(directory) / "append", arguments.reports)
        bench_replay(Path(directory) / "replay", arguments.trials, arguments.reports)


if __name__ == "__main__":
    main()
