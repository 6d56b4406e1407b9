"""Two drivers on one directory: the second is refused, or takes over from one that is dead, stopped or forgotten.

Where locks do not work, the file itself tells: whoever goes on with a journal has made it longer, and a line fits at
its own place only. Processes are real where a process is what matters.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger import Ledger, rows

from dhpo import Results, Search
from dhpo import journal as journals
from dhpo._lines import framed
from dhpo.errors import JournalError, JournalLockedError
from dhpo.events import Event, TrialReported
from dhpo.journal import FILE_NAME, FileJournal, Header

HEADER = Header("s1", 0.0, {"seed": 1})
N_TRIALS = 6

#: Each trial says that it runs, and waits to be let go.
DRIVER = """
import fcntl, sys
from dhpo import Search

if sys.argv[2] == "forgets":  # a file system that has no locks, or lost them when its server came up again
    fcntl.flock = lambda *_: None

def run(config):
    print("running", flush=True)
    sys.stdin.readline()
    return config.x

Search({"x": (0.0, 1.0)}, run, cluster="serial", searcher="random", random_state=1, log_dir=sys.argv[1]).run(
    6, progress=False
)
"""


@contextmanager
def driver(directory: Path, locks: str) -> Iterator[subprocess.Popen[str]]:
    """A driver that is within its third trial."""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(directory), locks],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        try:
            for _ in range(2):
                assert process.stdout.readline() == "running\n"
                process.stdin.write("\n")
                process.stdin.flush()
            assert process.stdout.readline() == "running\n"
            yield process
        finally:
            process.kill()


def search(directory: Path) -> Search:
    return Search(
        {"x": (0.0, 1.0)}, lambda config: config.x, cluster="serial", searcher="random", random_state=1,
        log_dir=directory,
    )  # fmt: skip


def test_a_second_driver_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    with driver(tmp_path / "run", "locks") as first:
        before = (tmp_path / "run" / FILE_NAME).read_bytes()
        with pytest.raises(JournalLockedError, match=rf"process {first.pid} on {os.uname().nodename}\): wait for its"):
            search(tmp_path / "run").run(N_TRIALS, progress=False)
        assert len(Results.load(tmp_path / "run")) == 3  # who only looks is not refused
        assert (tmp_path / "run" / FILE_NAME).read_bytes() == before
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(JournalLockedError):
            search(tmp_path / "run").run(N_TRIALS, progress=False)
        first.kill()
        first.wait(30)
        results = search(tmp_path / "run").run(N_TRIALS, progress=False)
    assert len(results) == N_TRIALS
    ledger = Ledger().take(rows(tmp_path / "run"))
    ledger.check_finished(N_TRIALS)
    assert ledger.sessions == 2
    assert not [p for p in (tmp_path / "run").iterdir() if "lock" in p.name or "pid" in p.name]  # that could go stale


def test_a_stopped_driver_that_lost_its_lock_never_mixes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with driver(tmp_path / "run", "forgets") as first:
        first.send_signal(signal.SIGSTOP)
        search(tmp_path / "run").run(N_TRIALS, progress=False)
        content = (tmp_path / "run" / FILE_NAME).read_bytes()
        first.send_signal(signal.SIGCONT)
        _, errors = first.communicate("\n" * N_TRIALS, timeout=60)
    assert first.returncode == 1
    assert "JournalError: another process changed the journal" in errors
    assert (tmp_path / "run" / FILE_NAME).read_bytes() == content
    Ledger().take(rows(tmp_path / "run")).check_finished(N_TRIALS)


# The same, within one process: several drivers without locks, and every moment at which they might meet.


@pytest.fixture
def lockless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)


def batch(number: int) -> list[Event]:
    return [TrialReported(float(number), number % 10, 1, 1, 1.0, {"score": 1.0})]


def replayed(directory: Path) -> list[list[Event]]:
    return list(journals.read(directory)[1])


@pytest.mark.usefixtures("lockless")
def test_two_that_write_in_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one had seen that nobody wrote, and then someone did: a line of the same length, even."""
    with FileJournal.open(tmp_path, HEADER) as slow, FileJournal.open(tmp_path, HEADER) as fast:
        write = os.write

        def after_the_other(descriptor: int, content: Any) -> int:
            monkeypatch.setattr(os, "write", write)
            fast.append(batch(1))
            return write(descriptor, content)

        monkeypatch.setattr(os, "write", after_the_other)
        with pytest.raises(JournalError, match="another process"):
            slow.append(batch(2))
        assert replayed(tmp_path) == [batch(1)]
        for driver_ in (slow, fast):
            with pytest.raises(JournalError, match="another process"):
                driver_.append(batch(3))
    with FileJournal.open(tmp_path, HEADER) as next_one:
        assert list(next_one.replay()) == [batch(1)]
        next_one.append(batch(4))
    assert replayed(tmp_path) == [batch(1), batch(4)]


@pytest.mark.usefixtures("lockless")
def test_two_that_cut_off_the_same_torn_end(tmp_path: Path) -> None:
    """The first one's line is as long as what was torn: the second must not take it for that."""
    with FileJournal.open(tmp_path, HEADER) as journal:
        journal.append(batch(1))
    torn = b"x" * (len((tmp_path / FILE_NAME).read_bytes().splitlines(keepends=True)[1]) - 1)
    with open(tmp_path / FILE_NAME, "ab") as file:
        file.write(torn + b"\n")
    with FileJournal.open(tmp_path, HEADER) as first, FileJournal.open(tmp_path, HEADER) as second:
        first.append(batch(2))
        with pytest.raises(JournalError, match="another process"):
            second.append(batch(3))
    assert replayed(tmp_path) == [batch(1), batch(2)]


def test_a_failed_write_takes_back_nothing_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FileJournal.open(tmp_path, HEADER) as journal:
        journal.append(batch(1))

        def fail(descriptor: int) -> None:
            with open(tmp_path / FILE_NAME, "ab") as file:
                file.write(b"another's")
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fdatasync", fail)
        with pytest.raises(JournalError, match="Input/output error"):
            journal.append(batch(2))
        monkeypatch.undo()
        assert (tmp_path / FILE_NAME).read_bytes().endswith(b"another's")
        with pytest.raises(JournalError, match="another process"):
            journal.append(batch(3))


def test_a_journal_that_was_deleted_is_not_written_to_in_vain(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path / "run", HEADER) as journal:
        journal.append(batch(1))
        (tmp_path / "run" / FILE_NAME).unlink()
        with pytest.raises(JournalError, match="was deleted while the search ran"):
            journal.append(batch(2))
    assert not (tmp_path / "run" / FILE_NAME).exists()


def test_the_error_names_nobody_where_nobody_is_known(tmp_path: Path) -> None:
    with (
        FileJournal.open(tmp_path, HEADER) as journal,
        pytest.raises(JournalLockedError, match=rf"writing to {tmp_path}: wait"),
    ):
        FileJournal.open(journal.path.parent, HEADER)


def opened(directory: Path, acknowledged: list[list[Event]]) -> FileJournal | None:
    """A driver that finds exactly what was acknowledged; None where it finds damage behind that, and refuses."""
    driver_ = FileJournal.open(directory, HEADER)
    found: list[list[Event]] = []
    refused = ""
    try:
        found.extend(driver_.replay())
    except JournalError as error:
        refused = str(error)
    assert found == acknowledged
    if not refused:
        return driver_
    assert f"line {len(acknowledged) + 2}, byte" in refused
    driver_.close()
    return None


steps = st.lists(st.tuples(st.sampled_from(["open", "append", "race", "crash"]), st.integers(0, 2)), max_size=14)


@pytest.mark.usefixtures("lockless")
@settings(deadline=None, max_examples=200)
@given(steps)
def test_drivers_without_locks_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """What was acknowledged is there, in order, and nothing else; or the journal is refused with its place."""
    directory = tmp_path_factory.mktemp("run")
    drivers: list[FileJournal | None] = [None, None, None]
    acknowledged: list[list[Event]] = []

    def append(which: int) -> None:
        driver_ = drivers[which]
        if driver_ is None:
            return
        fresh = batch(len(acknowledged) * 10 + which)
        try:
            driver_.append(fresh)
        except JournalError:
            return
        acknowledged.append(fresh)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: None)
        write = os.write
        for what, which in steps:
            if what == "open":
                if drivers[which] is not None:
                    drivers[which].close()
                drivers[which] = opened(directory, acknowledged)
            elif what == "crash" and drivers[which] is not None:
                with open(directory / FILE_NAME, "ab") as file:
                    file.write(framed(b"[[")[:7])
                drivers[which].close()
                drivers[which] = None
            elif what == "append":
                append(which)
            elif what == "race":

                def after_the_next(descriptor: int, content: Any, other: int = (which + 1) % 3) -> int:
                    patch.setattr(os, "write", write)
                    append(other)
                    return write(descriptor, content)

                patch.setattr(os, "write", after_the_next)
                append(which)
                patch.setattr(os, "write", write)
    for driver_ in drivers:
        if driver_ is not None:
            driver_.close()
    if (directory / FILE_NAME).exists():
        last = opened(directory, acknowledged)
        if last is not None:
            last.close()
