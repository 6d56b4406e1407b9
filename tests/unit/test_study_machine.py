"""The study as a state machine, against a slow and obvious reference: rules as documented, over lists of everything.

Nothing is kept sorted, counted or cached in the reference: each answer is computed anew from what came to a rung, in
order. Events come late, twice, after a stop, after a loss, with resources out of order, or not at all.
"""

from __future__ import annotations

from math import floor, inf
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dhpo._codec import decode, encode
from dhpo.budget import Budget
from dhpo.events import (
    Command,
    Conclude,
    Decide,
    Event,
    GiveUp,
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
from dhpo.stopping.base import NeverStop
from dhpo.stopping.hyperband import Hyperband
from dhpo.stopping.median import MedianStopper
from dhpo.stopping.patience import Patience
from dhpo.study import Study, follow_up
from dhpo.trial import Decision, Proposal

NAN = float("nan")
MAX_T = 9.0
LEVELS = (1.0, 3.0)  # and 9, which is the end
GO, STOP, PAUSE = Decision.CONTINUE, Decision.STOP, Decision.PAUSE
STOPPERS = [
    NeverStop(),
    Hyperband(max_t=MAX_T),
    Hyperband(max_t=MAX_T, brackets=2),
    Hyperband(max_t=MAX_T, brackets=2, rung_system_per_bracket=False),
    Hyperband(max_t=MAX_T, type="promotion"),
    Hyperband(max_t=MAX_T, type="promotion", brackets=2),
    MedianStopper(grace_time=2, grace_population=2),
    Patience(patience=2, max_t=MAX_T),
]


class Rules:
    """What the documents say of each stopper, computed anew from all that was ever judged."""

    def __init__(self, stopper: Any) -> None:
        self.stopper = stopper
        self.judged: list[tuple[int, int, float, float]] = []  # (trial, bracket, at, cost)
        self.left: set[tuple[int, float]] = set()  # (trial, level) that rests there no longer

    @property
    def promotes(self) -> bool:
        return isinstance(self.stopper, Hyperband) and self.stopper.type == "promotion"

    def levels(self, bracket: int) -> list[float]:
        return list(LEVELS[bracket:]) if isinstance(self.stopper, Hyperband) else []

    def always_from(self) -> float:
        """The resource from which on every report is judged."""
        return {MedianStopper: 2.0, Patience: 0.0}.get(type(self.stopper), inf)

    def at_rung(self, bracket: int, level: float) -> list[tuple[int, float]]:
        """(trial, cost) of all that came to a rung, in order."""
        shared = not self.stopper.rung_system_per_bracket
        return [(n, cost) for n, b, at, cost in self.judged if at == level and (shared or b == bracket)]

    def judge(self, trial: int, bracket: int, at: float, cost: float) -> Decision:
        if isinstance(self.stopper, Hyperband):
            return self.promotion(trial, bracket, at, cost) if self.promotes else self.halving(trial, bracket, at, cost)
        own = [(a, c) for n, _, a, c in self.judged if n == trial] + [(at, cost)]
        decision = self.patience(own) if isinstance(self.stopper, Patience) else self.median(trial, own)
        self.judged.append((trial, bracket, at, cost))
        return decision

    def halving(self, trial: int, bracket: int, level: float, cost: float) -> Decision:
        """A third goes on: worse than the quantile of all that came before is stopped."""
        merits = [-c for _, c in self.at_rung(bracket, level)]
        self.judged.append((trial, bracket, level, cost))
        return STOP if merits and -cost < np.percentile(merits, (1 - 1 / 3) * 100) else GO

    def promotion(self, trial: int, bracket: int, level: float, cost: float) -> Decision:
        """All rest, but for one that would be the next to go on."""
        self.leave(trial)
        self.judged.append((trial, bracket, level, cost))
        if self.promotable()[:1] != [trial]:
            return PAUSE
        self.leave(trial)
        return GO

    def promotable(self) -> list[int]:
        """From the highest rung down, of each its best third, those that wait there."""
        if not self.promotes:
            return []
        found: list[int] = []
        for level in reversed(LEVELS):
            for bracket in range(self.stopper.brackets):
                if level in self.levels(bracket):
                    here = self.at_rung(bracket, level)
                    best = sorted(here, key=lambda entry: entry[1])[: floor(len(here) / 3 + 1e-9)]
                    found += [n for n, _ in best if (n, level) not in self.left]
        return found

    def leave(self, trial: int) -> None:
        self.left |= {(n, at) for n, _, at, _ in self.judged if n == trial}

    def patience(self, own: list[tuple[float, float]]) -> Decision:
        """Stopped when it has not improved for two."""
        since = max(at for i, (at, cost) in enumerate(own) if all(cost < c for _, c in own[:i]))
        return STOP if own[-1][0] - since >= 2 else GO

    def median(self, trial: int, own: list[tuple[float, float]]) -> Decision:
        """Stopped where its best is worse than the median of the running averages of those that came to this step."""
        step = floor(own[-1][0])
        if any(floor(at) >= step for at, _ in own[:-1]):
            return GO
        others = []
        for i, (n, _, at, _) in enumerate(self.judged):
            before = [(a, c) for m, _, a, c in self.judged[:i] if m == n]
            if floor(at) == step and all(floor(a) < step for a, _ in before):
                costs = [c for _, c in before] + [self.judged[i][3]]
                others.append(sum(costs) / len(costs))
        return STOP if len(others) >= 2 and min(c for _, c in own) > np.median(others) else GO


class Known:
    """What the reference knows of one trial."""

    def __init__(self, bracket: int, levels: list[float], state: str = "RUNNING") -> None:
        self.bracket = bracket
        self.state = state
        self.due = levels  # rungs that it has not come to yet
        self.judged_at = 0.0
        self.attempt = 1
        self.seen = 0
        self.costs: float | None = None
        self.resource: float | None = None
        self.furthest = 0.0
        self.lost: list[str] = []
        self.told: Decision = GO


class Reference:
    """The fold of the events, by the documents."""

    def __init__(self, stopper: Any) -> None:
        self.rules = Rules(stopper)
        self.max_t = stopper.max_t
        self.trials: list[Known] = []
        self.good: list[float] = []  # costs of reports and results
        self.in_a_row = 0

    def apply(self, event: Event) -> list[tuple[Any, ...]]:
        """What has to be done: ("decide", …), ("start", …), ("conclude", …), ("give up", …)."""
        if isinstance(event, SessionOpened):
            self.in_a_row = 0
            return [self.again(n) for n, t in enumerate(self.trials) if t.state == "RUNNING"]
        if isinstance(event, TrialAdded):
            self.trials.append(Known(0, [], "FAILED" if event.values is None else "COMPLETED"))
            self.good += [] if event.values is None else [event.values["a"]]
            return []
        if isinstance(event, SearchFinished):
            return []
        n = event.trial
        trial = self.trials[n]
        if isinstance(event, TrialPromoted):
            if trial.state != "PAUSED" or event.attempt != trial.attempt + 1:
                return []
            self.rules.leave(n)
            trial.state, trial.attempt, trial.seen = "RUNNING", event.attempt, 0
            return [("start", n, trial.attempt, tuple(trial.due))]
        counts = trial.state == "RUNNING" and trial.attempt == event.attempt
        if isinstance(event, TrialReported):
            return self.report(n, trial, event) if counts else [("decide", n, event.attempt, event.index, STOP)]
        return self.end(n, trial, event) if counts else []

    def again(self, n: int, worker: str | None = None) -> tuple[Any, ...]:
        trial = self.trials[n]
        trial.attempt, trial.seen = trial.attempt + 1, 0
        complete = self.max_t is not None and trial.resource is not None and trial.resource >= self.max_t
        if complete or trial.told is not GO:
            return ("conclude", n, trial.attempt, trial.told is STOP, trial.told is PAUSE)
        if worker is not None and (len(trial.lost) >= 10 or len(set(trial.lost)) >= 3):
            return ("give up", n, trial.attempt)
        return ("start", n, trial.attempt, tuple(trial.due))

    def report(self, n: int, trial: Known, event: TrialReported) -> list[tuple[Any, ...]]:
        cost, resource = event.values["a"], event.resource
        key = ("decide", n, event.attempt, event.index)
        if trial.told is not GO:
            return [(*key, trial.told)]
        if cost != cost or event.index <= trial.seen:
            return [(*key, GO)]
        trial.seen, trial.resource, trial.costs = event.index, resource, cost
        self.good.append(cost)
        if resource > trial.furthest:
            trial.furthest, trial.lost = resource, []
        passed = [level for level in trial.due if level <= resource]
        always = resource >= self.rules.always_from() and resource > trial.judged_at
        if not passed and not always:
            return []
        trial.due = [level for level in trial.due if level > resource]
        trial.judged_at = resource
        trial.told = self.rules.judge(n, trial.bracket, resource if always else passed[-1], cost)
        return [(*key, trial.told)]

    def end(self, n: int, trial: Known, event: Event) -> list[tuple[Any, ...]]:
        if isinstance(event, WorkerLost):
            trial.lost += [event.worker] if event.worker else []
            return [self.again(n, event.worker)]
        if isinstance(event, TrialPaused):
            if trial.costs is not None:
                trial.state, trial.told = "PAUSED", GO
                self.good.append(trial.costs)
                self.in_a_row = 0
            return []
        if trial.told is PAUSE:
            self.rules.leave(n)
        if isinstance(event, TrialCompleted):
            if event.values is not None and event.values["a"] == event.values["a"]:
                trial.costs = event.values["a"]
            if trial.costs is not None:
                trial.state = "STOPPED" if trial.told is STOP else "COMPLETED"
                self.good.append(trial.costs)
                self.in_a_row = 0
                return []
        trial.state = "TIMED_OUT" if isinstance(event, TrialTimedOut) else "FAILED"
        self.in_a_row += 1
        return []


def told(commands: list[Command]) -> list[tuple[Any, ...]]:
    """The commands in the reference's words; what the searcher observes is left out."""
    found: list[tuple[Any, ...]] = []
    for command in commands:
        match command:
            case Decide(trial, attempt, index, decision):
                found.append(("decide", trial, attempt, index, decision))
            case Start():
                found.append(("start", command.trial, command.attempt, command.milestones))
            case Conclude():
                found.append(("conclude", *command))
            case GiveUp():
                found.append(("give up", command.trial, command.attempt))
    return found


costs = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, NAN])
resources = st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0])
places = st.integers(0, 30)
late = st.sampled_from([0, 0, 0, 0, 0, -1, 1])


class StudyMachine(RuleBasedStateMachine):
    """Drives a study and its reference side by side."""

    @initialize(stopper=st.sampled_from(STOPPERS))
    def begin(self, stopper: Any) -> None:
        self.stopper = stopper
        self.reference = Reference(stopper)
        self.study = self.fresh()
        self.events: list[Event] = []
        self.commands: list[Command] = []

    def fresh(self) -> Study:
        bound = self.stopper.bind(1, max_t=None, seed=1)
        return Study(Objectives.parse({"a": "MIN"}), bound, seed=1)

    def apply(self, event: Event) -> None:
        self.events.append(event)
        commands = self.study.apply(event)
        self.commands += commands
        assert told(commands) == self.reference.apply(event)
        for command in commands:
            if isinstance(command, GiveUp | Conclude):  # as the loop does, at once
                self.apply(follow_up(command, 0.0))

    def pick(self, place: int, off: int) -> tuple[int, int]:
        """A trial, most often one that runs, and most often its present attempt."""
        running = [n for n, t in enumerate(self.reference.trials) if t.state == "RUNNING"]
        chosen = running if running and place % 5 else range(len(self.reference.trials))
        n = chosen[place % len(chosen)]
        return n, max(1, self.reference.trials[n].attempt + off)

    def there_are_trials(self) -> bool:
        return bool(self.reference.trials)

    @rule(n=st.integers(1, 6))
    def propose(self, n: int) -> None:
        for event in self.study.admit([Proposal({"x": 0}, "random")] * n, 0.0):
            bracket = event.bracket
            assert 0 <= bracket < getattr(self.stopper, "brackets", 1)
            self.reference.trials.append(Known(bracket, self.reference.rules.levels(bracket)))
            self.events.append(event)
            commands = self.study.apply(event)
            self.commands += commands
            assert told(commands) == [("start", event.trial, 1, tuple(self.reference.rules.levels(bracket)))]

    @rule(cost=st.none() | st.sampled_from([0.0, 2.0, 5.0]))
    def add(self, cost: float | None) -> None:
        values = None if cost is None else {"a": cost}
        self.apply(TrialAdded(0.0, len(self.study.trials), {"x": 1}, values, "F", None, "known"))

    @precondition(there_are_trials)
    @rule(place=places, off=late, index=st.sampled_from([1, 1, 1, 1, 2, 0, -1]), resource=resources, cost=costs)
    def report(self, place: int, off: int, index: int, resource: float, cost: float) -> None:
        n, attempt = self.pick(place, off)
        at = max(1, self.reference.trials[n].seen + index)  # the next one, one too far, the same, or an older one
        self.apply(TrialReported(0.0, n, attempt, at, resource, {"a": cost}))

    @precondition(there_are_trials)
    @rule(place=places, cost=costs)
    def reports_of_each(self, place: int, cost: float) -> None:
        """Several trials come to the same rung."""
        resource = (1.0, 3.0, 5.0, 9.0)[place % 4]
        for n, trial in enumerate(self.reference.trials):
            if trial.state == "RUNNING":
                value = cost if cost != cost else (cost + 3 * n + place) % 7
                self.apply(TrialReported(0.0, n, trial.attempt, trial.seen + 1, resource, {"a": value}))

    @precondition(there_are_trials)
    @rule(place=places, off=late, cost=st.none() | costs)
    def complete(self, place: int, off: int, cost: float | None) -> None:
        n, attempt = self.pick(place, off)
        values = None if cost is None else {"a": cost}
        self.apply(TrialCompleted(0.0, n, attempt, values, {}, False, 0.0, 0.0, "w"))

    @precondition(there_are_trials)
    @rule(place=places)
    def end_as_told(self, place: int) -> None:
        """Those that were told to stop or to pause do so, or fail on their way."""
        for n, trial in enumerate(self.reference.trials):
            if trial.state == "RUNNING" and trial.told is STOP and place % 3:
                self.apply(TrialCompleted(0.0, n, trial.attempt, None, {}, True, 0.0, 0.0, "w"))
            elif trial.state == "RUNNING" and trial.told is PAUSE and place % 4 == 0:
                self.apply(TrialFailed(0.0, n, trial.attempt, "oops", "", 0.0, 0.0, "w"))
            elif trial.state == "RUNNING" and trial.told is PAUSE:
                self.apply(TrialPaused(0.0, n, trial.attempt, 0.0, 0.0, "w"))

    @precondition(there_are_trials)
    @rule(place=places, off=late, timed_out=st.booleans())
    def fail(self, place: int, off: int, timed_out: bool) -> None:
        n, attempt = self.pick(place, off)
        if timed_out:
            self.apply(TrialTimedOut(0.0, n, attempt, 1.0, 0.0, 0.0, "w"))
        else:
            self.apply(TrialFailed(0.0, n, attempt, "oops", "", 0.0, 0.0, "w"))

    @precondition(there_are_trials)
    @rule(place=places, off=late, worker=st.sampled_from(["", "a", "a", "b", "c"]))
    def lose(self, place: int, off: int, worker: str) -> None:
        self.apply(WorkerLost(0.0, *self.pick(place, off), worker))

    @precondition(there_are_trials)
    @rule(place=places, off=late)
    def pause(self, place: int, off: int) -> None:
        self.apply(TrialPaused(0.0, *self.pick(place, off), 0.0, 0.0, "w"))

    @rule(n=st.integers(1, 3))
    def promote(self, n: int) -> None:
        for event in self.study.promote(n, 0.0):
            self.apply(event)

    @precondition(there_are_trials)
    @rule(place=places, off=late)
    def promote_out_of_turn(self, place: int, off: int) -> None:
        n, attempt = self.pick(place, off)
        self.apply(TrialPromoted(0.0, n, attempt + 1))

    @precondition(there_are_trials)
    @rule(place=st.integers(0, 10**6))
    def an_old_event_again(self, place: int) -> None:
        event = self.events[place % len(self.events)]
        if isinstance(event, TrialProposed | TrialAdded):
            assert self.study.apply(event) == []
        else:
            self.apply(event)

    @rule()
    def go_on(self) -> None:
        self.apply(SearchFinished(0.0, "enough"))
        self.apply(SessionOpened(0.0, 0.0, "host", 1, "0"))

    @invariant()
    def knows_the_same(self) -> None:
        if not hasattr(self, "study"):
            return
        study, trials = self.study, self.reference.trials
        assert [(t.status.value, t.attempt, t.resource) for t in study.trials] == [
            (t.state, t.attempt, t.resource) for t in trials
        ]
        assert study.n_running == sum(t.state == "RUNNING" for t in trials)
        assert study.best_cost == min(self.reference.good, default=None)
        assert study.failures_in_a_row == self.reference.in_a_row
        paused = [n for n in self.reference.rules.promotable() if trials[n].state == "PAUSED"]
        assert [t.number for t in study.promotable()] == paused
        self.budgets_agree(paused)

    def budgets_agree(self, paused: list[int]) -> None:
        trials = self.reference.trials
        run = len(trials) - self.study.n_known
        ended = run - sum(t.state == "RUNNING" for t in trials)
        for n in (1, 4, 10):
            reached = ended >= n and ended == run and not paused
            assert (Budget(num_trials=n).reached(self.study, 0.0) is not None) == reached
            assert Budget(num_trials=n).room(self.study) == max(0, n - run)
            assert (Budget(max_failures=n).reached(self.study, 0.0) is not None) == (self.reference.in_a_row >= n)

    def teardown(self) -> None:
        """A replay from the journal gives the same commands, and the same state."""
        if not hasattr(self, "study"):
            return
        again = self.fresh()
        commands = [c for event in decode(encode(self.events)) for c in again.apply(event)]
        assert repr(commands) == repr(self.commands)
        assert [(t.status, t.attempt, t.costs) for t in again.trials] == [
            (t.status, t.attempt, t.costs) for t in self.study.trials
        ]
        assert again.n_ended_at_improvement == self.study.n_ended_at_improvement


TestStudyMachine = StudyMachine.TestCase
TestStudyMachine.settings = settings(deadline=None, max_examples=300, stateful_step_count=40)
