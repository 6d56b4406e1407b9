"""What dhpo's own Dask scheduler does otherwise than Dask's."""

from __future__ import annotations

import asyncio
import inspect
import resource
from collections.abc import Awaitable, Callable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, Event, Scheduler, Worker, versions
from distributed.comm import CommClosedError
from distributed.scheduler import SchedulerState

from dhpo.clusters._direct_send import DirectSend
from dhpo.clusters._own_scheduler import OwnScheduler, compared_with_one
from dhpo.clusters._scheduler import Roll, make_room


def test_a_version_that_differs_is_told() -> None:
    same = versions.get_versions()
    other = deepcopy(same)
    other["packages"]["distributed"] = "1.0"
    workers = {f"tcp://{i}": same for i in range(3)}
    assert compared_with_one(same, workers, same, "w")["warning"] == ""
    assert "distributed" in compared_with_one(same, workers, other, "w")["warning"]
    numpy = deepcopy(same)
    numpy["packages"]["numpy"] = "1.0"
    assert "numpy" in compared_with_one(same, workers, numpy, "w")["warning"]


def test_dask_still_calls_what_is_replaced() -> None:
    """Where this fails, a new release of Dask does something in another way: look at ``_own_scheduler``."""
    assert "error_message" in inspect.unwrap(Scheduler.add_worker).__code__.co_names
    assert '"remove-worker"' in inspect.getsource(inspect.unwrap(Scheduler.remove_worker))
    assert "worker_send" in inspect.unwrap(Scheduler.remove_worker).__code__.co_names
    for name in (
        "add_resources", "release_resources", "decide_worker_non_rootish", "decide_worker_rootish_queuing_enabled",
        "handle_worker",
    ):  # fmt: skip
        assert name in Scheduler.__dict__ or name in SchedulerState.__dict__


def with_cluster(
    n_workers: int, resources: dict[str, float], body: Callable[[OwnScheduler, list[Worker], Client], Awaitable[None]]
) -> None:
    async def run() -> None:
        async with OwnScheduler(host="127.0.0.1", port=0, dashboard_address=":0") as scheduler:
            made = [
                Worker(scheduler.address, nthreads=2, dashboard=False, resources=resources) for _ in range(n_workers)
            ]
            workers = await asyncio.gather(*made)
            async with Client(scheduler.address, asynchronous=True) as client:
                await body(scheduler, workers, client)
            await asyncio.gather(*(worker.close() for worker in workers))

    asyncio.run(asyncio.wait_for(run(), 120))


def hold(name: str, number: int) -> int:
    Event(name).wait()
    return number


@pytest.mark.parametrize("each", [1.0, 0.5])
def test_trials_with_resources_are_spread_without_a_look_at_every_worker(each: float) -> None:
    async def body(scheduler: OwnScheduler, workers: list[Worker], client: Client) -> None:
        scheduler.valid_workers = lambda ts: pytest.fail("looked at every worker")  # type: ignore[method-assign]
        n = round(len(workers) / each)
        for turn in range(3):
            futures = client.map(hold, [f"go-{turn}"] * n, range(n), pure=False, resources={"GPU": each})
            while sum(len(ws.processing) for ws in scheduler.workers.values()) < n:
                await asyncio.sleep(0.01)
            assert {len(ws.processing) for ws in scheduler.workers.values()} == {round(1 / each)}
            await Event(f"go-{turn}").set()
            assert await client.gather(futures) == list(range(n))
            del futures

    with_cluster(4, {"GPU": 1.0}, body)


def test_what_has_no_room_at_once_is_left_to_dask() -> None:
    async def body(scheduler: OwnScheduler, workers: list[Worker], client: Client) -> None:
        other = await Worker(scheduler.address, nthreads=1, dashboard=False, resources={"disk": 1.0})
        futures = client.map(hold, ["go"] * 6, range(6), pure=False, resources={"GPU": 1.0})
        await Event("go").set()
        assert await client.gather(futures) == list(range(6))
        nowhere = client.submit(hold, "go", 1, pure=False, resources={"GPU": 3.0})
        await asyncio.sleep(0.2)
        assert not nowhere.done()
        extra = await Worker(scheduler.address, nthreads=1, dashboard=False, resources={"GPU": 4.0})
        assert await nowhere == 1
        await extra.close()
        await other.close()

    with_cluster(2, {"GPU": 1.0}, body)


def test_a_worker_that_leaves_is_no_news_to_the_others_and_its_task_runs_elsewhere() -> None:
    async def body(scheduler: OwnScheduler, workers: list[Worker], client: Client) -> None:
        told: list[str] = []
        for worker in workers:
            worker.handle_stimulus = _noting(worker.handle_stimulus, told)  # type: ignore[method-assign]
        first, second = workers[:2]
        value = client.submit(hold, "go", 7, pure=False, workers=[first.address], allow_other_workers=True)
        await Event("go").set()
        assert await value == 7
        await first.close()
        # Its result has gone with it: whoever needs it has it made again.
        assert await client.submit(lambda x: x + 1, value, workers=[second.address], pure=False) == 8
        assert "RemoveWorkerEvent" not in told
        assert told

    with_cluster(3, {}, body)


def test_many_tasks_go_to_workers_that_do_nothing_without_a_look_at_every_worker() -> None:
    async def body(scheduler: OwnScheduler, workers: list[Worker], client: Client) -> None:
        scheduler.is_rootish = lambda ts: True  # type: ignore[method-assign]
        looked: list[Any] = []
        stock = SchedulerState.decide_worker_rootish_queuing_enabled
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                SchedulerState, "decide_worker_rootish_queuing_enabled", lambda self: looked.append(1) or stock(self)
            )
            futures = client.map(hold, ["go"] * 30, range(30), pure=False)
            while sum(len(ws.processing) for ws in scheduler.workers.values()) < 30:
                await asyncio.sleep(0.01)
            assert {len(ws.processing) for ws in scheduler.workers.values()} == {1}
            assert not looked
            more = client.map(hold, ["go"] * 200, range(30, 230), pure=False)  # nobody does nothing any more
            while not scheduler.queued:
                await asyncio.sleep(0.01)
            assert looked
        await Event("go").set()
        assert await client.gather([*futures, *more]) == list(range(230))

    with_cluster(30, {}, body)


class Wire:
    """A connection that takes its time."""

    def __init__(self) -> None:
        self.written: list[list[int]] = []
        self.free = asyncio.Event()
        self.is_closed = False
        self.error: Exception | None = None

    async def write(self, payload: list[int], **_: Any) -> int:
        await self.free.wait()
        if self.error is not None:
            raise self.error
        self.written.append(payload)
        return 1

    def closed(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_closed = True

    async def close(self) -> None:
        self.is_closed = True


def test_messages_of_one_turn_go_together_and_in_order() -> None:
    async def main() -> None:
        wire, stream = Wire(), DirectSend([0])
        stream.send(1)
        stream.start(wire)  # type: ignore[arg-type]
        stream.send(2, 3)
        await asyncio.sleep(0)
        stream.send(4)
        stream.send(5)
        wire.free.set()
        await stream.close()
        assert wire.written == [[0, 1, 2, 3], [4, 5]]
        assert wire.is_closed
        with pytest.raises(CommClosedError):
            stream.send(6)

    asyncio.run(main())


@pytest.mark.parametrize("error", [CommClosedError("gone"), TypeError("no message")])
def test_a_message_that_cannot_be_written_ends_no_more_than_its_connection(error: Exception) -> None:
    async def main() -> None:
        wire, stream = Wire(), DirectSend([])
        stream.start(wire)  # type: ignore[arg-type]
        wire.error = error
        wire.free.set()
        stream.send(1)
        await stream.close(10)
        assert wire.written == []
        assert wire.is_closed

    asyncio.run(main())


def _noting(handle: Callable[..., Any], told: list[str]) -> Callable[..., Any]:
    def noting(*stimuli: Any) -> Any:
        told.extend(type(stimulus).__name__ for stimulus in stimuli)
        return handle(*stimuli)

    return noting


def test_one_worker_that_closes_does_not_have_dask_compare_all_others() -> None:
    async def body(scheduler: OwnScheduler, workers: list[Worker], client: Client) -> None:
        closing = scheduler.workers[workers[0].address]
        scheduler.handle_worker_status_change("closing_gracefully", closing, "test")
        scheduler.worker_objective = lambda *args: pytest.fail("compared all")  # type: ignore[method-assign]
        futures = client.map(hold, ["go"] * 10, range(10), pure=False)
        while sum(len(ws.processing) for ws in scheduler.workers.values()) < 10:
            await asyncio.sleep(0.01)
        assert not closing.processing
        await Event("go").set()
        assert await client.gather(futures) == list(range(10))

    with_cluster(30, {}, body)


class Told:
    """Takes the place of the voice."""

    def __init__(self) -> None:
        self.news: list[dict[str, Any]] = []

    def tell(self, **news: Any) -> None:
        self.news.append(news)


def test_that_there_is_hardly_room_is_told_once() -> None:
    told = Told()
    roll = Roll(told, 10)  # type: ignore[arg-type]
    known = SimpleNamespace(workers={f"tcp://{i}": SimpleNamespace(name=f"w{i}") for i in range(12)})
    for address in known.workers:
        roll.add_worker(known, address)  # type: ignore[arg-type]
    assert [news for news in told.news if "room" in news] == [{"room": 10}]
    assert told.news.index({"room": 10}) == 9


def test_as_many_files_as_there_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        room = make_room()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
        assert room > hard // 2 - 100 or hard == resource.RLIM_INFINITY
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
