"""Reports of trials that do nothing: ``TRIALS EPOCHS GRACE``; random sampler, 2 threads, a journal file.

First nothing is stopped, for the rate; then by asynchronous halving, for the length of stopped trials.
"""

import json
import sys
import tempfile
import time

import optuna
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

EPOCHS = int(sys.argv[2])


def train(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0.0, 1.0)
    for epoch in range(1, EPOCHS + 1):
        trial.report(x, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x


def optimise(directory: str, name: str, pruner: BasePruner, trials: int) -> tuple[list[FrozenTrial], float]:
    """The trials, and how many seconds they took."""
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(f"{directory}/{name}")), pruner=pruner, direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip
    start = time.perf_counter()
    study.optimize(train, n_trials=trials, n_jobs=2)
    return study.trials, time.perf_counter() - start


if __name__ == "__main__":
    trials, grace = int(sys.argv[1]), int(sys.argv[3])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        _, took = optimise(directory, "whole", NopPruner(), trials)
        halving = SuccessiveHalvingPruner(min_resource=grace, reduction_factor=3)
        stopped, _ = optimise(directory, "halving", halving, trials)
    lengths = [len(t.intermediate_values) for t in stopped if t.state is TrialState.PRUNED]
    first = [n for n in lengths if n < 3 * grace]
    found = {"rate": trials * EPOCHS / took, "epochs": sum(first) / len(first), "stopped": len(first)}
    print(json.dumps({"name": "Optuna, threads, journal", **found}))
