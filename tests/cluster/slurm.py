"""A real Slurm for tests: munged, slurmctld and one slurmd per node, on the loopback, in a directory of its own.

The nodes are all this machine: each has a slurmd with its own port, and says that it has as many processors as the
test wants. Nothing outside the directory is touched, and nothing is left of it.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")

_CONF = """\
ClusterName=dhpotest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A job is requeued only after its credential has expired: by default that takes two minutes.
AuthInfo=socket={root}/munge.sock,cred_expire=10
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=256
GresTypes=gpu
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
# More processors than the machine has are believed.
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge=600
{nodes}
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def require(*programs: str) -> None:
    """Skip the test where a program is missing; fail it on continuous integration, where it must be there."""
    missing = [name for name in programs if _which(name) is None]
    if not missing:
        return
    reason = f"{', '.join(missing)} not installed: apt-get install slurm-wlm slurm-wlm-torque munge shellcheck"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait for something that another program does.

    Raises:
        TimeoutError: it has not come about.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


class Slurm:
    """A running Slurm.

    Args:
        root: its directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Without those of a Slurm job in which the tests themselves may run.
        # A Dask cluster of another test in this process may have left its workers' thread counts in the environment.
        inside = ("SLURM", "SBATCH", "SRUN", "OMP_", "MKL_", "OPENBLAS_")
        outside = {k: v for k, v in os.environ.items() if not k.startswith(inside)}
        self.environment = {**outside, "SLURM_CONF": str(root / "slurm.conf")}

    def call(self, *command: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
        """Run one of Slurm's commands; return what it prints."""
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def submit(self, *arguments: str, environment: Mapping[str, str], cwd: Path) -> str:
        """Submit a job; return its number."""
        return self.call("sbatch", "--parsable", *arguments, environment=environment, cwd=cwd).strip()

    def state(self, job: str) -> tuple[str, str]:
        """The state of a job and its exit code, such as ("COMPLETED", "0:0")."""
        text = self.call("scontrol", "show", "job", "--oneliner", job)
        state, code = (re.search(rf"\b{name}=(\S+)", text) for name in ("JobState", "ExitCode"))
        assert state
        assert code
        return state[1], code[1]

    def wait_for(self, job: str, seconds: float = 60.0) -> tuple[str, str]:
        """Wait until a job has ended; return its state and its exit code."""
        ended = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
        wait_until(lambda: self.state(job)[0] in ended, f"the end of job {job}", seconds)
        return self.state(job)


@pytest.fixture(scope="module", name="slurm")
def slurm_fixture() -> Iterator[Slurm]:
    """Two nodes with two processors and a pretended GPU each, for the tests of one module."""
    require(*PROGRAMS)
    with running_slurm(nodes=2, cpus=2) as slurm:
        yield slurm


_running: list[Slurm] = []


def clear_queues() -> None:
    """Cancel what a test, most likely one that failed, has left in a queue: the next one is to find it empty."""
    for slurm in _running:
        if slurm.call("squeue", "--noheader").strip():
            _end_jobs(slurm)


@contextmanager
def running_slurm(nodes: int, cpus: int, partitions: Mapping[str, str] | None = None) -> Iterator[Slurm]:
    """Start a Slurm, and end it with everything that it runs.

    Args:
        nodes: how many, ``n1`` and so on.
        cpus: of each node.
        partitions: the nodes of further partitions by their names, such as ``{"gpu": "n1", "cpu": "n[2-3]"}``.
    """
    # Short, since the path of munge's socket must fit 108 bytes.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as directory, ExitStack() as daemons:
        root = Path(directory)
        root.chmod(0o755)
        for name in ("munge", "state", "spool", "log"):
            (root / name).mkdir(mode=0o700)
        _write_configuration(root, nodes, cpus, partitions or {})
        slurm = Slurm(root)
        try:
            _start_daemons(slurm, nodes, daemons)
            _running.append(slurm)
            daemons.callback(_running.remove, slurm)
            yield slurm
        except BaseException:
            for log in sorted((root / "log").iterdir()):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
            raise


def _write_configuration(root: Path, nodes: int, cpus: int, partitions: Mapping[str, str]) -> None:
    key = root / "munge" / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    first, *ports = _free_ports(nodes + 1)
    lines: list[str] = []
    for number, port in enumerate(ports, start=1):
        (root / "spool" / f"n{number}").mkdir()
        lines.append(
            f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=4000 "
            "Gres=gpu:1 State=UNKNOWN"
        )
    lines += [f"PartitionName={name} Nodes={which} MaxTime=INFINITE State=UP" for name, which in partitions.items()]
    (root / "slurm.conf").write_text(
        _CONF.format(host=host, port=first, user=getpass.getuser(), root=root, nodes="\n".join(lines))
    )
    (root / "gres.conf").write_text("Name=gpu File=/dev/null\n")  # no device: Slurm only counts it
    if _version() >= (23, 11):  # from there on slurmd wants cgroups, which containers do not give
        (root / "cgroup.conf").write_text("CgroupPlugin=disabled\n")


def _start_daemons(slurm: Slurm, nodes: int, daemons: ExitStack) -> None:
    root = slurm.root
    munged = (
        "munged", "--foreground", "--force", "--num-threads=2", f"--socket={root}/munge.sock",
        f"--key-file={root}/munge/munge.key", f"--pid-file={root}/munged.pid", f"--log-file={root}/log/munged.log",
        f"--seed-file={root}/munge/munged.seed",
    )  # fmt: skip
    daemons.enter_context(_daemon(slurm, *munged))
    wait_until((root / "munge.sock").exists, "munged")
    daemons.enter_context(_daemon(slurm, "slurmctld", "-D"))
    ping = ("scontrol", "ping")
    wait_until(
        lambda: subprocess.run(ping, env=slurm.environment, capture_output=True, check=False).returncode == 0,
        "slurmctld",
    )
    for number in range(1, nodes + 1):
        daemons.enter_context(_daemon(slurm, "slurmd", "-D", "-N", f"n{number}"))
    wait_until(lambda: slurm.call("sinfo", "-hN", "-p", "batch", "-o", "%t").split() == ["idle"] * nodes, "slurmd")
    daemons.callback(_end_jobs, slurm)


@contextmanager
def _daemon(slurm: Slurm, program: str, *arguments: str) -> Iterator[None]:
    with open(slurm.root / "log" / "output.log", "ab") as log:
        process = subprocess.Popen(
            [_which(program) or program, *arguments],
            env=slurm.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_jobs(slurm: Slurm) -> None:
    """Cancel whatever there is, and wait for its end."""
    slurm.call("scancel", "--user", getpass.getuser())
    wait_until(lambda: not slurm.call("squeue", "-h").strip(), "the end of all jobs")


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")


def _version() -> tuple[int, ...]:
    text = subprocess.run([_which("slurmd") or "slurmd", "-V"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
