"""What was found so far, as a picture in a notebook that is drawn anew while the search runs."""

from __future__ import annotations

import sys
import time
from math import inf
from typing import Any

from dhpo._html import Chart, shown
from dhpo.callbacks.base import Callback, Ended, Finished, SearchInfo
from dhpo.errors import DhpoError


class LiveFrontCallback(Callback):
    """Shows the trials of this run in a notebook, at most once in ``every`` seconds.

    With one objective: each trial's value and the best so far. With several: the first two of them, and the front that
    they make. A search in a Jupyter notebook that shows its progress has one without being asked.

    Args:
        every: seconds between two pictures.
        display: shows an object of IPython's and returns what updates it; ``IPython.display.display`` by default.

    Raises:
        DhpoError: IPython is not installed.
    """

    def __init__(self, every: float = 1.0, display: Any = None) -> None:
        try:
            from IPython.display import HTML
            from IPython.display import display as ipython_display
        except ImportError as error:
            raise DhpoError("LiveFrontCallback needs IPython: pip install ipython") from error
        self.every = every
        self._display = display or ipython_display
        self._html: Any = HTML
        self._handle: Any = None
        self._drawn = -inf
        self._search: SearchInfo | None = None
        self._ended: list[Ended] = []

    def on_start(self, search: SearchInfo) -> None:
        """Make room for the picture."""
        self._search, self._ended, self._drawn = search, [], -inf
        self._handle = self._display(self._html(""), display_id=True)

    def on_end(self, trial: Ended) -> None:
        """Draw, unless it was drawn just now."""
        self._ended.append(trial)
        if time.monotonic() - self._drawn >= self.every:
            self._draw("running")

    def on_finish(self, search: Finished) -> None:
        """Draw it for the last time."""
        self._draw(search.reason or "interrupted")

    def _draw(self, state: str) -> None:
        if self._search is not None and self._handle is not None:
            self._handle.update(self._html(picture(self._search, self._ended, state)))
            self._drawn = time.monotonic()


def picture(search: SearchInfo, ended: list[Ended], state: str) -> str:
    """The trials that have ended as HTML."""
    names = list(search.objectives)
    good = [trial for trial in ended if trial.values is not None]
    text = f"{len(ended)} trials, {len(ended) - len(good)} failed; {state}"
    signs = [-1.0 if search.objectives[name] == "MAX" else 1.0 for name in names[:2]]
    values = [tuple((trial.values or {})[name] for name in names[:2]) for trial in good]
    if len(names) == 1:
        chart = _incumbent(names[0], signs[0], [value for (value,) in values])
    else:
        points = [(x, y) for x, y in values]
        chart = Chart(names[0], names[1], points, _front(points, signs))
    return f"<div>{chart.svg()}<p>{shown(text)}</p></div>"


def _incumbent(name: str, sign: float, values: list[float]) -> Chart:
    points = [(float(i), value) for i, value in enumerate(values, start=1)]
    best, line = inf, []
    for x, value in points:
        best = min(best, sign * value)
        line.append((x, sign * best))
    return Chart("trials", name, points, line)


def _front(points: list[tuple[float, float]], signs: list[float]) -> list[tuple[float, float]]:
    """The points of two objectives that no other dominates, along the first one."""
    front, best = [], inf
    for x, y in sorted(points, key=lambda point: (signs[0] * point[0], signs[1] * point[1])):
        if signs[1] * y < best:
            best = signs[1] * y
            front.append((x, y))
    return front


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None
