"""``Search``: what a user builds and runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dhpo import loop
from dhpo._background import Background
from dhpo._html import pairs
from dhpo.budget import check_count, parse_budget, parse_duration
from dhpo.callbacks.base import Callback
from dhpo.clusters.resolve import check_resources, resolve
from dhpo.driver import Driver
from dhpo.errors import SettingError
from dhpo.function import UserFunction
from dhpo.journal import Journal
from dhpo.known import KnownResult
from dhpo.manual import Manual, ManualTrial
from dhpo.objectives import Objectives
from dhpo.results import Results
from dhpo.script_trial import ScriptTrial
from dhpo.searchers import resolve as resolve_searcher
from dhpo.searchers.base import learns
from dhpo.searchers.continued import Continued
from dhpo.searchers.prior import Prior
from dhpo.session import Session, Setup
from dhpo.space import HpProblem
from dhpo.stopping.base import NeverStop, Stopper
from dhpo.trial import Decision
from dhpo.warm_start import WarmStart
from dhpo.worker.job import ISOLATIONS, CallForm


class Search(Background, WarmStart):
    """A search for the best configurations of a run function.

    Args:
        problem: the search space: an :class:`HpProblem`, a ConfigSpace, or ``{name: value form}``.
        function: the run function, ``f(config)``, ``f(config, report)`` or ``f(config, report, data)``; it returns a
            number, one number per objective, a mapping, ``"F_reason"`` or (having reported) nothing, or is a generator
            that yields reports. None for searches driven by :meth:`ask` and :meth:`tell`.
        objectives: ``{name: "MAX" | "MIN"}``; one objective named "objective", to be maximised, where none is given.
        stopper: what stops weak trials, such as :class:`dhpo.Hyperband`.
        searcher: what proposes configurations: "cbo" (default), "random", "sobol", … or an object.
        prior: an earlier search, or a list of several, to start ahead with; each a :class:`Results`, a results frame,
            the path of a ``results.csv``, the directory of a search, or what :func:`dhpo.searchers.fit_prior` returns.
            See :meth:`fit_generative_model`.
        cluster: where trials run: "local" (worker processes on this machine), "serial", "threads", "slurm", "pbs",
            "allocation", a cluster such as :class:`dhpo.Slurm` or a list of them (:class:`dhpo.Pools`), a Dask Client
            or cluster, a scheduler's address or scheduler file, or an executor.
        resources: what one trial takes at least, ``{"num_cpus": 1, "num_gpus": 0}``; in a batch job of its own it gets
            all that the job has.
        data: what the run function gets as ``data``: a mapping of arrays and frames, or a :class:`dhpo.Loader`. It
            goes to each node once and is mapped read-only there.
        log_dir: the search's directory, with its journal, ``results.csv`` and the trials' checkpoints. A search that
            finds its journal there goes on with it. None keeps everything in memory.
        random_state: the seed.
        trial_timeout: seconds, or "2h30m", after which a trial is ended as timed out: at a report, or, with
            ``isolation="process"``, at once.
        isolation: where the run function is called. "thread": in the worker itself. "process": in a process of its own
            on the worker, so that a trial that crashes, runs out of memory, never reports or holds the interpreter's
            lock is one failed (or timed out) trial and harms nothing else; it costs some ms per trial and the
            function's imports once per worker.
        max_failures: the search is given up when this many trials in a row have failed; None never does.
        ahead: trials given to the cluster beyond its slots, so that none waits for its next one. "auto": as many as
            short trials are found to need, those of milliseconds several to a task, where the searcher does not learn
            from results; none where it does, since each trial is to be proposed from all of them.
        callbacks: told of what happens while the search runs, and able to end it: see :mod:`dhpo.callbacks`.

    Raises:
        dhpo.errors.DhpoError: something of it cannot be used; nothing has been submitted or written then.
    """

    def __init__(
        self,
        problem: HpProblem | Mapping[str, Any] | Any,
        function: Callable[..., Any] | None = None,
        *,
        objectives: Any = None,
        stopper: Stopper | None = None,
        searcher: Any = "cbo",
        prior: Any = None,
        cluster: Any = "local",
        resources: Mapping[str, float] | None = None,
        data: Any = None,
        log_dir: str | Path | None = None,
        random_state: int | None = None,
        trial_timeout: float | str | None = None,
        isolation: str = "thread",
        max_failures: int | None = 100,
        ahead: int | str = "auto",
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.problem = problem if isinstance(problem, HpProblem) else HpProblem(problem)
        if len(self.problem) == 0:
            raise SettingError("the search space has no hyperparameters: add some with problem.add_hyperparameter(...)")
        self.objectives = Objectives.parse(objectives)
        self.stopper = stopper if stopper is not None else NeverStop()
        self.searcher = resolve_searcher(searcher)
        self.cluster = cluster
        self.resources = check_resources(resources)
        self.directory = None if log_dir is None else _directory(log_dir)
        self.random_state = _check_seed(random_state)
        self.trial_timeout = parse_duration(trial_timeout, "trial_timeout")
        if isolation not in ISOLATIONS:
            raise SettingError(f"isolation={isolation!r}: give one of {list(ISOLATIONS)}")
        self.isolation = isolation
        self.max_failures = check_count(max_failures, "max_failures")
        self.ahead = check_count(None if ahead == "auto" else ahead, "ahead", least=0)
        if self.ahead is None and learns(self.searcher):
            self.ahead = 0
        self.callbacks = _check_callbacks(callbacks)
        self._told = ()
        self._added: list[KnownResult] = []  # what was added before anything else happened
        self._running = False
        if isinstance(function, ScriptTrial):
            function.check(self.problem.hyperparameter_names)
        self._form = None if function is None else CallForm.of(function, has_data=data is not None)
        self._function = None if function is None else UserFunction(function, data, self.directory)
        self._session: Session | None = None
        self._memory: Journal | None = None  # what is kept between runs where there is no directory
        self._interrupted = False
        self._manual: Manual | None = None
        # Whatever does not go together shows now: binding needs no journal.
        self.stopper.bind(len(self.objectives), max_t=_max_t_of(self.problem, self.stopper.time_attr), seed=0)
        if prior is not None:
            sources = prior if isinstance(prior, list | tuple) else [prior]
            priors = [p if isinstance(p, Prior) else self._prior(p) for p in sources]
            self.searcher = replace(self._prepared(), prior=priors)
        self.searcher.bind(self.problem, self.objectives, seed=0, max_t=None)
        if function is not None:
            resolve(cluster, self.resources, self.ahead)

    def run(
        self,
        num_trials: int | None = None,
        time_out: float | str | None = None,
        *,
        max_evals: int | None = None,
        stop_at: Any = None,
        patience: int | None = None,
        progress: bool = True,
        watchers: Sequence[loop.Watcher] = (),
    ) -> Results:
        """Run the search until one of the budgets is reached; return what it found.

        Ctrl-C and SIGTERM stop it cleanly. In both cases, and after a crash, running it again with the same
        ``log_dir`` goes on: finished trials count, those that were running start again.

        Args:
            num_trials: how many trials the search runs in all, failed ones and those of earlier runs included, those of
                :meth:`add_results` not.
            time_out: seconds, or "2h30m", for this run; trials that run then are left for the next one.
            max_evals: the same as ``num_trials``.
            stop_at: end once a report is at least this good: a number, or ``{objective: value}``.
            patience: end after this many ended trials without an improvement.
            progress: show a progress bar.
            watchers: called as ``watcher(events, study)`` after each journalled batch.

        Raises:
            dhpo.errors.SettingError: a budget is missing or unusable.
            dhpo.errors.DhpoError: the journal, the run function, the data or the cluster cannot be used.
            dhpo.errors.ExhaustedFailuresError: too many trials in a row failed.
        """
        if self._function is None or self._form is None:
            raise SettingError("this search has no run function: give Search(problem, function), or use ask and tell")
        budget = parse_budget(
            self.objectives, num_trials, time_out, max_evals, stop_at, patience, max_failures=self.max_failures
        )
        session = self._open()
        self._added, self._running = [], True
        try:
            run = Driver(
                session=session,
                executor=resolve(self.cluster, self.resources, self.ahead, self.directory),
                function=self._function,
                form=self._form,
                resources=self.resources,
                trial_timeout=self.trial_timeout,
                isolation=self.isolation,
                budget=budget.begun(session.study.time),
                directory=self.directory,
                progress=progress,
                watchers=watchers,
                callbacks=self.callbacks,
            )
            self._interrupted = self._drive(run)
            return self.results
        finally:
            self._running = False
            self._function.rest()
            self.close()  # the journal has it all, and the next run folds it again

    def _open(self) -> Session:
        if self._session is None:
            searcher = Continued(self.searcher, self._told) if self._told else self.searcher
            max_t = _max_t_of(self.problem, self.stopper.time_attr)
            setup = Setup(self.problem, self.objectives, self.stopper, searcher, self.random_state, max_t)
            self._session = Session(setup, self.directory, self._memory)
            if self.directory is None:
                self._memory = self._session.journal
        return self._session

    def close(self) -> None:
        """Let go of the directory, which ask, tell and add_results hold; whatever comes next opens it again."""
        if self._session is not None:
            self._session.close()
            self._session = self._manual = None

    def move_to(self, log_dir: str | Path) -> None:
        """Keep the search in another directory than the ``log_dir`` that it was made with. For before its first run.

        What :meth:`add_results` has added goes with it.

        Raises:
            SettingError: it has begun, and is kept in memory or is being asked and told.
        """
        if self._session is not None and not self._added:
            raise SettingError("the search has begun: give log_dir to Search(...), or move it before the first run")
        directory = _directory(log_dir)
        carried = self._added if directory != self.directory else []
        if carried and self._session is not None:
            self._session.withdraw()
            self.close()
        self.directory, self._memory = directory, None
        if self._function is not None:
            self._function.directory = self.directory
        if carried:
            self._open().add(carried)

    @property
    def interrupted(self) -> bool:
        """Whether the last run was ended by a signal, with work left to do."""
        return self._interrupted

    @property
    def results(self) -> Results:
        """What was found so far."""
        if self.directory is not None:
            return Results.load(self.directory)
        return Results.of(self._memory or self._open().journal)

    def __repr__(self) -> str:
        state = "running" if self._running else f"at {self.directory}" if self.directory else "in memory"
        return f"<Search: {len(self.problem)} hyperparameters, {self.objectives.as_dict()}; {state}>"

    def _repr_html_(self) -> str:
        stopper, searcher = self.stopper.settings(), self.searcher.settings()
        return pairs(
            {
                "hyperparameters": ", ".join(self.problem.hyperparameter_names),
                "objectives": ", ".join(f"{name} ({way})" for name, way in self.objectives.as_dict().items()),
                "searcher": searcher.get("searcher"),
                "stopper": stopper.get("stopper"),
                "cluster": self.cluster,
                "directory": self.directory or "in memory",
                "state": "running" if self._running else "at rest",
            },
            "Search",
        )

    def ask(self, n: int = 1) -> list[ManualTrial]:
        """Make ``n`` trials to be run by hand; tell their results by :meth:`tell`."""
        return self._by_hand().ask(n)

    def tell(
        self,
        trial: ManualTrial | int,
        values: Any = None,
        *,
        resource: float | None = None,
        error: str | None = None,
    ) -> Decision:
        """Tell a report (``resource`` given), a result or a failure (``error`` given) of a trial from :meth:`ask`.

        Args:
            trial: the trial, or its number.
            values: as the run function reports or returns them.
            resource: the resource at which a report stands.
            error: why the trial failed.

        Returns:
            STOP when the trial is at its end, CONTINUE when it is to go on.
        """
        return self._by_hand().tell(trial, values, resource=resource, error=error)

    def _by_hand(self) -> Manual:
        if self._manual is None:
            self._manual = Manual(self._open())
            self._added = []
        return self._manual

    def _add(self, results: Sequence[KnownResult]) -> list[int]:
        if self._running:
            raise SettingError("the search is running: add results before or after a run")
        if self._manual is not None:
            return self._manual.add(results)
        is_first = self._session is None and self._memory is None
        session = self._open()
        if is_first or self._added:
            self._added += results
        return session.add(results)

    def _has_begun(self) -> bool:
        return self._session is not None or self._memory is not None


def _directory(log_dir: str | Path) -> Path:
    try:
        directory = Path(log_dir).expanduser().resolve()
        directory.exists()
    except (ValueError, OSError, RuntimeError) as error:  # a NUL, a name that is too long, a home of nobody
        raise SettingError(f"log_dir={str(log_dir)[:200]!r} cannot be a directory: {error}") from error
    return directory


def _check_callbacks(callbacks: Sequence[Callback]) -> tuple[Callback, ...]:
    given = tuple(callbacks) if isinstance(callbacks, list | tuple) else (callbacks,)
    for callback in given:
        if not isinstance(callback, Callback):
            raise SettingError(f"callbacks has {callback!r}: give objects of subclasses of dhpo.callbacks.Callback")
    return given


def _max_t_of(problem: HpProblem, attribute: str | None) -> float | None:
    """The largest resource, where a constant of the space tells it (``epochs=50``, ``max_t=50``, …)."""
    if attribute is None:
        return None
    for name in ("max_t", f"max_{attribute}", f"max_{attribute}s", f"{attribute}s", "epochs", "max_epochs"):
        value = getattr(problem.space.get(name), "value", None)  # what only a constant has
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _check_seed(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= value.__index__() < 2**63:
        raise SettingError(f"random_state={value!r}: give a whole number from 0 to 2**63 - 1")
    return int(value.__index__())
