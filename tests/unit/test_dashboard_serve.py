"""The dashboard as programs see it: a journal that grows, the routes over it, and the way from the driver."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dhpo import HpProblem
from dhpo._blocks import Block, blocks_of
from dhpo._packing import from_bytes
from dhpo._tail import Tail
from dhpo.dashboard.feed import MemorySource, packed
from dhpo.dashboard.frame import Choice
from dhpo.dashboard.live import Live
from dhpo.dashboard.page import send
from dhpo.dashboard.serve import Dashboard, _origins
from dhpo.dashboard.view import Facts, View
from dhpo.errors import DhpoError, JournalError
from dhpo.events import SearchFinished, TrialProposed, TrialReported
from dhpo.journal import FILE_NAME, FileJournal, Header, MemoryJournal

EVENTS = [
    TrialProposed(0.0, 0, {"x": 0.5, "<b>": "<script>"}, 0, "random", 0),
    TrialReported(1.0, 0, 1, 1, 1.0, {"loss": 2.0}),
    TrialReported(2.0, 0, 1, 2, 2.0, {"loss": 1.0}),
]


def make_header(**changes: Any) -> Header:
    problem = HpProblem({"x": (0.0, 1.0), "<b>": ["<script>", "b"]})
    settings = {"problem": problem.to_json(), "objectives": {"loss": "MIN"}, "seed": 0}
    return Header("0" * 32, 0.0, settings | changes)


def events_of(block: Block | None) -> list[Any]:
    """The events of a block, of which nothing but the objectives was reported."""
    if block is None:
        return []
    reports = zip(block.reports.place.tolist(), block.reports.events(block.names), strict=True)
    others = zip(block.places.tolist(), block.others, strict=True)
    return [event for _, event in sorted([*reports, *others], key=lambda pair: pair[0])]


def test_a_tail_gives_each_batch_once(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path, make_header()) as journal:
        tail = Tail(tmp_path)
        assert tail.read() is None
        journal.append(EVENTS[:1])
        assert events_of(tail.read()) == EVENTS[:1]
        assert tail.read() is None
        journal.append(EVENTS[1:2])
        journal.append(EVENTS[2:])
        assert events_of(tail.read(limit=1)) == EVENTS[1:2]
        assert events_of(tail.read()) == EVENTS[2:]
    assert tail.header.search_id == "0" * 32


def test_a_tail_begins_with_the_cache_and_goes_on_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhpo._reading.BLOCK", 10)
    events = [EVENTS[0], *(TrialReported(i + 1.0, 0, 1, i, i, {"loss": float(i)}) for i in range(1, 36))]
    with FileJournal.open(tmp_path, make_header()) as journal:
        for begin in range(0, len(events), 4):
            journal.append(events[begin : begin + 4])
        for _ in journal.blocks():  # writes the cache
            pass
        tail = Tail(tmp_path)
        blocks = [tail.read() for _ in range(4)]
        assert [block.size for block in blocks if block is not None] == [12, 12, 12]
        assert [event for block in blocks for event in events_of(block)] == events
        journal.append([SearchFinished(50.0, "enough")])
        assert events_of(tail.read()) == [SearchFinished(50.0, "enough")]
        assert tail.read() is None


def test_a_tail_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path, make_header()) as journal:
        journal.append(EVENTS[:2])
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    tail = Tail(path)
    assert tail.read() is None
    path.write_bytes(whole)
    assert events_of(tail.read()) == EVENTS[:2]


def test_a_tail_refuses_what_is_damaged_or_gone(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path, make_header()) as journal:
        journal.append(EVENTS[:1])
        journal.append(EVENTS[1:])
    path = tmp_path / FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"random", b"Random") + lines[2])
    tail = Tail(path)
    with pytest.raises(JournalError, match=r"damaged at line 2"):
        tail.read()
    path.unlink()
    with pytest.raises(JournalError, match="cannot be read"):
        tail.read()


def test_a_journal_in_memory_is_read_as_it_grows() -> None:
    journal = MemoryJournal(make_header())
    source = MemorySource(journal)
    journal.append(EVENTS[:1])
    source(EVENTS[:1], None)  # type: ignore[arg-type]
    assert events_of(source.read()) == EVENTS[:1]
    for event in EVENTS[1:]:
        journal.append([event])
        source([event], None)  # type: ignore[arg-type]
    assert events_of(source.read()) == EVENTS[1:]
    assert source.read() is None
    source.rewind()
    assert events_of(source.read()) == EVENTS


def test_a_block_is_sent_in_parts_that_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhpo.dashboard.feed._PART", 2)
    (block,) = blocks_of([EVENTS], ["loss"])
    parts = [from_bytes(part) for part in packed(block)]
    assert [part.size for part in parts] == [2, 1]
    assert [event for part in parts for event in events_of(part)] == EVENTS
    assert packed(None) == []


def test_a_view_is_kept_up_only_while_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        live = Live("id", "mine", make_header().settings)
        assert not live.is_wanted()
        asked = asyncio.create_task(live.until_wanted())
        looking = asyncio.create_task(live.ready(60))
        await asked
        assert live.is_wanted()
        assert not looking.done()
        await live.extend([], all=True, facts=Facts(running=True))
        assert await looking
        assert (await live.ask(lambda view: view.facts)).running
        monkeypatch.setattr("dhpo.dashboard.live._ATTENTION", 0.0)
        assert not live.is_wanted()
        assert not await live.ready(0.01)  # what was known then may be old by now
        await live.close()
        assert await live.ready(0.01)
        assert not (await live.ask(lambda view: view.facts)).running

    asyncio.run(main())


def test_a_view_lives_in_a_thread_of_its_own() -> None:
    async def main() -> None:
        live = Live("id", "mine", make_header().settings)
        assert not live.is_being_read
        threads = {await live.ask(lambda view: threading.get_ident()) for _ in range(3)}
        assert len(threads) == 1
        assert threads != {threading.get_ident()}
        going_on, done = threading.Event(), asyncio.create_task(live.ask(lambda view: going_on.wait(60)))
        await asyncio.sleep(0)  # the loop goes on while something is computed
        assert not done.done()
        going_on.set()
        assert await done

    asyncio.run(main())


def test_a_frame_is_drawn_while_the_loop_goes_on() -> None:
    async def main() -> None:
        live = Live("id", "mine", make_header().settings)
        assert live.frame(Choice()) is None
        assert live.blank(Choice()).columns["history"]["trial"] == []
        await live.extend(list(blocks_of([EVENTS], ["loss"])), all=True, facts=Facts(running=True))
        while (frame := live.frame(Choice())) is None or not frame.is_complete:
            await asyncio.sleep(0.01)
        assert frame.columns["history"]["value"] == [1.0]
        assert frame.summary["state"] == "running"
        assert live.frame(Choice()) is frame

    asyncio.run(main())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([1, 2], [1, 2], []),
        ([1, 2], [1, 2, 3], ["stream"]),
        ([1, 2, 3, 4, 5], [1, 2, 9, 4, 5, 6], ["patch", "stream"]),
        ([1, 2, 3, 4], [3, 4, 5, 6], ["stream"]),
        ([1, 2, 3], [7, 8], ["data"]),
        ([1, 2, 3], [], ["data"]),
        ([], [1], ["data"]),
    ],
)
def test_only_what_is_new_is_sent(
    old: list[int], new: list[int], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bokeh.models import ColumnDataSource

    sent: list[str] = []
    source = ColumnDataSource({"a": list(old), "b": [str(x) for x in old]})
    for name in ("stream", "patch"):
        original = getattr(ColumnDataSource, name)

        def recorded(self: Any, *args: Any, name: str = name, original: Any = original, **kwargs: Any) -> None:
            sent.append(name)
            original(self, *args, **kwargs)

        monkeypatch.setattr(ColumnDataSource, name, recorded)
    source.on_change("data", lambda attribute, before, after: None if sent else sent.append("data"))
    send(source, {"a": list(old), "b": [str(x) for x in old]}, {"a": new, "b": [str(x) for x in new]})
    assert list(source.data["a"]) == new
    assert list(source.data["b"]) == [str(x) for x in new]
    assert sent == expected


def served(directory: Path, use: Callable[[str], Any], facts: Callable[[View], Facts] = lambda view: Facts()) -> Any:
    """What ``use`` finds at the address of a dashboard, called in a thread."""

    async def main() -> Any:
        dashboard = Dashboard(directory, facts)
        await dashboard.start()
        try:
            using = asyncio.create_task(asyncio.to_thread(use, dashboard.url))
            serving = asyncio.create_task(dashboard.serve())
            await asyncio.wait({using, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            return await using
        finally:
            await dashboard.close()

    return asyncio.run(main())


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        text = answer.read().decode()
        return json.loads(text) if answer.headers["Content-Type"].startswith("application/json") else text


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with FileJournal.open(tmp_path / "mine", make_header()) as journal:
        journal.append(EVENTS)
    return tmp_path / "mine"


def test_routes_tell_what_the_journal_holds(directory: Path) -> None:
    def use(url: str) -> None:
        found = get(f"{url}/api/search.json")
        assert (found["name"], found["state"], found["reports"]) == ("mine", "interrupted", 2)
        assert found["best"][0]["value"] == 1.0
        trials = get(f"{url}/api/trials.json?sort=trial&limit=5")
        assert trials["rows"][0][:3] == [0, "RUNNING", 1.0]
        assert get(f"{url}/api/trials.json?text=nothing")["total"] == 0
        assert get(f"{url}/api/front.json")[0]["values"] == {"loss": 1.0}
        assert get(f"{url}/api/rungs.json") == []
        assert get(f"{url}/api/workers.json")["total"] == 0
        assert get(f"{url}/api/cluster.json")["state"] == "interrupted"
        assert re.search(r'^dhpo_reports_total\{search="0+"\} 2.0$', get(f"{url}/metrics"), re.MULTILINE)

    served(directory, use)


def test_routes_follow_a_growing_journal(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path, make_header()) as journal:
        journal.append(EVENTS[:2])

        def use(url: str) -> None:
            assert get(f"{url}/api/search.json")["reports"] == 1
            journal.append([*EVENTS[2:], SearchFinished(3.0, "enough")])
            while get(f"{url}/api/search.json")["reports"] < 2:
                pass  # each answer waits for what the server reads next
            assert get(f"{url}/api/search.json")["reason"] == "enough"

        served(tmp_path, use)


@pytest.mark.parametrize(
    ("path", "status"),
    [("api/search.json?search=another", 404), ("api/trials.json?offset=-1", 400), ("api/nothing.json", 404)],
)
def test_what_cannot_be_answered_is_refused(directory: Path, path: str, status: int) -> None:
    def use(url: str) -> None:
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{url}/{path}")
        assert refused.value.code == status

    served(directory, use)


def test_the_page_is_complete_and_escaped(tmp_path: Path) -> None:
    directory = tmp_path / "<script>alert(1)<"
    with FileJournal.open(directory, make_header()) as journal:
        journal.append(EVENTS)

    def use(url: str) -> None:
        page = get(url)
        assert "<script>alert(1)" not in page
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)  # everything comes from here
        assert get(url.removesuffix("dhpo")) == get(url) or "dhpo" in get(url.removesuffix("dhpo"))
        assert 'id="panel-incumbent"' in get(f"{url}/")

    served(directory, use)


def test_it_is_for_this_machine_unless_asked_otherwise(directory: Path) -> None:
    assert served(directory, lambda url: url).startswith("http://127.0.0.1:")
    assert set(_origins("127.0.0.1")) == {"localhost:*", "127.0.0.1:*"}
    assert len(_origins("0.0.0.0")) > 2


def test_a_port_that_is_taken_is_refused(directory: Path) -> None:
    async def main() -> None:
        first, second = Dashboard(directory), Dashboard(directory)
        await first.start()
        try:
            with pytest.raises(DhpoError, match="cannot be listened at"):
                await second.start(port=int(first.url.split(":")[2].removesuffix("/dhpo")))
        finally:
            await first.close()

    asyncio.run(main())


def test_without_bokeh_it_says_what_to_install(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh.application", None)

    async def main() -> None:
        with pytest.raises(DhpoError, match=r"pip install 'dhpo\[dashboard\]'"):
            await Dashboard(directory).start()

    asyncio.run(main())


def test_the_command_tells_its_address(directory: Path) -> None:
    command = [sys.executable, "-m", "dhpo", "dashboard", str(directory), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        text = ""
        while "}" not in text:
            line = process.stdout.readline()
            assert line, "it has ended"
            text += line
        assert get(json.loads(text)["url"] + "/api/search.json")["name"] == "mine"
        process.terminate()


def test_the_command_needs_a_journal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dhpo", "dashboard", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 1
    assert "there is no journal" in done.stderr
