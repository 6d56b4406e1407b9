"""The study: the pure fold of a search's events. Events go in, commands come out; nothing else happens here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from dhpo._trial_state import Schedule, TrialState
from dhpo.events import (
    Cancel,
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
    TrialCancelled,
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
from dhpo.stopping.base import BoundStopper, Promotes, bracket_of
from dhpo.trial import Decision, Observation, Phase, Proposal, Status

_NEVER = float("inf")
# An enum's member is slow to look up, and a resumed search asks for these millions of times.
_RUNNING, _CONTINUE, _RUNG, _PENDING = Status.RUNNING, Decision.CONTINUE, Phase.RUNG, Phase.PENDING


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
        self._schedule = Schedule(stopper)
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
            TrialCancelled: self._cancelled,
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

    def cancel(self, numbers: Iterable[int], time: float) -> list[TrialCancelled]:
        """The events that end those of these trials that run or rest. The study changes only when they are applied."""
        trials = (self.trials[number] for number in dict.fromkeys(numbers) if 0 <= number < len(self.trials))
        open_ = (Status.RUNNING, Status.PAUSED)
        return [TrialCancelled(time, trial.number, trial.attempt) for trial in trials if trial.status in open_]

    def apply(self, event: Event) -> list[Command]:
        """Fold one event; return what has to be done about it. Events that no longer count change nothing."""
        if event.time > self.time:
            self.time = event.time
        return self._handlers[type(event)](event)

    def _opened(self, event: SessionOpened) -> list[Command]:
        self.finished = None
        self.failures_in_a_row = 0
        commands: list[Command] = []
        for trial in self.running():
            trial.restart()
            commands.append(self._schedule.again(trial))
        return commands

    def _ended(self, event: SearchFinished) -> list[Command]:
        self.finished = event.reason
        return []

    def _proposed(self, event: TrialProposed) -> list[Command]:
        if event.trial < len(self.trials):  # a copy
            return []
        trial = TrialState(event.trial, event.config, event.bracket, self._schedule.after(event.bracket, 0.0))
        self.trials.append(trial)
        self.n_running += 1
        return [self._schedule.start(trial), Observe(Observation(event.trial, event.config, _PENDING))]

    def _added(self, event: TrialAdded) -> list[Command]:
        if event.trial < len(self.trials):  # a copy
            return []
        trial = TrialState(event.trial, event.config, 0, _NEVER)
        self.trials.append(trial)
        self.n_known += 1
        pending = Observe(Observation(event.trial, event.config, _PENDING))
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
        answer = self.report(number, attempt, index, resource, self.objectives.costs(values))
        if answer is None:
            return []
        decision, observation = answer
        decide = Decide(number, attempt, index, decision)
        return [decide] if observation is None else [decide, Observe(observation)]

    def report(
        self, number: int, attempt: int, index: int, resource: float, costs: tuple[float, ...] | None
    ) -> tuple[Decision, Observation | None] | None:
        """Fold a report, whose time :meth:`apply` has seen to. A resumed search calls this a million times.

        Args:
            number: of the trial.
            attempt: of the trial.
            index: of the report within the attempt.
            resource: at which it was made.
            costs: None where the values are unusable.

        Returns:
            The decision, and what the searcher is to be told, if anything; None where no decision is due.
        """
        trial = self._current(number, attempt)
        if trial is None or trial.stopping:
            return Decision.STOP, None
        if trial.pausing:
            return Decision.PAUSE, None
        if costs is None or index <= trial.index:  # unusable, or a copy of one that was answered before
            return _CONTINUE, None
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
            return None
        return self._judge(trial, resource, costs)

    def _judge(
        self, trial: TrialState, resource: float, costs: tuple[float, ...]
    ) -> tuple[Decision, Observation | None]:
        at, at_milestone, trial.next_milestone = self._schedule.passed(trial, resource)
        decision = self.stopper.judge(trial.number, trial.bracket, at, costs)
        if decision is _CONTINUE:
            tell = at_milestone
        else:
            trial.stopping = decision is Decision.STOP
            trial.pausing = decision is Decision.PAUSE
            tell = False  # the trial's end follows, with the same values
        return decision, Observation(trial.number, trial.config, _RUNG, resource, costs) if tell else None

    def _completed(self, event: TrialCompleted) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        if trial is None:
            return []
        if event.values is not None and (costs := self.objectives.costs(event.values)) is not None:
            trial.costs = costs
        if trial.costs is None:
            return self._fail(trial, "it ended without any result")
        return self._end_well(trial, Status.STOPPED if trial.stopping else Status.COMPLETED, trial.costs)

    def _paused(self, event: TrialPaused) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        if trial is None or trial.costs is None:
            return []
        trial.pausing = False
        return self._end_well(trial, Status.PAUSED, trial.costs)

    def _end_well(self, trial: TrialState, status: Status, costs: tuple[float, ...]) -> list[Command]:
        """A trial's run has ended well."""
        self._end(trial, status)
        self.failures_in_a_row = 0
        self._improve(costs)
        return [Observe(Observation(trial.number, trial.config, Phase.ENDED, trial.resource, costs))]

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
        return [self._schedule.start(trial), Observe(Observation(trial.number, trial.config, _PENDING))]

    def _failed(self, event: TrialFailed) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        return [] if trial is None else self._fail(trial, event.error)

    def _timed_out(self, event: TrialTimedOut) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        limit = f"it ran longer than {event.limit:g} s"
        return [] if trial is None else self._fail(trial, limit, Status.TIMED_OUT)

    def _cancelled(self, event: TrialCancelled) -> list[Command]:
        trial = self.trials[event.trial] if 0 <= event.trial < len(self.trials) else None
        if trial is None or trial.attempt != event.attempt:
            return []
        if trial.status is Status.PAUSED:  # its result is known already
            trial.status = Status.CANCELLED
            if self._promoter is not None:
                self._promoter.leave(trial.number)
            return []
        if trial.status is not Status.RUNNING:
            return []
        cancel = Cancel(trial.number, trial.attempt)
        if trial.costs is not None:
            return [cancel, *self._end_well(trial, Status.CANCELLED, trial.costs)]
        self._end(trial, Status.CANCELLED)
        return [cancel, Observe(Observation(trial.number, trial.config, Phase.FAILED))]

    def _fail(self, trial: TrialState, error: str, status: Status = Status.FAILED) -> list[Command]:
        self._end(trial, status)
        self.n_failed += 1
        self.failures_in_a_row += 1
        self.last_error = error
        return [Observe(Observation(trial.number, trial.config, Phase.FAILED))]

    def _lost(self, event: WorkerLost) -> list[Command]:
        trial = self._current(event.trial, event.attempt)
        if trial is None:
            return []
        trial.lose(event.worker)
        again = self._schedule.again(trial)
        if isinstance(again, Start) and (error := trial.hopeless()):
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
