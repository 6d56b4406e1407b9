"""The frames of a view, each drawn up once however many people look, and not more often than it is worth."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from dhpo.dashboard.charts import Columns
from dhpo.dashboard.frame import Choice, Frame, make_frame
from dhpo.dashboard.hyperparameters import Sample, sample, shares
from dhpo.dashboard.view import View

#: Seconds between two frames at least and at most; in between so many times longer than drawing one up takes.
_PAUSE, _LONGEST, _SHARE = 0.9, 10.0, 5.0
_MOST = 8
#: Seconds between two estimates of what matters, which are made in a thread, and how many times longer than one takes.
_ESTIMATE, _ESTIMATE_SHARE = 15.0, 20.0


class Frames:
    """Draws up frames.

    Args:
        view: of the search.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._made: dict[Choice, tuple[float, Any, Frame]] = {}  # choice -> (due again, made of, frame)
        self._importance: dict[int, Columns] = {}  # by the column of the objective
        self._due: dict[int, tuple[float, int]] = {}  # column -> (due again, runs that were known then)
        self._estimates: set[asyncio.Task[None]] = set()

    def at(self, choice: Choice, *, complete: bool) -> Frame:
        """What is to be shown now.

        Args:
            choice: what is chosen.
            complete: whether the view holds all that has happened.
        """
        choice = choice.within(len(self._view.objectives))
        now = time.monotonic()
        due, made_of, frame = self._made.get(choice, (0.0, None, None))
        if frame is not None and now < due:
            return frame
        if complete:
            self._estimate(choice.objective, now)
        estimate = self._importance.get(choice.objective)
        state = (self._view.n_events, self._view.facts, estimate)
        if frame is None or state != made_of:
            began = time.thread_time()
            frame = make_frame(self._view, choice, estimate)
            took = time.thread_time() - began
            if len(self._made) > _MOST:
                self._made.clear()
            self._made[choice] = (now + min(max(_PAUSE, _SHARE * took), _LONGEST), state, frame)
        return frame

    def _estimate(self, column: int, now: float) -> None:
        """Estimate the importance anew, where it is time and there is news."""
        due, known = self._due.get(column, (0.0, -1))
        n_runs = len(self._view.log.runs)
        if now < due or self._estimates or n_runs == known:
            return
        self._due[column] = (now + _ESTIMATE, n_runs)
        if (found := sample(self._view, column)) is None:
            return
        task = asyncio.get_running_loop().create_task(self._estimated(found, column, n_runs))
        self._estimates.add(task)
        task.add_done_callback(self._estimates.discard)

    async def _estimated(self, found: Sample, column: int, n_runs: int) -> None:
        began = time.monotonic()
        self._importance[column] = await asyncio.to_thread(shares, found)
        took = time.monotonic() - began
        self._due[column] = (began + max(_ESTIMATE, _ESTIMATE_SHARE * took), n_runs)
