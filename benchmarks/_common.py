"""What the benchmarks share: alternate runs, medians, tables, a local cluster, processes of their own."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dhpo import HpProblem


def parser(description: str | None, repeats: int | None = 5) -> argparse.ArgumentParser:
    """An argument parser, with ``--repeats`` where there are any."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if repeats is not None:
        made.add_argument("--repeats", type=int, default=repeats, help="of which the median counts")
    return made


def problem() -> HpProblem:
    """The space of the no-op trials."""
    return HpProblem({"x": (0.0, 1.0)})


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="dhpo-benchmark-") as directory:
        yield Path(directory)


@contextmanager
def local_client(n_workers: int = 2) -> Iterator[Any]:
    """A Dask client of a fresh ``LocalCluster`` of worker processes with one thread each."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(n_workers)
        yield client


def alternate(repeats: int, cases: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Run the cases in turn, ABAB…, so that what else the machine does hits all alike; the median of each."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeats):
        print(f"\rrun {turn + 1} of {repeats}", end="", file=sys.stderr, flush=True)
        for name, case in cases.items():
            gc.collect()
            found[name].append(case())
    print("\r" + " " * 20 + "\r", end="", file=sys.stderr, flush=True)
    return {name: statistics.median(values) for name, values in found.items()}


def in_process(script: str, *arguments: object) -> Any:
    """Run one case of a benchmark in a fresh process, ``python script case …``; it prints JSON in its last line."""
    command = [sys.executable, script, *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    cells = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    print(f"\n{title}\n", lines[0], rule, *lines[1:], sep="\n", flush=True)


def verdict(value: float, *, most: float | None = None, least: float | None = None) -> str:
    """Whether a figure is within its bound."""
    good = (most is None or value <= most) and (least is None or value >= least)
    return "met" if good else "MISSED"
