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

#: What is changed in each variant: settings of CBO, of Hyperband, or another adapter.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "textbook-rungs": {"hyperband": {"adaptive": False}},
    "no-rungs": {"opt": "dhpo-full"},
    "no-model": {"opt": "dhpo-random"},
    "trees": {"cbo": {"surrogate_model": "ET"}},
    "minmax": {"cbo": {"objective_scaler": "minmax"}},
    "ranks": {"cbo": {"objective_scaler": "quantile-uniform"}},
    "measured-distances": {"cbo": {"rung_trust": "measured"}},
    "judged-first": {"cbo": {"acq_resource": "first"}},
    "observed": {"cbo": {"acq_resource": "observed"}},
    "constant-liar": {"cbo": {"acq_func": "UCBd", "multi_point_strategy": "cl_mean"}},
    "total-deviation": {"cbo": {"acq_func": "qUCB"}},
    "logEI": {"cbo": {"acq_func": "logEI"}},
    "gp_hedge": {"cbo": {"acq_func": "gp_hedge"}},
    "Thompson": {"cbo": {"acq_func": "TS"}},
    "EHVI": {"cbo": {"acq_func": "EHVI"}},
    "update-prior": {"cbo": {"update_prior": True}},
    "10000-candidates": {"cbo": {"n_points": 10_000}},
    "long-start": {"cbo": {"n_initial_points": 15}},
    "no-random": {"cbo": {"random_fraction": 0.0}},
    "default-first": {"cbo": {"default_first": True}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--variants", default=",".join(VARIANTS), help="comma list; default: all")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "runs" / "ablation")
    options, rest = parser.parse_known_args()
    for name in options.variants.split(","):
        changed = VARIANTS[name]
        environment = {
            **os.environ,
            "DHPO_CBO": json.dumps(changed.get("cbo", {})),
            "DHPO_HYPERBAND": json.dumps(changed.get("hyperband", {})),
        }
        adapter = changed.get("opt", "dhpo")
        command = [sys.executable, str(HERE / "run.py"), "--opt", adapter, "--out", str(options.out / name), *rest]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
