"""Promotion: trials rest at a rung, and the best of them go on when there is room."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import HpProblem, Hyperband, Results, Search
from dhpo._codec import decode, encode
from dhpo._trial_state import TrialState
from dhpo._trials import TrialFold
from dhpo.errors import SettingError, StopTrial
from dhpo.events import (
    Conclude,
    Decide,
    Event,
    SessionOpened,
    Start,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialReported,
    WorkerLost,
)
from dhpo.executors.simulated import Simulated
from dhpo.objectives import Objectives
from dhpo.stopping.hyperband import HyperbandState
from dhpo.stopping.ranking import rank_in_rung
from dhpo.study import Study, follow_up
from dhpo.trial import Decision, Observation, Phase, Proposal, Status

ONE = Objectives.parse({"a": "MIN"})
TWO = Objectives.parse({"a": "MIN", "b": "MIN"})
OPENED = SessionOpened(9.0, 0.0, "host", 1, "0")


def stopper(**arguments: Any) -> Hyperband:
    return Hyperband(**{"max_t": 9, "type": "promotion", **arguments})


def bind(n_objectives: int = 1, **arguments: Any) -> HyperbandState:
    return stopper(**arguments).bind(n_objectives, max_t=None, seed=0)


def new_study(objectives: Objectives = ONE, **arguments: Any) -> Study:
    return Study(objectives, bind(len(objectives), **arguments), seed=1)


def propose(study: Study, n: int) -> None:
    for event in study.admit([Proposal({"x": i}, "random") for i in range(n)], 0.0):
        study.apply(event)


def report(trial: int, resource: float, a: float, *, attempt: int = 1, index: int = 1) -> TrialReported:
    return TrialReported(1.0, trial, attempt, index, resource, {"a": a})


def paused(trial: int, attempt: int = 1) -> TrialPaused:
    return TrialPaused(2.0, trial, attempt, 0.0, 2.0, "w")


def waiting(study: Study) -> list[int]:
    return [trial.number for trial in study.promotable()]


class Literal:
    """The rule word by word: every rung is sorted anew each time."""

    def __init__(self, levels: list[float], max_t: float) -> None:
        self.rungs: dict[float, list[tuple[float, int]]] = {level: [] for level in levels}
        self.gone: set[tuple[int, float]] = set()
        above = [*levels[1:], max_t]
        self.quantiles = {level: level / upper for level, upper in zip(levels, above, strict=True)}

    def promotable(self) -> list[int]:
        found = []
        for level in sorted(self.rungs, reverse=True):
            rung = self.rungs[level]
            share = floor(len(rung) * self.quantiles[level] + 1e-9)
            best = sorted(range(len(rung)), key=lambda i: (rung[i][0], i))[:share]
            found += [rung[i][1] for i in best if (rung[i][1], level) not in self.gone]
        return found

    def judge(self, trial: int, level: float, cost: float) -> Decision:
        self.rungs[level].append((cost, trial))
        if self.promotable()[:1] != [trial]:
            return Decision.PAUSE
        self.gone.add((trial, level))
        return Decision.CONTINUE


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=60))
def test_one_objective_goes_by_the_literal_rule(steps: list[tuple[int, bool]]) -> None:
    state, literal = bind(), Literal([1, 3], 9)
    rests: dict[int, float] = {}
    for trial, (cost, promotes) in enumerate(steps):
        decision = literal.judge(trial, 1, float(cost))
        assert state.judge(trial, 0, 1, (float(cost),)) is decision
        if decision is Decision.PAUSE:
            rests[trial] = 1
        assert list(state.promotable()) == literal.promotable()
        if promotes and (first := next(state.promotable(), None)) is not None:
            level = rests.pop(first)
            state.leave(first)
            literal.gone.add((first, level))
            if level == 1:
                value = float((7 * first + cost) % 5)
                decision = literal.judge(first, 3, value)
                assert state.judge(first, 0, 3, (value,)) is decision
                if decision is Decision.PAUSE:
                    rests[first] = 3
            assert list(state.promotable()) == literal.promotable()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40),
    st.sampled_from(["eps_net", "nsga_ii", "random_weights", "parego", "legacy_golovin"]),
)
def test_who_is_promoted_is_in_the_best_share_at_that_moment(costs: list[tuple[int, int]], ranking: str) -> None:
    state = bind(2, ranking=ranking)
    gone: set[int] = set()
    for trial, pair in enumerate(costs):
        decision = state.judge(trial, 0, 1, tuple(map(float, pair)))
        recorded = state.costs_at(0, 1)
        scores = rank_in_rung(recorded, ranking)
        share = floor(len(recorded) / 3 + 1e-9)
        best = np.argsort(scores, kind="stable")[:share].tolist()
        if decision is Decision.CONTINUE:
            assert best[: len(gone) + 1].count(trial) == 1
            gone.add(trial)
        # Only the best share, never twice from one rung, and the best first.
        assert list(state.promotable()) == [found for found in best if found not in gone]
        if trial % 4 == 3 and (first := next(state.promotable(), None)) is not None:
            state.leave(first)
            gone.add(first)
    views = {view.level: view for view in state.rungs()}
    assert (views[1].entered, views[1].entered - views[1].stopped) == (len(costs), len(gone))


def test_a_dominating_trial_is_the_first_to_go_on() -> None:
    state = bind(2)
    for trial in range(6):
        state.judge(trial, 0, 1, (5.0 + trial, 10.0 - trial))
    assert state.judge(6, 0, 1, (0.0, 0.0)) is Decision.CONTINUE or next(state.promotable()) == 6


def test_rungs_are_looked_through_from_the_top() -> None:
    state = bind(brackets=2, rung_system_per_bracket=True)
    for trial in range(3):
        state.judge(trial, 0, 1, (3.0 - trial,))  # the third one is the best, and goes on
    for trial in (10, 11):
        state.judge(trial, 1, 3, (float(trial),))
    state.judge(3, 0, 1, (9.0,))
    assert list(state.promotable()) == []
    state.judge(12, 1, 3, (99.0,))
    assert list(state.promotable()) == [10]
    for trial in (4, 5):
        state.judge(trial, 0, 1, (9.0,))
    assert list(state.promotable()) == [10, 1]


def test_unknown_types_are_refused() -> None:
    with pytest.raises(SettingError, match="'stopping', 'promotion'"):
        stopper(type="promote")


def test_a_trial_rests_goes_on_and_ends() -> None:
    study = new_study()
    propose(study, 3)
    heard: list[Observation] = []

    def apply(event: Event) -> list[Any]:
        commands = study.apply(event)
        heard.extend(c.observation for c in commands if hasattr(c, "observation"))
        return [c for c in commands if not hasattr(c, "observation")]

    assert apply(report(0, 1, 1.0)) == [Decide(0, 1, 1, Decision.PAUSE)]
    assert study.trials[0].status is Status.RUNNING  # until its run has ended
    assert apply(report(0, 2, 0.0, index=2)) == [Decide(0, 1, 2, Decision.PAUSE)]
    assert apply(report(1, 1, 2.0)) == [Decide(1, 1, 1, Decision.PAUSE)]
    assert apply(report(2, 1, 3.0)) == [Decide(2, 1, 1, Decision.PAUSE)]
    assert waiting(study) == []  # the best one has not come to rest
    assert apply(paused(0)) == []
    assert (study.trials[0].status, study.n_running, study.n_ended) == (Status.PAUSED, 2, 1)
    assert waiting(study) == [0]
    (event,) = study.promote(5, 3.0)
    assert event == TrialPromoted(3.0, 0, 2)
    assert waiting(study) == [0]  # nothing has changed yet
    (start,) = apply(event)
    assert start == Start(0, 2, {"x": 0}, (3,), 9, resume_from=1, skip_to=1)
    assert (study.trials[0].status, study.n_running, waiting(study)) == (Status.RUNNING, 3, [])
    assert apply(event) == []  # a copy
    apply(TrialCompleted(5.0, 0, 2, {"a": 0.5}, {}, False, 3.0, 5.0, "w"))
    assert study.trials[0].status is Status.COMPLETED
    assert [(o.phase, o.resource) for o in heard if o.trial == 0] == [
        (Phase.ENDED, 1), (Phase.PENDING, None), (Phase.ENDED, 1),
    ]  # fmt: skip


def test_the_end_of_a_pause_that_was_lost_is_made_good() -> None:
    for loss in (OPENED, WorkerLost(2.0, 0, 1, "w")):
        study = new_study()
        propose(study, 1)
        study.apply(report(0, 1, 1.0))
        (command,) = study.apply(loss)
        assert command == Conclude(0, 2, stopped=False, paused=True)
        study.apply(follow_up(command, 3.0))
        assert (study.trials[0].status, study.n_running) == (Status.PAUSED, 0)


def test_a_promoted_trial_that_is_lost_keeps_its_rung() -> None:
    study = new_study()
    propose(study, 3)
    for trial in range(3):
        study.apply(report(trial, 1, float(trial)))
        study.apply(paused(trial))
    study.apply(study.promote(1, 3.0)[0])
    study.apply(report(0, 2, 0.0, attempt=2))
    (start,) = study.apply(WorkerLost(4.0, 0, 2, "w"))
    assert isinstance(start, Start)
    assert (start.attempt, start.milestones, start.resume_from, start.skip_to) == (3, (3,), 2, 1)
    assert [r.entered for r in study.stopper.rungs()] == [3, 0]


def test_resting_trials_are_left_alone_by_a_new_session() -> None:
    study = new_study()
    propose(study, 3)
    for trial in range(3):
        study.apply(report(trial, 1, float(trial)))
        study.apply(paused(trial))
    assert study.apply(OPENED) == []
    assert [t.attempt for t in study.trials] == [1, 1, 1]
    assert waiting(study) == [0]


def drive(seed: int, objectives: Objectives, n_trials: int, workers: int) -> tuple[Study, list[Event]]:
    """A search on ``workers`` virtual machines, some of which die, as the loop would drive it."""
    rng = np.random.default_rng(seed)
    study = new_study(objectives, max_t=27, brackets=2)
    log: list[Event] = []
    heap: list[tuple[float, int, Start]] = []
    clock = 0.0

    def act(event: Event) -> None:
        log.append(event)
        for command in study.apply(event):
            if isinstance(command, Start):
                heapq.heappush(heap, (clock + rng.exponential(), len(log), command))
            elif isinstance(command, Conclude):
                act(follow_up(command, clock))

    def fill() -> None:
        while (free := workers - len(heap)) > 0:
            events = study.promote(free, clock) or study.admit(
                [Proposal({"x": i}, "random") for i in range(min(free, n_trials - len(study.trials)))], clock
            )
            if not events:
                return
            for event in events:
                assert not isinstance(event, TrialPromoted) or in_best_share(study, study.trials[event.trial])
                act(event)

    fill()
    while heap:
        clock, _, start = heapq.heappop(heap)
        run_step(study, start, rng, clock, act)
        fill()
    return study, log


def run_step(study: Study, start: Start, rng: np.random.Generator, clock: float, act: Any) -> None:
    """One run of a trial, at once: to its pause, its end or its worker's death."""
    for index, resource in enumerate((*start.milestones, start.max_t), start=1):
        if rng.random() < 0.1:
            act(WorkerLost(clock, start.trial, start.attempt, ""))
            return
        values = dict(zip("ab", rng.random(2).tolist(), strict=True))
        act(TrialReported(clock, start.trial, start.attempt, index, resource, values))
        if study.trials[start.trial].pausing:
            if rng.random() < 0.9:
                act(TrialPaused(clock, start.trial, start.attempt, 0.0, clock, "w"))
            else:
                act(WorkerLost(clock, start.trial, start.attempt, ""))
            return
    act(TrialCompleted(clock, start.trial, start.attempt, None, {}, False, 0.0, clock, "w"))


def in_best_share(study: Study, trial: TrialState) -> bool:
    state = study.stopper
    assert isinstance(state, HyperbandState)
    assert trial.resource is not None
    assert trial.costs is not None
    costs = state.costs_at(trial.bracket, trial.resource)
    quantile = next(v.quantile for v in state.rungs() if (v.bracket, v.level) == (trial.bracket, trial.resource))
    order = np.argsort(rank_in_rung(costs, seed=1), kind="stable")[: floor(len(costs) * quantile + 1e-9)]
    return any(tuple(costs[i].tolist()) == trial.costs for i in order)


@pytest.mark.parametrize("objectives", [ONE, TWO])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_a_whole_search_with_losses_promotes_well_replays_and_ends(objectives: Objectives, seed: int) -> None:
    study, log = drive(seed, objectives, n_trials=40, workers=5)
    assert study.n_running == 0
    assert waiting(study) == []
    assert len(study.trials) == 40
    rests: dict[int, list[float]] = defaultdict(list)
    again = new_study(objectives, max_t=27, brackets=2)
    for event in decode(encode(log)):
        if isinstance(event, TrialPromoted):
            rests[event.trial].append(again.trials[event.trial].resource or 0)
        again.apply(event)
    assert all(levels == sorted(set(levels)) for levels in rests.values())  # never twice from one rung
    assert rests
    state = [(t.status, t.attempt, t.resource, t.costs, t.promoted_from) for t in study.trials]
    assert [(t.status, t.attempt, t.resource, t.costs, t.promoted_from) for t in again.trials] == state
    assert again.stopper.rungs() == study.stopper.rungs()
    assert Counter(s.value for s, *_ in state).keys() <= {"PAUSED", "COMPLETED"}


numbers, attempts = st.integers(0, 3), st.integers(1, 3)
any_event = st.one_of(
    st.builds(
        lambda n, k, i, r, a: TrialReported(0.0, n, k, i, r, {"a": a}),
        numbers, attempts, st.integers(1, 3), st.sampled_from([1.0, 2.0, 3.0, 5.0]), st.integers(0, 3),
    ),
    st.builds(lambda n, k, v: TrialCompleted(0.0, n, k, v and {"a": v}, {}, False, 0.0, 0.0, "w"),
              numbers, attempts, st.none() | st.integers(1, 3)),
    st.builds(lambda n, k: TrialFailed(0.0, n, k, "oops", "", 0.0, 0.0, "w"), numbers, attempts),
    st.builds(paused, numbers, attempts),
    st.builds(lambda n, k: TrialPromoted(0.0, n, k), numbers, attempts),
    st.builds(lambda n, k: WorkerLost(0.0, n, k, "w"), numbers, attempts),
    st.just(OPENED),
    st.just("promote"),
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(any_event, max_size=50))
def test_whatever_comes_the_views_and_a_replay_agree_with_the_study(script: list[Any]) -> None:
    study, again, fold = new_study(), new_study(), TrialFold(ONE)
    ended: dict[int, Any] = {}
    log = study.admit([Proposal({"x": i}, "random") for i in range(4)], 0.0)
    done = [(event, study.apply(event)) for event in log]
    for item in script:
        for event in study.promote(1, 0.0) if item == "promote" else [item]:
            done.append((event, study.apply(event)))
    for event, commands in done:
        if (record := fold.apply(event)) is not None:
            ended[record.number] = record
        assert repr(again.apply(decode(encode([event]))[0])) == repr(commands)
    records = ended | fold.running
    assert [records[t.number].status for t in study.trials] == [t.status for t in study.trials]
    assert [records[t.number].attempt for t in study.trials] == [t.attempt for t in study.trials]
    assert study.n_running == sum(t.status is Status.RUNNING for t in study.trials)
    assert all(study.trials[n].status is Status.PAUSED for n in waiting(study))
    gone = [event.trial for event, commands in done if isinstance(event, TrialPromoted) and commands]
    levels = [study.trials[n].promoted_from for n in gone]
    assert all(level in (1, 2, 3, 5) for level in levels)


# The same in whole searches.


def curve(config: Any, report: Any) -> None:
    saved = report.checkpoint_dir / "epoch"
    first = int(saved.read_text()) + 1 if saved.exists() else 1
    for epoch in range(first, 10):
        saved.write_text(str(epoch))
        report(epoch=epoch, objective=config.x * epoch, first=first, resume_from=report.resume_from, seconds=1.0)


def from_scratch(config: Any, report: Any) -> None:
    for epoch in range(1, 10):
        try:
            report(epoch=epoch, objective=config.x * epoch, seconds=1.0)
        except StopTrial:
            return


def check(results: Results, n: int) -> None:
    statuses = results.statuses()
    assert set(statuses.values()) == {Status.PAUSED, Status.COMPLETED}
    frame = results.to_frame().set_index("job_id")
    assert len(frame) == n
    assert set(frame["m:resource"]) <= {1, 3, 9}
    for number, status in statuses.items():
        row = frame.loc[number]
        assert row["job_status"] == ("PAUSED" if status is Status.PAUSED else "DONE")
        assert row["m:stopped"] == (status is Status.PAUSED)
        assert row["objective"] == pytest.approx(row["p:x"] * row["m:resource"])
        # Every epoch once, whether the trial went on from its checkpoint or began anew.
        epochs = [entry["epoch"] for entry in results.training_history[str(number)]]
        assert epochs == list(range(1, int(row["m:resource"]) + 1))
    best_have_gone_on(results, [1, 3])


def best_have_gone_on(results: Results, levels: list[float]) -> None:
    """Nothing that might have gone on rests at the end (one objective, to be maximised)."""
    reached = results.to_frame().set_index("job_id")["m:resource"]
    histories = results.training_history.items()
    for level in levels:
        rung = sorted((e["objective"], int(t)) for t, entries in histories for e in entries if e["epoch"] == level)
        best = rung[len(rung) - len(rung) // 3 :]
        assert best
        assert all(reached[trial] > level for _, trial in best)
        assert sum(reached > level) < len(rung)


@pytest.mark.parametrize("cluster", ["serial", "threads"])
@pytest.mark.parametrize("function", [curve, from_scratch])
def test_a_search_pauses_and_promotes(problem: HpProblem, tmp_path: Path, function: Any, cluster: str) -> None:
    search = Search(
        problem, function, cluster=cluster, searcher="random", random_state=1, stopper=stopper(), log_dir=tmp_path
    )
    results = search.run(num_trials=20, progress=False)
    check(results, 20)
    rows = (tmp_path / "results.csv").read_text().splitlines()
    assert len(rows) == 21
    assert sum(",PAUSED," in row for row in rows) == Counter(results.statuses().values())[Status.PAUSED]
    if function is curve:
        for number in results.statuses():
            for entry in results.training_history[str(number)]:
                assert (entry["first"], entry["resume_from"]) in {(1, 0), (2, 1), (4, 3)}


def test_a_later_run_goes_on_with_what_rests(problem: HpProblem, tmp_path: Path) -> None:
    def make() -> Search:
        return Search(
            problem, curve, cluster="serial", searcher="random", random_state=1, stopper=stopper(), log_dir=tmp_path
        )

    check(make().run(num_trials=12, progress=False), 12)
    results = make().run(num_trials=20, progress=False)
    check(results, 20)
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 21


def test_an_exhausted_space_ends_the_search_when_nothing_may_go_on() -> None:
    search = Search(
        {"x": [1, 2, 3, 4, 5, 6]}, from_scratch, cluster="serial", searcher="random", random_state=1, stopper=stopper()
    )
    results = search.run(num_trials=100, progress=False)
    assert len(results) == 6
    best_have_gone_on(results, [1])


@pytest.mark.parametrize("objectives", [None, {"objective": "MAX", "cost": "MIN"}])
def test_a_hundred_simulated_workers_run_to_the_end(problem: HpProblem, objectives: Any) -> None:
    def train(config: Any, report: Any) -> None:
        for epoch in range(1, 28):
            report(epoch=epoch, objective=config.x * epoch, cost=config.n, seconds=1.0 + config.x)

    def run() -> tuple[Results, Simulated]:
        cluster = Simulated(workers=100, startup=(0.0, 30.0), deaths_per_hour=5.0, spread=0.3)
        search = Search(
            problem, train, cluster=cluster, searcher="random", random_state=1, objectives=objectives,
            stopper=stopper(max_t=27),
        )  # fmt: skip
        return search.run(num_trials=400, progress=False), cluster

    results, cluster = run()
    counts = Counter(results.statuses().values())
    assert counts.total() == 400
    assert set(counts) == {Status.PAUSED, Status.COMPLETED}
    resources = Counter(results.to_frame()["m:resource"])
    assert resources[27] == counts[Status.COMPLETED]
    assert 400 // 3 <= resources[3] + resources[9] + resources[27] < 200
    assert cluster.busy_seconds < 0.3 * 400 * 27 * 1.5
    if objectives is None:
        best_have_gone_on(results, [1, 3, 9])
        assert run()[0].to_frame().equals(results.to_frame())


def test_by_hand(problem: HpProblem, tmp_path: Path) -> None:
    def make() -> Search:
        return Search(problem, searcher="random", random_state=3, stopper=stopper(), log_dir=tmp_path)

    search = make()
    one, two, three = search.ask(3)
    assert search.tell(one, 1.0, resource=1) is Decision.PAUSE
    with pytest.raises(SettingError, match="not running"):
        search.tell(one, 1.0, resource=2)
    assert search.tell(two, 2.0, resource=1) is Decision.PAUSE
    assert search.tell(three, 3.0, resource=1) is Decision.CONTINUE  # the best of three goes on at once
    search.close()
    search = make()
    four, five, six = search.ask(3)
    assert [t.number for t in (four, five, six)] == [3, 4, 5]
    for trial in (four, five):
        assert search.tell(trial, 0.0, resource=1) is Decision.PAUSE
    assert search.tell(six, 1.5, resource=1) is Decision.PAUSE
    again, seven = search.ask(2)
    assert again == (1, two.config, 1)
    assert (seven.number, seven.resume_from) == (6, 0)
    assert search.tell(again, 9.0, resource=0.5) is Decision.CONTINUE  # begun anew: known up to the rung
    assert search.tell(again, 2.5, resource=2) is Decision.CONTINUE
    assert search.tell(again, 2.5, resource=3) is Decision.PAUSE
    history = search.results.training_history["1"]
    assert [(entry["epoch"], entry["objective"]) for entry in history] == [(1, 2.0), (2, 2.5), (3, 2.5)]
