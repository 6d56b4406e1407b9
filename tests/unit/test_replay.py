"""Reading a journal back: what was made fast for long ones stays right."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import HpProblem, NeverStop
from dhpo._codec import decode, encode
from dhpo.errors import ResumeError
from dhpo.events import TrialCompleted, TrialProposed, TrialReported
from dhpo.objectives import Objectives
from dhpo.searchers import resolve
from dhpo.session import Session, Setup
from dhpo.study import Front


def setup(objective: str = "score") -> Setup:
    space = HpProblem({"x": (0.0, 1.0)})
    return Setup(space, Objectives.parse({objective: "MAX"}), NeverStop("epoch"), resolve("random"), 1, None)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(tmp_path: Path, enabled: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        Session(setup(), tmp_path).close()
        assert gc.isenabled() is enabled
        with pytest.raises(ResumeError):
            Session(setup("other"), tmp_path)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_a_replayed_study_is_the_one_that_was_written(tmp_path: Path) -> None:
    session = Session(setup(), tmp_path)
    session.commit([session.opened(0.0)])
    session.commit([TrialProposed(0.0, 0, {"x": 0.5}, 0, "random", 0)])
    session.commit([TrialReported(1.0 + i, 0, 1, i, i, {"epoch": i, "score": i * 0.1}) for i in range(1, 4)])
    session.commit([TrialCompleted(5.0, 0, 1, None, {}, False, 0.5, 4.5, "w")])
    session.close()
    again = Session(setup(), tmp_path).study
    (trial,), before = again.trials, session.study.trials[0]
    assert (trial.status, trial.resource, trial.costs, trial.index) == (
        before.status, before.resource, before.costs, before.index,
    )  # fmt: skip
    assert again.best_cost == session.study.best_cost == pytest.approx(-0.3)
    assert again.time == 5.0


@pytest.mark.parametrize("row", [b'["report",1.0]', b'["report",1,2,3,4,5,{},7,8]', b'["finished"]', b"[]", b"3"])
def test_a_row_that_is_no_event_is_refused(row: bytes) -> None:
    with pytest.raises(ValueError, match="not a list of events"):
        decode(b"[" + row + b"]")


def test_decoded_events_are_of_their_kind() -> None:
    events = [TrialReported(1.0, 0, 1, 1, 1, {"epoch": 1}), TrialProposed(1.0, 1, {"x": 0.5}, 0, "random", 1)]
    found = decode(encode(events))
    assert found == events
    assert [type(event) for event in found] == [TrialReported, TrialProposed]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(st.integers(-5, 5), st.booleans(), st.floats(allow_nan=True)), min_size=1, max_size=20))
def test_the_best_single_cost_is_the_least(values: list[float]) -> None:
    objectives, front = Objectives.parse({"y": "MIN"}), Front(1)
    usable = []
    for value in values:
        if (costs := objectives.costs({"y": value})) is not None:
            assert type(costs[0]) is float
            assert front.add(costs) == (not usable or costs[0] < min(usable))
            usable.append(costs[0])
            assert front.costs.tolist() == [[min(usable)]]
    assert len(front) == min(1, len(usable))
