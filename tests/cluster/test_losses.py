"""Searches whose workers have to end, are told to end, or die before the search does."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, Scheduler, Worker
from distributed import Status as WorkerStatus
from distributed.comm.core import CommClosedError
from renewing import Renewing
from slurm import wait_until

from dhpo import HpProblem, NeverStop, Results, Search
from dhpo import journal as journals
from dhpo.clusters._scheduler_process import SchedulerProcess
from dhpo.clusters.existing import Existing
from dhpo.errors import ClusterError
from dhpo.events import Cancel, Event, Start, TrialCompleted, TrialReported, WorkerLost
from dhpo.executors._departures import Departures
from dhpo.executors._link import Link
from dhpo.executors._outlook import Outlook
from dhpo.executors._pacing import Pacing
from dhpo.executors._reading import Reader
from dhpo.executors._runs import Run
from dhpo.executors._tasks import Tasks
from dhpo.executors.base import Inbox, WallClock
from dhpo.executors.relay import Relay
from dhpo.study import Study
from dhpo.trial import Status


def trainer(directory: Path, epochs: int, seconds: float, *, always: bool = True) -> Callable[..., None]:
    """A run function that goes on from its checkpoint, and notes each epoch that it has trained.

    It saves a checkpoint ``always`` before it reports, or only when it should.
    """

    def train(config: Any, report: Any) -> None:
        import os
        import time

        state = report.checkpoint_dir / "epoch"
        first = int(state.read_text()) + 1 if state.exists() else 1
        for epoch in range(first, epochs + 1):
            time.sleep(seconds)
            descriptor = os.open(directory / "notes.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, f"{report.trial} {epoch} {os.getpid()}\n".encode())
            os.close(descriptor)
            if always or report.should_checkpoint:
                new = state.with_name(f"new-{report.attempt}")
                new.write_text(str(epoch))
                os.replace(new, state)
            report(epoch=epoch, objective=config.x * epoch)

    return train


class Trial:
    """A search with its directory, and what it left there."""

    def __init__(self, directory: Path, epochs: int, seconds: float, *, always: bool = True) -> None:
        self.directory = directory
        self.epochs = epochs
        self.function = trainer(directory, epochs, seconds, always=always)

    def run(self, cluster: Any, n: int, watch: Callable[[Sequence[Event], Study], None] | None = None) -> Search:
        search = Search(
            {"x": (0.0, 1.0)}, self.function, cluster=cluster, stopper=NeverStop("epoch"), searcher="random",
            random_state=1, log_dir=self.directory / "run",
        )  # fmt: skip
        search.run(n, progress=False, watchers=[] if watch is None else [watch])
        return search

    def notes(self) -> list[tuple[int, ...]]:
        """(trial, epoch, process) of each epoch that was trained."""
        return [tuple(map(int, line.split())) for line in (self.directory / "notes.txt").read_text().splitlines()]

    def events(self) -> list[Event]:
        return [event for batch in journals.read(self.directory / "run")[1] for event in batch]

    def repeated(self) -> int:
        """How many epochs were trained in vain."""
        trained = Counter(note[:2] for note in self.notes())
        return trained.total() - len(trained)

    def check(self, n: int) -> None:
        """There are exactly ``n`` trials, all of them complete, and each was so once."""
        results = Results.load(self.directory / "run")
        assert list(results.statuses().values()) == [Status.COMPLETED] * n
        ends = Counter(e.trial for e in self.events() if isinstance(e, TrialCompleted))
        assert ends == dict.fromkeys(range(n), 1)

    def holes(self) -> int:
        """How many epochs are not in the history: their reports died with a worker, just after the checkpoint."""
        history = Results.load(self.directory / "run").training_history
        return sum(self.epochs - len({entry["epoch"] for entry in entries}) for entries in history.values())

    def lost(self) -> set[str]:
        """The workers whose loss is held against a trial; "" where one was lost without blame."""
        return {event.worker for event in self.events() if isinstance(event, WorkerLost)}


def test_trials_outlive_their_workers(tmp_path: Path) -> None:
    """Each trial takes longer than a worker lives, and saves a checkpoint only when it has to leave."""
    cluster, trial = Renewing(2, life=14.0), Trial(tmp_path, 30, 0.5, always=False)
    trial.run(cluster, 3)
    trial.check(3)
    assert trial.repeated() == trial.holes() == 0
    assert trial.lost() == {""}
    assert cluster.n_overdue == 0  # all left by themselves
    assert set(cluster.exits) == {0}
    assert len(cluster.exits) >= 2
    assert cluster.wanted == [3, 2, 1]


@pytest.mark.parametrize("nanny", [False, True])
def test_a_worker_that_is_told_to_end_lets_its_trial_leave(tmp_path: Path, nanny: bool) -> None:
    """As by scancel or preemption, which send SIGTERM to all processes of a job."""
    cluster, trial = Renewing(1, nanny=nanny), Trial(tmp_path, 8, 0.3, always=nanny)
    told: list[int] = []

    def watch(events: Sequence[Event], study: Study) -> None:
        if not told and any(isinstance(event, TrialReported) and event.resource == 3 for event in events):
            told.append(cluster.workers[0][0].pid)
            os.killpg(told[0], signal.SIGTERM)

    trial.run(cluster, 1, watch)
    trial.check(1)
    assert told
    assert trial.lost() == {""}
    assert trial.repeated() <= nanny  # a nanny ends its worker in the middle of an epoch
    assert cluster.exits[0] == 0


@pytest.mark.parametrize("alone", [False, True])
def test_a_worker_that_is_told_to_end_does_so_though_its_trial_does_not(tmp_path: Path, alone: bool) -> None:
    """Whether the scheduler is there or not: else the batch system kills the job, which then cannot clean up."""

    def train(config: Any, report: Any) -> float:
        import time

        while report.attempt == 1:
            (tmp_path / "begun").touch()
            time.sleep(0.05)
        return 1.0

    cluster = Renewing(1)
    search = Search({"x": (0.0, 1.0)}, train, cluster=cluster, searcher="random", log_dir=tmp_path / "run")
    ended: list[int] = []

    def tell() -> None:
        wait_until((tmp_path / "begun").exists, "the trial")
        worker, _ = cluster.workers.pop(0)  # left alone by the end of the cluster
        try:
            if alone:
                assert cluster.scheduler is not None
                cluster.scheduler.kill()
            os.killpg(worker.pid, signal.SIGTERM)
            wait_until(lambda: worker.poll() is not None, "the worker's end")
            ended.append(worker.returncode)
        finally:
            worker.kill()

    teller = threading.Thread(target=tell)
    teller.start()
    results = search.run(1, progress=False)
    teller.join()
    assert ended == [0]
    assert list(results.statuses().values()) == [Status.COMPLETED]


def test_a_worker_without_a_scheduler_ends_though_its_trial_does_not(tmp_path: Path) -> None:
    """As when the driver and the scheduler were killed."""

    def train(config: Any) -> float:
        import time

        while True:
            (tmp_path / "begun").touch()
            time.sleep(0.05)

    cluster = Renewing(1)
    search = Search({"x": (0.0, 1.0)}, train, cluster=cluster, searcher="random", log_dir=tmp_path / "run")
    cluster.restartable = False
    ended: list[int] = []

    def kill() -> None:
        wait_until((tmp_path / "begun").exists, "the trial")
        cluster.n = 0
        worker, _ = cluster.workers.pop(0)  # left alone by the end of the cluster
        assert cluster.scheduler is not None
        cluster.scheduler.kill()
        try:
            wait_until(lambda: worker.poll() is not None, "the worker's end")
            ended.append(worker.returncode)
        finally:
            worker.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ClusterError):
        search.run(1, progress=False)
    killer.join()
    assert ended == [0]


def test_a_scheduler_outlives_the_signals_that_end_its_driver(tmp_path: Path) -> None:
    """Batch systems send them to all processes of a job, and the trials are still to leave."""

    async def run() -> None:
        scheduler = SchedulerProcess(tmp_path / "log", security=None, interface="lo", dashboard_address=None)
        await scheduler.start()
        try:
            client = await scheduler.connect()
            process = scheduler._process
            assert process is not None
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
                process.send_signal(number)
                assert await client.scheduler.identity()
            await client.close()
        finally:
            await scheduler.close()
        assert process.returncode == 0

    asyncio.run(run())


def test_nobody_to_recall_is_no_error() -> None:
    """The scheduler of a driver's own may end together with it."""

    class Scheduler:
        def __getattr__(self, operation: str) -> Any:
            async def call(**message: Any) -> Any:
                if operation.startswith("dhpo_exchange"):
                    await asyncio.Event().wait()
                raise CommClosedError("it is gone")

            return call

    async def recall() -> None:
        link = Link(SimpleNamespace(scheduler=Scheduler()), "t", lambda *_: b"", dict, Inbox())
        link.recall()
        (task,) = link._tasks
        await asyncio.wait([task])
        assert task.exception() is None
        link.close()

    asyncio.run(recall())


def test_what_does_not_get_on_in_whole_lives_of_workers_fails(tmp_path: Path) -> None:
    def train(config: Any, report: Any) -> float:
        import time

        (tmp_path / f"{report.trial}-{report.attempt}").touch()
        while config.n == 1:
            time.sleep(0.05)
        return 1.0

    from dhpo.searchers.random import RandomSearcher

    searcher = RandomSearcher(initial_points=[{"n": 1}])
    cluster = Renewing(3, life=8.0)
    search = Search({"n": (1, 1000)}, train, cluster=cluster, searcher=searcher, random_state=1)
    results = search.run(4, progress=False)
    assert Counter(results.statuses().values()) == {Status.COMPLETED: 3, Status.FAILED: 1}
    (failure,) = results.failures().to_dict("records")
    assert "it got no further" in failure["error"]
    assert results.config_history[str(failure["trial"])] == {"n": 1}
    attempts = [path.name for path in tmp_path.iterdir() if path.name.startswith(f"{failure['trial']}-")]
    assert len(attempts) >= 3


def test_dead_workers_and_schedulers_cost_no_finished_trial(tmp_path: Path) -> None:
    cluster, trial = Renewing(3), Trial(tmp_path, 6, 0.2)
    rng = random.Random(1)
    kills: list[int] = []

    def watch(events: Sequence[Event], study: Study) -> None:
        """Kill workers as trials end, and the scheduler in the middle."""
        if study.n_ended >= 2 * (len(kills) + 1) and cluster.workers and cluster.scheduler is not None:
            kills.append(study.n_ended)
            if len(kills) == 3:
                cluster.scheduler.kill()
            else:
                os.killpg(rng.choice(cluster.workers)[0].pid, signal.SIGKILL)

    trial.run(cluster, 14, watch)
    assert len(kills) >= 5
    trial.check(14)
    assert trial.repeated() == 0
    assert trial.holes() <= len(kills) + 2  # the scheduler takes three trials with it


def test_the_loss_of_somebody_elses_scheduler_is_an_error(tmp_path: Path) -> None:
    cluster, trial = Renewing(1), Trial(tmp_path, 5, 0.1)
    cluster.restartable = False

    def watch(events: Sequence[Event], study: Study) -> None:
        if study.n_ended == 2 and cluster.scheduler is not None:
            cluster.scheduler.kill()

    with pytest.raises(ClusterError, match="connection to the Dask scheduler was lost"):
        trial.run(cluster, 20, watch)
    assert sum(isinstance(event, TrialCompleted) for event in trial.events()) >= 2


# Piece by piece.


def test_a_task_that_was_stolen_before_it_began_still_counts() -> None:
    """Work stealing moves a task that waits behind another to a worker that is idle, and tells no plugin."""

    async def main() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as scheduler:
            relay = Relay("t", {}, "client")
            await relay.start(scheduler)
            relay.runs.by_trial["trial-t-0-1"] = Run("trial-t-0-1", 5, "tcp://victim:1")
            scheduler.tasks["trial-t-0-1"] = SimpleNamespace(  # type: ignore[assignment]
                run_id=6, processing_on=SimpleNamespace(address="tcp://thief:1")
            )
            report = ["report", "trial-t-0-1", 6, 0, 1, 1, 1.0, {"objective": 1.0}]
            assert (await relay.report("tcp://other:1", [report]))["stale"]
            assert not (await relay.report("tcp://thief:1", [report]))["stale"]
            del scheduler.tasks["trial-t-0-1"]
            assert not (await relay.report("tcp://thief:1", [report]))["stale"]
            assert (await relay.report("tcp://victim:1", [report]))["stale"]

    asyncio.run(main())


async def running(scheduler: Scheduler, n: int) -> None:
    """Wait until the scheduler has heard that so many workers are ready."""
    async with asyncio.timeout(30):
        while len(scheduler.running) < n:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("driver_left", "leaves"), [(None, True), (600.0, True), (30.0, False)])
def test_a_worker_without_time_gets_no_task_and_leaves_where_another_may_come(
    driver_left: float | None, leaves: bool
) -> None:
    async def main() -> None:
        async with (
            Scheduler(dashboard_address=":0", port=0) as scheduler,
            Worker(scheduler.address) as short,
            Worker(scheduler.address) as long,
        ):
            await running(scheduler, 2)
            departures = Departures(scheduler, "t")
            departures.joined(short.address, left=20.0, life=3600.0)
            departures.joined(long.address, left=60.0, life=3600.0)
            departures.expect(need=1.0, unit=0.5, left=driver_left)
            assert not departures.is_drained(short.address)
            departures.expect(need=30.0, unit=0.5, left=driver_left)
            assert departures.is_drained(short.address)
            assert not departures.is_drained(long.address)
            assert [ws.address for ws in scheduler.running] == [long.address]
            departures.expect(need=1.0, unit=0.5, left=driver_left)
            assert departures.drained() == [short.address]  # once for all
            if leaves:
                await asyncio.wait_for(short.finished(), 30)
            else:
                assert scheduler.workers[short.address].status == WorkerStatus.paused
            departures.left(short.address)
            assert departures.drained() == []

    asyncio.run(main())


def test_a_worker_that_is_set_going_again_by_something_else_stays_drained() -> None:
    async def main() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as scheduler, Worker(scheduler.address) as worker:
            await running(scheduler, 1)
            departures = Departures(scheduler, "t")
            departures.told_to_end(worker.address)
            ws = scheduler.workers[worker.address]
            scheduler.handle_worker_status_change("running", ws, "memory")
            assert ws in scheduler.running
            assert departures.drained() == [worker.address]
            assert ws not in scheduler.running

    asyncio.run(main())


def test_whose_loss_is_excused() -> None:
    async def main() -> None:
        async with Scheduler(dashboard_address=":0", port=0) as scheduler:
            departures = Departures(scheduler, "t")
            now = departures.now()
            departures.joined("ends", left=5.0, life=100.0)
            departures.joined("lives", left=50.0, life=100.0)
            departures.told_to_end("told")
            short, whole = now - 10.0, now - 90.0
            cases = {("ends", short): True, ("ends", whole): False, ("lives", short): False, ("told", whole): True}
            for (worker, began), excused in (*cases.items(), (("unknown", short), False)):
                run = Run("trial-t-0-1", 1, worker, began)
                assert departures.excuses(run) == excused
            run = Run("trial-t-0-1", 1, "ends", whole)
            run.has_reported = True
            assert departures.excuses(run)

    asyncio.run(main())


def test_a_trial_that_did_not_fit_where_it_came_to_is_given_out_again_and_nobody_hears_of_it() -> None:
    tasks, start = Tasks({}), Start(4, 2, {}, (), None)
    reader = Reader(tasks, Outlook(), Pacing(0), WallClock(0.0))
    tasks.begin(start)
    key = tasks.key_of(Cancel(4, 2))
    assert reader.event(["end", key, "bounced"], 5.0) is None
    assert len(tasks) == 0
    assert tasks.ready(room=1, fits=lambda start: False) == []
    assert tasks.ready(room=1, fits=lambda start: True) == [[start]]
    tasks.begin(start)
    assert tasks.key_of(Cancel(4, 2)) != key  # Dask may still know that one


class Hopeless:
    """A cluster that tells that it waits, and then gives up."""

    def __init__(self, client: Client) -> None:
        self._existing = Existing(client)
        self.polls = 0

    async def open(self) -> Client:
        return await self._existing.open()

    async def close(self) -> None:
        await self._existing.close()

    def failed(self) -> str | None:
        self.polls += 1
        return None if self.polls < 2 else "4 jobs in a row have died at once: /usr/bin/python: No module named dhpo"


def test_a_cluster_that_gives_up_ends_the_search_with_its_reason(problem: HpProblem, client: Client) -> None:
    def train(config: Any, report: Any) -> None:
        import time

        while True:
            time.sleep(0.05)
            report(objective=1.0)

    with pytest.raises(ClusterError, match="4 jobs in a row"):
        Search(problem, train, cluster=Hopeless(client), searcher="random").run(3, progress=False)
