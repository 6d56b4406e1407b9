"""Searches over scikit-learn estimators: :class:`DhpoSearchCV`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import check_random_state, indexable
from sklearn.utils.validation import _check_method_params

try:
    from sklearn.utils import get_tags
except ImportError:  # before 1.6 there are no such tags, and nobody asks for them
    get_tags = None

from dhpo._cv_results import Table, table_of
from dhpo._cv_trials import EpochTrial, FoldTrial
from dhpo.callbacks.base import Callback
from dhpo.results import Results
from dhpo.search import Search
from dhpo.stopping.base import NeverStop, Stopper
from dhpo.stopping.hyperband import Hyperband

__all__ = ["DhpoSearchCV"]


class DhpoSearchCV(BaseSearchCV):  # type: ignore[misc]
    """A scikit-learn search like ``RandomizedSearchCV``, whose trials run on dhpo's workers and are stopped early.

    By default a trial is a cross-validation: its folds are fitted one after another, the mean score so far is reported
    after each, and what is weak after the first folds is stopped there. With ``max_epochs`` a trial is trained by
    ``partial_fit``, epoch by epoch on all folds side by side, and judged by Hyperband on the way.

    Only a trial that was not stopped can be the best one, as long as there is any.

    Args:
        estimator: what is tuned.
        param_space: ``{parameter: value form}`` as :class:`dhpo.HpProblem` takes it, such as
            ``{"alpha": (1e-6, 1e-1, "log-uniform"), "penalty": ["l1", "l2"]}``, or such a problem.
        n_trials: how many configurations are tried.
        time_out: seconds, or "2h30m".
        scoring: one scorer, as scikit-learn has it; the estimator's own by default.
        cv: folds, as scikit-learn has them.
        refit: fit the best configuration on all data; or a callable ``f(cv_results_) -> best index``.
        max_epochs: the most calls of ``partial_fit``, each with all of a fold's training data. The best estimator is
            trained by as many.
        early_stopping: stop what is weak.
        reduction_factor: of Hyperband: of what comes to a rung, about one in so many goes on.
        searcher: as of :class:`dhpo.Search`; also the next three.
        cluster: "serial", "threads", "local", "slurm", a cluster, a Dask client, ….
        resources: what one trial takes.
        log_dir: the search's directory; a fit that finds its journal there goes on with it.
        error_score: "raise", or the score of what could not be fitted.
        random_state: a seed, or a numpy ``RandomState``.
        callbacks: see :mod:`dhpo.callbacks`.

    Attributes:
        cv_results_: as of ``RandomizedSearchCV``, with ``n_resources`` (folds or epochs) and ``status`` of each trial.
        best_index_, best_params_, best_score_, best_estimator_, refit_time_, scorer_, n_splits_: likewise.
    """

    def __init__(
        self,
        estimator: Any,
        param_space: Any,
        *,
        n_trials: int = 20,
        time_out: float | str | None = None,
        scoring: Any = None,
        cv: Any = None,
        refit: Any = True,
        max_epochs: int | None = None,
        early_stopping: bool = True,
        reduction_factor: float = 3,
        searcher: Any = "cbo",
        cluster: Any = "serial",
        resources: Mapping[str, float] | None = None,
        log_dir: Any = None,
        error_score: Any = np.nan,
        random_state: Any = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        super().__init__(estimator, scoring=scoring, cv=cv, refit=refit, error_score=error_score)
        self.param_space = param_space
        self.n_trials = n_trials
        self.time_out = time_out
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.reduction_factor = reduction_factor
        self.searcher = searcher
        self.cluster = cluster
        self.resources = resources
        self.log_dir = log_dir
        self.random_state = random_state
        self.callbacks = callbacks

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.target_tags.multi_output = inner.target_tags.multi_output
        return tags

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Search, and refit.

        Args:
            X: (samples, features).
            y: the targets, (samples,) or (samples, outputs); None where there are none.
            **params: ``groups`` for the folds; all else goes to the estimator's ``fit``, split where it has one value
                for each sample.

        Raises:
            ValueError: ``max_epochs`` is given for an estimator without ``partial_fit``, or nothing could be fitted.
        """
        if self.max_epochs is not None and not hasattr(self.estimator, "partial_fit"):
            raise ValueError(
                f"max_epochs={self.max_epochs!r} needs an estimator with partial_fit, which "
                f"{type(self.estimator).__name__} has not: leave it out"
            )
        self.scorer_ = check_scoring(self.estimator, scoring=self.scoring)
        self.multimetric_ = False
        X, y = indexable(X, y)
        groups = params.pop("groups", None)
        params = _check_method_params(X, params=params)
        folds = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        splits = list(folds.split(X, y, groups))
        self.n_splits_ = len(splits)
        results = self._search(X, y, params, splits)
        self._judge(table_of(results, self.n_splits_, self._max_resource(), self.error_score))
        if self.refit:
            self._refit(X, y, params)
        return self

    def _max_resource(self) -> int:
        return self.n_splits_ if self.max_epochs is None else self.max_epochs

    def _search(self, X: Any, y: Any, params: Mapping[str, Any], splits: Sequence[Any]) -> Results:
        search = Search(
            self.param_space,
            self._trial(clone(self.estimator)),
            objectives={"score": "MAX"},
            stopper=self._stopper(),
            searcher=self.searcher,
            cluster=self.cluster,
            resources=self.resources,
            data={"X": X, "y": y, "params": dict(params), "splits": list(splits)},
            log_dir=self.log_dir,
            random_state=self._seed(),
            max_failures=None,
            callbacks=self.callbacks,
        )
        return search.run(num_trials=self.n_trials, time_out=self.time_out, progress=False)

    def _trial(self, estimator: Any) -> FoldTrial | EpochTrial:
        if self.max_epochs is None:
            return FoldTrial(estimator, self.scorer_)
        return EpochTrial(estimator, self.scorer_, self.max_epochs)

    def _stopper(self) -> Stopper:
        if not self.early_stopping or self._max_resource() < 2:
            return NeverStop()
        attribute = "fold" if self.max_epochs is None else "epoch"
        return Hyperband(time_attr=attribute, max_t=self._max_resource(), reduction_factor=self.reduction_factor)

    def _seed(self) -> int | None:
        if self.random_state is None or isinstance(self.random_state, int | np.integer):
            return None if self.random_state is None else int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _judge(self, table: Table) -> None:
        """Find the best.

        Raises:
            ValueError: nothing could be fitted, or something could not and ``error_score`` is "raise"; a TypeError
                where all that failed did so by that.
        """
        if table.errors and (self.error_score == "raise" or len(table.errors) == table.n_trials):
            kind = TypeError if all(error.startswith("TypeError") for error in table.errors) else ValueError
            raise kind(
                f"{len(table.errors)} of {table.n_trials} trials failed. It is very likely that the estimator is "
                f"misconfigured, or does not take such data. The first one failed with:\n{table.errors[0]}"
            )
        self.cv_results_ = table.columns
        chosen = self.refit(self.cv_results_) if callable(self.refit) else table.columns["rank_test_score"].argmin()
        self.best_index_ = int(chosen)
        self.best_params_ = self.cv_results_["params"][self.best_index_]
        if not callable(self.refit):
            self.best_score_ = float(self.cv_results_["mean_test_score"][self.best_index_])

    def _refit(self, X: Any, y: Any, params: Mapping[str, Any]) -> None:
        began = time.time()
        best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        if self.max_epochs is None:
            best.fit(X, **params) if y is None else best.fit(X, y, **params)
        else:
            EpochTrial(best, self.scorer_, self.max_epochs).train(best, X, y, params)
        self.best_estimator_ = best
        self.refit_time_ = time.time() - began
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
