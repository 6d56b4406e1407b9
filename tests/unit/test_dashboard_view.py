"""What the dashboard shows, from events alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import HpProblem, Hyperband, Search
from dhpo.dashboard import charts, hyperparameters, tables, workers
from dhpo.dashboard.answers import ANSWERS, answer
from dhpo.dashboard.frame import Choice, make_frame
from dhpo.dashboard.levels import Rungs
from dhpo.dashboard.metrics import exposition
from dhpo.dashboard.rungs import rung_rows
from dhpo.dashboard.summary import summary
from dhpo.dashboard.tables import Wanted
from dhpo.dashboard.text import config_text, label, to_json
from dhpo.dashboard.view import Facts, LiveWorker, View
from dhpo.events import (
    Event,
    SearchFinished,
    SessionOpened,
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
from dhpo.executors.simulated import Simulated
from dhpo.results import Results

SPACE = HpProblem({"x": (0.0, 1.0), "kind": ["a", "b", "c"]})
HYPERBAND = Hyperband(time_attr="epoch", max_t=9, grace_period=1, reduction_factor=3)


def header(objectives: Mapping[str, str], stopper: Any = HYPERBAND, space: HpProblem = SPACE) -> dict[str, Any]:
    return {"problem": space.to_json(), "objectives": dict(objectives), "stopper": stopper.settings(), "seed": 0}


def view_of(events: list[Event], objectives: Mapping[str, str] | None = None, facts: Facts | None = None) -> View:
    view = View(header(objectives or {"loss": "MIN"}), "0123", "mine")
    view.apply(events)
    view.facts = facts or Facts()
    return view


def proposed(trial: int, time: float = 0.0, **config: Any) -> TrialProposed:
    return TrialProposed(time, trial, config or {"x": 0.1 * trial, "kind": "a"}, 0, "random", 0)


def reported(trial: int, epoch: int, time: float, attempt: int = 1, **values: float) -> TrialReported:
    return TrialReported(time, trial, attempt, epoch, epoch, {"epoch": epoch, **values})


def completed(trial: int, began: float, ended: float, *, stopped: bool = False, worker: str = "tcp://w:1") -> Event:
    return TrialCompleted(ended, trial, 1, None, {}, stopped, began, ended, worker)


OPENED = SessionOpened(0.0, 1000.0, "host", 1, "1")
#: Two trials on one worker: the first comes to the second rung, the other is stopped at the first.
TWO: list[Event] = [
    OPENED,
    proposed(0, 0.0),
    reported(0, 1, 2.0, loss=1.0),
    reported(0, 3, 4.0, loss=0.5),
    completed(0, 1.0, 5.0),
    proposed(1, 5.0),
    reported(1, 1, 7.0, loss=2.0),
    completed(1, 6.0, 7.0, stopped=True),
]


@pytest.fixture(scope="module")
def searched() -> tuple[dict[str, Any], list[list[Event]], Results]:
    """A search of two objectives, with its settings and batches."""
    batches: list[list[Event]] = []

    def train(config: Any, report: Any) -> None:
        if config.x > 0.95:
            raise ValueError("too far")
        for epoch in range(1, 10):
            report(epoch=epoch, accuracy=config.x * epoch, time=(1 - config.x) ** 2 + epoch, seconds=1.0)

    goals = {"accuracy": "MAX", "time": "MIN"}
    cluster = Simulated(workers=7, seconds="seconds", deaths_per_hour=40, seed=2)
    search = Search(
        SPACE, train, objectives=goals, stopper=HYPERBAND, searcher="random", cluster=cluster, random_state=4
    )
    results = search.run(num_trials=60, progress=False, watchers=[lambda batch, study: batches.append(list(batch))])
    return header(goals), batches, results


def test_the_numbers_are_those_of_the_results(searched: tuple[dict[str, Any], list[list[Event]], Results]) -> None:
    settings_, batches, results = searched
    view = View(settings_, "id")
    for batch in batches:
        view.apply(batch)
    told = summary(view)
    assert told["state"] == "finished"
    assert told["ended"] == len(results) == 60
    assert told["front_size"] == len(results.pareto_front(strict=True, unique=True))
    assert [b["value"] for b in told["best"]] == [
        results.best(name).values[name]
        for name in ("accuracy", "time")  # type: ignore[union-attr]
    ]
    trace = results.hypervolume()["hypervolume"]
    assert told["hypervolume"] == pytest.approx(trace.iloc[-1])
    assert charts.hypervolume(view)["value"][-1] == pytest.approx(trace.iloc[-1])
    assert charts.incumbent(view, 1)["value"][:-1] == results.incumbents("time")["value"].tolist()
    assert told["workers"]["losses"] == sum(isinstance(e, WorkerLost) for batch in batches for e in batch) > 0
    assert 0 < told["workers"]["utilisation"] <= 1


def test_it_does_not_matter_how_events_are_batched(searched: tuple[dict[str, Any], list[list[Event]], Results]) -> None:
    settings_, batches, _ = searched
    one, other = View(settings_, "id"), View(settings_, "id")
    for batch in batches:
        one.apply(batch)
    other.apply([event for batch in batches for event in batch])
    assert make_frame(one, Choice()) == make_frame(other, Choice())


def test_a_frame_in_the_middle_changes_nothing(searched: tuple[dict[str, Any], list[list[Event]], Results]) -> None:
    settings_, batches, _ = searched
    one, other = View(settings_, "id"), View(settings_, "id")
    for batch in batches:
        one.apply(batch)
        other.apply(batch)
        if len(batch) % 3 == 0:
            make_frame(one, Choice(1, 1, 0))
    assert make_frame(one, Choice()) == make_frame(other, Choice())


def test_the_rungs_are_those_of_the_stopper(searched: tuple[dict[str, Any], list[list[Event]], Results]) -> None:
    settings_, batches, _ = searched
    view = View(settings_, "id")
    bound = HYPERBAND.bind(2, max_t=None, seed=0)
    for batch in batches:
        view.apply(batch)
    points = view.points.rows
    for row in rung_rows(view):
        reached = {t for t, r in zip(points.trial.tolist(), points.resource.tolist(), strict=True) if r >= row.level}
        assert row.entered == len(reached) == row.promoted + row.stopped + row.paused
    assert [row.level for row in rung_rows(view)] == list(bound.milestones(0))


def test_rungs_tell_who_went_on() -> None:
    first, second = rung_rows(view_of(TWO))
    assert (first.level, first.entered, first.promoted, first.stopped) == (1, 2, 1, 1)
    assert (second.level, second.entered, second.promoted, second.stopped) == (3, 1, 1, 0)
    assert first.correlation is None


def test_rungs_agree_where_trials_come_out_in_the_same_order() -> None:
    events: list[Event] = [OPENED]
    for trial, (early, late) in enumerate([(1.0, 10.0), (2.0, 20.0), (3.0, 30.0), (4.0, 40.0)]):
        events += [proposed(trial), reported(trial, 1, 1.0, loss=early), reported(trial, 3, 2.0, loss=late)]
    assert rung_rows(view_of(events))[0].correlation == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("stopper", "constants", "levels"),
    [
        (None, {}, ()),
        ({"stopper": "MedianStopper", "time_attr": "epoch"}, {}, ()),
        (Hyperband(time_attr="epoch", grace_period=2, reduction_factor=2).settings(), {}, ()),
        (Hyperband(time_attr="epoch", grace_period=2, reduction_factor=2).settings(), {"epochs": 9}, (2, 4, 8)),
        ({"stopper": "AnyOf", "stoppers": [{"stopper": "Patience"}, HYPERBAND.settings()]}, {}, (1, 3)),
        ({**HYPERBAND.settings(), "from_a_newer_release": 1}, {}, (1, 3)),
    ],
)
def test_levels_follow_from_the_settings(stopper: Any, constants: dict[str, Any], levels: tuple[float, ...]) -> None:
    assert Rungs(stopper, constants).levels == levels


def test_learning_curves_end_where_trials_were_stopped() -> None:
    drawn = charts.curves(view_of(TWO), 0)
    assert drawn["curves"]["xs"] == [[1, 3], [1]]
    assert drawn["curves"]["ys"] == [[1.0, 0.5], [2.0]]
    assert drawn["curves"]["kind"] == ["best", "stopped"]
    assert (drawn["ends"]["x"], drawn["ends"]["y"], drawn["ends"]["trial"]) == ([1], [2.0], [1])


def test_maximised_objectives_have_their_own_sign() -> None:
    events = [proposed(0), reported(0, 1, 1.0, gain=3.0), reported(0, 2, 2.0, gain=5.0)]
    view = view_of(events, {"gain": "MAX"})
    assert charts.incumbent(view, 0)["value"] == [3.0, 5.0, 5.0]
    assert charts.curves(view, 0)["curves"]["ys"] == [[3.0, 5.0]]
    assert charts.history(view, 0)["value"] == [5.0]


@pytest.mark.parametrize("directions", [("MIN", "MIN"), ("MAX", "MIN"), ("MAX", "MAX")])
def test_the_steps_of_the_front_attain_what_they_pass(directions: tuple[str, str]) -> None:
    costs = [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0), (5.0, 6.0)]
    signs = [1 if direction == "MIN" else -1 for direction in directions]
    events: list[Event] = []
    for trial, (a, b) in enumerate(costs):
        events += [proposed(trial), reported(trial, 1, float(trial), a=signs[0] * a, b=signs[1] * b)]
    drawn = charts.front(view_of(events, dict(zip("ab", directions, strict=True))), 0, 1)
    assert drawn["front"]["trial"] == [0, 1, 2]
    corners = [(signs[0] * x, signs[1] * y) for x, y in zip(drawn["steps"]["x"], drawn["steps"]["y"], strict=True)]
    assert corners == [(1, 5), (2, 5), (2, 3), (4, 3), (4, 1)]
    assert drawn["points"]["trial"] == [0, 1, 2, 3]


def test_runs_are_bars_on_their_worker() -> None:
    bars = workers.timeline(view_of(TWO))["bars"]
    assert (bars["row"], bars["start"], bars["end"]) == ([0, 0], [1.0, 6.0], [5.0, 7.0])
    assert bars["kind"] == ["completed", "stopped"]
    assert bars["worker"] == ["w:1", "w:1"]
    assert workers.timeline(view_of(TWO))["waits"]["seconds"] == ["1", "1"]
    assert workers.waits(view_of(TWO)) == (1.0, 1.0)
    assert workers.utilisation(view_of(TWO)) == pytest.approx(5 / 6)
    assert max(workers.busy(view_of(TWO))["busy"]) == 1


def test_what_runs_is_on_the_worker_that_the_scheduler_tells() -> None:
    there = LiveWorker("tcp://w:1", "one", 1, 10, 20, "running", (2,))
    idle = LiveWorker("tcp://w:2", "two", 1, 10, 20, "running", ())
    facts = Facts(running=True, now=20.0, workers=(there, idle))
    view = view_of([*TWO, proposed(2, 8.0), proposed(3, 9.0)], facts=facts)
    out = workers.timeline(view)["out"]
    assert (out["trial"], out["row"], out["end"]) == ([2, 3], [0, 2], [20.0, 20.0])
    assert out["worker"] == ["w:1", "worker not told yet"]
    rows = {row["worker"]: row for row in workers.table(view)}
    assert (rows["w:1"]["state"], rows["w:1"]["running"], rows["w:1"]["runs"]) == ("busy", [2], 2)
    assert (rows["w:2"]["state"], rows["w:2"]["runs"]) == ("idle", 0)
    assert workers.table(view_of(TWO, facts=Facts(running=True, now=9.0, workers=())))[0]["state"] == "gone"


def test_a_loss_is_a_run_and_the_next_attempt_counts() -> None:
    events: list[Event] = [
        OPENED,
        proposed(0, 0.0),
        WorkerLost(3.0, 0, 1, "tcp://w:1"),
        WorkerLost(4.0, 0, 1, "tcp://w:1"),  # late: of an attempt that is over
        TrialCompleted(9.0, 0, 2, {"loss": 1.0}, {}, False, 5.0, 9.0, "tcp://w:2"),
    ]
    view = view_of(events)
    drawn = workers.timeline(view)
    assert drawn["bars"]["kind"] == ["lost", "completed"]
    assert drawn["bars"]["attempt"] == [1, 2]
    assert drawn["losses"]["time"] == [3.0]
    assert summary(view)["workers"]["losses"] == 1
    assert [row["state"] for row in workers.table(view)] == ["lost", ""]


def test_paused_trials_go_on_as_another_run() -> None:
    events: list[Event] = [
        OPENED,
        proposed(0, 0.0),
        reported(0, 1, 1.0, loss=1.0),
        TrialPaused(2.0, 0, 1, 0.5, 2.0, "w"),
    ]
    assert charts.curves(view_of(events), 0)["ends"]["kind"] == ["paused"]
    assert summary(view_of(events))["trials"]["PAUSED"] == 1
    going_on = view_of([*events, TrialPromoted(3.0, 0, 2)], facts=Facts(running=True, now=4.0))
    assert workers.timeline(going_on)["out"]["attempt"] == [2]
    assert charts.curves(going_on, 0)["ends"]["x"] == []


def test_another_driver_begins_what_was_out_anew() -> None:
    view = view_of([OPENED, proposed(0, 1.0), OPENED._replace(time=6.0)], facts=Facts(running=True, now=8.0))
    out = workers.timeline(view)["out"]
    assert (out["attempt"], out["start"]) == ([2], [6.0])
    assert workers.running(view_of([OPENED, proposed(0, 1.0)])) == []  # no driver, nothing runs


def test_states() -> None:
    assert summary(view_of([]))["state"] == "waiting"
    assert summary(view_of([OPENED, proposed(0)], facts=Facts(running=True)))["state"] == "waiting"
    assert summary(view_of(TWO, facts=Facts(running=True)))["state"] == "running"
    assert summary(view_of(TWO))["state"] == "interrupted"
    done = summary(view_of([*TWO, SearchFinished(9.0, "num_trials=2 reached")]))
    assert (done["state"], done["reason"]) == ("finished", "num_trials=2 reached")


def test_time_left_is_that_of_the_first_budget() -> None:
    assert summary(view_of(TWO, facts=Facts(True, 10.0, num_trials=12)))["eta_s"] == 50.0
    assert summary(view_of(TWO, facts=Facts(True, 10.0, num_trials=12, time_limit=30.0)))["eta_s"] == 20.0
    assert summary(view_of(TWO, facts=Facts(True, 10.0)))["eta_s"] is None
    assert summary(view_of(TWO, facts=Facts(False, None, num_trials=12)))["eta_s"] is None


def test_failures_are_told() -> None:
    events: list[Event] = [
        OPENED, proposed(0), TrialFailed(2.0, 0, 1, "ValueError: no", "…", 1.0, 2.0, "w"),
        proposed(1), TrialTimedOut(9.0, 1, 1, 5.0, 2.0, 9.0, "w"),
    ]  # fmt: skip
    told = summary(view_of(events))
    assert told["failed"] == 2
    assert told["last_error"] == {"trial": 1, "error": "it ran longer than 5 s"}
    page = tables.trials(view_of(events), Wanted(status="FAILED"))
    assert page.total == 1
    assert page.rows[0][page.columns.index("error")] == "ValueError: no"


def test_known_results_count_apart() -> None:
    added = TrialAdded(0.0, 0, {"x": 0.5, "kind": "b"}, {"loss": 3.0}, "", None, "user")
    view = view_of([OPENED, added, proposed(1)])
    assert (summary(view)["known"], summary(view)["ended"]) == (1, 0)
    assert tables.trials(view, Wanted(status="KNOWN")).total == 1


def test_a_table_is_filtered_sorted_and_cut() -> None:
    rows: list[list[Any]] = [[1, "b", None], [2, "a", 2.0], [3, "a", float("nan")], [4, "A", -1.0], [5, "c", 10.0]]
    columns = ("n", "name", "value")

    def numbers(**wanted: Any) -> list[int]:
        return [row[0] for row in tables.page(columns, rows, Wanted(**wanted)).rows]

    assert numbers() == [1, 2, 3, 4, 5]
    assert numbers(text="a")[:2] == [2, 3]
    assert numbers(sort="value") == [4, 2, 5, 1, 3]
    assert numbers(sort="value", descending=True) == [5, 2, 4, 1, 3]
    assert numbers(sort="no such column", offset=3) == [4, 5]
    assert numbers(limit=2, offset=1) == [2, 3]
    assert tables.page(columns, rows, Wanted(text="10", limit=0)).total == 1


def test_lines_leave_out_what_is_not_active() -> None:
    events: list[Event] = []
    for trial, x in enumerate([0.0, 0.5, 1.0]):
        config = {"x": x, "kind": "c"} if trial else {"x": x}
        events += [proposed(trial, 0.0, **config), reported(trial, 1, 1.0, loss=x)]
    drawn = hyperparameters.parallel(view_of(events), 0)
    assert drawn["axes"]["name"] == ["x", "kind", "loss"]
    assert (drawn["axes"]["low"], drawn["axes"]["high"]) == (["0", "a", "0"], ["1", "c", "1"])
    assert drawn["lines"]["trial"] == [2, 1, 0]  # the best one last, on top of the others
    assert drawn["lines"]["xs"] == [[0, 1, 2], [0, 1, 2], [0, 2]]
    assert drawn["lines"]["ys"] == [[1.0, 1.0, 1.0], [0.5, 1.0, 0.5], [0.0, 0.0]]
    assert drawn["lines"]["rank"] == [0.0, 0.5, 1.0]


def test_what_matters_is_found() -> None:
    rng = np.random.default_rng(0)
    events: list[Event] = []
    for trial, x in enumerate(rng.uniform(size=60).tolist()):
        events += [proposed(trial, 0.0, x=x, kind="abc"[trial % 3]), reported(trial, 1, 1.0, loss=x**2)]
    view = view_of(events)
    found = hyperparameters.sample(view, 0)
    assert found is not None
    shares = hyperparameters.shares(found)
    assert shares["name"] == ["x", "kind"]
    assert shares["share"][0] > 0.8
    assert sum(shares["share"]) == pytest.approx(1.0)
    assert hyperparameters.sample(view_of(events[:6]), 0) is None
    constant = found._replace(values=np.ones(len(found.values)))
    assert hyperparameters.shares(constant) == {"name": [], "share": []}


def test_everything_stays_bounded() -> None:
    events: list[Event] = [OPENED]
    for trial in range(4000):
        events += [proposed(trial, trial, x=0.5, kind="a"), reported(trial, 1, trial + 0.5, loss=-trial)]
        if trial < 3900:
            events.append(completed(trial, trial, trial + 1.0, stopped=trial % 2 == 0, worker=f"w{trial % 900}"))
    frame = make_frame(view_of(events, facts=Facts(running=True, now=4001.0)), Choice())
    sizes = {name: len(next(iter(columns.values()))) for name, columns in frame.columns.items()}
    assert max(sizes.values()) <= 5001
    assert sizes["curves"] == 200
    assert frame.columns["curves"]["trial"][-1] == 3999
    assert "running" in frame.columns["curves"]["kind"]
    assert sizes["history"] <= 2000
    assert sizes["busy"] <= 800


@given(st.integers(0, 5000), st.integers(1, 300))
@settings(deadline=None, max_examples=50)
def test_what_is_thinned_stays_while_it_grows(n: int, most: int) -> None:
    rows = charts.thinned(n, most).tolist()
    assert len(rows) <= most
    later = charts.thinned(n + 1, most).tolist()
    assert later[: len(rows)] == rows or later == rows[::2] or later == [*rows[::2], n]


def test_events_that_no_longer_count_change_nothing() -> None:
    late = [reported(0, 4, 20.0, loss=0.0), completed(0, 1.0, 20.0), TrialPromoted(20.0, 1, 2)]
    before, after = make_frame(view_of(TWO), Choice()), make_frame(view_of([*TWO, *late[:2]]), Choice())
    assert before.columns["bars"] == after.columns["bars"]
    assert before.columns["curves"] == after.columns["curves"]


def test_points_fold_on() -> None:
    view = view_of(TWO[:3])
    assert len(view.points) == 1
    view.apply(TWO[3:])
    assert view.points.rows.costs.tolist() == view_of(TWO).points.rows.costs.tolist() == [[1.0], [0.5], [2.0]]
    assert [rows.tolist() for rows in view.points.chains([0, 1])] == [[0, 1], [2]]


def test_metrics_escape_their_labels() -> None:
    events = [proposed(0), reported(0, 1, 1.0, **{'a"\n\\': 3.0})]
    text = exposition([summary(view_of(events, {'a"\n\\': "MAX"}))])
    assert 'dhpo_best{search="0123",objective="a\\"\\n\\\\"} 3.0\n' in text
    assert 'dhpo_trials{search="0123",status="running"} 1.0\n' in text
    assert text.count("# TYPE dhpo_trials gauge\n") == 1
    assert "dhpo_eta_seconds" not in text  # not known


def test_text_is_what_any_encoding_takes() -> None:
    assert config_text({"a": 0.123456789, "b": "x\ny", "c": "\ud800"}) == "a=0.1235, b=x y, c=?"
    assert len(config_text({"a": "y" * 1000})) == 240
    assert "$$" not in label("$$x$$")
    assert to_json({"a": float("nan"), "b": "\ud800", "c": 1 << 80, "d": {1: (2,)}}) == (
        b'{"a":null,"b":"?","c":"%d","d":{"1":[2]}}' % (1 << 80)
    )
    assert to_json({"x": float("inf")}) == b'{"x":null}'


@pytest.mark.parametrize("choice", [Choice(), Choice(7, -1, 99)])
def test_a_search_without_results_has_a_frame(choice: Choice) -> None:
    for goals in ({"loss": "MIN"}, {"a": "MIN", "b": "MAX", "c": "MIN"}):
        frame = make_frame(View(header(goals)), choice)
        assert frame.summary["best"] == frame.summary["rungs"] == []
    assert make_frame(View({"objectives": {"a": "MIN"}}), choice).columns["lines"]["xs"] == []


texts = st.text(max_size=20) | st.sampled_from(
    ["-1", "0", "1", "9" * 40, "²", "1e9", "NaN", "\0", "loss", "p:x", "<b>"]
)
arguments_of_requests = st.dictionaries(
    st.sampled_from(["text", "status", "sort", "descending", "offset", "limit"]) | st.text(max_size=5), texts
)


@given(st.sampled_from(sorted(ANSWERS)), arguments_of_requests)
@settings(deadline=None, max_examples=300)
def test_whatever_is_asked_for_is_json_or_a_clear_refusal(name: str, arguments: dict[str, str]) -> None:
    view = view_of(TWO)
    if any(key in ("offset", "limit") and not re.fullmatch("[0-9]*", text) for key, text in arguments.items()) and (
        name in ("trials", "workers")
    ):
        with pytest.raises(ValueError, match="no whole number"):
            answer(name, view, arguments)
    else:
        assert isinstance(json.loads(answer(name, view, arguments)), dict | list)
