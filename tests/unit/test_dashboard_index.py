"""What the dashboard keeps up to date as points come, against the same found from all of them at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_blocks import cut, scenarios, told

from dhpo import _front as fronts
from dhpo._front import front_rows
from dhpo._points import PointFold
from dhpo._progress import hypervolumes, incumbents
from dhpo._rows import Arrivals, Growing, Rows
from dhpo.dashboard.index import PointIndex
from dhpo.dashboard.roster import Roster, code_of
from dhpo.events import Event
from dhpo.objectives import Objectives
from dhpo.pareto import non_dominated

GOALS = {"one": Objectives.parse({"a": "MAX"}), "two": Objectives.parse({"b": "MIN", "a": "MAX"})}
LEVELS = (1.0, 3.0, 5.5)


def updated(events: list[Event], objectives: Objectives, sizes: Any) -> tuple[PointFold, PointIndex, Roster]:
    """A fold, with an index and a roster that were brought up to date after each block."""
    fold = PointFold(objectives)
    index, roster = PointIndex(fold.rows, LEVELS), Roster(fold)
    for block in cut(events, objectives.names, sizes):
        fold.extend_blocks([block])
        index.update()
        roster.update()
        roster.by_slot(index)
    return fold, index, roster


@settings(deadline=None, max_examples=150)
@given(scenarios, st.sampled_from(sorted(GOALS)))
def test_an_index_knows_what_all_points_say(scenario: Any, goals: str) -> None:
    seed, n, wild, sizes = scenario
    objectives = GOALS[goals]
    fold, index, _ = updated(list(told(np.random.default_rng(seed), n, wild=wild)), objectives, sizes)
    points, rows = fold.points(), index.rows
    assert len(index) == len(points)
    np.testing.assert_array_equal(index.here(), np.sort(points.arrival))
    order = index.in_order()
    np.testing.assert_array_equal(index.trials[order], np.unique(points.trial))
    np.testing.assert_array_equal(index.last[order], points.arrival[points.last_rows()])
    ends = (points.last_rows() + 1).tolist()
    parts = [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]
    for slot, chain, part in zip(order.tolist(), index.chains(order.tolist()), parts, strict=True):
        np.testing.assert_array_equal(chain, points.arrival[part])
        np.testing.assert_array_equal(index.least[slot], points.costs[part].min(axis=0))
        for place, level in enumerate(LEVELS):
            there = chain[rows.resource[chain] >= level]
            assert index.arrived(place)[slot] == (there[0] if len(there) else -1)


@settings(deadline=None, max_examples=150)
@given(scenarios, st.sampled_from(sorted(GOALS)))
def test_the_leaders_are_those_of_all_points(scenario: Any, goals: str) -> None:
    seed, n, wild, sizes = scenario
    objectives = GOALS[goals]
    fold, index, _ = updated(list(told(np.random.default_rng(seed), n, wild=wild)), objectives, sizes)
    points, rows, leaders = fold.points(), index.rows, index.leaders
    front = np.sort(points.arrival[front_rows(points.costs, strict=True, unique=True)])
    assert {tuple(cost) for cost in rows.costs[leaders.front]} == {tuple(cost) for cost in rows.costs[front]}
    for column in range(len(objectives)):
        expected = incumbents(fold.arrivals(), objectives, column)
        assert rows.trial[leaders.incumbents(column)].tolist() == expected["trial"].tolist()
    if not objectives.single and len(points):
        places, volumes = leaders.hypervolumes()
        trace = hypervolumes(fold.arrivals(), objectives, None)
        assert volumes.tolist() == pytest.approx(trace["hypervolume"].tolist())
        assert rows.time[places].tolist() == trace["time"].tolist()


@settings(deadline=None, max_examples=100)
@given(scenarios)
def test_a_roster_knows_all_trials(scenario: Any) -> None:
    seed, n, wild, sizes = scenario
    _, index, roster = updated(list(told(np.random.default_rng(seed), n, wild=wild)), GOALS["two"], sizes)
    records = list(roster)
    counts = roster.counts()
    assert {s: c for s, c in counts.items() if c} == {
        s: c for s in counts if (c := sum(r.status is s and not r.known for r in records))
    }
    usable = [r for r in records if r.values is not None and not r.failed]
    shown, costs = roster.with_values()
    assert shown == usable
    assert costs.tolist() == [list(GOALS["two"].costs(r.values) or ()) for r in usable]
    by_number = {r.number: r for r in records}
    brackets, codes = roster.by_slot(index)
    for slot, trial in enumerate(index.trials.tolist()):
        assert roster[trial].bracket == brackets[slot]
        assert roster[trial].number == by_number[trial].number == trial
        assert codes[slot] == code_of(roster[trial].status)


def test_arrays_grow_at_their_end() -> None:
    column, wide = Growing(np.int64), Growing(np.float64, 2)
    for size in (1, 500, 3):
        column.add(np.arange(len(column), len(column) + size))
        wide.add(np.full((size, 2), float(size)))
    column.fill(600, -1)
    assert column.values.tolist() == [*range(504), *[-1] * 96]
    assert wide.values.shape == (504, 2)
    assert len(Rows(3).costs) == 0


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(1, 3), st.booleans(), st.booleans())
def test_a_front_is_the_same_without_those_that_stand_no_chance(
    seed: int, n: int, m: int, strict: bool, unique: bool
) -> None:
    costs = np.random.default_rng(seed).integers(0, 6, (n, m)).astype(float)
    costs[costs == 5.0] = np.nan
    expected = np.flatnonzero(non_dominated(costs, strict=not strict, unique=unique)) if n else np.empty(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fronts, "_MANY", 8)
        patch.setattr(fronts, "_SAMPLE", 4)
        assert front_rows(costs, strict=strict, unique=unique).tolist() == expected.tolist()


def test_incumbents_count_trials_whatever_their_numbers_are() -> None:
    costs, time = np.array([[3.0], [4.0], [2.0], [1.0]]), np.arange(4.0)
    for numbers in ([5, 7, 5, 9], [2**40, 7, 2**40, 9]):
        found = incumbents(Arrivals(np.array(numbers), time, time, costs), GOALS["one"], 0)
        assert found["n_trials"].tolist() == [1, 2, 3]
