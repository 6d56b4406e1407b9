"""Seconds per proposal of DEHB (which has no model), and for 100 at once: ``N PROPOSALS``; 7 mixed hyperparameters."""

import json
import sys
import tempfile
import time

from _configspace import cost, make_space
from dehb import DEHB
from loguru import logger

if __name__ == "__main__":
    n, proposals = map(int, sys.argv[1:])
    logger.remove()
    space = make_space()
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
