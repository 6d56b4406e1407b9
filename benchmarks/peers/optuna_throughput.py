"""No-op trials per second: ``TRIALS WORKERS``; random sampler, threads, a journal file."""

import json
import sys
import tempfile
import time

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def noop(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


if __name__ == "__main__":
    trials, workers = map(int, sys.argv[1:])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(f"{directory}/journal")), sampler=optuna.samplers.RandomSampler()
        )
        start = time.perf_counter()
        study.optimize(noop, n_trials=trials, n_jobs=workers)
        rate = trials / (time.perf_counter() - start)
    print(json.dumps({"name": "Optuna, random, threads, journal", "rate": rate}))
