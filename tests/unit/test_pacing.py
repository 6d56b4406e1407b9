"""How many short trials go to a task, how many are given out ahead, what tasks are called, how packs are made."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.events import Cancel, Start
from dhpo.executors._pacing import Pacing
from dhpo.executors._tasks import Tasks
from dhpo.worker.keys import pack_key, trial_key, trial_keys, trial_of
from dhpo.worker.runner import End, EndKind

MS = 0.001


def lasted(seconds: float) -> End:
    return End(0, 1, EndKind.COMPLETED.value, {}, {}, False, "", "", 100.0, 100.0 + seconds, "w", 0)


def paced(*seconds: float, ahead: int | None = None, turnaround: float = 0.0) -> Pacing:
    pacing = Pacing(ahead)
    for each in seconds:
        pacing.ended(lasted(each))
        pacing.submitted(100.0 + each + turnaround)
    return pacing


def first(trial: int) -> Start:
    return Start(trial, 1, {}, (), None)


def test_nothing_is_packed_nor_given_ahead_before_durations_are_known() -> None:
    assert Pacing(None).size == 1
    assert Pacing(None).ahead(100) == 0
    few = paced(*[MS] * 10, turnaround=0.02)
    assert (few.size, few.ahead(100)) == (1, 0)


def test_packs_grow_as_more_trials_are_known_and_last_about_as_long_as_a_task_should() -> None:
    sizes = [paced(*[0.0001] * n).size for n in (15, 16, 32, 64, 128, 1000)]
    assert sizes == [1, 8, 16, 32, 64, 64]
    assert paced(*[9 * MS] * 200).size == 5
    assert paced(*[40 * MS] * 200).size == 1


def test_one_long_trial_ends_the_packs_until_it_is_long_ago() -> None:
    pacing = paced(*[MS] * 200, 2.0)
    assert pacing.size == 1
    for _ in range(128):
        pacing.ended(lasted(MS))
    assert pacing.size > 1


def test_a_fixed_number_ahead_is_kept_and_nothing_is_packed() -> None:
    pacing = paced(*[0.0001] * 200, ahead=3, turnaround=0.02)
    assert (pacing.size, pacing.ahead(10)) == (1, 3)
    assert Pacing(0).ahead(10) == 0


@pytest.mark.parametrize(
    ("lasts", "turnaround", "expected"),
    [(0.4, 0.04, 10), (0.4, 0.001, 0), (5.0, 0.08, 0), (0.06, 0.5, 100), (0.1, 0.05, 50)],
)
def test_as_many_are_given_ahead_as_hide_the_turnaround(lasts: float, turnaround: float, expected: int) -> None:
    assert paced(*[lasts] * 200, turnaround=turnaround).ahead(100) == expected


def test_nothing_is_given_ahead_where_trials_are_not_alike() -> None:
    assert paced(*[0.1] * 120, *[0.9] * 8, turnaround=0.05).ahead(100) == 0
    assert paced(*[0.1] * 128, turnaround=0.05).ahead(0) == 0


@given(st.lists(st.floats(0, 10), max_size=300), st.floats(-5, 5), st.integers(0, 1000))
@settings(deadline=None, max_examples=200)
def test_a_pack_is_short_and_what_is_ahead_never_more_than_the_slots(
    seconds: list[float], turnaround: float, slots: int
) -> None:
    pacing = paced(*seconds, turnaround=turnaround)
    recent = seconds[-128:]
    assert 1 <= pacing.size <= 64
    if pacing.size > 1:
        assert pacing.size * sum(recent) / len(recent) <= 0.05 + 1e-9
        assert max(recent) <= 0.05 + 1e-9
    assert 0 <= pacing.ahead(slots) <= slots


@given(st.integers(0, 10**6), st.integers(1, 64), st.integers(0, 3))
@settings(deadline=None, max_examples=100)
def test_a_task_tells_its_trials_by_its_name(trial: int, n: int, again: int) -> None:
    keys = [trial_key("1f-ab", trial + i, 1, again) for i in range(n)]
    assert trial_keys(pack_key(keys[0], n)) == keys
    assert [trial_of(key) for key in keys] == list(range(trial, trial + n))


@given(
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), unique_by=lambda pair: pair[0], max_size=40),
    st.integers(0, 12),
    st.integers(1, 8),
)
@settings(deadline=None, max_examples=300)
def test_what_is_ready_goes_to_all_slots_first(trials: list[tuple[int, bool]], room: int, most: int) -> None:
    tasks = Tasks({})
    starts = [first(n) if fresh else first(n)._replace(attempt=2) for n, fresh in trials]
    tasks.held.extend(starts)
    batch = tasks.ready(room, lambda start: start.trial % 7 != 0, most)
    assert len(batch) <= room
    assert sorted([*(start for each in batch for start in each), *tasks.held]) == sorted(starts)
    assert all(start.trial % 7 for each in batch for start in each)
    for each in batch:
        assert 1 <= len(each) <= most
        assert [s.trial for s in each] == list(range(each[0].trial, each[0].trial + len(each)))
        assert len(each) == 1 or all(s.attempt == 1 for s in each)
    if len(batch) < room:
        assert not [s for s in tasks.held if s.trial % 7]


def test_consecutive_trials_are_spread_evenly() -> None:
    for n, room, most, expected in [(5, 4, 64, [2, 1, 1, 1]), (10, 3, 2, [2, 2, 2]), (3, 8, 64, [1, 1, 1])]:
        tasks = Tasks({})
        tasks.held.extend(map(first, range(n)))
        assert [len(each) for each in tasks.ready(room, lambda start: True, most)] == expected


def test_trials_in_which_decisions_are_due_are_alone_in_their_tasks() -> None:
    for other in (Start(1, 1, {}, (3.0,), 9), Start(1, 1, {}, (), 9, every=1.0), Start(1, 1, {}, (), 9, resume_from=2)):
        tasks = Tasks({})
        tasks.held.extend([first(0), other, first(2)])
        assert [len(each) for each in tasks.ready(1, lambda start: True, 8)] == [1]


def test_a_task_is_out_until_the_last_of_its_trials_has_ended() -> None:
    tasks = Tasks({})
    tasks.begin(*map(first, range(3)))
    tasks.begin(first(3))
    assert (len(tasks), tasks.n_tasks) == (4, 2)
    keys = [tasks.key_of(Cancel(trial, 1)) for trial in range(3)]
    assert [tasks.end(key) for key in keys] == [first(n) for n in range(3)]
    assert (len(tasks), tasks.n_tasks) == (1, 1)
    assert tasks.end(keys[0]) is None
