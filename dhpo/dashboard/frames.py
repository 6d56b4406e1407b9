"""The frames of a view, each drawn up once however many people look, and not more often than it is worth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from dhpo.dashboard.charts import Columns
from dhpo.dashboard.frame import Choice, Frame, make_frame
from dhpo.dashboard.hyperparameters import Sample, sample, shares
from dhpo.dashboard.view import View

#: Seconds between two frames at least and at most; in between so many times longer than drawing one up takes.
_PAUSE, _LONGEST, _SHARE = 0.9, 10.0, 5.0
_MOST = 8
#: Seconds between two estimates of what matters, and how many times longer than one takes.
_ESTIMATE, _ESTIMATE_SHARE = 15.0, 20.0

T = TypeVar("T")


class Ask(Protocol):
    """Has something computed of the view, in the thread that it lives in."""

    def __call__(self, question: Callable[[View], T], /) -> Awaitable[T]:
        """What the question finds."""


class Frames:
    """Has frames drawn up. What is asked for meanwhile is the frame before.

    Args:
        empty: a view of the search before its first event.
        ask: has something computed of the search's view.
    """

    def __init__(self, empty: View, ask: Ask) -> None:
        self._empty = empty
        self._ask = ask
        self._made: dict[Choice, tuple[float, Any, Frame]] = {}  # choice -> (due again, made of, frame)
        self._importance: dict[int, Columns] = {}  # by the column of the objective
        self._due: dict[int, tuple[float, int]] = {}  # column -> (due again, runs that were known then)
        self._drawing: dict[Choice, asyncio.Task[None]] = {}
        self._estimates: set[asyncio.Task[None]] = set()

    def blank(self, choice: Choice) -> Frame:
        """What is shown before the first frame of a choice is there."""
        return make_frame(self._empty, choice)

    def at(self, choice: Choice, *, complete: bool) -> Frame | None:
        """What is to be shown now; None where that is yet to be drawn up.

        Args:
            choice: what is chosen.
            complete: whether the view holds all that has happened.
        """
        choice = choice.within(len(self._empty.objectives))
        due, _, frame = self._made.get(choice, (0.0, None, None))
        if time.monotonic() >= due and choice not in self._drawing:
            task = asyncio.get_running_loop().create_task(self._draw(choice, complete))
            self._drawing[choice] = task
            task.add_done_callback(lambda _: self._drawing.pop(choice))
        return frame

    async def _draw(self, choice: Choice, complete: bool) -> None:
        """Draw up a frame, where there is news."""
        estimate = self._importance.get(choice.objective)
        made_of = self._made[choice][1] if choice in self._made else None

        def drawn(view: View) -> tuple[Any, Frame | None, float]:
            began = time.thread_time()
            state = (view.n_events, view.facts, estimate, complete)
            if state == made_of:
                return state, None, 0.0
            frame = make_frame(view, choice, estimate)
            return state, frame._replace(is_complete=complete), time.thread_time() - began

        state, frame, took = await self._ask(drawn)
        if frame is not None:
            is_first = not self._made
            if len(self._made) > _MOST:
                self._made.clear()
            self._made[choice] = (time.monotonic() + min(max(_PAUSE, _SHARE * took), _LONGEST), state, frame)
            if is_first:  # before there is anything to stream
                await self._ask(_load)
        if complete and not self._estimates:
            task = asyncio.get_running_loop().create_task(self._estimate(choice.objective))
            self._estimates.add(task)
            task.add_done_callback(self._estimates.discard)

    async def _estimate(self, column: int) -> None:
        """Estimate the importance anew, where it is time and there is news."""
        due, known = self._due.get(column, (0.0, -1))
        began = time.monotonic()
        if began < due:
            return

        def taken(view: View) -> tuple[int, Sample | None]:
            n_runs = len(view.log.runs)
            return n_runs, None if n_runs == known else sample(view, column)

        n_runs, found = await self._ask(taken)
        self._due[column] = (began + _ESTIMATE, n_runs)
        if found is not None:
            began = time.monotonic()
            self._importance[column] = await asyncio.to_thread(shares, found)
            took = time.monotonic() - began
            self._due[column] = (began + max(_ESTIMATE, _ESTIMATE_SHARE * took), n_runs)


def _load(view: View) -> None:
    """Load what the estimates take, pandas among it: Bokeh, where it streams, looks whether that is there, not whether
    it is complete.
    """
    import sklearn.ensemble  # noqa: F401
