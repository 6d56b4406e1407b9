"""Watches over one trial process: when that ends, or the worker does, everything that the trial has started ends too.

It is run as a script by :mod:`dhpo.worker._process`, between the worker and the trial process, and imports nothing of
dhpo: it has to be small and quick. The worker cannot do its work: after ``kill -9`` of the worker somebody must still
be there to end the trial. Nor can the trial process: a run function that holds the interpreter's lock lets no thread
run.

    python -I -S _warden.py CONTROL FD[,FD...] COMMAND...

CONTROL is a socket to the worker. The worker writes "c" to have the trial process end within :data:`PATIENCE` seconds,
"t" to send SIGTERM to its process group, "k" to have it killed at once. When everything has ended the warden answers by
:data:`ANSWER`. The end of the file means that the worker is dead. The other descriptors are the trial process's.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct
import sys
import time
from contextlib import suppress

ANSWER = struct.Struct("<iq")
"""The trial process's wait status, and the most memory that it took, in kB."""

PATIENCE = 2.0
"""Seconds in which a process that has nothing to do may end by itself."""

DEAF = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
"""What batch systems and terminals send to all processes of a job. The worker decides what is to be done."""

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
_GLANCE = 1000  # ms between looks at the parent: a copy of CONTROL in a fork of the worker would hide its end
_GIVE_UP = 10.0  # seconds after which what does not die of SIGKILL (it waits for a dead file server) is left alone


def main(control: int, handed_on: list[int], command: list[str]) -> None:
    """Start the command and watch over it until it has ended."""
    worker = os.getppid()
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what outlives its parent below comes to this process
    for number in DEAF:
        signal.signal(number, _ignore)  # a handler, not SIG_IGN: the command would inherit that
    ended, bell = os.pipe()
    os.set_blocking(bell, False)
    signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _ignore)
    child = _start(command, handed_on, libc)
    status, peak = _watch(child, control, ended, worker)
    with suppress(OSError):  # the worker is dead
        os.write(control, ANSWER.pack(status, peak))


def _ignore(*_: object) -> None:
    """Nothing is to be done: the signal has already woken whoever waits."""


def _start(command: list[str], handed_on: list[int], libc: ctypes.CDLL) -> int:
    warden = os.getpid()
    child = os.fork()
    if child:
        for descriptor in handed_on:
            os.close(descriptor)
        return child
    try:
        signal.set_wakeup_fd(-1)
        os.setpgid(0, 0)
        libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == warden:
            for descriptor in handed_on:
                os.set_inheritable(descriptor, True)
            os.execv(command[0], command)
    finally:
        os._exit(127)


def _watch(child: int, control: int, ended: int, worker: int) -> tuple[int, int]:
    """Wait until the child has ended or is to end, then end all; its status and its peak of memory in kB."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(ended, select.POLLIN)
    deadline = None
    reaped: dict[int, tuple[int, int]] = {}
    while child not in reaped:
        wait = _GLANCE if deadline is None else max(0, min(_GLANCE, int(1000 * (deadline - time.monotonic())) + 1))
        ready = [descriptor for descriptor, _ in poll.poll(wait)]
        if ended in ready:
            os.read(ended, 4096)
        _reap(reaped)
        if os.getppid() != worker or (deadline is not None and time.monotonic() >= deadline):
            break
        if control in ready:
            match _read(control):
                case b"c":
                    deadline = time.monotonic() + PATIENCE
                case b"t":
                    with suppress(OSError):
                        os.kill(-child, signal.SIGTERM)
                case _:
                    break
    return _end_all(child, reaped)


def _read(control: int) -> bytes:
    try:
        return os.read(control, 1)
    except OSError:
        return b""


def _reap(reaped: dict[int, tuple[int, int]]) -> bool:
    """Take in what has ended; whether there is anything left."""
    try:
        while True:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                return True
            reaped[pid] = status, usage.ru_maxrss
    except ChildProcessError:
        return False


def _end_all(child: int, reaped: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Kill all that descends from this process, generation by generation: orphans become its own children."""
    if child not in reaped:
        _kill(-child)
    end, pause = time.monotonic() + _GIVE_UP, 0.0005
    while _reap(reaped) and time.monotonic() < end:
        for pid in _children():
            _kill(pid)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return reaped.get(child, (signal.SIGKILL, 0))


def _kill(pid: int) -> None:
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    """This process's children; none of their numbers can have passed to another process, since none was waited for."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without that file
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent_of(pid) == me]


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


if __name__ == "__main__":
    main(int(sys.argv[1]), [int(part) for part in sys.argv[2].split(",")], sys.argv[3:])
