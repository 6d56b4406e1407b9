"""From the start of the process to its exit: 10 no-op trials on 2 workers, beside raw Dask; and ``import dhpo``.

    python benchmarks/startup.py [--repeats 7] [--peers optuna smac dehb]

Whole processes, run in turn. The clusters are ``LocalCluster(n_workers=2, threads_per_worker=1)`` in both, journals
are on.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import _peers
from _common import alternate, parser, scratch, table, verdict

RAW = """
from distributed import Client, LocalCluster

def noop(i):
    return i

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
        client.gather([client.submit(noop, i) for i in range(10)])
"""

DHPO = """
import tempfile
from dhpo import HpProblem, Search
{imports}
def noop(config):
    return config.x

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        problem = HpProblem({{"x": (0.0, 1.0)}})
        Search(problem, noop, cluster={cluster}, searcher={searcher!r}, log_dir=directory).run(10, progress=False)
"""

LOCAL = {"imports": "from dhpo.clusters.local import Local", "cluster": "Local(2)"}
SERIAL = {"imports": "", "cluster": '"serial"'}

SCRIPTS = {
    "raw Dask": RAW,
    "dhpo, local, CBO": DHPO.format(**LOCAL, searcher="cbo"),
    "dhpo, local, random": DHPO.format(**LOCAL, searcher="random"),
    "dhpo, serial, CBO": DHPO.format(**SERIAL, searcher="cbo"),
    "dhpo, serial, random": DHPO.format(**SERIAL, searcher="random"),
    "import dhpo": "import dhpo",
    "python alone": "pass",
}

LOADED = "import sys, dhpo; print([m for m in ('distributed', 'sklearn', 'pandas', 'numpy') if m in sys.modules])"


def seconds(script: Path) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, script], check=True)
    return time.perf_counter() - start


def peer_seconds(peer: str) -> float:
    command, environment = _peers.command(peer, "startup"), _peers.environment()
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    arguments = parser(__doc__, repeats=7)
    _peers.add_option(arguments, "startup")
    args = arguments.parse_args()
    with scratch() as directory:
        cases = {}
        for number, (name, text) in enumerate(SCRIPTS.items()):
            script = directory / f"case{number}.py"
            script.write_text(text)
            seconds(script)  # once, so that all modules are compiled and in the page cache
            cases[name] = partial(seconds, script)
        for peer in args.peers:
            cases[peer] = partial(peer_seconds, peer)
            cases[peer]()
        found = alternate(args.repeats, cases)
    raw = found["raw Dask"]
    rows = []
    for name, took in found.items():
        bound, target = None, ""
        if "local" in name:
            bound, target = 1.15 * raw, "<= 1.15 x raw"
        elif "serial" in name:
            bound, target = 0.7, "<= 0.7 s"
        elif name == "import dhpo":
            bound, target = 0.15 + found["python alone"], "<= 0.15 s more than python alone"
        result = "" if bound is None else verdict(took, most=bound)
        rows.append((name, f"{took:.3f}", f"{took / raw:.2f}", target, result))
    table("Seconds from start to exit", ("what", "seconds", "of raw Dask", "target", ""), rows)
    loaded = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout.strip()
    print(f"\nloaded by import dhpo, of distributed, sklearn, pandas and numpy: {loaded}")


if __name__ == "__main__":
    main()
