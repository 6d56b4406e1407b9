"""What is written into job scripts, read from the queue, and laid out within an allocation. Nothing is submitted."""

from __future__ import annotations

import copy
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Security
from hypothesis import given, settings
from hypothesis import strategies as st

import dhpo
from dhpo.clusters import pbs, slurm
from dhpo.clusters._allocated import Layout, pbs_layout, seconds_left, slurm_layout, worker_script
from dhpo.clusters._command import outside
from dhpo.clusters._controller import Phase
from dhpo.clusters._jobscript import KEEP_WORKER, Site
from dhpo.clusters._settings import walltime_seconds
from dhpo.clusters.resolve import check_resources, resolve
from dhpo.errors import ClusterError, SettingError

SITE = Site("dhpo-ab12cd34", Path("/logs/dhpo-ab12cd34"), Path("/home/a user/work"), "tls://10.0.0.1:4711", None)


@pytest.fixture(autouse=True)
def _plain_configuration() -> Any:
    """Without the settings of whoever runs the tests."""
    import dask_jobqueue  # noqa: F401

    defaults = next(d["jobqueue"] for d in dask.config.defaults if "jobqueue" in d)
    with dask.config.set({"jobqueue": copy.deepcopy(defaults)}):
        yield


def script(cluster: Any, site: Site = SITE, number: int = 7) -> str:
    text: str = cluster._batch_queue().script(cluster.settings, site, number)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)  # is it a shell script at all?
    return text


def directives(text: str) -> list[str]:
    return re.findall(r"^#(?:SBATCH|PBS) (.*)$", text, re.MULTILINE)


def worker(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("keep_worker "))


# Job scripts.


def test_a_slurm_job() -> None:
    cluster = dhpo.Slurm(
        3,
        partition="long",
        account="chem",
        num_cpus=4,
        memory="16GiB",
        num_gpus=2,
        walltime="1-02:00:00",
        interface="ib0",
        job_directives=["--constraint=a100"],
        prologue=["module load cuda"],
        env={"DATA": "it's here"},
        python="/opt/py/bin/python",
    )
    text = script(cluster)
    assert directives(text) == [
        "-J dhpo-ab12cd34",
        "-p long",
        "-A chem",
        "-n 1",
        "--cpus-per-task=4",
        "--mem=16G",
        "-t 1-02:00:00",
        "-o /logs/dhpo-ab12cd34/7.log",
        "--open-mode=append",
        "--gres=gpu:2",
        "--constraint=a100",
    ]
    lines = text.splitlines()
    order = [
        "cd '/home/a user/work' || exit 1",
        "export OMP_NUM_THREADS=4",
        "module load cuda",
        "export DATA='it'\"'\"'s here'",
        "keep_worker() {",
    ]
    assert [line for line in lines if line in order] == order
    assert worker(text).startswith(
        "keep_worker 7 /opt/py/bin/python -m distributed.cli.dask_worker tls://10.0.0.1:4711 "
    )
    for part in (
        "--nthreads 1 ", "--memory-limit 0 ", "--no-nanny ", "--resources GPU=2", "--interface ib0",
        "--no-dashboard --dashboard-address 127.0.0.1:0 ",
    ):  # fmt: skip
        assert part in f"{worker(text)} "


def test_a_pbs_job() -> None:
    cluster = dhpo.PBS(
        2, queue="workq", account="chem", num_cpus=4, memory="16GiB", num_gpus=1, walltime="1-02:00:00",
        job_directives=["-W group_list=chem"],
    )  # fmt: skip
    text = script(cluster)
    assert directives(text) == [
        "-N dhpo-ab12cd34",
        "-q workq",
        "-A chem",
        "-l select=1:ncpus=4:ngpus=1:mem=16GB",
        "-l walltime=26:00:00",
        "-V",
        "-j oe",
        "-o /logs/dhpo-ab12cd34/7.pbs",
        "-W group_list=chem",
    ]
    assert len("dhpo-ab12cd34") <= 15  # what PBS allows
    lines = text.splitlines()
    log, cd = lines.index("exec >>/logs/dhpo-ab12cd34/7.log 2>&1"), lines.index("cd '/home/a user/work' || exit 1")
    assert max(i for i, line in enumerate(lines) if line.startswith("#PBS")) < log < cd


def test_what_is_not_given_is_left_to_the_batch_system() -> None:
    assert not [line for line in directives(script(dhpo.Slurm(1))) if line.startswith(("--mem", "-p", "-A", "--gres"))]
    assert "-l select=1:ncpus=1" in directives(script(dhpo.PBS(1)))
    assert "-l nodes=1:ppn=8" in directives(script(dhpo.PBS(1, num_cpus=8, resource_spec="nodes=1:ppn=8")))


def test_the_configuration_of_dask_jobqueue_counts(tmp_path: Path) -> None:
    values = {
        "n-workers": 5, "queue": "fast", "account": "bio", "cores": 8, "memory": "4GB", "walltime": "00:10:00",
        "interface": "ib1", "job-extra-directives": ["--exclusive"], "job-script-prologue": ["module load gcc"],
        "log-directory": str(tmp_path / "logs"), "local-directory": "/scratch/me", "worker-extra-args": ["--preload x"],
        "job-directives-skip": ["-n 1"], "death-timeout": 90,
    }  # fmt: skip
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in values.items()}):
        cluster = dhpo.Slurm()
        text = script(cluster)
        assert cluster.settings.n_workers == 5
        assert cluster.settings.log_directory == tmp_path / "logs"
        given = directives(text)
        assert {"-p fast", "-A bio", "--cpus-per-task=8", "--mem=4G", "-t 00:10:00", "--exclusive"} <= set(given)
        assert "-n 1" not in given
        assert "module load gcc" in text
        assert "export DHPO_SCRATCH=/scratch/me" in text
        assert "--preload x" in worker(text)
        assert "--death-timeout 90" in worker(text)
        assert dhpo.Slurm(2, queue="slow").settings.queue == "slow"
    assert not (tmp_path / "logs").exists()


def test_credentials_are_handed_on_as_files() -> None:
    secure = Security(
        require_encryption=True, tls_ca_file="/l/tls/ca.pem", tls_worker_cert="/l/tls/cert.pem",
        tls_worker_key="/l/tls/key.pem",
    )  # fmt: skip
    text = script(dhpo.Slurm(1), Site("n", Path("/l"), Path("/"), "tls://h:1", secure))
    expected = "--protocol tls --tls-ca-file /l/tls/ca.pem --tls-cert /l/tls/cert.pem --tls-key /l/tls/key.pem"
    assert expected in worker(text)
    assert "--tls" not in script(dhpo.Slurm(1))


def test_the_log_of_an_odd_directory() -> None:
    text = script(dhpo.Slurm(1), Site("n", Path("/my logs/50%"), Path("/"), "tls://h:1", None))
    assert '-o "/my logs/50%%/7.log"' in directives(text)


def test_the_output_of_a_pbs_job_in_an_odd_directory() -> None:
    text = script(dhpo.PBS(1), Site("n", Path("/my logs"), Path("/"), "tls://h:1", None))
    assert '-o "/my logs/7.pbs"' in directives(text)


def test_a_walltime_that_nobody_has_chosen_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask.config, "paths", [])
    for name in [name for name in os.environ if name.startswith("DASK_JOBQUEUE")]:
        monkeypatch.delenv(name)
    assert dhpo.Slurm(1).settings.is_walltime_assumed
    assert dhpo.PBS(1).settings.is_walltime_assumed
    assert not dhpo.Slurm(1, walltime="00:30:00").settings.is_walltime_assumed
    with dask.config.set({"jobqueue.slurm.walltime": "04:00:00"}):
        assert not dhpo.Slurm(1).settings.is_walltime_assumed
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__WALLTIME", "00:30:00")  # the same, but chosen
    assert not dhpo.Slurm(1).settings.is_walltime_assumed
    assert dhpo.PBS(1).settings.is_walltime_assumed


@pytest.mark.parametrize("bad", [
    {"n_workers": 0}, {"n_workers": 2.5}, {"num_cpus": -1}, {"num_gpus": 0.5}, {"walltime": "90"},
    {"walltime": "1:2:3:4"}, {"job_directives": "--exclusive"}, {"prologue": [1]}, {"env": {"A B": "c"}},
    {"env": {"A": 1}}, {"security": "yes"}, {"startup_timeout": 0}, {"poll_interval": 0},
])  # fmt: skip
@pytest.mark.parametrize("kind", ["Slurm", "PBS"])
def test_what_is_not_usable_is_refused(kind: str, bad: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(bad))):
        getattr(dhpo, kind)(**{"n_workers": 1, **bad})


def test_how_many_workers_must_be_said_somewhere() -> None:
    with pytest.raises(SettingError, match="DASK_JOBQUEUE__SLURM__N_WORKERS"):
        dhpo.Slurm()


@pytest.mark.parametrize(("text", "seconds"), [
    ("00:30:00", 1800), ("1-02:03:04", 93784), ("2-12", 216000), ("1-01:30", 91800), ("90:00", 5400),
    ("100:00:00", 360000), ("0", None), ("UNLIMITED", None), ("00:00:00", None),
])  # fmt: skip
def test_walltimes(text: str, seconds: int | None) -> None:
    assert walltime_seconds(text) == seconds


@given(st.integers(0, 40), st.integers(0, 23), st.integers(0, 59), st.integers(1, 59))
@settings(deadline=None, max_examples=50)
def test_walltimes_with_and_without_days_agree(d: int, h: int, m: int, s: int) -> None:
    assert walltime_seconds(f"{d}-{h}:{m}:{s}") == walltime_seconds(f"{24 * d + h}:{m}:{s}")


# The shell function around a worker.


def keep(
    tmp_path: Path, program: str, *, wait: float = 20, signal_after: str | None = None, others: int = 0
) -> tuple[int, str]:
    """Run keep_worker around a little program; return its exit status and output."""
    (tmp_path / "worker.sh").write_text(program)
    text = f"{KEEP_WORKER}\nkeep_worker 7 bash {tmp_path}/worker.sh\n"
    process = subprocess.Popen(
        ["bash", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    if signal_after:
        while not (tmp_path / signal_after).exists():
            time.sleep(0.01)
        process.terminate()
    output, _ = process.communicate(timeout=wait)
    assert len(list(tmp_path.glob("dhpo-*"))) == max(0, others - 1)  # the scratch directory is gone
    return process.returncode, output


def test_a_worker_gets_a_name_and_a_directory_of_its_own(tmp_path: Path) -> None:
    status, output = keep(tmp_path, 'echo "$@"; [[ -d $4 ]] && exit 3')
    assert status == 3
    host = socket.gethostname().partition(".")[0]
    assert re.fullmatch(rf"--name 7-{host}-\d+-1 --local-directory {tmp_path}/dhpo-\w+\n", output)


def test_a_worker_that_is_killed_starts_again_under_another_name(tmp_path: Path) -> None:
    status, output = keep(tmp_path, 'echo "$2"; [[ $2 == *-2 ]] && exit 0; kill -KILL $$')
    assert status == 0
    assert re.findall(r"-(\d)$", output, re.MULTILINE) == ["1", "2"]
    assert "killed by signal 9; starting it again" in output


def test_a_worker_that_is_killed_again_and_again_at_once_ends_the_job(tmp_path: Path) -> None:
    status, output = keep(tmp_path, "kill -SEGV $$")
    assert status == 128 + signal.SIGSEGV
    assert output.count("starting it again") == 2


def test_the_signal_to_end_is_passed_on(tmp_path: Path) -> None:
    program = f"trap 'echo told; exit 0' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done"
    status, output = keep(tmp_path, program, signal_after="up")
    assert (status, output) == (0, "told\n")


def test_what_a_killed_job_left_is_removed_by_the_next_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    hour = time.time() - 3600
    for name in ("dhpo-killed00", "dhpo-living00", "dhpo-recent00", "dhpo-foreign0", "other-thing0"):
        (tmp_path / name / "data").mkdir(parents=True)
        if name != "dhpo-foreign0":
            (tmp_path / name / "lock").touch()
        if name != "dhpo-recent00":
            os.utime(tmp_path / name, (hour, hour))
    with open(tmp_path / "dhpo-living00" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        program = f"ls {tmp_path}; flock -n $4/lock true || echo held"
        _, output = keep(tmp_path, program, others=4)
    assert output.split()[-1] == "held"  # by the worker, too
    left = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert left == {"dhpo-living00", "dhpo-recent00", "dhpo-foreign0", "other-thing0"}


# The environment.


def test_the_drivers_own_job_does_not_leak_into_those_that_it_submits() -> None:
    inside = {
        "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "2", "SLURM_CONF": "/c", "PBS_JOBID": "1", "PBS_SERVER": "s",
        "CUDA_VISIBLE_DEVICES": "3", "DHPO_WORKER_END": "5", "PATH": "/bin", "SBATCH_ACCOUNT": "a", "PMI_RANK": "0",
    }  # fmt: skip
    assert outside(inside) == {"SLURM_CONF": "/c", "PBS_SERVER": "s", "PATH": "/bin", "SBATCH_ACCOUNT": "a"}
    assert outside({"CUDA_VISIBLE_DEVICES": "3"}) == {"CUDA_VISIBLE_DEVICES": "3"}


def test_importing_dask_jobqueue_leaves_ctrl_c_alone_in_any_thread() -> None:
    program = (
        "import signal, threading, dhpo\n"
        "made = []\n"
        "thread = threading.Thread(target=lambda: made.append(dhpo.Slurm(1)))\n"
        "thread.start(); thread.join()\n"
        "print(len(made), signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "True"], done.stderr
    assert threading.main_thread().is_alive()


# What the batch systems answer.


def test_what_squeue_says() -> None:
    text = (
        "12|PENDING|Resources\n13|RUNNING|None\n14|COMPLETING|None\n15|CANCELLED|None\n16|PENDING|None\n17|REQUEUED|x\n"
    )
    assert slurm.states_of(text) == [
        ("12", (Phase.PENDING, "Resources")),
        ("13", (Phase.RUNNING, "")),
        ("16", (Phase.PENDING, "")),
        ("17", (Phase.PENDING, "x")),
    ]


QSTAT = """\
Job Id: 12.pbs-server.site.org
    Job_Name = dhpo-ab12cd34
    job_state = Q
    comment = Not Running: Insufficient amount of resource: ncpus (R: 4 A: 0
\t T: 8)
    Variable_List = PBS_O_HOME=/home/u,PBS_O_LANG=C,
\tPBS_O_WORKDIR=/home/u

Job Id: 13.pbs-server.site.org
    job_state = R
    comment = Job run at Mon Nov 22

Job Id: 14.pbs-server.site.org
    job_state = E
Job Id: 15.pbs-server.site.org
    job_state = F
Job Id: 16
    job_state = H
"""


def test_what_qstat_says() -> None:
    states = pbs.states_of(QSTAT)
    assert states["12"][0] is Phase.PENDING
    assert states["12"][1].startswith("Not Running: Insufficient amount of resource: ncpus (R: 4 A: 0")
    assert states["13"] == (Phase.RUNNING, "")
    assert states["16"] == (Phase.PENDING, "")
    assert set(states) == {"12", "13", "16"}
    torque = (
        "Job Id:\t21\n\tJob_Name = dhpo\n\tjob_state = Q\n\tResource_List.ncpus = 1\n\nJob Id:\t22\n\tjob_state = C\n"
    )
    assert pbs.states_of(torque) == {"21": (Phase.PENDING, "")}


# Allocations.

SLURM: Mapping[str, str] = {"SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_CPUS_PER_NODE": "8(x2)"}


def laid(environ: Mapping[str, str], **arguments: Any) -> Layout:
    return slurm_layout(
        environ, **{"n_workers": None, "num_cpus": None, "num_gpus": None, "launcher": None, **arguments}
    )


@pytest.mark.parametrize(("environ", "arguments", "workers", "cpus", "gpus"), [
    ({"SLURM_NTASKS": "4", "SLURM_CPUS_PER_TASK": "4"}, {}, 4, 4, 0),
    ({"SLURM_NTASKS": "4", "SLURM_CPUS_PER_TASK": "4", "SLURM_GPUS_PER_TASK": "a100:2"}, {}, 4, 4, 2),
    ({"SLURM_GPUS_ON_NODE": "4"}, {}, 2, 8, 4),
    ({"SLURM_GPUS_ON_NODE": "4"}, {"num_cpus": 2, "num_gpus": 1}, 8, 2, 1),
    ({}, {"n_workers": 16}, 16, 1, 0),
    ({"SLURM_JOB_CPUS_PER_NODE": "5,2"}, {"num_cpus": 2}, 3, 2, 0),
])  # fmt: skip
def test_workers_within_a_slurm_job(
    environ: dict[str, str], arguments: dict[str, Any], workers: int, cpus: int, gpus: int
) -> None:
    layout = laid({**SLURM, **environ}, **arguments)
    assert (layout.n_workers, layout.num_cpus, layout.num_gpus, layout.n_nodes) == (workers, cpus, gpus, 2)
    command = layout.commands("/s.sh", "")[0]
    assert command[:3] == ["srun", f"--ntasks={workers}", f"--cpus-per-task={cpus}"]
    assert command[-2:] == ["/bin/bash", "/s.sh"]


def test_a_slurm_job_that_is_too_small() -> None:
    with pytest.raises(ClusterError, match="16 processors on 2 nodes"):
        laid(SLURM, n_workers=5, num_cpus=4)
    with pytest.raises(ClusterError, match="too few"):
        laid(SLURM, num_cpus=9)


def pbs_laid(
    hosts: list[str], programs: tuple[str, ...] = (), environ: Mapping[str, str] = {}, **arguments: Any
) -> Layout:
    given = {"n_workers": None, "num_cpus": None, "num_gpus": None, "launcher": None, **arguments}
    return pbs_layout(environ, hosts, "a", which=lambda name: name if name in programs else None, **given)


def test_workers_within_a_pbs_job() -> None:
    assert pbs_laid(["a", "a"]).launcher == "local"
    assert pbs_laid(["a", "a"]).commands("/s.sh", "/nodes") == [["/bin/bash", "/s.sh"]] * 2
    two = ["a", "b", "b"]
    assert pbs_laid(two, ("pbsdsh", "ssh")).commands("/s.sh", "/nodes") == [["pbsdsh", "--", "/bin/bash", "/s.sh"]]
    expected = [["mpirun", "-machinefile", "/nodes", "-n", "3", "/bin/bash", "/s.sh"]]
    assert pbs_laid(two, ("mpirun", "ssh")).commands("/s.sh", "/nodes") == expected
    by_ssh = pbs_laid(two, ("ssh",)).commands("/s.sh", "/nodes")
    assert [command[-2:] for command in by_ssh] == [[host, "/bin/bash /s.sh"] for host in two]
    assert pbs_laid(two, ("pbsdsh",), launcher="ssh").launcher == "ssh"
    with pytest.raises(ClusterError, match="neither pbsdsh"):
        pbs_laid(two)
    with pytest.raises(ClusterError, match="is empty"):
        pbs_laid([])


def test_several_workers_for_a_line_of_the_node_file() -> None:
    layout = pbs_laid(["a", "b"], ("pbsdsh",), {"NCPUS": "8"}, num_cpus=2)
    assert (layout.n_workers, layout.copies, layout.num_cpus) == (8, 4, 2)
    assert pbs_laid(["a", "b"], ("pbsdsh",), {"NCPUS": "8"}).num_cpus == 8
    assert pbs_laid(["a", "b"], ("pbsdsh",), {"NCPUS": "8"}, n_workers=4).num_cpus == 4
    with pytest.raises(SettingError, match="multiple"):
        pbs_laid(["a", "b"], n_workers=3)


def test_the_script_of_an_allocation_brings_the_environment_where_the_launcher_does_not() -> None:
    environ = {"PATH": "/p", "HOME": "/h", "PBS_JOBID": "1", "HOSTNAME": "a", "TMPDIR": "/t", "PWD": "/w", "A": "it's"}
    layout = pbs_laid(["a", "b"], ("pbsdsh",), {"NCPUS": "8"}, num_cpus=4)
    text = worker_script(layout, "tls://a:1", None, "ib0", "/py", environ, 1234)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    exported = set(re.findall(r"^export (\w+)=", text, re.MULTILINE))
    assert {"PATH", "HOME", "A", "OMP_NUM_THREADS", "DHPO_WORKER_END"} <= exported
    assert not {"PBS_JOBID", "HOSTNAME", "TMPDIR"} & exported
    assert "cd /w || exit 1" in text
    assert "for ((i = 0; i < 2; i++))" in text
    by_srun = worker_script(laid(SLURM), "tls://a:1", None, None, "/py", environ, None)
    assert "export PATH" not in by_srun
    assert "DHPO_WORKER_END" not in by_srun


def test_copies_of_a_worker_end_together(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(
        f'#!/bin/bash\ntouch {tmp_path}/up-$$\ntrap "echo told; exit 0" TERM\nwhile :; do sleep 0.05; done\n'
    )
    fake.chmod(0o755)
    layout = Layout("local", {"a": 1}, 2, 1, 0, 1)
    text = worker_script(layout, "tls://a:1", None, None, str(fake), {"PWD": str(tmp_path)}, None)
    process = subprocess.Popen(
        ["bash", "-c", text], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    while len(list(tmp_path.glob("up-*"))) < 2:
        time.sleep(0.01)
    process.terminate()
    output, _ = process.communicate(timeout=20)
    assert output.split() == ["told", "told"]
    assert not list(tmp_path.glob("dhpo-*"))


@pytest.mark.parametrize(("text", "seconds"), [
    ("1-00:00:10\n", 86410), ("UNLIMITED\n", None), ("INVALID", None), ("", None), ("1:30\n", 90),
    ("Job Id: 1\n    Resource_List.walltime = 01:00:00\n    resources_used.walltime = 00:10:00\n", 3000),
    ("Job Id: 1\n    Resource_List.walltime = 01:00:00\n", 3600),
])  # fmt: skip
def test_what_is_left_of_a_job(text: str, seconds: int | None) -> None:
    assert seconds_left(text) == seconds


# What a user may give as cluster.


def test_batch_systems_by_name(tmp_path: Path) -> None:
    with dask.config.set({"jobqueue.slurm.n-workers": 2, "jobqueue.pbs.n-workers": 3}):
        executor: Any = resolve("slurm", check_resources({"num_cpus": 4, "num_gpus": 1}))
        assert isinstance(executor.cluster, dhpo.Slurm)
        assert (executor.cluster.settings.num_cpus, executor.cluster.settings.num_gpus) == (4, 1)
        executor = resolve("pbs", check_resources(None))
        assert isinstance(executor.cluster, dhpo.PBS)
        executor = resolve("pbs", check_resources(None), directory=tmp_path)
        assert executor.cluster.settings.log_directory == tmp_path / "jobs"
        with dask.config.set({"jobqueue.pbs.log-directory": "/logs"}):
            executor = resolve("pbs", check_resources(None), directory=tmp_path)
        assert executor.cluster.settings.log_directory == Path("/logs")
        executor = resolve("allocation", check_resources(None), directory=tmp_path)
        assert executor.cluster.log_directory == tmp_path / "jobs"
        with pytest.raises(SettingError, match="whole"):
            resolve("slurm", check_resources({"num_gpus": 0.5}))


def test_auto_is_the_job_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "PBS_NODEFILE"):
        monkeypatch.delenv(name, raising=False)
    executor: Any = resolve("auto", check_resources(None))
    assert isinstance(executor.cluster, dhpo.Local)
    monkeypatch.setenv("PBS_NODEFILE", "/nodes")
    executor = resolve("auto", check_resources({"num_cpus": 2}))
    assert isinstance(executor.cluster, dhpo.Allocation)
    assert executor.cluster.num_cpus == 2


def test_jobs_too_small_for_a_trial_are_refused() -> None:
    with pytest.raises(SettingError, match=r"give Slurm\(\.\.\., num_gpus=1\)"):
        resolve(dhpo.Slurm(1, num_cpus=4), check_resources({"num_cpus": 4, "num_gpus": 1}))
    with pytest.raises(SettingError, match="num_cpus"):
        resolve(dhpo.PBS(1, num_cpus=2), check_resources({"num_cpus": 4}))
    resolve(dhpo.PBS(1, num_cpus=2), check_resources({"num_cpus": 2}))


@pytest.mark.parametrize("arguments", [{"n_workers": 0}, {"num_cpus": 0.5}, {"launcher": "rsh"}, {"security": 1.5}])
def test_an_allocation_checks_its_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(arguments))):
        dhpo.Allocation(**arguments)
