"""No-op trials per second: ``TRIALS WORKERS``; worker processes."""

import json
import sys
import tempfile
import time
from typing import Any

from ConfigSpace import ConfigurationSpace
from dehb import DEHB
from loguru import logger


def noop(config: Any, fidelity: float, **_: Any) -> dict[str, float]:
    return {"fitness": float(config["x"]), "cost": 1.0}


if __name__ == "__main__":
    trials, workers = map(int, sys.argv[1:])
    logger.remove()
    with tempfile.TemporaryDirectory() as directory:
        dehb = DEHB(
            f=noop, cs=ConfigurationSpace({"x": (0.0, 1.0)}), min_fidelity=1, max_fidelity=9, n_workers=workers,
            output_path=directory,
        )  # fmt: skip
        start = time.perf_counter()
        dehb.run(fevals=trials)
        rate = trials / (time.perf_counter() - start)
    print(json.dumps({"name": "DEHB", "rate": rate}))
