"""What a study knows of one trial, and when the decisions about it are due."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from math import inf, nextafter
from typing import Any

from dhpo.events import Conclude, Start
from dhpo.stopping.base import BoundStopper, DecidesAlways
from dhpo.trial import Status

#: A trial is given up when this many distinct workers have died with it, and it got no further in between …
MAX_LOST_WORKERS = 3
#: … or workers this many times, where a worker that is started again keeps its name.
MAX_LOSSES = 10


class TrialState:
    """What the study knows of one trial. Small on purpose: a search may have a hundred thousand of them."""

    __slots__ = (
        "attempt", "bracket", "config", "costs", "furthest", "index", "lost_workers", "next_milestone", "number",
        "pausing", "promoted_from", "resource", "status", "stopping",
    )  # fmt: skip

    def __init__(self, number: int, config: Mapping[str, Any], bracket: int, next_milestone: float) -> None:
        self.number = number
        self.config = config
        self.bracket = bracket
        self.status = Status.RUNNING
        self.attempt = 1
        self.index = 0  # of the last accepted report of this attempt
        self.resource: float | None = None
        self.costs: tuple[float, ...] | None = None
        self.next_milestone = next_milestone
        self.stopping = False  # the stopper has decided to end it
        self.pausing = False  # … or to let it rest, once its run has ended
        self.promoted_from: float = 0  # the resource at which it rested last, before it went on
        self.furthest: float = 0  # the resource that any attempt has reached
        self.lost_workers: tuple[str, ...] = ()  # one for each loss since it got there

    def restart(self) -> None:
        """Begin the next attempt."""
        self.attempt += 1
        self.index = 0

    def lose(self, worker: str) -> None:
        """Begin the next attempt, since a worker was lost with this one; "" for one that was to go anyway."""
        if worker:
            self.lost_workers = (*self.lost_workers, worker)
        self.restart()

    def hopeless(self) -> str | None:
        """Why another attempt would most likely end like the last ones, if so many workers were lost."""
        losses = len(self.lost_workers)
        if losses < MAX_LOSSES and len(set(self.lost_workers)) < MAX_LOST_WORKERS:
            return None
        return (
            f"WorkerLost: {losses} workers died, or came to their end, while they ran this trial, and it got no "
            "further: it may take too much memory, or need checkpoints closer together than the walltime"
        )


class Schedule:
    """When decisions are due: at the milestones of a trial's bracket, or at each report from a resource on.

    Args:
        stopper: the bound stopper that decides.
    """

    def __init__(self, stopper: BoundStopper) -> None:
        self._stopper = stopper
        self._milestones: dict[int, tuple[float, ...]] = {}
        self._every = stopper.every if isinstance(stopper, DecidesAlways) else inf

    def milestones(self, bracket: int) -> tuple[float, ...]:
        """The resources at which decisions are due in a bracket."""
        found = self._milestones.get(bracket)
        if found is None:
            found = self._milestones[bracket] = tuple(self._stopper.milestones(bracket))
        return found

    def after(self, bracket: int, resource: float) -> float:
        """The least resource above this one at which a decision is due."""
        milestones = self.milestones(bracket)
        place = bisect_right(milestones, resource)
        later = milestones[place] if place < len(milestones) else inf
        return later if self._every == inf else min(later, max(self._every, nextafter(resource, inf)))

    def passed(self, trial: TrialState, resource: float) -> tuple[float, bool, float]:
        """What a report at this resource, for which a decision is due, means to the trial.

        One report may pass several milestones; it is compared at the highest, where the others are most like it.

        Returns:
            At which resource to judge; whether that is at a milestone; at which the next decision is due.
        """
        milestones, every = self.milestones(trial.bracket), self._every
        place = bisect_right(milestones, resource)
        highest = milestones[place - 1] if place else -inf
        is_milestone = highest >= trial.next_milestone
        later = milestones[place] if place < len(milestones) else inf
        if every == inf:
            return highest, is_milestone, later
        return (
            resource if resource >= every else highest,
            is_milestone,
            min(later, max(every, nextafter(resource, inf))),
        )

    def start(self, trial: TrialState) -> Start:
        """The command to run a trial, with the decisions that are still due."""
        milestones = self.milestones(trial.bracket)
        due = milestones[bisect_left(milestones, trial.next_milestone) :]
        every = inf if self._every == inf else max(self._every, trial.next_milestone)
        reached, known = trial.furthest, trial.promoted_from
        return Start(trial.number, trial.attempt, trial.config, due, self._stopper.max_t, every, reached, known)

    def again(self, trial: TrialState) -> Start | Conclude:
        """Start a trial's next attempt, unless nothing is left to do in it: its last report was its last one."""
        max_t = self._stopper.max_t
        complete = max_t is not None and trial.resource is not None and trial.resource >= max_t
        if trial.stopping or trial.pausing or complete:
            return Conclude(trial.number, trial.attempt, trial.stopping, trial.pausing)
        return self.start(trial)
