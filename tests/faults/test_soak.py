"""A soak of half a minute: the benchmark of twenty, cut short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_nothing_grows_and_nothing_is_lost() -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--minutes", "0.5"),
            *("--processes", "2", "--threads", "10", "--kill-every", "10"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "flat" in done.stdout
