"""Seconds to load a study of so many trials from a journal file: ``TRIALS REPORTS``."""

import json
import sys
import tempfile
import time

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

if __name__ == "__main__":
    trials, reports = map(int, sys.argv[1:])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/journal"
        study = optuna.create_study(storage=JournalStorage(JournalFileBackend(path)), study_name="study")
        values = {step: 1.0 / step for step in range(1, reports + 1)}
        for i in range(trials):
            study.add_trial(
                optuna.trial.create_trial(
                    params={"x": i / trials}, distributions=space, value=float(i), intermediate_values=values
                )
            )
        start = time.perf_counter()
        loaded = optuna.load_study(storage=JournalStorage(JournalFileBackend(path)), study_name="study")
        found = len(loaded.trials)
        print(json.dumps({"name": "Optuna, journal", "seconds": time.perf_counter() - start, "trials": found}))
