"""``DhpoSearchCV``: scikit-learn's own checks, and what it finds."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification, make_regression
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from dhpo.callbacks import Callback, Ended
from dhpo.sklearn import DhpoSearchCV

FAST: dict[str, Any] = {"n_trials": 3, "searcher": "random", "random_state": 0, "cv": 2}


def checks() -> Iterator[Any]:
    """Those of scikit-learn, but for the ones that only ask how an estimator takes arrays of PyTorch, CuPy, …"""
    for search in (
        DhpoSearchCV(LogisticRegression(), {"C": (0.1, 10.0)}, **FAST),
        DhpoSearchCV(Ridge(), {"alpha": (0.1, 10.0)}, **FAST),
    ):
        for estimator, check in estimator_checks_generator(search):
            function = check.func if isinstance(check, partial) else check
            if "array_api" not in function.__name__:
                yield pytest.param(estimator, check, id=f"{type(search.estimator).__name__}-{function.__name__}")


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def data() -> tuple[Any, Any]:
    return make_classification(300, 8, random_state=1)


def test_folds_are_the_resource_and_the_best_is_complete() -> None:
    X, y = data()
    search = DhpoSearchCV(
        LogisticRegression(), {"C": (1e-4, 10.0, "log-uniform")}, n_trials=12, cv=6, searcher="random", random_state=0,
        reduction_factor=2,
    ).fit(X, y)  # fmt: skip
    table = search.cv_results_
    assert len(table["params"]) == 12
    assert set(table["n_resources"]) > {6}
    assert set(table["status"]) == {"COMPLETED", "STOPPED"}
    assert table["n_resources"][search.best_index_] == 6
    assert table["rank_test_score"][search.best_index_] == 1
    expected = cross_val_score(LogisticRegression(**search.best_params_), X, y, cv=6)
    assert search.best_score_ == pytest.approx(expected.mean())
    stopped = int(np.argmax(table["status"] == "STOPPED"))
    n = table["n_resources"][stopped]
    scores = [table[f"split{i}_test_score"][stopped] for i in range(6)]
    assert np.isfinite(scores[:n]).all()
    assert np.isnan(scores[n:]).all()
    assert table["mean_test_score"][stopped] == pytest.approx(np.mean(scores[:n]))
    assert search.score(X, y) == search.best_estimator_.score(X, y)
    assert search.predict(X).shape == y.shape
    assert list(search.classes_) == [0, 1]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(search)).predict(X), search.predict(X))


def test_epochs_are_the_resource_of_partial_fit() -> None:
    X, y = data()
    search = DhpoSearchCV(
        SGDClassifier(random_state=0), {"alpha": (1e-6, 10.0, "log-uniform")}, n_trials=9, cv=3, max_epochs=9,
        searcher="random", random_state=0, cluster="threads",
    ).fit(X, y)  # fmt: skip
    assert set(search.cv_results_["n_resources"]) >= {1, 9}
    assert search.best_estimator_.t_ == 9 * len(X) + 1
    assert search.best_score_ > 0.7
    with pytest.raises(ValueError, match="needs an estimator with partial_fit"):
        DhpoSearchCV(Ridge(), {"alpha": (0.1, 1.0)}, max_epochs=3).fit(X, y)


def test_without_early_stopping_every_trial_is_complete() -> None:
    X, y = make_regression(100, 4, random_state=0)
    settings = {**FAST, "cv": 3, "n_trials": 5}
    search = DhpoSearchCV(Ridge(), {"alpha": (0.1, 10.0)}, early_stopping=False, **settings).fit(X, y)
    assert list(search.cv_results_["n_resources"]) == [3] * 5
    again = clone(search).fit(X, y)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])


def test_fit_parameters_and_groups_are_split_with_the_data() -> None:
    X, y = data()
    groups = np.arange(len(X)) % 4
    weights = np.where(y == 0, 1e-9, 1.0)
    search = DhpoSearchCV(LogisticRegression(), {"C": (0.1, 1.0)}, **{**FAST, "cv": GroupKFold(4)})
    search.fit(X, y, groups=groups, sample_weight=weights)
    assert search.n_splits_ == 4
    assert (search.predict(X) == 1).all()


def test_a_pipeline_with_a_scorer_a_choice_and_a_callback() -> None:
    class Counter(Callback):
        ends = 0

        def on_end(self, trial: Ended) -> None:
            Counter.ends += 1

    X, y = data()
    space = {"logisticregression__C": (0.1, 10.0), "standardscaler__with_mean": [True, False]}
    search = DhpoSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression()), space, scoring="roc_auc",
        refit=lambda table: 1, callbacks=[Counter()], **FAST,
    ).fit(X, y)  # fmt: skip
    assert search.best_index_ == 1
    assert search.best_params_ == search.cv_results_["params"][1]
    assert Counter.ends == 3
    assert search.score(X, y) > 0.8


def test_failures_have_the_error_score_or_raise() -> None:
    X, y = data()
    space = {"penalty_": [0.5, 1.0]}
    with pytest.raises(ValueError, match="Invalid parameter 'penalty_'"):
        DhpoSearchCV(LogisticRegression(), space, **FAST).fit(X, y)
    some = {"C": [1.0, -1.0, 2.0]}
    settings = {**FAST, "n_trials": 3}
    search = DhpoSearchCV(LogisticRegression(), some, **settings).fit(X, y)
    failed = search.cv_results_["status"] == "FAILED"
    assert failed.sum() == 1
    assert np.isnan(search.cv_results_["mean_test_score"][failed]).all()
    assert search.cv_results_["rank_test_score"][failed] == 3
    zero = DhpoSearchCV(LogisticRegression(), some, error_score=0.0, **settings).fit(X, y)
    assert (zero.cv_results_["mean_test_score"][failed] == 0).all()
    with pytest.raises(ValueError, match="1 of 3 trials failed"):
        DhpoSearchCV(LogisticRegression(), some, error_score="raise", **settings).fit(X, y)
