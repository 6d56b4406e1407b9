"""Searches beside a running program, and what a notebook shows."""

from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dhpo
from dhpo._html import Chart, pairs, table
from dhpo.callbacks import Callback, Ended, LiveFrontCallback
from dhpo.errors import SettingError


class Gate(Callback):
    """Lets the test know that a trial has ended."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def on_end(self, trial: Ended) -> None:
        self.ended.set()


def search_of(directory: Path | None = None, **more: Any) -> dhpo.Search:
    return dhpo.Search(
        {"x": (0.0, 1.0)}, lambda config: config.x, searcher="random", cluster="serial", log_dir=directory,
        random_state=0, **more,
    )  # fmt: skip


def test_a_search_is_awaited_while_the_loop_goes_on() -> None:
    async def main() -> int:
        ticks = 0
        running = asyncio.ensure_future(search_of().run_async(num_trials=30, progress=False))
        while not running.done():
            ticks += 1
            await asyncio.sleep(0)
        assert len(await running) == 30
        return ticks

    assert asyncio.run(main()) > 1


def test_a_search_that_was_started_is_awaited_or_waited_for() -> None:
    search = search_of()

    async def main() -> dhpo.Results:
        return await search.start(num_trials=5, progress=False)

    assert len(asyncio.run(main())) == 5
    assert len(search.start(8, progress=False).wait(120)) == 8


def test_run_works_within_a_running_loop() -> None:
    async def main() -> dhpo.Results:
        return search_of().run(num_trials=5, progress=False)

    assert len(asyncio.run(main())) == 5


def test_a_cancelled_search_ends_cleanly_and_goes_on(tmp_path: Path) -> None:
    gate = Gate()

    async def main() -> None:
        running = asyncio.ensure_future(search_of(tmp_path, callbacks=[gate]).run_async(time_out=600, progress=False))
        assert await asyncio.to_thread(gate.ended.wait, 120)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    n = len(dhpo.Results.load(tmp_path))
    assert n > 0
    results = search_of(tmp_path).run(num_trials=n + 3, progress=False)  # the lock is free
    assert len(results) == n + 3


def test_stop_ends_it_and_a_second_start_is_refused() -> None:
    gate = Gate()
    search = search_of(callbacks=[gate])
    search.start(time_out=600, progress=False)
    with pytest.raises(SettingError, match="running already"):
        search.start(num_trials=1)
    assert gate.ended.wait(120)
    search.stop()
    assert len(search.wait(120)) > 0
    assert search.interrupted


def test_errors_reach_who_waits() -> None:
    with pytest.raises(SettingError):
        search_of().start().wait(120)
    with pytest.raises(SettingError, match="nothing to wait for"):
        search_of().wait()


@settings(deadline=None, max_examples=50)
@given(st.text(), st.dictionaries(st.text(), st.text() | st.floats() | st.integers()))
def test_everything_is_escaped(title: str, values: dict[str, Any]) -> None:
    for made in (pairs(values, title), table([title], [[value] for value in values.values()], title)):
        assert not re.search(r"<(?!/?(?:p|b|table|thead|tbody|tr|th|td)(?: style='text-align:left')?>)", made)


def test_charts_of_one_point_and_of_none() -> None:
    assert Chart("x", "y", [], []).svg() == ""
    assert Chart("x", "y", [(float("nan"), 1.0)], []).svg() == ""
    assert Chart("<x>", "y", [(1.0, 1.0)], []).svg().count("<circle") == 1
    assert "&lt;x&gt;" in Chart("<x>", "y", [(1.0, 1.0)], []).svg()


def test_problem_search_results_and_trials_have_html() -> None:
    problem = dhpo.HpProblem({"<x>": (1e-3, 1.0, "log-uniform"), "kind": ["a", "b"]})
    problem.add_constraint(allowed)
    assert "&lt;x&gt;" in problem._repr_html_()
    assert "allowed" in problem._repr_html_()
    search = dhpo.Search(problem, lambda config: config["<x>"], searcher="random", cluster="serial", random_state=0)
    assert "objective (MAX)" in search._repr_html_()
    results = search.run(num_trials=4, progress=False)
    best = results.best()
    assert best is not None
    shown = {f"Trial {best.trial}": best, "Trial 0: COMPLETED": results.records()[0], "4 trials": results}
    for text, thing in shown.items():
        made: Any = thing
        assert text in made._repr_html_()
    asked: Any = search.ask(1)[0]
    assert f"Trial {asked.number}" in asked._repr_html_()


def allowed(config: Any) -> bool:
    return True


class Display:
    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, thing: Any, display_id: bool) -> Display:
        return self

    def update(self, thing: Any) -> None:
        self.shown.append(thing.data)


@pytest.mark.parametrize("names", [["loss"], ["loss", "score"], ["loss", "score", "third"]])
def test_the_live_front_draws_now_and_then_and_at_the_end(names: list[str]) -> None:
    pytest.importorskip("IPython", reason="LiveFrontCallback is not tested: IPython is not installed")
    display = Display()
    objectives = {name: "MIN" if name == "loss" else "MAX" for name in names}
    search = dhpo.Search(
        {"x": (0.0, 1.0)}, lambda config: dict.fromkeys(names, config.x) | {"loss": (config.x - 0.5) ** 2},
        objectives=objectives, searcher="random", cluster="serial", random_state=0,
        callbacks=[LiveFrontCallback(every=3600, display=display)],
    )  # fmt: skip
    results = search.run(num_trials=20, progress=False)
    assert len(display.shown) == 2  # the first trial and the end
    last = display.shown[-1]
    assert last.count("<circle") == 20
    assert "20 trials, 0 failed; num_trials=20 reached" in last
    line = re.search(r"points='([^']*)'", last)
    assert line is not None
    expected = 20 if len(names) == 1 else len(results.pareto_front(strict=True, unique=True))
    if len(names) < 3:
        assert len(line[1].split()) == expected


NOTEBOOK = [
    "import dhpo\nsearch = dhpo.Search({'x': (0.0, 1.0)}, lambda config: config.x, searcher='random', "
    "cluster='serial', random_state=0)",
    "results = search.run(num_trials=5)",
    "results = await search.run_async(num_trials=8)\nassert len(results) == 8",
    "search.start(num_trials=10)\nprint(len(await search))",
    "search.problem",
]


def test_in_a_real_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("nbclient", reason="no notebook is run: nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="no notebook is run: nbformat is not installed")
    pytest.importorskip("ipykernel", reason="no notebook is run: ipykernel is not installed")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in NOTEBOOK])
    client.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [[output.get("data", {}).get("text/html", "") for output in cell.outputs] for cell in notebook.cells]
    assert any("<svg" in text and "5 trials, 0 failed" in text for text in shown[1])
    assert any("10\n" in output.get("text", "") for output in notebook.cells[3].outputs)
    assert any("<table>" in text for text in shown[4])
