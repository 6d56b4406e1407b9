"""The study: the pure fold of a search's events. Events go in, commands come out; nothing else happens here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from math import nextafter
from typing import Any

import numpy as np

from dhpo.events import (
    Command,
    Conclude,
    Decide,
    Event,
    GiveUp,
    Observe,
    SearchFinished,
    SessionOpened,
    Start,
    TrialAdded,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialProposed,
    TrialReported,
    TrialTimedOut,
    WorkerLost,
)
from dhpo.objectives import Objectives
from dhpo.stopping.base import BoundStopper, DecidesAlways, Promotes, bracket_of
from dhpo.trial import Decision, Observation, Phase, Proposal, Status

#: A trial is given up when this many distinct workers have died with it, and it got no further in between …
MAX_LOST_WORKERS = 3
#: … or workers this many times, where a worker that is started again keeps its name.
MAX_LOSSES = 10

_NEVER = float("inf")
_RUNNING = Status.RUNNING  # an enum's member is slow to look up, and a resumed search asks for it millions of times


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


class Front:
    """The non-dominated costs so far, kept up to date one by one."""

    def __init__(self, n_objectives: int) -> None:
        self.costs = np.empty((0, n_objectives))
        self.lowest = _NEVER  # cost of a single objective

    def __len__(self) -> int:
        return len(self.costs)

    def add(self, costs: tuple[float, ...]) -> bool:
        """Take a point in; False where another is at least as good in all objectives."""
        if len(costs) == 1:
            if self.lowest <= costs[0]:
                return False
            self.lowest = costs[0]
            self.costs = np.array([costs])
            return True
        if (self.costs <= costs).all(axis=1).any():
            return False
        stays = ~(self.costs >= costs).all(axis=1)
        self.costs = np.vstack([self.costs[stays], costs])
        return True

    def reaches(self, goal: tuple[float, ...]) -> bool:
        """Whether a point is at or below ``goal`` in all objectives."""
        return bool((self.costs <= goal).all(axis=1).any())


class Study:
    """The state of a search: ``apply`` folds one event into it and answers with commands.

    Args:
        objectives: what is optimised.
        stopper: the bound stopper that decides at milestones.
        seed: the search's seed; brackets are drawn per trial number from it.
    """

    def __init__(self, objectives: Objectives, stopper: BoundStopper, seed: int) -> None:
        self.objectives = objectives
        self.stopper = stopper
        self.seed = seed
        self.trials: list[TrialState] = []
        self.n_running = 0
        self.n_known = 0  # were added with their results, and not run
        self.n_failed = 0  # of those that were run
        self.failures_in_a_row = 0
        self.last_error = ""
        self.finished: str | None = None  # why, once it is
        self.time = 0.0  # of the last event
        self.front = Front(len(objectives))
        self.goal: tuple[float, ...] | None = None  # costs that would be good enough
        self.goal_met = False
        self.n_ended_at_improvement = 0
        self._milestones: dict[int, tuple[float, ...]] = {}
        self._every = stopper.every if isinstance(stopper, DecidesAlways) else _NEVER
        self._promoter = stopper if isinstance(stopper, Promotes) and stopper.pauses else None
        self._handlers: dict[type[Any], Callable[[Any], list[Command]]] = {
            TrialReported: self._reported,
            TrialProposed: self._proposed,
            TrialAdded: self._added,
            TrialCompleted: self._completed,
            TrialPaused: self._paused,
            TrialPromoted: self._promoted,
            TrialFailed: self._failed,
            TrialTimedOut: self._timed_out,
            WorkerLost: self._lost,
            SessionOpened: self._opened,
            SearchFinished: self._ended,
        }

    @property
    def n_run(self) -> int:
        """How many trials were made to be run: all but those that were added with their results."""
        return len(self.trials) - self.n_known

    @property
    def n_ended(self) -> int:
        """How many of the trials to be run have ended, in whatever way, or rest at a rung."""
        return self.n_run - self.n_running

    @property
    def best_cost(self) -> float | None:
        """The lowest cost seen so far, for one objective."""
        return float(self.front.costs[0, 0]) if self.objectives.single and len(self.front) else None

    def aim(self, goal: tuple[float, ...] | None) -> None:
        """Watch for costs that are all at or below ``goal``; ``goal_met`` tells whether there were any."""
        self.goal = goal
        self.goal_met = goal is not None and self.front.reaches(goal)

    def running(self) -> Iterator[TrialState]:
        """The trials that have not ended, and do not rest."""
        return (t for t in self.trials if t.status is Status.RUNNING)

    def milestones(self, bracket: int) -> tuple[float, ...]:
        """The resources at which decisions are due in a bracket."""
        if bracket not in self._milestones:
            self._milestones[bracket] = self.stopper.milestones(bracket)
        return self._milestones[bracket]

    def admit(self, proposals: Iterable[Proposal], time: float) -> list[TrialProposed]:
        """Turn proposals into the events that make them trials. The study changes only when these are applied."""
        events = []
        for number, proposal in enumerate(proposals, start=len(self.trials)):
            bracket = bracket_of(self.stopper, self.seed, number)
            events.append(TrialProposed(time, number, proposal.config, bracket, proposal.origin, proposal.n_observed))
        return events

    def promotable(self) -> Iterator[TrialState]:
        """The paused trials that may go on as things stand, the best one first."""
        candidates = () if self._promoter is None else self._promoter.promotable()
        return (trial for trial in map(self.trials.__getitem__, candidates) if trial.status is Status.PAUSED)

    def promote(self, n: int, time: float) -> list[TrialPromoted]:
        """The events that let up to ``n`` paused trials go on. The study changes only when these are applied."""
        return [TrialPromoted(time, trial.number, trial.attempt + 1) for trial in islice(self.promotable(), n)]

    def apply(self, event: Event) -> list[Command]:
        """Fold one event; return what has to be done about it. Events that no longer count change nothing."""
        if event.time > self.time:
            self.time = event.time
        return self._handlers[type(event)](event)

    def _start(self, trial: TrialState) -> Start:
        due = tuple(m for m in self.milestones(trial.bracket) if m >= trial.next_milestone)
        every = _NEVER if self._every == _NEVER else max(self._every, trial.next_milestone)
        reached, known = trial.furthest, trial.promoted_from
        return Start(trial.number, trial.attempt, trial.config, due, self.stopper.max_t, every, reached, known)

    def _again(self, trial: TrialState) -> Command:
        """Start a trial's next attempt, unless nothing is left to do in it: its last report was its last one."""
        max_t = self.stopper.max_t
        complete = max_t is not None and trial.resource is not None and trial.resource >= max_t
        if trial.stopping or trial.pausing or complete:
            return Conclude(trial.number, trial.attempt, trial.stopping, trial.pausing)
        return self._start(trial)

    def _opened(self, event: SessionOpened) -> list[Command]:
        self.finished = None
        self.failures_in_a_row = 0
        commands: list[Command] = []
        for trial in self.running():
            trial.restart()
            commands.append(self._again(trial))
        return commands

    def _ended(self, event: SearchFinished) -> list[Command]:
        self.finished = event.reason
        return []

    def _proposed(self, event: TrialProposed) -> list[Command]:
        if event.trial < len(self.trials):  # a copy
            return []
        trial = TrialState(event.trial, event.config, event.bracket, self._due_after(event.bracket, 0.0))
        self.trials.append(trial)
        self.n_running += 1
        return [self._start(trial), Observe(Observation(event.trial, event.config, Phase.PENDING))]

    def _added(self, event: TrialAdded) -> list[Command]:
        if event.trial < len(self.trials):  # a copy
            return []
        trial = TrialState(event.trial, event.config, 0, _NEVER)
        self.trials.append(trial)
        self.n_known += 1
        pending = Observe(Observation(event.trial, event.config, Phase.PENDING))
        costs = None if event.values is None else self.objectives.costs(event.values)
        if costs is None:
            trial.status = Status.FAILED
            return [pending, Observe(Observation(event.trial, event.config, Phase.FAILED))]
        trial.status, trial.costs, trial.resource = Status.COMPLETED, costs, event.resource
        self._improve(costs)
        return [pending, Observe(Observation(event.trial, event.config, Phase.ENDED, event.resource, costs))]

    def _current(self, number: int, attempt: int) -> TrialState | None:
        """The trial, if it runs and this is its attempt; events of anything else no longer count."""
        trial = self.trials[number] if 0 <= number < len(self.trials) else None
        if trial is None or trial.status is not _RUNNING or trial.attempt != attempt:
            return None
        return trial

    def _reported(self, event: TrialReported) -> list[Command]:
        _, number, attempt, index, resource, values = event
        trial = self._current(number, attempt)
        if trial is None or trial.stopping:
            return [Decide(number, attempt, index, Decision.STOP)]
        if trial.pausing:
            return [Decide(number, attempt, index, Decision.PAUSE)]
        costs = self.objectives.costs(values)
        if costs is None or index <= trial.index:  # unusable, or a copy of one that was answered before
            return [Decide(number, attempt, index, Decision.CONTINUE)]
        trial.index = index
        trial.resource = resource
        trial.costs = costs
        if resource > trial.furthest:
            trial.furthest = resource
            if trial.lost_workers:
                trial.lost_workers = ()
        if len(costs) == 1:
            if costs[0] < self.front.lowest:
                self._improve(costs)
        elif self.goal is not None and all(c <= g for c, g in zip(costs, self.goal, strict=True)):
            self.goal_met = True
        if resource < trial.next_milestone:
            return []
        return self._judge(trial, index, resource, costs)

    def _judge(self, trial: TrialState, index: int, resource: float, costs: tuple[float, ...]) -> list[Command]:
        # One report may pass several milestones; it is compared at the highest, where the others are most like it.
        passed = [m for m in self.milestones(trial.bracket) if trial.next_milestone <= m <= resource]
        trial.next_milestone = self._due_after(trial.bracket, resource)
        at = resource if resource >= self._every else passed[-1]
        decision = self.stopper.judge(trial.number, trial.bracket, at, costs)
        trial.stopping = decision is Decision.STOP
        trial.pausing = decision is Decision.PAUSE
        commands: list[Command] = [Decide(trial.number, trial.attempt, index, decision)]
        if passed and decision is Decision.CONTINUE:  # else the trial's end follows, with the same values
            commands.append(Observe(Observation(trial.number, trial.config, Phase.RUNG, resource, costs)))
        return commands

    def _due_after(self, bracket: int, resource: float) -> float:
        """The least resource above this one at which a decision is due."""
        later = next((m for m in self.milestones(bracket) if m > resource), _NEVER)
        return min(later, max(self._every, nextafter(resource, _NEVER)))

    def _completed(self, event: TrialCompleted) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        if trial is None:
            return []
        if event.values is not None and (costs := self.objectives.costs(event.values)) is not None:
            trial.costs = costs
        if trial.costs is None:
            return self._fail(trial, "it ended without any result")
        self._end(trial, Status.STOPPED if trial.stopping else Status.COMPLETED)
        self.failures_in_a_row = 0
        self._improve(trial.costs)
        return [Observe(Observation(trial.number, trial.config, Phase.ENDED, trial.resource, trial.costs))]

    def _paused(self, event: TrialPaused) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        if trial is None or trial.costs is None:
            return []
        trial.pausing = False
        self._end(trial, Status.PAUSED)
        self.failures_in_a_row = 0
        self._improve(trial.costs)
        return [Observe(Observation(trial.number, trial.config, Phase.ENDED, trial.resource, trial.costs))]

    def _promoted(self, event: TrialPromoted) -> list[Command]:
        trial = self.trials[event.trial] if 0 <= event.trial < len(self.trials) else None
        if trial is None or trial.status is not Status.PAUSED or event.attempt != trial.attempt + 1:
            return []
        if self._promoter is not None:
            self._promoter.leave(trial.number)
        trial.status = Status.RUNNING
        trial.promoted_from = trial.resource or 0
        trial.restart()
        self.n_running += 1
        return [self._start(trial), Observe(Observation(trial.number, trial.config, Phase.PENDING))]

    def _failed(self, event: TrialFailed) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        return [] if trial is None else self._fail(trial, event.error)

    def _timed_out(self, event: TrialTimedOut) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        if trial is None:
            return []
        commands = self._fail(trial, f"it ran longer than {event.limit:g} s")
        trial.status = Status.TIMED_OUT
        return commands

    def _fail(self, trial: TrialState, error: str) -> list[Command]:
        self._end(trial, Status.FAILED)
        self.n_failed += 1
        self.failures_in_a_row += 1
        self.last_error = error
        return [Observe(Observation(trial.number, trial.config, Phase.FAILED))]

    def _lost(self, event: WorkerLost) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        if trial is None:
            return []
        if event.worker:
            trial.lost_workers = (*trial.lost_workers, event.worker)
        trial.restart()
        again = self._again(trial)
        losses, distinct = len(trial.lost_workers), len(set(trial.lost_workers))
        if isinstance(again, Start) and (distinct >= MAX_LOST_WORKERS or losses >= MAX_LOSSES):
            error = (
                f"WorkerLost: {losses} workers died, or came to their end, while they ran this trial, and it got no "
                "further: it may take too much memory, or need checkpoints closer together than the walltime"
            )
            return [GiveUp(trial.number, trial.attempt, error)]
        return [again]

    def _end(self, trial: TrialState, status: Status) -> None:
        if trial.pausing and self._promoter is not None:  # it will not come to rest
            self._promoter.leave(trial.number)
        trial.status = status
        self.n_running -= 1

    def _improve(self, costs: tuple[float, ...]) -> None:
        """Keep the front; note at which count of ended runs it last moved.

        Of several objectives only the ends of trials enter it: every epoch of a trial may be on the front, and what
        the study keeps must not grow with the reports.
        """
        if self.goal is not None and all(c <= g for c, g in zip(costs, self.goal, strict=True)):
            self.goal_met = True
        if self.front.add(costs):
            self.n_ended_at_improvement = self.n_ended


def follow_up(command: GiveUp | Conclude, time: float) -> TrialFailed | TrialCompleted | TrialPaused:
    """The event that a command asks to have journalled."""
    if isinstance(command, GiveUp):
        return TrialFailed(time, command.trial, command.attempt, command.error, "", time, time, "")
    if command.paused:
        return TrialPaused(time, command.trial, command.attempt, time, time, "")
    return TrialCompleted(time, command.trial, command.attempt, None, {}, command.stopped, time, time, "")
