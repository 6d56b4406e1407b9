"""Views: what people look at when a search has 100,000 trials with 50 reports each.

    python benchmarks/views.py [--trials 100000] [--reports 50] [--journal DIR] [--views status,report]

Each view runs as a user would run it, in a process of its own, over a journal that this writes first (or over one that
``--journal`` names, which grows by a few trials). A journal of this size has its cache, as a driver leaves it there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import statistics
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import resume
from _common import in_process, parser, scratch, table, verdict

from dhpo import Hyperband
from dhpo.events import Event, TrialProposed, TrialReported
from dhpo.journal import FileJournal, read
from dhpo.session import Session

UPDATES = 5
NEW_TRIALS = 20
SETTLED = 3.0
#: Seconds and MB at most, by the view.
TARGETS = {"status": 3, "best": 3, "to_frame": 5, "front": 5, "report": 20, "first page": 3}
MOST_MB = 1000
#: Milliseconds for which somebody who looks may hold up the event loop that the page lives in, once it has been drawn.
MOST_LAG = 5

FRAME = "import sys; from dhpo import Results; Results.load(sys.argv[1]).to_frame()"
#: What users run: the command line, or a program of a line.
COMMANDS: dict[str, list[str]] = {
    "status": ["-m", "dhpo", "status", "{run}"],
    "best": ["-m", "dhpo", "best", "{run}"],
    "front": ["-m", "dhpo", "front", "{run}", "--unique"],
    "trials": ["-m", "dhpo", "trials", "{run}", "--last", "20"],
    "to_frame": ["-c", FRAME, "{run}"],
    "export csv": ["-m", "dhpo", "export", "{run}", "-o", "{out}/results.csv"],
    "export parquet": ["-m", "dhpo", "export", "{run}", "-o", "{out}/results.parquet"],
    "importance": ["-m", "dhpo", "importance", "{run}"],
    "compare": ["-m", "dhpo", "compare", "a={run}", "b={run}"],
    "plot": ["-m", "dhpo", "plot", "{run}", "--out", "{out}/plots"],
    "report": ["-m", "dhpo", "report", "{run}", "-o", "{out}/report.html"],
}


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    cpu: float
    peak_mb: float


def cost_of(arguments: list[str]) -> Cost:
    """Run Python with these arguments; what is printed is thrown away."""
    began = time.perf_counter()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    files = [(os.POSIX_SPAWN_DUP2, nowhere, 1)]
    pid = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ, file_actions=files)
    os.close(nowhere)
    _, status, used = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{arguments} ended with {os.waitstatus_to_exitcode(status)}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def written(directory: Path, trials: int, reports: int) -> Path:
    """A search of so many trials that all go on to their end, with its cache."""
    made = resume.setup("random", Hyperband(time_attr="epoch", max_t=max(reports, 2) + 1))
    resume.write(directory, made, trials, reports, improving=True)
    Session(made, directory).close()
    return directory


# What follows runs in a process of its own.


@contextmanager
def growing(directory: Path) -> Iterator[tuple[FileJournal, Callable[[], int]]]:
    """A journal, and what adds a few trials to it with a report each, and tells how many."""
    with FileJournal.open(directory, read(directory)[0]) as journal:
        past = (event for block in journal.blocks() for event in block.others)
        numbers = count(1 + max(event.trial for event in past if isinstance(event, TrialProposed)))

        def grow() -> int:
            events: list[Event] = []
            for number in islice(numbers, NEW_TRIALS):
                config = {"lr": 0.01, "dropout": 0.1, "width": 64, "depth": 3, "activation": "relu"}
                events.append(TrialProposed(1e6, number, config, 0, "model", number))
                events.append(TrialReported(1e6 + 1, number, 1, 1, 1, {"epoch": 1, "score": 0.5, "seconds": 0.1}))
            journal.append(events)
            return NEW_TRIALS

        yield journal, grow


def watch(directory: Path) -> dict[str, float]:
    """``dhpo watch``: the first screen, and those after it."""
    began = time.perf_counter()
    from dhpo.cli.follow import Follower
    from dhpo.cli.screen import screen

    search = Follower(directory)
    search.look()
    screen(search, 50)
    first, again = time.perf_counter() - began, []
    with growing(directory) as (_, grow):
        for _ in range(UPDATES):
            grow()
            began = time.thread_time()
            search.look()
            screen(search, 50)
            again.append(time.thread_time() - began)
    return {"first": first, "again": statistics.median(again), "peak_mb": peak_mb()}


class Sent:
    """How many bytes went to browsers."""

    def __init__(self) -> None:
        from tornado.websocket import WebSocketHandler

        self.bytes = 0
        original = WebSocketHandler.write_message

        def counted(handler: Any, message: Any, binary: bool = False) -> Any:
            self.bytes += len(message)
            return original(handler, message, binary)

        WebSocketHandler.write_message = counted  # type: ignore[method-assign]


class Lag:
    """How long the event loop was held up."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.perf_counter() - due)


class Standing:
    """As much of an executor as the feed of a page asks for."""

    token = "token"

    def __init__(self, client: Any, link: str) -> None:
        self.client = client
        self.link = link

    def address(self) -> str:
        """Of Dask's own page."""
        return self.link

    def now(self) -> float:
        """The search's clock."""
        return 1e6

    def status(self) -> None:
        """What the executor waits for."""


@asynccontextmanager
async def on_dask(journal: FileJournal) -> AsyncIterator[str]:
    """The address of the page on a Dask scheduler, which lives in the driver's event loop as ``Local`` has it."""
    from distributed import Client, Scheduler

    from dhpo.dashboard.feed import Feed, followed

    logging.getLogger("distributed").setLevel(logging.ERROR)
    options: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}
    async with Scheduler(**options) as scheduler, Client(scheduler.address, asynchronous=True) as client:
        link = f"http://127.0.0.1:{scheduler.http_server.port}"
        executor: Any = Standing(client, f"{link}/status")
        async with followed(Feed(executor, journal, "views", None, None)):
            yield f"{link}/dhpo"


@asynccontextmanager
async def alone(directory: Path) -> AsyncIterator[str]:
    """The address of the page over a journal, as of ``dhpo dashboard``."""
    from dhpo.dashboard.serve import Dashboard

    served = Dashboard(directory)
    await served.start()
    serving = asyncio.create_task(served.serve())
    try:
        yield served.url
    finally:
        serving.cancel()
        await served.close()


def browse(url: str) -> None:
    """A person's page: what a browser has from the server, without drawing it. Tells of it in lines of JSON."""
    from bokeh.client import pull_session
    from bokeh.models import ColumnDataSource
    from bokeh.util.token import get_session_id

    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=300) as answer:
        text = answer.read().decode()
    token = re.search(r'"token": *"([^"]+)"', text)
    assert token is not None
    session = pull_session(url=url, session_id=get_session_id(token[1]))
    print(json.dumps({"page": len(text), "seconds": time.perf_counter() - began}), flush=True)
    numbers = next(s for s in session.document.select({"type": ColumnDataSource}) if "json" in s.data)

    def told(attr: str, old: Any, new: Any) -> None:
        shown = json.loads(numbers.data["json"][0])
        print(json.dumps({"reports": shown["reports"], "caught_up": shown["caught_up"]}), flush=True)

    numbers.on_change("data", told)
    told("data", None, None)
    session._loop_until_closed()


async def dashboard(directory: Path, *, with_dask: bool) -> dict[str, float]:
    sent, lag = Sent(), Lag()
    with growing(directory) as (journal, grow):
        watching = asyncio.create_task(lag.watch())
        async with on_dask(journal) if with_dask else alone(directory) as url:
            lag.worst = 0.0
            command = [sys.executable, __file__, "--case", "browser", "--url", url]
            browser = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            assert browser.stdout is not None
            page = json.loads(await browser.stdout.readline())
            began, opening, lag.worst = time.perf_counter() - page["seconds"], lag.worst, 0.0

            async def until(reports: int) -> int:
                assert browser.stdout is not None
                shown: dict[str, int] = {"reports": 0, "caught_up": 0}
                while not shown["caught_up"] or shown["reports"] < reports:
                    shown = json.loads(await browser.stdout.readline())
                return shown["reports"]

            reports = await until(1)
            complete = time.perf_counter() - began
            await asyncio.sleep(SETTLED)  # what matters is estimated meanwhile
            document, reading = page["page"] + sent.bytes, lag.worst
            lag.worst, sent.bytes = 0.0, 0
            cpu, seconds = time.process_time(), []
            for _ in range(UPDATES):
                reports += grow()
                asked = time.perf_counter()
                await until(reports)
                seconds.append(time.perf_counter() - asked)
            cpu, held_up = (time.process_time() - cpu) / UPDATES, lag.worst
            browser.kill()
            await browser.wait()
        watching.cancel()
    return {
        "first": page["seconds"], "complete": complete, "document": document,
        "opening_lag": 1000 * opening, "reading_lag": 1000 * reading,
        "update": statistics.median(seconds), "update_cpu": cpu,
        "update_bytes": sent.bytes / UPDATES, "update_lag": 1000 * held_up, "peak_mb": peak_mb(),
    }  # fmt: skip


def peak_mb() -> float:
    """The largest memory that this process has had."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# And this is the program that asks for it.


def commands(run: Path, out: Path, wanted: set[str]) -> None:
    """The commands that tell something and end."""
    rows = []
    for name, arguments in COMMANDS.items():
        if wanted and name not in wanted:
            continue
        found = cost_of([text.format(run=run, out=out) for text in arguments])
        target = TARGETS.get(name)
        results = [] if target is None else [verdict(found.seconds, most=target)]
        results.append(verdict(found.peak_mb, most=MOST_MB))
        bound = f"{'' if target is None else f'{target} s, '}{MOST_MB:,} MB"
        figures = f"{found.seconds:.1f}", f"{found.cpu:.1f}", f"{found.peak_mb:.0f}"
        rows.append((name, *figures, bound, ", ".join(results)))
    if rows:
        table("Commands", ("view", "seconds", "CPU", "peak MB", "target", ""), rows)
    if (page := out / "report.html").exists():
        print(f"\nThe report has {page.stat().st_size / 1e6:.1f} MB.")


def live(run: Path, wanted: set[str]) -> None:
    """What goes on as long as somebody looks."""
    rows: list[tuple[object, ...]] = []
    if not wanted or "watch" in wanted:
        found = in_process(__file__, "--case", "watch", "--journal", run)
        rows.append(("watch: first screen, s", f"{found['first']:.1f}", "", ""))
        rows.append(("watch: another screen, CPU ms", f"{1000 * found['again']:.0f}", "", ""))
        peak = found["peak_mb"]
        rows.append(("watch: peak MB", f"{peak:.0f}", f"{MOST_MB:,}", verdict(peak, most=MOST_MB)))
    for name, options in (("dashboard", ()), ("page on Dask", ("--dask",))):
        if not wanted or name in wanted:
            rows += looked_at(name, in_process(__file__, "--case", "dashboard", "--journal", run, *options))
    if rows:
        table("Followed while it grows", ("what", "measured", "target", ""), rows)


def looked_at(name: str, found: dict[str, float]) -> list[tuple[object, ...]]:
    """The rows of a page."""
    first, peak, lag = TARGETS["first page"], found["peak_mb"], found["update_lag"]
    return [
        (f"{name}: page there, s", f"{found['first']:.1f}", first, verdict(found["first"], most=first)),
        (f"{name}: all read and shown, s", f"{found['complete']:.1f}", "", ""),
        (f"{name}: page and its data, kB", f"{found['document'] / 1e3:.0f}", "", ""),
        (f"{name}: loop held up by opening it, ms", f"{found['opening_lag']:.0f}", "", ""),
        (f"{name}: loop held up by reading, ms", f"{found['reading_lag']:.0f}", "", ""),
        (f"{name}: update seen after, s", f"{found['update']:.1f}", "", ""),
        (f"{name}: update, CPU ms", f"{1000 * found['update_cpu']:.0f}", "", ""),
        (f"{name}: update, kB", f"{found['update_bytes'] / 1e3:.0f}", "", ""),
        (f"{name}: loop held up by it, ms", f"{lag:.0f}", MOST_LAG, verdict(lag, most=MOST_LAG)),
        (f"{name}: peak MB", f"{peak:.0f}", f"{MOST_MB:,}", verdict(peak, most=MOST_MB)),
    ]


def main() -> None:
    arguments = parser(__doc__, None)
    arguments.add_argument("--trials", type=int, default=100_000)
    arguments.add_argument("--reports", type=int, default=50, help="per trial")
    arguments.add_argument("--journal", type=Path, help="the directory of a search; made unless given")
    arguments.add_argument("--views", default="", help="these only, separated by commas")
    arguments.add_argument("--case", choices=("watch", "dashboard", "browser"), help=argparse.SUPPRESS)
    arguments.add_argument("--dask", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("--url", help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.case == "watch":
        print(json.dumps(watch(args.journal)))
        return
    if args.case == "browser":
        browse(args.url)
        return
    if args.case == "dashboard":
        print(json.dumps(asyncio.run(dashboard(args.journal, with_dask=args.dask))))
        return
    wanted = set(filter(None, args.views.split(",")))
    with scratch() as out:
        run = args.journal or written(out / "run", args.trials, args.reports)
        commands(run, out, wanted)
        live(run, wanted)


if __name__ == "__main__":
    main()
