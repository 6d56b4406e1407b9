"""Other optimisers beside dhpo: each in a virtual environment of its own, run by the scripts in ``peers/``.

``peers/<peer>_<what>.py`` knows nothing of dhpo and prints one line of JSON at its end. An environment is made when it
is first needed, with pip, in ``$DHPO_PEERS`` or the user's cache directory, and is kept for the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: What is installed for each peer.
PEERS = {
    "optuna": ("optuna==5.0.0",),
    "smac": ("smac==2.4.1",),
    "dehb": ("dehb==0.1.2",),
    "dask-ml": ("dask-ml==2025.1.0", "distributed"),
}
_SCRIPTS = Path(__file__).parent / "peers"


def add_option(arguments: argparse.ArgumentParser, what: str) -> None:
    """Add ``--peers``, with those that have a script for this benchmark."""
    arguments.add_argument(
        "--peers", nargs="*", default=[], choices=[peer for peer in PEERS if script(peer, what).exists()],
        help="also run these, each in an environment of its own, which pip fills at the first time",
    )  # fmt: skip


def script(peer: str, what: str) -> Path:
    """The script by which a peer does what a benchmark measures."""
    return _SCRIPTS / f"{peer.replace('-', '_')}_{what}.py"


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made where there is none with these versions."""
    wanted = PEERS[peer]
    root = os.environ.get("DHPO_PEERS") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "dhpo-peers")
    place = Path(root).expanduser() / peer
    python, made = place / "bin" / "python", place / "installed.json"
    if not made.exists() or json.loads(made.read_text(encoding="utf-8")) != list(wanted):
        print(f"installing {', '.join(wanted)} in {place}", file=sys.stderr)
        venv.create(place, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True, stdout=sys.stderr)
        made.write_text(json.dumps(wanted), encoding="utf-8")
    return python


def command(peer: str, what: str, *arguments: object) -> list[str]:
    """The command that runs a peer's script in its environment."""
    return [str(python_of(peer)), str(script(peer, what)), *map(str, arguments)]


def environment() -> dict[str, str]:
    """A peer's environment variables: this one's, without the path to dhpo."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(peer: str, what: str, *arguments: object) -> Any:
    """Run a peer's script; return what it prints in its last line."""
    done = subprocess.run(
        command(peer, what, *arguments), check=True, stdout=subprocess.PIPE, text=True, env=environment()
    )
    return json.loads(done.stdout.splitlines()[-1])


def each(peers: Sequence[str], what: str, *arguments: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the peers one after another; what each of them prints, whose ``"name"`` says how it was set up."""
    for peer in peers:
        print(f"\r{peer} …\r", end="", file=sys.stderr, flush=True)
        found: dict[str, Any] = run(peer, what, *arguments)
        yield found.pop("name", peer), found
