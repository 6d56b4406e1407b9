"""The journal after crashes, full disks, strange file systems and other people's hands."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import resource
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo._lines import framed
from dhpo.errors import JournalError
from dhpo.events import Event, TrialReported
from dhpo.journal import FILE_NAME, FileJournal, Header, read

HEADER = Header("s1", 0.0, {"seed": 1})


def batch(number: int) -> list[Event]:
    return [TrialReported(float(number), number, 1, i, i, {"score": i / 3}) for i in range(1, 4)]


def write(directory: Path, count: int) -> list[int]:
    """Write that many batches; return the sizes of the file after the header and after each batch."""
    sizes = []
    with FileJournal.open(directory, HEADER) as journal:
        sizes.append(journal.path.stat().st_size)
        for number in range(count):
            journal.append(batch(number))
            sizes.append(journal.path.stat().st_size)
    return sizes


def replayed(directory: Path) -> list[list[Event]]:
    return list(read(directory)[1])


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_cut_anywhere_all_whole_batches_survive(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.mktemp("run")
    sizes = write(directory, 3)
    path = directory / FILE_NAME
    cut = data.draw(st.integers(0, sizes[-1]), label="cut")
    whole = [batch(i) for i, size in enumerate(sizes[1:]) if size <= cut]
    os.truncate(path, cut)
    if cut >= sizes[0]:
        assert replayed(directory) == whole
    with FileJournal.open(directory, HEADER) as journal:
        assert list(journal.replay()) == whole
        journal.append(batch(7))
    assert replayed(directory) == [*whole, batch(7)]


@pytest.mark.parametrize("tail", [b"\0" * 300, b"0badc0de [[", b"x", framed(b"[[")[:-3] + b"?]\n", framed(b"[[")])
def test_a_bad_last_line_is_dropped_with_a_warning(
    tmp_path: Path, tail: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 2)
    with open(tmp_path / FILE_NAME, "ab") as file:
        file.write(tail)
    if tail != framed(b"[["):
        assert replayed(tmp_path) == [batch(0), batch(1)]
    with caplog.at_level(logging.WARNING), FileJournal.open(tmp_path, HEADER) as journal:
        assert list(journal.replay()) == [batch(0), batch(1)]
    assert f"{len(tail)} bytes dropped" in caplog.text


def test_a_long_unfinished_line_is_dropped(tmp_path: Path) -> None:
    sizes = write(tmp_path, 1)
    with open(tmp_path / FILE_NAME, "ab") as file:
        file.write(framed(b"[" + b" " * 300_000 + b"]")[:-1])
    with FileJournal.open(tmp_path, HEADER) as journal:
        assert list(journal.replay()) == [batch(0)]
        assert (tmp_path / FILE_NAME).stat().st_size > sizes[-1]  # nobody has seen yet that all before it is good
        journal.append(batch(1))
    assert replayed(tmp_path) == [batch(0), batch(1)]


def test_damage_in_the_middle_is_told_with_its_place(tmp_path: Path) -> None:
    sizes = write(tmp_path, 3)
    with open(tmp_path / FILE_NAME, "r+b") as file:
        file.seek(sizes[1] + 20)
        file.write(b"#")
    for replay in (read(tmp_path)[1], FileJournal.open(tmp_path, HEADER).replay()):
        assert next(replay) == batch(0)
        with pytest.raises(JournalError, match=rf"line 3, byte {sizes[1]}: .*head -c {sizes[1]}"):
            next(replay)


def test_a_reader_goes_as_far_as_a_writer_has_come(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path, HEADER) as journal:
        for number in range(3):
            journal.append(batch(number))
            assert replayed(tmp_path) == [batch(i) for i in range(number + 1)]


class Disk:
    """Stands in for ``os.write``: takes so many bytes, in small pieces, then fails."""

    write = staticmethod(os.write)

    def __init__(self, room: int, code: int) -> None:
        self.room, self.code = room, code

    def __call__(self, descriptor: int, content: memoryview) -> int:
        if not self.room:
            raise OSError(self.code, os.strerror(self.code))
        piece = min(self.room, 7, len(content))
        self.room -= piece
        return self.write(descriptor, content[:piece])


@pytest.mark.parametrize(("code", "remedy"), [(errno.ENOSPC, "free space"), (errno.EIO, "mounted and writable")])
def test_a_failed_write_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    with FileJournal.open(tmp_path, HEADER) as journal:
        journal.append(batch(0))
        before = journal.path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", Disk(50, code))
            with pytest.raises(JournalError, match=f"{journal.path} cannot be written.*{remedy}"):
                journal.append(batch(1))
            assert journal.path.read_bytes() == before
            patch.setattr(os, "write", Disk(10**6, code))  # short writes alone are no failure
            journal.append(batch(2))
    assert replayed(tmp_path) == [batch(0), batch(2)]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_what_is_not_durable_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(descriptor: int) -> None:
        raise error

    with FileJournal.open(tmp_path, HEADER) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises((JournalError, KeyboardInterrupt)):
                journal.append(batch(0))
        journal.append(batch(1))
    assert replayed(tmp_path) == [batch(1)]


def test_when_nothing_can_be_undone_nothing_follows_the_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with FileJournal.open(tmp_path, HEADER) as journal:
        journal.append(batch(0))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", Disk(50, errno.EIO))
            patch.setattr(os, "ftruncate", fail)
            with pytest.raises(JournalError, match="Input/output error"):
                journal.append(batch(1))
        with pytest.raises(JournalError, match="only one driver"):
            journal.append(batch(2))
    assert replayed(tmp_path) == [batch(0)]


def test_no_room_for_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", Disk(20, errno.ENOSPC))
    with pytest.raises(JournalError, match="free space"):
        FileJournal.open(tmp_path, HEADER)
    monkeypatch.undo()
    assert write(tmp_path, 1)[0] > 0
    assert replayed(tmp_path) == [batch(0)]


def test_a_real_limit_of_the_file_size(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path, HEADER) as journal:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        written = 0
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
            with suppress(JournalError):
                for written in range(100):
                    journal.append(batch(written))
            with pytest.raises(JournalError, match="free space"):
                journal.append(batch(written))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        journal.append(batch(999))
    assert 0 < written < 99
    assert replayed(tmp_path) == [*map(batch, range(written)), batch(999)]


def test_without_locks_there_is_a_warning_and_still_a_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with caplog.at_level(logging.WARNING), FileJournal.open(tmp_path, HEADER) as journal:
        assert "without locks" in caplog.text
        journal.append(batch(0))
        with FileJournal.open(tmp_path, HEADER) as other:
            other.append(batch(1))
        with pytest.raises(JournalError, match="only one driver"):
            journal.append(batch(2))
    assert replayed(tmp_path) == [batch(0), batch(1)]


def test_an_unreadable_lock_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(JournalError, match="cannot be used: Input/output error"):
        FileJournal.open(tmp_path, HEADER)


def test_whatever_a_killed_driver_was_told_is_there(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from dhpo.events import TrialReported
        from dhpo.journal import FileJournal, Header
        journal = FileJournal.open(sys.argv[1], Header("s1", 0.0, {"seed": 1}))
        for number in range(10**9):
            journal.append([TrialReported(float(number), number, 1, i, i, {"score": i / 3}) for i in range(1, 4)])
            print(number, flush=True)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == b"200\n":
                process.send_signal(signal.SIGKILL)
                break
        acknowledged = max([200, *map(int, process.stdout.read().split(b"\n")[:-1])])
    with FileJournal.open(tmp_path, HEADER) as journal:
        found = list(journal.replay())
    assert found[: acknowledged + 1] == [batch(i) for i in range(acknowledged + 1)]
    assert len(found) in (acknowledged + 1, acknowledged + 2)
