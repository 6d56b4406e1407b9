"""Figures: what is drawn is what was found."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from dhpo import plots
from dhpo.errors import DhpoError, ObjectiveError
from dhpo.events import Event, SessionOpened, TrialCompleted, TrialProposed, TrialReported
from dhpo.results import Results

PNG = b"\x89PNG\r\n\x1a\n"


def search(objectives: dict[str, str], trials: int = 12, epochs: int = 9) -> Results:
    """A search whose trials get better by diminishing steps; every third is stopped early."""
    rng = random.Random(3)
    events: list[Event] = [SessionOpened(0.0, 0.0, "h", 1, "1")]
    for trial in range(trials):
        events.append(TrialProposed(float(trial), trial, {"x": trial}, 0, "random", 0))
        level, speed = rng.random(), rng.uniform(0.1, 1)
        for epoch in range(1, (3 if trial % 3 == 0 else epochs) + 1):
            score = level * (1 - 0.6**epoch)
            values = {name: score if i == 0 else speed * (i + level) for i, name in enumerate(objectives)}
            time = trial + epoch / 2
            events.append(TrialReported(time, trial, 1, epoch, epoch, {"epoch": epoch, **values}))
        stopped = trial % 3 == 0
        events.append(TrialCompleted(trial + 6.0, trial, 1, None, {}, stopped, float(trial), trial + 6.0, "w"))
    events.sort(key=lambda event: event.time)
    settings = {"objectives": objectives, "problem": {"names": ["x"]}, "stopper": {"time_attr": "epoch"}}
    return Results(settings, lambda: [events])


ONE = search({"score": "MAX"})
TWO = search({"score": "MAX", "seconds": "MIN"})
THREE = search({"score": "MAX", "seconds": "MIN", "megabytes": "MIN"})
NOTHING = search({"score": "MAX", "seconds": "MIN"}, trials=0)


def test_the_front_is_drawn_among_all_points() -> None:
    axes = plots.plot_front(TWO)
    everything, front = (np.asarray(c.get_offsets()) for c in axes.collections)
    assert len(everything) == sum(map(len, TWO.training_history.values()))
    expected = {(p["score"], p["seconds"]) for p in TWO.pareto_front(strict=True, unique=True)}
    assert set(map(tuple, front.tolist())) == expected
    assert axes.get_xlabel() == "score (maximise)"
    assert axes.get_ylabel() == "seconds (minimise)"


@pytest.mark.parametrize(("first", "second"), [("MAX", "MIN"), ("MIN", "MAX"), ("MAX", "MAX"), ("MIN", "MIN")])
def test_the_steps_pass_no_point_on_its_good_side(first: str, second: str) -> None:
    results = search({"score": first, "seconds": second})
    (line,) = plots.plot_front(results).lines
    corners = line.get_path().interpolated(1).vertices
    points = np.vstack([values for _, values in results.values_by_trial().values()])
    signs = np.array(results.objectives.signs)
    for corner in corners * signs:  # no point is better in both objectives than what the line says is attained
        assert not ((points * signs) < corner - 1e-12).all(axis=1).any()
    drawn = {tuple(c) for c in corners.tolist()}
    assert {tuple(p.values())[1:] for p in results.pareto_front(strict=True, unique=True)} <= drawn


def test_three_objectives_stand_in_space() -> None:
    axes = plots.plot_front(THREE)
    assert axes.name == "3d"
    assert axes.get_zlabel() == "megabytes (minimise)"  # type: ignore[attr-defined]


def test_learning_curves_by_how_trials_ended() -> None:
    axes = plots.plot_learning_curves(ONE)
    curves = {c.get_label(): c.get_segments() for c in axes.collections if hasattr(c, "get_segments")}
    assert {name: len(lines) for name, lines in curves.items()} == {"stopped early": 4, "trials": 7, "best trial": 1}
    best = ONE.best()
    assert best is not None
    assert curves["best trial"][0][-1].tolist() == [best.resource, best.values["score"]]
    assert axes.get_xlabel() == "epoch"
    low, high = axes.get_ylim()
    assert low < 0.4 * best.values["score"]
    assert high >= best.values["score"]


def test_the_incumbent_goes_up_and_the_hypervolume_too() -> None:
    for axes in (plots.plot_incumbent(ONE), plots.plot_hypervolume(TWO)):
        (line,) = axes.lines
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert (np.diff(x) >= 0).all()
        assert (np.diff(y) >= 0).all()
        assert x[-1] == ONE.last_time
        assert "maximise" in axes.get_ylabel()


def test_given_axes_are_drawn_into() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plots.plot_incumbent(TWO, left, objective="seconds") is left
    assert plots.plot_learning_curves(TWO, right, objective="seconds") is right
    assert left.get_ylabel() == "best seconds (minimise)"


@pytest.mark.parametrize(
    ("results", "names"),
    [
        (ONE, ["incumbent", "learning_curves"]),
        (TWO, ["front", "hypervolume", "learning_curves"]),
        (THREE, ["front", "hypervolume", "learning_curves"]),
        (NOTHING, ["front", "hypervolume", "learning_curves"]),
    ],
)
def test_all_figures_are_saved(tmp_path: Path, results: Results, names: list[str]) -> None:
    paths = plots.save_all(results, tmp_path / "figures")
    assert sorted(p.stem for p in paths) == names
    assert all(p.read_bytes().startswith(PNG) for p in paths)


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ObjectiveError, match="front of 1 objectives"):
        plots.plot_front(ONE)
    with pytest.raises(ObjectiveError, match="hypervolume needs several"):
        plots.plot_hypervolume(ONE)
    with pytest.raises(ObjectiveError, match="'speed'"):
        plots.plot_incumbent(TWO, objective="speed")


def test_without_matplotlib_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DhpoError, match=r"pip install 'dhpo\[plots\]'"):
        plots.plot_incumbent(ONE)
