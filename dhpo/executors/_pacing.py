"""How many trials go to a task, and how many tasks are given out ahead, where trials are short."""

from __future__ import annotations

from collections import deque
from math import ceil

from dhpo.worker.runner import End

#: Seconds that a task of several trials is to last: a few times what Dask and the driver need for one.
_TASK = 0.05
#: At most so many trials go to one task.
_MOST = 64
_WINDOW = 2 * _MOST
#: So many trials at least tell how long trials are.
_LEAST = 16
#: Nothing is given out ahead where trials, or tasks of several, last longer than so many seconds.
_SHORT = 1.0
#: Trials are alike where the longest of the last ones took at most so many times the mean.
_ALIKE = 4.0
#: A share of a slot's time that is not worth a trial that waits.
_NEGLIGIBLE = 0.02


class Pacing:
    """What a task and a slot are given, by the trials that have ended so far.

    Args:
        ahead: how many tasks more than there are slots are given out, each of one trial; None to have both measured.
    """

    def __init__(self, ahead: int | None) -> None:
        self._ahead = ahead
        self._seconds: deque[float] = deque(maxlen=_WINDOW)
        self._turnaround = 0.0  # seconds from the end of a trial to the submission of the next ones
        self._last_end: float | None = None  # unix time, not followed by a submission yet
        self._size: int | None = 1  # None when it is to be computed again

    def ended(self, end: End) -> None:
        """A trial came to an end by itself."""
        self._seconds.append(max(0.0, end.ended - end.started))
        self._last_end = end.ended
        self._size = None

    def submitted(self, now: float) -> None:
        """Trials were given out at this unix time."""
        if self._last_end is not None:
            took = min(max(now - self._last_end, 0.0), _SHORT)  # the clocks of two machines may differ
            self._turnaround += (took - self._turnaround) / 8
            self._last_end = None

    @property
    def size(self) -> int:
        """How many trials a task may have. One, unless the last ones were all short: packs grow as more are known."""
        if self._ahead is not None:
            return 1
        if self._size is None:
            seconds, n = self._seconds, len(self._seconds)
            if n < _LEAST or max(seconds) > _TASK:
                self._size = 1
            else:
                fitting = _TASK * n / max(sum(seconds), 1e-9)
                self._size = max(1, int(min(fitting, n / 2, _MOST)))
        return self._size

    def ahead(self, slots: int) -> int:
        """How many tasks more than there are slots hide the time in which a slot waits for its next one."""
        if self._ahead is not None or not slots:
            return self._ahead or 0
        n = len(self._seconds)
        if n < _LEAST:
            return 0
        mean = sum(self._seconds) / n
        lasts = mean * self.size
        if lasts > _SHORT or max(self._seconds) > max(_ALIKE * mean, _TASK):
            return 0
        share = self._turnaround / max(lasts, 1e-9)
        return 0 if share < _NEGLIGIBLE else min(slots, ceil(slots * share))
