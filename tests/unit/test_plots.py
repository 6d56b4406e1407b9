"""Figures: what is drawn is what was found."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from dhpo import plots
from dhpo.errors import DhpoError, ObjectiveError, SettingError
from dhpo.events import Event, SessionOpened, TrialCompleted, TrialProposed, TrialReported
from dhpo.results import Results
from dhpo.space import HpProblem

PNG = b"\x89PNG\r\n\x1a\n"


def search(
    objectives: dict[str, str], trials: int = 12, epochs: int = 9, seed: int = 3, problem: object = None
) -> Results:
    """A search whose trials get better by diminishing steps; every third is stopped early."""
    rng = random.Random(seed)
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
    hyperband = {"stopper": "Hyperband", "time_attr": "epoch", "max_t": 9, "grace_period": 1, "reduction_factor": 3}
    settings = {"objectives": objectives, "problem": problem or {"names": ["x"]}, "stopper": hyperband}
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
    ("results", "some"),
    [
        (ONE, {"incumbent", "learning_curves", "rungs", "workers", "utilisation"}),
        (TWO, {"front", "hypervolume", "learning_curves_1", "incumbent_by_trials_0"}),
        (THREE, {"front", "hypervolume", "learning_curves_2"}),
        (NOTHING, {"front", "hypervolume"}),
    ],
)
def test_all_figures_are_saved(tmp_path: Path, results: Results, some: set[str]) -> None:
    paths = plots.save_all(results, tmp_path / "figures")
    assert some <= {p.stem for p in paths}
    assert [p.stem for p in paths] == list(plots.drawable(results))
    assert all(p.read_bytes().startswith(PNG) for p in paths)


def test_figures_may_be_chosen_and_vectors(tmp_path: Path) -> None:
    paths = plots.save_all(TWO, tmp_path, names=["front", "incumbent"], suffix="svg")
    assert [p.name for p in paths] == ["front.svg", "incumbent_0.svg", "incumbent_1.svg"]
    assert all("<svg" in p.read_text() for p in paths)
    with pytest.raises(SettingError, match=r"'nothing'.*front"):
        plots.save_all(TWO, tmp_path, names=["nothing"])
    with pytest.raises(SettingError, match="'gif'"):
        plots.save_all(TWO, tmp_path, suffix="gif")


def test_results_draw_themselves() -> None:
    assert ONE.plot.incumbent(by="trials").get_xlabel() == "trials with results"
    assert "front" in dir(TWO.plot)
    assert "Pareto" in TWO.plot.front.__doc__
    with pytest.raises(AttributeError, match=r"'pie'.*workers"):
        _ = ONE.plot.pie


def test_several_searches_with_bands_over_their_runs() -> None:
    runs = [search({"score": "MAX"}, seed=seed) for seed in range(4)]
    axes = plots.plot_incumbent({"ours": runs, "theirs": ONE}, by="trials")
    ours, theirs = axes.lines
    assert ours.get_label() == "ours (median and quartiles of 4)"
    assert theirs.get_label() == "theirs"
    assert len(axes.collections) == 1  # a band for those with several runs
    trials = np.asarray(ours.get_xdata())
    expected = [np.median([_best_by(run, int(n)) for run in runs]) for n in trials[::2]]
    np.testing.assert_allclose(np.asarray(ours.get_ydata())[::2], expected)
    mean = plots.plot_incumbent({"ours": runs}, by="trials", middle="mean")
    assert mean.get_legend().get_texts()[0].get_text() == "ours (mean and 95% CI of 4)"


def _best_by(run: Results, n_trials: int) -> float:
    frame = run.incumbents()
    return float(frame["value"][frame["n_trials"] <= n_trials].iloc[-1])


def test_attainment_is_what_half_of_the_runs_have() -> None:
    runs = [search({"score": "MAX", "seconds": "MIN"}, seed=seed) for seed in range(5)]
    axes = plots.plot_attainment({"ours": runs})
    (line,) = axes.lines
    for score, seconds in np.asarray(line.get_xydata()):
        attained = [
            any((v[:, 0] >= score - 1e-9).any() and ((v[:, 0] >= score - 1e-9) & (v[:, 1] <= seconds + 1e-9)).any()
                for _, v in run.values_by_trial().values())
            for run in runs
        ]  # fmt: skip
        assert sum(attained) >= 2.5
    with pytest.raises(ObjectiveError, match="takes two"):
        plots.plot_attainment(ONE)
    with pytest.raises(ObjectiveError, match="only searches with the same"):
        plots.plot_incumbent([ONE, TWO])


def test_rungs_workers_and_their_load() -> None:
    axes = plots.plot_rungs(ONE)
    heights = {c.get_label(): [bar.get_height() for bar in c] for c in axes.containers}
    assert next(sum(column) for column in zip(*heights.values(), strict=True)) == 12  # all came to the first rung
    bars = {c.get_label(): len(c.get_paths()) for c in plots.plot_workers(ONE).collections}
    assert bars == {"completed": 8, "stopped": 4}
    seen, busy = plots.plot_utilisation(ONE).lines
    assert (np.asarray(busy.get_ydata()) <= np.asarray(seen.get_ydata())).all()


def model_search() -> Results:
    """A search whose objective follows one number, and a categorical a little; another number does nothing."""
    problem = HpProblem({"x": (0.0, 1.0), "kind": ["a", "b", "c"], "idle": (1, 5)})
    events: list[Event] = [SessionOpened(0.0, 0.0, "h", 1, "1")]
    for trial, config in enumerate(problem.sample(40, 2)):
        value = -((config["x"] - 0.4) ** 2) + (0.05 if config["kind"] == "b" else 0.0)
        events.append(TrialProposed(float(trial), trial, config, 0, "random", 0))
        events.append(
            TrialCompleted(trial + 0.5, trial, 1, {"score": value}, {}, False, float(trial), trial + 0.5, "w")
        )
    settings = {"objectives": {"score": "MAX"}, "problem": problem.to_json(), "searcher": {"surrogate_model": "auto"}}
    return Results(settings, lambda: [events])


MODELLED = model_search()


def test_importance_is_drawn_largest_first() -> None:
    axes = plots.plot_importance(MODELLED)
    widths = [bar.get_width() for bar in axes.containers[0]]
    assert axes.get_yticklabels()[0].get_text() == "x"
    assert widths == sorted(widths, reverse=True)
    assert sum(widths) == pytest.approx(1.0)


def test_a_slice_follows_the_objective() -> None:
    line = plots.plot_slice(MODELLED, "x").lines[0]
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    np.testing.assert_allclose(y - y.max(), -((x - 0.4) ** 2), atol=0.06)
    drawn = plots.plot_slices(MODELLED)
    assert {axes.get_xlabel() for axes in drawn} == {"x", "kind", "idle"}
    with pytest.raises(SettingError, match="'speed'"):
        plots.plot_slice(MODELLED, "speed")


def test_contour_and_model_check() -> None:
    axes = plots.plot_contour(MODELLED, ("x", "idle"))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "idle")
    check = plots.plot_model_check(MODELLED)
    correlation = float(check.get_title(loc="left").rpartition(" ")[2])
    assert correlation > 0.9
    with pytest.raises(SettingError, match="at least 5"):
        plots.plot_model_check(search({"score": "MAX"}, trials=0, problem=MODELLED.settings["problem"]))


def test_parallel_coordinates_draw_each_trial_once() -> None:
    lines = plots.plot_parallel(MODELLED).collections[0].get_segments()
    assert len(lines) == 40
    assert all(len(line) == 4 for line in lines)


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    name = "$\\frac{x$ <b>\x1b"
    results = search({name: "MAX", "_hidden": "MIN"})
    assert plots.save_all(results, tmp_path)
    assert "\x1b" not in plots.plot_incumbent(results, objective=name).get_ylabel()


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
