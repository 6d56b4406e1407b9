"""The benchmarks: ``python -m benchmarks`` lists them, ``python -m benchmarks NAME [options]`` runs one, ``all`` all.

``all`` leaves out those of ``APART``: what needs a Slurm to run on, or a long time. ``all --peers`` also runs the other
optimisers, where there is a script for them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
#: What is measured, by name: in words, and which peers can run it too.
COMMANDS = {
    "startup": ("M1: from start to exit with 10 no-op trials; import dhpo", ("optuna", "smac", "dehb")),
    "throughput": ("M2: no-op trials per second", ("optuna", "dehb", "dask-ml")),
    "reports": ("M3: reports per second, and how soon a decision comes", ("optuna",)),
    "proposals": ("M4: seconds per proposal by the number of observations", ("optuna", "smac", "dehb")),
    "utilisation": ("M5: busy share of 100 to 2,000 workers", ("optuna",)),
    "data": ("M6: one array for all trials, memory and bytes moved", ()),
    "resume": ("M7: a driver killed, and long journals read back", ("optuna",)),
    "memory": ("M8: memory of the driver and the scheduler", ()),
    "growth": ("M8: time per event by the number of past events", ()),
    "views": ("what people look at, with 100,000 trials of 50 reports each", ()),
    "soak": ("M8: a search of 20 minutes whose workers are killed at random", ()),
    "slurm_storm": ("a search on a real Slurm with short walltimes and cancelled jobs", ()),
    "journal": ("appends to a journal, and reading it", ()),
    "encoding": ("configurations sampled, encoded and decoded", ()),
    "isolation": ('what isolation="process" costs', ()),
    "scaling": ("where the limits lie with 10,000 workers", ()),
    "quality_sphere": ("search quality on a sphere, with and without transfer", ()),
}
#: What ``all`` does not run, and why.
APART = {"soak": "takes 20 minutes", "slurm_storm": "needs Slurm"}


def script(name: str) -> Path:
    return HERE / f"{name}.py"


def run(name: str, *options: str) -> int:
    """Run one of the benchmarks in a process of its own; return its exit status."""
    return subprocess.run([sys.executable, script(name), *options]).returncode


def run_all(peers: bool) -> int:
    """Run them one after another, but those apart; return 1 if any failed."""
    failed = []
    for name, (what, theirs) in available().items():
        if name in APART:
            print(f"\n## {name} was left out: it {APART[name]} (python -m benchmarks {name})", flush=True)
            continue
        print(f"\n## {name}: {what}", flush=True)
        if run(name, *(("--peers", *theirs) if peers and theirs else ())):
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def available() -> dict[str, tuple[str, tuple[str, ...]]]:
    """The benchmarks whose scripts are there."""
    return {name: entry for name, entry in COMMANDS.items() if script(name).exists()}


def main() -> int:
    name, *options = sys.argv[1:] or [""]
    if name == "all" and options in ([], ["--peers"]):
        return run_all(bool(options))
    if name in available():
        return run(name, *options)
    for known, (what, theirs) in available().items():
        more = f" (--peers {' '.join(theirs)})" if theirs else ""
        more += f" (not among all: {APART[known]})" if known in APART else ""
        print(f"{known:15} {what}{more}")
    print("\nRun one by its name, with --help for its options; or all of them: python -m benchmarks all [--peers]")
    return 2 if name not in ("", "-h", "--help") else 0


if __name__ == "__main__":
    sys.exit(main())
