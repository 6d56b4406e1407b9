"""The view of a search and the thread that it lives in: whoever wants something of it asks there, one after another.

What computes for long there lets other threads go on: the event loop beside it does not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dhpo.dashboard.view import View

T = TypeVar("T")


class Desk:
    """Answers questions about a view.

    Args:
        view: which nobody else uses from now on.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._thread = ThreadPoolExecutor(1, "dhpo-dashboard")

    async def ask(self, question: Callable[[View], T]) -> T:
        """What a question finds."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, question, self._view)
