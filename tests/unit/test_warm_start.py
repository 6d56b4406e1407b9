"""What a search takes in from elsewhere: known results as trials, and what its searcher was told."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dhpo import CBO, Hyperband, RegularizedEvolution, Search
from dhpo import plots as figures
from dhpo.errors import JournalLockedError, SettingError, TransferError
from dhpo.events import TrialProposed
from dhpo.journal import FILE_NAME, read
from dhpo.results import Results
from dhpo.searchers.continued import told_otherwise
from dhpo.trial import Status

SPACE = {"x": (0.0, 1.0), "layers": [(8, 8), (4,)]}
ROWS = [
    ({"x": 0.25, "layers": (8, 8)}, 5.0),
    ({"x": 0.5, "layers": (4,)}, "F_oom"),
    ({"x": 0.75, "layers": (4,)}, 0.5),
]


def value(config: Any) -> float:
    return float(config.x)


def make(directory: Path | None = None, function: Any = value, **kwargs: Any) -> Search:
    settings = {"searcher": "random", "random_state": 1, "cluster": "serial", **kwargs}
    return Search(SPACE, function, log_dir=directory, **settings)


@pytest.mark.parametrize("on_disk", [True, False])
def test_known_results_are_trials_that_were_not_run(tmp_path: Path, on_disk: bool) -> None:
    search = make(tmp_path if on_disk else None)
    assert search.add_results(ROWS) == [0, 1, 2]
    assert search.results.known() == [0, 1, 2]
    results = search.run(4, progress=False)
    assert len(results) == 7
    assert list(results.statuses().values()) == ["COMPLETED", "FAILED", *["COMPLETED"] * 5]
    assert search.add_results([({"x": 0.1, "layers": (4,)}, 9.0), ROWS[0]]) == [7, 0]  # between two runs
    results = search.run(6, progress=False)
    assert (len(results), results.known()) == (10, [0, 1, 2, 7])
    assert results.best().trial == 7
    assert results.best().config["x"] == 0.1
    assert "10 trials, 4 known: 9 completed, 1 failed" in repr(results)
    assert results.incumbents()["trial"].tolist() == [0, 7]


@pytest.mark.parametrize("searcher", ["random", CBO(n_initial_points=3), RegularizedEvolution(4, 2)])
def test_the_same_script_again_adds_nothing_twice(tmp_path: Path, searcher: Any) -> None:
    found = []
    for count in (3, 3, 6):
        search = make(tmp_path, searcher=searcher)
        assert search.add_results(ROWS) == [0, 1, 2]
        results = search.run(count, progress=False)
        found.append(len(results))
    assert found == [6, 6, 9]
    assert len({str(config) for config in results.config_history.values()}) == 9  # none is proposed again
    assert list(results.statuses().values()).count(Status.FAILED) == 1


def test_every_form_of_results_is_taken(tmp_path: Path) -> None:
    earlier = make(tmp_path / "earlier", objectives={"score": "MAX"}, function=lambda c: c.x)
    results = earlier.run(4, progress=False)
    frame = results.to_frame()
    for form in (results, frame, tmp_path / "earlier" / "results.csv", str(tmp_path / "earlier")):
        search = make(objectives={"score": "MAX"})
        assert search.add_results(form) == [0, 1, 2, 3]
        assert search.add_results(results) == [0, 1, 2, 3]
        known = search.results.to_frame()
        for name in ("p:x", "objective"):
            assert known[name].tolist() == frame[name].tolist()
        assert known["p:layers"].map(tuple).tolist() == frame["p:layers"].map(tuple).tolist()


def test_the_searcher_learns_of_them(tmp_path: Path) -> None:
    rows = [({"x": i / 30, "layers": (8, 8)}, -((i / 30 - 0.7) ** 2)) for i in range(30)]
    for number in (30, 31):  # also when it is told again, from the journal
        search = make(tmp_path, function=None, searcher=CBO(default_first=False, random_fraction=0.0))
        if number == 30:
            search.add_results(rows)
        assert [trial.number for trial in search.ask(1)] == [number]
        search.close()
    proposed = [e for batch in read(tmp_path)[1] for e in batch if isinstance(e, TrialProposed)]
    assert [(e.origin, e.n_observed) for e in proposed] == [("model", 30), ("model", 30)]
    assert abs(proposed[0].config["x"] - 0.7) < 0.1


def test_by_hand_they_come_in_at_any_time(tmp_path: Path) -> None:
    search = make(tmp_path, function=None, stopper=Hyperband(max_t=9))
    first, second = search.ask(2)
    assert search.add_results(ROWS[:1], resource=1) == [2]
    assert search.tell(first, 1.0, resource=1) == "CONTINUE"  # the known trial is in no rung
    assert search.add_results(ROWS) == [3, 4, 5]  # complete ones
    (third,) = search.ask(1)
    assert third.number == 6
    for trial in (first, second, third):
        search.tell(trial, 2.0, resource=9)
    with pytest.raises(SettingError, match="not running"):
        search.tell(2, 1.0)
    history = search.results.training_history
    assert history["2"] == [{"objective": 5.0, "epoch": 1, "bracket": 0}]
    assert history["3"] == [{"objective": 5.0, "bracket": 0}]


def test_nothing_is_journalled_where_one_row_is_wrong(tmp_path: Path) -> None:
    search = make(tmp_path / "run")
    with pytest.raises(TransferError, match=r"row 3: .*'x': 7.0"):
        search.add_results([*ROWS, ({"x": 7.0, "layers": (4,)}, 1.0)])
    assert search.add_results([]) == []
    assert not (tmp_path / "run").exists()
    search.add_results(ROWS)
    before = (tmp_path / "run" / FILE_NAME).read_bytes()
    with pytest.raises(TransferError):
        search.add_results([*ROWS, ({"x": 0.1, "layers": (4,)}, (1.0, 2.0))])
    assert (tmp_path / "run" / FILE_NAME).read_bytes() == before


def test_they_are_safe_at_once_and_the_directory_is_held_until_it_is_let_go(tmp_path: Path) -> None:
    search = make(tmp_path)
    search.add_results(ROWS)
    assert len(Results.load(tmp_path)) == 3
    with pytest.raises(JournalLockedError):
        make(tmp_path).add_results(ROWS)
    search.close()
    assert make(tmp_path).add_results(ROWS) == [0, 1, 2]


def test_a_search_that_runs_takes_none_and_what_it_learns_from_others_comes_first() -> None:
    seen = []

    def watch(events: Any, study: Any) -> None:
        with pytest.raises(SettingError, match="running") as caught:
            search.add_results(ROWS)
        seen.append(caught)

    search = make(searcher=CBO())
    search.run(2, progress=False, watchers=[watch])
    assert seen
    search = make(searcher=CBO())
    search.add_results(ROWS)
    for method in (search.fit_surrogate, search.fit_generative_model, search.fit_search_space):
        with pytest.raises(SettingError, match=r"begun.*add_results"):
            method(pd.DataFrame())


def test_budgets_are_of_runs(tmp_path: Path) -> None:
    search = make(tmp_path, function=lambda config: 1.0)
    search.add_results([({"x": i / 50, "layers": (4,)}, "F_oom" if i < 30 else 2.0) for i in range(40)])
    results = search.run(patience=3, progress=False)
    assert len(results) == 43  # none of the runs is better than what is known
    assert len(make(tmp_path, function=lambda config: 1.0).run(stop_at=1.5, progress=False)) == 43


def test_frames_files_and_figures_have_them(tmp_path: Path) -> None:
    search = make(tmp_path, lambda c, report: report(epoch=1, objective=c.x), stopper=Hyperband(max_t=3))
    search.add_results(ROWS[:2], resource=3)
    search.add_results(ROWS[2:])
    results = search.run(2, progress=False)
    frame = results.to_frame()
    assert frame["m:origin"].fillna("").tolist() == ["known", "known", "known", "", ""]
    known = frame[frame["m:origin"] == "known"]
    assert known["job_id"].tolist() == [0, 1, 2]
    assert known["objective"].tolist() == [5.0, "F_oom", 0.5]
    assert known["m:resource"].fillna(0).tolist() == [3, 0, 0]
    assert known["m:worker"].tolist() == [""] * 3
    assert (known["m:timestamp_end"] - known["m:timestamp_start"]).tolist() == [0.0] * 3
    assert set(known["job_status"]) == {"DONE"}
    assert not known["m:stopped"].any()
    written = pd.read_csv(tmp_path / "results.csv", keep_default_na=False)
    assert written["m:origin"].tolist() == ["known", "known", "known", "", ""]
    assert written["job_id"].tolist() == list(range(5))
    results.to_parquet(tmp_path / "results.parquet")
    assert len(pd.read_parquet(tmp_path / "results.parquet")) == 5
    assert results.failures()["reason"].tolist() == ["F_oom"]
    assert {path.name for path in figures.save_all(results, tmp_path)} >= {"learning_curves.png", "incumbent.png"}


def test_a_metadatum_of_that_name_stays_the_users() -> None:
    search = make(function=lambda config: {"objective": config.x, "origin": "here"})
    search.add_results(ROWS)
    frame = search.run(1, progress=False).to_frame()
    assert frame.iloc[3]["m:user.origin"] == "here"
    assert frame["m:origin"].fillna("").tolist() == ["known", "known", "known", ""]


def test_two_objectives_have_known_points_in_their_front() -> None:
    search = make(function=lambda c: (c.x, 1.0 - c.x), objectives={"a": "MAX", "b": "MAX"})
    search.add_results([({"x": 0.1, "layers": (4,)}, (2.0, 2.0)), ({"x": 0.2, "layers": (4,)}, {"b": 0.0, "a": 9.0})])
    results = search.run(5, progress=False)
    front = results.pareto_front(strict=True)
    assert [point["task_id-ressource"][0] for point in front] == ["0", "1"]
    assert (
        results.to_frame().set_index("job_id")["pareto_efficient"].sort_index().tolist() == [True, True] + [False] * 5
    )
    assert results.hypervolume()["n_trials"].tolist()[0] <= 2


# Another directory.


def test_they_go_with_a_search_that_is_moved_and_leave_nothing_behind(tmp_path: Path) -> None:
    for origin in (None, tmp_path / "there", tmp_path / "here"):
        search = make(origin)
        search.add_results(ROWS)
        search.move_to(tmp_path / "here")
        assert len(search.run(2, progress=False)) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]


def test_a_search_that_has_begun_otherwise_is_not_moved(tmp_path: Path) -> None:
    search = make(tmp_path / "there", function=None)
    search.add_results(ROWS)
    search.ask(1)
    with pytest.raises(SettingError, match="begun"):
        search.move_to(tmp_path / "here")
    search.close()
    old = make(tmp_path / "there")
    old.add_results(ROWS)
    old.move_to(tmp_path / "here")  # what was there before stays there
    assert len(Results.load(tmp_path / "there")) == 4
    assert len(old.results) == 3
    assert old.results.statuses()[0] is Status.COMPLETED


# What the searcher was told.


def earlier(n: int, shift: float = 0.0) -> pd.DataFrame:
    xs = [i / 20 + shift for i in range(n)]
    return pd.DataFrame({"p:x": xs, "p:layers": ["(4,)"] * n, "objective": xs})


@pytest.mark.parametrize(
    ("then", "now", "difference"),
    [
        (None, None, None),
        (earlier(12), earlier(12), None),
        (earlier(12), None, "12 earlier results when it began, 0 now"),
        (None, earlier(12), "0 earlier results when it began, 12 now"),
        (earlier(12), earlier(11), "12 earlier results when it began, 11 now"),
        (earlier(12), earlier(12, 0.01), "12 earlier results when it began, 12 others now"),
    ],
)
def test_a_search_that_is_told_something_else_when_resumed_warns(
    tmp_path: Path, then: Any, now: Any, difference: str | None
) -> None:
    def run(told: Any, count: int) -> None:
        search = make(tmp_path)
        if told is not None:
            search.fit_surrogate(told)
        search.run(count, progress=False)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(then, 1)
        if difference is None:
            run(now, 2)
    if difference is not None:
        with pytest.warns(UserWarning, match=f"(?s)told something else: {difference}.*fit_surrogate") as caught:
            run(now, 2)
        assert caught[0].filename == __file__
    assert len(Results.load(tmp_path)) == 2


def test_a_searcher_that_was_never_told_anything_differs_in_nothing() -> None:
    assert told_otherwise({"searcher": "CBO"}, {"searcher": "RandomSearcher"}) is None
