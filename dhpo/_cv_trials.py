"""Trials that fit a scikit-learn estimator on folds: as the workers run them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params

from dhpo.worker.reporter import Reporter

_Arrays = tuple[Any, Any]  # X and y


class _Fold(NamedTuple):
    train: _Arrays
    test: _Arrays
    params: Mapping[str, Any]


def _fold(estimator: Any, data: Mapping[str, Any], number: int) -> _Fold:
    X, y = data["X"], data["y"]
    train, test = data["splits"][number]
    return _Fold(
        _safe_split(estimator, X, y, train),
        _safe_split(estimator, X, y, test, train),
        _check_method_params(X, params=data["params"], indices=train),
    )


def _score(scorer: Any, estimator: Any, test: _Arrays) -> float:
    X, y = test
    return float(scorer(estimator, X) if y is None else scorer(estimator, X, y))


def _report(report: Reporter, name: str, at: int, scores: list[float], fitting: float, scoring: float) -> None:
    """Report the mean of the folds' scores so far, and all of them."""
    splits = {f"split{i}_test_score": score for i, score in enumerate(scores)}
    times = {"fit_time": fitting / len(scores), "score_time": scoring / len(scores)}
    report({name: at, "score": float(np.mean(scores)), **splits, **times})


@dataclass(frozen=True)
class FoldTrial:
    """Fits one fold after another.

    Args:
        estimator: is cloned for each.
        scorer: scores each.
    """

    estimator: Any
    scorer: Any

    def __call__(self, config: Mapping[str, Any], report: Reporter, data: Mapping[str, Any]) -> None:
        """Run one trial."""
        scores: list[float] = []
        fitting = scoring = 0.0
        for number in range(len(data["splits"])):
            estimator = clone(self.estimator).set_params(**config)
            fold = _fold(estimator, data, number)
            began = time.perf_counter()
            X, y = fold.train
            estimator.fit(X, **fold.params) if y is None else estimator.fit(X, y, **fold.params)
            fitted = time.perf_counter()
            scores.append(_score(self.scorer, estimator, fold.test))
            fitting += fitted - began
            scoring += time.perf_counter() - fitted
            _report(report, "fold", number + 1, scores, fitting, scoring)


@dataclass(frozen=True)
class EpochTrial:
    """Trains all folds side by side, epoch by epoch.

    Args:
        estimator: is cloned for each.
        scorer: scores each.
        max_epochs: how many there are.
    """

    estimator: Any
    scorer: Any
    max_epochs: int

    def __call__(self, config: Mapping[str, Any], report: Reporter, data: Mapping[str, Any]) -> None:
        """Run one trial."""
        estimators = [clone(self.estimator).set_params(**config) for _ in data["splits"]]
        folds = [_fold(estimator, data, number) for number, estimator in enumerate(estimators)]
        classes = self._classes(data["y"])
        fitting = scoring = 0.0
        for epoch in range(1, self.max_epochs + 1):
            began = time.perf_counter()
            for estimator, fold in zip(estimators, folds, strict=True):
                estimator.partial_fit(*fold.train, **classes, **fold.params)
            fitted = time.perf_counter()
            scores = [_score(self.scorer, e, fold.test) for e, fold in zip(estimators, folds, strict=True)]
            fitting += fitted - began
            scoring += time.perf_counter() - fitted
            _report(report, "epoch", epoch, scores, fitting, scoring)

    def train(self, estimator: Any, X: Any, y: Any, params: Mapping[str, Any]) -> None:
        """Train an estimator by all epochs."""
        classes = self._classes(y)
        for _ in range(self.max_epochs):
            estimator.partial_fit(X, y, **classes, **params)

    def _classes(self, y: Any) -> dict[str, Any]:
        return {"classes": np.unique(y)} if is_classifier(self.estimator) else {}
