"""DeepHyper's evaluators, callbacks and running jobs, over dhpo's clusters, watchers and reports."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dhpo.errors import AbandonedTrial, RunFunctionError, SettingError, StopTrial
from dhpo.events import Event, TrialCompleted, TrialFailed, TrialProposed, TrialTimedOut
from dhpo.study import Study
from dhpo.trial import Configuration
from dhpo.worker.reporter import Reporter, TrialTimeout

METHODS = ("serial", "thread", "process", "loky", "dask")


class RunningJob(Configuration):
    """What a run function gets: the configuration as a mapping (``job["x0"]``) with a running job's methods.

    Attributes:
        id: the trial's number, as text.
        objective: what was recorded last; None before.
    """

    __slots__ = ("_report", "_stopped", "id", "objective")

    def __init__(self, config: Mapping[str, Any], report: Reporter) -> None:
        super().__init__(config)
        self.id = str(report.trial)
        self.objective: Any = None
        self._report = report
        self._stopped = False

    @property
    def parameters(self) -> dict[str, Any]:
        """The configuration."""
        return dict(self)

    def record(self, budget: float, objective: float) -> None:
        """Report the objective at a budget (an epoch, say); ask :meth:`stopped` afterwards."""
        self.objective = objective
        try:
            self._report(budget=budget, objective=objective)
        except (AbandonedTrial, TrialTimeout):
            raise
        except StopTrial:
            self._stopped = True

    def stopped(self) -> bool:
        """Whether the stopper wants the run function to return now."""
        return self._stopped


@dataclass(frozen=True, slots=True)
class RunFunction:
    """A DeepHyper run function in dhpo's form."""

    function: Callable[..., Any]

    def __call__(self, job: Configuration, report: Reporter) -> Any:
        """Run it."""
        return self.function(RunningJob(job, report))


@dataclass(frozen=True, slots=True)
class Job:
    """What callbacks are told of a trial. ``objective`` is None while it runs, "F_reason" when it failed."""

    id: str
    parameters: dict[str, Any]
    objective: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def args(self) -> dict[str, Any]:
        """The configuration."""
        return self.parameters


class Callback:
    """The base of callbacks: override what you want to be told of."""

    def on_launch(self, job: Job) -> None:
        """Told when a trial is given to a worker."""

    def on_done(self, job: Job) -> None:
        """Told when a trial has ended."""


class TqdmCallback(Callback):
    """Shows a progress bar, with the number of failures and the best objective."""


class LoggerCallback(Callback):
    """Prints a line for each trial that ends."""

    def __init__(self) -> None:
        self._count = 0
        self._best: Any = None

    def on_done(self, job: Job) -> None:
        """Print the best objective so far and this one."""
        self._count += 1
        value = job.objective
        if isinstance(value, float):
            self._best = value if self._best is None else max(self._best, value)
            value = f"{value:.5f}"
        best = "" if self._best is None else f" -- best objective: {self._best:.5f}"
        print(f"[{self._count:05d}]{best} -- received objective: {value}")


class SearchEarlyStopping(Callback):
    """Ends the search when the objective has not improved for a while.

    Args:
        patience: how many ended trials without an improvement end the search.

    Raises:
        SettingError: a ``threshold`` is given, which dhpo's patience has not.
    """

    def __init__(self, patience: int = 10, threshold: float | None = None) -> None:
        if threshold is not None:
            raise SettingError(f"threshold={threshold!r}: leave it out, the patience counts from the first trial on")
        self.patience = patience


class Watcher:
    """Tells callbacks what happens in a search."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks

    def __call__(self, events: Sequence[Event], study: Study) -> None:
        """Translate a batch of events."""
        for event in events:
            if isinstance(event, TrialProposed):
                job = Job(str(event.trial), dict(event.config))
                for callback in self._callbacks:
                    callback.on_launch(job)
            elif isinstance(event, TrialCompleted | TrialFailed | TrialTimedOut):
                job = _ended(event, study)
                for callback in self._callbacks:
                    callback.on_done(job)


def _ended(event: TrialCompleted | TrialFailed | TrialTimedOut, study: Study) -> Job:
    trial = study.trials[event.trial]
    objective: Any = "F_TIMED_OUT"
    metadata: Mapping[str, Any] = {}
    if isinstance(event, TrialFailed):
        objective = event.error if event.error.startswith("F") else f"F_{event.error.partition(':')[0]}"
    elif isinstance(event, TrialCompleted):
        metadata = event.metadata
        values = [] if trial.costs is None else list(study.objectives.values(trial.costs).values())
        objective = values[0] if len(values) == 1 else values or "F_error"
    return Job(str(event.trial), dict(trial.config), objective, metadata)


class Evaluator:
    """Where and how a run function is evaluated. Made by :meth:`create`."""

    def __init__(
        self, run_function: Callable[..., Any], method: str, num_workers: int | None, callbacks: Sequence[Callback],
        cluster: Any,
    ) -> None:  # fmt: skip
        self.run_function = run_function
        self.method = method
        self.num_workers = num_workers
        self.callbacks = list(callbacks)
        self._cluster = cluster

    @classmethod
    def create(
        cls, run_function: Callable[..., Any], method: str = "thread", method_kwargs: Mapping[str, Any] | None = None
    ) -> Evaluator:
        """Make an evaluator.

        Args:
            run_function: ``run(job)``, where ``job`` is a mapping of hyperparameters; it returns the objective, which
                is maximised, a list of objectives, ``{"objective": ..., "metadata": ...}`` or ``"F_reason"``.
            method: "serial" and "thread" run it in this process, "process" and "loky" in ``num_workers`` processes
                of this machine, "dask" on the workers of a Dask cluster.
            method_kwargs: ``num_workers`` (1 by default; for "dask" one per processor), ``callbacks``,
                ``run_function_kwargs``, and, for "dask", ``cluster``: a Client, a cluster, an address or a scheduler
                file.

        Raises:
            SettingError: the method or one of its arguments is unknown.
            RunFunctionError: the run function is not callable, or is a coroutine function.
        """
        options = dict(method_kwargs or {})
        callbacks = options.pop("callbacks", None) or []
        num_workers = options.pop("num_workers", None if method == "dask" else 1)
        bound = options.pop("run_function_kwargs", None)
        cluster = options.pop("cluster", None) if method == "dask" else None
        if method not in METHODS:
            raise SettingError(f"method={method!r} is not available: write one of {', '.join(map(repr, METHODS))}")
        if options:
            raise SettingError(f"method_kwargs has {sorted(options)}, which the method {method!r} does not know")
        if method == "serial" and num_workers != 1:
            raise SettingError(f"num_workers={num_workers!r} with method='serial': write method='thread'")
        if not callable(run_function) or inspect.iscoroutinefunction(run_function):
            raise RunFunctionError(f"the run function is {run_function!r}: give a function that is not asynchronous")
        function = functools.partial(run_function, **bound) if bound else run_function
        return cls(function, method, num_workers, callbacks, cluster)

    def cluster(self) -> Any:
        """What :class:`dhpo.Search` takes as its cluster; a new one for each run."""
        if self.method == "serial":
            return "serial"
        if self.method == "thread":
            from dhpo.executors.local import LocalExecutor

            return LocalExecutor(self.num_workers)
        if self._cluster is not None:
            return self._cluster
        from dhpo.clusters.local import Local

        return Local(self.num_workers)
