"""Several pools of workers: how trials are shared out among them, against made-up batch systems."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dhpo
from dhpo.clusters import _batch, _pool
from dhpo.clusters._batch import BatchCluster
from dhpo.clusters._controller import Phase, shares
from dhpo.clusters._jobscript import Site
from dhpo.clusters._pool import Pool
from dhpo.clusters._queue import Refused
from dhpo.clusters._settings import JobSettings
from dhpo.clusters.resolve import check_resources, resolve
from dhpo.errors import ClusterError, SettingError

# How many workers each pool is to have.


@pytest.mark.parametrize(("wanted", "limits", "connected", "expected"), [
    (100, [4, 16], [0, 0], [4, 16]),
    (3, [4, 16], [0, 0], [3, 3]),  # whichever comes first
    (3, [4, 16], [0, 2], [1, 3]),
    (3, [4, 16], [1, 2], [1, 2]),
    (3, [4, 16], [4, 2], [3, 0]),
    (5, [4, 16], [4, 4], [4, 1]),
    (0, [4, 16], [4, 2], [0, 0]),
    (100, [4, 16], [4, 2], [4, 16]),
])  # fmt: skip
def test_shares(wanted: int, limits: list[int], connected: list[int], expected: list[int]) -> None:
    assert shares(wanted, limits, connected) == expected


POOLS = st.lists(
    st.tuples(st.integers(1, 20), st.integers(0, 20)).map(lambda p: (max(p), p[1])), min_size=1, max_size=4
)


@settings(deadline=None, max_examples=200)
@given(wanted=st.integers(0, 60), pools=POOLS)
def test_none_is_sent_away_while_some_are_missing_and_all_that_are_too_many_are(
    wanted: int, pools: list[tuple[int, int]]
) -> None:
    limits, connected = [limit for limit, _ in pools], [there for _, there in pools]
    shared = shares(wanted, limits, connected)
    assert all(0 <= share <= limit for share, limit in zip(shared, limits, strict=True))
    if wanted <= sum(connected):
        assert sum(shared) == wanted
        assert all(share <= there for share, there in zip(shared, connected, strict=True))
    else:
        assert all(share >= there for share, there in zip(shared, connected, strict=True))
        assert sum(shared) >= min(wanted, sum(limits))
    if len(pools) == 1:
        assert shared == [min(wanted, limits[0])]


# What a user gives.


def exports(cluster: Any, pool: int) -> list[str]:
    each: Pool = cluster._pools[pool]
    script = each.queue.script(each.settings, Site("n", Path("/l"), Path("/"), "tls://h:1", None), 7)
    return [line.removeprefix("export ") for line in script.splitlines() if line.startswith("export ")]


def test_a_list_of_clusters_is_one_cluster_of_pools() -> None:
    given = [dhpo.Slurm(4, partition="gpu", num_gpus=1, interface="ib0"), dhpo.Slurm(16, partition="cpu", num_cpus=8)]
    executor: Any = resolve(given, check_resources(None))
    cluster = executor.cluster
    assert isinstance(cluster, dhpo.Pools)
    assert cluster.names == ["gpu", "cpu"]
    assert cluster._interface == "ib0"
    assert cluster.restartable
    assert "CUDA_VISIBLE_DEVICES=''" in exports(cluster, 1)
    assert "OMP_NUM_THREADS=8" in exports(cluster, 1)
    assert not [line for line in exports(cluster, 0) if line.startswith("CUDA")]


def test_no_gpu_is_hidden_where_none_is_asked_for_or_the_user_says_which() -> None:
    neither = dhpo.Pools([dhpo.Slurm(1, job_directives=["--gpus=1"]), dhpo.Slurm(1)])
    assert not [line for pool in (0, 1) for line in exports(neither, pool) if line.startswith("CUDA")]
    told = dhpo.Pools([dhpo.Slurm(1, num_gpus=1), dhpo.PBS(1, env={"CUDA_VISIBLE_DEVICES": "3"})])
    assert "CUDA_VISIBLE_DEVICES=3" in exports(told, 1)


def test_pools_without_a_queue_of_their_own_have_names_too() -> None:
    assert dhpo.Pools([dhpo.Slurm(1, account="a"), dhpo.Slurm(1, account="b")]).names == ["slurm 1", "slurm 2"]
    assert dhpo.Pools([dhpo.Slurm(1), dhpo.PBS(1)]).names == ["slurm", "pbs"]


@pytest.mark.parametrize(("pools", "match"), [
    ([], "give the pools"),
    (["slurm"], "a pool of workers is a dhpo.Slurm"),
    ([("security", True), ("security", False)], "security: pool 'slurm 1' has 'True', pool 'slurm 2' has 'False'"),
    ([("log_directory", "a"), ("log_directory", "b")], "log_directory: .* give both the same"),
    ([("dashboard_address", ":1"), ("dashboard_address", None)], "dashboard_address"),
])  # fmt: skip
def test_pools_that_do_not_go_together_are_refused(pools: list[Any], match: str) -> None:
    clusters = [dhpo.Slurm(1, **{each[0]: each[1]}) if isinstance(each, tuple) else each for each in pools]
    with pytest.raises(SettingError, match=match):
        resolve(clusters, check_resources(None))


def test_every_pool_must_have_what_a_trial_takes() -> None:
    pools = [dhpo.Slurm(1, partition="gpu", num_gpus=1), dhpo.PBS(1, queue="cpu", num_cpus=4)]
    with pytest.raises(SettingError, match=r"a job of PBS has 0 in the pool 'cpu'.*give PBS\(\.\.\., num_gpus=1\)"):
        dhpo.Search({"x": (0.0, 1.0)}, lambda config: 1.0, cluster=pools, resources={"num_gpus": 1})
    with pytest.raises(SettingError, match="a job of Slurm has 1 in the pool 'gpu'"):
        resolve(pools, check_resources({"num_cpus": 4}))


# The jobs of two pools, by batch systems of dictionaries.


class Queue:
    """A batch system in which nothing begins by itself."""

    command = "true"

    def __init__(self) -> None:
        self.jobs: dict[str, Phase] = {}
        self.refuses: str = ""
        self.fails: Exception | None = None

    def script(self, settings: JobSettings, site: Site, number: int) -> str:
        if self.fails is not None:
            raise self.fails
        return ""

    async def submit(self, script: Path) -> str:
        if self.refuses:
            raise Refused(self.refuses, lasting=True)
        self.jobs[script.stem] = Phase.PENDING
        return script.stem

    async def poll(self, site: Site, ids: Sequence[str]) -> Mapping[str, tuple[Phase, str]]:
        return {id: (phase, "Resources") for id, phase in self.jobs.items()}

    async def cancel(self, ids: Sequence[str], *, pending: bool) -> None:
        for id in ids:
            if not pending or self.jobs.get(id) is Phase.PENDING:
                self.jobs.pop(id, None)


class Scheduler:
    """A Dask scheduler that was never started."""

    address = "tls://h:1"

    def __init__(self, log: Path, **arguments: Any) -> None:
        self.heard = arguments["heard"]
        self.asked: list[int] = []

    async def start(self) -> None:
        pass

    async def connect(self) -> None:
        return None

    async def close(self) -> None:
        pass

    def retire(self, count: int) -> None:
        self.asked.append(count)


class Stage:
    """A cluster of two pools, opened, and what a test does to it."""

    def __init__(self, directory: Path, limits: Sequence[int]) -> None:
        self.queues = [Queue() for _ in limits]
        found = dhpo.Slurm(1).settings
        pools = [
            Pool(
                f"pool {n}", queue, JobSettings(**{**fields(found), "n_workers": limit, "is_walltime_assumed": True}),
                startup_timeout=None, poll_interval=0.05,
            )
            for n, (queue, limit) in enumerate(zip(self.queues, limits, strict=True), start=1)
        ]  # fmt: skip
        self.cluster = BatchCluster(
            pools, log_directory=directory, interface=None, security=False, dashboard_address=None
        )

    @property
    def scheduler(self) -> Scheduler:
        scheduler: Any = self.cluster._scheduler
        assert isinstance(scheduler, Scheduler)
        return scheduler

    def jobs(self) -> list[int]:
        return [len(queue.jobs) for queue in self.queues]

    def begin(self, pool: int) -> list[str]:
        """All pending jobs of a pool begin, and their workers come; their names."""
        names = []
        for id, phase in self.queues[pool].jobs.items():
            if phase is Phase.PENDING:
                self.queues[pool].jobs[id] = Phase.RUNNING
                names.append(f"{id}-node-4711-1")
                self.scheduler.heard({"joined": names[-1]})
        return names

    def leave(self, *names: str) -> None:
        """Idle workers are told to leave, do, and so their jobs end."""
        self.scheduler.heard({"retired": list(names)})
        for name in names:
            for queue in self.queues:
                queue.jobs.pop(name.partition("-")[0], None)
            self.scheduler.heard({"left": name})

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)


def fields(settings: JobSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__slots__}


@pytest.fixture(name="play")
def play_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Open a cluster, run a test's coroutine on it, and close it."""
    monkeypatch.setattr(_batch, "SchedulerProcess", Scheduler)
    monkeypatch.setattr(_pool, "GRACE", 0.2)
    monkeypatch.setattr(_pool, "_FAREWELL", 0.0)

    def play(scene: Callable[[Stage], Coroutine[Any, Any, None]], *limits: int) -> None:
        async def run() -> None:
            stage = Stage(tmp_path, limits)
            await stage.cluster.open()
            try:
                await scene(stage)
            finally:
                await stage.cluster.close()
            assert stage.jobs() == [0] * len(limits)

        asyncio.run(run())

    return play


def test_all_pools_ask_and_what_is_not_needed_is_withdrawn(play: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        stage.cluster.want(3)
        await stage.until(lambda: stage.jobs() == [3, 3])
        assert not set(stage.queues[0].jobs) & set(stage.queues[1].jobs)  # by which workers are told apart
        await stage.until(lambda: stage.cluster.state().count("3 of 3 jobs pending: (Resources)") == 2)
        assert stage.cluster.state().startswith("pool 1: 3 of 3 jobs pending")
        stage.begin(1)
        await stage.until(lambda: stage.jobs() == [0, 3])
        await stage.until(lambda: stage.cluster.state() == "pool 1: 0 of 0 workers; pool 2: 3 of 3 workers")
        stage.cluster.want(100)
        await stage.until(lambda: stage.jobs() == [4, 8])

    play(scene, 4, 8)


def test_lost_workers_are_replaced_by_any_pool(play: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        stage.cluster.want(2)
        await stage.until(lambda: stage.jobs() == [2, 2])
        stage.begin(0)
        await stage.until(lambda: stage.jobs() == [2, 0])
        lost = next(iter(stage.queues[0].jobs))
        del stage.queues[0].jobs[lost]
        stage.scheduler.heard({"left": f"{lost}-node-4711-1"})
        await stage.until(lambda: stage.jobs() == [2, 1])

    play(scene, 4, 8)


def test_idle_workers_of_any_pool_leave_and_no_more_than_are_too_many(play: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        await stage.until(lambda: stage.jobs() == [2, 3])
        first, second = stage.begin(0), stage.begin(1)
        stage.cluster.want(1)
        await stage.until(lambda: sum(stage.scheduler.asked) == 4)
        assert sorted(stage.scheduler.asked) == [1, 3]  # the first pool keeps one
        # Of the first answer's workers some are the other pool's, which then does not ask again for what it has asked.
        first_asked, second_asked = stage.scheduler.asked
        idle = [*first, *second[1:]]  # the busy one is the second pool's
        stage.leave(*idle[:first_asked])
        await asyncio.sleep(0.5)  # longer than the grace
        assert len(stage.scheduler.asked) == 2
        stage.leave(*idle[first_asked : first_asked + second_asked])
        await stage.until(lambda: stage.jobs() == [0, 1])
        await asyncio.sleep(0.5)
        assert (stage.jobs(), len(stage.scheduler.asked)) == ([0, 1], 2)

    play(scene, 2, 3)


def test_a_pool_gives_up_alone_and_the_last_one_ends_it(play: Callable[..., None], caplog: Any) -> None:
    async def scene(stage: Stage) -> None:
        cluster = stage.cluster
        stage.queues[0].refuses = "invalid partition"
        await stage.until(lambda: "pool 1: given up" in cluster.state())
        await stage.until(lambda: stage.jobs() == [0, 3])
        assert cluster.failed() is None
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert len(told) == 1
        assert "for pool 1: true failed: invalid partition" in told[0]
        assert ".sh" in told[0]
        cluster._pools[1]._give_up("no luck either")
        failure = cluster.failed()
        assert failure is not None
        assert "invalid partition" in failure
        assert "no luck either" in failure
        await stage.until(lambda: stage.jobs() == [0, 0])

    play(scene, 2, 3)


def test_a_script_that_cannot_be_made_is_told_and_not_tried_for_ever(play: Callable[..., None], caplog: Any) -> None:
    async def scene(stage: Stage) -> None:
        stage.queues[0].fails = ValueError("of dask-jobqueue's")
        await stage.until(lambda: "pool 1: given up" in stage.cluster.state())
        assert any("of dask-jobqueue's" in record.getMessage() for record in caplog.records)
        await stage.until(lambda: stage.jobs() == [0, 3])

    play(scene, 2, 3)


def test_it_can_be_closed_at_any_moment(play: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        for moments in range(12):
            for _ in range(moments):
                await asyncio.sleep(0)
            async with asyncio.timeout(30):
                await stage.cluster.close()
            await stage.cluster.open()

    play(scene, 1, 1)


def test_an_assumed_walltime_is_warned_of_once(play: Callable[..., None], caplog: Any) -> None:
    async def scene(stage: Stage) -> None:
        await stage.cluster.close()
        await stage.cluster.open()

    play(scene, 1)
    told = [message for message in caplog.messages if "no walltime was given" in message]
    assert len(told) == 1
    assert "00:30:00" in told[0]


def test_where_a_command_is_missing_nothing_is_started(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [1, 1])
    stage.queues[1].command = "no-such-command"
    with pytest.raises(ClusterError, match="no-such-command"):
        asyncio.run(stage.cluster.open())
    assert not list(tmp_path.iterdir())
