"""Trials in processes of their own: how they die, what dies with them, and what they cost the next one.

That everything else is as in threads is shown by ``test_reporter.py``, whose tests run in both.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhpo import HpProblem, Hyperband, Search
from dhpo.errors import AbandonedTrial, ClusterError, DataError, RunFunctionError, SettingError, StopTrial
from dhpo.events import Start
from dhpo.objectives import Objectives
from dhpo.trial import Decision
from dhpo.walltime import Horizon
from dhpo.worker import isolation
from dhpo.worker._process import Death, TrialProcess
from dhpo.worker.isolation import Processes
from dhpo.worker.job import CallForm, Job
from dhpo.worker.package import pack
from dhpo.worker.reporter import Record
from dhpo.worker.runner import End

Make = Callable[..., Processes]


class Channel:
    """Takes records down, answers them as told, and runs hooks at reports."""

    def __init__(self, *decisions: Decision, at_report: Callable[[Channel, Record], None] | None = None) -> None:
        self.records: list[Record] = []
        self.horizon: Horizon | None = None
        self.unit = 0.0
        self.left: float | None = None
        self.began = threading.Event()  # at the first report
        self._decisions = list(decisions)
        self._at_report = at_report

    def send(self, record: Record) -> None:
        self.records.append(record)
        self.began.set()
        if self._at_report is not None:
            self._at_report(self, record)

    def ask(self, record: Record) -> Decision:
        self.send(record)
        return self._decisions.pop(0)

    def grace(self) -> float | None:
        return self.left

    def values(self, name: str) -> list[Any]:
        return [record.values[name] for record in self.records]


def start(number: int = 7, **more: Any) -> Start:
    return Start(number, 1, {"x": 2.0, "number": number}, more.pop("milestones", ()), more.pop("max_t", None), **more)


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes the processes for a run function; afterwards they are gone."""
    opened: list[Any] = []

    def make(function: Any, data: Any = None, *, environments: Any = ({},), **job: Any) -> Processes:
        packed = pack(function, data, directory=None)
        shared = Job("id", Objectives.parse(), CallForm.of(function, has_data=data is not None), **job)
        opened.append((packed, Processes(shared, packed.package, packed.read, environments)))
        return opened[-1][1]  # type: ignore[no-any-return]

    yield make
    for packed, processes in opened:
        processes.close()
        packed.close()


def run(processes: Processes, channel: Channel | None = None, **started: Any) -> End:
    return processes.run(start(**started), channel or Channel(), "worker")


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it comes true in time; for what the system does by itself and nobody is told of."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        threading.Event().wait(0.02)
    return condition()


# How trials die.


def segmentation_fault(config: Any, report: Any) -> None:
    import ctypes

    for epoch in range(1, 4):
        report(epoch=epoch, objective=0.0)
    ctypes.string_at(0)


@pytest.mark.parametrize(
    ("death", "error"),
    [
        (lambda: os._exit(3), "exit_code_3: the trial's process ended itself before the run function had returned"),
        (lambda: os._exit(0), "exit_code_0: "),
        (lambda: os.abort(), "SIGABRT: the trial's process was killed by this signal (Aborted)"),
        (lambda: signal.raise_signal(signal.SIGKILL), "SIGKILL: the trial's process was killed, not by dhpo: probably"),
        (lambda: signal.raise_signal(signal.SIGRTMIN + 3), f"signal_{signal.SIGRTMIN + 3}: "),
    ],
)
def test_a_death_is_a_failed_trial_that_says_of_what(
    make: Make, monkeypatch: pytest.MonkeyPatch, death: Any, error: str
) -> None:
    monkeypatch.setattr(isolation, "_DOUBT", 0.0)

    def train(config: Any, report: Any) -> None:
        for epoch in range(1, 4):
            report(epoch=epoch, objective=0.0)
        death()

    channel = Channel()
    end = run(make(train, time_attr="epoch"), channel)
    assert (end.kind, end.values, end.index, end.worker) == ("failed", None, 3, "worker")
    assert end.error.startswith(error)
    assert channel.values("epoch") == [1, 2, 3]  # what it had reported counts
    assert 0 < end.started <= end.ended


def test_a_crash_shows_where_in_the_run_function_it_was(make: Make) -> None:
    end = run(make(segmentation_fault))
    assert end.error.startswith("SIGSEGV: ")
    assert "in segmentation_fault" in end.traceback


def test_running_out_of_memory_says_how_much_it_took(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_DOUBT", 0.0)

    def train(config: Any) -> None:
        taken = bytearray(300_000_000)
        os.kill(os.getpid(), signal.SIGKILL if taken else 0)

    error = run(make(train)).error
    gigabytes = float(error.partition("up to ")[2].removesuffix(" GiB"))
    assert 0.27 < gigabytes < 1


def test_deaths_are_told_apart() -> None:
    assert "probably out of memory" in str(Death(None, 0, ""))
    assert "GiB" not in str(Death(signal.SIGKILL, 0, ""))
    assert str(Death(signal.SIGBUS | 0x80, 5, "")).startswith("SIGBUS: ")
    assert str(Death(77 << 8, 5, "")).startswith("exit_code_77: ")


def test_an_end_by_what_ends_the_worker_too_is_no_failure(make: Make) -> None:
    def train(config: Any, report: Any) -> None:
        report(objective=0.0)
        signal.raise_signal(signal.SIGKILL)

    channel = Channel(at_report=lambda channel, record: setattr(channel, "left", 100.0))
    assert run(make(train), channel).kind == "abandoned"


def test_what_batch_systems_send_to_all_processes_is_left_to_the_worker(make: Make) -> None:
    def train(config: Any) -> Any:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
            os.kill(os.getppid(), number)  # the warden
        child = os.fork()
        if not child:
            signal.pause()
        os.kill(child, signal.SIGTERM)  # as multiprocessing ends its workers
        return {"objective": 1.0, "child": os.waitpid(child, 0)[1]}

    end = run(make(train))
    assert (end.kind, end.metadata) == ("completed", {"child": signal.SIGTERM})


# Time limits, cancellation, and what dies with a trial.


def with_descendants(config: Any, report: Any) -> None:
    """Starts a process, one in a session of its own, and an orphan; then holds the interpreter's lock for ever."""
    sleeps = [subprocess.Popen(["sleep", "1000"]), subprocess.Popen(["sleep", "1000"], start_new_session=True)]
    script = "sleep 1000 > /dev/null 2>&1 & echo $!"
    orphan = int(subprocess.run(["setsid", "sh", "-c", script], capture_output=True, text=True, check=True).stdout)
    report(objective=0.0, pids=[os.getpid(), os.getppid(), orphan, *(sleep.pid for sleep in sleeps)])
    sum(range(10**15))


def test_a_time_limit_is_hard_and_takes_all_descendants_along(make: Make) -> None:
    channel = Channel()
    end = run(make(with_descendants, trial_timeout=1.0), channel)
    assert (end.kind, end.index) == ("timed_out", 1)
    assert end.ended - end.started >= 1.0
    (pids,) = channel.values("pids")
    assert len(pids) == 5
    assert all(map(is_gone, pids))


def test_descendants_go_with_a_trial_that_dies_by_itself_too(make: Make) -> None:
    def train(config: Any, report: Any) -> None:
        report(objective=0.0, pids=[subprocess.Popen(["sleep", "1000"], start_new_session=True).pid])
        os._exit(1)

    channel = Channel()
    assert run(make(train), channel).kind == "failed"
    assert all(map(is_gone, channel.values("pids")[0]))


def test_a_trial_that_is_given_up_is_killed(make: Make) -> None:
    channel = Channel(at_report=lambda channel, record: setattr(channel, "left", 0.0))
    assert run(make(with_descendants), channel).kind == "abandoned"
    assert all(map(is_gone, channel.values("pids")[0]))


def test_one_whose_worker_is_closing_may_come_to_its_next_report(make: Make, tmp_path: Path) -> None:
    def train(config: Any, report: Any) -> None:
        report(objective=0.0)
        try:
            while True:
                report(objective=0.0)
        finally:
            (report.checkpoint_dir.parent / "saved").touch()

    def close(channel: Channel, record: Record) -> None:
        channel.left = 1000.0
        raise AbandonedTrial

    end = run(make(train, checkpoint_root=str(tmp_path)), Channel(at_report=close))
    assert end.kind == "abandoned"
    assert (tmp_path / "saved").exists()


def test_close_kills_what_runs_and_waits_for_it(make: Make) -> None:
    processes, channel = make(with_descendants), Channel()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run, processes, channel)
        assert channel.began.wait(60)
        processes.close()
        assert all(map(is_gone, channel.values("pids")[0]))
        assert future.result(60).kind == "abandoned"


@pytest.mark.parametrize("decision", [Decision.STOP, Decision.PAUSE])
@pytest.mark.parametrize("way", ["crash", "hang"])
def test_what_goes_wrong_after_the_end_was_told_changes_nothing_about_it(
    make: Make, decision: Decision, way: str
) -> None:
    def train(config: Any, report: Any) -> None:
        try:
            report(epoch=1, objective=0.0)
        finally:
            os._exit(9) if way == "crash" else sum(range(10**15))

    end = run(make(train, time_attr="epoch", trial_timeout=1.0), Channel(decision), milestones=(1,))
    expected = ("completed", True) if decision is Decision.STOP else ("paused", False)
    assert (end.kind, end.stopped, end.index, end.error) == (*expected, 1, "")


def test_a_complete_trial_may_crash(make: Make) -> None:
    def train(config: Any, report: Any) -> None:
        try:
            report(epoch=4, objective=0.0)
        except StopTrial:
            os._exit(9)

    end = run(make(train, time_attr="epoch"), max_t=4)
    assert (end.kind, end.stopped, end.index) == ("completed", False, 1)


_WORKER = """
import os, sys, signal
sys.path[:0] = {path!r}
from test_isolation import Channel, Processes, with_descendants, start, pack, Job, Objectives, CallForm
packed = pack(with_descendants, None, directory=None)
job = Job("id", Objectives.parse(), CallForm.of(with_descendants, has_data=False))
say = lambda channel, record: print(record.values["pids"], flush=True)
Processes(job, packed.package, packed.read).run(start(), Channel(at_report=say), "worker")
"""


def test_nothing_survives_a_killed_worker() -> None:
    program = _WORKER.format(path=[str(Path(__file__).parent)])
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pids = json.loads(worker.stdout.readline())
        worker.kill()
    assert wait_until(lambda: all(map(is_gone, pids)))


def test_a_trial_does_not_outlive_its_warden(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_DOUBT", 0.0)
    channel = Channel(at_report=lambda channel, record: os.kill(record.values["pids"][1], signal.SIGKILL))
    end = run(make(with_descendants), channel)
    assert (end.kind, end.error.partition(":")[0]) == ("failed", "SIGKILL")
    pids = channel.values("pids")[0]
    assert wait_until(lambda: is_gone(pids[0]))
    for pid in pids[2:]:  # nobody was left to do it
        os.kill(pid, signal.SIGKILL)


# One process for many trials.


def test_a_process_is_used_again_until_something_may_be_wrong_with_it(make: Make) -> None:
    def train(config: Any, report: Any) -> Any:
        report(objective=0.0, pid=os.getpid())
        match config.number:
            case 1:
                return "F_reason"
            case 2:
                raise ValueError("this configuration makes no sense")
            case 3:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case 4:
                os._exit(1)

    processes, channel = make(train), Channel()
    kinds = [run(processes, channel, number=number).kind for number in (0, 1, 2, 0, 3, 0, 4, 0)]
    assert kinds == ["completed", *["failed"] * 2, *["completed", "failed"] * 2, "completed"]
    pids = channel.values("pid")
    assert [pids.index(pid) for pid in pids] == [0, 0, 0, 0, 0, 5, 5, 7]


def test_a_process_that_died_while_it_was_idle_costs_no_trial(make: Make) -> None:
    def train(config: Any, report: Any) -> None:
        report(objective=0.0, pid=os.getpid())

    processes, channel = make(train), Channel()
    assert run(processes, channel).kind == "completed"
    os.kill(channel.values("pid")[0], signal.SIGKILL)
    assert run(processes, channel).kind == "completed"
    assert len(set(channel.values("pid"))) == 2


def test_trials_that_run_at_once_have_a_process_and_an_environment_each(make: Make) -> None:
    meeting = threading.Barrier(2)

    def train(config: Any, report: Any) -> Any:
        report(objective=0.0)
        return {"objective": 0.0, "gpu": os.environ["GPU"], "pid": os.getpid()}

    processes = make(train, environments=[{"GPU": "0"}, {"GPU": "1"}])
    for _ in range(2):
        with ThreadPoolExecutor(2) as pool:
            channels = [Channel(at_report=lambda channel, record: meeting.wait(60) and None) for _ in range(2)]
            ends = list(pool.map(lambda channel: run(processes, channel), channels))
        assert {end.metadata["gpu"] for end in ends} == {"0", "1"}
        assert len({end.metadata["pid"] for end in ends}) == 2
    # A third one, with both slots taken, is at least no worse off than another.
    assert run(processes).metadata["gpu"] in "01"


def test_the_process_ends_itself_when_it_is_no_longer_needed(make: Make, tmp_path: Path) -> None:
    def train(config: Any) -> float:
        import atexit

        atexit.register((tmp_path / "left").touch)
        return 1.0

    processes = make(train)
    assert run(processes).kind == "completed"
    processes.close()
    assert (tmp_path / "left").exists()


def test_one_that_will_not_end_itself_is_killed(make: Make) -> None:
    def train(config: Any) -> Any:
        threading.Thread(target=threading.Event().wait).start()  # Python waits for it at its end
        return {"objective": 1.0, "pid": os.getpid()}

    processes = make(train)
    end = run(processes)
    processes.close()
    assert is_gone(end.metadata["pid"])


def test_output_passes_through(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    def train(config: Any) -> None:
        print("to a person")
        print("to another", file=sys.stderr)
        os._exit(0)

    run(make(train))
    captured = capfd.readouterr()
    assert "to a person\n" in captured.out
    assert "to another\n" in captured.err


# Loading.


def test_data_is_mapped_not_copied(make: Make) -> None:
    array = np.arange(100_000.0)

    def train(config: Any, report: Any, data: Any) -> Any:
        with open("/proc/self/maps") as file:
            where = data["X"].__array_interface__["data"][0]
            ranges = [line.split() for line in file]
        kind = next(f for f in ranges if int(f[0].split("-")[0], 16) <= where < int(f[0].split("-")[1], 16))
        return {"objective": float(data["X"].sum()), "mode": kind[1], "of": kind[-1], "w": data["X"].flags.writeable}

    end = run(make(train, {"X": array}))
    assert end.values == {"objective": array.sum()}
    assert (end.metadata["mode"], end.metadata["w"]) == ("r--s", False)


def test_data_comes_through_the_worker_where_its_file_is_not_seen(make: Make) -> None:
    array = np.arange(3_000_000.0)  # more than one piece

    def train(config: Any, report: Any, data: Any) -> float:
        return float(data["X"].sum())

    processes = make(train, {"X": array})
    processes._package = replace(processes._package, path=None)
    assert run(processes).values == {"objective": array.sum()}


def test_an_error_of_the_way_to_the_data_is_passed_on(make: Make) -> None:
    processes = make(lambda config, report, data: 1.0, {"X": np.arange(10_000)})
    processes._package = replace(processes._package, path=None)
    processes._fetch = lambda offset, length: (_ for _ in ()).throw(DataError("the driver has gone"))
    with pytest.raises(DataError, match="the driver has gone"):
        run(processes)


class Unloadable:
    def __init__(self, way: str) -> None:
        self.way = way

    def __call__(self, config: Any) -> float:
        return 1.0

    def __reduce__(self) -> Any:
        return _load, (self.way,)


def _load(way: str) -> Unloadable:
    if way == "raise":
        raise ImportError("no module of that name")
    os._exit(5)


def test_a_run_function_that_cannot_be_loaded_is_an_error_of_the_search(make: Make) -> None:
    with pytest.raises(RunFunctionError, match="no module of that name"):
        run(make(Unloadable("raise")))


def test_a_death_while_loading_is_told_as_such(make: Make) -> None:
    end = run(make(Unloadable("die")))
    assert (end.kind, end.error.partition(":")[0]) == ("failed", "exit_code_5")
    assert end.error.endswith("as it loaded the run function and its data")


# Reports.


def test_the_end_of_the_job_and_its_changes_reach_the_trial(make: Make) -> None:
    def train(config: Any, report: Any) -> None:
        report(objective=0.0, ends_at=report.ends_at)
        while report.ends_at is None:
            pass
        report(objective=0.0, ends_at=report.ends_at)

    end_time = time.time() + 10**6
    channel = Channel(at_report=lambda channel, record: setattr(channel, "horizon", Horizon(end_time, 10.0**7)))
    processes = make(train)
    assert run(processes, channel).kind == "completed"
    assert channel.values("ends_at") == [None, end_time]


def test_a_forked_process_cannot_report(make: Make) -> None:
    def train(config: Any, report: Any) -> Any:
        child = os.fork()
        if not child:
            try:
                report(objective=0.0)
            except RuntimeError:
                os._exit(8)
            os._exit(9)
        return {"objective": 1.0, "code": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}

    channel = Channel()
    assert run(make(train), channel).metadata == {"code": 8}
    assert not channel.records


def test_reports_may_come_from_several_threads_of_the_run_function(make: Make) -> None:
    def train(config: Any, report: Any) -> None:
        thread = threading.Thread(target=lambda: report(objective=1.0))
        thread.start()
        thread.join()
        report(objective=2.0)

    channel = Channel()
    assert run(make(train), channel).kind == "completed"
    assert channel.values("objective") == [1.0, 2.0]


def test_what_is_no_message_ends_the_trial(make: Make) -> None:
    def train(config: Any) -> None:
        for descriptor in [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]:
            try:
                os.write(descriptor, b"\0\0\0\4rubbish!" * 3)
            except OSError:
                continue
        threading.Event().wait()

    end = run(make(train))
    assert end.kind == "failed"
    assert "cannot read what the trial's process sends" in end.error


def test_processes_that_cannot_be_started_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(ClusterError, match="no process for a trial can be started"):
        TrialProcess({})


# Searches without Dask.


def search(problem: HpProblem, function: Any, cluster: str, **more: Any) -> Search:
    return Search(problem, function, cluster=cluster, isolation="process", searcher="random", random_state=1, **more)


@pytest.mark.parametrize("cluster", ["serial", "threads"])
def test_a_search_outlives_its_trials(problem: HpProblem, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_DOUBT", 0.0)

    def train(config: Any, report: Any) -> None:
        for epoch in range(1, 10):
            report(epoch=epoch, objective=config.x, pid=os.getpid())
        if report.trial % 4 == 1:
            signal.raise_signal(signal.SIGKILL)
        if report.trial % 4 == 2:
            raise ValueError("no")

    results = search(problem, train, cluster, stopper=Hyperband(max_t=9, type="stopping")).run(16, progress=False)
    statuses = results.statuses()
    assert len(statuses) == 16
    assert {statuses[number] for number in statuses if number % 4 in (0, 3)} <= {"COMPLETED", "STOPPED"}
    history = results.training_history
    assert os.getpid() not in {entry["pid"] for entries in history.values() for entry in entries}
    for number, entries in history.items():
        assert len(entries) in ((1, 3) if statuses[int(number)] == "STOPPED" else (9,))


def test_a_search_in_which_every_trial_hangs_comes_to_its_end(problem: HpProblem) -> None:
    results = search(problem, lambda config: sum(range(10**15)), "threads", trial_timeout=0.5).run(3, progress=False)
    assert list(results.statuses().values()) == ["TIMED_OUT"] * 3


def test_what_runs_at_the_end_of_a_search_is_killed(problem: HpProblem, tmp_path: Path) -> None:
    def train(config: Any) -> None:
        (tmp_path / str(os.getpid())).touch()
        sum(range(10**15))

    search(problem, train, "threads").run(time_out=3, progress=False)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert pids
    assert all(map(is_gone, pids))


def test_gpus_and_threads_are_pinned_per_trial(problem: HpProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")

    def train(config: Any) -> Any:
        return {"objective": 0.0, **{name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}}

    resources = {"num_cpus": 2, "num_gpus": 2}
    frame = search(problem, train, "serial", resources=resources).run(2, progress=False).to_frame()
    assert list(frame["m:CUDA_VISIBLE_DEVICES"]) == ["4,5"] * 2
    assert list(frame["m:OMP_NUM_THREADS"]) == ["2"] * 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5,6"


def test_a_run_function_that_cannot_be_loaded_ends_the_search(problem: HpProblem) -> None:
    with pytest.raises(RunFunctionError, match="no module of that name"):
        search(problem, Unloadable("raise"), "serial").run(2, progress=False)


def test_isolation_has_two_values(problem: HpProblem) -> None:
    with pytest.raises(SettingError, match="isolation='container': give one of"):
        Search(problem, lambda config: 1.0, isolation="container")
