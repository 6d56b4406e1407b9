"""Warm starts: what a search takes in from results that it did not find itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dhpo.errors import SettingError
from dhpo.known import KnownResult, read_known
from dhpo.objectives import Objectives
from dhpo.results import Results
from dhpo.searchers.continued import observations_of
from dhpo.searchers.narrowing import narrowed
from dhpo.searchers.prior import Prior, fit_prior, frame_from, rows_from
from dhpo.space import HpProblem
from dhpo.stopping.base import Stopper
from dhpo.trial import Observation


class WarmStart(ABC):
    """The part of a search that reads the results of others, for :class:`dhpo.Search` to build on."""

    problem: HpProblem
    objectives: Objectives
    stopper: Stopper
    searcher: Any
    _told: tuple[Observation, ...]  # results of the same task, for the searcher

    @abstractmethod
    def _add(self, results: Sequence[KnownResult]) -> list[int]:
        """Make known results trials; return their numbers."""

    @abstractmethod
    def _has_begun(self) -> bool:
        """Whether it is too late to change what the search starts from."""

    def add_results(self, results: Any, *, resource: float | None = None) -> list[int]:
        """Make known results of the *same* task trials of this search, without running them.

        They may be of an earlier search, of a paper's table, or of a colleague. From then on they are trials that have
        completed (or failed): the searcher learns from them, and they show in the results, the front and the best,
        with the origin "known", without a worker, and with no duration. They do not count in ``num_trials``, nor in
        ``patience`` and ``max_failures``, and no stopper compares with them.

        To be called before or after a run, or between :meth:`ask` and :meth:`tell`. They are in the journal when this
        returns. What is there already (the same configuration with the same values, or failed as well, at the same
        resource) is not added again, so that a script that is run again adds nothing twice.

        Args:
            results: pairs ``(configuration, values)``, where the values are a number, one number per objective, a
                mapping that holds the objectives, or ``"F_reason"`` for a failure; or a :class:`Results`, a results
                frame, the path of a ``results.csv``, or the directory of a search, of which trials that have not ended
                are left out.
            resource: the resource (such as the epoch) at which all of these values stand. By default a table's
                ``m:resource`` where the stopper has a ``time_attr``, and otherwise that of complete trials.

        Returns:
            The number of each result's trial, in the order of the results.

        Raises:
            TransferError: some cannot be used: a configuration is not in the space, an objective is missing or not
                finite, …; it names the rows, and nothing has been added.
            SettingError: the resource is unusable, or the search is running.
            JournalError: the journal cannot be used.
        """
        found = read_known(
            self.problem, self.objectives, _opened(results), resource=resource, time_attr=self.stopper.time_attr
        )
        return self._add(found) if found else []

    def fit_generative_model(
        self, results: Any, q: float = 0.90, *, directions: Any = None, rename: Mapping[str, str] | None = None
    ) -> Prior:
        """Start ahead: let the searcher prefer what was good in an earlier search. To be called before the first run.

        The earlier search may have had another task and another space. It takes the place of what was given as
        ``prior``; for several earlier searches, use that.

        Args:
            results: a :class:`Results`, a results frame, the path of a ``results.csv``, or the directory of a search.
            q: the quantile of the objective above which a configuration counts as good.
            directions: the earlier search's objectives, ``{name: "MAX" | "MIN"}``; by default its own where ``results``
                knows them, otherwise this search's.
            rename: the earlier search's names of hyperparameters to this one's, where they differ.

        Raises:
            TransferError: the results cannot be used.
            SettingError: the searcher uses no prior, or the search has begun.
        """
        searcher = self._prepared()
        prior = self._prior(results, q, directions, rename)
        self.searcher = replace(searcher, prior=prior)
        return prior

    def fit_surrogate(self, results: Any) -> None:
        """Go on from results of the *same* task: the searcher takes them for this search's own observations.

        They are no trials: they do not count in ``num_trials`` and do not show in the results. Call it again with the
        same results when the search is resumed. To be called before the first run, for each earlier search once.

        Args:
            results: as of :meth:`fit_generative_model`; all hyperparameters must be there, and the objectives are this
                search's, in its order.

        Raises:
            TransferError: the results cannot be used, or lack one of the hyperparameters.
            SettingError: the search has begun.
        """
        self._check_not_begun()
        frame = frame_from(_opened(results))
        rows, values = rows_from(frame)
        resources = None
        if self.stopper.time_attr is not None and "m:resource" in frame.columns:
            resources = [None if r != r else float(r) for r in frame["m:resource"].tolist()]
        first = 1 + len(self._told) // 2
        self._told += observations_of(self.problem, self.objectives, rows, values, resources=resources, first=first)

    def fit_search_space(
        self,
        results: Any,
        fac_numerical: float = 0.125,
        fac_categorical: float = 10,
        *,
        directions: Any = None,
        rename: Mapping[str, str] | None = None,
    ) -> HpProblem:
        """Start ahead: narrow the space's distributions around the best configuration of an earlier search.

        Ranges, conditions and forbidden clauses stay: what is far away becomes rare, not impossible. The narrowed
        space becomes this search's ``problem``, and has to be made again in the same way when the search is resumed.
        To be called before the first run, and before :meth:`fit_generative_model` and :meth:`fit_surrogate`.

        Args:
            results: as of :meth:`fit_generative_model`.
            fac_numerical: the standard deviation of numbers, as a share of their range.
            fac_categorical: how many times as probable as each other choice the best one becomes.
            directions: as of :meth:`fit_generative_model`.
            rename: as of :meth:`fit_generative_model`.

        Returns:
            The narrowed space; see :func:`dhpo.searchers.narrowing.narrowed`.

        Raises:
            TransferError: the results cannot be used.
            SettingError: the search has begun.
        """
        self._check_not_begun()
        results = _opened(results)
        rows, values = rows_from(results)
        self.problem = narrowed(
            self.problem,
            rows,
            values,
            directions=self._directions(results, directions),
            rename=rename,
            fac_numerical=fac_numerical,
            fac_categorical=fac_categorical,
        )
        return self.problem

    def _prior(
        self, results: Any, q: float = 0.90, directions: Any = None, rename: Mapping[str, str] | None = None
    ) -> Prior:
        results = _opened(results)
        rows, values = rows_from(results)
        return fit_prior(
            self.problem, rows, values, q=q, directions=self._directions(results, directions), rename=rename
        )

    def _directions(self, results: Any, given: Any) -> Objectives:
        return Objectives.parse(getattr(results, "objectives", self.objectives) if given is None else given)

    def _prepared(self) -> Any:
        """The searcher, if it can be given a prior now."""
        self._check_not_begun()
        if not hasattr(self.searcher, "prior"):
            raise SettingError(f"{type(self.searcher).__name__} uses no earlier results: give searcher=CBO()")
        return self.searcher

    def _check_not_begun(self) -> None:
        if self._has_begun():
            raise SettingError(
                "the search has begun: what it learns from earlier ones comes before its first run, ask or add_results"
            )


def _opened(results: Any) -> Any:
    """A directory of a search as its results; anything else as it is."""
    if isinstance(results, str | Path) and Path(results).expanduser().is_dir():
        return Results.load(Path(results).expanduser())
    return results
