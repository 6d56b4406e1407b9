"""Seconds per proposal of SMAC, told after each, and for 100 at once: ``N PROPOSALS``; 7 mixed hyperparameters."""

import json
import sys
import tempfile
import time
from pathlib import Path

from _configspace import cost, make_space
from ConfigSpace import Configuration
from smac import HyperparameterOptimizationFacade, Scenario
from smac.runhistory import TrialInfo, TrialValue


def target(config: Configuration, seed: int = 0) -> float:
    return cost(config)


if __name__ == "__main__":
    n, proposals = map(int, sys.argv[1:])
    space = make_space()
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
