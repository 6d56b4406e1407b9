"""Run one cell of the quality benchmark: ``python benchmarks/quality/run.py --exp q1 --opt dhpo --W 4 --seeds 0-4``.

The harness ``hpoq`` (simulator, benchmarks, metrics) is looked for in ``DHPO_QUALITY`` or ``../shared/quality``; it
takes the same arguments as its own ``run.py``. Results are appended to CSV files under ``--out``.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

HERE = Path(__file__).resolve().parent


def main() -> None:
    harness = Path(os.environ.get("DHPO_QUALITY", HERE.parents[2] / "shared" / "quality"))
    if not (harness / "hpoq").is_dir():
        sys.exit(f"there is no hpoq in {harness}: set DHPO_QUALITY to the folder that holds it")
    sys.path[:0] = [str(harness), str(HERE.parents[1])]
    import hpoq.optimizers as optimizers

    optimizers.__path__.append(str(HERE))
    for name in ("dhpo", "dhpo-full", "dhpo-random", "dhpo-transfer"):
        optimizers.REGISTRY[name] = ("", "dhpo_adapters")
    if not any(argument.startswith("--out") for argument in sys.argv):
        sys.argv += ["--out", str(HERE.parents[1] / "runs" / "quality")]
    runpy.run_path(str(harness / "run.py"), run_name="__main__")


if __name__ == "__main__":
    main()
