"""Events by the block: reading a journal back in columns, from its cache or not, says what folding every event says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import Hyperband, NeverStop
from dhpo import _reading as reading
from dhpo import journal as journals
from dhpo._blocks import Block, Builder, blocks_of
from dhpo._codec import decode_rows, encode
from dhpo._points import PointFold, Points
from dhpo._replay import replay
from dhpo.errors import JournalError
from dhpo.events import (
    Event,
    Observe,
    SearchFinished,
    SessionOpened,
    TrialAdded,
    TrialCompleted,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialProposed,
    TrialReported,
    WorkerLost,
)
from dhpo.objectives import Objectives
from dhpo.stopping import MedianStopper, Patience
from dhpo.stopping.base import Stopper
from dhpo.study import Study
from dhpo.trial import Decision, Observation

ONE, TWO = Objectives.parse({"a": "MAX"}), Objectives.parse({"b": "MIN", "a": "MAX"})
HEADER = journals.Header("s1", 1.7e9, {"objectives": {"a": "MAX"}})


@dataclass(frozen=True)
class Odd:
    """A stopper of a user's: milestones that are no powers, and answers that depend on all that it was asked."""

    time_attr: str = "epoch"
    max_t: float = 9

    def bind(self, n_objectives: int, *, max_t: float | None, seed: int) -> OddState:
        return OddState()

    def settings(self) -> dict[str, Any]:
        return {"stopper": "Odd"}


class OddState:
    max_t: float | None = 9

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def bracket(self, rng: np.random.Generator) -> int:
        return int(rng.integers(2))

    def milestones(self, bracket: int) -> tuple[float, ...]:
        return (2.5, 5, 7) if bracket else (1, 3)

    def judge(self, trial: int, bracket: int, milestone: float, costs: tuple[float, ...]) -> Decision:
        self.asked.append((trial, bracket, milestone, costs))
        return Decision.STOP if len(self.asked) % 3 == 0 else Decision.CONTINUE


STOPPERS: list[Stopper] = [
    NeverStop("epoch"),
    Hyperband(max_t=9, brackets=2),
    Hyperband(max_t=9, type="promotion", brackets=2),
    MedianStopper(grace_time=2, grace_population=1),
    Patience(patience=2, time_attr="epoch"),
    Odd(),
]  # fmt: skip


def told(rng: np.random.Generator, n: int, *, wild: float) -> Iterator[Event]:
    """The events of a search of 6 trials, a share of them ``wild``: copies, late, unusable …"""
    attempts, indices, resources = np.ones(6, int), np.zeros(6, int), np.zeros(6, int)
    n_trials, time = 0, 0.0
    past: list[Event] = [SessionOpened(0.0, 1.0, "h", 1, "1")]
    yield past[0]
    for _ in range(n):
        time = round(time + float(rng.random()), 3)
        kind, trial = rng.random(), int(rng.integers(max(n_trials, 1)))
        attempt = int(attempts[trial])
        if rng.random() < wild:
            event = _wild(rng, past, trial, time)
        elif (kind < 0.1 or not n_trials) and n_trials < 6:
            event = TrialProposed(time, n_trials, {"x": [1, 2]}, int(rng.integers(2)), "random", 0)
            n_trials += 1
        elif kind < 0.8:
            indices[trial] += 1
            resources[trial] += 1 + (rng.random() < 0.1)
            values = {"a": float(rng.integers(50)) / 7, "b": int(rng.integers(9)), "note": "x"}
            at = int(resources[trial]) if rng.random() < 0.9 else float(resources[trial])
            event = TrialReported(time, trial, attempt, int(indices[trial]), at, values)
        elif kind < 0.86:
            event = WorkerLost(time, trial, attempt, "w")
            attempts[trial] += 1
            indices[trial], resources[trial] = 0, int(rng.integers(resources[trial] + 1))
        elif kind < 0.9:
            event = TrialCompleted(
                time, trial, attempt, {"a": 9.0, "b": 1} if kind < 0.88 else None, {}, False, 0, 1, "w"
            )
        elif kind < 0.93:
            event = TrialPaused(time, trial, attempt, 0.0, 1.0, "w")
        elif kind < 0.96:
            event = TrialPromoted(time, trial, attempt + 1)
            attempts[trial] += 1
            indices[trial] = 0
        elif kind < 0.97:
            event = TrialFailed(time, trial, attempt, "E: no", "", 0.0, 1.0, "w")
        elif kind < 0.985:
            event = SessionOpened(time, 1.0, "h", 1, "1")
            attempts += 1
            indices[:] = 0
        else:
            event = SearchFinished(time, "enough")
        past.append(event)
        yield event


def _wild(rng: np.random.Generator, past: Sequence[Event], trial: int, time: float) -> Event:
    if rng.random() < 0.4:
        return past[int(rng.integers(len(past)))]
    if rng.random() < 0.1:
        return TrialAdded(time, trial, {"x": [1, 2]}, {"a": 1.0, "b": 2.0}, "", None, "known")
    value: Any = rng.choice(np.array([1.5, None, float("nan"), True, 2**70, "text"], dtype=object))
    resource: Any = rng.choice(np.array([1, 2.5, 4, 30, 2**60], dtype=object))
    index, attempt = int(rng.integers(12)), int(rng.integers(4))
    return TrialReported(time, int(rng.integers(8)), attempt, index, resource, {"a": value, "b": 1.0})


def cut(events: Sequence[Event], names: Sequence[str], sizes: Sequence[int]) -> list[Block]:
    """The blocks of events as a journal gives them back."""
    builder, blocks, begin = Builder(names), [], 0
    for size in (*sizes, len(events)):
        if batch := events[begin : begin + size]:
            builder.add(decode_rows(encode(batch)))
            blocks.append(builder.block())
        begin += size
    return blocks


def state(study: Study, observations: Sequence[Observation]) -> Any:
    trials = [tuple(getattr(trial, name) for name in trial.__slots__) for trial in study.trials]
    counts = (study.n_running, study.n_known, study.n_failed, study.failures_in_a_row, study.n_ended_at_improvement)
    stopper = getattr(study.stopper, "asked", None) or (
        [tuple(view) for view in study.stopper.rungs()] if hasattr(study.stopper, "rungs") else None
    )
    promotable = [trial.number for trial in study.promotable()]
    front = (study.front.lowest, study.front.costs.tolist())
    return (
        trials,
        counts,
        stopper,
        promotable,
        front,
        study.time,
        study.finished,
        list(observations),
        study.last_error,
    )


def as_choices(events: Sequence[Event]) -> list[Event]:
    return [e._replace(config={"x": (1, 2)}) if isinstance(e, TrialProposed | TrialAdded) else e for e in events]


scenarios = st.tuples(
    st.integers(0, 2**32 - 1), st.integers(0, 150), st.sampled_from([0.0, 0.05, 0.4]),
    st.lists(st.integers(1, 60), max_size=6),
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(scenarios, st.sampled_from(STOPPERS), st.sampled_from([ONE, TWO]))
def test_blocks_make_the_study_that_events_make(scenario: Any, stopper: Stopper, objectives: Objectives) -> None:
    seed, n, wild, sizes = scenario
    events = list(told(np.random.default_rng(seed), n, wild=wild))
    slow, fast = (Study(objectives, stopper.bind(len(objectives), max_t=9, seed=1), 1) for _ in range(2))
    commands = [command for event in as_choices(events) for command in slow.apply(event)]
    found = replay(fast, cut(events, tuple(reversed(objectives.names)), sizes))
    told_of = [c.observation for c in commands if isinstance(c, Observe)]
    assert state(fast, [observation for part in found for observation in part]) == state(slow, told_of)


@settings(deadline=None, max_examples=100)
@given(scenarios, st.sampled_from([ONE, TWO]))
def test_blocks_make_the_points_that_events_make(scenario: Any, objectives: Objectives) -> None:
    seed, n, wild, sizes = scenario
    events = list(told(np.random.default_rng(seed), n, wild=wild))
    slow = PointFold(objectives)
    slow.extend([events])
    fast = PointFold(objectives)
    fast.extend_blocks(cut(events, tuple(reversed(objectives.names)), sizes))
    ended, fold, points = fast.ended, fast.fold, fast.points()

    def shown(record: Any) -> str:
        goals = None if record.values is None else objectives.costs(record.values)
        fields = {name: getattr(record, name) for name in record.__slots__ if name != "reported"}
        return repr((fields, goals))

    assert list(map(shown, ended)) == list(map(shown, slow.ended))
    assert {n: shown(r) for n, r in fold.running.items()} == {n: shown(r) for n, r in slow.fold.running.items()}
    assert fold.finished == slow.fold.finished
    for name in points.__slots__:
        np.testing.assert_array_equal(getattr(points, name), getattr(slow.points(), name), strict=True)
    for column in range(len(objectives)):
        assert repr(fast.best(column)) == repr(least(points, column))  # NaN equals NaN there


def least(points: Points, column: int) -> tuple[int, float, list[float]] | None:
    """Of the points with the least cost, the one that came first."""
    rows = np.argsort(points.arrival, kind="stable")
    if not len(rows):
        return None
    row = rows[points.costs[rows, column].argmin()]
    return int(points.trial[row]), float(points.resource[row]), points.costs[row].tolist()


def test_most_reports_are_rows() -> None:
    events = list(told(np.random.default_rng(0), 150, wild=0.0))
    (block,) = blocks_of([events], ["a"])
    assert len(block.reports) == sum(isinstance(e, TrialReported) for e in events) > 50
    assert block.size == len(events) == len(block.reports) + len(block.others)
    whole = [e.resource for e in block.reports.events(block.names)]
    assert list(map(type, whole)) == [type(e.resource) for e in events if isinstance(e, TrialReported)]


@pytest.mark.parametrize("row", [["report", 1.0], ["finished"], [], 3, ["unheard", 1]])
def test_a_row_that_is_no_event(row: Any) -> None:
    builder = Builder(["a"])
    builder.add([row])
    with pytest.raises(ValueError, match="not a list of events"):
        builder.block()


def same(found: Sequence[Block], wanted: Sequence[Block]) -> None:
    """That blocks hold the same events, wherever they are cut."""

    def events(blocks: Sequence[Block]) -> list[str]:
        shown = []
        for block in blocks:
            merged = dict(zip(block.places.tolist(), block.others, strict=True))
            merged |= dict(zip(block.reports.place.tolist(), block.reports.events(block.names), strict=True))
            shown += [repr(merged[place]) for place in range(block.size)]
        return shown

    assert events(found) == events(wanted)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Event]]:
    """A journal with a cache of several segments, and an end that is not in it."""
    monkeypatch.setattr(reading, "BLOCK", 40)
    events = list(told(np.random.default_rng(2), 170, wild=0.1))
    with journals.FileJournal.open(tmp_path, HEADER) as journal:
        for begin in range(0, len(events), 9):
            journal.append(events[begin : begin + 9])
        same(list(journal.blocks()), cut(events, ["a"], []))
    assert (tmp_path / "journal.cache").stat().st_size > 1000
    return tmp_path, events


def test_the_cache_spares_reading_the_journal(
    written: tuple[Path, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, events = written
    decoded: list[int] = []
    monkeypatch.setattr(reading, "decode_rows", lambda body: decoded.append(1) or decode_rows(body))
    same(list(journals.read_blocks(directory)[1]), cut(events, ["a"], []))
    assert len(decoded) < 5
    with journals.FileJournal.open(directory, HEADER) as journal:
        same(list(journal.blocks()), cut(events, ["a"], []))
        same(list(journal.blocks()), cut(events, ["a"], []))  # as often as one likes


def test_a_damaged_cache_changes_nothing(written: tuple[Path, list[Event]]) -> None:
    directory, events = written
    path, wanted = directory / "journal.cache", cut(events, ["a"], [])
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [0, 8, 9, *rng.integers(len(content), size=60).tolist()]:
        path.write_bytes(content[:place] + bytes([content[place] ^ int(rng.integers(1, 256))]) + content[place + 1 :])
        same(list(journals.read_blocks(directory)[1]), wanted)
        path.write_bytes(content[:place])
        same(list(journals.read_blocks(directory)[1]), wanted)
    with journals.FileJournal.open(directory, HEADER) as journal:  # and is mended
        same(list(journal.blocks()), wanted)
    assert path.read_bytes() == content


def test_a_cache_of_another_journal_is_not_used(written: tuple[Path, list[Event]], tmp_path: Path) -> None:
    directory, events = written
    other = tmp_path / "other"
    with journals.FileJournal.open(other, journals.Header("s2", 1.7e9, HEADER.settings)) as journal:
        journal.append(events[:30])
    (other / "journal.cache").write_bytes((directory / "journal.cache").read_bytes())
    same(list(journals.read_blocks(other)[1]), cut(events[:30], ["a"], []))
    path = directory / journals.FILE_NAME  # the same journal, but shorter than its cache
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:12]))
    same(list(journals.read_blocks(directory)[1]), cut(events[: 9 * 11], ["a"], []))


def test_damage_to_the_journal_is_found_behind_its_cache(written: tuple[Path, list[Event]]) -> None:
    directory, _ = written
    path = directory / journals.FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"report", b"repott")
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match="damaged at line 4, byte"):
        list(journals.read_blocks(directory)[1])


def test_the_cache_grows_while_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SEGMENT", 2000)
    monkeypatch.setattr(journals, "SEGMENT", 2000)
    events = list(told(np.random.default_rng(4), 300, wild=0.0))
    with journals.FileJournal.open(tmp_path, HEADER) as journal:
        assert list(journal.blocks()) == []
        for begin in range(0, len(events), 10):
            journal.append(events[begin : begin + 10])
    assert (tmp_path / "journal.cache").stat().st_size > 1000
    same(list(journals.read_blocks(tmp_path)[1]), cut(events, ["a"], []))


def test_a_withdrawn_journal_leaves_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SEGMENT", 2000)
    monkeypatch.setattr(journals, "SEGMENT", 2000)
    journal = journals.FileJournal.open(tmp_path / "search", HEADER)
    assert list(journal.blocks()) == []
    for event in told(np.random.default_rng(4), 300, wild=0.0):
        journal.append([event])
    journal.withdraw()
    assert not (tmp_path / "search").exists()


def test_where_no_cache_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 40)
    (tmp_path / "journal.cache").mkdir()
    events = list(told(np.random.default_rng(5), 100, wild=0.0))
    with journals.FileJournal.open(tmp_path, HEADER) as journal:
        journal.append(events)
        same(list(journal.blocks()), cut(events, ["a"], []))
        journal.append(events)


def test_a_journal_in_memory_has_blocks(tmp_path: Path) -> None:
    journal = journals.MemoryJournal(HEADER)
    events = list(told(np.random.default_rng(6), 100, wild=0.1))
    journal.append(events)
    same(list(journal.blocks()), cut(events, ["a"], []))
