"""The page as a person sees it: real searches, a real browser.

Set DHPO_SCREENSHOTS to a directory to look at what the browser saw.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chromium import Visit
from distributed import LocalCluster

from dhpo import HpProblem, Hyperband, Search
from dhpo.dashboard.serve import Dashboard
from dhpo.events import (
    Event,
    SearchFinished,
    SessionOpened,
    TrialCompleted,
    TrialProposed,
    TrialReported,
    WorkerLost,
)
from dhpo.executors.simulated import Simulated
from dhpo.journal import FileJournal, Header

_KEPT = os.environ.get("DHPO_SCREENSHOTS")
SCREENSHOTS = Path(_KEPT) if _KEPT else None
HOSTILE = "<script>alert(1)</script>"
#: Whether Bokeh shows a tooltip anywhere, within its shadows too.
TOOLTIP = """() => {
    const within = (root) => [...root.querySelectorAll("*")].some(
        (e) => e.classList.contains("bk-Tooltip") || (e.shadowRoot && within(e.shadowRoot)));
    return within(document);
}"""
SPACE = HpProblem({"x": (0.0, 1.0), "n": (1, 9), "activation": ["relu", "tanh"]})
STOPPER = Hyperband(time_attr="epoch", max_t=9, grace_period=1, reduction_factor=3)


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The address of a dashboard over a directory, in a thread of its own."""
    started, ended = threading.Event(), asyncio.Event()
    url: list[str] = []
    loop = asyncio.new_event_loop()

    async def main() -> None:
        dashboard = Dashboard(directory)
        await dashboard.start()
        url.append(dashboard.url)
        started.set()
        await ended.wait()
        await dashboard.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        yield url[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(60)
        loop.close()


def two_objectives(config: Any, report: Any) -> None:
    if config.x > 0.97:
        raise ValueError("the loss became NaN")
    for epoch in range(1, 10):
        accuracy = 1 - (config.x - 0.3) ** 2 - 1 / (epoch + 1)
        report(epoch=epoch, accuracy=accuracy, latency=config.x + config.n / 100, seconds=1 + config.n)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a search with everything in it: two objectives, rungs, failures, losses."""
    directory = tmp_path_factory.mktemp("finished") / "accuracy against latency"
    cluster = Simulated(workers=6, seconds="seconds", startup=(0.0, 20.0), deaths_per_hour=20, seed=3)
    Search(
        SPACE, two_objectives, objectives={"accuracy": "MAX", "latency": "MIN"}, stopper=STOPPER, searcher="random",
        cluster=cluster, log_dir=directory, random_state=5,
    ).run(num_trials=120, progress=False)  # fmt: skip
    return directory


def test_a_finished_search(browser: Any, finished: Path) -> None:
    with served(finished) as url:
        visit = Visit(browser, url)
        assert "accuracy against latency" in visit.page.title()
        assert visit.page.inner_text("#state").startswith("finished")
        assert visit.card("trials ended") == "120"
        assert int(visit.card("front size")) > 1
        for tab in ("overview", "curves", "workers", "space", "trials"):
            visit.open(tab)
            assert visit.fits(), tab
            visit.screenshot(SCREENSHOTS, f"finished-{tab}")
        visit.open("curves")
        assert visit.page.locator("#rungs tbody tr").count() == 2
        visit.open("space")
        visit.wait_for(f"() => {visit.source('share')}.share.length === 3")
        visit.screenshot(SCREENSHOTS, "finished-importance")
        visit.close()


def test_the_table_is_filtered_sorted_and_turned(browser: Any, finished: Path) -> None:
    with served(finished) as url:
        visit = Visit(browser, url)
        visit.open("trials")
        visit.page.wait_for_selector("#trials tbody tr")
        assert [row[0] for row in visit.rows()] == [str(trial) for trial in range(119, 69, -1)]
        visit.page.click("#trials th button:has-text('accuracy')")
        visit.page.wait_for_selector("#trials th[aria-sort=ascending]")
        rising = [float(row[2]) for row in visit.rows() if row[2]]
        assert rising == sorted(rising)
        visit.page.click("#trials th button:has-text('accuracy')")
        visit.page.wait_for_selector("#trials th[aria-sort=descending]")
        falling = [float(row[2]) for row in visit.rows() if row[2]]
        assert falling == sorted(falling, reverse=True)
        assert falling[0] > rising[0]
        visit.page.click("#trials button:has-text('next')")
        visit.wait_for("() => document.querySelector('#trials .facts').textContent.startsWith('51–100')")
        visit.page.select_option("#trials select", "FAILED")
        visit.wait_for("() => /^1–\\d of \\d$/.test(document.querySelector('#trials .facts').textContent)")
        assert {row[1] for row in visit.rows()} == {"FAILED"}
        assert all("the loss became NaN" in row[-1] for row in visit.rows())
        visit.page.fill("#trials input", "no row has this")
        visit.wait_for("() => document.querySelector('#trials .facts').textContent === 'none'")
        visit.close()


def test_a_plot_tells_what_is_under_the_pointer(browser: Any, finished: Path) -> None:
    with served(finished) as url:
        visit = Visit(browser, url)
        left, top, width, height = visit.plot("front")
        found = False
        for step in range(400):
            across, down = step % 20, step // 20
            visit.page.mouse.move(left + width * (across + 0.5) / 20, top + height * (down + 0.5) / 20)
            if found := bool(visit.page.evaluate(TOOLTIP)):
                break
        assert found
        visit.screenshot(SCREENSHOTS, "hover")
        visit.close()


def test_another_objective_can_be_chosen(browser: Any, finished: Path) -> None:
    with served(finished) as url:
        visit = Visit(browser, url)
        label = "Bokeh.documents[0].get_model_by_name('incumbent').left[0].axis_label"
        assert visit.page.evaluate(label) == "best accuracy (maximise)"
        visit.page.select_option("#objective", label="latency")
        visit.wait_for(f"() => {label} === 'best latency (minimise)'")
        visit.close()


def test_light_and_dark(browser: Any, finished: Path) -> None:
    with served(finished) as url:
        background = "getComputedStyle(document.body).backgroundColor"
        ink = "Bokeh.documents[0].get_model_by_name('front').left[0].axis_label_text_color"
        visit = Visit(browser, url, color_scheme="dark")
        dark = visit.page.evaluate(f"[{background}, {ink}]")
        visit.screenshot(SCREENSHOTS, "dark")
        visit.page.click("#theme")
        light = visit.page.evaluate(f"[{background}, {ink}]")
        assert light[0] != dark[0]
        assert light[1] != dark[1]
        visit.page.reload()
        visit.page.wait_for_selector(".card")
        assert visit.page.evaluate(background) == light[0]  # it is remembered
        visit.close()


def test_it_fits_a_phone(browser: Any, finished: Path) -> None:
    with served(finished) as url:
        visit = Visit(browser, url, width=390, is_mobile=True, has_touch=True)
        for tab in ("overview", "curves", "workers", "space", "trials"):
            visit.open(tab)
            assert visit.fits(), tab
            visit.screenshot(SCREENSHOTS, f"phone-{tab}")
        visit.close()


def test_hostile_names_and_values_are_text(browser: Any, tmp_path: Path) -> None:
    image = "<img src=x onerror=alert(1)>"
    problem = HpProblem({HOSTILE: (0.0, 1.0), "$$x$$": [image, HOSTILE, "b"]})

    def train(config: Any, report: Any) -> None:
        if config[HOSTILE] > 0.8:
            raise ValueError(f"{HOSTILE} {image}")
        for epoch in range(1, 10):
            report(**{"epoch": epoch, image: config[HOSTILE] * epoch, "seconds": 1.0})

    directory = tmp_path / "<b onmouseover=alert(1)>"
    Search(
        problem, train, objectives={image: "MIN"}, stopper=STOPPER, searcher="random", random_state=2,
        cluster=Simulated(workers=3), log_dir=directory,
    ).run(num_trials=30, progress=False)  # fmt: skip
    with served(directory) as url:
        visit = Visit(browser, url)
        for tab in ("overview", "curves", "workers", "space", "trials"):
            visit.open(tab)
            for plot in ("incumbent", "history", "curves", "timeline", "parallel"):
                left, top, width, height = visit.plot(plot)
                for part in range(1, 10) if width else ():
                    visit.page.mouse.move(left + width * part / 10, top + height / 2)
        assert visit.page.locator("script", has_text="alert(1)").count() == 0
        assert visit.page.locator("img[src=x]").count() == 0
        visit.page.wait_for_selector("#trials tbody tr")
        assert any(image in cell for row in visit.rows() for cell in row)
        visit.screenshot(SCREENSHOTS, "hostile")
        visit.close()


def test_a_search_that_has_not_begun(browser: Any, tmp_path: Path) -> None:
    search = Search({"x": (0.0, 1.0)}, objectives={"a": "MIN", "b": "MIN", "c": "MAX"}, log_dir=tmp_path)
    search.ask()
    with served(tmp_path) as url:
        visit = Visit(browser, url)
        assert visit.page.locator("[data-empty=front]").is_visible()
        assert visit.page.locator("#front-axes").is_visible()
        visit.open("curves")
        assert "No rung reached yet" in visit.page.inner_text("#rungs")
        visit.screenshot(SCREENSHOTS, "empty")
        visit.close()


def large_journal(directory: Path, n_trials: int, n_workers: int) -> None:
    """The journal of a search that ran, with stops, losses and waits. Searching so much would take minutes."""
    rng = random.Random(0)
    free = [(rng.uniform(0.0, 60.0), worker) for worker in range(n_workers)]
    heapq.heapify(free)
    events: list[Event] = [SessionOpened(0.0, 0.0, "host", 1, "1")]
    for trial in range(n_trials):
        time, worker = heapq.heappop(free)
        config = {"x": rng.random(), "n": rng.randint(1, 9), "activation": rng.choice(["relu", "tanh"])}
        events.append(TrialProposed(time, trial, config, 0, "random", 0))
        attempt, began = 1, time + rng.uniform(0.0, 2.0)
        if rng.random() < 0.02:
            events.append(WorkerLost(began, trial, 1, f"tcp://node-{worker}:1"))
            attempt = 2
        last = rng.choices([1, 3, 9], [6, 3, 1])[0]
        for epoch in range(1, last + 1):
            now = began + epoch * config["n"]
            values = {"epoch": epoch, "accuracy": 1 - (config["x"] - 0.3) ** 2 - 1 / (epoch + 1)}
            events.append(TrialReported(now, trial, attempt, epoch, epoch, values))
        name = f"tcp://node-{worker}:{attempt}"
        events.append(TrialCompleted(now, trial, attempt, None, {}, last < 9, began, now, name))
        heapq.heappush(free, (now, worker))
    events.append(SearchFinished(max(event.time for event in events), f"num_trials={n_trials} reached"))
    events.sort(key=lambda event: event.time)
    settings = {"problem": SPACE.to_json(), "objectives": {"accuracy": "MAX"}, "stopper": STOPPER.settings(), "seed": 0}
    with FileJournal.open(directory, Header("large", 0.0, settings)) as journal:
        for begin in range(0, len(events), 100):
            journal.append(events[begin : begin + 100])


def test_ten_thousand_trials_on_a_thousand_workers(browser: Any, tmp_path: Path) -> None:
    large_journal(tmp_path, 10_000, 1000)
    with served(tmp_path) as url:
        visit = Visit(browser, url)
        assert visit.card("trials ended") == "10000"
        for tab in ("overview", "curves", "workers", "space", "trials"):
            visit.open(tab)
            visit.screenshot(SCREENSHOTS, f"large-{tab}")
        visit.page.wait_for_selector("#trials tbody tr")
        visit.page.fill("#trials input", "tanh")
        visit.wait_for("() => !document.querySelector('#trials .facts').textContent.endsWith(' of 10000')")
        assert all("tanh" in row for row in visit.rows())
        visit.close()


def gated(go: str) -> Any:
    """A run function that reports one epoch, waits until there is a file, and goes on."""

    def train(config: Any, report: Any) -> None:
        report(epoch=1, loss=config.x)
        while not os.path.exists(go):
            time.sleep(0.02)
        for epoch in range(2, 10):
            report(epoch=epoch, loss=config.x / epoch)

    return train


@pytest.mark.parametrize("kept", [True, False], ids=["in a directory", "in memory"])
def test_a_running_search_on_the_dask_dashboard(
    browser: Any, dask_cluster: LocalCluster, tmp_path: Path, kept: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    url = dask_cluster.dashboard_link.removesuffix("/status") + "/dhpo"
    begun = threading.Event()
    search = Search(
        {"x": (0.0, 1.0)}, gated(str(tmp_path / "go")), objectives={"loss": "MIN"}, stopper=STOPPER, random_state=1,
        searcher="random", cluster=dask_cluster, log_dir=tmp_path / "live" if kept else None,
    )  # fmt: skip

    def watch(events: Any, study: Any) -> None:
        begun.set()

    driver = threading.Thread(target=search.run, kwargs={"num_trials": 12, "progress": True, "watchers": [watch]})
    driver.start()
    try:
        assert begun.wait(60)
        visit = Visit(browser, url)
        visit.wait_for("() => document.getElementById('state').textContent === 'running'")
        visit.wait_for(f"() => {visit.source('start')}.start !== undefined")
        visit.wait_for_card("running", "2")
        visit.open("workers")
        visit.wait_for("() => document.getElementById('cluster').textContent.includes('2 workers connected, 2 busy')")
        visit.screenshot(SCREENSHOTS, "running-workers")
        visit.open("overview")
        (tmp_path / "go").touch()
        visit.wait_for("() => document.getElementById('state').textContent.startsWith('finished')")
        visit.wait_for_card("trials ended", "12 of 12")
        visit.screenshot(SCREENSHOTS, "running-overview")
        visit.close()
    finally:
        (tmp_path / "go").touch()
        driver.join(60)
    assert f"dhpo dashboard: {url}" in capfd.readouterr().err
