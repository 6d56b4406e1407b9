"""Seconds per proposal of SMAC, told after each, and for 100 at once: ``N PROPOSALS``; 7 mixed hyperparameters."""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ConfigSpace import Categorical, Configuration, ConfigurationSpace, Float, Integer
from smac import HyperparameterOptimizationFacade, Scenario
from smac.runhistory import TrialInfo, TrialValue


def cost(config: Any) -> float:
    loss = (np.log10(config["lr"]) + 3) ** 2 + (config["dropout"] - 0.3) ** 2 + 0.1 * (config["depth"] - 6) ** 2
    return float(loss + 0.2 * (np.log2(config["width"]) - 8) ** 2 + 0.5 * (config["activation"] != "gelu"))


def target(config: Configuration, seed: int = 0) -> float:
    return cost(config)


if __name__ == "__main__":
    n, proposals = map(int, sys.argv[1:])
    space = ConfigurationSpace(seed=0)
    space.add(
        Float("lr", (1e-5, 1e-1), log=True),
        Float("dropout", (0.0, 0.9)),
        Integer("width", (16, 1024), log=True),
        Integer("depth", (1, 12)),
        Categorical("batch", [16, 32, 64, 128, 256]),
        Categorical("activation", ["relu", "gelu", "tanh", "swish"]),
        Categorical("optimizer", ["sgd", "adam"]),
    )
    with tempfile.TemporaryDirectory() as directory:
        scenario = Scenario(space, n_trials=10**7, deterministic=True, output_directory=Path(directory))
        smac = HyperparameterOptimizationFacade(
            scenario, target, overwrite=True, logging_level=False,
            initial_design=HyperparameterOptimizationFacade.get_initial_design(scenario, n_configs=1),
        )  # fmt: skip
        for config in space.sample_configuration(n):
            smac.tell(TrialInfo(config, seed=0), TrialValue(cost(config)), save=False)

        def propose(told: bool) -> None:
            info = smac.ask()
            if told:
                smac.tell(info, TrialValue(cost(info.config)), save=False)

        propose(told=True)
        start = time.perf_counter()
        for _ in range(proposals):
            propose(told=True)
        each = (time.perf_counter() - start) / proposals
        start = time.perf_counter()
        for _ in range(100):
            propose(told=False)
        print(json.dumps({"name": "SMAC", "each": each, "hundred": time.perf_counter() - start}))
