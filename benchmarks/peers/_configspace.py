"""What the peers that know ConfigSpace propose for: the 7 mixed hyperparameters of ``benchmarks/proposals.py``."""

from typing import Any

import numpy as np
from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer


def cost(config: Any) -> float:
    loss = (np.log10(config["lr"]) + 3) ** 2 + (config["dropout"] - 0.3) ** 2 + 0.1 * (config["depth"] - 6) ** 2
    return float(loss + 0.2 * (np.log2(config["width"]) - 8) ** 2 + 0.5 * (config["activation"] != "gelu"))


def make_space() -> ConfigurationSpace:
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
    return space
