"""Requests to a running search: the files, and what the driver makes of them."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dhpo import NeverStop, Search, control
from dhpo._desk import Desk
from dhpo.control import Action, Answer, DriverPlace, Mailbox, Request
from dhpo.errors import DhpoError
from dhpo.events import TrialProposed
from dhpo.objectives import Objectives
from dhpo.study import Study
from dhpo.trial import Status

PATIENCE = 60.0  # seconds


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# The files


def test_a_request_comes_whole_and_is_answered(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)
    mailbox.open()
    answers: list[Answer] = []
    asker = threading.Thread(
        target=lambda: answers.append(control.send(tmp_path, Request(Action.CANCEL, 7), PATIENCE)), daemon=True
    )
    asker.start()
    while not (found := mailbox.take()):
        pass
    ((name, request),) = found
    assert request == Request(Action.CANCEL, 7)
    assert mailbox.take() == []
    mailbox.answer(name, Answer(True, "done"))
    asker.join(PATIENCE)
    assert answers == [Answer(True, "done")]
    assert [path.name for path in mailbox.folder.iterdir()] == ["driver.json"]


def test_everything_is_for_the_owner_alone(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)
    mailbox.open()
    mailbox.pause(True)
    assert mode_of(mailbox.folder) == 0o700
    assert {mode_of(path) for path in mailbox.folder.iterdir()} == {0o600}


def test_a_driver_is_known_while_it_is_there(tmp_path: Path) -> None:
    assert control.driver_of(tmp_path) is None
    mailbox = Mailbox(tmp_path)
    mailbox.open()
    assert control.driver_of(tmp_path) == DriverPlace(os.uname().nodename, os.getpid())
    mailbox.close()
    assert control.driver_of(tmp_path) is None


def test_a_new_driver_drops_what_an_earlier_one_was_asked_for_but_stays_paused(tmp_path: Path) -> None:
    first = Mailbox(tmp_path)
    first.open()
    first.pause(True)
    first.stopped()
    (first.folder / "x.request").write_text('{"action": "stop"}')
    assert (control.is_paused(tmp_path), control.was_stopped(tmp_path)) == (True, True)
    second = Mailbox(tmp_path)
    second.open()
    assert second.take() == []
    assert (control.is_paused(tmp_path), control.was_stopped(tmp_path)) == (True, False)
    assert control.unpause(tmp_path)
    assert not control.unpause(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"action": "burn"}', '{"action": "cancel", "trial": "7"}'])
def test_what_cannot_be_understood_is_told_as_such(tmp_path: Path, text: str) -> None:
    mailbox = Mailbox(tmp_path)
    mailbox.open()
    (mailbox.folder / "x.request").write_text(text)
    assert mailbox.take() == [("x", None)]
    assert mailbox.take() == []


def test_links_large_files_and_pipes_are_not_read(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)
    mailbox.open()
    (tmp_path / "secret").write_text('{"action": "stop"}')
    (mailbox.folder / "link.request").symlink_to(tmp_path / "secret")
    (mailbox.folder / "large.request").write_text(json.dumps({"action": "stop", "more": "x" * 10_000}))
    os.mkfifo(mailbox.folder / "pipe.request")
    assert {request for _, request in mailbox.take()} == {None}
    assert (tmp_path / "secret").exists()


def test_silence_is_an_error_that_withdraws_the_request(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)
    mailbox.open()
    with pytest.raises(DhpoError, match=r"no driver has answered within 0\.05 s"):
        control.send(tmp_path, Request(Action.STOP), 0.05)
    assert mailbox.take() == []


def test_a_folder_that_vanishes_harms_no_driver(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)
    mailbox.open()
    (mailbox.folder / "driver.json").unlink()
    mailbox.folder.rmdir()
    assert mailbox.take() == []
    mailbox.answer("x", Answer(True, ""))
    mailbox.pause(True)
    mailbox.close()


# The driver


class Driver:
    """A desk at work, and what it has done."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.done: list[str] = []
        self.woken = asyncio.Event()
        self.desk = Desk(directory, lambda: self.done.append("drain"), lambda: self.done.append("stop"), self.woken.set)

    async def ask(self, action: Action, trial: int | None = None) -> Answer:
        return await asyncio.to_thread(control.send, self.directory, Request(action, trial), PATIENCE)


def attended(directory: Path, scenario: Callable[[Driver], Awaitable[None]]) -> Driver:
    async def main() -> Driver:
        driver = Driver(directory)
        async with driver.desk.attended():
            await asyncio.wait_for(scenario(driver), 2 * PATIENCE)
        return driver

    return asyncio.run(main())


def test_stop_drains_and_stop_now_ends(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        assert (await driver.ask(Action.STOP)).done
        assert (await driver.ask(Action.STOP_NOW)).done

    assert attended(tmp_path, scenario).done == ["drain", "stop"]
    assert control.was_stopped(tmp_path)
    assert control.driver_of(tmp_path) is None


def test_pause_lasts_until_unpause_beyond_the_driver(tmp_path: Path) -> None:
    async def pause(driver: Driver) -> None:
        assert not driver.desk.paused
        assert await driver.ask(Action.PAUSE) == Answer(True, "no more trials start; those that run go on")
        assert driver.desk.paused
        assert driver.woken.is_set()
        assert (await driver.ask(Action.PAUSE)).text == "it is paused already"

    async def unpause(driver: Driver) -> None:
        assert driver.desk.paused
        assert f"dhpo unpause {tmp_path}" in (driver.desk.status() or "")
        assert (await driver.ask(Action.UNPAUSE)).done
        assert (driver.desk.paused, driver.desk.status()) == (False, None)

    attended(tmp_path, pause)
    assert control.is_paused(tmp_path)
    attended(tmp_path, unpause)
    assert not control.is_paused(tmp_path)


def test_a_trial_is_said_to_be_cancelled_once_that_is_journalled(tmp_path: Path) -> None:
    study = Study(Objectives.parse({"a": "MIN"}), NeverStop().bind(1, max_t=None, seed=0), 0)
    study.apply(TrialProposed(0.0, 0, {"x": 1.0}, 0, "random", 0))

    async def scenario(driver: Driver) -> None:
        asked = asyncio.create_task(driver.ask(Action.CANCEL, 0))
        await driver.woken.wait()
        events = driver.desk.cancellations(study, 1.0)
        assert [event.trial for event in events] == [0]
        assert driver.desk.cancellations(study, 1.0) == []
        assert not asked.done()
        for event in events:
            study.apply(event)
        driver.desk(events, study)
        assert await asked == Answer(True, "trial 0 is cancelled")
        for number, text in ((0, "trial 0 has ended already: it is CANCELLED"), (5, "there is no trial 5")):
            driver.woken.clear()
            asked = asyncio.create_task(driver.ask(Action.CANCEL, number))
            await driver.woken.wait()
            assert driver.desk.cancellations(study, 1.0) == []
            answer = await asked
            assert not answer.done
            assert text in answer.text

    attended(tmp_path, scenario)


def test_whoever_waits_when_the_run_ends_learns_of_it(tmp_path: Path) -> None:
    asked: list[asyncio.Task[Answer]] = []

    async def main() -> Answer:
        driver = Driver(tmp_path)
        async with driver.desk.attended():
            asked.append(asyncio.create_task(driver.ask(Action.CANCEL, 0)))
            await asyncio.wait_for(driver.woken.wait(), PATIENCE)
        return await asked[0]

    assert asyncio.run(main()) == Answer(False, "the run has ended meanwhile")


def test_a_directory_that_cannot_be_written_to_stops_nothing(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / control.FOLDER).write_text("a file in the way")

    async def scenario(driver: Driver) -> None:
        assert not driver.desk.paused

    attended(tmp_path, scenario)
    assert "cannot be stopped or paused from outside" in caplog.text


# A search


def test_a_search_is_paused_unpaused_and_loses_a_trial_by_a_request(tmp_path: Path) -> None:
    """The first two trials wait to be let go. What is asked for comes from a thread, as from another process."""
    began, go = threading.Semaphore(0), threading.Event()

    def train(config: Any, report: Any) -> None:
        report(epoch=1, objective=config.x)
        began.release()
        if report.trial < 2:
            go.wait(PATIENCE)
        report(epoch=2, objective=config.x)

    search = Search(
        {"x": (0.0, 1.0)}, train, cluster="threads", searcher="random", log_dir=tmp_path, resources={"num_cpus": 1},
        stopper=NeverStop(time_attr="epoch"),
    )  # fmt: skip
    said: list[Answer] = []

    def person() -> None:
        began.acquire(timeout=PATIENCE)
        said.append(control.send(tmp_path, Request(Action.PAUSE), PATIENCE))
        said.append(control.send(tmp_path, Request(Action.CANCEL, 0), PATIENCE))
        go.set()
        said.append(control.send(tmp_path, Request(Action.UNPAUSE), PATIENCE))

    asker = threading.Thread(target=person, daemon=True)
    asker.start()
    results = search.run(5, progress=False)
    asker.join(PATIENCE)
    assert [answer.done for answer in said] == [True, True, True]
    statuses = results.statuses()
    assert statuses.pop(0) is Status.CANCELLED
    assert set(statuses.values()) == {Status.COMPLETED}
    assert len(statuses) == 4
    frame = results.to_frame().set_index("job_id")
    assert frame["job_status"].to_dict() == {0: "CANCELLED", 1: "DONE", 2: "DONE", 3: "DONE", 4: "DONE"}
    assert frame["m:resource"][0] == 1
    assert not results.failures()["trial"].tolist()
