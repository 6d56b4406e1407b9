"""Each ingredient of the default searcher off, one at a time: ``python benchmarks/quality/ablation.py --exp q3``.

Takes the arguments of ``run.py`` except ``--opt``. Each variant has its results in a folder of its name in ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

#: What is changed in each variant: settings of CBO.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "trees": {"surrogate_model": "ET"},
    "minmax": {"objective_scaler": "minmax"},
    "ranks": {"objective_scaler": "quantile-uniform"},
    "fixed-kappa": {"acq_func": "UCBd", "multi_point_strategy": "cl_mean"},
    "total-deviation": {"acq_func": "qUCB"},
    "logEI": {"acq_func": "logEI"},
    "EHVI": {"acq_func": "EHVI"},
    "long-start": {"n_initial_points": 15},
    "no-random": {"random_fraction": 0.0},
    "default-first": {"default_first": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--variants", default=",".join(VARIANTS), help="comma list; default: all")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "runs" / "ablation")
    options, rest = parser.parse_known_args()
    for name in options.variants.split(","):
        settings = VARIANTS[name]
        environment = {**os.environ, "DHPO_CBO": json.dumps(settings)}
        command = [sys.executable, str(HERE / "run.py"), "--opt", "dhpo", "--out", str(options.out / name), *rest]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
