"""One callback, as it is called: what it does not override costs nothing, and what it raises harms nobody."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from dhpo.callbacks.base import Callback
from dhpo.errors import StopSearch

logger = logging.getLogger("dhpo.callbacks")

#: Seconds that a callback in the background may take at the end of a run to come to the end of what it was told.
PATIENCE = 60.0


class Listener:
    """Calls one callback.

    Args:
        callback: the callback.
        wake: called when it wants the search to end.

    Attributes:
        reason: why it wants the search to end; None while it does not.
    """

    def __init__(self, callback: Callback, wake: Callable[[], None]) -> None:
        self.reason: str | None = None
        self._name = type(callback).__name__
        self._wake = wake
        self._n_failed = 0
        self._calls: dict[str, Callable[[Any], None]] = {
            name: getattr(callback, name)
            for name in vars(Callback)
            if name.startswith("on_") and _overrides(callback, name)
        }
        self._queue: queue.SimpleQueue[tuple[str, Any] | None] | None = None
        self._thread: threading.Thread | None = None
        if callback.background:
            self._queue = queue.SimpleQueue()
            self._thread = threading.Thread(target=self._serve, name=f"dhpo-{self._name}", daemon=True)
            self._thread.start()

    def hears(self, name: str) -> bool:
        """Whether the callback wants to be told of this."""
        return name in self._calls

    def tell(self, name: str, value: Any) -> None:
        """Tell the callback, if it wants to know."""
        if name not in self._calls:
            return
        if self._queue is not None:
            self._queue.put((name, value))
        else:
            self._call(name, value)

    def close(self) -> None:
        """Wait until a callback in the background has heard all."""
        if self._queue is not None and self._thread is not None:
            self._queue.put(None)
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                logger.warning("the callback %s was still busy %g s after the end: left behind", self._name, PATIENCE)
        if self._n_failed > 1:
            logger.warning("the callback %s raised %d times in all", self._name, self._n_failed)

    def _serve(self) -> None:
        assert self._queue is not None
        while (item := self._queue.get()) is not None:
            self._call(*item)

    def _call(self, name: str, value: Any) -> None:
        try:
            self._calls[name](value)
        except StopSearch as stop:
            if self.reason is None:
                self.reason = str(stop) or f"{self._name} ended it"
                self._wake()
        except Exception:
            self._n_failed += 1
            if self._n_failed == 1:
                logger.exception(
                    "the callback %s raised in %s; the search goes on, and more of its errors are only counted",
                    self._name, name,
                )  # fmt: skip


def _overrides(callback: Callback, name: str) -> bool:
    return getattr(getattr(callback, name), "__func__", None) is not vars(Callback)[name]
