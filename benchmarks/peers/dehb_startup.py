"""10 no-op trials on 2 worker processes."""

import json
import tempfile
from typing import Any

from ConfigSpace import ConfigurationSpace
from dehb import DEHB
from loguru import logger


def noop(config: Any, fidelity: float, **_: Any) -> dict[str, float]:
    return {"fitness": float(config["x"]), "cost": 1.0}


if __name__ == "__main__":
    logger.remove()
    with tempfile.TemporaryDirectory() as directory:
        dehb = DEHB(
            f=noop, cs=ConfigurationSpace({"x": (0.0, 1.0)}), min_fidelity=1, max_fidelity=9, n_workers=2,
            output_path=directory,
        )  # fmt: skip
        _, _, history = dehb.run(fevals=10)
        print(json.dumps({"name": "DEHB, 2 workers", "trials": len(history)}))
