"""The reports that wait, at the relay, for the driver's decision."""

from __future__ import annotations

import asyncio

#: The answer to a report that no longer counts.
STALE = "STALE"


class Asks:
    """Reports by trial: whoever ends a trial does not look through all that wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[int, asyncio.Future[str]]] = {}

    def of(self, key: str, index: int) -> tuple[asyncio.Future[str], bool]:
        """What will hold the decision about a trial's report, and whether it was asked for now, for the first time."""
        of_trial = self._waiting.setdefault(key, {})
        if index in of_trial:
            return of_trial[index], False
        of_trial[index] = asyncio.get_running_loop().create_future()
        return of_trial[index], True

    def answer(self, key: str, index: int, decision: str) -> None:
        """Let a report go on, if it waits."""
        of_trial = self._waiting.get(key, {})
        future = of_trial.pop(index, None)
        if not of_trial:
            self._waiting.pop(key, None)
        if future is not None and not future.done():
            future.set_result(decision)

    def end(self, key: str) -> None:
        """Let all reports of a trial go: it no longer counts."""
        for index in list(self._waiting.get(key, {})):
            self.answer(key, index, STALE)

    def end_all(self) -> None:
        """Let whoever waits go."""
        for key in list(self._waiting):
            self.end(key)
