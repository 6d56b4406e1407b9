"""Seconds per proposal of DEHB (which has no model), and for 100 at once: ``N PROPOSALS``; 7 mixed hyperparameters."""

import json
import sys
import tempfile
import time
from typing import Any

import numpy as np
from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer
from dehb import DEHB
from loguru import logger


def cost(config: Any) -> float:
    loss = (np.log10(config["lr"]) + 3) ** 2 + (config["dropout"] - 0.3) ** 2 + 0.1 * (config["depth"] - 6) ** 2
    return float(loss + 0.2 * (np.log2(config["width"]) - 8) ** 2 + 0.5 * (config["activation"] != "gelu"))


if __name__ == "__main__":
    n, proposals = map(int, sys.argv[1:])
    logger.remove()
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
        dehb = DEHB(f=None, cs=space, min_fidelity=1, max_fidelity=27, n_workers=1, output_path=directory, seed=0)

        def propose() -> None:
            info = dehb.ask()
            dehb.tell(info, {"fitness": cost(info["config"]), "cost": 1.0})

        for _ in range(n):
            propose()
        start = time.perf_counter()
        for _ in range(proposals):
            propose()
        each = (time.perf_counter() - start) / proposals
        start = time.perf_counter()
        for _ in range(100):
            dehb.ask()
        print(json.dumps({"name": "DEHB (no model)", "each": each, "hundred": time.perf_counter() - start}))
