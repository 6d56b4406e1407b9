"""DeepHyper's vocabulary, for programs that were written for it (releases 0.8 to 0.13).

    from dhpo.compat.deephyper import CBO, Evaluator, HpProblem, TqdmCallback

takes the place of the imports from ``deephyper.hpo``, ``deephyper.evaluator`` and ``deephyper.evaluator.callback``; the
rest of the program stays as it is. Behind the names stand :class:`dhpo.Search` and its parts; an argument that is not
given has dhpo's own default.

What is different:

* Nothing is written unless ``log_dir`` is given (DeepHyper writes to the current directory). A search that finds its
  journal in ``log_dir`` goes on with it.
* ``max_evals`` is never overshot.
* A search of several objectives names them, ``CBO(..., objectives=["accuracy", "speed"])``, or gives
  ``moo_lower_bounds`` or ``moo_scalarization_weight``, which tell their number. All are maximised.
* The results frame has a few more columns, such as ``m:worker``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from dhpo.compat._deephyper_evaluator import (
    Callback,
    Evaluator,
    Job,
    LoggerCallback,
    RunFunction,
    RunningJob,
    SearchEarlyStopping,
    TqdmCallback,
    Watcher,
)
from dhpo.compat._deephyper_settings import CBOSettings, to_cbo
from dhpo.compat._failures import warn_if_all_failed
from dhpo.errors import SettingError
from dhpo.objectives import Objectives
from dhpo.search import Search
from dhpo.searchers import RandomSearcher, Searcher, rows_from
from dhpo.searchers.continued import Continued, observations_of
from dhpo.searchers.prior import Prior
from dhpo.space import HpProblem
from dhpo.stopping.base import Stopper
from dhpo.stopping.hyperband import Hyperband
from dhpo.trial import Observation, Status

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CBO",
    "Callback",
    "Evaluator",
    "HpProblem",
    "Job",
    "LoggerCallback",
    "RandomSearch",
    "RunningJob",
    "SearchEarlyStopping",
    "SuccessiveHalvingStopper",
    "TqdmCallback",
]


def SuccessiveHalvingStopper(max_steps: float, min_steps: float = 1, reduction_factor: float = 3) -> Hyperband:
    """The stopper of run functions that call ``job.record(budget, objective)`` and ask ``job.stopped()``."""
    return Hyperband(time_attr="budget", max_t=max_steps, grace_period=min_steps, reduction_factor=reduction_factor)


class RandomSearch:
    """Random search.

    Args:
        problem: the search space.
        evaluator: an :class:`Evaluator`, or a run function, which is then evaluated in this process; it may be given
            to :meth:`search` instead.
        random_state: the seed, or a numpy ``RandomState`` that it is drawn from.
        log_dir: the search's directory; None keeps everything in memory.
        verbose: without effect.
        stopper: such as :func:`SuccessiveHalvingStopper`.
        objectives: their names, where there are several.
    """

    def __init__(
        self,
        problem: HpProblem,
        evaluator: Evaluator | Callable[..., Any] | None = None,
        random_state: Any = None,
        log_dir: str | Path | None = None,
        verbose: int = 0,
        stopper: Stopper | None = None,
        *,
        objectives: Sequence[str] | Mapping[str, str] | None = None,
    ) -> None:
        self.problem = problem
        self._searcher: Searcher = RandomSearcher(default_first=False)
        self._earlier: tuple[Observation, ...] = ()
        self._objectives = Objectives.parse(objectives)
        self._max_failures: int | None = 100
        self._random_state = _seed(random_state)
        self._log_dir = log_dir
        self._stopper = stopper
        self._search: Search | None = None
        self._ended = 0
        self._evaluator = _as_evaluator(evaluator)

    def search(self, *args: Any, evaluator: Evaluator | None = None, **options: Any) -> pd.DataFrame:
        """Run the search: ``search(max_evals=-1, timeout=None, max_evals_strict=False)``.

        The evaluator may come first: ``search(evaluator, max_evals, ...)``. A further call goes on with the search; its
        ``max_evals`` counts the further evaluations.

        Args:
            *args: an evaluator or not, then ``max_evals``, ``timeout`` (seconds) and ``max_evals_strict``, which is
                always so.
            evaluator: the evaluator.
            **options: ``max_evals``, ``timeout`` and ``max_evals_strict`` by name.

        Returns:
            One row for each evaluation so far, as of :meth:`dhpo.Results.to_frame`.

        Raises:
            DhpoError: see :class:`dhpo.Search` and its ``run``.
        """
        if args and (isinstance(args[0], Evaluator) or callable(args[0])):
            evaluator, *args = args  # type: ignore[assignment]
        if evaluator is not None:
            self._evaluator = self._same(_as_evaluator(evaluator))
        return self._go_on(*args, **options)

    def _go_on(self, max_evals: int = -1, timeout: float | None = None, max_evals_strict: bool = False) -> pd.DataFrame:
        if self._evaluator is None:
            raise SettingError("this search has no evaluator: give search(evaluator, max_evals)")
        callbacks = self._evaluator.callbacks
        if self._search is None:
            self._search = self._built(self._evaluator)
        self._search.cluster = self._evaluator.cluster()
        patience = [c.patience for c in callbacks if isinstance(c, SearchEarlyStopping)]
        results = self._search.run(
            num_trials=None if max_evals < 0 else self._ended + max_evals,
            time_out=timeout,
            patience=min(patience, default=None),
            progress=any(isinstance(c, TqdmCallback) for c in callbacks),
            watchers=[Watcher(callbacks)],
        )
        self._ended = sum(status is not Status.RUNNING for status in results.statuses().values())
        warn_if_all_failed(results)
        return results.to_frame()

    def _built(self, evaluator: Evaluator) -> Search:
        return Search(
            self.problem,
            RunFunction(evaluator.run_function),
            objectives=self._objectives,
            stopper=self._stopper,
            searcher=Continued(self._searcher, self._earlier) if self._earlier else self._searcher,
            cluster=evaluator.cluster(),
            log_dir=self._log_dir,
            random_state=self._random_state,
            max_failures=self._max_failures,
        )

    def _same(self, evaluator: Evaluator | None) -> Evaluator | None:
        known = None if self._search is None or self._evaluator is None else self._evaluator.run_function
        if known is not None and evaluator is not None and evaluator.run_function is not known:
            raise SettingError("this search has another run function already: make a new search for this one")
        return evaluator


class CBO(RandomSearch):
    """Bayesian optimisation, by :class:`dhpo.CBO`.

    Args:
        problem: the search space.
        evaluator: an :class:`Evaluator`, or a run function, which is then evaluated in this process; it may be given
            to :meth:`search` instead.
        random_state: the seed, or a numpy ``RandomState`` that it is drawn from.
        log_dir: the search's directory; None keeps everything in memory.
        verbose: without effect.
        stopper: such as :func:`SuccessiveHalvingStopper`.
        objectives: their names, where there are several.
        **settings: those of :class:`~dhpo.compat._deephyper_settings.CBOSettings`. A few of them are without effect;
            where dhpo lacks what one asks for, the nearest is taken, with a warning.

    Raises:
        TypeError: an argument is unknown.
        SettingError: an argument is unusable.
    """

    def __init__(
        self,
        problem: HpProblem,
        evaluator: Evaluator | Callable[..., Any] | None = None,
        random_state: Any = None,
        log_dir: str | Path | None = None,
        verbose: int = 0,
        stopper: Stopper | None = None,
        *,
        objectives: Sequence[str] | Mapping[str, str] | None = None,
        **settings: Unpack[CBOSettings],
    ) -> None:
        searcher = to_cbo(settings)
        per_objective = searcher.moo_lower_bounds or searcher.moo_scalarization_weight
        if objectives is None and per_objective is not None:
            objectives = [f"objective_{i}" for i in range(len(per_objective))]
        super().__init__(problem, evaluator, random_state, log_dir, verbose, stopper, objectives=objectives)
        self._searcher = searcher
        self._max_failures = searcher.max_failures

    def fit_generative_model(
        self, df: Any, q: float = 0.90, n_samples: int = 100, verbose: bool = False, **kwargs: Any
    ) -> tuple[float, Prior]:
        """Start ahead: learn from an earlier search where good configurations are. To be called before the search.

        Args:
            df: the results frame of an earlier search, or the path of its ``.csv`` file.
            q: the quantile of the objective above which a configuration counts as good.
            n_samples: without effect, as ``verbose`` and further arguments.
            verbose: without effect.
            **kwargs: without effect.

        Returns:
            NaN, where DeepHyper has the score of its own model, and the fitted prior.

        Raises:
            TransferError: the results cannot be used.
        """
        self._check_not_started("fit_generative_model")
        search = Search(self.problem, objectives=self._objectives, searcher=self._searcher)
        prior = search.fit_generative_model(df, q, directions=self._objectives)
        self._searcher = search.searcher
        return math.nan, prior

    def fit_surrogate(self, df: Any) -> None:
        """Go on from the results of an earlier search of the same problem, as if they were this search's own.

        Args:
            df: a results frame, or the path of its ``.csv`` file.

        Raises:
            TransferError: the results cannot be used, or lack one of the problem's hyperparameters.
        """
        self._check_not_started("fit_surrogate")
        rows, values = rows_from(df)
        first = 1 + len(self._earlier) // 2
        self._earlier += observations_of(self.problem, self._objectives, rows, values, first=first)

    def fit_search_space(self, df: Any, fac_numerical: float = 0.125, fac_categorical: float = 10) -> None:
        """Narrow the problem's distributions around the best configuration of an earlier search.

        Args:
            df: a results frame, or the path of its ``.csv`` file.
            fac_numerical: the standard deviation of numbers, as a share of their range.
            fac_categorical: how many times as probable as each other choice the best one becomes.

        Raises:
            TransferError: the results cannot be used.
        """
        self._check_not_started("fit_search_space")
        search = Search(self.problem, objectives=self._objectives, searcher="random")
        self.problem = search.fit_search_space(df, fac_numerical, fac_categorical, directions=self._objectives)

    def _check_not_started(self, method: str) -> None:
        if self._search is not None:
            raise SettingError(f"{method} comes too late: call it before the first search()")


def _as_evaluator(value: Any) -> Evaluator | None:
    if value is None or isinstance(value, Evaluator):
        return value
    if not callable(value):
        raise SettingError(f"evaluator={value!r}: give Evaluator.create(run, ...) or the run function itself")
    return Evaluator.create(value, method="serial")


def _seed(value: Any) -> int | None:
    return int(value.randint(2**31)) if hasattr(value, "randint") else value
