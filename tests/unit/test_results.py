"""Results: frames, histories, fronts and progress, from plain lists of events; and the CSV that follows a search."""

from __future__ import annotations

import logging
import math
import os
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_blocks import scenarios, told

from dhpo._blocks import blocks_of
from dhpo.errors import DhpoError, JournalError, ObjectiveError
from dhpo.events import (
    Event,
    SearchFinished,
    SessionOpened,
    TrialCompleted,
    TrialFailed,
    TrialProposed,
    TrialReported,
    TrialTimedOut,
    WorkerLost,
)
from dhpo.journal import FileJournal, Header, MemoryJournal
from dhpo.objectives import Objectives
from dhpo.results import Results, retrieve_pareto_front
from dhpo.results_csv import LiveCsv

TWO = {"acc": "MAX", "time": "MIN"}
PROBLEM = {"names": ["x", "y"]}


def session(time: float = 0.0) -> Event:
    return SessionOpened(time, 1.7e9, "node", 1, "1")


def proposed(trial: int, time: float = 0.0, **config: Any) -> Event:
    return TrialProposed(time, trial, config or {"x": trial}, trial % 2, "random", 0)


def report(
    trial: int, resource: int, attempt: int = 1, index: int | None = None, at: float = 1.0, **values: Any
) -> Event:
    return TrialReported(at, trial, attempt, index or resource, resource, {"epoch": resource, **values})


def completed(
    trial: int, values: Any = None, attempt: int = 1, time: float = 2.0, stopped: bool = False, **metadata: Any
) -> Event:
    return TrialCompleted(time, trial, attempt, values, metadata, stopped, time - 1, time, "w1")


def failed(trial: int, error: str, traceback: str = "Traceback", time: float = 3.0) -> Event:
    return TrialFailed(time, trial, 1, error, traceback, time - 1, time, "w1")


def results(*events: Event, objectives: Any = None, problem: Any = PROBLEM) -> Results:
    objectives = Objectives.parse(objectives).as_dict()
    return Results({"objectives": objectives, "problem": problem}, lambda: [[e] for e in events])


ONE_RUN = (
    session(),
    proposed(0, 0.1, x=1, y="a"),
    proposed(1, 0.2, x=2),
    proposed(2, 0.3, x=3, y="b"),
    completed(1, {"objective": 0.5}, time=2.0, note="fine"),
    completed(0, {"objective": 0.25}, time=4.0, size=3),
)


def test_the_frame_has_deephypers_columns_in_gather_order() -> None:
    frame = results(*ONE_RUN).to_frame()
    assert list(frame.columns) == [
        "p:x", "p:y", "objective", "job_id", "job_status", "m:timestamp_submit", "m:timestamp_gather",
        "m:timestamp_start", "m:timestamp_end", "m:worker", "m:attempt", "m:resource", "m:bracket", "m:stopped",
        "m:note", "m:size",
    ]  # fmt: skip
    assert frame["job_id"].tolist() == [1, 0, 2]
    assert frame["job_status"].tolist() == ["DONE", "DONE", "RUNNING"]
    assert frame["p:x"].tolist() == [2, 1, 3]
    assert frame["p:y"].isna().tolist() == [True, False, False]
    assert frame["objective"].dtype == float
    assert frame["objective"][:2].cummax().tolist() == [0.5, 0.5]
    assert math.isnan(frame["objective"][2])
    assert frame.loc[1, ["m:timestamp_submit", "m:timestamp_gather", "m:timestamp_start"]].tolist() == [0.1, 4.0, 3.0]
    assert frame["m:size"].tolist()[1] == 3


@pytest.mark.parametrize(
    ("event", "cell"),
    [
        (failed(0, "F_oom", ""), "F_oom"),
        (failed(0, "Failed badly", ""), "Failed badly"),
        (failed(0, "ValueError: no: good"), "F_ValueError"),
        (failed(0, "FileNotFoundError: x"), "F_FileNotFoundError"),
        (failed(0, "torch.cuda.OutOfMemoryError: 3 GB"), "F_OutOfMemoryError"),
        (failed(0, "WorkerLost: 3 workers died", ""), "F_WorkerLost"),
        (failed(0, "what? no"), "F_error"),
        (TrialTimedOut(3.0, 0, 1, 60.0, 2.0, 3.0, "w"), "F_TIMED_OUT"),
        (completed(0), "F_error"),
        (SearchFinished(3.0, "time_out"), "F_CANCELLED"),
    ],
)
def test_a_failure_stands_in_every_objective(event: Event, cell: str) -> None:
    frame = results(
        session(), proposed(0), event, proposed(1), completed(1, {"acc": 1.0, "time": 2.0}), objectives=TWO
    ).to_frame()
    row = frame[frame["job_id"] == 0].iloc[0]
    assert row["objective_0"] == row["objective_1"] == cell
    assert frame["objective_0"].dtype == object
    assert frame.set_index("job_id")["pareto_efficient"].to_dict() == {0: False, 1: True}
    assert row["job_status"] == ("CANCELLED" if cell == "F_CANCELLED" else "DONE")


def test_an_interrupted_search_gone_on_with_has_nothing_cancelled() -> None:
    events = (session(), proposed(0), SearchFinished(3.0, "time_out"), session(9.0))
    assert results(*events).to_frame()["job_status"].tolist() == ["RUNNING"]


def test_the_last_report_counts_where_nothing_is_returned() -> None:
    reports = (report(0, 1, objective=0.1), report(0, 2, objective=0.3), report(1, 4, objective=0.9))
    events = (session(), proposed(0), proposed(1), *reports, completed(0), SearchFinished(3.0, "time_out"))
    frame = results(*events).to_frame()
    assert frame["objective"].tolist() == [0.3, 0.9]
    assert frame["m:resource"].tolist() == [2, 4]
    assert frame["job_status"].tolist() == ["DONE", "CANCELLED"]


def test_pareto_efficient_keeps_the_users_signs() -> None:
    values = [(0.9, 5.0), (0.8, 1.0), (0.7, 2.0), (0.9, 5.0), (0.9, 6.0)]
    events = [e for i, (a, t) in enumerate(values) for e in (proposed(i), completed(i, {"acc": a, "time": t}))]
    frame = results(session(), *events, objectives=TWO).to_frame()
    assert list(zip(frame["objective_0"], frame["objective_1"], strict=True)) == values
    assert frame["pareto_efficient"].tolist() == [True, True, False, True, False]


def test_metadata_named_like_our_own_columns_is_kept_apart() -> None:
    frame = results(proposed(0), completed(0, {"objective": 1.0}, worker="me", stopped=True)).to_frame()
    assert frame.loc[0, ["m:worker", "m:user.worker", "m:stopped"]].tolist() == ["w1", "me", True]


def test_an_empty_search() -> None:
    for objectives in (None, TWO):
        empty = results(session(), objectives=objectives)
        assert len(empty) == len(empty.to_frame()) == 0
        assert empty.training_history == {}
        assert empty.pareto_front() == []
        assert "0 trials" in repr(empty)
    assert results().best() is None
    assert results().incumbents().empty
    assert results(objectives=TWO).hypervolume().empty
    assert results().failures().empty


def test_the_history_is_what_was_reported() -> None:
    events = (
        session(), *map(proposed, range(3)), report(1, 1, objective=0.5), report(0, 1, objective=0.2, lr=3),
        report(0, 2, objective=0.1), completed(0, stopped=True), report(1, 3, index=2, objective=0.6),
        completed(1, {"objective": 0.6}), completed(2, {"objective": 0.7}),
    )  # fmt: skip
    found = results(*events)
    assert list(found.training_history.items()) == [
        ("0", [{"epoch": 1, "objective": 0.2, "lr": 3, "bracket": 0},
               {"epoch": 2, "objective": 0.1, "bracket": 0, "terminated": True}]),
        ("1", [{"epoch": 1, "objective": 0.5, "bracket": 1}, {"epoch": 3, "objective": 0.6, "bracket": 1}]),
        ("2", [{"objective": 0.7, "bracket": 0}]),
    ]  # fmt: skip
    assert found.config_history == {"0": {"x": 0}, "1": {"x": 1}, "2": {"x": 2}}


@pytest.mark.parametrize("loss", [WorkerLost(1.5, 0, 1, "w"), session(1.5)])
def test_a_new_attempt_replaces_what_it_reports_again(loss: Event) -> None:
    old = [report(0, e, objective=e / 10) for e in range(1, 6)]
    late = report(0, 6, objective=9.0)  # of the attempt that no longer counts
    new = [report(0, e, attempt=2, index=i, objective=e / 5) for i, e in enumerate((4, 5, 6), start=1)]
    other = (proposed(1), completed(1, {"objective": 0.0}))
    found = results(session(), proposed(0), *other, *old, loss, late, new[0], *new, completed(0, attempt=2))
    assert [entry["objective"] for entry in found.training_history["0"]] == [0.1, 0.2, 0.3, 0.8, 1.0, 1.2]
    best = found.best()
    assert best is not None
    assert (best.trial, best.resource, best.values, best.config) == (0, 6, {"objective": 1.2}, {"x": 0})
    assert found.to_frame().set_index("job_id").loc[0, "m:attempt"] == 2


def test_what_does_not_count_is_nowhere() -> None:
    events = (
        proposed(0), report(0, 1, objective=math.nan), report(0, 1, objective=None), report(0, 1, other=1.0),
        report(0, 1, attempt=2, objective=9.0), report(5, 1, objective=9.0), WorkerLost(1.0, 0, 7, "w"),
        completed(0, {"objective": 9.0}, attempt=2), report(0, 1, objective=0.5), report(0, 1, objective=9.0),
        completed(0), report(0, 2, objective=9.0), completed(0, {"objective": 9.0}),
    )  # fmt: skip
    found = results(*events)
    assert found.training_history == {"0": [{"epoch": 1, "objective": 0.5, "bracket": 0}]}
    assert found.to_frame()["objective"].tolist() == [0.5]


def rows(history: dict[str, list[tuple[float, ...]]]) -> dict[str, list[dict[str, float]]]:
    return {trial: [{"acc": a, "time": t, "epoch": 5.0 * i} for i, (a, t) in enumerate(reports, 1)]
            for trial, reports in history.items()}  # fmt: skip


def front(history: dict[str, list[tuple[float, ...]]], **options: Any) -> list[tuple[str, Any]]:
    return [point["task_id-ressource"] for point in retrieve_pareto_front(rows(history), TWO, **options)]


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("history", "kept"),
    [
        ({"0": [(1, 1)], "1": [(1, 1)]}, [("0", 1), ("1", 1)]),  # duplicates
        ({"0": [(1, 1), (1, 2), (0, 2)]}, [("0", 1), ("0", 2)]),  # weakly dominated
        ({"0": [(INF, 1), (1, 2)], "1": [(1, -INF), (0, INF)]}, [("0", 1), ("1", 1)]),  # ordinary numbers
        ({"0": [(0.5, NAN), (1, 1)]}, [("0", 2)]),
        ({"0": [(1, 1)], "1": [(2, NAN)]}, [("0", 1)]),
        ({"0": [(NAN, NAN), (1, 1)]}, [("0", 2)]),
        ({"0": [(1, 1), (NAN, NAN)]}, [("0", 1)]),
        ({"0": [(NAN, NAN)]}, []),
        ({}, []),
        ({"0": [], "1": [(1, 1)]}, [("1", 1)]),
        ({"7": [(1, 3)], "2": [(0, 2), (0, 3), (0.5, 2.5)]}, [("7", 1), ("2", 1), ("2", 3)]),  # in order of history
    ],
)  # fmt: skip
def test_autogluons_cases(history: Any, kept: list[tuple[str, int]]) -> None:
    assert front(history) == kept


def test_the_form_is_autogluons() -> None:
    history = rows({"3": [(0.5, 2), (0.96, 0.29)]})
    assert retrieve_pareto_front(history, {"time": "MIN", "acc": "MAX"}) == [
        {"task_id-ressource": ("3", 2), "time": 0.29, "acc": 0.96}
    ]
    (point,) = retrieve_pareto_front(history, TWO)
    assert list(point) == ["task_id-ressource", "acc", "time"]
    assert all(type(point[name]) is float for name in TWO)


def test_one_objective_keeps_all_that_tie() -> None:
    history = {"0": [{"a": 1}, {"a": 2}], "1": [{"a": 2}]}
    assert [p["task_id-ressource"] for p in retrieve_pareto_front(history, {"a": "MAX"})] == [("0", 2), ("1", 1)]


def test_the_fronts_options() -> None:
    history = {"0": [(1, 1), (1, 2), (0.5, 0.7)], "1": [(1, 1), (0, 5)]}
    assert front(history) == [("0", 1), ("0", 2), ("0", 3), ("1", 1)]
    assert front(history, strict=True) == [("0", 1), ("0", 3), ("1", 1)]
    assert front(history, strict=True, unique=True) == [("0", 1), ("0", 3)]
    assert front(history, final_only=True) == [("0", 3)]
    assert front(history, final_only=True, resource_attr="epoch") == [("0", 15.0)]


def test_a_history_that_cannot_be_used() -> None:
    with pytest.raises(KeyError, match="lacks 'time'"):
        retrieve_pareto_front({"0": [{"acc": 1.0}]}, TWO)
    with pytest.raises(ObjectiveError, match="'acc' has a value that is no number"):
        retrieve_pareto_front({"0": [{"acc": "high", "time": 1.0}]}, TWO)
    with pytest.raises(ObjectiveError, match="up"):
        retrieve_pareto_front({}, {"acc": "up"})


coordinates = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(st.lists(st.lists(coordinates, max_size=6), max_size=6))
@settings(deadline=None, max_examples=100)
def test_the_front_is_what_its_definition_says(histories: list[list[tuple[int, int]]]) -> None:
    history = {str(i): [(float(a), float(t)) for a, t in h] for i, h in enumerate(histories)}
    places = [(trial, i) for trial, reports in history.items() for i in range(1, len(reports) + 1)]
    everything = [p for reports in history.values() for p in reports]
    kept = [place for place, (a, t) in zip(places, everything, strict=True)
            if not any(b > a and s < t for b, s in everything)]  # fmt: skip
    assert front(history) == kept
    events = [session(), *(proposed(int(trial)) for trial in history)]
    reports = [report(int(trial), i, **rows(history)[trial][i - 1]) for trial, i in places]
    found = results(*events, *reports, objectives=TWO)
    for name in ("strict", "unique", "final_only", None):
        options: Any = {name: True} if name else {}
        assert found.pareto_front(**options) == retrieve_pareto_front(found.training_history, TWO, **options)


@settings(deadline=None, max_examples=60)
@given(scenarios, st.booleans(), st.booleans(), st.booleans())
def test_the_front_is_that_of_the_history(scenario: Any, strict: bool, unique: bool, final_only: bool) -> None:
    seed, n, _, _ = scenario
    events = list(told(np.random.default_rng(seed), n, wild=0.0))
    found = results(*events, objectives={"b": "MIN", "a": "MAX"})
    options = {"strict": strict, "unique": unique, "final_only": final_only}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dhpo._front._MANY", 8)
        patch.setattr("dhpo._front._SAMPLE", 4)
        assert found.pareto_front(**options) == retrieve_pareto_front(
            found.training_history, found.objectives, **options
        )


@settings(deadline=None, max_examples=30)
@given(scenarios)
def test_the_values_of_some_trials_are_theirs(scenario: Any) -> None:
    seed, n, wild, _ = scenario
    found = results(*told(np.random.default_rng(seed), n, wild=wild), objectives={"b": "MIN"})
    everything = found.values_by_trial()
    for trial, (resources, values) in found.values_of(np.array([1, 3])).items():
        np.testing.assert_array_equal(resources, everything[trial][0])
        np.testing.assert_array_equal(values, everything[trial][1])
    assert list(found.values_of(np.array([1, 3]))) == [trial for trial in (1, 3) if trial in everything]


def test_the_front_by_resource() -> None:
    events = (proposed(0), report(0, 10, index=1, acc=0.5), completed(0), proposed(1), completed(1, {"acc": 0.5}))
    points = results(*events, objectives={"acc": "MAX"}).pareto_front(resource=True)
    assert [p["task_id-ressource"] for p in points] == [("0", 10), ("1", None)]


def test_incumbents_and_best() -> None:
    scores = [(0, 1, 0.5), (1, 1, 0.4), (1, 2, 0.7), (0, 2, 0.7), (2, 1, 0.9)]
    events = [report(t, e, at=float(i), objective=s) for i, (t, e, s) in enumerate(scores)]
    found = results(session(), *map(proposed, range(3)), *events)
    assert found.incumbents().to_dict("list") == {
        "time": [0.0, 2.0, 4.0], "n_trials": [1, 2, 3], "trial": [0, 1, 2], "resource": [1, 2, 1],
        "value": [0.5, 0.7, 0.9],
    }  # fmt: skip
    best = found.best()
    assert best is not None
    assert best == (2, {"x": 2}, 1, {"objective": 0.9})
    lower = results(session(), *map(proposed, range(3)), *events, objectives={"objective": "MIN"})
    assert lower.incumbents()["value"].tolist() == [0.5, 0.4]


def test_one_of_several_objectives_is_named() -> None:
    found = results(proposed(0), completed(0, {"acc": 0.5, "time": 3.0}), objectives=TWO)
    best = found.best("time")
    assert best is not None
    assert best.values == {"acc": 0.5, "time": 3.0}
    assert best.resource is None
    assert found.incumbents("time")["value"].tolist() == [3.0]
    for name, message in ((None, "several objectives"), ("speed", "no objective 'speed'")):
        with pytest.raises(ObjectiveError, match=message):
            found.best(name)
    with pytest.raises(ObjectiveError, match="several"):
        results(*ONE_RUN).hypervolume()


def test_the_hypervolume_grows() -> None:
    values = [(0.5, 4.0), (0.4, 5.0), (0.75, 2.0), (0.25, 1.0)]
    events = [e for i, (a, t) in enumerate(values)
              for e in (proposed(i), completed(i, {"acc": a, "time": t}, time=float(i)))]  # fmt: skip
    found = results(*events, objectives=TWO)
    frame = found.hypervolume({"acc": 0.0, "time": 5.0})
    assert frame["time"].tolist() == [0.0, 2.0, 3.0]
    assert frame["n_trials"].tolist() == [1, 3, 4]
    assert np.allclose(frame["hypervolume"], [0.5, 2.25, 2.5])
    assert frame.equals(found.hypervolume([0.0, 5.0]))
    inferred = found.hypervolume()["hypervolume"].tolist()
    assert inferred[0] > 0
    assert all(b > a for a, b in pairwise(inferred))
    for bad in ([0.0], {"acc": 0.0, "tim": 5.0}, [0.0, NAN]):
        with pytest.raises(ObjectiveError, match="one finite number"):
            found.hypervolume(bad)


def test_failures_tell_what_went_wrong() -> None:
    events = (proposed(0), proposed(1), proposed(2), failed(1, "ValueError: no", "Traceback x"),
              TrialTimedOut(4.0, 0, 1, 60.0, 2.0, 4.0, "w"), completed(2, {"objective": 1.0}))  # fmt: skip
    frame = results(*events).failures()
    assert frame["trial"].tolist() == [1, 0]
    assert frame["status"].tolist() == ["FAILED", "TIMED_OUT"]
    assert frame["reason"].tolist() == ["F_ValueError", "F_TIMED_OUT"]
    assert frame["traceback"].tolist() == ["Traceback x", ""]
    assert frame["error"].tolist() == ["ValueError: no", "it ran longer than 60 s"]


def test_it_shows_itself_shortly() -> None:
    found = results(*ONE_RUN, proposed(3), failed(3, "ValueError"))
    assert repr(found) == "<Results: 4 trials: 1 running, 2 completed, 1 failed; best objective 0.5 in trial 1>"
    assert "<table" in found._repr_html_()
    both = results(proposed(0), completed(0, {"acc": 0.5, "time": 3.0}), objectives=TWO)
    assert repr(both) == "<Results: 1 trials: 1 completed; 1 points in the front>"


def test_loaded_from_a_directory(tmp_path: Path) -> None:
    header = Header("s", 0.0, {"objectives": {"objective": "MAX"}, "problem": PROBLEM})
    memory = MemoryJournal(header)
    with FileJournal.open(tmp_path, header) as journal:
        for target in (journal, memory):
            target.append(ONE_RUN)
        found = Results.load(tmp_path)
        assert found.directory == tmp_path
        pd.testing.assert_frame_equal(found.to_frame(), Results.of(memory).to_frame())
        assert len(found) == 3
    with pytest.raises(JournalError, match="no journal"):
        Results.load(tmp_path / "elsewhere")


def test_hyperparameters_of_an_unknown_space_are_those_seen() -> None:
    assert list(results(*ONE_RUN, problem=None).to_frame().columns[:3]) == ["p:x", "p:y", "objective"]


def test_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = results(*ONE_RUN, proposed(3), failed(3, "ValueError: no"), proposed(4),
                    completed(4, {"objective": 1 / 3}, size=[1, {"a": 2}]))  # fmt: skip
    found.to_csv(tmp_path / "r.csv")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "r.csv")[["job_id", "p:y"]], found.to_frame()[["job_id", "p:y"]]
    )
    found.to_json(tmp_path / "r.json")
    read = pd.read_json(tmp_path / "r.json", precise_float=True)
    assert read["objective"].tolist()[:4] == [0.5, 0.25, "F_ValueError", 1 / 3]
    found.to_parquet(tmp_path / "r.parquet")
    table = pd.read_parquet(tmp_path / "r.parquet")
    assert table["objective"].tolist()[:2] == [0.5, 0.25]
    assert math.isnan(table["objective"][2])
    assert table["m:failure"].tolist()[2] == "F_ValueError"
    assert table["m:failure"].isna().tolist() == [True, True, False, True, True]
    assert table["m:size"].tolist()[1:4:2] == ["3", '[1,{"a":2}]']

    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("no pyarrow")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", missing)
    with pytest.raises(DhpoError, match=r"pip install 'dhpo\[parquet\]'"):
        found.to_parquet(tmp_path / "other.parquet")


def random_run(seed: int, n: int = 40) -> list[Event]:
    """A search with every kind of end, new metadata now and then, and trials that still run."""
    rng = random.Random(seed)
    events: list[Event] = [session()]
    for trial in range(n):
        config = {"x": rng.random()} if rng.random() < 0.3 else {"x": rng.random(), "y": rng.choice(["a", 'b,\n"c"'])}
        events.append(proposed(trial, float(trial), **config))
        for epoch in range(1, rng.randint(1, 4)):
            events.append(report(trial, epoch, at=trial + epoch / 10, objective=rng.random()))
        end = rng.random()
        metadata = {f"k{rng.randint(0, trial // 8)}": rng.choice([1.5, "t", None, True])} if end < 0.3 else {}
        if end < 0.7:
            events.append(completed(trial, {"objective": rng.gauss(0, 1e-3)}, time=float(trial), **metadata))
        elif end < 0.9:
            events.append(failed(trial, rng.choice(["F_x", "ValueError: y"]), rng.choice(["", "T"])))
    return events


def assert_in_step(path: Path, events: list[Event]) -> None:
    frame = results(*events).to_frame()
    frame = frame[frame["job_status"] == "DONE"].dropna(axis="columns", how="all")
    frame.to_csv(path.with_name("expected.csv"), index=False)
    live = pd.read_csv(path).dropna(axis="columns", how="all")
    pd.testing.assert_frame_equal(live, pd.read_csv(path.with_name("expected.csv")))


@pytest.mark.parametrize("seed", range(5))
def test_the_live_csv_is_the_frame(tmp_path: Path, seed: int) -> None:
    events, path = random_run(seed), tmp_path / "results.csv"
    live = LiveCsv(path, ["x", "y"], Objectives.parse())
    assert path.read_text().startswith("p:x,p:y,objective,job_id,")
    for start in range(0, len(events) // 2, 7):
        live(events[start : min(start + 7, len(events) // 2)], None)
    assert_in_step(path, events[: len(events) // 2])
    live.close()
    path.write_text("torn by a cra")
    resumed = LiveCsv(path, ["x", "y"], Objectives.parse(), blocks_of([events[: len(events) // 2]], ["objective"]))
    assert_in_step(path, events[: len(events) // 2])
    resumed.update(events[len(events) // 2 :])
    assert_in_step(path, events)
    resumed.close()
    resumed.close()
    assert sorted(os.listdir(tmp_path)) == ["expected.csv", "results.csv"]


def test_a_new_metadata_column_never_shows_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "results.csv", []
    live = LiveCsv(path, ["x"], Objectives.parse())
    live.update([proposed(0), completed(0, {"objective": 1.0})])
    replace = os.replace

    def watched(source: Path, target: Path) -> None:
        seen.append(len(pd.read_csv(target)))
        replace(source, target)
        seen.append(len(pd.read_csv(target)))

    monkeypatch.setattr(os, "replace", watched)
    live.update([proposed(1), completed(1, {"objective": 2.0}, new=5)])
    assert seen == [1, 1]
    assert pd.read_csv(path)["m:new"].isna().tolist() == [True, False]


def test_a_csv_that_cannot_be_written_does_not_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with caplog.at_level(logging.WARNING):
        LiveCsv(tmp_path / "missing" / "results.csv", ["x"], Objectives.parse()).update([proposed(0)])
        assert len(caplog.records) == 1
        live = LiveCsv(tmp_path / "results.csv", ["x"], Objectives.parse())
        monkeypatch.setattr(os, "replace", full)
        for trial in range(3):
            live.update([proposed(trial), completed(trial, {"objective": 1.0}, new=trial)])
        live.close()
    assert len(caplog.records) == 2
    assert "No space left" in caplog.text
    assert len(pd.read_csv(tmp_path / "results.csv")) == 0


def test_the_live_csv_remembers_running_trials_only(tmp_path: Path) -> None:
    live = LiveCsv(tmp_path / "results.csv", ["x"], Objectives.parse())
    for trial in range(50):
        live.update([proposed(trial), completed(trial, {"objective": 1.0})])
    assert live._fold.running == {}
