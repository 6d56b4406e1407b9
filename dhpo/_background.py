"""A search that runs beside the program that started it: started, awaited, stopped."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self

from dhpo.driver import Driver
from dhpo.errors import SettingError
from dhpo.results import Results


class Background(ABC):
    """The part of a search that runs it in a thread, for :class:`dhpo.Search` to build on."""

    _driver: Driver | None = None  # while it runs
    _future: Future[Results] | None = None  # of the last start
    _ended_early = False  # it was asked to stop before it had a driver

    @abstractmethod
    def run(self, *budgets: Any, **settings: Any) -> Results:
        """Run the search to its end."""

    def start(self, *budgets: Any, **settings: Any) -> Self:
        """Run the search in the background, and return at once; then ``await search``, :meth:`wait` or :meth:`stop`.

        The program does not end before the search has. A signal does not reach it there: stop it by :meth:`stop`.

        Args:
            *budgets: as of :meth:`run`.
            **settings: likewise.

        Raises:
            SettingError: it is running already.
        """
        if self._future is not None and not self._future.done():
            raise SettingError("the search is running already: await it, or stop() it first")
        future: Future[Results] = Future()

        def serve() -> None:
            try:
                future.set_result(self.run(*budgets, **settings))
            except BaseException as error:
                future.set_exception(error)

        self._future, self._ended_early = future, False
        threading.Thread(target=serve, name="dhpo-search").start()
        return self

    async def run_async(self, *budgets: Any, **settings: Any) -> Results:
        """Like :meth:`run`, for programs with an event loop, which goes on meanwhile.

        When the awaiting task is cancelled, the search ends cleanly first, and can be gone on with.
        """
        return await self.start(*budgets, **settings)

    def __await__(self) -> Generator[Any, None, Results]:
        return self._awaited().__await__()

    async def _awaited(self) -> Results:
        future = self._started()
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            self.stop()
            with suppress(Exception):  # of the search; what counts now is that it was cancelled
                await asyncio.wrap_future(future)
            raise

    def wait(self, timeout: float | None = None) -> Results:
        """Wait until a search that was started has ended; return its results.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: it still runs then.
        """
        return self._started().result(timeout)

    def stop(self) -> None:
        """End the run cleanly, from another thread or a callback; the next one goes on. Returns at once."""
        self._ended_early = True
        if self._driver is not None:
            self._driver.stop()

    def _started(self) -> Future[Results]:
        if self._future is None:
            raise SettingError(
                "nothing to wait for: await search.run_async(num_trials=...), or search.start(...) first"
            )
        return self._future

    def _drive(self, driver: Driver) -> bool:
        """Run a driver; whether it was ended before its time."""
        self._driver = driver
        try:
            if self._ended_early:
                driver.stop()
            return driver.run()
        finally:
            self._driver, self._ended_early = None, False
