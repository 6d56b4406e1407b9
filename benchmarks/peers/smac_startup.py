"""10 no-op trials on 2 worker processes of SMAC's own Dask cluster."""

import json
import tempfile
from pathlib import Path

from ConfigSpace import Configuration, ConfigurationSpace
from smac import HyperparameterOptimizationFacade, Scenario


def noop(config: Configuration, seed: int = 0) -> float:
    return float(config["x"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        scenario = Scenario(
            ConfigurationSpace({"x": (0.0, 1.0)}), n_trials=10, n_workers=2, deterministic=True,
            output_directory=Path(directory),
        )  # fmt: skip
        smac = HyperparameterOptimizationFacade(scenario, noop, overwrite=True, logging_level=False)
        smac.optimize()
        print(json.dumps({"name": "SMAC, 2 workers", "trials": len(smac.runhistory)}))
