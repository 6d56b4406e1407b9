"""A process for trials, from the outside: started, talked to, ended, and its death explained."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from dhpo.errors import ClusterError
from dhpo.worker import _warden

#: The first thing that a trial process does is to look for modules where this process does.
_BOOT = "import sys; sys.path[:] = sys.argv[3:]; from dhpo.worker._child import main; main(*map(int, sys.argv[1:3]))"

_MAX_DUMP = 20_000


class Death(NamedTuple):
    """How a trial process ended, as told once it and all that it had started are gone."""

    status: int | None  # as from ``os.wait``; None where not even its warden could tell
    peak: int  # kB of memory
    dump: str  # the Python stack at a fatal signal, as far as one could be written

    @property
    def signal(self) -> int | None:
        """The signal that ended it, if one did."""
        if self.status is None:
            return signal.SIGKILL
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    def __str__(self) -> str:
        number = self.signal
        if number is None:
            code = os.waitstatus_to_exitcode(self.status or 0)
            return (
                f"exit_code_{code}: the trial's process ended itself before the run function had returned "
                "(by os._exit, or a library that ends the process)"
            )
        if number == signal.SIGKILL:
            peak = f"; it took up to {self.peak / 2**20:.2f} GiB" if self.peak else ""
            return f"SIGKILL: the trial's process was killed, not by dhpo: probably out of memory{peak}"
        known = signal.strsignal(number) or "unknown"
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal_{number}"
        return f"{name}: the trial's process was killed by this signal ({known})"


class TrialProcess:
    """A trial process of this process, under its warden.

    Args:
        environment: what its environment has that this process's has not, or otherwise.

    Raises:
        ClusterError: it cannot be started.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        self._control, control = socket.socketpair()
        self._dump = os.memfd_create("dhpo-dump")
        handed_on = (theirs.fileno(), self._dump)
        try:
            self._warden = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(Path(_warden.__file__)), str(control.fileno())),
                    ",".join(map(str, handed_on)),
                    *(sys.executable, "-c", _BOOT, *map(str, handed_on), *sys.path),
                ],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment},
                pass_fds=(control.fileno(), *handed_on),
                start_new_session=True,  # out of reach of what a terminal sends to the processes in its foreground
            )
        except OSError as error:
            self._close(ours)
            raise ClusterError(f"no process for a trial can be started on {os.uname().nodename}: {error}") from error
        finally:
            theirs.close()
            control.close()
        self._connection = Connection(ours.detach())
        self._open = True  # whether anything can still be read from it
        self.is_ready = False  # it has loaded the run function
        self.was_killed = False  # by us

    def send(self, *message: Any) -> None:
        """Send a message. One to a dead process is lost; :meth:`receive` tells of the death."""
        with suppress(OSError):
            self._connection.send(message)

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        with suppress(OSError):
            self._connection.send_bytes(data)

    def receive(self, timeout: float | None) -> tuple[Any, ...] | Death | None:
        """The next message, or the death after the last one; None at the timeout (seconds)."""
        sources: list[Any] = [self._connection, self._control] if self._open else [self._control]
        ready = wait(sources, timeout)
        if self._connection in ready:
            try:
                message: tuple[Any, ...] = self._connection.recv()
                return message
            except (EOFError, OSError):
                self._open = False
                return None
            except Exception as error:  # the run function wrote to where only messages belong
                return ("unreadable", f"{type(error).__name__}: {error}")
        return self._death() if self._control in ready else None

    def _death(self) -> Death:
        answer = b""
        with suppress(OSError):
            answer = self._control.recv(_warden.ANSWER.size, socket.MSG_WAITALL)
        status, peak = _warden.ANSWER.unpack(answer) if len(answer) == _warden.ANSWER.size else (None, 0)
        dump = os.pread(self._dump, _MAX_DUMP, 0).decode("utf-8", "replace")
        return Death(status, peak, dump)

    def kill(self) -> None:
        """Have it killed, and all that it has started. Messages that it had sent can still be received."""
        self.was_killed = True
        self._tell(b"k")

    def end(self) -> None:
        """Let it end by itself, for which it has two seconds: it has nothing to do."""
        self._tell(b"c")
        self._connection.close()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it is gone, and release all that it took."""
        with suppress(subprocess.TimeoutExpired):
            self._warden.wait(timeout)
        self._close(self._control)
        self._connection.close()

    def _tell(self, letter: bytes) -> None:
        with suppress(OSError):
            self._control.send(letter)

    def _close(self, other: socket.socket) -> None:
        other.close()
        self._control.close()
        if self._dump >= 0:
            os.close(self._dump)
            self._dump = -1
