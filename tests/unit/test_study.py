"""The study against a slow and obvious reference, over arbitrary interleavings of events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo._codec import decode, encode
from dhpo._trial_state import MAX_LOSSES, MAX_LOST_WORKERS
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
    TrialProposed,
    TrialReported,
    TrialTimedOut,
    WorkerLost,
)
from dhpo.objectives import Objectives
from dhpo.stopping.base import NeverStop
from dhpo.stopping.hyperband import Hyperband
from dhpo.study import Study, follow_up
from dhpo.trial import Decision, Phase, Proposal, Status

NAN = float("nan")
STOPPER = Hyperband(max_t=9, reduction_factor=3)  # rungs at 1 and 3
ONE = Objectives.parse({"a": "MIN"})
TWO = Objectives.parse({"a": "MIN", "b": "MAX"})


def new_study(objectives: Objectives = ONE, stopper: Any = STOPPER) -> Study:
    return Study(objectives, stopper.bind(len(objectives), max_t=None, seed=1), seed=1)


class Reference:
    """What a study should know, recomputed from lists that only grow."""

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives
        self.rungs = STOPPER.bind(len(objectives), max_t=None, seed=1)
        self.trials: list[dict[str, Any]] = []
        self.decisions: list[tuple[int, int, int, Decision]] = []
        self.costs: list[tuple[float, ...]] = []  # that count for the front
        self.failed_since_success = 0

    def apply(self, event: Event) -> None:
        if isinstance(event, TrialProposed):
            if event.trial == len(self.trials):
                self.trials.append(
                    {"status": "RUNNING", "attempt": 1, "seen": [], "reports": [], "due": [1, 3], "stop": False}
                    | {"values": None, "lost": []}
                )
            return
        if isinstance(event, TrialAdded):
            if event.trial == len(self.trials):
                costs = None if event.values is None else self.objectives.costs(event.values)
                self.trials.append({"status": "FAILED" if costs is None else "COMPLETED", "attempt": 1, "known": True})
                self.costs += [] if costs is None else [costs]
            return
        if isinstance(event, SessionOpened):
            self.failed_since_success = 0
            for trial in self.trials:
                if trial["status"] == "RUNNING":
                    trial["attempt"] += 1
                    trial["seen"] = []
            return
        if isinstance(event, SearchFinished):
            return
        trial = self.trials[event.trial] if event.trial < len(self.trials) else None
        counts = trial is not None and trial["status"] == "RUNNING" and trial["attempt"] == event.attempt
        if isinstance(event, TrialReported):
            self.report(event, trial if counts else None)
        elif counts and trial is not None:
            self.end(event, trial)

    def report(self, event: TrialReported, trial: dict[str, Any] | None) -> None:
        key = (event.trial, event.attempt, event.index)
        if trial is None or trial["stop"]:
            self.decisions.append((*key, Decision.STOP))
            return
        costs = self.objectives.costs(event.values)
        if costs is None or any(event.index <= seen for seen in trial["seen"]):
            self.decisions.append((*key, Decision.CONTINUE))
            return
        trial["seen"].append(event.index)
        trial["values"] = costs
        if len(costs) == 1:
            self.costs.append(costs)
        passed = [m for m in trial["due"] if m <= event.resource]
        trial["due"] = [m for m in trial["due"] if m > event.resource]
        if passed:
            decision = self.rungs.judge(event.trial, 0, passed[-1], costs)
            trial["stop"] = decision is Decision.STOP
            self.decisions.append((*key, decision))

    def end(self, event: Event, trial: dict[str, Any]) -> None:
        if isinstance(event, WorkerLost):
            trial["attempt"] += 1
            trial["seen"] = []
            return
        if isinstance(event, TrialCompleted):
            if event.values is not None:
                trial["values"] = self.objectives.costs(event.values) or trial["values"]
            if trial["values"] is not None:
                trial["status"] = "STOPPED" if trial["stop"] else "COMPLETED"
                self.costs.append(trial["values"])
                self.failed_since_success = 0
                return
        trial["status"] = "TIMED_OUT" if isinstance(event, TrialTimedOut) else "FAILED"
        self.failed_since_success += 1

    def front(self) -> set[tuple[float, ...]]:
        def beaten(point: tuple[float, ...]) -> bool:
            return any(
                other != point and all(o <= p for o, p in zip(other, point, strict=True)) for other in self.costs
            )

        return {point for point in self.costs if not beaten(point)}


numbers = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
value = st.sampled_from([0.0, 1.0, 2.0, 3.0, NAN, None])
attempts = st.sampled_from([1, 1, 1, 2, 3])
indices = st.integers(1, 3)


def values_of(a: Any, b: Any) -> dict[str, Any]:
    return {name: v for name, v in (("a", a), ("b", b)) if v is not None}


event = st.one_of(
    st.builds(lambda n: TrialProposed(0.0, n, {"x": n}, 0, "random", 0), st.integers(0, 3)),
    st.builds(
        lambda n, v: TrialAdded(0.0, n, {"x": n}, v and values_of(*v), "", None, "known"),
        st.integers(0, 3), st.none() | st.tuples(value, value),
    ),
    st.builds(
        lambda n, k, i, r, a, b: TrialReported(0.0, n, k, i, r, values_of(a, b)),
        numbers, attempts, indices, st.sampled_from([0.5, 1.0, 2.0, 3.0, 5.0]), value, value,
    ),
    st.builds(
        lambda n, k, v, b: TrialCompleted(0.0, n, k, v and values_of(*v), {}, b, 0.0, 0.0, "w"),
        numbers, attempts, st.none() | st.tuples(value, value), st.booleans(),
    ),
    st.builds(lambda n, k: TrialFailed(0.0, n, k, "oops", "", 0.0, 0.0, "w"), numbers, attempts),
    st.builds(lambda n, k: TrialTimedOut(0.0, n, k, 1.0, 0.0, 0.0, "w"), numbers, attempts),
    st.builds(lambda n, k: WorkerLost(0.0, n, k, "w"), numbers, attempts),
    st.just(SessionOpened(0.0, 0.0, "host", 1, "0")),
    st.just(SearchFinished(0.0, "enough")),
    st.integers(0, 59),  # an earlier event again
)  # fmt: skip


def in_order(events: list[Event | int]) -> list[Event]:
    """Proposals and additions come in order of their numbers, or again; everything else as it likes."""
    made = 2
    kept: list[Event] = [TrialProposed(0.0, n, {"x": n}, 0, "random", 0) for n in range(made)]
    for e in events:
        if isinstance(e, int):
            e = kept[e % len(kept)]
        if isinstance(e, TrialProposed | TrialAdded):
            if e.trial > made:
                e = e._replace(trial=made, config={"x": made})
            made = max(made, e.trial + 1)
        kept.append(e)
    return kept


def decisions_of(commands: list[Command]) -> list[tuple[int, int, int, Decision]]:
    return [tuple(c) for c in commands if isinstance(c, Decide)]


@settings(deadline=None, max_examples=300)
@given(st.lists(event, max_size=60).map(in_order), st.sampled_from([ONE, TWO]))
def test_any_interleaving_gives_what_the_reference_says(events: list[Event], objectives: Objectives) -> None:
    study, reference, commands = new_study(objectives), Reference(objectives), []
    for e in events:
        commands += study.apply(e)
        reference.apply(e)
        assert study.n_running + study.n_ended == study.n_run == len(study.trials) - study.n_known
        assert len(study.trials) == len(reference.trials)
        assert [t.status.value for t in study.trials] == [t["status"] for t in reference.trials]
    assert [t.attempt for t in study.trials] == [t["attempt"] for t in reference.trials]
    assert study.n_running == sum(t["status"] == "RUNNING" for t in reference.trials)
    run = [t for t in reference.trials if "known" not in t]
    assert study.n_run == len(run)
    assert study.n_failed == sum(t["status"] in ("FAILED", "TIMED_OUT") for t in run)
    assert study.failures_in_a_row == reference.failed_since_success
    assert decisions_of(commands) == reference.decisions
    assert {tuple(c) for c in study.front.costs.tolist()} == reference.front()
    assert study.stopper.rungs() == reference.rungs.rungs()
    # Each trial is started once per attempt, and ends once.
    starts = [(c.trial, c.attempt) for c in commands if isinstance(c, Start | Conclude | GiveUp)]
    assert len(set(starts)) == len(starts)
    assert sorted(starts) == [
        (n, k + 1) for n, t in enumerate(study.trials) if "known" not in reference.trials[n] for k in range(t.attempt)
    ]
    ends = [
        c.observation.trial for c in commands if isinstance(c, Observe) and c.observation.phase in ("ENDED", "FAILED")
    ]
    assert sorted(ends) == [n for n, t in enumerate(study.trials) if t.status is not Status.RUNNING]


@settings(deadline=None, max_examples=100)
@given(st.lists(event, max_size=60).map(in_order), st.sampled_from([ONE, TWO]))
def test_a_replay_from_the_journal_decides_the_same(events: list[Event], objectives: Objectives) -> None:
    first, second = new_study(objectives), new_study(objectives)
    done = [first.apply(e) for e in events]
    again = [second.apply(e) for e in decode(encode(events))]
    assert repr(done) == repr(again)
    assert first.front.costs.tolist() == second.front.costs.tolist()
    assert first.stopper.rungs() == second.stopper.rungs()
    assert (first.failures_in_a_row, first.n_ended_at_improvement) == (
        second.failures_in_a_row, second.n_ended_at_improvement,
    )  # fmt: skip


def proposed(study: Study, n: int = 1) -> None:
    for e in study.admit([Proposal({"x": i}, "random") for i in range(n)], 0.0):
        study.apply(e)


def report(trial: int, index: int, resource: float, a: float, attempt: int = 1) -> TrialReported:
    return TrialReported(1.0, trial, attempt, index, resource, {"a": a})


def test_a_bracket_depends_on_the_trials_number_only() -> None:
    stopper = Hyperband(max_t=81, brackets=3)
    studies = [new_study(ONE, stopper) for _ in range(2)]
    at_once = studies[0].admit([Proposal({"x": i}, "random") for i in range(20)], 0.0)
    one_by_one = []
    for i in range(20):
        (e,) = studies[1].admit([Proposal({"x": i}, "random")], 0.0)
        studies[1].apply(e)
        one_by_one.append(e)
    assert at_once == one_by_one
    assert len({e.bracket for e in at_once}) > 1
    assert studies[0].trials == []


def test_a_stopped_trial_whose_end_was_lost_is_not_run_again() -> None:
    for loss in (SessionOpened(2.0, 0.0, "h", 1, "0"), WorkerLost(2.0, 1, 1, "w")):
        study = new_study()
        proposed(study, 2)
        study.apply(report(0, 1, 1.0, a=0.0))
        assert decisions_of(study.apply(report(1, 1, 1.0, a=5.0)))[0][-1] is Decision.STOP
        again = [c for c in study.apply(loss) if isinstance(c, Start | Conclude) and c.trial == 1]
        assert again == [Conclude(1, 2, stopped=True)]
        study.apply(follow_up(again[0], 3.0))
        assert study.trials[1].status is Status.STOPPED


def test_a_trial_that_reported_max_t_is_not_run_again() -> None:
    study = new_study()
    proposed(study)
    for index, resource in enumerate((1.0, 3.0, 9.0), start=1):
        study.apply(report(0, index, resource, a=1.0))
    (again,) = study.apply(SessionOpened(2.0, 0.0, "h", 1, "0"))
    assert again == Conclude(0, 2, stopped=False)
    study.apply(follow_up(again, 3.0))
    assert study.trials[0].status is Status.COMPLETED


def test_a_milestone_is_judged_once_whatever_attempt_comes_to_it() -> None:
    study = new_study()
    proposed(study)
    assert decisions_of(study.apply(report(0, 1, 2.0, a=1.0)))  # the first report at or above the rung at 1
    (start,) = study.apply(WorkerLost(2.0, 0, 1, "w"))
    assert isinstance(start, Start)
    assert (start.attempt, start.milestones, start.max_t) == (2, (3,), 9)
    assert study.apply(report(0, 1, 1.0, a=1.0, attempt=2)) == []
    assert [r.entered for r in study.stopper.rungs()] == [1, 0]


def test_a_report_may_pass_several_milestones_and_is_judged_at_the_highest() -> None:
    study = new_study()
    proposed(study)
    study.apply(report(0, 1, 4.0, a=1.0))
    assert [(r.level, r.entered) for r in study.stopper.rungs()] == [(1, 0), (3, 1)]


@pytest.mark.parametrize(("names", "allowed"), [(("a", "b", "c", "d"), MAX_LOST_WORKERS), (("a",) * 20, MAX_LOSSES)])
def test_a_trial_that_kills_its_workers_is_given_up(names: tuple[str, ...], allowed: int) -> None:
    study = new_study()
    proposed(study)
    for count, name in enumerate(names, start=1):
        (command,) = study.apply(WorkerLost(1.0, 0, study.trials[0].attempt, name))
        assert isinstance(command, GiveUp) == (count == allowed)
        if isinstance(command, GiveUp):
            assert f"{count} workers died" in command.error
            study.apply(follow_up(command, 2.0))
            break
    assert study.trials[0].status is Status.FAILED
    assert study.n_running == 0


def test_losses_of_a_trial_that_gets_on_in_between_are_not_held_against_it() -> None:
    study = new_study()
    proposed(study)
    for count in range(1, 3 * MAX_LOSSES):
        attempt = study.trials[0].attempt
        study.apply(report(0, attempt=attempt, index=1, resource=1 + count / 100, a=1.0))
        (again,) = study.apply(WorkerLost(1.0, 0, attempt, f"w{count}"))
        assert isinstance(again, Start)
        assert again.resume_from == 1 + count / 100
    for count in range(MAX_LOST_WORKERS - 1):  # it begins anew, and comes less far each time
        attempt = study.trials[0].attempt
        study.apply(report(0, attempt=attempt, index=1, resource=0.5, a=1.0))
        (last,) = study.apply(WorkerLost(1.0, 0, attempt, f"v{count}"))
        if isinstance(last, Start):
            assert last.resume_from == again.resume_from
    assert isinstance(last, GiveUp)


def test_the_searcher_hears_pending_rungs_and_ends() -> None:
    study = new_study()
    phases = []
    for e in (
        *study.admit([Proposal({"x": 0}, "random")], 0.0),
        report(0, 1, 1.0, a=2.0),
        report(0, 2, 2.0, a=1.0),
        TrialCompleted(3.0, 0, 1, None, {}, False, 0.0, 0.0, "w"),
    ):
        phases += [c.observation for c in study.apply(e) if isinstance(c, Observe)]
    assert [(o.phase, o.resource, o.costs) for o in phases] == [
        (Phase.PENDING, None, None), (Phase.RUNG, 1.0, (2.0,)), (Phase.ENDED, 2.0, (1.0,)),
    ]  # fmt: skip


def test_a_known_trial_is_at_its_end_and_everybody_learns_of_it() -> None:
    study = new_study(TWO)
    proposed(study)
    commands = study.apply(TrialAdded(1.0, 1, {"x": 9}, {"a": 1.0, "b": 4.0}, "", 3, "known"))
    failed = study.apply(TrialAdded(1.0, 2, {"x": 8}, None, "F_oom", None, "known"))
    assert [c.observation for c in commands + failed if isinstance(c, Observe)] == [
        (1, {"x": 9}, Phase.PENDING, None, None), (1, {"x": 9}, Phase.ENDED, 3, (1.0, -4.0)),
        (2, {"x": 8}, Phase.PENDING, None, None), (2, {"x": 8}, Phase.FAILED, None, None),
    ]  # fmt: skip
    assert len(commands + failed) == 4
    assert [t.status for t in study.trials] == [Status.RUNNING, Status.COMPLETED, Status.FAILED]
    assert [r.entered for r in study.stopper.rungs()] == [0, 0]
    assert study.front.costs.tolist() == [[1.0, -4.0]]
    assert (study.n_known, study.n_run, study.n_ended, study.n_failed, study.failures_in_a_row) == (2, 1, 0, 0, 0)
    again = [c.trial for c in study.apply(SessionOpened(2.0, 0.0, "h", 1, "0")) if isinstance(c, Start)]
    assert again == [0]
    assert study.apply(TrialFailed(3.0, 1, 1, "late", "", 0.0, 0.0, "w")) == []
    (next_one,) = study.admit([Proposal({"x": 0}, "random")], 4.0)
    assert next_one.trial == 3


additions = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)) | st.none(), max_size=8)


@settings(deadline=None, max_examples=100)
@given(additions, additions, st.randoms(use_true_random=False))
def test_the_front_is_the_same_in_whatever_order_results_come(known: list[Any], run: list[Any], random: Any) -> None:
    fronts = []
    for _ in range(2):
        study = new_study(TWO, NeverStop())
        results = [(True, v) for v in known] + [(False, v) for v in run]
        random.shuffle(results)
        for is_known, v in results:
            number, values = len(study.trials), v and {"a": float(v[0]), "b": float(v[1])}
            if is_known:
                study.apply(TrialAdded(0.0, number, {}, values, "F", None, "known"))
                continue
            proposed(study)
            ended = TrialCompleted(1.0, number, 1, values, {}, False, 0.0, 0.0, "w")
            study.apply(ended if values else TrialFailed(1.0, number, 1, "F", "", 0.0, 0.0, "w"))
        assert (study.n_known, study.n_ended) == (len(known), len(run))
        fronts.append(sorted(map(tuple, study.front.costs.tolist())))
    assert fronts[0] == fronts[1]


def test_the_goal_is_met_by_a_report_even_one_from_before_it_was_set() -> None:
    study = new_study(TWO, NeverStop())
    proposed(study)
    study.aim((1.0, -5.0))
    study.apply(TrialReported(1.0, 0, 1, 1, 1.0, {"a": 0.5, "b": 4.0}))
    assert not study.goal_met
    study.apply(TrialReported(1.0, 0, 1, 2, 2.0, {"a": 1.0, "b": 5.0}))
    assert study.goal_met
    single = new_study(ONE, NeverStop())
    proposed(single)
    single.apply(report(0, 1, 1.0, a=0.5))
    single.aim((0.5,))
    assert single.goal_met
    assert single.best_cost == 0.5
