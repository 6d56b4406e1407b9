"""Worker processes that start without the user's script.

Python's ``multiprocessing`` has every spawned process import the main script again, up to its
``if __name__ == "__main__"``: a script without that line would start its search anew in each worker, and one with it
would at least import and load everything twice. Run functions travel by value, so that workers need none of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from typing import Any

_NANNY = "Dask Worker process"

_lock = threading.Lock()
_original = spawn.get_preparation_data
_users = 0


@contextmanager
def without_main_script() -> Iterator[None]:
    """While this is entered, Dask's worker processes, and no other ones, start without the main script."""
    global _users
    with _lock:
        _users += 1
        spawn.get_preparation_data = _preparation_data
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                spawn.get_preparation_data = _original


def _preparation_data(name: str) -> dict[str, Any]:
    data: dict[str, Any] = _original(name)
    if name.startswith(_NANNY):
        data.pop("init_main_from_path", None)
        data.pop("init_main_from_name", None)
    return data
