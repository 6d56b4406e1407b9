"""Runs a program of ``programs/``, or an example, as a person would: ``python program.py`` in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).with_name("programs")


def run_program(name: str, folder: Path, epilogue: str) -> subprocess.CompletedProcess[str]:
    """Run a program with an epilogue, which shows its variables, in ``folder``."""
    for path in PROGRAMS.glob("*.py"):
        shutil.copy(path, folder)
    with open(folder / name, "a") as file:
        file.write(f"\n{epilogue}\n")
    return run_script(folder / name, folder)


def run_script(
    script: Path, folder: Path, *arguments: str, data: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script in ``folder``; it must succeed."""
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    if data is not None:
        environment["DHPO_DATA"] = data
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done
