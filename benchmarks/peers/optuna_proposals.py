"""Seconds per proposal of TPE, and for 100 at once: ``N PROPOSALS``; 7 mixed hyperparameters."""

import json
import math
import sys
import time

import optuna

SPACE = {
    "lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
    "dropout": optuna.distributions.FloatDistribution(0.0, 0.9),
    "width": optuna.distributions.IntDistribution(16, 1024, log=True),
    "depth": optuna.distributions.IntDistribution(1, 12),
    "batch": optuna.distributions.CategoricalDistribution([16, 32, 64, 128, 256]),
    "activation": optuna.distributions.CategoricalDistribution(["relu", "gelu", "tanh", "swish"]),
    "optimizer": optuna.distributions.CategoricalDistribution(["sgd", "adam"]),
}


def cost(config: dict) -> float:
    loss = (math.log10(config["lr"]) + 3) ** 2 + (config["dropout"] - 0.3) ** 2 + 0.1 * (config["depth"] - 6) ** 2
    return loss + 0.2 * (math.log2(config["width"]) - 8) ** 2 + 0.5 * (config["activation"] != "gelu")


if __name__ == "__main__":
    n, proposals = map(int, sys.argv[1:])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    draw = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(n):
        config = draw.ask(SPACE).params
        study.add_trial(optuna.trial.create_trial(params=config, distributions=SPACE, value=cost(config)))
    study.tell(trial := study.ask(SPACE), cost(trial.params))
    start = time.perf_counter()
    for _ in range(proposals):
        trial = study.ask(SPACE)
        study.tell(trial, cost(trial.params))
    each = (time.perf_counter() - start) / proposals
    start = time.perf_counter()
    for _ in range(100):
        study.ask(SPACE)
    print(json.dumps({"name": "Optuna, TPE", "each": each, "hundred": time.perf_counter() - start}))
