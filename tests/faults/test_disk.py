"""Disks that are full, go read-only, fail or disappear while a search runs."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from harness import Harness, count, reported

#: Loaded by the driver before anything else: writing to a journal fails as a file says, as soon as that is there.
FAILING = """
import os
_write, _sync = os.write, os.fdatasync

def fault(descriptor, synced):
    try:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        number, where = open(os.environ["FAULT"]).read().split()
    except (OSError, ValueError):
        return
    if name.endswith("journal.jsonl") and (where == "sync") == synced:
        if not synced:
            _write(descriptor, b"torn")
        raise OSError(int(number), os.strerror(int(number)))

def write(descriptor, data):
    fault(descriptor, False)
    return _write(descriptor, data)

def fdatasync(descriptor):
    fault(descriptor, True)
    _sync(descriptor)

os.write, os.fdatasync = write, fdatasync
"""


@pytest.fixture(name="search")
def search_fixture(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(tmp_path, '"threads"', n_trials=20, epochs=10, seconds=0.02, saves=False)
    yield harness
    harness.close()


def refused(search: Harness, *words: str) -> None:
    """The driver ended by itself, with a message of one line, and left nobody."""
    assert search.await_end() == 1
    told = [line for line in search.told().splitlines() if line.startswith("dhpo: ")]
    assert len(told) == 1, search.told()
    assert "Traceback" not in search.told()
    for word in words:
        assert word in told[0]
    search.await_nobody()
    search.rows()  # all that was there is there


def finish(search: Harness) -> None:
    search.start()
    assert search.await_end() == 0, search.told()
    search.check()


@pytest.mark.parametrize(
    ("number", "where", "remedy"),
    [
        (errno.ENOSPC, "write", "free space or raise your quota"),
        (errno.EDQUOT, "sync", "free space or raise your quota"),
        (errno.EIO, "sync", "mounted and writable"),
        (errno.ESTALE, "write", "mounted and writable"),
    ],
)
def test_a_failing_disk_ends_the_run_and_costs_nothing(search: Harness, number: int, where: str, remedy: str) -> None:
    site = search.directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FAILING)
    fault = search.directory / "fault"
    search.start(PYTHONPATH=str(site), FAULT=str(fault))
    search.wait(reported(4))
    draft = search.directory / "draft"
    draft.write_text(f"{number} {where}")
    draft.rename(fault)
    refused(search, os.strerror(number), "All that was acknowledged is safe", remedy)
    finish(search)


def test_a_limit_on_the_size_of_files(search: Harness) -> None:
    """Some sites have one on login nodes."""
    search.start(before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)))
    refused(search, "File too large", "free space or raise your quota")
    assert count(search.rows(), "report") > 0
    finish(search)


@contextmanager
def small_disk(directory: Path) -> Iterator[bool]:
    """A file system of a megabyte there, where this process may mount one; else that is said, and it yields False."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "dhpo-test", str(directory)]
    mounted = os.geteuid() == 0 and not subprocess.run(command, capture_output=True, check=False).returncode
    if not mounted:
        warnings.warn("no right to mount: only a limit on the size of files stands in for the full disk", stacklevel=3)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.filterwarnings("default:no right to mount")
def test_a_disk_that_fills_up_and_one_that_goes_read_only(search: Harness) -> None:
    search.run.mkdir()
    with small_disk(search.run) as mounted:
        if not mounted:  # a container's root, perhaps: the test above has to do
            return
        search.start()
        search.wait(reported(4))
        ballast = search.run / "ballast"
        with open(ballast, "wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        refused(search, "No space left on device", "free space or raise your quota")
        before = count(search.rows(), "completed", "failed")
        ballast.unlink()

        subprocess.run(["mount", "-o", "remount,ro", str(search.run)], check=True)
        search.start()
        refused(search, "Read-only file system")
        assert count(search.rows(), "completed", "failed") == before
        subprocess.run(["mount", "-o", "remount,rw", str(search.run)], check=True)
        finish(search)


def test_a_directory_that_may_not_be_written(search: Harness) -> None:
    search.run = Path("/proc/dhpo-run")
    search.start()
    refused(search, "/proc/dhpo-run", "Choose a directory that you may write to")


def test_a_directory_that_disappears_and_comes_back(search: Harness) -> None:
    """The driver holds its journal open, and goes on; only at the end it misses the directory."""
    search.start()
    search.wait(reported(4))
    elsewhere = search.directory / "elsewhere"
    search.run.rename(elsewhere)
    assert search.await_end() == 1
    assert "there is no journal" in search.told()
    search.await_nobody()
    elsewhere.rename(search.run)
    assert count(search.rows(), "completed") == search.n_trials
    finish(search)


def test_a_journal_that_was_removed_takes_no_more_results(search: Harness) -> None:
    """Nobody would ever find them: the driver says so at once."""
    search.start()
    search.wait(reported(4))
    search.remove()
    refused(search, "was deleted while the search ran")
    finish(search)
