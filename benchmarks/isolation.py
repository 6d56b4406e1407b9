"""What ``isolation="process"`` costs: per trial, per report, and when a process has to be replaced.

    python benchmarks/isolation.py [--repeats 5] [--trials 400]

Trials are run one after another, without a cluster, a searcher or a journal. "heavy" is a run function that imports
scikit-learn, as one that imports PyTorch would import that.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _common import alternate, parser, table

from dhpo.events import Start
from dhpo.objectives import Objectives
from dhpo.trial import Decision
from dhpo.worker.isolation import Processes
from dhpo.worker.job import CallForm, Job
from dhpo.worker.package import pack
from dhpo.worker.reporter import Record
from dhpo.worker.runner import End, run_trial

REPORTS = 2000


class Channel:
    """Takes everything, and lets every trial go on."""

    horizon = None
    unit = 0.0

    def send(self, record: Record) -> None:
        pass

    def ask(self, record: Record) -> Decision:
        return Decision.CONTINUE

    def grace(self) -> None:
        return None


def no_op(config: Any) -> float:
    return 0.0


def heavy(config: Any) -> float:
    import sklearn.ensemble  # noqa: F401

    return 0.0


def heavy_failure(config: Any) -> float:
    heavy(config)
    raise RuntimeError


def reports(config: Any, report: Any) -> Any:
    took = []
    for epoch in range(1, REPORTS + 1):
        began = time.perf_counter()
        report(epoch=epoch, objective=0.5)
        took.append(time.perf_counter() - began)
    return {"objective": 0.0, "median": statistics.median(took)}


Run = Callable[[Start], End]


@contextmanager
def runner(function: Callable[..., Any], isolation: str) -> Iterator[Run]:
    form = CallForm.of(function, has_data=False)
    job = Job("benchmark", Objectives.parse(None), form, time_attr="epoch", isolation=isolation)
    if isolation == "thread":
        yield lambda start: run_trial(function, None, job, start, Channel(), "worker")
        return
    with pack(function, None, directory=None) as packed:
        processes = Processes(job, packed.package, packed.read)
        yield lambda start: processes.run(start, Channel(), "worker")
        processes.close()


def per_trial(function: Callable[..., Any], isolation: str, trials: int) -> float:
    """Milliseconds per trial, the first one left out."""
    start = Start(0, 1, {"x": 0.5}, (), None)
    with runner(function, isolation) as run:
        run(start)
        began = time.perf_counter()
        for _ in range(trials):
            run(start)
        return 1e3 * (time.perf_counter() - began) / trials


def first_trial(function: Callable[..., Any]) -> float:
    """Milliseconds until the first trial in a process has ended."""
    began = time.perf_counter()
    with runner(function, "process") as run:
        run(Start(0, 1, {"x": 0.5}, (), None))
        return 1e3 * (time.perf_counter() - began)


def per_report(isolation: str, *, asks: bool) -> float:
    """Median milliseconds that a report takes of the run function."""
    with runner(reports, isolation) as run:
        end = run(Start(0, 1, {"x": 0.5}, (), None, every=0 if asks else float("inf")))
    return 1e3 * float(end.metadata["median"])


def forks(trials: int) -> float:
    """Milliseconds per fork of a process that has imported scikit-learn: what a fork per trial would cost at least."""
    heavy(None)
    began = time.perf_counter()
    for _ in range(trials):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    return 1e3 * (time.perf_counter() - began) / trials


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=400)
    args = arguments.parse_args()
    cases: dict[str, Callable[[], float]] = {
        "a no-op trial, thread": lambda: per_trial(no_op, "thread", args.trials),
        "a no-op trial, process": lambda: per_trial(no_op, "process", args.trials),
        "a heavy trial, process used again": lambda: per_trial(heavy, "process", args.trials),
        "a heavy trial, process replaced (the trial raises)": lambda: per_trial(heavy_failure, "process", 2),
        "a fork of a process that has the heavy imports": lambda: forks(20),
        "the first trial, process": lambda: first_trial(no_op),
        "the first heavy trial, process": lambda: first_trial(heavy),
        "a report, thread": lambda: per_report("thread", asks=False),
        "a report, process": lambda: per_report("process", asks=False),
        "a report with a decision, thread": lambda: per_report("thread", asks=True),
        "a report with a decision, process": lambda: per_report("process", asks=True),
    }
    found = alternate(args.repeats, cases)
    rows = [(name, f"{value:.4f}" if value < 1 else f"{value:,.1f}") for name, value in found.items()]
    table(f"Isolation, median of {args.repeats}", ("what", "ms"), rows)


if __name__ == "__main__":
    main()
