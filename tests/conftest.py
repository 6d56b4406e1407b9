"""What several test files share: a small space, and one real Dask cluster for the whole run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

# Before anything loads a numerical library: on a busy machine, threads that wait for each other by spinning make small
# linear algebra a hundred times slower.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import pytest
from distributed import Client, LocalCluster

from dhpo import HpProblem


def make_problem() -> HpProblem:
    problem = HpProblem()
    problem.add_hyperparameter((0.0, 1.0), "x")
    problem.add_hyperparameter((1, 1000), "n")
    return problem


@pytest.fixture
def problem() -> HpProblem:
    return make_problem()


@pytest.fixture(autouse=True)
def _log_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    """Dask's clusters silence the handlers that there are, and leave them so where they end in another order."""
    caplog.handler.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def dask_cluster() -> Iterator[LocalCluster]:
    """Two worker processes of one thread each."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def client(dask_cluster: LocalCluster) -> Iterator[Client]:
    with Client(dask_cluster) as client:
        yield client
