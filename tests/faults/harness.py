"""Real searches to do harm to: run by the command line, followed through their journal, and checked at the end.

A :class:`Harness` starts ``dhpo run`` on a directory of its own, any number of times. What the search has come to is
read from its journal by a reader that shares no code with dhpo, woken by the kernel whenever the file changes. Every
process that a search starts inherits a mark in its environment, by which it is found again whatever has become of its
parents.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dhpo import Results

ROOT = Path(__file__).parents[2]
MARK = "DHPO_FAULTS_MARK"
#: Seconds within which whatever is waited for has to come, on a machine that is busy with other things.
DEADLINE = 90.0
#: What the exit code of a run is that left work behind.
UNFINISHED = 99

Row = list[Any]
#: Which of a search's processes is which, by a word of its command line.
ROLES = {
    "scheduler": ("dask scheduler", "dhpo.clusters._scheduler"),
    "nanny": ("dask worker",),
    "worker": ("spawn_main",),
    "warden": ("_warden.py",),
    "trial": ("dhpo.worker._child",),
}

PROGRAM = """
import os, time
from pathlib import Path
import dhpo
from dhpo.clusters.local import Local

HERE = Path(__file__).parent

def train(config, report):
    state = report.checkpoint_dir / "epoch" if {saves} else None
    first = int(state.read_text()) + 1 if state and state.exists() else 1
    for epoch in range(first, {epochs} + 1):
        descriptor = os.open(HERE / "notes.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{{report.trial}} {{report.attempt}} {{epoch}} {{os.getpid()}}\\n".encode())
        os.close(descriptor)
        if state:  # of the epoch before: a report that was lost with its worker is made again
            new = state.with_name(f"new-{{report.attempt}}")
            new.write_text(str(epoch - 1))
            os.replace(new, state)
        time.sleep({seconds})
        report(epoch=epoch, objective=config.x * epoch)

search = dhpo.Search(
    {{"x": (0.1, 1.0)}}, train, stopper=dhpo.NeverStop("epoch"), searcher="random", random_state=7,
    cluster={cluster}, isolation="{isolation}", max_failures=None,
)
"""


def eventually(reached: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Wait for what nothing tells of, such as the end of somebody else's process."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)


class Watch:
    """Wakes who waits when a file in a directory changes."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())

    def add(self, directory: Path) -> None:
        modified_moved_or_made = 0x2 | 0x80 | 0x100
        self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), modified_moved_or_made)

    def wait(self, seconds: float) -> None:
        if select.select([self._descriptor], [], [], seconds)[0]:
            os.read(self._descriptor, 1 << 16)

    def close(self) -> None:
        os.close(self._descriptor)


def rows_of(content: bytes) -> list[Row]:
    """The events of a journal, ``[tag, time, trial, …]``, by nothing but its documented form."""
    lines = content.split(b"\n")[1:-1]  # without the header, and an unfinished end
    return [row for line in lines for row in json.loads(line[line.index(b"[") :])]


def count(rows: Sequence[Row], *tags: str) -> int:
    return sum(row[0] in tags for row in rows)


def ended(n: int) -> Callable[[list[Row]], bool]:
    """Whether so many trials have ended."""
    return lambda rows: count(rows, "completed", "failed") >= n


def reported(n: int) -> Callable[[list[Row]], bool]:
    """Whether there are so many reports."""
    return lambda rows: count(rows, "report") >= n


class Harness:
    """A search in a directory.

    Args:
        directory: for all of it.
        cluster: an expression, for the program.
        isolation: of its trials.
        n_trials: in all.
        epochs: of each trial.
        seconds: that an epoch takes.
        saves: whether trials save checkpoints.
        program: another program in the place of :data:`PROGRAM`.
    """

    def __init__(
        self,
        directory: Path,
        cluster: str = "Local(2, dashboard_address=None)",
        *,
        isolation: str = "thread",
        n_trials: int = 8,
        epochs: int = 6,
        seconds: float = 0.1,
        saves: bool = True,
        program: str = PROGRAM,
    ) -> None:
        self.directory = directory
        self.run = directory / "run"
        self.journal = self.run / "journal.jsonl"
        self.n_trials, self.epochs = n_trials, epochs
        self.driver: subprocess.Popen[bytes] | None = None
        self._mark = uuid.uuid4().hex
        self._started: list[subprocess.Popen[bytes]] = []
        self._seen = b""  # of the journal: acknowledged, and so never to be lost
        self._watch = Watch()
        self._watch.add(directory)
        text = program.format(epochs=epochs, seconds=seconds, saves=saves, cluster=cluster, isolation=isolation)
        (directory / "search.py").write_text(text)

    # Processes.

    def start(self, *options: str, before: Callable[[], None] | None = None, **environment: str) -> None:
        """Start a driver; ``before`` is called in its process."""
        self.driver = self.launch(
            *("dhpo", "run", "search.py", "--log-dir", str(self.run), "--num-trials", str(self.n_trials)),
            *("--no-progress", "--exit-code-if-unfinished", str(UNFINISHED), *options),
            before=before, out="driver", **environment,
        )  # fmt: skip

    def launch(
        self, module: str, *arguments: str, before: Callable[[], None] | None = None, out: str = "", **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start ``python -m module`` with the mark in its environment; its output goes to files of the name ``out``."""
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "PBS", "DHPO"))}
        path = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), str(ROOT), outside.get("PYTHONPATH")]))
        name = out or "others"
        with (
            open(self.directory / f"{name}.out", "ab" if not out else "wb") as stdout,
            open(self.directory / f"{name}.err", "ab" if not out else "wb") as stderr,
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], cwd=self.directory, stdout=stdout, stderr=stderr,
                env={**outside, "PYTHONPATH": path, MARK: self._mark, **environment}, preexec_fn=before,
            )  # fmt: skip
        self._started.append(process)
        return process

    def processes(self, role: str | None = None) -> list[int]:
        """The processes of the search that are alive, of a role or all of them, oldest first."""
        found = []
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with suppress(OSError):
                if f"{MARK}={self._mark}".encode() not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    continue
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if role is None or self._role(pid, command) == role:
                    found.append((self._began(pid), pid))
        return [pid for _, pid in sorted(found)]

    def _role(self, pid: int, command: str) -> str | None:
        if self.driver is not None and pid == self.driver.pid:
            return "driver"
        return next((role for role, words in ROLES.items() if any(word in command for word in words)), None)

    @staticmethod
    def _began(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])

    def await_end(self, seconds: float = DEADLINE) -> int:
        """The driver's exit code; bounded, so that a hang is a failure."""
        assert self.driver is not None
        try:
            return self.driver.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver hangs: {self.told()}\n{self.rows()[-20:]}") from None

    def told(self) -> str:
        """What the last driver wrote to standard error."""
        return (self.directory / "driver.err").read_text(errors="replace")

    @contextmanager
    def stopped(self, pid: int) -> Iterator[None]:
        """A process that does not move meanwhile."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def held_trial(self) -> Iterator[tuple[int, int]]:
        """A trial that is in the middle of its epochs, held still: its number, and its own process."""
        while True:
            for pid in self.processes("trial"):
                with self.stopped(pid):
                    notes = [note for note in self.notes() if note[3] == pid]
                    if notes and notes[-1][2] < self.epochs:  # in the last one it may have told its end
                        yield notes[-1][0], pid
                        return
            self.wait_more(1)

    @staticmethod
    def parent(pid: int) -> int:
        """The process that started another."""
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    def kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def await_nobody(self, seconds: float = DEADLINE) -> None:
        """No process of the search is left."""
        eventually(lambda: not self._living(), f"the end of {self._living()}", seconds)

    def _living(self) -> list[int]:
        for process in self._started:
            process.poll()  # who has ended is no longer there
        return self.processes()

    def close(self) -> None:
        """End whatever a failed test has left."""
        for pid in self.processes():
            self.kill(pid)
        for process in self._started:
            process.wait()
        self._watch.close()

    # Progress.

    def rows(self) -> list[Row]:
        """The events so far. What was there once is there for ever."""
        content = self.journal.read_bytes() if self.journal.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        assert whole.startswith(self._seen), "what was in the journal is not there any more"
        self._seen = whole[: whole.rfind(b"\n", 0, -1) + 1]  # the last line may be there, but not yet durable
        return rows_of(whole)

    def wait(self, reached: Callable[[list[Row]], bool], seconds: float = DEADLINE) -> list[Row]:
        """Wait until the journal's events are such; the driver has to be alive until then."""
        assert self.driver is not None
        deadline = time.monotonic() + seconds
        while not reached(rows := self.rows()):
            assert self.driver.poll() is None, f"the driver has ended by itself: {self.told()}"
            assert time.monotonic() < deadline, f"{seconds:g} s were not enough: {rows[-5:]}, {self.told()}"
            if self.run.is_dir():
                self._watch.add(self.run)
            self._watch.wait(min(1.0, max(0.0, deadline - time.monotonic())))
        return rows

    def wait_more(self, n: int = 3) -> list[Row]:
        """Wait for so many more reports: the search gets on."""
        return self.wait(reported(count(self.rows(), "report") + n))

    def notes(self) -> list[tuple[int, ...]]:
        """(trial, attempt, epoch, process) of each epoch that was begun."""
        path = self.directory / "notes.txt"
        return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []

    # The end.

    def check(self, n_failed: int = 0) -> list[Row]:
        """There are exactly as many trials as asked for, each ended once, and each with the result that it had."""
        rows, n = self.rows(), self.n_trials
        proposed = {row[2]: row[3]["x"] for row in rows if row[0] == "proposed"}
        assert sorted(proposed) == list(range(n))
        assert count(rows, "proposed") == n
        assert Counter(row[2] for row in rows if row[0] in ("completed", "failed", "timed_out")) == dict.fromkeys(
            range(n), 1
        )
        failed = {row[2] for row in rows if row[0] == "failed"}
        assert len(failed) == n_failed, [row[4] for row in rows if row[0] == "failed"]
        reports = Counter(tuple(row[2:5]) for row in rows if row[0] == "report")
        assert set(reports.values()) <= {1}, "a report was counted twice"
        ends = {row[2]: at for at, row in enumerate(rows) if row[0] in ("completed", "failed")}
        assert all(at < ends[row[2]] for at, row in enumerate(rows) if row[0] == "report"), "a report after the end"
        last = {row[2]: (row[5], row[6]["objective"]) for row in rows if row[0] == "report"}
        for trial in set(range(n)) - failed:
            assert last[trial] == (self.epochs, proposed[trial] * self.epochs)
        self._check_views(n, failed)
        return rows

    def _check_views(self, n: int, failed: set[int]) -> None:
        """What is shown of the search is the same."""
        results = Results.load(self.run)
        told = {number for number, status in results.statuses().items() if status.value == "FAILED"}
        assert (len(results), told) == (n, failed)
        lines = (self.run / "results.csv").read_text().splitlines()
        assert len(lines) == n + 1

    def remove(self) -> None:
        """Take the search's directory away."""
        shutil.rmtree(self.run)
        self._seen = b""
