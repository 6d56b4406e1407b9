"""The dashboard's part of a Dask scheduler, and the driver's end of it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Scheduler
from tornado.httpclient import AsyncHTTPClient

from dhpo import HpProblem
from dhpo.dashboard.feed import Feed, followed
from dhpo.dashboard.plugin import DashboardPlugin
from dhpo.events import SearchFinished, TrialProposed, TrialReported
from dhpo.executors.dask import DaskExecutor
from dhpo.executors.local import LocalExecutor
from dhpo.journal import Header, MemoryJournal

ROOT = Path(__file__).parents[2]
EVENTS = [TrialProposed(0.0, 0, {"x": 0.5}, 0, "random", 0), TrialReported(1.0, 0, 1, 1, 1.0, {"loss": 2.0})]


def make_journal(search_id: str = "a" * 32) -> MemoryJournal:
    settings = {"problem": HpProblem({"x": (0.0, 1.0)}).to_json(), "objectives": {"loss": "MIN"}, "seed": 0}
    return MemoryJournal(Header(search_id, 0.0, settings))


class Standing:
    """As much of an executor as a feed asks for."""

    def __init__(self, client: Any, address: str | None, token: str = "token") -> None:
        self.client = client
        self.token = token
        self._address = address

    def address(self) -> str | None:
        return self._address

    def now(self) -> float:
        return 5.0

    def status(self) -> str | None:
        return "waiting for workers"


def with_scheduler(use: Callable[[Scheduler, Client], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        async with (
            Scheduler(dashboard_address="127.0.0.1:0", host="127.0.0.1", port=0, **options) as scheduler,
            Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
        ):
            await use(scheduler, client)

    asyncio.run(main())


def url_of(scheduler: Scheduler) -> str:
    return f"http://127.0.0.1:{scheduler.http_server.port}"


async def get(url: str) -> Any:
    from json import loads

    answer = await AsyncHTTPClient().fetch(url, request_timeout=60)
    return loads(answer.body) if "json" in answer.headers["Content-Type"] else answer.body.decode()


def test_the_driver_sends_nothing_until_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhpo.dashboard.feed._PERIOD", 0.01)
    journal = make_journal()

    async def use(scheduler: Scheduler, client: Client) -> None:
        feed = Feed(Standing(client, f"{url_of(scheduler)}/status"), journal, "mine", 7, None)  # type: ignore[arg-type]
        async with followed(feed):
            assert feed.url == f"{url_of(scheduler)}/dhpo"
            (watch,) = feed.watchers
            plugin = scheduler.plugins["dhpo-dashboard-token"]
            journal.append(EVENTS[:1])
            watch(EVENTS[:1], None)  # type: ignore[arg-type]
            assert not plugin.live.is_being_read
            assert (await get(f"{feed.url}/api/search.json"))["trials"]["RUNNING"] == 1
            journal.append(EVENTS[1:])
            watch(EVENTS[1:], None)  # type: ignore[arg-type]
            found: dict[str, Any] = {}
            while found.get("reports") != 1:
                found = await get(f"{feed.url}/api/search.json")
            assert (found["name"], found["state"], found["num_trials"]) == ("mine", "running", 7)
            assert found["cluster"] == "waiting for workers"
            assert "dhpo_reports_total" in await get(f"{feed.url}/metrics")
            last = [SearchFinished(9.0, "enough")]
            journal.append(last)
            watch(last, None)  # type: ignore[arg-type]
        # The driver is gone; what it sent last is still shown.
        assert (await get(f"{feed.url}/api/search.json"))["reason"] == "enough"
        assert not [name for name in scheduler.handlers if name.startswith("dhpo_dashboard")]

    with_scheduler(use)


def test_several_searches_share_a_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhpo.dashboard.feed._PERIOD", 0.01)

    async def use(scheduler: Scheduler, client: Client) -> None:
        link = f"{url_of(scheduler)}/status"
        feeds = [
            Feed(Standing(client, link, f"token{i}"), make_journal(str(i) * 32), f"search {i}", None, None)  # type: ignore[arg-type]
            for i in range(2)
        ]
        async with followed(feeds[0]), followed(feeds[1]):
            base = f"{url_of(scheduler)}/dhpo/api/search.json"
            assert (await get(base))["name"] == "search 1"
            assert (await get(f"{base}?search={'0' * 32}"))["name"] == "search 0"

    with_scheduler(use)


def test_a_scheduler_without_pages_has_none_of_dhpo(caplog: pytest.LogCaptureFixture) -> None:
    async def use(scheduler: Scheduler, client: Client) -> None:
        with caplog.at_level(logging.INFO, "dhpo.dashboard.plugin"):
            feed = Feed(Standing(client, f"{url_of(scheduler)}/status"), make_journal(), "", None, None)  # type: ignore[arg-type]
            async with followed(feed):
                assert feed.url is None

    with_scheduler(use, dashboard=False)
    assert "there is no page /dhpo" in caplog.text


def test_a_driver_that_dies_leaves_no_operations() -> None:
    async def use(scheduler: Scheduler, client: Client) -> None:
        async with Client(scheduler.address, asynchronous=True, set_as_default=False) as other:
            await other.register_plugin(
                DashboardPlugin("t", other.id, "b" * 32, "gone", make_journal().header.settings)
            )
            assert "dhpo_dashboard_feed_t" in scheduler.handlers
        while "dhpo-dashboard-t" in scheduler.plugins:
            await asyncio.sleep(0.01)
        assert "dhpo_dashboard_feed_t" not in scheduler.handlers

    with_scheduler(use)


def test_what_computes_is_loaded_when_somebody_looks() -> None:
    program = (
        "import sys; import distributed; from dhpo.dashboard import hub, live, plugin, routes;"
        "print([name for name in ('numpy', 'pandas', 'sklearn', 'ConfigSpace', 'moocore') if name in sys.modules])"
    )
    before = "import sys; import distributed; print([name for name in ('numpy', 'pandas') if name in sys.modules])"
    loaded = [
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for text in (before, program)
    ]
    assert loaded[0] == loaded[1]


def test_what_goes_wrong_harms_nothing() -> None:
    class Broken:
        id = "client"

        async def register_plugin(self, plugin: Any) -> None:
            raise OSError("no")

    async def main() -> None:
        feed = Feed(Standing(Broken(), "http://127.0.0.1:1/status"), make_journal(), "", None, None)  # type: ignore[arg-type]
        async with followed(feed):
            assert feed.url is None

    asyncio.run(main())


def test_only_dask_has_a_page() -> None:
    async def main() -> None:
        feed = Feed(LocalExecutor(1), make_journal(), "", None, None)
        async with followed(feed):
            assert feed.url is None

    asyncio.run(main())
    assert isinstance(DaskExecutor.client, property)
