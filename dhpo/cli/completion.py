"""What the shell offers when a search's directory is to be typed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_JOURNAL = "journal.jsonl"  # as dhpo.journal.FILE_NAME, which is slow to import for the press of a key
#: How deep below what is typed searches are looked for, and in how many folders.
_DEPTH, _FOLDERS = 3, 500


def journal_directories(incomplete: str) -> list[str]:
    """The directories of searches whose paths begin with what was typed."""
    parent, _, name = incomplete.rpartition("/")
    base = f"{parent}/" if "/" in incomplete else ""
    root = Path(base or ".").expanduser()
    return sorted(base + found for found in _searches(root, name))


def _searches(root: Path, prefix: str) -> Iterator[str]:
    """The searches below a folder, nearest ones first, by their relative paths."""
    level = [""]
    n_seen = 0
    for _ in range(_DEPTH):
        deeper: list[str] = []
        for where in level:
            for name in _folders(root / where):
                if (where or name.startswith(prefix)) and n_seen < _FOLDERS:
                    n_seen += 1
                    path = f"{where}{name}"
                    if (root / path / _JOURNAL).exists():
                        yield path
                    else:
                        deeper.append(f"{path}/")
        level = deeper


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []
