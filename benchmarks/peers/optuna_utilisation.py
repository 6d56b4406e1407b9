"""How busy threads are kept: ``WORKERS SECONDS MEAN SIGMA``; TPE, two objectives, a journal file, no stopping.

Trials sleep; how long is lognormal.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

SECONDS, MEAN, SIGMA = map(float, sys.argv[2:])
spans: list[tuple[float, float]] = []
under_way: dict[int, float] = {}


def train(trial: optuna.Trial) -> tuple[float, float]:
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    trial.suggest_float("decay", 1e-6, 1e-2, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.9)
    layers, units = trial.suggest_int("layers", 1, 8), trial.suggest_int("units", 16, 1024, log=True)
    trial.suggest_categorical("activation", ["relu", "tanh", "gelu"])
    trial.suggest_categorical("optimizer", ["adam", "sgd"])
    began = under_way[trial.number] = time.monotonic()
    time.sleep(random.Random(trial.number).lognormvariate(0.0, SIGMA) * MEAN / 2.718281828 ** (SIGMA**2 / 2))
    spans.append((began, time.monotonic()))
    del under_way[trial.number]
    return abs(rate - 1e-3) + abs(dropout - 0.3) + 0.1 * abs(layers - 4), float(layers * units)


if __name__ == "__main__":
    workers = int(sys.argv[1])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directory = tempfile.mkdtemp()
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(f"{directory}/journal")), directions=["minimize", "minimize"]
    )
    begin = time.monotonic()
    end = begin + SECONDS
    running = threading.Thread(target=study.optimize, args=(train,), kwargs={"n_jobs": workers}, daemon=True)
    running.start()
    time.sleep(max(0.0, end - time.monotonic()))
    shown = [*spans, *((since, end) for since in [*under_way.values()])]
    busy = sum(max(0.0, min(ended, end) - began) for began, ended in shown)
    found = {"busy": busy / workers / SECONDS, "trials": len(spans) / SECONDS}
    print(json.dumps({"name": "Optuna, TPE, threads, journal", **found}), flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(0)  # nobody waits for the trials that run
