"""What still fits before an end that is known beforehand: the walltime of a worker's job, or of the driver's.

Times that are measured in this search tell how long a trial will take until its next rung, or its end. Nothing here
reads a clock: what is left is given in seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import ceil, inf
from typing import NamedTuple

from dhpo.events import Start

#: Seconds that must be left after a unit of resource, for a checkpoint and for the way of the report; or half the time
#: of a unit, where that is more.
MARGIN = 3.0
#: So much of what was measured lies below an estimate: trials differ, and one that does not fit is begun in vain.
_QUANTILE = 0.75
_WINDOW = 200


class Horizon(NamedTuple):
    """An end that is known beforehand.

    Args:
        ends_at: unix time of the end, seconds.
        life: seconds from the beginning to that end: the most that a trial could have there.
    """

    ends_at: float
    life: float = inf

    def left(self, now: float) -> float:
        """Seconds until the end; 0 when it is past."""
        return max(0.0, self.ends_at - now)


def margin(unit: float) -> float:
    """Seconds to be kept free before an end, where a unit of resource takes ``unit`` seconds."""
    return max(MARGIN, unit / 2)


def fits(need: float, unit: float, left: float, life: float = inf) -> bool:
    """Whether to begin what takes ``need`` seconds, when ``left`` seconds are left of ``life``.

    What is longer than any life is begun when a unit of it fits, since a trial with checkpoints gets on unit by unit.
    Where not even a unit fits into a life, it is begun in the first half of one, so that nothing waits for ever.
    """
    spare = margin(unit)
    for seconds in (need, unit):
        if seconds + spare <= life:
            return seconds + spare <= left
    return 2 * left >= life


def next_stop(start: Start, resource: float, step: float) -> float | None:
    """The resource up to which a trial at ``resource`` goes on without a decision; None where that is not known."""
    stops = [milestone for milestone in start.milestones if milestone > resource]
    if start.every < inf:
        stops.append(max(start.every, resource + step))
    if start.max_t is not None:
        stops.append(start.max_t)
    return max(resource, min(stops)) if stops else None


class Durations:
    """How long this search's trials take, from the last ones that were measured. Nothing measured means 0 seconds."""

    def __init__(self) -> None:
        self._units: deque[float] = deque(maxlen=_WINDOW)  # seconds per unit of resource
        self._firsts: deque[tuple[float, float]] = deque(maxlen=_WINDOW)  # (seconds, units) up to the first report
        self._runs: deque[float] = deque(maxlen=_WINDOW)  # seconds of whole runs
        # None when they are to be computed again:
        self._unit: float | None = 0.0
        self._run: float | None = 0.0
        self._ready: float | None = 0.0

    def reported(self, seconds: float, units: float, *, first: bool) -> None:
        """A report came ``units`` of resource after the one before it, or after the run's beginning (``first``)."""
        if units <= 0:
            return
        if first:
            self._firsts.append((seconds, units))
        else:
            self._units.append(seconds / units)
        self._unit = self._ready = None

    def ran(self, seconds: float) -> None:
        """A trial ran from its beginning to an end of its own."""
        self._runs.append(seconds)
        self._run = None

    @property
    def unit(self) -> float:
        """Seconds per unit of resource."""
        if self._unit is None:
            # Up to the first report a trial also gets ready; it tells most where there is nothing else.
            self._unit = _upper(self._units or (seconds / units for seconds, units in self._firsts))
        return self._unit

    def need(self, start: Start) -> float:
        """Seconds that a trial takes from its start to its next rung, or to its end."""
        unit = self.unit
        stop = next_stop(start, start.resume_from, 1.0) if unit else None
        if stop is None:  # it does not report, or nobody knows how far it goes
            if self._run is None:
                self._run = _upper(self._runs)
            return max(unit, self._run - start.resume_from * unit)
        if self._ready is None:
            self._ready = _upper(max(0.0, seconds - units * unit) for seconds, units in self._firsts)
        return self._ready + (stop - start.resume_from) * unit


class Stint:
    """One run of a trial: how fast it is, and whether what comes next fits.

    Args:
        start: what is run.
        unit: seconds per unit of resource, as other trials of the search tell it; 0 where none does.
    """

    def __init__(self, start: Start, unit: float = 0.0) -> None:
        self._start = start
        self._known = unit
        self._paces: deque[float] = deque(maxlen=3)
        self._resource = start.resume_from
        self._step = 1.0

    def reported(self, resource: float, seconds: float, *, first: bool) -> float:
        """It took ``seconds`` to come to ``resource``. Returns how many units of resource these were."""
        began = self._start.resume_from if first else self._resource
        units = resource - began if resource > began else resource  # without a checkpoint it begins at 0
        self._resource, self._step = resource, units
        if not first or not self._known:
            self._paces.append(seconds / units)
        return units

    @property
    def step(self) -> float:
        """Seconds from one report to the next."""
        return self._step * max(self._paces, default=self._known)

    def goes_on(self, left: float, life: float, *, at_rung: bool) -> bool:
        """Whether what follows the last report is to be begun: the way to the next rung after a rung, else a step."""
        return fits(self._need(self._resource) if at_rung else self.step, self.step, left, life)

    def ends_soon(self, left: float, life: float, since: float) -> bool:
        """Whether the run will have to leave at its next report, ``since`` seconds after the last one."""
        if not fits(self.step, self.step, left, life):
            return True
        start, coming = self._start, self._resource + self._step
        if start.max_t is not None and coming >= start.max_t:
            return False
        passes = any(self._resource < m <= coming for m in start.milestones) or coming >= start.every
        then = left - max(0.0, self.step - since)
        return passes and not fits(self._need(coming), self.step, then, life)

    def _need(self, resource: float) -> float:
        stop = next_stop(self._start, resource, self._step)
        return self.step if stop is None else (stop - resource) / self._step * self.step


def _upper(samples: Iterable[float]) -> float:
    ordered = sorted(samples)
    return ordered[ceil(_QUANTILE * len(ordered)) - 1] if ordered else 0.0
