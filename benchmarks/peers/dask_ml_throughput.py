"""No-op fits per second: ``TRIALS WORKERS``; ``RandomizedSearchCV`` of an estimator that does nothing, one split."""

import json
import logging
import sys
import time
from typing import Any

import numpy as np
from dask_ml.model_selection import RandomizedSearchCV
from distributed import Client, LocalCluster
from sklearn.base import BaseEstimator
from sklearn.model_selection import PredefinedSplit


class Noop(BaseEstimator):
    def __init__(self, x: float = 0.0) -> None:
        self.x = x

    def fit(self, features: Any, targets: Any = None) -> "Noop":
        return self

    def score(self, features: Any, targets: Any = None) -> float:
        return float(self.x)


if __name__ == "__main__":
    trials, workers = map(int, sys.argv[1:])
    features, targets = np.zeros((2, 1)), np.zeros(2)
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
        ) as cluster,
        Client(cluster),
    ):
        search = RandomizedSearchCV(
            Noop(), {"x": np.linspace(0.0, 1.0, 10 * trials)}, n_iter=trials, cv=PredefinedSplit([-1, 0]), refit=False,
            cache_cv=False,
        )  # fmt: skip
        start = time.perf_counter()
        search.fit(features, targets)
        rate = trials / (time.perf_counter() - start)
    print(json.dumps({"name": "dask-ml, RandomizedSearchCV", "rate": rate}))
