"""10 no-op trials on 2 threads, TPE, a journal file."""

import json
import tempfile

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def noop(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        study = optuna.create_study(storage=JournalStorage(JournalFileBackend(f"{directory}/journal")))
        study.optimize(noop, n_trials=10, n_jobs=2)
        print(json.dumps({"name": "Optuna, threads, journal", "trials": len(study.trials)}))
