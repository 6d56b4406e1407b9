"""The median rule, patience, and several stoppers at once."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import AnyOf, HpProblem, Hyperband, MedianStopper, NeverStop, Patience, Search
from dhpo.errors import SettingError
from dhpo.events import Decide, Observe, Start, TrialReported, WorkerLost
from dhpo.executors.simulated import Simulated
from dhpo.objectives import Objectives
from dhpo.stopping.base import BoundStopper, DecidesAlways, Stopper
from dhpo.stopping.hyperband import HyperbandState
from dhpo.study import Study
from dhpo.trial import Decision, Due, Proposal, Status

CONTINUE, STOP, PAUSE = Decision.CONTINUE, Decision.STOP, Decision.PAUSE
ONE = Objectives.parse({"a": "MIN"})
cost = st.integers(0, 9).map(float)
curves = st.lists(st.lists(cost, min_size=1, max_size=6), min_size=1, max_size=15)


def bind(stopper: Stopper, n_objectives: int = 1) -> Any:
    return stopper.bind(n_objectives, max_t=None, seed=0)


def judge(state: BoundStopper, trial: int, resource: float, *costs: float) -> Decision:
    return state.judge(trial, 0, resource, costs)


def study_of(stopper: Stopper, n: int = 1) -> Study:
    study = Study(ONE, bind(stopper), seed=1)
    for event in study.admit([Proposal({"x": i}, "random") for i in range(n)], 0.0):
        study.apply(event)
    return study


def report(trial: int, index: int, resource: float, a: float, attempt: int = 1) -> TrialReported:
    return TrialReported(1.0, trial, attempt, index, resource, {"a": a})


class TestMedian:
    @settings(deadline=None, max_examples=60)
    @given(curves, st.integers(1, 3), st.integers(1, 4))
    def test_one_objective_goes_by_the_literal_rule(
        self, curves: list[list[float]], grace: int, population: int
    ) -> None:
        state = bind(MedianStopper(grace_time=grace, grace_population=population))
        seen: dict[int, list[float]] = {}
        for trial, curve in enumerate(curves):
            for epoch in range(grace, len(curve) + 1):
                shown = curve[grace - 1 : epoch]
                others = seen.setdefault(epoch, [])
                stops = len(others) >= population and min(shown) > statistics.median(others)
                others.append(sum(shown) / len(shown))
                assert judge(state, trial, epoch, curve[epoch - 1]) is (STOP if stops else CONTINUE)
                if stops:
                    break

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.tuples(cost, cost), min_size=3, max_size=25))
    def test_who_dominates_all_is_never_stopped_and_who_is_dominated_by_all_is(
        self, points: list[tuple[float, float]]
    ) -> None:
        state = bind(MedianStopper(grace_population=3), 2)
        for trial, pair in enumerate(points):
            judge(state, trial, 1, *pair)
        assert judge(state, 100, 1, -1.0, -1.0) is CONTINUE
        assert judge(state, 101, 1, 10.0, 10.0) is STOP

    def test_the_best_so_far_protects_a_trial(self) -> None:
        state = bind(MedianStopper(grace_population=1))
        for epoch in (1, 2):
            judge(state, 0, epoch, 5.0)
        assert [judge(state, 1, 1, 1.0), judge(state, 1, 2, 99.0)] == [CONTINUE, CONTINUE]
        assert [judge(state, 2, 1, 5.0), judge(state, 2, 2, 5.0)] == [STOP, CONTINUE]

    def test_a_trial_is_compared_once_in_each_step(self) -> None:
        state = bind(MedianStopper(grace_time=0.1, grace_population=1, interval=0.1))
        for resource in (0.1, 0.15, 0.1 * 3):
            assert judge(state, 0, resource, 1.0) is CONTINUE
        assert judge(state, 1, 0.25, 9.0) is CONTINUE  # nobody came to this step
        assert judge(state, 1, 0.29, 9.0) is CONTINUE
        assert judge(state, 1, 0.32, 9.0) is STOP

    def test_it_ends_in_a_search(self, problem: HpProblem) -> None:
        def train(config: Any, report: Any) -> None:
            for epoch in range(1, 10):
                report(epoch=epoch, objective=config.x, seconds=1.0)

        search = Search(
            problem, train, cluster=Simulated(workers=4), searcher="random", random_state=1,
            stopper=MedianStopper(grace_time=2, grace_population=4),
        )  # fmt: skip
        results = search.run(num_trials=40, progress=False)
        frame = results.to_frame()
        stopped = frame[frame["m:stopped"]]
        assert 5 < len(stopped) < 35
        assert (frame["m:resource"].min(), frame["m:resource"].max()) == (2, 9)
        assert stopped["p:x"].max() < frame["p:x"].max()


class TestPatience:
    @settings(deadline=None, max_examples=60)
    @given(st.lists(cost, min_size=1, max_size=12), st.integers(1, 4), st.sampled_from([0.0, 1.0]))
    def test_one_objective_goes_by_the_literal_rule(self, curve: list[float], patience: int, delta: float) -> None:
        state = bind(Patience(patience=patience, min_delta=delta))
        best, since = inf, 0
        for epoch, value in enumerate(curve, start=1):
            if value < best - delta:
                best, since = value, epoch
            decision = judge(state, 0, epoch, value)
            assert decision is (STOP if epoch - since >= patience else CONTINUE)
            if decision is STOP:
                break

    def test_any_objective_may_improve(self) -> None:
        state = bind(Patience(patience=2), 2)
        got = [judge(state, 0, t, *c) for t, c in enumerate([(5, 5), (6, 4), (5, 5), (4, 9), (4, 9), (4, 4)], start=1)]
        assert got == [CONTINUE] * 5 + [STOP]

    def test_it_counts_in_units_of_the_resource_and_trials_apart(self) -> None:
        state = bind(Patience(time_attr="seconds", patience=60.0))
        assert judge(state, 0, 1.0, 1.0) is CONTINUE
        assert judge(state, 1, 1.0, 0.0) is CONTINUE
        assert judge(state, 0, 60.9, 1.0) is CONTINUE
        assert judge(state, 0, 61.0, 1.0) is STOP
        assert judge(state, 1, 60.0, -1.0) is CONTINUE
        assert judge(state, 1, 100.0, 0.0) is CONTINUE


class TestAnyOf:
    @settings(deadline=None, max_examples=40)
    @given(curves, st.sampled_from(["stopping", "promotion"]))
    def test_each_judges_as_if_it_were_alone(self, curves: list[list[float]], type: str) -> None:
        hyperband = Hyperband(max_t=9, type=type)
        members = [hyperband, MedianStopper(grace_time=2, grace_population=2), Patience(patience=3)]
        alone: Sequence[Any] = [bind(member) for member in members]
        study = study_of(AnyOf(*members), len(curves))
        for trial, curve in enumerate(curves):
            for epoch, value in enumerate(curve, start=1):
                wanted = [
                    judge(state, trial, epoch, value)
                    for state in alone
                    if epoch in state.milestones(0) or epoch >= getattr(state, "every", inf)
                ]
                got = [c.decision for c in study.apply(report(trial, epoch, epoch, value)) if isinstance(c, Decide)]
                expected = next((d for d in (STOP, PAUSE) if d in wanted), CONTINUE)
                assert got == [expected]
                if expected is STOP and type == "promotion":
                    alone[0].leave(trial)
                if expected is not CONTINUE:
                    break

    def test_hyperband_alone_costs_no_more_than_before(self) -> None:
        state = bind(AnyOf(Hyperband(max_t=27), NeverStop()))
        assert (state.every, state.milestones(0), state.max_t, state.pauses) == (inf, (1, 3, 9), 27, False)
        study = study_of(AnyOf(Hyperband(max_t=27)))
        assert study.apply(report(0, 1, 1, 1.0))
        assert study.apply(report(0, 2, 2, 1.0)) == []

    def test_brackets_are_drawn_for_each(self) -> None:
        both = [Hyperband(max_t=27, brackets=3), Hyperband(max_t=27, brackets=2, grace_period=2)]
        study = Study(ONE, bind(AnyOf(*both)), seed=1)
        events = study.admit([Proposal({"x": i}, "random") for i in range(60)], 0.0)
        drawn = {(e.bracket % 4096, e.bracket // 4096) for e in events}
        assert drawn == {(a, b) for a in range(3) for b in range(2)}
        for e in events:
            a, b = e.bracket % 4096, e.bracket // 4096
            expected = {*bind(both[0]).milestones(a), *bind(both[1]).milestones(b)}
            starts = [c for c in study.apply(e) if isinstance(c, Start)]
            assert [start.milestones for start in starts] == [tuple(sorted(expected))]

    def test_a_leap_is_judged_at_the_highest_milestone_of_each(self) -> None:
        state = bind(AnyOf(Hyperband(max_t=27), MedianStopper(grace_time=5, grace_population=1)))
        assert judge(state, 0, 1, 1.0) is CONTINUE
        assert judge(state, 0, 12.0, 1.0) is CONTINUE
        hyperband: HyperbandState = state._members[0].stopper
        assert [(v.level, v.entered) for v in hyperband.rungs()] == [(1, 1), (3, 0), (9, 1)]

    def test_a_trial_that_another_stops_is_not_promoted(self) -> None:
        study = study_of(AnyOf(Hyperband(max_t=9, type="promotion"), Patience(patience=0.5)), 6)
        for resource, a in ((0.2, 0.0), (1.0, 0.0)):
            study.apply(report(0, 1 + int(resource), resource, a))
        assert study.trials[0].stopping
        for trial in range(1, 6):
            study.apply(report(trial, 1, 1.0, 5.0))
        assert [t.pausing for t in study.trials] == [False] + [True] * 5
        assert 0 not in list(study.stopper.promotable())  # type: ignore[attr-defined]

    def test_a_search_with_all_of_them(self, problem: HpProblem) -> None:
        def train(config: Any, report: Any) -> None:
            for epoch in range(1, 28):
                report(epoch=epoch, objective=min(epoch, 5 + 30 * config.x), cost=config.n, seconds=1.0)

        stopper = AnyOf(Hyperband(max_t=27, type="promotion"), Patience(patience=4))
        search = Search(
            problem, train, cluster=Simulated(workers=7), searcher="random", random_state=1, stopper=stopper,
        )  # fmt: skip
        results = search.run(num_trials=60, progress=False)
        statuses = list(results.statuses().values())
        assert {Status.PAUSED, Status.STOPPED} <= set(statuses) <= {Status.PAUSED, Status.STOPPED, Status.COMPLETED}
        assert results.resource_name == "epoch"


def test_decisions_at_every_report_survive_a_restart() -> None:
    study = study_of(Patience(patience=2))
    assert [type(c) for c in study.apply(report(0, 1, 1, 1.0))] == [Decide]  # nothing for the searcher
    study.apply(report(0, 2, 2, 1.0))
    (start,) = study.apply(WorkerLost(1.0, 0, 1, "w"))
    assert isinstance(start, Start)
    assert start.milestones == ()
    assert 2 < start.every < 2.0001
    assert study.apply(report(0, 1, 2, 1.0, attempt=2)) == []  # judged before
    assert study.apply(report(0, 2, 3, 1.0, attempt=2)) == [Decide(0, 2, 2, STOP)]


def test_rungs_are_still_told_to_the_searcher() -> None:
    study = study_of(AnyOf(Hyperband(max_t=9), MedianStopper(grace_population=5)))
    told = [any(isinstance(c, Observe) for c in study.apply(report(0, e, e, 1.0))) for e in range(1, 5)]
    assert told == [True, False, True, False]


@given(st.lists(st.integers(1, 20), unique=True), st.lists(st.integers(1, 25), unique=True), st.integers(1, 30))
@settings(deadline=None, max_examples=60)
def test_what_is_due(milestones: list[int], resources: list[int], every: int) -> None:
    due = Due(milestones, every)
    last = 0
    for resource in sorted(resources):
        passed = any(last < m <= resource for m in milestones)
        assert due.at(resource) == (passed or resource >= every)
        last = resource
    assert not Due(())
    assert Due((), 3.0)


@pytest.mark.parametrize(
    "stopper",
    [
        MedianStopper(grace_time=3, ranking="parego", max_t=9),
        Patience("seconds", 60.0, 0.1),
        AnyOf(Hyperband(max_t=9), Patience(), NeverStop()),
    ],
)
def test_settings_are_json_and_protocols_are_kept(stopper: Any) -> None:
    found = stopper.settings()
    assert json.loads(json.dumps(found)) == found
    assert found["stopper"] == type(stopper).__name__
    assert found["time_attr"] == stopper.time_attr
    state = bind(stopper)
    assert isinstance(state, DecidesAlways)
    assert all(m < state.max_t for m in state.milestones(0))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: MedianStopper(time_attr=""), "time_attr"),
        (lambda: MedianStopper(grace_time=-1), "grace_time"),
        (lambda: MedianStopper(grace_population=0), "grace_population"),
        (lambda: MedianStopper(interval=0), "interval"),
        (lambda: MedianStopper(ranking="best"), "ranking"),
        (lambda: MedianStopper(max_t=0), "max_t"),
        (lambda: Patience(patience=0), "patience"),
        (lambda: Patience(min_delta=float("nan")), "min_delta"),
        (lambda: Patience(max_t=True), "max_t"),
        (lambda: AnyOf(), "no stoppers"),
        (lambda: AnyOf(Hyperband), "no stopper"),  # type: ignore[arg-type]
        (lambda: AnyOf(Hyperband(), Patience("seconds")), "'epoch' and by 'seconds'"),
        (lambda: bind(AnyOf(*[Hyperband(max_t=9, type="promotion")] * 2)), "one of type='promotion'"),
    ],
)
def test_unusable_settings(make: Any, match: str) -> None:
    with pytest.raises(SettingError, match=match):
        make()


def test_stoppers_are_values() -> None:
    nested = AnyOf(AnyOf(Hyperband(max_t=9)), Patience())
    assert nested == AnyOf(Hyperband(max_t=9), Patience())
    assert hash(nested) == hash(AnyOf(Hyperband(max_t=9), Patience()))
    assert nested != AnyOf(Patience())
    assert repr(AnyOf(Patience())) == f"AnyOf({Patience()!r})"
