"""What trials may use: thread counts, and GPUs that nobody else on the node uses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from dhpo.objectives import Objectives
from dhpo.worker.job import CallForm, Job
from dhpo.worker.resources import (
    THREAD_VARIABLES,
    Devices,
    Pins,
    ThreadLimits,
    claim,
    filling,
    shares,
    thread_counts,
    visible_devices,
)


def job(num_cpus: float = 1, num_gpus: float = 0) -> Job:
    return Job("id", Objectives.parse(), CallForm(("config",)), num_cpus=num_cpus, num_gpus=num_gpus)


@pytest.fixture
def scope() -> str:
    """Nobody else's."""
    return uuid.uuid4().hex


def gpus(environment: dict[str, str]) -> list[str]:
    return environment["CUDA_VISIBLE_DEVICES"].split(",")


# Threads.


@pytest.mark.parametrize(("num_cpus", "count"), [(0.25, "1"), (1, "1"), (4, "4"), (2.9, "2")])
def test_libraries_start_as_many_threads_as_a_trial_has_processors(num_cpus: float, count: str) -> None:
    counts = thread_counts(num_cpus)
    assert counts == dict.fromkeys(THREAD_VARIABLES, count)
    assert {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"} <= counts.keys()


def test_what_a_person_has_set_stays_unless_num_cpus_says_otherwise() -> None:
    assert "OMP_NUM_THREADS" not in thread_counts(1, {"OMP_NUM_THREADS": "8"})
    assert thread_counts(1, {"OMP_NUM_THREADS": "8"})["MKL_NUM_THREADS"] == "1"
    assert thread_counts(4, {"OMP_NUM_THREADS": "8"})["OMP_NUM_THREADS"] == "4"


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_libraries_that_are_loaded_already_are_limited_and_let_go_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy.linalg  # noqa: F401  (loads a BLAS)

    limits = ThreadLimits()
    before = blas_threads()
    limits.apply(3)
    assert blas_threads() == {3}
    limits.apply(5)
    assert blas_threads() == {3}  # nothing new was loaded
    monkeypatch.setitem(sys.modules, "something_new", os)
    limits.apply(2)
    assert blas_threads() == {2}
    limits.close()
    assert blas_threads() == before


# Which GPUs there are.


@pytest.mark.parametrize(
    ("environ", "lists"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, {"CUDA_VISIBLE_DEVICES": ("2", "3")}),
        ({"CUDA_VISIBLE_DEVICES": " MIG-1/2 , GPU-ab"}, {"CUDA_VISIBLE_DEVICES": ("MIG-1/2", "GPU-ab")}),
        ({"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": ()}),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, {"CUDA_VISIBLE_DEVICES": ()}),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, {"CUDA_VISIBLE_DEVICES": ("0",)}),
        ({"HIP_VISIBLE_DEVICES": "1"}, {"HIP_VISIBLE_DEVICES": ("1",)}),
        ({"PATH": "/bin"}, {}),
    ],
)
def test_the_environment_says_which_gpus_there_are(environ: dict[str, str], lists: Any, tmp_path: Path) -> None:
    assert visible_devices(environ, tmp_path).lists == lists


def test_else_the_machine_does(tmp_path: Path) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "proc/driver/nvidia/gpus" / name).mkdir(parents=True)
    assert visible_devices({}, tmp_path).lists == {"CUDA_VISIBLE_DEVICES": ("0", "1")}
    assert len(visible_devices({"CUDA_VISIBLE_DEVICES": "1"}, tmp_path)) == 1


def test_amd_gpus_are_found_and_processors_among_their_nodes_are_not(tmp_path: Path) -> None:
    for node, number in enumerate(("0", "5332", "1221\n")):
        directory = tmp_path / f"sys/class/kfd/kfd/topology/nodes/{node}"
        directory.mkdir(parents=True)
        (directory / "gpu_id").write_text(number)
    assert visible_devices({}, tmp_path).lists == {"ROCR_VISIBLE_DEVICES": ("0", "1")}


def test_all_lists_that_are_set_are_split_alike() -> None:
    devices = Devices({"CUDA_VISIBLE_DEVICES": ("4", "5", "6"), "ROCR_VISIBLE_DEVICES": ("4", "5", "6")})
    assert devices.environment([1, 2]) == {"CUDA_VISIBLE_DEVICES": "5,6", "ROCR_VISIBLE_DEVICES": "5,6"}
    # HIP counts the devices that ROCm's own variable leaves it.
    devices = Devices({"ROCR_VISIBLE_DEVICES": ("4", "5"), "HIP_VISIBLE_DEVICES": ("0", "1")})
    assert devices.environment([1]) == {"ROCR_VISIBLE_DEVICES": "5", "HIP_VISIBLE_DEVICES": "0"}


# Who gets which.


@pytest.mark.parametrize(
    ("devices", "num_gpus", "expected"),
    [
        (4, 1, [(0,), (1,), (2,), (3,)]),
        (4, 2, [(0, 1), (2, 3)]),
        (5, 2, [(0, 1), (2, 3)]),
        (2, 0.5, [(0,), (1,), (0,), (1,)]),
        (1, 0.3, [(0,)] * 3),
        (3, 1.5, [(0, 1)]),
        (1, 2, [(0,)]),
        (0, 1, []),
        (4, 0, []),
    ],
)
def test_shares(devices: int, num_gpus: float, expected: list[tuple[int, ...]]) -> None:
    assert shares(devices, num_gpus) == expected


@settings(deadline=None, max_examples=200)
@given(devices=st.integers(0, 16), num_gpus=st.floats(0.05, 8))
def test_no_gpu_is_given_out_beyond_what_it_has(devices: int, num_gpus: float) -> None:
    given_out = [place for share in shares(devices, num_gpus) for place in share]
    assert set(given_out) <= set(range(devices))
    assert bool(given_out) == bool(devices)
    for place in set(given_out):
        assert given_out.count(place) * min(1.0, num_gpus) <= 1 + 1e-6


def test_claims_differ_until_all_are_taken_and_stay_with_who_asks_again(scope: str) -> None:
    assert [claim(scope, 3, holder) for holder in range(5)] == [0, 1, 2, 0, 1]
    assert [claim(scope, 3, holder) for holder in (2, 0)] == [2, 0]
    assert claim(f"another {scope}", 3, 0) == 0


def test_claims_of_threads_differ(scope: str) -> None:
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda i=i: numbers.append(claim(scope, 8, i))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(8))


@contextmanager
def elsewhere(program: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """What a program prints in another process, which lives on meanwhile."""
    program = f"import sys\nfrom dhpo.worker.resources import *\n{program}\nsys.stdout.flush(); sys.stdin.read()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def test_processes_of_a_node_get_different_shares_and_a_dead_one_leaves_its_own(scope: str) -> None:
    program = f"print(claim({scope!r}, 2, 0))"
    with elsewhere(program) as (number, first), elsewhere(program) as (other, _):
        assert {number, other} == {"0", "1"}
        first.kill()
        first.wait()
        assert claim(scope, 2, 0) == int(number)


# What a worker does with it.


def test_each_slot_shows_its_trial_its_own_gpus_and_thread_counts(scope: str) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "3,5,7"}
    pins = Pins(job(num_cpus=2, num_gpus=1), 2, scope, environ)
    slots = pins.slots()
    assert [gpus(slot) for slot in slots] == [["3"], ["5"]]
    assert {slot["OMP_NUM_THREADS"] for slot in slots} == {"2"}
    assert environ == {"CUDA_VISIBLE_DEVICES": "3,5,7"}  # of this process, until it is asked to change


def test_a_worker_of_threads_shows_all_its_shares_until_the_search_is_over(scope: str) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "3,5,7", "OMP_NUM_THREADS": "6"}
    before = dict(environ)
    another = f"Pins(Job('id', None, None, num_gpus=1), 1, {scope!r}, {environ})"
    with elsewhere(f"from dhpo.worker.job import Job\n{another}\nprint()"):
        pins = Pins(job(num_gpus=1), 2, scope, environ)
    pins.apply()
    assert environ["CUDA_VISIBLE_DEVICES"] == "5,7"
    assert (environ["OMP_NUM_THREADS"], environ["MKL_NUM_THREADS"]) == ("6", "1")
    pins.close()
    assert environ == before


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_where_there_is_no_gpu_or_none_is_asked_for_none_is_hidden(scope: str, num_gpus: float, tmp_path: Path) -> None:
    environ = {} if num_gpus else {"CUDA_VISIBLE_DEVICES": "0,1"}
    slots = Pins(job(num_gpus=num_gpus), 4, scope, environ, tmp_path).slots()
    assert not any("CUDA_VISIBLE_DEVICES" in slot for slot in slots)
    assert len(slots) == 1


def test_jobs_of_a_batch_system_on_one_node_count_their_gpus_for_themselves(scope: str) -> None:
    found = [
        gpus(Pins(job(num_gpus=1), 1, scope, {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_ID": number}).slots()[0])
        for number in ("11", "12")
    ]
    assert found == [["0"], ["0"]]


def test_threads_that_run_trials_are_limited_to_what_the_environment_says(scope: str) -> None:
    environ: dict[str, str] = {}
    pins = Pins(job(num_cpus=3), 1, scope, environ)
    before = blas_threads()
    pins.apply()
    pins.limit_threads()
    assert blas_threads() == {3}
    pins.close()
    assert blas_threads() == before
    assert environ == {}


@pytest.mark.parametrize(
    ("takes", "offered", "gets"),
    [
        ((1, 0), {"CPU": 8, "GPU": 2}, (1, 2)),  # of one processor the environment says more
        ((4, 1), {"CPU": 8, "GPU": 2}, (8, 2)),
        ((4, 0.5), {"CPU": 2, "GPU": 0.5}, (4, 0.5)),
        ((4, 1), {}, (4, 1)),
    ],
)
def test_a_trial_with_a_worker_for_itself_gets_all_that_it_offers(
    takes: tuple[float, float], offered: dict[str, float], gets: tuple[float, float]
) -> None:
    filled = filling(job(*takes), offered)
    assert (filled.num_cpus, filled.num_gpus) == gets
